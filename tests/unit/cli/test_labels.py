import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from upath import UPath

from mangaassist_assets.cli.commands.label_acceptance import (
    list_waiting,
    render_accepted,
    render_waiting,
    run_accept,
)
from mangaassist_assets.cli.commands.labels import format_of, render_export, render_import, run_export, run_import
from mangaassist_assets.cli.main import main
from mangaassist_assets.cli.session import CommandError
from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotMissingError, SnapshotStore, canonical_json
from mangaassist_assets.labelling.queue.stored_queue import QUEUE_FILE
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from resources.mlflow.assessments.reviews import MlflowLabelRecorder, RecordedLabels
from tests.support.labelling import make_turn, queue_item, reviewed_turn, said
from tests.support.turn_frames import turns_frame

BUNDLE = "2026.03.24-rc2"


@pytest.fixture
def store(tmp_path):
    made = SnapshotStore(UPath(tmp_path / "store"))
    turns = [make_turn("tr-1", "=1+1 where is it"), reviewed_turn("tr-2", said("zine")), make_turn("tr-3")]
    files = {TURNS_FILE: to_parquet(turns_frame(turns)), TURNS_CARD_FILE: canonical_json({"first_timestamp_ms": 1})}
    made.write("tagged_traces", files, partition=BUNDLE)
    made.write("failure_clusters", {"clusters.json": b"[]"}, partition=BUNDLE)
    rows = [{"text": "where", "intent": "order_status", "relevant_documents": []}]
    made.write("training_corpus", {"utterances.json": canonical_json(rows)})
    items = [
        queue_item(trace_id, rank, cluster_name="[red]parcel")
        for rank, trace_id in enumerate(["tr-1", "gone"], start=1)
    ]
    made.write("review_queue", {QUEUE_FILE: canonical_json(items)}, partition=BUNDLE)
    return made


@pytest.fixture
def session(store, monkeypatch):
    """A session whose MLflow remembers what was recorded."""
    recorded = []

    def record(_self, labels):
        recorded.extend(labels)
        return RecordedLabels(added=len(labels), found=0, outdated=0, gone=())

    monkeypatch.setattr(MlflowLabelRecorder, "record", record)
    mlflow = SimpleNamespace(traces=lambda: (None, "1"))
    resources = SimpleNamespace(store=SimpleNamespace(snapshots=lambda: store), mlflow=mlflow)
    return SimpleNamespace(resources=resources, progress=lambda _line: None, recorded=recorded)


def test_the_queue_is_written_and_the_report_says_how_to_go_on(store, tmp_path, capsys):
    out = tmp_path / "new" / "queue.csv"
    report = run_export(store, release_bundle=BUNDLE, out=out)
    assert (report["rows"], report["traces_gone"], report["known_intents"]) == (1, 1, ["order_status"])
    assert "'=1+1 where is it" in out.read_text("utf-8-sig")
    render_export(report)
    assert "1 traces to review" in capsys.readouterr().out


def test_answers_in_a_file_are_not_written_over_by_accident(store, tmp_path):
    out = tmp_path / "queue.jsonl"
    out.write_text("answers")
    with pytest.raises(CommandError, match="is there already and may hold answers"):
        run_export(store, release_bundle=BUNDLE, out=out)
    assert out.read_text() == "answers"
    run_export(store, release_bundle=BUNDLE, out=out, replace=True)
    assert json.loads(out.read_text())["trace_id"] == "tr-1"


def test_a_bundle_that_was_not_mined_has_no_queue(store, tmp_path):
    with pytest.raises(SnapshotMissingError, match="no snapshot of 'review_queue'"):
        run_export(store, release_bundle="other", out=tmp_path / "queue.csv")


@pytest.mark.parametrize(
    ("name", "chosen", "expected"),
    [("a.csv", None, "csv"), ("A.CSV", None, "csv"), ("a.ndjson", None, "jsonl"), ("a.txt", "csv", "csv")],
)
def test_the_name_of_a_file_says_its_format(name, chosen, expected):
    assert format_of(Path(name), chosen) == expected


def test_a_name_that_says_nothing_is_refused():
    with pytest.raises(CommandError, match=r"name it \.csv or \.jsonl"):
        format_of(Path("labels.xlsx"), None)


