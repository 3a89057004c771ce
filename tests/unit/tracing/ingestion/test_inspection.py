"""`traces inspect` says what was read from where, what is missing, and proposes lines that work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mangaassist_assets.cli.main import main
from mangaassist_assets.tracing.contract.records import SpanRecord, TraceRecord
from mangaassist_assets.tracing.ingestion.inspection import inspect
from mangaassist_assets.tracing.reading.mapping import read_mapping

FAULTS = Path(__file__).parents[5] / "shared" / "faults"


def span(name: str, number: int, **more: Any) -> SpanRecord:
    parent = None if number == 1 else f"{1:016x}"
    fields = {"start_ns": number * 1_000, "end_ns": number * 1_000 + 500, **more}
    return SpanRecord(span_id=f"{number:016x}", parent_id=parent, name=name, **fields)


FOREIGN = TraceRecord(
    trace_id=f"tr-{1:032x}",
    timestamp_ms=1,
    duration_ms=1,
    state="OK",
    tags={"conv_id": "c-1", "release": "2026.03.24-rc2", "shop": "berlin", "note": "write to jane.doe@example.com"},
    spans=(
        span("handle", 1, inputs={"user_said": "hi"}, outputs={"bot_reply": "hello"}),
        span("classify_intent", 2, attributes={"predicted_label": "order", "certainty": 0.8}),
        span("llm_step", 3, outputs={"tok_in": 3, "finish_reason": "end_turn"}),
    ),
)


def test_of_a_foreign_trace_it_proposes_lines_that_make_it_a_turn(tmp_path):
    before = inspect([FOREIGN], read_mapping())
    assert before.turns == 0
    assert next(iter(before.outcomes)).startswith("quarantined: release_bundle is missing")
    lines = [line for section, said in before.proposals.items() for line in (f"[{section}]", *said)]
    own = tmp_path / "own.toml"
    own.write_text("\n".join(["schema = 1", *lines]), encoding="utf-8")
    after = inspect([FOREIGN], read_mapping(own))
    found = {one.fact: (one.places[0], one.example) for one in after.facts if one.found}
    assert after.turns == 1
    assert found["turn.session_id"] == ("tags/conv_id", "c-1")
    assert found["turn.message"] == ("root.inputs/user_said", "hi")
    assert found["turn.answer"] == ("root.outputs/bot_reply", "hello")
    assert found["turn.tenant"] == ("tags/shop", "berlin")
    assert ("classify_intent", "intent_classification", 1) in after.spans
    assert found["turn.intent_confidence"] == ("any.attributes/certainty", "0.8")
    # What stands below a span of no stage can only be told once the span has one.
    assert 'input_tokens = ["span.outputs/tok_in"]' in after.proposals["generation"]


def test_it_shows_nothing_personal_and_proposes_a_key_for_one_fact_only():
    found = inspect([FOREIGN], read_mapping())
    assert "jane" not in json.dumps([found.proposals, found.outcomes, [one.example for one in found.facts]])
    keys = [line.split(" = ")[1] for lines in found.proposals.values() for line in lines]
    assert len(keys) == len(set(keys))


@pytest.mark.skipif(not FAULTS.is_dir(), reason="needs ../shared/faults, which is not on this machine")
def test_the_command_reads_a_file_without_a_server_or_a_home(tmp_path):
    home, file = str(tmp_path / "none"), str(FAULTS / "orchestrator_traces.jsonl")
    result = CliRunner().invoke(main, ["--home", home, "traces", "inspect", file, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    facts = {one["fact"]: one["example"] for one in report["facts"] if one["found"] == 3}
    assert (report["traces"], report["turns"], report["rejected"]) == (3, 3, {})
    assert (facts["generation.input_tokens"], facts["generation.output_tokens"]) == ("321", "17")
    assert (facts["generation.stop_reason"], facts["turn.selected_ids"]) == ("end_turn", "c2")
    assert not (tmp_path / "none").exists()


def test_the_tables_name_place_stage_and_what_is_missing(tmp_path):
    file = tmp_path / "one.jsonl"
    file.write_text('{"resourceSpans": []}\n{"broken\n', encoding="utf-8")
    result = CliRunner().invoke(main, ["--home", str(tmp_path / "h"), "traces", "inspect", str(file)])
    assert result.exit_code == 1
    assert "0 traces read through trace_mapping.toml" in result.output
    assert "rejected" in result.output


def test_what_is_neither_a_file_nor_a_trace_id_is_told(tmp_path):
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "traces", "inspect", "nothing.jsonl"])
    assert result.exit_code == 1
    assert "neither a file nor a trace id" in result.output
