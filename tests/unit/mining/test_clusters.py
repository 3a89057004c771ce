import json
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter

from mangaassist_assets.mining.blame import Blame, FailedTurn
from mangaassist_assets.mining.clusters import FailureCluster, build_clusters, dead_clusters
from mangaassist_assets.mining.identity import birth_id, match_identities
from mangaassist_assets.mining.naming import NAMELESS, name_groups
from mangaassist_assets.mining.signals import Signal
from mangaassist_assets.tracing.turns import ChatTurn

DIMENSION = 24


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
    signal = Signal(name="thumbs_down", explicit=True, evidence="the shopper gave a thumbs-down")
    return FailedTurn(turn=turn, signals=(signal,), blame=Blame(stage=stage, evidence="test", confidence=0.9))


def topic(number: int, count: int, *, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(1000 * seed + number)
    centre = np.zeros(DIMENSION)
    centre[number] = 1.0
    vectors = centre + rng.normal(size=(count, DIMENSION)) * 0.05
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def bundle_of(name: str, topics: dict[int, int], *, previous=(), seed: int = 0, turns: int = 100):
    words = ["refund parcel", "signed artbook", "webtoon reader", "gift wrapping"]
    failures = [
        failed(f"{name}-{number}-{index:03d}", f"{words[number]} {index}", bundle=name, user=f"u{index % 3}")
        for number, count in topics.items()
        for index in range(count)
    ]
    vectors = np.concatenate([topic(number, count, seed=seed) for number, count in topics.items()])
    return build_clusters(failures, vectors, release_bundle=name, turns=turns, previous=previous)


def test_clusters_are_named_counted_and_ordered_by_size():
    clusters = bundle_of("b1", {0: 12, 1: 20})
    assert [cluster.size for cluster in clusters] == [20, 12]
    assert [set(cluster.name.split(" · ")) for cluster in clusters] == [{"signed", "artbook"}, {"refund", "parcel"}]
    assert clusters[0].users == 3
    assert (clusters[0].stage, clusters[0].loop, clusters[0].state) == ("intent", "retrain_intent", "born")
    assert len(clusters[0].examples) == 5
    assert np.linalg.norm(clusters[0].centroid) == pytest.approx(1.0, abs=1e-5)


def test_a_failure_keeps_its_id_in_the_next_bundle_and_its_trend_is_in_shares_of_all_turns():
    first = bundle_of("b1", {0: 10, 1: 20}, turns=100)
    second = bundle_of("b2", {2: 15, 1: 20}, previous=first, seed=5, turns=400)
    by_name = {frozenset(cluster.name.split(" · ")): cluster for cluster in second}
    continued = by_name[frozenset({"signed", "artbook"})]
    assert continued.cluster_id == first[0].cluster_id
    assert continued.state == "continued"
    assert continued.trend.previous_size == 20
    assert continued.trend.ratio == pytest.approx(0.25)
    newborn = by_name[frozenset({"webtoon", "reader"})]
    assert (newborn.state, newborn.trend.ratio) == ("born", None)
    assert newborn.cluster_id not in {cluster.cluster_id for cluster in first}
    assert [cluster.cluster_id for cluster in dead_clusters(second, first)] == [first[1].cluster_id]


def test_computing_a_bundle_again_gives_the_same_clusters():
    assert bundle_of("b1", {0: 10, 3: 9}) == bundle_of("b1", {0: 10, 3: 9})


def test_examples_are_redacted_and_cut():
    failures = [failed("t1", "mail jane.sample@example.com about it " + "x " * 300)]
    (cluster,) = build_clusters(failures, topic(0, 1), release_bundle="b1", turns=1)
    assert "example.com" not in cluster.examples[0]
    assert len(cluster.examples[0]) <= 160


def test_no_failures_make_no_clusters():
    empty = np.zeros((0, DIMENSION), dtype=np.float32)
    assert build_clusters([], empty, release_bundle="b1", turns=50) == []


def test_what_does_not_fit_together_is_refused():
    failures = [failed("t1", "a", bundle="other")]
    with pytest.raises(ValueError, match="belongs to 'other'"):
        build_clusters(failures, topic(0, 1), release_bundle="b1", turns=1)
    with pytest.raises(ValueError, match="1 failed turns but 2 embeddings"):
        build_clusters(failures, topic(0, 2), release_bundle="other", turns=1)
    with pytest.raises(ValueError, match="among 0 turns"):
        build_clusters(failures, topic(0, 1), release_bundle="other", turns=0)


def test_a_cluster_is_blamed_on_a_known_stage_if_any_member_is():
    failures = [
        failed("t1", "a", stage="unknown"),
        failed("t22", "a", stage="unknown"),
        failed("t333", "a", stage="reranker"),
    ]
    (cluster,) = build_clusters(failures, np.repeat(topic(0, 1), 3, axis=0), release_bundle="b1", turns=3)
    assert (cluster.stage, cluster.loop) == ("reranker", "retrain_reranker")
    assert cluster.blame_counts == {"reranker": 1, "unknown": 2}


def test_clusters_survive_json():
    clusters = bundle_of("b1", {0: 10, 1: 20})
    stored = json.dumps([asdict(cluster) for cluster in clusters])
    assert TypeAdapter(list[FailureCluster]).validate_json(stored) == clusters


def test_the_best_one_to_one_matching_wins_over_the_first_come():
    previous = np.array([[1.0, 0.0], [0.8, 0.6]], dtype=np.float32)
    both_like_the_first = np.array([[0.95, 0.3122499], [0.999, 0.0447]], dtype=np.float32)
    matches = match_identities(both_like_the_first, ["p", "q"], previous)
    assert [match.previous_id for match in matches] == ["q", "p"]


def test_another_embedding_dimension_is_an_error_and_not_a_new_birth():
    with pytest.raises(ValueError, match="embedding model changed"):
        match_identities(np.eye(3, dtype=np.float32), ["p"], np.eye(2, dtype=np.float32)[:1])


def test_a_birth_never_takes_an_id_that_exists():
    first = birth_id("b1", ["t1", "t2"])
    assert birth_id("b1", ["t2", "t1"]) == first
    assert birth_id("b1", ["t1", "t2"], taken=frozenset({first})) != first
    assert birth_id("b2", ["t1", "t2"]) != first


def test_names_say_what_is_particular_and_do_not_repeat_a_word_in_two_forms():
    names = name_groups(
        {
            "a": ["my order refund please", "refunds for my order", "order refund when"],
            "b": ["order a gift card", "gift cards for an order", "can i order gift card"],
        }
    )
    assert names["a"].startswith("refund")
    assert "refunds" not in names["a"]
    assert {"gift", "card"} <= set(names["b"].split(" · "))


def test_japanese_groups_get_japanese_names():
    names = name_groups({"a": ["返品したいです", "返品の方法"], "b": ["予約特典はありますか", "予約できますか"]})
    assert "返品" in names["a"]
    assert "予約" in names["b"]


def test_groups_without_words_have_a_name_and_placeholders_are_no_words():
    assert name_groups({"a": ["???", "the a of"], "b": ["[EMAIL] <PHONE> artbook"]}) == {"a": NAMELESS, "b": "artbook"}
    assert name_groups({}) == {}
