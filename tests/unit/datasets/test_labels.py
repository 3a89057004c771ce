import numpy as np
import pytest

from mangaassist_assets.datasets.labels import PropagationConfig, labels_from_reviews, propagate_labels
from mangaassist_assets.mining.blame import find_failures
from mangaassist_assets.mining.clusters import FailureCluster, build_clusters
from mangaassist_assets.tracing.turns import ChatTurn


def make_turn(trace_id: str, message: str = "", **fields) -> ChatTurn:
    defaults = {
        "trace_id": trace_id,
        "timestamp_ms": 1_000,
        "duration_ms": 5,
        "state": "OK",
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "message": message or f"message {trace_id}",
        "user_key": f"u-{trace_id}",
        "intent": "order_status",
        "user_feedback": "thumbs_down",
    }
    return ChatTurn(**{**defaults, **fields})


def one_cluster(turns: list[ChatTurn], embeddings: np.ndarray) -> list[FailureCluster]:
    clusters = build_clusters(find_failures(turns), embeddings, release_bundle="b1", turns=len(turns))
    assert len(clusters) == 1
    return clusters


def close_vectors(count: int) -> np.ndarray:
    angles = np.linspace(0, 0.3, count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_a_review_is_a_label_with_its_own_trace_as_its_source():
    reading = labels_from_reviews([make_turn("b", expected_intent="gift_card"), make_turn("a")])
    (label,) = reading.labels
    assert (label.trace_id, label.intent, label.kind, label.confidence) == ("b", "gift_card", "human", 1.0)
    assert label.sources == ("b",)


def test_a_review_that_confirms_the_classifier_is_a_label_too():
    assert len(labels_from_reviews([make_turn("a", expected_intent="order_status")]).labels) == 1


def test_contradicting_reviews_of_near_identical_messages_are_listed_and_excluded():
    reading = labels_from_reviews(
        [
            make_turn("a", "Where is vol. 12?", expected_intent="find_title"),
            make_turn("b", "where is vol 12", expected_intent="order_status"),
            make_turn("c", "another thing", expected_intent="order_status"),
        ]
    )
    assert [label.trace_id for label in reading.labels] == ["c"]
    (conflict,) = reading.conflicts
    assert (conflict.trace_ids, conflict.answers) == (("a", "b"), ("find_title", "order_status"))


def test_agreeing_reviews_of_two_shoppers_label_the_rest_of_the_cluster():
    turns = [make_turn("a", expected_intent="x"), make_turn("b", expected_intent="x"), *map(make_turn, "cd")]
    vectors = close_vectors(4)
    result = propagate_labels(one_cluster(turns, vectors), turns, vectors, labels_from_reviews(turns))
    assert [(label.trace_id, label.intent, label.kind) for label in result.labels] == [
        ("c", "x", "propagated"),
        ("d", "x", "propagated"),
    ]
    assert result.labels[0].sources == ("a", "b")
    assert 0.6 <= result.labels[1].confidence < result.labels[0].confidence < 1


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"expected_intent": "x", "user_key": "u-a"}, "too few shoppers"),
        ({"expected_intent": "y"}, "too few shoppers"),
        ({}, "too few shoppers"),
    ],
)
def test_one_shopper_alone_labels_nothing(second, reason):
    turns = [make_turn("a", expected_intent="x"), make_turn("b", **second), make_turn("c")]
    vectors = close_vectors(3)
    result = propagate_labels(one_cluster(turns, vectors), turns, vectors, labels_from_reviews(turns))
    assert result.labels == ()
    assert reason in next(iter(result.skipped))


def test_a_cluster_whose_reviews_disagree_labels_nothing():
    intents = {"a": "x", "b": "x", "c": "y", "d": "y"}
    turns = [*(make_turn(name, expected_intent=intent) for name, intent in intents.items()), make_turn("e")]
    vectors = close_vectors(5)
    result = propagate_labels(one_cluster(turns, vectors), turns, vectors, labels_from_reviews(turns))
    assert (result.labels, dict(result.skipped)) == ((), {"reviews in the cluster disagree": 1})


def test_a_message_unlike_any_reviewed_one_or_blocked_by_the_guardrail_gets_no_label():
    turns = [
        make_turn("a", expected_intent="x"),
        make_turn("b", expected_intent="x"),
        make_turn("c"),
        make_turn("d", guardrail_blocked=True),
    ]
    vectors = close_vectors(4)
    strict = PropagationConfig(minimum_similarity=0.999)
    result = propagate_labels(one_cluster(turns, vectors), turns, vectors, labels_from_reviews(turns), config=strict)
    assert result.labels == ()
    assert dict(result.skipped) == {
        "not similar enough to a reviewed message": 1,
        "the guardrail blocked the message": 1,
    }


def test_embeddings_that_do_not_fit_the_turns_are_refused():
    with pytest.raises(ValueError, match="1 turns but 2 embeddings"):
        propagate_labels([], [make_turn("a")], close_vectors(2), labels_from_reviews([]))
