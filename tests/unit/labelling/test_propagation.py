import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.labelling.error_estimate import error_rate
from mangaassist_assets.labelling.propagation import NOISE, NOT_CLEAR, NOT_MEASURED, propagate_labels
from mangaassist_assets.labelling.reviewed_messages import PropagationConfig, PropagationRule
from mangaassist_assets.labelling.reviews import labels_from_reviews
from tests.support.labelling import Group, close_vectors, make_turn, one_group, reviewed_turn, said, unit_vectors


def spread(turns, vectors, *, groups=None, **config):
    return propagate_labels(
        groups or one_group(turns), turns, vectors, labels_from_reviews(turns), config=PropagationConfig(**config)
    )


def same_vectors(count):
    return np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (count, 1))


def refusals(result):
    return dict(result.skipped)


def test_agreeing_reviews_label_the_rest_of_the_cluster():
    turns = [reviewed_turn(name, said("x", at=number)) for number, name in enumerate("abe", start=5)]
    turns += map(make_turn, "cd")
    result = spread(turns, close_vectors(5))
    assert [(label.trace_id, label.intent, label.kind) for label in result.labels] == [
        ("c", "x", "propagated"),
        ("d", "x", "propagated"),
    ]
    label = result.labels[0]
    assert (label.sources, label.labeller, label.labelled_ms) == (("a", "b", "e"), "fc-1", 7)


def test_a_label_is_trusted_by_the_measured_error_and_not_by_similarity():
    few = spread([*(reviewed_turn(name, said("x")) for name in "abe"), *map(make_turn, "cd")], close_vectors(5))
    assert few.error.trials == 3
    assert {label.confidence for label in few.labels} == {round(1 - error_rate(0, 3).bound, 4)}
    many = [*(reviewed_turn(f"r{number}", said("x")) for number in range(20)), make_turn("z")]
    (label,) = spread(many, close_vectors(21)).labels
    assert label.confidence == round(1 - error_rate(0, 20).bound, 4) > few.labels[0].confidence


def test_an_error_that_nothing_measured_is_no_error_of_zero():
    turns = [*(reviewed_turn(name, said("x")) for name in "ab"), make_turn("c")]
    result = spread(turns, close_vectors(3))
    assert result.labels == ()
    assert refusals(result) == {NOT_MEASURED: 1}


def two_groups(first, other):
    """Two clusters that have nothing in common."""
    turns = [*first, *other]
    groups = [
        Group(cluster_id="fc-1", trace_ids=tuple(turn.trace_id for turn in first)),
        Group(cluster_id="fc-2", trace_ids=tuple(turn.trace_id for turn in other)),
    ]
    vectors = np.repeat(np.eye(2, dtype=np.float32), (len(first), len(other)), axis=0)
    return turns, vectors, groups


def test_errors_of_other_clusters_lower_the_confidence():
    first = [*(reviewed_turn(name, said("x")) for name in "abe"), make_turn("c")]
    other = [*(reviewed_turn(f"o{number}", said("x" if number == 7 else "y")) for number in range(8)), make_turn("p")]
    turns, vectors, groups = two_groups(first, other)
    together = spread(turns, vectors, groups=groups)
    assert (together.error.trials, together.error.wrong) == (11, 1)
    by_trace = {label.trace_id: label for label in together.labels}
    assert {name: label.intent for name, label in by_trace.items()} == {"c": "x", "p": "y"}
    assert by_trace["c"].confidence == round(1 - error_rate(0, 3, prior_wrong=1, prior_right=7).bound, 4)
    (found,) = together.disagreements
    assert [(one.kind, one.intent) for one in found.answers] == [("human", "x"), ("propagated", "y")]


def test_clusters_elsewhere_measure_for_one_with_two_reviewed_shoppers():
    first = [*(reviewed_turn(name, said("x")) for name in "ab"), make_turn("c")]
    turns, vectors, groups = two_groups(first, [reviewed_turn(f"o{number}", said("y")) for number in range(9)])
    (label,) = spread(turns, vectors, groups=groups).labels
    assert label.confidence == round(1 - error_rate(0, 0, prior_right=9).bound, 4)


def test_a_cluster_that_is_wrong_too_often_labels_nothing():
    first = [
        *(reviewed_turn(f"x{number}", said("x")) for number in range(7)),
        *(reviewed_turn(f"y{number}", said("y")) for number in range(2)),
        make_turn("z"),
    ]
    turns, vectors, groups = two_groups(
        first, [*(reviewed_turn(f"o{n}", said("y")) for n in range(30)), make_turn("p")]
    )
    result = spread(turns, vectors, groups=groups)
    report = result.clusters[0]
    assert report.error is not None
    assert (report.error.trials, report.error.wrong) == (9, 2)
    strict = spread(turns, vectors, groups=groups, maximum_error=0.1)
    assert [label.trace_id for label in strict.labels] == ["p"]
    assert refusals(strict) == {"the estimated error is over 10%": 1}


def test_what_the_classifier_answered_is_left_out_where_that_is_better():
    away = np.array([0.0, 0.6, 0.8], dtype=np.float32)
    vectors = [np.array([1.0, 0.0, 0.0], dtype=np.float32)] * 6 + [away] * 7
    turns = [reviewed_turn(f"k{number}", said("known"), intent="known") for number in range(6)]
    turns += [reviewed_turn(f"n{number}", said("new"), intent="known") for number in range(6)]
    doubted = make_turn("q", intent="known")
    between = np.array([0.72, 0.416, 0.555], dtype=np.float32)
    vectors[-1] = between / np.linalg.norm(between)
    failed = [Group(cluster_id="fc", trace_ids=(*(f"n{number}" for number in range(6)), "q"))]
    result = spread([*turns, doubted], np.array(vectors), groups=failed)
    assert result.rule is not None
    assert result.rule.doubts_answer
    assert [(label.trace_id, label.intent) for label in result.labels] == [("q", "new")]


