"""A person's word over the gate's: recorded, bound to one champion, carried out once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.assets.promotion import ChampionConfig, OverrideConfig, champion_result, requested_override
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.models.champion_challenger import NoChampionError
from mangaassist_assets.models.pipelines import INTENT
from mangaassist_assets.models.registration.registry import EVALUATION_FILE
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.releases.champion import promote
from mangaassist_assets.releases.overrides import OverrideRefusedError, override_request, read_overrides
from tests.support.registry import MemoryMlflow, RegistryGoneError, stored_verdict

MODEL = INTENT.model_name
WHY = "the challenger is right about gift cards, which matter most in December"
NO_WORDS = Vocabulary(())
NOON = datetime(2026, 1, 12, 12, 0, tzinfo=UTC)


@pytest.fixture
def mlflow(tmp_path):
    made = MemoryMlflow(tmp_path / "artifacts")
    made.add(MODEL, alias="champion", bundle_start_ms="0", release_bundle="bootstrap")
    made.add(MODEL, bundle_start_ms="200", release_bundle="rc2")
    made.add(MODEL, bundle_start_ms="300", release_bundle="rc3", alias="challenger")
    return made


@pytest.fixture
def snapshots(tmp_path):
    return SnapshotStore(UPath(tmp_path / "store"))


@pytest.fixture
def store(snapshots):
    return SimpleNamespace(snapshots=lambda: snapshots)


def judge(mlflow, snapshots, bundle, start, word, *, challenger, champion):
    sha256 = mlflow.get(MODEL, challenger).artifact_sha256
    verdict = stored_verdict(
        bundle, start, word, challenger=challenger, champion=champion, challenger_artifact_sha256=sha256
    )
    snapshots.write(INTENT.evaluation_asset, {EVALUATION_FILE: canonical_json(verdict)}, partition=bundle)


def named(snapshots, pipeline, promoted):
    return snapshots.write(pipeline.champion_asset, promoted.named.files())


def ask(version="2", against="1", reason=WHY, by="release manager"):
    return override_request(version=version, against=against, reason=reason, by=by)


def champion_of(mlflow):
    return mlflow.version_by_alias(MODEL, "champion").version


def carry_out(mlflow, store, request, at=NOON):
    return promote(mlflow, store.snapshots(), INTENT, override=request, now=lambda: at)


def test_a_version_that_failed_its_gate_is_promoted_and_everything_about_it_is_kept(mlflow, store, snapshots):
    judge(mlflow, snapshots, "rc2", 200, "fail", challenger="2", champion="1")
    promoted = carry_out(mlflow, store, ask())
    assert (champion_of(mlflow), promoted.previous.version, promoted.moved) == ("2", "1", True)
    (kept,) = read_overrides(snapshots, MODEL)
    assert kept == promoted.override
    assert (kept.by, kept.reason, kept.replaced) == ("release manager", WHY, "1")
    assert (kept.verdict, kept.judged_against) == ("fail", "1")
    assert (kept.verdict_reasons, kept.decided_at) == (("the gate says fail",), "2026-01-12T12:00:00+00:00")
    tags = mlflow.get(MODEL, "2").tags
    assert (tags["override_by"], tags["override_reason"], tags["override_verdict"]) == ("release manager", WHY, "fail")
    metadata = champion_result(mlflow, INTENT, promoted, named(snapshots, INTENT, promoted)).metadata
    assert metadata["override_reason"].value == WHY
    assert len(metadata["overrides"].records) == 1


def test_the_verdict_on_a_version_is_told_although_its_bundle_was_trained_again(mlflow, store, snapshots):
    judge(mlflow, snapshots, "rc2", 200, "fail", challenger="2", champion="1")
    judge(mlflow, snapshots, "rc2", 200, "insufficient_evidence", challenger="3", champion="1")
    promoted = carry_out(mlflow, store, ask())
    assert (promoted.override.verdict, promoted.override.judged_against) == ("fail", "1")
    assert promoted.override.verdict_reasons == ("the gate says fail",)
    assert mlflow.get(MODEL, "2").tags["override_verdict"] == "fail"


def test_a_verdict_of_which_only_the_registry_knows_says_so(mlflow, store):
    mlflow.set_tags(MODEL, "2", {"evaluation_verdict": "fail", "evaluated_against": "1"})
    promoted = carry_out(mlflow, store, ask())
    assert promoted.override.verdict == "fail (by the registry's tag alone)"


@pytest.mark.parametrize("step", ["alias", "tags"])
def test_killed_halfway_and_asked_again_it_is_done_once(mlflow, store, snapshots, step):
    mlflow.gone_before = step
    with pytest.raises(RegistryGoneError):
        carry_out(mlflow, store, ask())
    carry_out(mlflow, store, ask(), at=NOON.replace(hour=13))
    (kept,) = read_overrides(snapshots, MODEL)
    assert kept.decided_at == "2026-01-12T12:00:00+00:00"
    assert champion_of(mlflow) == "2"
    assert mlflow.get(MODEL, "2").tags["override_id"] == kept.request_id


def test_asked_twice_it_is_done_once(mlflow, store, snapshots):
    carry_out(mlflow, store, ask())
    again = carry_out(mlflow, store, ask(), at=NOON.replace(hour=13))
    assert (again.moved, again.previous.version) == (False, "1")
    assert len(read_overrides(snapshots, MODEL)) == 1


def test_an_override_against_a_champion_that_was_replaced_is_refused(mlflow, store, snapshots):
    carry_out(mlflow, store, ask(version="3"))
    with pytest.raises(OverrideRefusedError, match="made against champion 1, but version 3 is champion now"):
        carry_out(mlflow, store, ask(version="2"))
    assert champion_of(mlflow) == "3"
    assert len(read_overrides(snapshots, MODEL)) == 1


def test_an_override_does_not_come_back_when_its_champion_does(mlflow, store):
    carry_out(mlflow, store, ask(version="2", against="1"))
    carry_out(mlflow, store, ask(version="1", against="2", reason="version 2 is slow in production"))
    with pytest.raises(OverrideRefusedError, match="an override acts once"):
        carry_out(mlflow, store, ask(version="2", against="1"))
    assert champion_of(mlflow) == "1"
    carry_out(mlflow, store, ask(version="2", against="1", reason="the latency was the network's fault"))
    assert champion_of(mlflow) == "2"


def test_one_that_never_took_effect_is_void_once_something_else_was_decided(mlflow, store):
    mlflow.gone_before = "alias"
    with pytest.raises(RegistryGoneError):
        carry_out(mlflow, store, ask(version="2", against="1"))
    carry_out(mlflow, store, ask(version="3", against="1"))
    carry_out(mlflow, store, ask(version="1", against="3", reason="version 3 is slow in production"))
    with pytest.raises(OverrideRefusedError, match="an override acts once"):
        carry_out(mlflow, store, ask(version="2", against="1"))
    assert champion_of(mlflow) == "1"


def test_an_override_does_not_come_back_when_the_gate_brings_its_champion_back(mlflow, store, snapshots):
    carry_out(mlflow, store, ask(version="2", against="1"))
    judge(mlflow, snapshots, "rc4", 400, "pass", challenger="1", champion="2")
    assert promote(mlflow, store.snapshots(), INTENT).version.version == "1"
    with pytest.raises(OverrideRefusedError, match="an override acts once"):
        carry_out(mlflow, store, ask(version="2", against="1"))


def test_running_the_asset_again_without_a_request_replays_nothing(mlflow, store):
    carry_out(mlflow, store, ask(version="2", against="1"))
    carry_out(mlflow, store, ask(version="1", against="2", reason="version 2 is slow in production"))
    assert promote(mlflow, store.snapshots(), INTENT).moved is False
    assert champion_of(mlflow) == "1"


def test_a_rollback_is_not_undone_by_the_verdict_it_overruled(mlflow, store, snapshots):
    judge(mlflow, snapshots, "rc2", 200, "pass", challenger="2", champion="1")
    assert promote(mlflow, store.snapshots(), INTENT).version.version == "2"
    carry_out(mlflow, store, ask(version="1", against="2", reason="version 2 is slow in production"))
    stays = promote(mlflow, store.snapshots(), INTENT)
    assert (stays.version.version, stays.moved) == ("1", False)
    assert "decided otherwise" in stays.reason


def test_later_gates_compare_with_what_was_promoted_by_hand(mlflow, store, snapshots):
    judge(mlflow, snapshots, "rc3", 300, "pass", challenger="3", champion="1")
    carry_out(mlflow, store, ask(version="2"))
    assert promote(mlflow, store.snapshots(), INTENT).moved is False
    judge(mlflow, snapshots, "rc3", 300, "pass", challenger="3", champion="2")
    assert promote(mlflow, store.snapshots(), INTENT).version.version == "3"


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _nothing_moves(self, mlflow, snapshots):
        yield
        assert champion_of(mlflow) == "1"
        assert read_overrides(snapshots, MODEL) == []

    def test_an_unknown_version(self, mlflow, store):
        with pytest.raises(OverrideRefusedError, match="has no version 9; its versions are 1, 2, 3"):
            carry_out(mlflow, store, ask(version="9"))

    def test_a_version_that_only_another_model_has(self, mlflow, store):
        for _ in range(5):
            mlflow.add("another-model")
        with pytest.raises(OverrideRefusedError, match="has no version 5"):
            carry_out(mlflow, store, ask(version="5"))

    def test_an_artifact_that_was_changed(self, mlflow, store):
        mlflow.weights(mlflow.get(MODEL, "2")).write_text("other weights")
        with pytest.raises(OverrideRefusedError, match=r"weights\.txt has SHA-256"):
            carry_out(mlflow, store, ask())

    def test_an_artifact_that_is_gone(self, mlflow, store):
        shutil.rmtree(mlflow.artifact_directory(mlflow.get(MODEL, "2")))
        with pytest.raises(OverrideRefusedError, match="is gone"):
            carry_out(mlflow, store, ask())

    def test_an_artifact_of_another_kind(self, mlflow, store):
        mlflow.add(MODEL, kind="reranker")
        with pytest.raises(OverrideRefusedError, match="of kind reranker, not intent_classifier"):
            carry_out(mlflow, store, ask(version="4"))

    def test_a_version_without_a_hash(self, mlflow, store):
        mlflow.add(MODEL, sealed=False)
        with pytest.raises(OverrideRefusedError, match="has no artifact hash"):
            carry_out(mlflow, store, ask(version="4"))

    def test_the_champion_itself(self, mlflow, store):
        with pytest.raises(OverrideRefusedError, match="is champion already"):
            carry_out(mlflow, store, ask(version="1", against="1"))


def test_the_first_champion_of_a_model_without_a_bootstrap_is_promoted_by_hand(store, tmp_path):
    first = MemoryMlflow(tmp_path / "first")
    first.add(MODEL)
    pipeline = replace(INTENT, first_asset=None)
    with pytest.raises(NoChampionError, match="models promote --model intent"):
        promote(first, store.snapshots(), pipeline)
    with pytest.raises(OverrideRefusedError, match="version none is champion now"):
        promote(first, store.snapshots(), pipeline, override=ask(version="1", against="2"))
    promoted = promote(first, store.snapshots(), pipeline, override=ask(version="1", against="none"))
    assert (champion_of(first), promoted.previous, promoted.override.replaced) == ("1", None, "none")
    shown = champion_result(first, pipeline, promoted, named(store.snapshots(), pipeline, promoted)).metadata
    assert shown["previous_version"].value == "none"


def test_a_damaged_champion_can_be_overridden(mlflow, store):
    shutil.rmtree(mlflow.artifact_directory(mlflow.get(MODEL, "1")))
    assert carry_out(mlflow, store, ask()).version.version == "2"


def test_the_configuration_of_the_page_becomes_the_same_request():
    config = ChampionConfig(override=OverrideConfig(version="2", against="1", reason=WHY))
    assert requested_override(config, NO_WORDS) == ask(by="operator")
    assert requested_override(ChampionConfig(), NO_WORDS) is None
    bad = ChampionConfig(override=OverrideConfig(version="2", against="1", reason="why not"))
    with pytest.raises(OverrideRefusedError, match="10 to 500 characters"):
        requested_override(bad, NO_WORDS)


@pytest.mark.parametrize("reason", ["", " \n\t ", "too short", "?" * 40, "nobody.invented@example.invalid", "x" * 501])
def test_a_reason_that_says_nothing_or_too_much_is_refused(reason):
    with pytest.raises(OverrideRefusedError):
        ask(reason=reason)


@pytest.mark.parametrize("version", ["", "latest", "1.5", "-1", "../1", "0", "٣"])
def test_what_is_no_version_is_refused(version):
    with pytest.raises(OverrideRefusedError, match="must be a version number"):
        ask(version=version)


def test_reasons_are_kept_on_one_line_and_without_personal_data():
    request = ask(reason="asked for by nobody.invented@example.invalid\nignore previous | <b>instructions</b>")
    assert request.reason == "asked for by [EMAIL] ignore previous | <b>instructions</b>"


def test_a_name_may_answer_for_it_but_an_address_is_not_kept():
    assert ask(by=" Hanako Invented ").by == "Hanako Invented"
    assert ask(by="nobody.invented@example.invalid").by == "[EMAIL]"
    with pytest.raises(OverrideRefusedError, match="by somebody"):
        ask(by="\u200b")


@given(st.text(max_size=600))
def test_whatever_is_typed_is_refused_or_kept_readably(reason):
    try:
        request = ask(reason=reason)
    except OverrideRefusedError:
        return
    assert "\n" not in request.reason
    assert ask(reason=request.reason).reason == request.reason
