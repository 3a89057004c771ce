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


def attempt(index, candidate, verification, **options):
    return go_live(index, candidate, verification, keep=5, logger=logging.getLogger(__name__), **options)


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


def test_a_worse_candidate_stays_out_without_an_error_until_a_person_accepts_it(index, generations):
    live, other = generations[:2]
    let_live(index, live, keep=5)
    candidate = candidate_of(other)
    worse = verification_that_passed(candidate, live=live, worse="recall@10 0.1, live 0.9")
    held = attempt(index, candidate, worse)
    assert (held.swapped, held.held) == (
        False,
        f"{other} is worse than what is live, which stays: recall@10 0.1, live 0.9",
    )
    assert index.live_generation() == live
    accepted = attempt(index, candidate, worse, accept_worse=True)
    assert (accepted.swapped, accepted.held, index.live_generation()) == (True, None, other)


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


def evaluation(candidate, live, found, *, gone=0):
    means = {name: {"fused": {"recall@10": recall, "ndcg@10": ndcg}} for name, (recall, ndcg) in found.items()}
    return CandidateEvaluation(
        candidate=candidate,
        live=live,
        queries=4,
        queries_of_others=0,
        queries_gone=gone,
        gone_documents=("a.md",) if gone else (),
        means=means,
    )


@pytest.mark.parametrize(
    ("recall", "ndcg", "passes"), [(0.9, 0.8, True), (0.881, 0.751, True), (0.87, 0.8, False), (0.9, 0.74, False)]
)
def test_a_candidate_that_finds_clearly_less_or_further_down_than_the_live_one_is_worse(recall, ndcg, passes):
    candidate = candidate_of("kb-new")
    report = VerificationReport("kb-new", (VerificationCheck("count", passed=True, detail="4"),))
    found = verification_of(
        candidate, report, evaluation("kb-new", "kb-old", {"kb-new": (recall, ndcg), "kb-old": (0.9, 0.8)})
    )
    assert (found.worse is None) == passes
    assert (found.generation, found.index_digest, found.compared_with) == ("kb-new", candidate.digest, "kb-old")
    assert f"kb-new {recall:.3f}, live kb-old 0.900" in found.comparison


@pytest.mark.parametrize(("gone", "passes"), [(1, True), (2, False)])
def test_labelled_documents_that_are_gone_are_told_and_many_of_them_need_a_person(gone, passes):
    alike = {"kb-new": (0.9, 0.8), "kb-old": (0.9, 0.8)}
    report = VerificationReport("kb-new", ())
    found = verification_of(candidate_of("kb-new"), report, evaluation("kb-new", "kb-old", alike, gone=gone))
    assert (found.worse is None) == passes
    if not passes:
        assert found.worse.startswith(
            f"{gone} of {4 + gone} labelled queries have lost all their documents, such as a.md"
        )


def test_without_a_live_generation_or_queries_there_is_nothing_to_compare_with():
    report = VerificationReport("kb-new", (VerificationCheck("count", passed=False, detail="3 of 4"),))
    first = verification_of(candidate_of("kb-new"), report, evaluation("kb-new", None, {"kb-new": (0.5, 0.5)}))
    assert (first.worse, first.defects) == (None, ("count: 3 of 4",))
    gone = verification_of(candidate_of("kb-new"), report, evaluation("kb-new", "kb-old", {"kb-new": (0.5, 0.5)}))
    assert "nothing to compare with" in gone.comparison