def test_where_the_classifier_was_right_about_most_failures_its_answer_is_not_left_out():
    turns = [reviewed_turn(f"k{number}", said("known"), intent="known") for number in range(8)]
    turns += [reviewed_turn(f"n{number}", said("other"), intent="other") for number in range(8)]
    vectors = np.repeat(np.eye(2, dtype=np.float32), 8, axis=0)
    vectors = np.vstack([vectors, vectors[:1]])
    result = spread([*turns, make_turn("q", intent="known")], vectors)
    assert result.rule == PropagationRule(0.3, doubts_answer=False)
    assert [(label.trace_id, label.intent) for label in result.labels] == [("q", "known")]


def test_a_shoppers_own_messages_do_not_testify_to_their_own_others():
    turns = [
        reviewed_turn("a1", said("x"), user_key="u"),
        reviewed_turn("a2", said("x"), user_key="u"),
        reviewed_turn("b", said("x"), user_key="v"),
        reviewed_turn("c", said("x"), user_key="w"),
    ]
    assert spread(turns, close_vectors(4)).error.trials == 3
    apart = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    assert spread(turns, apart).error.trials == 0


def test_who_is_left_out_has_no_vote_in_their_own_trial():
    turns = [*(reviewed_turn(name, said("x")) for name in "ab"), reviewed_turn("c", said("y"))]
    error = spread(turns, same_vectors(3)).error
    assert (error.trials, error.wrong) == (1, 1)


def test_noise_has_nothing_in_common_and_labels_nothing():
    turns = [*(reviewed_turn(name, said("x")) for name in "abc"), make_turn("d")]
    result = spread(turns, close_vectors(4), groups=one_group(turns, noise=True))
    assert (result.labels, refusals(result), result.error.trials) == ((), {NOISE: 1}, 0)


@pytest.mark.parametrize(
    "second",
    [{"intent": "x", "user_key": "u-a"}, {"intent": "y"}, None],
)
def test_one_shopper_alone_labels_nothing(second):
    other = (
        make_turn("b")
        if second is None
        else reviewed_turn(
            "b", said(second["intent"]), **({"user_key": second["user_key"]} if "user_key" in second else {})
        )
    )
    turns = [reviewed_turn("a", said("x")), other, make_turn("c")]
    result = spread(turns, close_vectors(3))
    assert result.labels == ()
    assert "too few shoppers" in next(iter(result.skipped))


def test_a_message_that_is_as_near_to_another_intent_gets_none():
    intents = dict.fromkeys("abcd", "x") | dict.fromkeys("efgh", "y")
    turns = [*(reviewed_turn(name, said(intent)) for name, intent in intents.items()), make_turn("q"), make_turn("r")]
    vectors = np.repeat(np.eye(2, dtype=np.float32), 4, axis=0)
    middle = np.full((1, 2), np.sqrt(0.5), dtype=np.float32)
    result = spread(turns, np.vstack([vectors, middle, vectors[:1]]))
    assert [(label.trace_id, label.intent) for label in result.labels] == [("r", "x")]
    assert refusals(result) == {NOT_CLEAR: 1}


def test_a_message_unlike_any_reviewed_one_or_blocked_by_the_guardrail_gets_no_label():
    turns = [
        *(reviewed_turn(name, said("x")) for name in "abe"),
        make_turn("c"),
        make_turn("d", guardrail_blocked=True),
    ]
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    result = spread(turns, vectors)
    assert result.labels == ()
    assert refusals(result) == {NOT_CLEAR: 1, "the guardrail blocked the message": 1}


def test_embeddings_that_do_not_fit_the_turns_are_refused():
    with pytest.raises(ValueError, match="1 turns but 2 embeddings"):
        spread([make_turn("a")], close_vectors(2))


def test_no_trial_means_that_nothing_is_known():
    assert error_rate(0, 0).rate == 0.5
    assert (error_rate(0, 0).low, error_rate(0, 0).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 wrong of 2 trials"):
        error_rate(3, 2)


@given(st.data())
@settings(deadline=None)
def test_only_unreviewed_members_get_a_reviewed_intent_with_a_probability(data):
    count = data.draw(st.integers(1, 12))
    turns = []
    for number in range(count):
        intent = data.draw(st.sampled_from(["x", "y", None, None]))
        shopper = f"u{data.draw(st.integers(0, 5))}"
        name = f"t{number:02}"
        turns.append(
            make_turn(name, user_key=shopper) if intent is None else reviewed_turn(name, said(intent), user_key=shopper)
        )
    vectors = unit_vectors(count, dimension=3, seed=data.draw(st.integers(0, 5)))
    groups = [
        Group(cluster_id="fc-1", trace_ids=tuple(turn.trace_id for turn in turns[::2])),
        Group(cluster_id="fc-2", trace_ids=tuple(turn.trace_id for turn in turns[1::2])),
    ]
    result = spread(turns, vectors, groups=groups)
    reviewed = {turn.trace_id: turn.expected_intent for turn in turns if turn.expected_intent}
    for label in result.labels:
        assert label.trace_id not in reviewed
        assert 0 < label.confidence < 1
        assert {reviewed[source] for source in label.sources} == {label.intent}
        assert len({turn.user_key for turn in turns if turn.trace_id in label.sources}) >= 2
    assert len(result.labels) + sum(result.skipped.values()) == count - len(reviewed)
    assert spread(turns, vectors, groups=groups[::-1]) == result
