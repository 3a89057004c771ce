"""Going live: the alias moves to a generation whose verification names it, and nowhere else.

A verification is of one index (by its digest) beside one live generation. The alias is swapped only where both are
still what was verified: neither the newest index nor an index that somebody verified once goes live by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.retrieval.errors import SearchIndexError
from mangaassist_assets.retrieval.evaluation import CandidateEvaluation
from mangaassist_assets.retrieval.generations import VerificationReport, prune_generations
from mangaassist_assets.retrieval.search_index import SearchIndex

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.retrieval.stored_knowledge import Candidate

EVALUATION_ASSET = "retrieval_evaluation"
VERIFICATION_FILE = "verification.json"
# How much less of each a candidate may have: what it finds at all, and how far up that stands.
TOLERANCES: Mapping[str, float] = MappingProxyType({"recall@10": 0.02, "ndcg@10": 0.05})
GONE_TOLERANCE = 0.2
"""The share of labelled queries that may lose all their documents: more looks like knowledge that was not read."""


class NotVerifiedError(OperatorError):
    """A generation may not go live; says why, and what to materialize."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found of one candidate.

    Attributes:
        generation: Its name.
        index_digest: The digest of the snapshot of `search_index` that names it.
        compared_with: The generation that was live then; None before the first one.
        defects: What is wrong with it by itself.
        worse: How it falls behind the live one; None where it does not, or nothing could be compared.
        comparison: What was compared, in a sentence.
    """

    generation: str
    index_digest: str
    compared_with: str | None
    defects: tuple[str, ...]
    worse: str | None
    comparison: str

    def files(self) -> dict[str, bytes]:
        """Return the verification as it is stored."""
        return {VERIFICATION_FILE: canonical_json(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSwap:
    """What going live did: the generation that was live before, whether the alias moved, and what was deleted.

    `held` says why a sound candidate did not go live: it finds less than what is live.
    """

    previous: str | None
    swapped: bool
    pruned: tuple[str, ...]
    held: str | None = None


def verification_of(candidate: Candidate, report: VerificationReport, evaluation: CandidateEvaluation) -> Verification:
    """Return what was found of a candidate: by itself, and beside the live generation on the same queries."""
    live = evaluation.live
    worse: list[str] = []
    if live is None:
        comparison = "no generation is live yet: nothing to compare with"
    elif not evaluation.queries:
        comparison = "no query has known relevant documents: nothing to compare with"
    elif live not in evaluation.means or candidate.generation not in evaluation.means:
        comparison = f"the live generation {live} or the candidate cannot be searched: nothing to compare with"
    else:
        ours, theirs = (evaluation.means[one]["fused"] for one in (candidate.generation, live))
        compared = {
            metric: f"{metric}: {candidate.generation} {ours[metric]:.3f}, live {live} {theirs[metric]:.3f}; "
            f"{tolerance} less is allowed"
            for metric, tolerance in TOLERANCES.items()
        }
        comparison = "; ".join(compared.values())
        worse += [said for metric, said in compared.items() if ours[metric] < theirs[metric] - TOLERANCES[metric]]
    labelled = evaluation.queries + evaluation.queries_gone
    if live is not None and evaluation.queries_gone > GONE_TOLERANCE * labelled:
        worse.append(
            f"{evaluation.queries_gone} of {labelled} labelled queries have lost all their documents, such as "
            f"{evaluation.gone_documents[0]}; {GONE_TOLERANCE:.0%} are allowed"
        )
    return Verification(
        generation=candidate.generation,
        index_digest=candidate.digest,
        compared_with=live,
        defects=report.problems,
        worse="; ".join(worse) or None,
        comparison=comparison,
    )


def read_verification(store: SnapshotStore) -> Verification | None:
    """Return the newest verification; None where nothing was verified yet."""
    snapshot = store.find(EVALUATION_ASSET)
    if snapshot is None or VERIFICATION_FILE not in snapshot.files:
        return None
    return from_json(Verification, store.read(snapshot, VERIFICATION_FILE))


def require_verified(candidate: Candidate, verification: Verification | None) -> Verification:
    """Return the verification of a candidate that may go live.

    Raises:
        NotVerifiedError: There is none, it is of another generation or index, or the candidate is defective.
    """
    again = f"materialize {EVALUATION_ASSET}, then live_index again"
    if verification is None:
        raise NotVerifiedError(f"{candidate.generation} was never verified: {again}")
    if (verification.generation, verification.index_digest) != (candidate.generation, candidate.digest):
        raise NotVerifiedError(
            f"what was verified is {verification.generation} (index {verification.index_digest[:12]}), not "
            f"{candidate.generation} (index {candidate.digest[:12]}): {again}"
        )
    if verification.defects:
        raise NotVerifiedError(f"{candidate.generation} did not pass: {'; '.join(verification.defects)}")
    return verification


def go_live(
    index: SearchIndex,
    candidate: Candidate,
    verification: Verification | None,
    *,
    keep: int,
    logger: logging.Logger,
    accept_worse: bool = False,
) -> LiveSwap:
    """Point the alias at a candidate that was verified and, if it moved, prune old generations.

    The generation that was live before is never pruned: it is what a rollback goes to, and turns that began before the
    swap still search it. A generation that cannot be deleted is a warning, as the alias has moved by then. What is live
    already stays so, whatever was verified since. That a candidate finds less than the live one is a verdict and no
    error: the alias stays, unless `accept_worse`.

    Raises:
        NotVerifiedError: It was not verified, or beside another generation than is live now.
        AliasMovedError: Somebody else moved the alias in the meantime.
    """
    previous = index.live_generation()
    if previous == candidate.generation:
        return LiveSwap(previous=previous, swapped=False, pruned=())
    verified = require_verified(candidate, verification)
    if verified.compared_with != previous:
        raise NotVerifiedError(
            f"{candidate.generation} was compared with {verified.compared_with or 'nothing live'}, but "
            f"{previous or 'nothing'} is live now: materialize {EVALUATION_ASSET}, then live_index again"
        )
    if verified.worse is not None and not accept_worse:
        held = f"{candidate.generation} is worse than what is live, which stays: {verified.worse}"
        return LiveSwap(previous=previous, swapped=False, pruned=(), held=held)
    index.swap_live(candidate.generation, expected=previous)
    try:
        pruned = prune_generations(index, keep=keep, protect=[] if previous is None else [previous])
    except SearchIndexError as error:
        logger.warning("old index generations could not be deleted, the next swap tries again: %s", error)
        pruned = []
    return LiveSwap(previous=previous, swapped=True, pruned=tuple(pruned))
