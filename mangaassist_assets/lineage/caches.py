"""What this machine keeps to save work, as an erasure sees it: vectors of messages, and trainings that are not done."""

from __future__ import annotations

import shutil
from pathlib import Path

from mangaassist_assets.mining.clustering.message_vectors import text_hash
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
from mangaassist_assets.tracing.person_marks import PersonMarks


class MessageVectors:
    """The vectors of what a person said, found by the hashes of the texts."""

    name = "message vectors"

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache

    def erase(self, marks: PersonMarks) -> int:
        """Remove the vectors; returns how many there were."""
        return self._cache.forget([text_hash(text) for text in marks.texts])

    def holds(self, marks: PersonMarks) -> bool:
        """Return whether there is a vector of one of the texts."""
        return self._cache.holds([text_hash(text) for text in marks.texts])


class TrainingScratch:
    """Checkpoints and artifacts of trainings that are not registered: weights say of nobody whom they learned from.

    So all of it goes. A training that is killed or runs now begins anew, with a dataset version without the person.
    """

    name = "training scratch"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def erase(self, marks: PersonMarks) -> int:
        """Remove every training's folder; returns how many there were."""
        del marks
        found = list(self._folder.iterdir()) if self._folder.exists() else []
        for one in found:
            if one.is_dir():
                shutil.rmtree(one)
            else:
                one.unlink(missing_ok=True)
        return len(found)

    def holds(self, marks: PersonMarks) -> bool:
        """Return whether a training's folder is there."""
        del marks
        return self._folder.exists() and any(self._folder.iterdir())
