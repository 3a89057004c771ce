"""A turn of the loop succeeded where everything ran; a dataset may be refused, a broken index is an error."""

from __future__ import annotations

from mangaassist_assets.cli.commands.loop import errors_of
from mangaassist_assets.cli.session import RunOutcome


def outcome(job: str = "index_refresh", *, check: str | None = None, reason: str = "", error: str = "") -> RunOutcome:
    return RunOutcome(
        run_id="r1",
        job=job,
        succeeded=False,
        failed_checks=(check,) if check else (),
        failed_assets=("search_index",) if error else (),
        errors=(error,) if error else (),
        check_reasons=(reason,) if check else (),
    )


def test_an_index_that_is_not_what_was_built_is_an_error_with_what_to_do():
    damaged = outcome(check="retrieval_evaluation:generation_verified", reason="generation_verified: found 0 of 50")
    (error,) = errors_of([damaged])
    assert error.startswith("index_refresh: generation_verified: found 0 of 50; `mangaassist doctor` looks")


def test_a_dataset_that_is_refused_is_none():
    refused = outcome("intent_retraining", check="intent_dataset:enough_examples", reason="enough_examples: 3 of 20")
    assert errors_of([refused]) == []


def test_what_broke_is_told_with_its_job_and_a_run_that_says_nothing_by_its_id():
    assert errors_of([outcome(error="search_index: the disk is full")]) == [
        "index_refresh: search_index: the disk is full"
    ]
    assert errors_of([outcome("release")]) == ["release: run r1 failed: see its log"]
