"""Letting a generation go live as a verified one."""

from __future__ import annotations

import logging
from typing import Any

from mangaassist_assets.retrieval.going_live import LiveSwap, Verification, go_live
from mangaassist_assets.retrieval.search_index import SearchIndex
from mangaassist_assets.retrieval.stored_knowledge import Candidate


def candidate_of(generation: str, *, digest: str = "d" * 64) -> Candidate:
    """Return a candidate as `search_index` stores it."""
    return Candidate(generation=generation, model_id="hash-embedder", digest=digest)


def verification_that_passed(candidate: Candidate, *, live: str | None, **fields: Any) -> Verification:
    """Return what `retrieval_evaluation` stores of a candidate that may go live."""
    passed: dict[str, Any] = {"defects": (), "worse": None, "comparison": "as good", **fields}
    return Verification(generation=candidate.generation, index_digest=candidate.digest, compared_with=live, **passed)


def let_live(index: SearchIndex, generation: str, *, keep: int) -> LiveSwap:
    """Go live with a generation that was verified beside what is live now."""
    candidate = candidate_of(generation)
    verification = verification_that_passed(candidate, live=index.live_generation())
    return go_live(index, candidate, verification, keep=keep, logger=logging.getLogger("tests"))
