"""A search over a file of passages, so that the example runs. Yours asks OpenSearch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Chunk = dict[str, Any]


class Index:
    """Passages with `chunk_id`, `title`, `text` and `vector` (of length one), a JSON line each.

    `generation` is the name of the physical index, here that of the file: behind an alias it says what was searched.
    """

    def __init__(self, path: Path) -> None:
        self.generation = path.stem
        self._chunks: list[Chunk] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self._words = [_words(f"{chunk['title']} {chunk['text']}") for chunk in self._chunks]

    def near(self, vector: list[float], limit: int) -> list[Chunk]:
        """Return the passages whose vectors are nearest."""
        scores = [sum(a * b for a, b in zip(vector, chunk["vector"], strict=True)) for chunk in self._chunks]
        return self._best(scores, limit)

    def worded(self, text: str, limit: int) -> list[Chunk]:
        """Return the passages that share most words with a text."""
        return self._best([len(_words(text) & words) for words in self._words], limit)

    def _best(self, scores: list[float] | list[int], limit: int) -> list[Chunk]:
        order = sorted(range(len(scores)), key=lambda row: -scores[row])
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
