"""What the command line says to input that is wrong, missing or hostile: one clear line, exit code 1, no traceback."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path

import pytest

from tests.support.command_line import Ran, run_apart, run_here
from tests.support.tiny_store import BUNDLE, write_lines

pytestmark = pytest.mark.integration

COMMANDS = (
    ("up",),
    ("dev",),
    ("bootstrap",),
    ("simulate",),
    ("loop",),
    ("evaluate",),
    ("evaluate", "intent"),
    ("evaluate", "reranker"),
    ("demo",),
)
GOOD = {"text": "where is my order", "intent": "order_status", "relevant_documents": ["policies/orders.md"]}


def complaint(ran: Ran) -> str:
    """Return the one complaint of a command that refused, without the progress before it."""
    assert ran.code == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    return ran.stderr.partition("Error: ")[2].strip()


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_help_of_every_command_starts_nothing_and_costs_little(self, tmp_path, command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = run_apart(tmp_path / "home", *command, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ran.code == 0
        assert "Usage:" in ran.stdout
        assert not (tmp_path / "home").exists()
        # Processor time, so that a busy machine does not decide.
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


class TestHome:
    def test_a_home_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "home").write_text("not a folder")
        assert "is a file" in complaint(run_here(tmp_path / "home", "up"))

    @pytest.mark.parametrize("where", ["below a file", "in /proc"])
    def test_a_home_that_cannot_be_written_is_refused(self, tmp_path, where):
        # Permission bits do not bind the superuser; these places nobody can write to.
        (tmp_path / "file").write_text("")
        home = tmp_path / "file" / "home" if where == "below a file" else Path("/proc/mangaassist/home")
        said = complaint(run_here(home, "loop", "--release-bundle", BUNDLE))
        assert str(home) in said
        assert "cannot be used" in said

    def test_a_folder_of_somebody_else_is_refused(self, tmp_path):
        (tmp_path / "letters.txt").write_text("dear")
        said = complaint(run_here(tmp_path, "up"))
        assert "is not a MangaAssist home" in said
        assert "letters.txt" in said

    def test_a_second_up_says_who_holds_the_home(self, looped_store):
        said = complaint(run_here(looped_store.home, "up"))
        assert "already run" in said
        assert str(looped_store.supervisor.running.pid) in said

    def test_a_port_in_use_is_named_with_its_holder(self, tmp_path):
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            said = complaint(run_here(tmp_path / "home", "up", "--mlflow-port", str(port)))
        assert f"Port {port} for MLflow" in said
        assert "held by process" in said


class TestBeforeBootstrap:
    @pytest.mark.parametrize("command", ["loop", "simulate"])
    def test_it_says_what_to_run_first(self, looped_store, command):
        assert "run `mangaassist bootstrap" in complaint(looped_store.ran[f"{command} before bootstrap"])

    def test_there_is_no_model_to_evaluate(self, looped_store):
        assert "no 'champion'" in complaint(looped_store.ran["evaluate before bootstrap"])


class TestBootstrap:
    def bootstrap(self, looped_store, tmp_path: Path, lines: list[object], knowledge: Path | None = None) -> Ran:
        training = write_lines(tmp_path / "training.jsonl", lines)
        folder = knowledge or looped_store.store.knowledge
        return run_here(looped_store.home, "bootstrap", "--training", training, "--knowledge", folder)

    def test_one_intent_is_too_few(self, looped_store, tmp_path):
        assert "messages of 1 intents" in complaint(self.bootstrap(looped_store, tmp_path, [GOOD, GOOD]))

    def test_a_file_of_broken_lines_leaves_their_reasons(self, looped_store, tmp_path):
        said = self.bootstrap(looped_store, tmp_path, ["{broken", '{"intent": "x"}', "[]"])
        assert "messages of 0 intents" in complaint(said)
        rejects = [json.loads(line) for line in (tmp_path / "training.rejects.jsonl").read_text().splitlines()]
        assert [reject["line_number"] for reject in rejects] == [1, 2, 3]
        assert all(reject["reason"] for reject in rejects)

    def test_an_empty_knowledge_folder_is_refused(self, looped_store, tmp_path):
        (tmp_path / "knowledge").mkdir()
        lines: list[object] = [GOOD, {**GOOD, "intent": "return_item", "text": "take it back"}]
        said = self.bootstrap(looped_store, tmp_path, lines, tmp_path / "knowledge")
        assert "holds no readable document: it is empty" in complaint(said)

    def test_a_missing_file_is_a_wrong_call(self, looped_store, tmp_path):
        ran = run_here(
            looped_store.home,
            *("bootstrap", "--training", tmp_path / "none.jsonl", "--knowledge", looped_store.store.knowledge),
        )
        assert ran.code == 2
        assert "none.jsonl" in ran.stderr
        assert "does not exist" in ran.stderr


class TestReleaseBundle:
    @pytest.mark.parametrize("bundle", ["../x", "a,b", "", "a..b", "x" * 64, "a\nb"])
    @pytest.mark.parametrize("command", ["loop", "simulate"])
    def test_a_key_that_could_be_no_partition_is_refused(self, looped_store, command, bundle):
        rest = ("--utterances", looped_store.store.unseen) if command == "simulate" else ()
        said = complaint(run_here(looped_store.home, command, "--release-bundle", bundle, *rest))
        assert "is not valid" in said
        assert "2026.03.24-rc2" in said

    def test_a_bundle_without_traces_is_named_and_makes_no_partition(self, looped_store):
        import dagster as dg

        from mangaassist_assets.partitions import release_bundles
        from tests.support.command_line import environment

        said = complaint(run_here(looped_store.home, "loop", "--release-bundle", "2031.01.01-typo"))
        assert "bundle 2031.01.01-typo has no traces" in said
        with environment(**looped_store.supervisor.environment), dg.DagsterInstance.get() as instance:
            assert list(instance.get_dynamic_partitions(str(release_bundles.name))) == [BUNDLE]


class TestMessages:
    def test_hostile_messages_are_driven_and_the_bad_lines_are_kept_with_reasons(self, looped_store, tmp_path):
        lines: list[object] = [
            {"text": "a" * 100_000},
            {"text": "bell \x07 and escape \x1b[31m in a question about shipping"},
            {"text": "<script>alert(1)</script>'; DROP TABLE spans; --"},
            {"text": "\u202e\U0001f4da 予約について"},
            {"text": "   "},
            {"text": "b" * 100_001},
            {"text": 7},
            "not json",
        ]
        utterances = write_lines(tmp_path / "hostile.jsonl", lines)
        ran = run_here(
            looped_store.home, "simulate", "--utterances", utterances, "--release-bundle", "hostile", "--json"
        )
        report = json.loads(ran.stdout)
        assert ran.code == 0, ran.stderr
        assert (report["turns"], report["traces_stored"], report["errors"], report["rejected_lines"]) == (4, 4, 0, 4)
        rejects = Path(report["rejects_file"]).read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["line_number"] for line in rejects] == [5, 6, 7, 8]

    def test_a_file_without_one_usable_message_is_refused(self, looped_store, tmp_path):
        utterances = write_lines(tmp_path / "empty.jsonl", ["", "{}"])
        ran = run_here(looped_store.home, "simulate", "--utterances", utterances, "--release-bundle", "nothing")
        assert "holds no usable utterance" in complaint(ran)


class TestEvaluate:
    @pytest.mark.parametrize("model", ["99", "champions", "-1", "'; --"])
    def test_a_model_that_is_not_there_is_named(self, looped_store, model):
        ran = run_here(looped_store.home, "evaluate", "intent", "--data", looped_store.store.unseen, "--model", model)
        said = complaint(ran)
        assert repr(model) in said
        assert "champion, challenger, or one of its versions" in said

    def test_messages_without_labels_are_nothing_to_compare_with(self, looped_store, tmp_path):
        data = write_lines(tmp_path / "data.jsonl", [{"text": "hello"}])
        for pipeline, need in (("intent", "intent"), ("reranker", "relevant_documents")):
            said = complaint(run_here(looped_store.home, "evaluate", pipeline, "--data", data))
            assert f"no message with '{need}'" in said

    def test_an_intent_that_the_model_does_not_know_counts_as_an_error(self, looped_store, tmp_path):
        data = write_lines(tmp_path / "data.jsonl", [GOOD, {"text": "sing to me", "intent": "karaoke"}, "{"])
        ran = run_here(looped_store.home, "evaluate", "intent", "--data", data, "--json")
        figures = json.loads(ran.stdout)
        assert (figures["messages"], figures["accuracy"], figures["rejected_lines"]) == (2, 0.5, 1)
        karaoke = next(row for row in figures["intents"] if row["intent"] == "karaoke")
        assert (karaoke["support"], karaoke["recall"]) == (1, 0.0)
