"""What can go wrong with the knowledge base, each error with what to do about it in its message."""

from __future__ import annotations

from mangaassist_assets.core.errors import OperatorError


class KnowledgeError(OperatorError, RuntimeError):
    """The knowledge cannot be read, embedded or indexed; base of this package's errors."""


class SidecarError(ValueError):
    """The metadata beside a document cannot be used; the message says why."""


class EmbeddingError(KnowledgeError):
    """Vectors that cannot be used (wrong shape, not finite, not of length one), or a cache of them that fails."""


class SearchIndexError(KnowledgeError):
    """The search index refused or garbled an operation, or what was asked of it must not be done."""


class AliasMovedError(SearchIndexError):
    """Somebody else moved the alias since it was read; nothing was changed."""

    def __init__(self, *, expected: str | None, actual: str | None) -> None:
        self.actual = actual
        super().__init__(
            f"the live generation is {actual or 'none'}, not {expected or 'none'} as this swap expected: somebody "
            "else moved the alias. Nothing was changed; read the live generation again before you decide"
        )
