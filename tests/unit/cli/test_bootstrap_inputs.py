"""What a home keeps of the files that were handed in, and where rejected lines go."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from upath import UPath

from mangaassist_assets.cli.commands.bootstrap import _golden_reading, _keep_golden, _keep_inputs, report_rejects
from mangaassist_assets.cli.session import CommandError
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.sources.golden_set import GoldenSetChangedError
from mangaassist_assets.datasets.sources.json_lines import Reject
from mangaassist_assets.datasets.sources.utterances import Utterance, read_utterances
from mangaassist_assets.privacy import Vocabulary


@pytest.fixture
def session(tmp_path) -> Any:
    (tmp_path / "home" / "knowledge").mkdir(parents=True)
    (tmp_path / "home" / "logs").mkdir()
    return SimpleNamespace(
        logs=tmp_path / "home" / "logs",
        resources=SimpleNamespace(
            store=SimpleNamespace(inputs=lambda: UPath(tmp_path / "home" / "inputs")),
            knowledge=SimpleNamespace(path=lambda: tmp_path / "home" / "knowledge"),
        ),
        progress=lambda _line: None,
    )


@pytest.fixture
def knowledge(tmp_path) -> Path:
    folder = tmp_path / "handed-in"
    folder.mkdir()
    (folder / "hours.md").write_text("# Hours")
    return folder


def test_the_kept_training_messages_are_redacted_and_name_no_user(session, knowledge, tmp_path):
    message = Utterance(
        text="write to nobody.invented@example.invalid",
        intent="contact",
        relevant_documents=("hours.md",),
        user_id="nobody.invented@example.invalid",
        session_id="s-1",
    )
    _keep_inputs(session, [message], knowledge, vocabulary=Vocabulary(()), traffic_sample=False)
    kept = tmp_path / "home" / "inputs" / "training.jsonl"
    assert "nobody.invented" not in kept.read_text()
    assert "s-1" not in kept.read_text()
    again = read_utterances(kept)
    assert (again.utterances[0].text, again.utterances[0].intent) == ("write to [EMAIL]", "contact")
    assert again.utterances[0].relevant_documents == ("hours.md",)
    assert again.rejects == ()


def test_a_document_that_was_taken_away_is_not_kept(session, knowledge):
    _keep_inputs(session, [], knowledge, vocabulary=Vocabulary(()), traffic_sample=False)
    (knowledge / "hours.md").unlink()
    (knowledge / "pages").mkdir()
    (knowledge / "pages" / "new.md").write_text("# New")
    _keep_inputs(session, [], knowledge, vocabulary=Vocabulary(()), traffic_sample=False)
    kept = {
        str(path.relative_to(session.resources.knowledge.path()))
        for path in session.resources.knowledge.path().rglob("*.md")
    }
    assert kept == {"pages/new.md"}


def test_rejects_lie_beside_their_file_or_in_the_home_where_that_cannot_be_written(session, tmp_path):
    rejects = [Reject(line_number=3, reason="broken JSON", preview="{")]
    beside = report_rejects(session, tmp_path / "training.jsonl", rejects)
    assert beside == tmp_path / "training.rejects.jsonl"
    (tmp_path / "file").write_text("")
    elsewhere = report_rejects(session, tmp_path / "file" / "training.jsonl", rejects)
    assert elsewhere == session.logs / "training.rejects.jsonl"
    assert json.loads(elsewhere.read_text())["line_number"] == 3


def test_another_golden_set_is_refused_by_the_command_unless_it_is_to_replace_the_first(session, tmp_path):
    session.resources.store.snapshots = lambda: SnapshotStore(UPath(tmp_path / "home"))
    first, other = (tmp_path / f"{name}.jsonl" for name in ("first", "other"))
    first.write_text('{"text": "where is my parcel", "intent": "order_status"}\n')
    other.write_text('{"text": "wrap it please", "intent": "gift_wrapping"}\nbroken\n')
    words = Vocabulary(())

    def keep(path: Path, *, replace_golden: bool = False) -> None:
        reading = _golden_reading(session, path, [])
        assert reading is not None
        _keep_golden(session, reading.messages, vocabulary=words, replace_golden=replace_golden)

    assert _golden_reading(session, None, []) is None
    keep(first)
    keep(first)
    with pytest.raises(GoldenSetChangedError, match="add --replace-golden"):
        keep(other)
    keep(other, replace_golden=True)
    assert (tmp_path / "other.rejects.jsonl").exists()
    assert "wrap it please" in (tmp_path / "home" / "inputs" / "golden.jsonl").read_text()
    first.write_text("broken\n")
    with pytest.raises(CommandError, match="no message that can be used"):
        _golden_reading(session, first, [])
