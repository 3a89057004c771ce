"""Index generations: built from chunks and vectors, named by their content, verified before they go live, pruned.

The same content makes the same name, so building again what is there does nothing, and a generation half built by
a run that was killed is known by its missing seal and built anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.errors import SearchIndexError
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.tenants import TenantScope, tenant_key
from mangaassist_assets.retrieval.types import Chunk, Hit, Vectors

_DIGEST_LENGTH = 16
# Equal vectors may differ in the last digits of their scores.
_SAME_SCORE = 1e-5
_KEYWORD_CHARACTERS = 300
_ABANDONED_AFTER_MS = 6 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How a generation is made: the embedding model of its vectors, and how many chunks are added at a time."""

    embedding_model_id: str
    batch_size: int = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """A finished generation; `built` is False where it was there already."""

    generation: str
    chunks: int
    built: bool


@dataclass(frozen=True, slots=True)
class VerificationCheck:
    """One claim about a generation, whether it holds, and the figures."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What was checked of a generation, in order; later checks are missing where an earlier one makes them useless."""

    generation: str
    checks: tuple[VerificationCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """The failed checks, each as `name: figures`."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if not check.passed)


def generation_name(
    chunks: Sequence[Chunk], *, dimension: int, settings: GenerationSettings, index_settings: Mapping[str, str]
) -> str:
    """Return the name of the generation of some content, such as `kb-3f9a61c27d5e8b04`.

    It depends on the chunks (ids, contents, tenants) in any order, the embedding model and dimension, and the index's
    settings; on nothing else.
    """
    content = {
        "schema": 1,
        "chunks": sorted([chunk.chunk_id, chunk.content_hash, tenant_key(chunk.tenant)] for chunk in chunks),
        "embedding_model_id": settings.embedding_model_id,
        "dimension": dimension,
        "index": dict(index_settings),
    }
    return f"kb-{hashlib.sha256(canonical_json(content)).hexdigest()[:_DIGEST_LENGTH]}"


def build_generation(
    chunks: Sequence[Chunk],
    vectors: Vectors,
    index: SearchIndex,
    *,
    settings: GenerationSettings,
) -> GenerationReport:
    """Build the generation of some chunks, unless a finished one is there.

    Chunks are at least one, with different ids; vectors are float32 of shape (len(chunks), dimension), row i for
    chunks[i]. The alias is not touched.

    Raises:
        ValueError: If the chunks or the vectors are not as said.
        SearchIndexError: If the index holds another number of chunks in the end: somebody else built the same
            generation at the same time, or the index lost some. It is left unfinished; build it again.
    """
    if not chunks:
        raise ValueError("there are no chunks to build an index generation of")
    if vectors.ndim != 2 or len(vectors) != len(chunks):
        raise ValueError(f"{len(chunks)} chunks need as many vectors, got an array of shape {vectors.shape}")
    if len({chunk.chunk_id for chunk in chunks}) != len(chunks):
        raise ValueError("the chunks' ids are not unique: two chunks have the same one")
    dimension = int(vectors.shape[1])
    name = generation_name(chunks, dimension=dimension, settings=settings, index_settings=index.settings)
    state = index.state(name)
    built = state is None or not state.sealed
    if not built and (count := index.count(name)) != len(chunks):
        raise SearchIndexError(
            f"the finished generation {name} holds {count} chunks instead of {len(chunks)}: something changed it. "
            "Delete it (swap to another one first if it is live) and build again"
        )
    if built:
        index.create_generation(name, dimension=dimension)
        for start in range(0, len(chunks), settings.batch_size):
            end = start + settings.batch_size
            index.add(name, chunks[start:end], vectors[start:end])
        if (count := index.count(name)) != len(chunks):
            raise SearchIndexError(
                f"the generation {name} holds {count} chunks instead of {len(chunks)}: was it built twice at once? "
                "It is left unfinished, build it again"
            )
        index.seal(name)
    return GenerationReport(generation=name, chunks=len(chunks), built=built)


def verify_generation(
    generation: str,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    *,
    index: SearchIndex,
    sample: int = 50,
    minimum_self_found: float = 0.98,
    minimum_keyword_found: float = 0.8,
) -> VerificationReport:
    """Check a generation against what it was built from, before the alias moves to it.

    Args:
        generation: Its name.
        chunks: What it was built from.
        vectors: Those of the chunks, as for `build_generation`.
        index: Where it is.
        sample: How many chunks are searched for, spread over all contents by their hashes: the same every time.
        minimum_self_found: Share of them that a search by their own vector must find first (an approximate index may
            miss one in a while; a chunk of equal content, or as near as makes no difference, counts).
        minimum_keyword_found: Share of them that a search for their own first words must find among the first ten;
            chunks that begin alike may push each other out.

    Returns:
        The checks, each with its figures; never raises because one fails.
    """
    state = index.state(generation)
    sealed = state is not None and state.sealed
    checks = [VerificationCheck("finished", sealed, "it is sealed" if sealed else "it was never finished, or is gone")]
    if state is None or not sealed:
        return VerificationReport(generation, tuple(checks))
    count, dimension = index.count(generation), int(vectors.shape[1])
    checks.append(VerificationCheck("count", count == len(chunks), f"{count} chunks, expected {len(chunks)}"))
    same = state.dimension == dimension
    checks.append(VerificationCheck("dimension", same, f"{state.dimension}, the vectors have {dimension}"))
    if not same:
        return VerificationReport(generation, tuple(checks))
    rows = sorted(range(len(chunks)), key=lambda row: (chunks[row].content_hash, chunks[row].chunk_id))[:sample]
    by_id = {chunk.chunk_id: chunk.content_hash for chunk in chunks}

    def by_vector(row: int, scope: TenantScope) -> list[Hit]:
        return index.vector_search(generation, vectors[row], scope=scope, limit=10)

    def by_keyword(row: int, scope: TenantScope) -> list[Hit]:
        words = embedding_text(chunks[row].title, chunks[row].text)[:_KEYWORD_CHARACTERS]
        return index.keyword_search(generation, words, scope=scope, limit=10)

    def nearest(row: int, scope: TenantScope) -> list[Hit]:
        hits = by_vector(row, scope)
        return [hit for hit in hits if hit.score >= hits[0].score - _SAME_SCORE]

    for name, search, minimum in (
        ("vector_search", nearest, minimum_self_found),
        ("keyword_search", by_keyword, minimum_keyword_found),
    ):
        missed = [
            chunks[row].chunk_id
            for row in rows
            if chunks[row].content_hash
            not in {by_id.get(hit.chunk_id) for hit in search(row, TenantScope.of(chunks[row].tenant))}
        ]
        share = 1.0 - len(missed) / len(rows) if rows else 0.0
        detail = f"{share:.1%} of {len(rows)} chunks found themselves, {minimum:.0%} needed"
        detail += f"; not {', '.join(missed[:3])}" if missed else ""
        checks.append(VerificationCheck(name, share >= minimum, detail))
    shown = _shown_to_others(rows, chunks, lambda row, scope: [*by_vector(row, scope), *by_keyword(row, scope)])
    detail = f"{len(rows)} chunks searched for by others than their tenants"
    detail += f"; shown: {', '.join(shown[:3])}" if shown else ""
    checks.append(VerificationCheck("tenants_apart", not shown, detail))
    return VerificationReport(generation, tuple(checks))


def _shown_to_others(
    rows: Sequence[int], chunks: Sequence[Chunk], search: Callable[[int, TenantScope], Sequence[Hit]]
) -> list[str]:
    """Return the ids of chunks that a search for those of some rows finds, but must not: they are another tenant's."""
    tenant_of = {chunk.chunk_id: chunk.tenant for chunk in chunks}
    tenants = sorted({tenant for tenant in tenant_of.values() if tenant is not None})
    shown: set[str] = set()
    for number, row in enumerate(rows if tenants else ()):
        # Nobody's shopper, and each tenant's in turn.
        for scope in (TenantScope.of(None), TenantScope.of(tenants[number % len(tenants)])):
            found = (hit.chunk_id for hit in search(row, scope))
            shown.update(one for one in found if not scope.admits(tenant_of.get(one)))
    return sorted(shown)


def prune_generations(
    index: SearchIndex, *, keep: int, protect: Collection[str] = (), now_ms: int | None = None
) -> list[str]:
    """Delete old generations and return their names; see `old_generations` for which."""
    doomed = old_generations(index, keep=keep, protect=protect, now_ms=now_ms)
    for name in doomed:
        index.delete_generation(name)
    return doomed


def old_generations(
    index: SearchIndex, *, keep: int, protect: Collection[str] = (), now_ms: int | None = None
) -> list[str]:
    """Return the generations that nobody needs any more.

    Needed are the live one, those of `protect`, and the `keep` newest finished ones, the live one counted if it is
    among them. Unfinished ones go when they are six hours old: a younger one may be in the making. `now_ms` is the
    present in milliseconds since the epoch (UTC); by default the clock's.
    """
    if keep < 0:
        raise ValueError(f"keep must not be negative, got {keep}")
    now = int(time.time() * 1000) if now_ms is None else now_ms
    states = [state for name in index.generations() if (state := index.state(name)) is not None]
    finished = [state.generation for state in states if state.sealed]
    spared = {index.live_generation(), *protect, *finished[len(finished) - keep :]}
    abandoned = [s.generation for s in states if not s.sealed and now - s.created_at > _ABANDONED_AFTER_MS]
    return [name for name in [*finished, *abandoned] if name not in spared]
