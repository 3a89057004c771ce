import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.clustering.noise import NoiseConfig, decide_noise


def around(axis: int, count: int, *, spread: float = 0.1, dimension: int = 24):
    rng = np.random.default_rng(axis)
    return (np.eye(dimension)[axis] + spread * rng.normal(size=(count, dimension))).astype(np.float32)


def test_a_lonely_message_is_noise_and_says_why():
    decision = decide_noise(np.concatenate([around(0, 5), around(1, 1)]), np.array([0] * 5 + [1]))
    assert decision.noise == {1}
    assert decision.noise == {1}
    assert decision.reasons[1] == "1 distinct message, 2 are needed"


def test_fifty_copies_of_one_message_are_one_message():
    vectors = np.repeat(around(0, 1), 50, axis=0)
    assert decide_noise(vectors, np.zeros(50, dtype=np.int64)).reasons == {0: "1 distinct message, 2 are needed"}


def test_messages_with_nothing_in_common_are_noise_whatever_their_number():
    decision = decide_noise(np.eye(20, dtype=np.float32), np.zeros(20, dtype=np.int64))
    assert decision.cohesion.tolist() == pytest.approx([20**-0.5], abs=1e-4)
    assert decision.reasons[0] == ("its messages have little in common: mean cosine to the centre 0.22, 0.50 is needed")


def test_one_shopper_cannot_make_a_group_where_two_are_needed():
    vectors, groups = np.concatenate([around(0, 4), around(1, 4)]), np.repeat([0, 1], 4)
    users = ["ann"] * 4 + ["ann", "bob", "bob", "bob"]
    decision = decide_noise(vectors, groups, users=users, config=NoiseConfig(minimum_users=2))
    assert decision.reasons == {0: "1 shopper, 2 are needed"}
    assert not decide_noise(vectors, groups, config=NoiseConfig(minimum_users=2)).noise


def test_all_failings_are_named():
    decision = decide_noise(
        np.zeros((1, 3)), np.array([0]), users=["ann"], config=NoiseConfig(minimum_size=3, minimum_users=2)
    )
    assert decision.reasons[0].count(";") == 2


def test_cohesion_is_the_mean_cosine_to_the_centroid():
    vectors = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centre = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    decision = decide_noise(vectors, np.zeros(3, dtype=np.int64))
    assert decision.cohesion[0] == pytest.approx((unit @ centre).mean(), abs=1e-5)
    assert decision.cohesion.dtype == np.float32


def test_no_messages_have_no_noise():
    decision = decide_noise(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64), users=[])
    assert (decision.noise, dict(decision.reasons), decision.cohesion.shape) == (frozenset(), {}, (0,))


@pytest.mark.parametrize(
    ("groups", "users", "message"),
    [
        ([0, 0], None, r"3 embeddings but groups of shape \(2,\)"),
        ([0, 0, 0], ["ann"], "and 1 users"),
        ([0, 2, 2], None, "1 is missing"),
        ([-1, 0, 0], None, "without gaps"),
    ],
)
def test_groups_that_do_not_fit_the_messages_are_refused(groups, users, message):
    with pytest.raises(ValueError, match=message):
        decide_noise(around(0, 3), np.array(groups), users=users)


def test_broken_embeddings_and_settings_are_refused():
    with pytest.raises(ValueError, match="row 0"):
        decide_noise(np.full((1, 3), np.nan), np.array([0]))
    with pytest.raises(ValueError, match="minimum_size"):
        NoiseConfig(minimum_size=0)
    with pytest.raises(ValueError, match="minimum_cohesion"):
        NoiseConfig(minimum_cohesion=1.5)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=25), st.randoms(use_true_random=False))
def test_the_decision_hangs_on_neither_the_order_nor_the_repetition_of_messages(drawn, draw):
    names = sorted({group for group, _ in drawn})
    rows = [(names.index(group), kind) for group, kind in drawn]
    kinds = np.concatenate([around(axis, 1, spread=0.4) for axis in range(6)])

    def decided(of):
        groups = np.array([group for group, _ in of], dtype=np.int64)
        return decide_noise(kinds[np.array([kind for _, kind in of], dtype=int)], groups)

    shuffled = rows + rows[: len(rows) // 2]
    draw.shuffle(shuffled)
    first, second = decided(rows), decided(shuffled)
    assert first.reasons == second.reasons
    np.testing.assert_allclose(first.cohesion, second.cohesion, atol=1e-5)
