"""The AppConfig documents: what is valid, what is refused, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mangaassist_assets.chatbot.configuration.documents import (
    PromptsDocument,
    RoutingDocument,
    default_documents,
    dump_document,
    overlay,
    parse_document,
    profile_of,
)
from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError, unknown_fields
from mangaassist_assets.chatbot.configuration.profiles import PROFILES


def test_the_default_documents_are_valid_and_come_back_from_their_bytes():
    documents = default_documents()
    assert tuple(documents) == PROFILES
    for profile, document in documents.items():
        assert parse_document(profile, dump_document(document)) == document
        assert profile_of(document) == profile


def test_equal_documents_are_equal_bytes():
    document = default_documents()["routing"]
    reordered = dict(reversed(json.loads(dump_document(document)).items()))
    assert dump_document(parse_document("routing", json.dumps(reordered))) == dump_document(document)


@pytest.mark.parametrize(
    ("profile", "content", "reason"),
    [
        ("prompts", "[]", "of type list, not an object"),
        ("prompts", "not json", "is not JSON: Expecting value in line 1, column 1"),
        ("prompts", "", "is empty"),
        ("prompts", '{"version": "1", "version": "2"}', "names 'version' twice"),
        ("routing", '{"version": "1", "temperature": NaN}', "NaN is no number"),
        ("routing", '{"version": "1", "other": -Infinity}', "Infinity is no number"),
        ("routing", '{"version": "1", "other": [1e999]}', "1e999, which is too large"),
        ("routing", '{"version": "1", "deep": ' + "[" * 100_000, "nested too deeply"),
        ("prompts", {}, "version: Field required"),
        ("prompts", {"version": ""}, "version"),
        ("prompts", {"version": "1", "user": "no slots"}, r"\{context\} exactly once"),
        ("prompts", {"version": "1", "user": "{context} {question} {question}"}, r"\{question\} exactly once"),
        ("routing", {"version": "1", "selected_chunks": "3"}, "selected_chunks"),
        ("routing", {"version": "1", "selected_chunks": 9, "rerank_candidates": 8}, "must not exceed"),
        ("routing", {"version": 1}, "version"),
        ("guardrails", {"version": "1", "minimum_best_relevance": 1.5}, "minimum_best_relevance"),
        ("guardrails", {"version": "1", "blocked_patterns": ["("]}, "not a regular expression"),
        ("guardrails", {"version": "1", "blocked_patterns": ["(a+)+"]}, "repeats a repetition"),
        ("guardrails", {"version": "1", "blocked_patterns": [""]}, "1 to 500"),
        ("routing", {"version": "1", "shadow_mode": "on"}, "shadow_mode: "),
        ("routing", {"version": "1", "shadow_mode": {"enabled": 1}}, r"shadow_mode\.enabled: "),
        ("routing", {"version": "1", "shadow_mode": {"deadline_ms": 0}}, r"shadow_mode\.deadline_ms: "),
        ("routing", {"version": "1", "shadow_mode": {"intent_endpoint": "no spaces"}}, "intent_endpoint: "),
        ("prices", {"version": "1"}, "there is no such profile; there are"),
    ],
)
def test_an_invalid_document_is_refused_by_name(profile, content, reason):
    with pytest.raises(ConfigurationDocumentError, match=reason):
        parse_document(profile, content if isinstance(content, str) else json.dumps(content))


def test_the_error_never_repeats_the_content():
    with pytest.raises(ConfigurationDocumentError) as caught:
        parse_document("prompts", json.dumps({"version": "1", "secret": "hunter2", "system": ["hunter3"]}))
    assert "hunter" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused_with_their_place():
    with pytest.raises(ConfigurationDocumentError, match="document: is not UTF-8: byte 12"):
        parse_document("prompts", b'{"version":"\xff"}')


def test_a_byte_order_mark_is_no_problem():
    assert parse_document("prompts", b'\xef\xbb\xbf{"version": "1"}').version == "1"


def test_fields_that_are_unknown_are_kept_through_reading_and_writing():
    content = {
        "version": "1",
        "rollout": {"plan": [1, None, "x"]},
        "shadow_mode": {"enabled": False, "owner": "search"},
    }
    document = parse_document("routing", json.dumps(content))
    written = json.loads(dump_document(document))
    assert written["rollout"] == content["rollout"]
    assert written["shadow_mode"]["owner"] == "search"
    assert parse_document("routing", dump_document(document)) == document


def test_unknown_fields_are_named_by_their_place_and_by_what_they_resemble():
    content = {"version": "1", "selected_chunk": 3, "canary": 1, "shadow_mode": {"enabled": True, "dedline_ms": 5}}
    found = unknown_fields(parse_document("routing", json.dumps(content)))
    assert [(one.field, one.resembles) for one in found] == [
        ("canary", None),
        ("selected_chunk", "selected_chunks"),
        ("shadow_mode.dedline_ms", "deadline_ms"),
    ]


def test_a_shadow_flag_may_be_bare_or_an_object():
    for flag in (True, {"enabled": True}):
        document = parse_document("routing", json.dumps({"version": "1", "shadow_mode": flag}))
        assert isinstance(document, RoutingDocument)
        assert document.shadow_mode.enabled
    assert not RoutingDocument(version="1").shadow_mode.enabled


ARMS = {"control": {"share": 0.5}, "deep": {"share": 0.5, "routing": {"version": "r-deep", "selected_chunks": 5}}}


def experiments(**changes: object) -> dict[str, object]:
    return {"version": "1", "experiments": {"depth": {"control": "control", "arms": ARMS} | changes}}


def test_a_split_is_read_with_its_overrides():
    document = parse_document("experiments", json.dumps(experiments()))
    arm = document.experiments["depth"].arms["deep"]
    assert overlay(RoutingDocument(version="r1", vector_candidates=7), arm.routing) == RoutingDocument(
        version="r-deep", vector_candidates=7, selected_chunks=5
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            experiments(arms={"a": {"share": 0.6}, "control": {"share": 0.6}}),
            r"depth\.arms: .*add up to 1\.2, not to 1",
        ),
        (experiments(arms={"a": {"share": 50}, "control": {"share": 50}}), r"depth\.arms\.a\.share: "),
        (experiments(arms={"a": {"share": -0.5}, "control": {"share": 1.5}}), r"depth\.arms\.a\.share: "),
        (experiments(arms={"a": {}, "control": {"share": 1}}), r"depth\.arms\.a\.share: Field required"),
        (experiments(arms={"control": {"share": 1}}), r"depth\.arms: .*at least 2"),
        (experiments(arms=["control", "a"]), r"depth\.arms: "),
        (experiments(control="b"), "control 'b' is none of the arms"),
        (experiments(control=None), r"depth\.control: "),
        (experiments(enabled="yes"), r"depth\.enabled: "),
        (experiments(assign_by="trace"), r"depth\.assign_by: "),
        (
            experiments(arms={"control": {"share": 0.5}, "a:b": {"share": 0.5}}),
            r"depth\.arms\.a:b",
        ),
        (
            experiments(
                arms={"control": {"share": 0.5}, "a": {"share": 0.5, "prompts": {"version": "2", "user": "hi"}}}
            ),
            r"depth\.arms\.a\.prompts\.user: .*exactly once",
        ),
        (
            experiments(arms={"control": {"share": 0.5}, "a": {"share": 0.5, "routing": {"selected_chunks": 3}}}),
            r"depth\.arms\.a\.routing\.version: Field required",
        ),
        (
            experiments(
                arms={
                    "control": {"share": 0.5, "routing": {"version": "2", "selected_chunks": 3}},
                    "a": {"share": 0.5, "routing": {"version": "2", "selected_chunks": 4}},
                }
            ),
            "version 2 another content than an earlier arm",
        ),
        (
            {
                "version": "1",
                "experiments": {
                    "one": {"control": "control", "arms": ARMS},
                    "two": {"control": "control", "arms": ARMS},
                },
            },
            "experiments: .*one and two both replace routing",
        ),
        ({"version": "1", "experiments": [{"name": "depth"}]}, "experiments: "),
    ],
)
def test_an_experiment_that_cannot_be_run_is_refused_by_its_place(content, reason):
    with pytest.raises(ConfigurationDocumentError, match=reason):
        parse_document("experiments", json.dumps(content))


def test_an_override_is_judged_with_the_document_it_lies_over():
    document = parse_document("experiments", json.dumps(experiments()))
    override = document.experiments["depth"].arms["deep"].routing
    with pytest.raises(ConfigurationDocumentError, match=r"selected_chunks \(5\) must not exceed"):
        overlay(RoutingDocument(version="r1", rerank_candidates=4), override)
    with pytest.raises(ConfigurationDocumentError, match="'r-deep' like the version in force"):
        overlay(RoutingDocument(version="r-deep"), override)
    # The arm that won and was deployed is still the same arm.
    won = RoutingDocument(version="r-deep", selected_chunks=5)
    assert overlay(won, override) == won


def test_an_override_says_nothing_of_what_it_does_not_state():
    override = parse_document(
        "experiments",
        json.dumps(
            experiments(arms={"control": {"share": 0.5}, "kind": {"share": 0.5, "prompts": {"version": "2", "new": 1}}})
        ),
    )
    base = PromptsDocument(version="1", system="Be brief.", fallback="Ask us.")
    laid = overlay(base, override.experiments["depth"].arms["kind"].prompts)
    assert (laid.version, laid.system, laid.fallback) == ("2", "Be brief.", "Ask us.")
    assert [one.field for one in unknown_fields(override)] == ["experiments.depth.arms.kind.prompts.new"]


def test_the_documents_that_the_documentation_shows_are_valid_and_hold_nothing_unknown():
    text = (Path(__file__).parents[4] / "docs" / "configuration.md").read_text("utf-8")
    shown = re.findall(r"^```json (\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert [profile for profile, _ in shown] == ["experiments", "routing"]
    for profile, content in shown:
        assert unknown_fields(parse_document(profile, content)) == ()
