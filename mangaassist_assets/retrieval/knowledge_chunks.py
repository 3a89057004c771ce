"""The knowledge of the store in chunks: read from its folder, cut, and compared with what was read before."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mangaassist_assets.core.figures import Figures, count_rows
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.retrieval.chunking import chunk_documents, chunks_to_parquet
from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument, KnowledgeReading, read_knowledge
from mangaassist_assets.retrieval.stored_knowledge import CHUNKS_FILE, VOCABULARY_FILE
from mangaassist_assets.retrieval.tenants import opened_documents
from mangaassist_assets.retrieval.types import Chunk

REJECTS_FILE = "rejects.json"
_ROWS_SHOWN = 50
# As catalogues call their columns: works, their people and their makers. `romaji` and `japanese` are other spellings.
_FIELDS = re.compile(
    r"(?:(?:alt(?:ernative)?_?|other_?|original_?)?(?:title|name|series)s?|authors?|artists?|writers?|illustrators?|"
    r"mangaka|creators?|characters?|publishers?|imprint|romaji|japanese|kana|作者|著者|作画|原作|題名|シリーズ|出版社)",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"[;|,、\n]|\s/\s|\s&\s")
_LONGEST = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeChunks:
    """What a folder gave, its chunks, and the store's own words.

    `opened` are the documents that were a tenant's before and are everybody's now.
    """

    reading: KnowledgeReading
    chunks: Sequence[Chunk]
    vocabulary: Sequence[str]
    opened: Sequence[str]

    def files(self) -> dict[str, bytes]:
        """Return the files to store, by name."""
        return {
            CHUNKS_FILE: chunks_to_parquet(self.chunks),
            VOCABULARY_FILE: canonical_json(self.vocabulary),
            REJECTS_FILE: canonical_json(self.reading.rejects),
        }

    def figures(self) -> Figures:
        """Return counts, documents by tenant, and the first rejects."""
        tenants = Counter(one.tenant or "(none)" for one in self.reading.documents)
        return {
            "dagster/row_count": len(self.chunks),
            "documents": len(self.reading.documents),
            "documents_by_tenant": count_rows(dict(tenants.most_common()), what="tenant", number="documents"),
            "vocabulary": len(self.vocabulary),
            "rejects": [asdict(one) for one in self.reading.rejects[:_ROWS_SHOWN]],
        }


def chunk_knowledge(folder: Path, *, tenant_attribute: str, before: Sequence[Chunk] = ()) -> KnowledgeChunks:
    """Read a folder of documents and cut them.

    Args:
        folder: See `read_knowledge`.
        tenant_attribute: The attribute that names a document's tenant.
        before: The chunks of the reading before, whose tenants are compared with those of now.

    Raises:
        LostTenantsError: documents had tenants before, and none has one now.
    """
    reading = read_knowledge(folder, tenant_attribute=tenant_attribute)
    chunks = chunk_documents(reading.documents)
    opened = opened_documents(
        {chunk.document_id: chunk.tenant for chunk in before},
        {chunk.document_id: chunk.tenant for chunk in chunks},
        attribute=tenant_attribute,
    )
    return KnowledgeChunks(reading=reading, chunks=chunks, vocabulary=store_phrases(chunks), opened=opened)


def store_phrases(texts: Iterable[Chunk | KnowledgeDocument]) -> tuple[str, ...]:
    """Return the store's own words, which look like names but are nobody's: titles, authors, characters; sorted.

    They are the titles of documents and the values of fields that name works and their people.
    """
    phrases: set[str] = set()
    for text in texts:
        phrases.add(text.title.strip())
        for field, value in text.metadata.items():
            if _FIELDS.fullmatch(field.strip()):
                phrases.add(value.strip())
                phrases.update(part.strip() for part in _SEPARATORS.split(value))
    return tuple(sorted(phrase for phrase in phrases if 2 <= len(phrase) <= _LONGEST))
