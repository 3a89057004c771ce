"""Failure clusters of a bundle: what they are, how they go on, and that mining again changes nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mangaassist_assets.mining.blame.blame import Blame, FailedTurn
from mangaassist_assets.mining.blame.signals import Signal
from mangaassist_assets.mining.cluster_building import ClusterMining, mine_clusters
from mangaassist_assets.mining.cluster_report import ClusterReport
from mangaassist_assets.mining.naming.model_names import NameProposal
from mangaassist_assets.mining.tracking.cluster_files import bundle_from_files, bundle_to_files
from mangaassist_assets.mining.tracking.clusters import NO_HISTORY, ClusterHistory, FailureCluster
from mangaassist_assets.tracing.contract.turns import ChatTurn

DIMENSION = 24
MODEL = "minilm"
WORDS = ["refund parcel", "signed artbook", "webtoon reader", "gift wrapping"]


def failed(
    trace_id: str, message: str, *, bundle: str = "b1", user: str | None = None, stage: str = "intent"
) -> FailedTurn:
    turn = ChatTurn(
        trace_id=trace_id,
        timestamp_ms=1_000 + len(trace_id),
        duration_ms=5,
        state="OK",
        release_bundle=bundle,
        session_id=f"session-{trace_id}",
        message=message,
        user_key=user,
        user_feedback="thumbs_down",
    )
    signal = Signal(name="thumbs_down", explicit=True, evidence="the shopper gave a thumbs-down", confidence=0.9)
    return FailedTurn(turn=turn, signals=(signal,), blame=Blame(stage=stage, evidence="test", confidence=0.9))


def near(topic: int, count: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(1000 * seed + topic)
    centre = np.zeros(DIMENSION)
    centre[topic] = 1.0
    vectors = centre + rng.normal(size=(count, DIMENSION)) * 0.05
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def mined(
    name: str,
    topics: dict[int, int],
    *,
    history: ClusterHistory = NO_HISTORY,
    seed: int = 0,
    turns: int = 200,
    users: int = 100,
    namer=None,
    shuffle: int | None = None,
) -> ClusterMining:
    failures = [
        failed(f"{name}-{topic}-{index:03d}", f"{WORDS[topic]} {index}", bundle=name, user=f"u{index % users}")
        for topic, count in topics.items()
        for index in range(count)
    ]
    vectors = np.concatenate([near(topic, count, seed=seed) for topic, count in topics.items()])
    if shuffle is not None:
        order = random.Random(shuffle).sample(range(len(failures)), len(failures))
        failures, vectors = [failures[row] for row in order], vectors[order]
    return mine_clusters(
        failures, vectors, release_bundle=name, turns=turns, embedding_model_id=MODEL, history=history, namer=namer
    )


def by_name(mining: ClusterMining) -> dict[str, FailureCluster]:
    return {cluster.name: cluster for cluster in mining.bundle.clusters}


def test_clusters_are_named_counted_and_ordered_by_size():
    clusters = mined("b1", {0: 12, 1: 20}, users=3).bundle.clusters
    assert [cluster.size for cluster in clusters] == [20, 12]
    assert [cluster.name for cluster in clusters] == ["signed artbook", "refund parcel"]
    assert (clusters[0].users, clusters[0].turns, clusters[0].share) == (3, 200, 0.1)
    assert (clusters[0].stage, clusters[0].loop, clusters[0].state) == ("intent", "retrain_intent", "born")
    assert (clusters[0].growth.verdict, clusters[0].noise) == ("new", False)
    assert (len(clusters[0].examples), len(clusters[0].edge_examples)) == (5, 2)
    assert set(clusters[0].examples).isdisjoint(clusters[0].edge_examples)
    assert clusters[0].cohesion > 0.9
    assert clusters[0].stability is not None
    assert clusters[0].stability > 0.9


def test_a_failure_keeps_its_id_and_name_in_the_next_bundle():
    first = mined("b1", {0: 10, 1: 20})
    history = ClusterHistory(earlier=[first.bundle], taken=frozenset(first.cluster_ids))
    second = mined("b2", {2: 15, 1: 20}, history=history, seed=5, turns=400)
    continued, newborn = by_name(second)["signed artbook"], by_name(second)["webtoon reader"]
    assert continued.cluster_id == by_name(first)["signed artbook"].cluster_id
    assert (continued.state, continued.previous_ids) == ("continued", (continued.cluster_id,))
    assert continued.growth.ratio == pytest.approx(0.5)
    assert (newborn.state, newborn.growth.verdict, newborn.previous_ids) == ("born", "new", ())
    assert newborn.cluster_id not in first.cluster_ids
    (ended,) = [event for event in second.bundle.events if event.kind == "death"]
    assert ended.previous_ids == (by_name(first)["refund parcel"].cluster_id,)


def test_what_was_gone_for_a_bundle_returns_under_its_id():
    first = mined("b1", {0: 10, 1: 10})
    second = mined("b2", {1: 10}, history=ClusterHistory(earlier=[first.bundle]), seed=1)
    third = mined("b3", {0: 10, 1: 10}, history=ClusterHistory(earlier=[first.bundle, second.bundle]), seed=2)
    returned = by_name(third)["refund parcel"]
    assert (returned.cluster_id, returned.state) == (by_name(first)["refund parcel"].cluster_id, "returned")
    assert returned.growth.expected == pytest.approx(5.0)


def test_a_cluster_that_gets_many_more_shoppers_is_growing():
    first = mined("b1", {0: 20, 1: 20})
    second = mined("b2", {0: 80, 1: 20}, history=ClusterHistory(earlier=[first.bundle]), seed=3)
    assert by_name(second)["refund parcel"].growth.verdict == "growing"
    assert by_name(second)["signed artbook"].growth.verdict == "steady"


def test_one_shopper_who_asks_a_hundred_times_is_no_growth():
    first = mined("b1", {0: 10}, users=10)
    second = mined("b2", {0: 100}, history=ClusterHistory(earlier=[first.bundle]), seed=3, users=10)
    assert by_name(second)["refund parcel"].growth.verdict in {"steady", "too_few"}


def test_mining_again_with_late_traces_renames_nothing():
    first = mined("b1", {0: 10, 3: 9})
    again = mined("b1", {0: 14, 3: 9}, history=ClusterHistory(same=first.bundle, taken=frozenset(first.cluster_ids)))
    assert {name: one.cluster_id for name, one in by_name(again).items()} == {
        name: one.cluster_id for name, one in by_name(first).items()
    }


def test_an_old_bundle_that_is_mined_late_takes_the_ids_of_the_newer_one():
    newer = mined("b2", {0: 10, 1: 10})
    older = mined("b1", {1: 12, 2: 9}, history=ClusterHistory(following=newer.bundle), seed=4)
    assert by_name(older)["signed artbook"].cluster_id == by_name(newer)["signed artbook"].cluster_id
    assert by_name(older)["webtoon reader"].cluster_id not in newer.cluster_ids


def test_the_order_of_the_turns_changes_nothing():
    sorted_way = mined("b1", {0: 10, 1: 9, 3: 9})
    for seed in range(3):
        shuffled = mined("b1", {0: 10, 1: 9, 3: 9}, shuffle=seed)
        assert bundle_to_files(shuffled.bundle) == bundle_to_files(sorted_way.bundle)


def test_every_turn_knows_its_cluster():
    mining = mined("b1", {0: 10, 1: 9}, shuffle=1)
    counted = {cluster.cluster_id: cluster.size for cluster in mining.bundle.clusters}
    assert {identity: mining.cluster_ids.count(identity) for identity in mining.cluster_ids} == counted


def test_a_lonely_message_is_a_cluster_that_says_why_it_is_noise():
    failures = [failed(f"t{index}", f"refund parcel {index}") for index in range(6)] + [failed("x", "gift wrapping")]
    vectors = np.concatenate([near(0, 6), near(3, 1)])
    clusters = mine_clusters(failures, vectors, release_bundle="b1", turns=7, embedding_model_id=MODEL).bundle.clusters
    assert [cluster.noise_reason for cluster in clusters] == [None, "1 distinct message, 2 are needed"]


def test_examples_are_redacted_and_cut():
    failures = [failed("t1", "mail jane.sample@example.com about it " + "x " * 300)]
    (cluster,) = mine_clusters(
        failures, near(0, 1), release_bundle="b1", turns=1, embedding_model_id=MODEL
    ).bundle.clusters
    assert "example.com" not in cluster.examples[0]
    assert len(cluster.examples[0]) <= 160


def test_no_failures_make_no_clusters():
    empty = np.zeros((0, DIMENSION), dtype=np.float32)
    mining = mine_clusters([], empty, release_bundle="b1", turns=50, embedding_model_id=MODEL)
    assert (mining.bundle.clusters, mining.cluster_ids) == ((), ())
    assert bundle_from_files("b1", bundle_to_files(mining.bundle)).clusters == ()


def test_what_does_not_fit_together_is_refused():
    failures = [failed("t1", "a", bundle="other")]
    with pytest.raises(ValueError, match="belongs to 'other'"):
        mine_clusters(failures, near(0, 1), release_bundle="b1", turns=1, embedding_model_id=MODEL)
    with pytest.raises(ValueError, match="1 failed turns but 2 embeddings"):
        mine_clusters(failures, near(0, 2), release_bundle="other", turns=1, embedding_model_id=MODEL)
    with pytest.raises(ValueError, match="among 0 turns"):
        mine_clusters(failures, near(0, 1), release_bundle="other", turns=0, embedding_model_id=MODEL)


def test_bundles_that_another_model_embedded_are_not_compared():
    first = mined("b1", {0: 10})
    with pytest.raises(ValueError, match="'b1' was embedded by 'minilm', this one by 'titan'"):
        mine_clusters(
            [],
            np.zeros((0, 8), dtype=np.float32),
            release_bundle="b2",
            turns=1,
            embedding_model_id="titan",
            history=ClusterHistory(earlier=[first.bundle]),
        )


class Namer:
    model_id = "model-1"

    def __init__(self, *answers: NameProposal) -> None:
        self.answers = list(answers)
        self.asked = 0

    def propose(self, requests):
        self.asked += len(requests)
        return [self.answers.pop(0) for _ in requests]


def test_a_name_of_a_model_is_kept_and_one_that_failed_is_asked_for_again():
    failing = Namer(NameProposal(refused="Bedrock failed: ThrottlingException"))
    first = mined("b1", {0: 10}, namer=failing)
    (cluster,) = first.bundle.clusters
    assert (cluster.name, cluster.name_model) == ("refund parcel", None)
    assert cluster.name_refused is not None
    answering = Namer(NameProposal(text="Refund of a parcel"))
    second = mined("b1", {0: 10}, history=ClusterHistory(same=first.bundle), namer=answering)
    (cluster,) = second.bundle.clusters
    assert (cluster.name, cluster.name_model, cluster.name_refused) == ("Refund of a parcel", "model-1", None)
    silent = Namer()
    third = mined("b1", {0: 10}, history=ClusterHistory(same=second.bundle), namer=silent)
    assert (third.bundle.clusters[0].name, silent.asked) == ("Refund of a parcel", 0)


def test_mined_bundles_survive_being_stored():
    mining = mined("b1", {0: 10, 1: 20})
    files = bundle_to_files(mining.bundle)
    stored = bundle_from_files("b1", files)
    assert stored.clusters == mining.bundle.clusters
    assert (stored.turns, stored.events) == (mining.bundle.turns, mining.bundle.events)
    assert bundle_to_files(stored) == files


def test_clusters_and_profiles_that_do_not_belong_together_are_refused():
    files = bundle_to_files(mined("b1", {0: 10}).bundle)
    other = bundle_to_files(mined("b1", {1: 10}).bundle)
    with pytest.raises(ValueError, match="materialize failure_clusters again"):
        bundle_from_files("b1", {**files, "profiles.parquet": other["profiles.parquet"]})


def test_the_report_of_a_bundle_shows_its_clusters_what_happened_to_them_and_their_history():
    first = mined("b1", {0: 12, 1: 20})
    history = ClusterHistory(earlier=[first.bundle], taken=frozenset(one.cluster_id for one in first.bundle.clusters))
    second = mined("b2", {0: 30, 2: 1}, history=history)
    report = ClusterReport(second, history)
    figures = report.figures()
    assert (figures["dagster/row_count"], figures["noise"], figures["compared_with"]) == (2, 1, "b1")
    assert str(report) == "2 clusters of 31 failed turns, 1 of them noise; compared with b1"
    largest = figures["clusters"][0]
    assert (largest["name"], largest["size"], largest["state"]) == ("refund parcel", 30, "continued")
    assert "death" in {row["event"] for row in figures["events"]}
    assert [row["noise_because"] != "" for row in figures["examples"]] == [False, True]
    assert {row["release_bundle"] for row in figures["history"]} == {"b1", "b2"}


def test_the_first_bundle_is_compared_with_none():
    report = ClusterReport(mined("b1", {0: 12}), NO_HISTORY)
    assert report.figures()["compared_with"] == "no earlier bundle"
    assert str(report).endswith("compared with no bundle")


def test_the_map_and_the_history_are_pictures():
    report = ClusterReport(mined("b1", {0: 12, 1: 20}), NO_HISTORY)
    vectors = np.concatenate([near(topic, count) for topic, count in {0: 12, 1: 20}.items()])
    for picture in (report.map(vectors), report.timeline()):
        assert picture.startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="31 embeddings but groups of shape"):
        report.map(vectors[:-1])
