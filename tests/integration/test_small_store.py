"""A store so small that a model cannot be trained for it: it is left out with a word, and everything else goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.datasets.sources.golden_set import GOLDEN_FILE
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.supervisor import Supervisor
from tests.support.command_line import Production, Ran, environment, production, resources_of, run_here
from tests.support.tiny_store import write_lines

pytestmark = pytest.mark.integration

BUNDLE = "2026.02.02-rc1"
RERANKER = "mangaassist-reranker"
MESSAGES = {
    "order_status": ("where is my parcel", "has my order shipped", "track my package"),
    "return_item": ("I want my money back", "how do I return a volume", "refund please"),
    "store_hours": ("when do you open", "are you open on Sunday", "closing time today"),
}
TRAFFIC = ("where is the package", "money back for this volume please", "what are the opening hours", "open at night?")


def small_store(folder: Path, messages: dict[str, tuple[str, ...]] = MESSAGES) -> tuple[Path, Path]:
    """Write one short document and a few messages an intent; returns training file and knowledge."""
    lines = [{"text": text, "intent": intent} for intent, texts in messages.items() for text in texts]
    knowledge = folder / "knowledge"
    knowledge.mkdir(parents=True)
    (knowledge / "returns.md").write_text("# Returns\n\nUnread volumes come back within thirty days.\n", "utf-8")
    return write_lines(folder / "training.jsonl", lines), knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallStore:
    """What the commands said, and production after them."""

    home: Path
    supervisor: Supervisor
    ran: dict[str, Ran]
    after: Production

    def report(self, command: str) -> dict[str, Any]:
        assert self.ran[command].code == 0, self.ran[command].stderr
        report: dict[str, Any] = json.loads(self.ran[command].stdout)
        return report


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStore]:
    """One document, three intents of three messages, four turns, the loop: by the command line."""
    folder = tmp_path_factory.mktemp("small-store")
    training, knowledge = small_store(folder)
    traffic = write_lines(
        folder / "traffic.jsonl",
        [
            {
                "text": text,
                "intent": "return_item",
                "relevant_documents": ["returns.md"],
                "session_id": f"visit-{place}",
            }
            for place, text in enumerate(TRAFFIC)
        ],
    )
    golden = write_lines(
        folder / "golden.jsonl",
        [
            {
                "user_input": "for how long may a book be given back?",
                "reference": "Thirty days.",
                "sources": ["returns.md"],
            },
            {"question": "is a signed volume returnable?", "contexts": ["come back within thirty days"]},
            {"question": "who wrote this?", "answer": "We do not know."},
            {"answer": "an answer to nothing"},
        ],
    )
    home = folder / "home"
    given = ("--training", training, "--knowledge", knowledge)
    steps: dict[str, tuple[str | Path, ...]] = {
        "bootstrap": ("bootstrap", *given, "--golden", golden, "--json"),
        "simulate": ("simulate", "--utterances", traffic, "--release-bundle", BUNDLE, "--json"),
        "loop": ("loop", "--release-bundle", BUNDLE, "--json"),
        "loop for people": ("loop", "--release-bundle", BUNDLE),
        "bootstrap again": ("bootstrap", *given, "--golden", golden),
    }
    with Supervisor(Home.open(home)) as supervisor:
        ran = {name: run_here(home, *arguments) for name, arguments in steps.items()}
        yield SmallStore(home=home, supervisor=supervisor, ran=ran, after=production(supervisor))


class TestBootstrapOfOneDocument:
    def test_the_reranker_is_left_out_and_says_why(self, small):
        report = small.report("bootstrap")
        assert set(report["champions"]) == {"intent_classifier"}
        assert set(report["left_out"]) == {"reranker"}
        assert "no other passage to tell the relevant one from" in report["left_out"]["reranker"]
        assert "no other passage" in small.ran["bootstrap"].stderr

    def test_the_rest_is_in_production(self, small):
        assert small.after.champions == {"mangaassist-intent-classifier": "1", RERANKER: None}
        assert set(small.after.endpoints) == {"mangaassist-intent"}
        assert small.after.live_generation is not None

    def test_golden_questions_and_answers_are_kept_for_what_they_prove(self, small):
        counts = {"messages": 3, "with_intent": 0, "with_documents": 2, "with_answer": 2, "only_held_out": 1}
        assert small.report("bootstrap")["golden"] == {**counts, "rejected_lines": 1}
        assert "no question" in small.ran["bootstrap"].stderr
        with environment(**small.supervisor.environment):
            store = resources_of(small.supervisor)["store"].snapshots()
            rows = store.read_json(store.latest("golden_set"), GOLDEN_FILE)
        assert [row["relevant_documents"] for row in rows] == [["returns.md"], ["returns.md"], []]
        assert [row.get("answers") for row in rows] == [["Thirty days."], None, ["We do not know."]]

    def test_again_it_says_the_same_and_changes_nothing(self, small):
        again = small.ran["bootstrap again"]
        assert again.code == 0, again.stderr
        assert "left out" in again.stdout
        assert small.after.versions["mangaassist-intent-classifier"] == ["1"]


class TestTheChatbotWithoutAReranker:
    def test_it_answers_in_the_order_of_retrieval(self, small):
        report = small.report("simulate")
        assert (report["turns"], report["errors"], report["blocked"]) == (len(TRAFFIC), 0, 0)
        assert report["traces_stored"] == len(TRAFFIC)


class TestTheLoopWithoutAReranker:
    def test_it_succeeds_and_each_pipeline_says_why_it_made_nothing(self, small):
        report = small.report("loop")
        assert report["errors"] == []
        pipelines = {pipeline["model"]: pipeline for pipeline in report["pipelines"]}
        assert "no other passage" in pipelines["reranker"]["left_out"]
        assert (pipelines["reranker"]["verdict"], pipelines["reranker"]["error"]) == (None, None)
        assert pipelines["reranker"]["deployed_version"] is None
        assert pipelines["intent_classifier"]["verdict"] is None
        (why,) = [
            reason for reason in pipelines["intent_classifier"]["reasons"] if reason.startswith("enough_examples")
        ]
        assert "train" in why
        assert pipelines["intent_classifier"]["deployed_version"] == "1"

    def test_people_read_it_too(self, small):
        said = " ".join(small.ran["loop for people"].stdout.split())
        assert small.ran["loop for people"].code == 0
        assert "left out" in said
        assert "no other passage" in said

    def test_the_manifest_names_what_no_trace_told(self, small):
        assert small.report("loop")["manifest_digest"] is not None


class TestTooFewMessages:
    @pytest.mark.parametrize(
        ("messages", "why"),
        [
            ({"order_status": ("where is my parcel", "track my order")}, "a classifier needs at least two"),
            (
                {"order_status": ("where is my parcel",), "return_item": ("Where is my parcel?",)},
                "bootstrap messages contradict each other",
            ),
        ],
    )
    def test_what_no_classifier_can_learn_from_is_refused_in_words(self, tmp_path, messages, why):
        training, knowledge = small_store(tmp_path / "handed-in", messages)
        refused = run_here(tmp_path / "home", "bootstrap", "--training", training, "--knowledge", knowledge)
        assert refused.code != 0
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr
