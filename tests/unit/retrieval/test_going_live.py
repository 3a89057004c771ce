"""Only what was verified goes live: this generation, of this index, beside the one that is live."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from mangaassist_assets.retrieval.evaluation import CandidateEvaluation
from mangaassist_assets.retrieval.generations import (
    GenerationSettings,
    VerificationCheck,
    VerificationReport,
    build_generation,
)
from mangaassist_assets.retrieval.going_live import NotVerifiedError, go_live, verification_of
from resources.search.indexes import LanceDbSearchResource
from tests.support.going_live import candidate_of, let_live, verification_that_passed
from tests.support.knowledge import store_chunks, vectors_of

SETTINGS = GenerationSettings(embedding_model_id="hash-embedder")
CHUNKS = store_chunks()


@pytest.fixture
def index(tmp_path):
    return LanceDbSearchResource(path=str(tmp_path / "search")).index()


@pytest.fixture
def generations(index):
    return [
        build_generation(CHUNKS[: size + 1], vectors_of(CHUNKS[: size + 1]), index, settings=SETTINGS).generation
        for size in range(3)
    ]


def attempt(index, candidate, verification):
    return go_live(index, candidate, verification, keep=5, logger=logging.getLogger(__name__))


def refused(index, candidate, verification, said):
    before = index.live_generation()
    with pytest.raises(NotVerifiedError, match=said):
        attempt(index, candidate, verification)
    assert index.live_generation() == before


def test_what_was_never_verified_stays_out(index, generations):
    refused(index, candidate_of(generations[0]), None, "was never verified: materialize retrieval_evaluation")


@pytest.mark.parametrize("other", ["generation", "index"])
def test_a_verification_of_something_else_is_none(index, generations, other):
    candidate = candidate_of(generations[0])
    verified = candidate_of(generations[1]) if other == "generation" else replace(candidate, digest="e" * 64)
    verification = verification_that_passed(verified, live=None)
    refused(index, candidate, verification, f"what was verified is {verified.generation} .*not {generations[0]}")


def test_what_did_not_pass_stays_out(index, generations):
    candidate = candidate_of(generations[0])
    defective = verification_that_passed(candidate, live=None, defects=("count: 3 chunks, expected 4",))
    refused(index, candidate, defective, "did not pass: count: 3 chunks, expected 4")
    worse = verification_that_passed(candidate, live=None, worse="recall@10 0.1, live 0.9")
    refused(index, candidate, worse, "worse than what is live: recall@10")


def test_of_two_refreshes_at_once_the_second_is_compared_anew(index, generations):
    let_live(index, generations[0], keep=5)
    first, second = (candidate_of(one) for one in generations[1:])
    verifications = [verification_that_passed(one, live=generations[0]) for one in (first, second)]
    attempt(index, second, verifications[1])
    refused(index, first, verifications[0], f"was compared with {generations[0]}, but {generations[2]} is live now")


def test_what_is_live_stays_live_whatever_was_verified_since(index, generations):
    let_live(index, generations[0], keep=5)
    swap = attempt(index, candidate_of(generations[0]), None)
    assert (swap.previous, swap.swapped) == (generations[0], False)


def evaluation(candidate, live, recalls):
    means = {name: {"fused": {"recall@10": recall}} for name, recall in recalls.items()}
    return CandidateEvaluation(candidate=candidate, live=live, queries=4, queries_of_others=0, means=means)


@pytest.mark.parametrize(("recall", "passes"), [(0.9, True), (0.881, True), (0.87, False)])
def test_a_candidate_that_finds_clearly_less_than_the_live_one_is_worse(recall, passes):
    candidate = candidate_of("kb-new")
    report = VerificationReport("kb-new", (VerificationCheck("count", passed=True, detail="4"),))
    found = verification_of(candidate, report, evaluation("kb-new", "kb-old", {"kb-new": recall, "kb-old": 0.9}))
    assert (found.worse is None) == passes
    assert (found.generation, found.index_digest, found.compared_with) == ("kb-new", candidate.digest, "kb-old")
    assert f"kb-new {recall:.3f}, live kb-old 0.900" in found.comparison


def test_without_a_live_generation_or_queries_there_is_nothing_to_compare_with():
    report = VerificationReport("kb-new", (VerificationCheck("count", passed=False, detail="3 of 4"),))
    first = verification_of(candidate_of("kb-new"), report, evaluation("kb-new", None, {"kb-new": 0.5}))
    assert (first.worse, first.defects) == (None, ("count: 3 of 4",))
    gone = verification_of(candidate_of("kb-new"), report, evaluation("kb-new", "kb-old", {"kb-new": 0.5}))
    assert "nothing to compare with" in gone.comparison
