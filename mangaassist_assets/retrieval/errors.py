"""What can go wrong with the knowledge base, each error with what to do about it in its message."""

from __future__ import annotations

from mangaassist_assets.core.errors import OperatorError


class KnowledgeError(OperatorError, RuntimeError):
    """Base of this package's errors; search indexes and embedders turn those of their engines into one of them."""


class KnowledgeFolderError(KnowledgeError):
    """The knowledge folder is missing, is a file, or cannot be listed."""


class EmptyKnowledgeError(KnowledgeError):
    """The knowledge folder holds no readable document."""


class SidecarError(ValueError):
    """The metadata beside a document cannot be used; the message says why."""


class EmbeddingError(KnowledgeError):
    """An embedder answered with vectors that cannot be used: wrong shape, not finite, not of length one."""


class EmbeddingCacheError(KnowledgeError):
    """The embedding cache cannot be written or read."""


class SearchIndexError(KnowledgeError):
    """The search index refused or garbled an operation."""


class UnknownGenerationError(SearchIndexError):
    """There is no index generation of that name."""


class UnsealedGenerationError(SearchIndexError):
    """The index generation was never finished, so it must not go live."""


class TenantlessGenerationError(SearchIndexError):
    """The index generation was built by an earlier version and can tell no tenant from another."""

    def __init__(self, generation: str) -> None:
        super().__init__(
            f"the generation {generation} was built by a version that knew no tenants, so it would show one tenant's "
            "documents to another: refresh the index (materialize knowledge_chunks and all that follows it, or run "
            "the job index_refresh)"
        )


class SealedGenerationError(SearchIndexError):
    """A finished index generation must not change."""


class LiveGenerationError(SearchIndexError):
    """The generation is live and must stay as it is."""


class AliasMovedError(SearchIndexError):
    """Somebody else moved the alias since it was read; nothing was changed."""

    def __init__(self, *, expected: str | None, actual: str | None) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"the live generation is {actual or 'none'}, not {expected or 'none'} as this swap expected: somebody "
            "else moved the alias. Nothing was changed; read the live generation again before you decide"
        )


class GenerationBuildError(KnowledgeError):
    """An index generation came out different from what was put in."""
