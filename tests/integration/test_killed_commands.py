"""SIGKILL in the middle of bootstrap, traffic and the loop; then the same command again, which finishes the work.

The tests follow each other on one home, as the commands do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from tests.support.command_line import environment, kill_when_it_says, production, resources_of, run_here
from tests.support.tiny_store import BUNDLE, TinyStore, write_tiny_store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TinyStore:
    return write_tiny_store(tmp_path_factory.mktemp("killed") / "handed-in")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("killed-home") / "home"


@pytest.fixture(scope="module")
def bootstrap(store) -> tuple[str | Path, ...]:
    return ("bootstrap", "--training", store.training, "--knowledge", store.knowledge)


@pytest.fixture(scope="module")
def killed(home, bootstrap) -> str:
    """A bootstrap, services and all, killed when one of two champions is there."""
    return kill_when_it_says("is the first champion", home, *bootstrap)


@pytest.fixture(scope="module")
def supervisor(home, killed) -> Iterator[Supervisor]:
    assert "first_reranker: registered" not in killed
    with Supervisor(Home.open(home)) as supervisor:
        yield supervisor


def test_a_killed_bootstrap_goes_on_where_it_stopped(home, bootstrap, supervisor):
    before = production(supervisor)
    ran = run_here(home, *bootstrap, "--json")
    after = production(supervisor)
    assert ran.code == 0, ran.stderr
    assert before.champions == {INTENT.model_name: "1", RERANKER.model_name: None}
    assert before.endpoints == {}
    assert after.versions == {INTENT.model_name: ["1"], RERANKER.model_name: ["1"]}
    assert after.champions == {INTENT.model_name: "1", RERANKER.model_name: "1"}
    assert sorted(after.endpoints) == [INTENT.endpoint_name, RERANKER.endpoint_name]
    assert after.live_generation
    assert states(supervisor, "bootstrap") == ["FAILURE", "SUCCESS"]


def test_killed_traffic_and_reviews_go_on_without_a_turn_twice(home, store, supervisor):
    arguments = ("simulate", "--utterances", store.traffic, "--release-bundle", BUNDLE, "--review-budget", "400")
    for sentence in (": 64 of", "failed_traces", ": 16 of"):
        kill_when_it_says(sentence, home, *arguments)
    ran = run_here(home, *arguments, "--json")
    report = json.loads(ran.stdout)
    with environment(**supervisor.environment):
        traces = list(resources_of(supervisor)["mlflow"].read_traces(BUNDLE))
    assert report["turns"] == len(traces) == store.messages
    messages = Counter(json.dumps(trace.spans[0].inputs) for trace in traces)
    assert set(messages.values()) == {1}
    for trace in traces:
        assert max(Counter(span.name for span in trace.spans).values()) == 1
        assert max(Counter(one.name for one in trace.assessments).values(), default=1) == 1
    assert sum("user_feedback" in trace.tags for trace in traces) == report["thumbs_up"] + report["thumbs_down"]
    reviewed = [trace for trace in traces if any(one.kind == "expectation" for one in trace.assessments)]
    assert len(reviewed) == report["reviews"] == store.messages
    # The queue was there when the reviewer was killed: it is answered to its end, and no other one is made.
    assert states(supervisor, "failure_mining") == ["FAILURE", "SUCCESS"]


def test_a_killed_loop_leaves_no_open_run_and_trains_one_version_a_dataset(home, store, supervisor):
    loop = ("loop", "--release-bundle", BUNDLE)
    kill_when_it_says("intent_classifier: features", home, *loop)
    assert states(supervisor, "intent_retraining") == ["STARTED"]
    ran = run_here(home, *loop, "--json")
    report = json.loads(ran.stdout)
    after = production(supervisor)
    assert ran.code == 0, ran.stderr
    assert report["turns"] == store.messages
    assert after.versions == {INTENT.model_name: ["1", "2"], RERANKER.model_name: ["1", "2"]}
    assert after.champions[INTENT.model_name] == "2"
    assert sorted(after.endpoints) == [INTENT.endpoint_name, RERANKER.endpoint_name]
    assert states(supervisor, "intent_retraining") == ["FAILURE", "SUCCESS"]
    assert "STARTED" not in states(supervisor)


def states(supervisor: Supervisor, job: str | None = None) -> list[str]:
    """Return the states of the runs of a job, or of all, the oldest first."""
    with environment(**supervisor.environment), dg.DagsterInstance.get() as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name=job), ascending=True)
        return [run.status.value for run in runs]
