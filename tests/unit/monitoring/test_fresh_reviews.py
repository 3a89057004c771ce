"""A champion is judged again on reviews that are fresh to it, and on no other."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.versions import seal_version
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from mangaassist_assets.monitoring.champion_health import judge_champion
from mangaassist_assets.monitoring.fresh_reviews import (
    ITSELF,
    OTHERS,
    UNKNOWN,
    ChampionDatasetGoneError,
    fresh_reviews,
)
from mangaassist_assets.privacy import pseudonym
from mangaassist_assets.tracing.erasure import record_erasure
from tests.support.dataset_store import (
    EARLIER,
    LATER,
    build,
    fill,
    put_dataset,
    put_turns,
    reviewed_turn,
    write_version,
)
from tests.support.registry import MemoryMlflow
from tests.support.reviewed_traffic import (
    PhrasebookModelType,
    bundle_name,
    fill_corpus,
    message,
    put_intent_dataset,
    put_reviewed_bundle,
)

MODEL = INTENT.model_name


@pytest.fixture
def store(tmp_path):
    made = SnapshotStore(UPath(tmp_path / "store"))
    fill_corpus(made)
    return made


@pytest.fixture
def mlflow(tmp_path):
    return MemoryMlflow(tmp_path / "artifacts")


def promoted(mlflow, version=None, number=0):
    """Register a champion that was made of a bundle's dataset; without one, of the bootstrap's corpus."""
    if version is None:
        return mlflow.add(MODEL, alias="champion", release_bundle="bootstrap", dataset_digest="0" * 64)
    return mlflow.add(
        MODEL,
        alias="champion",
        release_bundle=bundle_name(number),
        dataset_digest=version.digest,
        dataset_version=version.card.version,
    )


def ids(rows):
    return {example_id for one in rows for example_id in one.frame["example_id"].to_list()}


def test_fresh_is_what_was_reviewed_after_the_champions_dataset_was_closed(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=10, served_by="9")
    champion = promoted(mlflow, put_intent_dataset(store, 0))
    put_reviewed_bundle(store, 1, reviews=20, wrong=4, served_by="1")
    put_intent_dataset(store, 1)
    found = fresh_reviews(store, INTENT, champion)
    assert ids(found.later) == {f"trace-tr-1-{place}" for place in range(20)}
    assert {one.release_bundle for one in found.promotion} == {bundle_name(0)}
    assert all(one.frame["split"].unique().to_list() == ["test"] for one in [*found.later, *found.promotion])
    assert ids(found.promotion)
    assert not ids(found.promotion) & ids(found.later)


def test_what_the_champion_learned_from_or_nearly_is_left_out_and_counted(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=0, served_by="9")
    version = put_intent_dataset(store, 0)
    champion = promoted(mlflow, version)
    taught = version.frame.filter((pl.col("split") == "train") & (pl.col("label_kind") == "human"))["text"].to_list()
    repeats = [taught[0].upper(), f"{taught[1]} a"]
    put_reviewed_bundle(store, 1, reviews=10, wrong=0, served_by="1", repeats=repeats)
    put_intent_dataset(store, 1)
    found = fresh_reviews(store, INTENT, champion)
    assert ids(found.later) == {f"trace-tr-1-{place}" for place in range(10)}
    # The copy was dropped by the dataset itself, which keeps the older one.
    assert found.excluded == {"the champion learned from nearly this message": 1}


def test_shoppers_whose_sessions_it_learned_from_are_left_out(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=0, served_by="9")
    version = put_intent_dataset(store, 0)
    champion = promoted(mlflow, version)
    put_reviewed_bundle(store, 1, reviews=10, wrong=0, served_by="1")
    later = put_intent_dataset(store, 1)
    session = version.frame.filter((pl.col("split") == "train") & (pl.col("label_kind") == "human"))["session_id"][0]
    moved = later.frame.with_columns(
        pl.when(pl.col("example_id") == "trace-tr-1-3")
        .then(pl.lit(session))
        .otherwise(pl.col("session_id"))
        .alias("session_id")
    )
    sealed = seal_version(moved, Provenance(kind="intent", as_of=bundle_name(1), as_of_ms=later.card.as_of_ms))
    write_version(store, INTENT.dataset_asset, sealed, partition=bundle_name(1))
    found = fresh_reviews(store, INTENT, champion)
    assert "trace-tr-1-3" not in ids(found.later)
    assert found.excluded == {"the champion learned from this shopper or session": 1}


def test_who_answered_tells_how_a_review_came_about(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=0, served_by="9")
    champion = promoted(mlflow, put_intent_dataset(store, 0))
    for number, served_by in ((1, "1"), (2, "9"), (3, None)):
        put_reviewed_bundle(store, number, reviews=8, wrong=0, served_by=served_by)
        put_intent_dataset(store, number)
    found = fresh_reviews(store, INTENT, champion)
    assert [one.selection for one in found.later] == [ITSELF, OTHERS, UNKNOWN]
    assert [one.selection for one in found.promotion] == [OTHERS]


def test_a_champion_of_the_bootstrap_is_judged_on_all_reviews_but_its_corpus(store, mlflow):
    corpus_message = message(900_000)
    put_reviewed_bundle(store, 0, reviews=10, wrong=0, served_by="1", repeats=[f"{corpus_message} a"])
    put_intent_dataset(store, 0)
    found = fresh_reviews(store, INTENT, promoted(mlflow))
    assert len(ids(found.later)) == 10
    assert (found.promotion, found.as_of_ms) == ((), None)


def test_before_anything_was_reviewed_there_is_nothing_to_judge_on(store, mlflow):
    champion = promoted(mlflow)
    found = fresh_reviews(store, INTENT, champion)
    assert (found.promotion, found.later, found.excluded) == ((), (), {})
    health = judge_champion(mlflow, store, INTENT, PhrasebookModelType(), champion)
    assert (health.report.outcome, health.unknown) == ("too_few", 0)


def test_a_champion_whose_dataset_is_gone_cannot_be_judged(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=10, wrong=0, served_by="9")
    version = put_intent_dataset(store, 0)
    champion = promoted(mlflow, replace(version, card=replace(version.card, digest="f" * 64)))
    with pytest.raises(ChampionDatasetGoneError, match=r"intent_dataset f{12} of 2026\.01\.01-rc1"):
        fresh_reviews(store, INTENT, champion)


def test_erased_users_are_judged_on_no_more(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=0, served_by="9")
    version = put_intent_dataset(store, 0)
    champion = promoted(mlflow, version)
    whole = fresh_reviews(store, INTENT, champion)
    user = pseudonym("nobody.invented", b"key")
    some = min(ids(whole.promotion))
    owned = version.frame.with_columns(
        pl.when(pl.col("example_id") == some).then(pl.lit(user)).otherwise(pl.col("user_key")).alias("user_key")
    )
    sealed = seal_version(owned, Provenance(kind="intent", as_of=bundle_name(0), as_of_ms=version.card.as_of_ms))
    write_version(store, INTENT.dataset_asset, sealed, partition=bundle_name(0))
    champion = promoted(mlflow, sealed)
    record_erasure(store, user, requested_at="2026-01-01T00:00:00+00:00")
    assert ids(fresh_reviews(store, INTENT, champion).promotion) == ids(whole.promotion) - {some}


def test_rankings_are_judged_only_on_sides_that_show_what_the_retriever_found(tmp_path, mlflow):
    store = SnapshotStore(UPath(tmp_path / "rankings"))
    fill(store)
    first = put_dataset(store, EARLIER)
    champion = mlflow.add(
        RERANKER.model_name, kind="reranker", release_bundle=EARLIER, dataset_digest=first.card.digest
    )
    turns = [reviewed_turn(number, bundle=LATER, user=None) for number in range(16)]
    put_turns(store, LATER, [replace(turn, message=message(number)) for number, turn in enumerate(turns)])
    put_dataset(store, LATER)
    newest = build(store, LATER).frame
    found = fresh_reviews(store, RERANKER, champion)
    fresh = newest.filter((pl.col("label_kind") == "human") & (pl.col("timestamp_ms") > found.as_of_ms))
    judgeable = set(fresh.filter(pl.col("split") != "train")["example_id"])
    assert ids(found.later) <= judgeable
    left_out = found.excluded["on a side whose passages are not the retriever's"]
    assert left_out == len(set(fresh["example_id"]) - judgeable) > 0


def test_the_same_store_gives_the_same_report(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=12, served_by="9")
    champion = promoted(mlflow, put_intent_dataset(store, 0))
    for number in (1, 2, 3):
        put_reviewed_bundle(store, number, reviews=50, wrong=10, served_by="1")
        put_intent_dataset(store, number)
    once = judge_champion(mlflow, store, INTENT, PhrasebookModelType(), champion).report
    again = judge_champion(mlflow, store, INTENT, PhrasebookModelType(), champion).report
    assert once == again
    assert once.compared_reviews == 100
    assert [one.judgement for one in once.bundles] == ["reference", "not_lower", "not_lower"]
    assert once.calibration.mean_confidence == pytest.approx(0.9)


def test_a_champion_that_shoppers_outgrew_has_decayed(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=12, served_by="9")
    champion = promoted(mlflow, put_intent_dataset(store, 0))
    for number, wrong in ((1, 10), (2, 10), (3, 30), (4, 32)):
        put_reviewed_bundle(store, number, reviews=50, wrong=wrong, served_by="1")
        put_intent_dataset(store, number)
    report = judge_champion(mlflow, store, INTENT, PhrasebookModelType(), champion).report
    assert report.outcome == "decayed"
    assert {one.release_bundle for one in report.bundles if one.judgement == "lower"} == {
        bundle_name(3),
        bundle_name(4),
    }


def test_answers_that_it_never_learned_are_counted_apart(store, mlflow):
    put_reviewed_bundle(store, 0, reviews=60, wrong=0, served_by="9")
    champion = promoted(mlflow, put_intent_dataset(store, 0))
    put_reviewed_bundle(store, 1, reviews=12, wrong=12, served_by="1", intent="signing_event")
    put_intent_dataset(store, 1)
    assert judge_champion(mlflow, store, INTENT, PhrasebookModelType(), champion).unknown == 12
