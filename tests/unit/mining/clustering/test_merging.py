"""Merging of groups: on the messages' own scale, the closest pair first, with any number of groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.mining.clustering import merging
from mangaassist_assets.mining.clustering.merging import MergingConfig, merge_groups


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def scattered(seed: int, *, topics: int = 6, pieces: int = 4, size: int = 5, spread: float = 0.5):
    """Messages of topics, each topic cut into pieces; returns vectors, the piece and the topic of each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(topics, 24))
    topic = np.repeat(np.arange(topics), pieces * size)
    vectors = unit(unit(centres)[topic] + rng.normal(size=(len(topic), 24)) * spread / np.sqrt(24))
    return vectors, np.repeat(np.arange(topics * pieces), size), topic


def partition(groups) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def test_pieces_of_a_topic_become_one_and_topics_stay_apart():
    vectors, pieces, topics = scattered(0)
    assert partition(merge_groups(vectors, pieces)) == partition(topics)


def test_more_groups_than_are_merged_by_pairs_are_brought_down_first():
    vectors, pieces, topics = scattered(1, topics=10, pieces=8)
    few = MergingConfig(by_pairs=12)
    assert partition(merge_groups(vectors, pieces, config=few)) == partition(topics)
    apart = merge_groups(np.eye(40, dtype=np.float32), np.arange(40), config=few)
    assert len(set(apart.tolist())) == 40


def test_small_groups_need_to_be_closer_than_large_ones():
    """The same directions, each pair of them as close as 0.7, told by two messages each or by forty."""
    rng = np.random.default_rng(3)
    topics = unit(rng.normal(size=(20, 64)))
    centres = np.repeat(topics, 2, axis=0) * np.sqrt(0.7) + unit(rng.normal(size=(40, 64))) * np.sqrt(0.3)

    def groups_left(size: int) -> int:
        groups = np.repeat(np.arange(40), size)
        vectors = unit(unit(centres)[groups] + rng.normal(size=(len(groups), 64)) * 0.02)
        return len(set(merge_groups(vectors, groups).tolist()))

    assert groups_left(40) == 20
    assert groups_left(2) == 40


def test_what_is_as_alike_across_as_within_is_one_however_little_else_there_is():
    """With the mean taken away only what they say beside it is left of messages that all say the same."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 10)
    little = unit(rng.normal(size=(40, 32))) * 0.2
    vectors = unit(np.eye(1, 32) + little[groups] + rng.normal(size=(400, 32)) * 0.01)
    assert len(set(merge_groups(vectors, groups).tolist())) == 1
    assert len(set(merge_groups(vectors, groups, config=MergingConfig(same=2.0)).tolist())) > 10


def test_a_higher_closeness_never_makes_fewer_groups():
    vectors, pieces, _ = scattered(7, spread=1.2)
    counts = [
        len(set(merge_groups(vectors, pieces, config=MergingConfig(closeness=at, same=2.0)).tolist()))
        for at in (-0.5, 0.0, 0.2, 0.4, 0.6, 2.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == 24


@given(st.integers(0, 10_000), st.integers(2, 20), st.floats(0.0, 0.6), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_groups_are_merged_as_if_every_pair_were_looked_at_each_time(seed, count, closeness, caution):
    rng = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), rng.integers(0, count, size=2 * count)])
    vectors = unit(rng.normal(size=(len(groups), 6)) + rng.normal(size=6) * 0.7)
    config = MergingConfig(closeness=closeness, caution=caution)
    state = merging._Groups.of(vectors, groups)

    members = {number: [number] for number in range(count)}
    while len(members) > 1:
        numbers = sorted(members)
        sums = [[side[members[one]].sum(axis=0) for one in numbers] for side in (state.centred, state.plain)]
        sizes = np.array([state.sizes[members[one]].sum() for one in numbers])
        shares = []
        for own, alike in zip(sums, (state.alike, state.plainly_alike), strict=True):
            products = np.array(own) @ np.array(own).T
            lengths = merging._lengths(np.diag(products), sizes, alike)
            shares.append(products / np.outer(lengths, lengths))
        excess = merging._excess(*shares, np.maximum.outer(sizes, sizes), config)
        np.fill_diagonal(excess, -9)
        first, second = np.unravel_index(excess.argmax(), excess.shape)
        if excess[first, second] < 0:
            break
        members[numbers[first]] += members.pop(numbers[second])

    expected = np.zeros(count, dtype=int)
    for number, own in members.items():
        expected[own] = number
    assert partition(merging._merged_by_pairs(state, config)) == partition(expected)


@pytest.mark.parametrize(
    ("settings_", "named"), [({"caution": -1.0}, "caution"), ({"same": 0.0}, "same"), ({"by_pairs": 1}, "by_pairs")]
)
def test_settings_that_cannot_merge_are_refused_by_name(settings_, named):
    with pytest.raises(ValueError, match=named):
        MergingConfig(**settings_)