def test_labels_are_recorded_and_bad_rows_listed_by_line(session, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    file.write_text("trace_id,intent,labeller\ntr-1,Order-Status,aki\ntr-1,nonsense,ben\ntr-3,order_status,ben\n")
    report = run_import(session, release_bundle=BUNDLE, file=file)
    assert [(one.trace_id, one.intent) for one in session.recorded] == [
        ("tr-1", "order_status"),
        ("tr-3", "order_status"),
    ]
    assert [one["line"] for one in report["problems"]] == [3]
    render_import(report)
    printed = capsys.readouterr().out
    assert "line 3: intent is none of the known ones" in printed


def test_a_new_intent_must_be_named_as_one(session, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("trace_id,intent,labeller\ntr-1,lost_parcel,aki\n")
    assert len(run_import(session, release_bundle=BUNDLE, file=file)["problems"]) == 1
    assert run_import(session, release_bundle=BUNDLE, file=file, new_intents=["lost_parcel"])["added"] == 1


def test_a_dry_run_writes_nothing(session, tmp_path, capsys):
    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps({"trace_id": "tr-1", "intent": "order_status", "labeller": "aki"}))
    report = run_import(session, release_bundle=BUNDLE, file=file, dry_run=True)
    assert (report["labels"], session.recorded) == (1, [])
    render_import(report)
    assert "nothing was written" in capsys.readouterr().out


def test_the_command_line_explains_itself_and_its_errors(tmp_path):
    runner = CliRunner()
    assert "csv|jsonl" in runner.invoke(main, ["labels", "export", "--help"]).output
    home = tmp_path / "home"
    result = runner.invoke(
        main, ["--home", str(home), "labels", "export", "--release-bundle", BUNDLE, "--out", str(tmp_path / "q.csv")]
    )
    assert result.exit_code == 1
    assert "materialize that asset first" in result.output


def gathered_with(store, **report):
    files = {"report.json": canonical_json({"waiting": [], "people": [], **report})}
    store.write("intent_labels", files, partition=BUNDLE)


ZINE = {"name": "zine", "trace_ids": ["tr-2", "tr-3"], "shoppers": 2, "by": ["aki"]}


def test_names_that_wait_are_listed_and_count_once_a_person_accepts_them(store, capsys):
    gathered_with(store, waiting=[ZINE])
    listed = list_waiting(store)
    assert listed["waiting"] == [{"release_bundle": BUNDLE, **ZINE}]
    render_waiting(listed)
    assert "everybody: no list of reviewers" in capsys.readouterr().out
    accepted = run_accept(store, "intent", "Zine", by="Mina", reason="shoppers ask for it since the fair")
    assert (accepted["name"], accepted["bundles"]) == ("Zine", [BUNDLE])
    render_accepted(accepted)
    assert f"materialize intent_labels again for {BUNDLE}" in capsys.readouterr().out
    assert "Zine" in run_export(store, release_bundle=BUNDLE, out=store_path(store) / "q.csv")["known_intents"]


def test_who_is_held_back_is_listed_with_the_reason_and_may_be_vouched_for(store, capsys):
    held = {"person": "Eve", "held_back": "most answers do not fit", "answers": 60}
    gathered_with(store, people=[held, {"person": "aki", "held_back": None, "answers": 9}])
    listed = list_waiting(store, release_bundle=BUNDLE)
    assert [one["reviewer"] for one in listed["held_back"]] == ["Eve"]
    render_waiting(listed)
    assert "most answers do not fit" in capsys.readouterr().out
    assert run_accept(store, "reviewer", "eve", by="Mina", reason="I looked at twenty of them")["bundles"] == [BUNDLE]


def test_an_acceptance_without_a_reason_is_one_line_and_exit_code_one(tmp_path):
    home = str(tmp_path / "home")
    command = ["labels", "accept-intent", "zine", "--by", "Mina", "--reason", "ok", "--home", home]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "an acceptance needs a reason" in refused.output
    command[command.index("ok")] = "shoppers ask for it since the fair"
    assert CliRunner().invoke(main, command).exit_code == 0
    listed = CliRunner().invoke(main, ["labels", "intents", "--json", "--home", home])
    assert [one["name"] for one in json.loads(listed.stdout)["accepted"]] == ["zine"]


def store_path(store):
    return Path(str(store.root))
