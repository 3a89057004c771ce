"""A search over a file of passages, so that the example runs. Yours asks OpenSearch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Chunk = dict[str, Any]


class Index:
    """Passages in JSON lines: `chunk_id`, `title`, `text`, `vector` (of length one), `tenant` where they have one.

    `generation` is the name of the physical index, here that of the file: behind an alias it says what was searched.
    A search is always somebody's: a tenant's shopper finds what is that tenant's or nobody's, others nobody's alone.
    """

    def __init__(self, path: Path) -> None:
        self.generation = path.stem
        self._chunks: list[Chunk] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self._words = [_words(f"{chunk['title']} {chunk['text']}") for chunk in self._chunks]

    def near(self, vector: list[float], limit: int, *, tenant: str | None) -> list[Chunk]:
        """Return the passages whose vectors are nearest."""
        scores = [sum(a * b for a, b in zip(vector, chunk["vector"], strict=True)) for chunk in self._chunks]
        return self._best(scores, limit, tenant)

    def worded(self, text: str, limit: int, *, tenant: str | None) -> list[Chunk]:
        """Return the passages that share most words with a text."""
        return self._best([len(_words(text) & words) for words in self._words], limit, tenant)

    def _best(self, scores: list[float] | list[int], limit: int, tenant: str | None) -> list[Chunk]:
        theirs = [row for row, chunk in enumerate(self._chunks) if chunk.get("tenant") in (None, tenant)]
        order = sorted(theirs, key=lambda row: -scores[row])
        return [self._chunks[row] for row in order if scores[row] > 0][:limit]


def fused(*rankings: list[Chunk]) -> list[Chunk]:
    """Join rankings by reciprocal rank, best first."""
    chunks = {chunk["chunk_id"]: chunk for ranking in rankings for chunk in ranking}
    scores = dict.fromkeys(chunks, 0.0)
    for ranking in rankings:
        for rank, chunk in enumerate(ranking, start=1):
            scores[chunk["chunk_id"]] += 1 / (60 + rank)
    return sorted(chunks.values(), key=lambda chunk: -scores[chunk["chunk_id"]])


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
