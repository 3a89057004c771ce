"""A planted fault through a real tracking server, and the asset that says which stage was broken."""

from __future__ import annotations

import json
from types import SimpleNamespace
from uuid import uuid4

import dagster as dg
import pytest

from mangaassist_assets.assets.mining import failed_traces
from mangaassist_assets.chatbot.simulation import SimulationConfig, simulate, traces_of
from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.mining.blame.blame import find_failures
from mangaassist_assets.mining.blame.rules import read_rules
from mangaassist_assets.mining.blame.stored_failures import FAILURES_FILE, RULES_FILE, read_failures
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from resources.mlflow.tracking import MlflowResource
from resources.settings.mining import MiningResource
from resources.store import StoreResource
from tests.support.answer_check import ExtractCheck
from tests.support.chatbot_faults import InvertedScores, WrongAnswers
from tests.support.mining_rules import changed_rules
from tests.support.planted_faults import (
    BUNDLE,
    DOCUMENTS,
    drive,
    messages,
    passage,
    share_named,
    truthful_parts,
    without_evidence,
)
from tests.support.reviewers import review_failing
from tests.support.store_chatbot import KEY, MemoryStream
from tests.support.turn_frames import turns_frame
from tests.support.turn_reading import read_turns

pytestmark = pytest.mark.integration

MESSAGES = messages(80)
THUMBS = "[signals.thumbs_down]\nexplicit = true"


@pytest.mark.usefixtures("stand_ins_environment")
def test_a_broken_generator_is_blamed_by_what_mlflow_kept_of_traces_thumbs_and_reviews():
    mlflow = MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")
    fault = WrongAnswers(kind="off_topic", share=0.5)
    check = ExtractCheck({document: [passage(document)] for document in DOCUMENTS})
    chatbot = fault.plant(truthful_parts(MESSAGES)).chatbot(mlflow.trace_sink(), pseudonym_key=KEY)
    simulate(
        MESSAGES[:48],
        chatbot,
        MemoryStream(),
        mlflow.reviewer(),
        release_bundle=BUNDLE,
        config=SimulationConfig(answer_check=check),
    )
    driven = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
    utterances = traces_of(MESSAGES[:48], chatbot, release_bundle=BUNDLE, seed=0)
    report = review_failing(utterances, driven, mlflow.reviewer(), share=0.6, answer_check=check)
    reading = read_turns(mlflow.read_traces(BUNDLE))
    said = [review for turn in reading.turns for review in turn.reviews if review.name == "correctness"]
    assert reading.quarantined == ()
    assert len(said) == report.reviews >= 5
    assert {(review.kind, review.values, review.source) for review in said} == {("feedback", ("false",), "human")}
    named, unknown = share_named(find_failures(reading.turns), "generation")
    assert named >= 0.9
    assert unknown < 0.8
    stripped = find_failures([without_evidence(turn) for turn in reading.turns])
    assert {failure.blame.stage for failure in stripped} == {"unknown"}


@pytest.fixture(scope="module")
def turns():
    """The turns of one bundle whose reranker ranks upside down."""
    return drive(MESSAGES, truthful_parts(MESSAGES), InvertedScores()).turns


@pytest.fixture
def mined(tmp_path, turns):
    """A store with these turns."""
    store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    store.snapshots().write(
        "tagged_traces",
        {
            TURNS_FILE: to_parquet(turns_frame(turns)),
            TURNS_CARD_FILE: canonical_json({"turns": len(turns), "first_timestamp_ms": turns[0].timestamp_ms}),
        },
        partition=BUNDLE,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(release_bundles.name, [BUNDLE])
        yield SimpleNamespace(store=store, instance=instance, turns=turns)


def materialize(mined, mining: MiningResource):
    result = dg.materialize(
        [failed_traces],
        resources={"store": mined.store, "mining": mining},
        instance=mined.instance,
        partition_key=BUNDLE,
        raise_on_error=False,
    )
    events = result.asset_materializations_for_node("failed_traces") if result.success else ()
    return result, {name: value for one in events for name, value in one.metadata.items()}


def rows(value: dg.TableMetadataValue) -> list[dict]:
    return [dict(record.data) for record in value.records]


def test_the_asset_explains_every_failure_and_keeps_the_rules_it_was_made_under(mined):
    result, metadata = materialize(mined, MiningResource())
    assert result.success
    failures = read_failures(mined.store.snapshots(), BUNDLE)
    assert failures == find_failures(mined.turns)
    blame = {row["stage"]: row for row in rows(metadata["blame"])}
    assert sum(row["turns"] for row in blame.values()) == metadata["dagster/row_count"].value == len(failures)
    assert blame["reranker"]["feeds"] == "retrain_reranker"
    assert blame["reranker"]["mean_confidence"] > 0.5
    why = rows(metadata["why"])
    assert len(why) == 20
    assert all(row["signals"] and row["evidence"] and row["also_considered"] for row in why)
    assert metadata["rules_digest"].value == read_rules().digest
    assert len(rows(metadata["rules"])) == len(read_rules().signals) + len(read_rules().evidence)
    snapshot = mined.store.snapshots().latest("failed_traces", partition=BUNDLE)
    assert mined.store.snapshots().read_json(snapshot, RULES_FILE)["digest"] == read_rules().digest
    stored = mined.store.snapshots().read_json(snapshot, FAILURES_FILE)
    assert all(len({finding["stage"] for finding in row["considered"]}) == 6 for row in stored)


def test_no_message_gets_into_the_explanation(mined):
    _, metadata = materialize(mined, MiningResource())
    snapshot = mined.store.snapshots().latest("failed_traces", partition=BUNDLE)
    told = json.dumps(rows(metadata["why"])) + json.dumps(mined.store.snapshots().read_json(snapshot, FAILURES_FILE))
    assert not any(turn.message in told for turn in mined.turns)


def test_other_rules_make_another_snapshot_and_the_same_ones_the_same(mined, tmp_path):
    def digest(mining: MiningResource) -> str:
        assert materialize(mined, mining)[0].success
        return mined.store.snapshots().latest("failed_traces", partition=BUNDLE).digest

    own = tmp_path / "own.toml"
    own.write_text(changed_rules(THUMBS, THUMBS.replace("true", "false")), encoding="utf-8")
    packaged = digest(MiningResource())
    assert digest(MiningResource(path=str(own))) != packaged
    assert {signal.name for one in read_failures(mined.store.snapshots(), BUNDLE) for signal in one.signals} >= {
        "failed_review"
    }
    assert digest(MiningResource()) == packaged


def test_wrong_rules_fail_the_run_with_file_and_key_and_leave_the_snapshot_alone(mined, tmp_path):
    materialize(mined, MiningResource())
    before = mined.store.snapshots().latest("failed_traces", partition=BUNDLE).digest
    own = tmp_path / "own.toml"
    own.write_text(changed_rules(THUMBS, THUMBS.replace("true", '"sometimes"')), encoding="utf-8")
    result, _ = materialize(mined, MiningResource(path=str(own)))
    assert not result.success
    (failure,) = result.get_step_failure_events()
    message = failure.step_failure_data.error.cause.message
    assert "own.toml: signals.thumbs_down.explicit is 'sometimes', neither true nor false" in message
    assert mined.store.snapshots().latest("failed_traces", partition=BUNDLE).digest == before
