"""Documents to chunks: by headings and paragraphs up to a budget, a record always one chunk; and their Parquet form."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import polars as pl

from mangaassist_assets.retrieval.documents.documents import KnowledgeDocument
from mangaassist_assets.retrieval.documents.text import count_units
from mangaassist_assets.retrieval.types import Chunk

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*)")
_FENCE = re.compile(r"^[ \t]*(```|~~~)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_BLANK_LINES = re.compile(r"\n{2,}")
_PATH_SEPARATOR = " > "
_MAX_TITLE = 300

CHUNK_SCHEMA = pl.Schema(
    {
        "chunk_id": pl.String(),
        "document_id": pl.String(),
        "position": pl.Int32(),
        "title": pl.String(),
        "text": pl.String(),
        "content_hash": pl.String(),
        "metadata": pl.List(pl.Struct({"key": pl.String(), "value": pl.String()})),
        "tenant": pl.String(),
        "context": pl.String(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkingSettings:
    """How documents are cut.

    `max_units` is the budget of one chunk in words, a CJK character or a twelfth of a very long word counting as one:
    120 words are about 160 tokens, which leaves room for the title in the 256 of MiniLM. A last piece of a section
    below `min_units` joins the one before it.
    """

    max_units: int = 120
    min_units: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.min_units < self.max_units:
            raise ValueError(
                f"chunking needs 0 <= min_units < max_units, got min_units={self.min_units}, max_units={self.max_units}"
            )


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    paragraphs: tuple[str, ...]


def embedding_text(title: str, text: str, context: str = "") -> str:
    """Return what is embedded of a chunk: its title, its text, its context; a reranker reads the first two."""
    return f"{title}\n{text}\n{context}" if context else f"{title}\n{text}"


def chunk_documents(documents: Sequence[KnowledgeDocument], settings: ChunkingSettings | None = None) -> list[Chunk]:
    """Cut documents into chunks, in the order of the documents; the same documents always give the same chunks.

    A chunk never crosses a heading. Its title is the document's title and the headings above it, joined by ` > `.
    A document of headings alone gives one chunk of them.

    Raises:
        ValueError: If two documents have the same id.
    """
    settings = settings or ChunkingSettings()
    chunks: list[Chunk] = []
    seen: set[str] = set()
    for document in documents:
        if document.document_id in seen:
            raise ValueError(f"two documents have the id {document.document_id!r}: ids must be unique")
        seen.add(document.document_id)
        for position, (title, text) in enumerate(_passages(document, settings)):
            chunks.append(_chunk(document, position, title, text))
    return chunks


def chunks_to_parquet(chunks: Sequence[Chunk]) -> bytes:
    """Return chunks as Parquet by `CHUNK_SCHEMA`, one row a chunk; equal chunks in any order give equal bytes."""
    rows = [
        {
            **{field.name: getattr(chunk, field.name) for field in fields(Chunk)},
            "metadata": [{"key": key, "value": value} for key, value in sorted(chunk.metadata.items())],
        }
        for chunk in chunks
    ]
    buffer = io.BytesIO()
    frame = pl.DataFrame(rows, schema=CHUNK_SCHEMA).sort("document_id", "position")
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def parquet_to_chunks(content: bytes) -> list[Chunk]:
    """Return the chunks of `chunks_to_parquet`, by document and position.

    Raises:
        ValueError: If the schema is not `CHUNK_SCHEMA`.
    """
    frame = pl.read_parquet(io.BytesIO(content))
    if frame.schema != CHUNK_SCHEMA:
        raise ValueError(
            f"not a table of chunks: its schema is {dict(frame.schema)}, expected {dict(CHUNK_SCHEMA)}: materialize "
            "knowledge_chunks again"
        )
    return [
        Chunk(**{**row, "metadata": {item["key"]: item["value"] for item in row["metadata"]}})
        for row in frame.iter_rows(named=True)
    ]


def _chunk(document: KnowledgeDocument, position: int, title: str, text: str) -> Chunk:
    context = "\n".join(f"{key}: {document.metadata[key]}" for key in document.embedded_metadata)
    return Chunk(
        chunk_id=f"{document.document_id}::{position}",
        document_id=document.document_id,
        position=position,
        title=title,
        text=text,
        content_hash=hashlib.sha256(embedding_text(title, text, context).encode()).hexdigest(),
        metadata=dict(sorted(document.metadata.items())),
        tenant=document.tenant,
        context=context,
    )


def _passages(document: KnowledgeDocument, settings: ChunkingSettings) -> Iterator[tuple[str, str]]:
    """Yield the title and text of each chunk of a document."""
    if document.kind == "record":
        yield document.title, document.text
        return
    found = False
    for section in _sections(document):
        for text in _pack(section.paragraphs, settings):
            found = True
            yield section.title, text
    if not found:
        yield document.title, document.text


def _sections(document: KnowledgeDocument) -> Iterator[_Section]:
    """Yield the parts of a document between its headings; those without text of their own are left out."""
    if document.kind == "content":
        yield from _section(document.title, [], document.text.split("\n"))
        return
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    in_fence = False
    for line in document.text.split("\n"):
        if _FENCE.match(line):
            in_fence = not in_fence
        heading = None if in_fence else _HEADING.match(line)
        if heading is None or not (name := heading.group(2).rstrip(" \t#")):
            lines.append(line.rstrip())
            continue
        yield from _section(document.title, path, lines)
        lines = []
        level = len(heading.group(1))
        path = [*(above for above in path if above[0] < level), (level, name)]
    yield from _section(document.title, path, lines)


def _section(title: str, path: Sequence[tuple[int, str]], lines: Sequence[str]) -> Iterator[_Section]:
    paragraphs = tuple(text for part in _BLANK_LINES.split("\n".join(lines)) if (text := part.strip()))
    if paragraphs:
        headings = [heading for _, heading in path if heading.casefold() != title.casefold()]
        yield _Section(_PATH_SEPARATOR.join([title, *headings])[:_MAX_TITLE], paragraphs)


def _pack(paragraphs: Sequence[str], settings: ChunkingSettings) -> list[str]:
    """Join the paragraphs of a section into as few texts within the budget as their order allows."""
    texts: list[tuple[str, int]] = []
    for paragraph in paragraphs:
        for separator, piece, units in _pieces(paragraph, settings.max_units):
            if texts and texts[-1][1] + units <= settings.max_units:
                texts[-1] = (texts[-1][0] + separator + piece, texts[-1][1] + units)
            else:
                texts.append((piece, units))
    if len(texts) > 1 and texts[-1][1] < settings.min_units:
        (tail, units), (before, units_before) = texts.pop(), texts[-1]
        texts[-1] = (f"{before}\n{tail}", units_before + units)
    return [text for text, _ in texts]


def _pieces(paragraph: str, budget: int) -> Iterator[tuple[str, str, int]]:
    """Yield (separator before it, text, units) of a paragraph: whole if it fits, else its sentences, else its words."""
    units = count_units(paragraph)
    if units <= budget:
        yield "\n\n", paragraph, units
        return
    separator = "\n\n"
    for sentence in filter(None, _SENTENCE_END.split(paragraph)):
        units = count_units(sentence)
        for piece in [sentence] if units <= budget else _cut(sentence, budget):
            yield separator, piece, min(units, count_units(piece))
            separator = " "


def _cut(sentence: str, budget: int) -> Iterator[str]:
    """Yield pieces of at most `budget` units of a sentence that has more, between words where there are any."""
    words: list[str] = []
    room = budget
    for word in sentence.split():
        # A word of more than the budget: Japanese without a full stop, or a blob that is no language at all.
        for part in (
            [word] if count_units(word) <= budget else [word[i : i + budget] for i in range(0, len(word), budget)]
        ):
            units = count_units(part)
            if words and units > room:
                yield " ".join(words)
                words, room = [], budget
            words.append(part)
            room -= units
    if words:
        yield " ".join(words)
