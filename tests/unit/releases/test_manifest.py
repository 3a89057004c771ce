import pytest

from mangaassist_assets.releases.manifest import LearnedModel, build_manifest
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.turn_frames import turns_frame


def turn(number, **fields):
    defaults = {
        "trace_id": f"tr-{number}",
        "timestamp_ms": number,
        "duration_ms": 10,
        "state": "OK",
        "release_bundle": "rc1",
        "session_id": "s",
        "message": "where is my order",
    }
    return ChatTurn(**{**defaults, **fields})


LEARNED = {
    "intent_classifier": LearnedModel(
        dataset_digest="d" * 64, challenger_version="2", champion_version="1", artifact_sha256="a" * 64, verdict="pass"
    )
}


def test_the_manifest_counts_what_served_the_bundle():
    turns = [turn(1, intent_model_version="3"), turn(2, intent_model_version="4"), turn(3, intent_model_version="4")]
    manifest = build_manifest("rc1", turns_frame(turns), learned=LEARNED)
    assert [(one.version, one.turns) for one in manifest.served["intent_model_version"]] == [("4", 2), ("3", 1)]
    assert manifest.mixed_components == ("intent_model_version",)
    assert "reranker_version" in manifest.missing_components


def test_the_digest_does_not_depend_on_the_order_of_turns():
    turns = [turn(1, prompt_version="p1"), turn(2, prompt_version="p2"), turn(3)]
    assert (
        build_manifest("rc1", turns_frame(turns), learned=LEARNED).digest
        == build_manifest("rc1", turns_frame(turns).reverse(), learned=LEARNED).digest
    )


def test_the_digest_changes_with_one_version():
    one = build_manifest("rc1", turns_frame([turn(1, prompt_version="p1")]), learned=LEARNED)
    other = build_manifest("rc1", turns_frame([turn(1, prompt_version="p2")]), learned=LEARNED)
    assert one.digest != other.digest


def test_a_turn_of_another_bundle_is_refused():
    with pytest.raises(ValueError, match="tr-1 belongs to bundle 'rc2'"):
        build_manifest("rc1", turns_frame([turn(1, release_bundle="rc2")]), learned={})


def test_the_figures_name_what_served_what_is_missing_and_what_was_learned():
    turns = [turn(1, intent_model_version="3"), turn(2, intent_model_version="4")]
    figures = build_manifest("rc1", turns_frame(turns), learned=LEARNED).figures()
    assert figures["mixed"] == [{"component": "intent_model_version"}]
    assert {"component": "reranker_version"} in figures["missing"]
    assert {"component": "intent_model_version", "version": "3", "turns": 1} in figures["served"]
    assert figures["learned"] == [
        {"model": "intent_classifier", "dataset": "d" * 12, "challenger": "2", "verdict": "pass"}
    ]
