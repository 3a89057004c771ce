"""Runs as the command line drives them: what stopped one, and what becomes of those whose driver was killed."""

from __future__ import annotations

import os

import dagster as dg
import pytest

from mangaassist_assets.assets.common import leave_out
from mangaassist_assets.cli.session import _outcome
from mangaassist_assets.local.dagster_instance import OWNER_TAG, end_orphaned_runs, owner_of_this_process


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def started(instance: dg.DagsterInstance, **tags: str) -> str:
    run = instance.create_run_for_job(empty.to_job("empty_job"), status=dg.DagsterRunStatus.STARTED, tags=tags)
    return run.run_id


@dg.graph
def empty():
    pass


class TestOrphanedRuns:
    def test_a_run_whose_driver_is_gone_ends_as_a_failure(self, instance):
        orphan = started(instance, **{OWNER_TAG: "4194305:1.0"})
        assert len(end_orphaned_runs(instance)) == 1
        assert instance.get_run_by_id(orphan).status is dg.DagsterRunStatus.FAILURE
        assert end_orphaned_runs(instance) == []

    def test_a_run_whose_driver_lives_goes_on(self, instance):
        own = started(instance, **{OWNER_TAG: owner_of_this_process()})
        assert end_orphaned_runs(instance) == []
        assert instance.get_run_by_id(own).status is dg.DagsterRunStatus.STARTED

    def test_another_process_under_the_same_id_is_not_the_driver(self, instance):
        reused = started(instance, **{OWNER_TAG: f"{os.getpid()}:1000.0"})
        assert len(end_orphaned_runs(instance)) == 1
        assert instance.get_run_by_id(reused).status is dg.DagsterRunStatus.FAILURE

    def test_a_run_of_the_daemon_is_left_to_its_monitor(self, instance):
        foreign = started(instance)
        assert end_orphaned_runs(instance) == []
        assert instance.get_run_by_id(foreign).status is dg.DagsterRunStatus.STARTED


class TestOutcome:
    def outcome(self, instance, *, passes: bool, breaks: bool = False):
        @dg.asset
        def judged():
            if breaks:
                raise ValueError("the judge is ill")

        @dg.asset(deps=[judged])
        def deployed():
            pass

        @dg.asset_check(asset=judged, blocking=True)
        def gate():
            return dg.AssetCheckResult(passed=passes, description="not better")

        job = dg.Definitions(
            assets=[judged, deployed], asset_checks=[gate], jobs=[dg.define_asset_job("pipeline")]
        ).resolve_job_def("pipeline")
        return _outcome("pipeline", job.execute_in_process(instance=instance, raise_on_error=False))

    def test_a_blocking_check_that_says_no_is_no_error(self, instance):
        outcome = self.outcome(instance, passes=False)
        assert not outcome.succeeded
        assert (outcome.failed_checks, outcome.errors) == (("judged:gate",), ())
        assert outcome.check_reasons == ("gate: not better",)

    def test_an_asset_that_breaks_is_an_error_with_its_cause(self, instance):
        outcome = self.outcome(instance, passes=True, breaks=True)
        assert not outcome.succeeded
        assert outcome.failed_assets == ("judged",)
        assert "the judge is ill" in outcome.errors[0]

    def test_a_run_without_objections_succeeded(self, instance):
        outcome = self.outcome(instance, passes=True)
        assert outcome.succeeded
        assert (outcome.failed_checks, outcome.failed_assets, outcome.errors) == ((), (), ())

    def test_an_asset_that_is_left_out_says_why_and_is_no_error(self, instance):
        @dg.asset(output_required=False)
        def dataset(context):
            leave_out(context, "nothing to learn from")
            yield from ()

        @dg.asset(deps=[dataset])
        def model():
            raise AssertionError("there is nothing to train on")

        @dg.asset_check(asset=dataset, blocking=True)
        def enough_examples():
            raise AssertionError("there is nothing to count")

        definitions = dg.Definitions(
            assets=[dataset, model], asset_checks=[enough_examples], jobs=[dg.define_asset_job("pipeline")]
        )
        job = definitions.resolve_job_def("pipeline")
        outcome = _outcome("pipeline", job.execute_in_process(instance=instance, raise_on_error=False))
        assert (outcome.succeeded, outcome.errors, outcome.failed_checks) == (True, (), ())
        assert outcome.left_out == {"dataset": "nothing to learn from"}
