"""What `mangaassist redact` shows: never the values it found."""

from __future__ import annotations

import json

from mangaassist_assets.cli.commands.personal_data import render_redact, run_redact


def test_the_report_says_where_and_never_what():
    report = run_redact(["mail ann@example.com or call 090-0123-4567"])
    (message,) = report["messages"]
    assert message["text"] == "mail [EMAIL] or call [PHONE]"
    assert message["found"] == [{"kind": "EMAIL", "start": 5, "end": 20}, {"kind": "PHONE", "start": 29, "end": 42}]
    assert message["placeholders"][1] == {"kind": "PHONE", "start": 21, "end": 28}
    assert report["counts"] == {"EMAIL": 1, "PHONE": 1}
    assert "ann@" not in json.dumps(report)
    assert "0123" not in json.dumps(report)


def test_lines_are_redacted_one_by_one_with_the_vocabulary():
    report = run_redact(
        ["I met Junji Ito, he was kind.\r\n", "I met Ann Holloway, she was kind.\n"], vocabulary=["Junji Ito"]
    )
    assert [message["text"] for message in report["messages"]] == [
        "I met Junji Ito, he was kind.",
        "I met [NAME], she was kind.",
    ]
    assert report["changed"] == 1


def test_broken_characters_are_shown_as_question_marks(capsys):
    report = run_redact(["bad \udcff byte"])
    json.dumps(report, ensure_ascii=False).encode("utf-8")
    render_redact(report)
    assert "bad ? byte" in capsys.readouterr().out


def test_the_terminal_gets_no_control_characters(capsys):
    render_redact(run_redact(["bad \x1b[2J text of ann@example.com"]))
    shown = capsys.readouterr().out
    assert "bad ·[2J text of [EMAIL]" in shown
    assert "1 of 1 messages changed" in shown
    assert "\x1b[2J" not in shown
