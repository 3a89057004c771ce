from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.mining.tracking.cluster_events import bundle_events, chance_of_none, link_clusters
from mangaassist_assets.mining.tracking.cluster_matching import ClusterMatchingConfig
from mangaassist_assets.mining.tracking.identity import OtherClusters, birth_id, resolve_identities
from mangaassist_assets.mining.tracking.profiles import ClusterProfile, choose_exemplars, profile_of
from tests.support.cluster_streams import Planted, StreamPlan, clouds, stream
from tests.support.examples import examples

DIMENSION = 64
TOPICS = 10


def messages(topic: int, count: int, *, seed: int = 0) -> np.ndarray:
    """Unit vectors of one topic; any two topics are nearly orthogonal."""
    rng = np.random.default_rng([seed, topic])
    centre = np.zeros(DIMENSION)
    centre[topic] = 1.0
    rows = centre + rng.normal(size=(count, DIMENSION)) * 0.08
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Bundle:
    """Groups of topics with their sizes, e.g. {(0,): [12], (1, 2): [9, 8]}, as mining would find them."""

    def __init__(self, name: str, groups: dict[tuple[int, ...], list[int]], *, stage: str = "intent", stages=None):
        self.name = name
        self.groups = list(groups)
        seed = sum(name.encode())
        self.members = [
            [f"{name}-{topic}-{index:03d}" for topic, size in zip(group, sizes, strict=True) for index in range(size)]
            for group, sizes in groups.items()
        ]
        self.vectors = [
            np.concatenate([messages(topic, size, seed=seed) for topic, size in zip(group, sizes, strict=True)])
            for group, sizes in groups.items()
        ]
        self.profiles = [
            profile_of("", vectors, members, stage=(stages or {}).get(group, stage))
            for group, vectors, members in zip(groups, self.vectors, self.members, strict=True)
        ]

    def resolve(self, **options):
        others = OtherClusters(**options)
        return resolve_identities(self.profiles, release_bundle=self.name, members=self.members, others=others)


class Mining:
    """Mines bundles in any order and remembers nothing but the stored clusters."""

    def __init__(self, order: list[str]):
        self.order = order
        self.stored: dict[str, dict[tuple[int, ...], str]] = {}
        self.mined: dict[str, tuple[ClusterProfile, ...]] = {}
        self.members: dict[str, dict[str, tuple[str, ...]]] = {}

    def mine(self, bundle: Bundle) -> dict[tuple[int, ...], str]:
        place = self.order.index(bundle.name)
        earlier = [self.mined[name] for name in self.order[:place] if name in self.mined]
        later = [self.mined[name] for name in self.order[place + 1 :] if name in self.mined]
        previous = earlier[-1] if earlier else ()
        last = {profile.cluster_id: profile for profiles in earlier for profile in profiles}
        found = bundle.resolve(
            same_bundle=self.members.get(bundle.name, {}),
            previous=previous,
            following=later[0] if later else (),
            dormant=[last[identity] for identity in last.keys() - {profile.cluster_id for profile in previous}],
            taken=frozenset(profile.cluster_id for profiles in self.mined.values() for profile in profiles),
        )
        self.mined[bundle.name] = found.profiles
        self.members[bundle.name] = {
            identity: tuple(members) for identity, members in zip(found.ids, bundle.members, strict=True)
        }
        self.stored[bundle.name] = dict(zip(bundle.groups, found.ids, strict=True))
        return self.stored[bundle.name]


def events_between(newer: Bundle, older: Bundle, *, turns: int = 1000, previous_turns: int = 1000, **options):
    def named(bundle):
        return [
            replace(profile, cluster_id=str(group))
            for group, profile in zip(bundle.groups, bundle.profiles, strict=True)
        ]

    found = bundle_events(named(newer), named(older), turns=turns, previous_turns=previous_turns, **options)
    return {(event.kind, event.cluster_ids, event.previous_ids) for event in found}


def test_a_failure_keeps_its_id_and_a_new_one_gets_its_own():
    mining = Mining(["b1", "b2"])
    first = mining.mine(Bundle("b1", {(0,): [12], (1,): [20]}))
    second = mining.mine(Bundle("b2", {(1,): [9], (2,): [15]}))
    assert second[1,] == first[1,]
    assert second[2,] not in first.values()


def test_birth_continuation_and_death_are_told():
    assert events_between(Bundle("b2", {(0,): [12], (2,): [9]}), Bundle("b1", {(0,): [14], (1,): [20]})) == {
        ("continuation", ("(0,)",), ("(0,)",)),
        ("birth", ("(2,)",), ()),
        ("death", (), ("(1,)",)),
    }


def test_a_merge_names_its_parents_the_larger_first_and_lives_on_under_its_id():
    older, newer = Bundle("b1", {(0,): [12], (1,): [30]}), Bundle("b2", {(0, 1): [12, 30]})
    assert events_between(newer, older) == {("merge", ("(0, 1)",), ("(1,)", "(0,)"))}
    mining = Mining(["b1", "b2"])
    before = mining.mine(older)
    assert mining.mine(newer)[0, 1] == before[1,]


def test_a_split_names_its_parts_the_larger_first_and_only_that_one_keeps_the_id():
    older, newer = Bundle("b1", {(0, 1): [12, 30], (3,): [9]}), Bundle("b2", {(0,): [12], (1,): [30], (3,): [9]})
    assert events_between(newer, older) == {
        ("split", ("(1,)", "(0,)"), ("(0, 1)",)),
        ("continuation", ("(3,)",), ("(3,)",)),
    }
    mining = Mining(["b1", "b2"])
    before = mining.mine(older)
    after = mining.mine(newer)
    assert after[1,] == before[0, 1]
    assert after[0,] not in before.values()


def test_a_merged_cluster_inherits_its_parents_whole_and_the_parts_of_a_split_share_it():
    parts, whole = Bundle("b1", {(0,): [12], (1,): [30]}), Bundle("b2", {(0, 1): [10, 30]})
    first = parts.resolve()
    merged = whole.resolve(previous=first.profiles)
    assert merged.inherits == ({first.ids[0]: 1.0, first.ids[1]: 1.0},)
    split = Bundle("b3", {(0,): [12], (1,): [30]}).resolve(previous=merged.profiles)
    shares = [inherited[merged.ids[0]] for inherited in split.inherits]
    assert sum(shares) == pytest.approx(1.0)
    assert shares[1] == pytest.approx(30 / 40, abs=0.2)


def test_a_new_failure_that_resembles_a_living_one_is_a_birth_and_no_split():
    near = messages(0, 20, seed=9) + 0.9 * messages(4, 20, seed=8)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    older = profile_of("old", messages(0, 20, seed=1), [f"a{index}" for index in range(20)], stage="intent")
    same = profile_of("same", messages(0, 20, seed=2), [f"b{index}" for index in range(20)], stage="intent")
    new = profile_of("new", near.astype(np.float32), [f"c{index}" for index in range(20)], stage="intent")
    events = bundle_events([same, new], [older], turns=99, previous_turns=99)
    kinds = {event.kind: event.cluster_ids for event in events}
    assert kinds == {"continuation": ("same",), "birth": ("new",)}


def test_blame_that_moves_to_another_stage_keeps_the_id_unless_the_stage_has_an_heir_of_its_own():
    older = Bundle("b1", {(0,): [12]}, stage="unknown")
    first = older.resolve()
    assert Bundle("b2", {(0,): [11]}, stage="reranker").resolve(previous=first.profiles).ids == first.ids
    both = {"intent": Bundle("b2", {(0,): [11]}), "unknown": Bundle("b3", {(0,): [13]}, stage="unknown")}
    current = [replace(bundle.profiles[0], cluster_id=stage) for stage, bundle in both.items()]
    for stage, kin in (("unknown", [[False], [True]]), ("intent", [[True], [False]])):
        assert link_clusters(current, [replace(older.profiles[0], stage=stage)]).kin.tolist() == kin


def test_a_small_cluster_that_is_not_seen_is_not_called_dead():
    assert ("unseen", (), ("(1,)",)) in events_between(Bundle("b2", {(0,): [9]}), Bundle("b1", {(0,): [9], (1,): [4]}))
    older, newer = Bundle("b1", {(0,): [9], (1,): [20]}), Bundle("b2", {(0,): [9]})
    assert ("death", (), ("(1,)",)) in events_between(newer, older)
    assert ("unseen", (), ("(1,)",)) in events_between(newer, older, turns=50)


def test_a_cluster_whose_messages_went_to_several_others_is_not_called_dead():
    large = {(topic,): [30] for topic in range(4, 8)}
    older = Bundle("b1", {(0, 1, 2, 3): [6, 6, 6, 6], **large})
    newer = Bundle("b2", {(topic, topic + 4): [7, 30] for topic in range(4)})
    kinds = {previous: kind for kind, _, previous in events_between(newer, older) if previous == ("(0, 1, 2, 3)",)}
    assert set(kinds.values()) == {"unseen"}
    gone = events_between(Bundle("b2", large), older)
    assert ("death", (), ("(0, 1, 2, 3)",)) in gone


def test_the_chance_of_seeing_nothing_is_that_of_a_poisson_count_with_an_unknown_rate():
    rng = np.random.default_rng(1)
    rates = rng.gamma(shape=3 + 0.5, size=400_000)
    assert chance_of_none(3, 0.5) == pytest.approx((rng.poisson(rates * 0.5) == 0).mean(), rel=0.02)
    assert chance_of_none(5, 0.0) == 1.0


def test_an_id_that_both_bundles_have_continues_though_its_messages_changed():
    now, before = Bundle("b2", {(0,): [12]}).profiles, Bundle("b1", {(3,): [12]}).profiles
    kinds = [
        [event.kind for event in bundle_events([one], [two], turns=99, previous_turns=99)]
        for one, two in (
            (replace(now[0], cluster_id="fc-1"), replace(before[0], cluster_id="fc-1")),
            (replace(now[0], cluster_id="fc-1"), replace(before[0], cluster_id="fc-2")),
        )
    ]
    assert kinds == [["continuation"], ["birth", "death"]]


def test_a_failure_that_comes_back_gets_its_old_id_and_is_no_birth():
    mining = Mining(["b1", "b2", "b3"])
    first = mining.mine(Bundle("b1", {(0,): [12], (1,): [20]}))
    mining.mine(Bundle("b2", {(0,): [12]}))
    third = mining.mine(Bundle("b3", {(0,): [12], (1,): [18]}))
    assert third == first
    found = bundle_events(
        mining.mined["b3"], mining.mined["b2"], turns=99, previous_turns=99, known=frozenset(first.values())
    )
    assert [event.cluster_ids for event in found if event.kind == "return"] == [(first[1,],)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_in_whatever_order_bundles_are_mined_one_failure_has_one_id_and_no_id_ever_changes(order):
    bundles = [
        Bundle("b1", {(0,): [12], (1,): [20], (5, 6): [10, 14]}),
        Bundle("b2", {(0,): [15], (2,): [11], (5,): [12], (6,): [16]}),
        Bundle("b3", {(0,): [9], (2,): [13], (1,): [14], (5,): [11], (6,): [13]}),
    ]
    mining = Mining(["b1", "b2", "b3"])
    assigned = {}
    for place in (*order, *order, *reversed(order)):
        mining.mine(bundles[place])
        for name, ids in mining.stored.items():
            assert assigned.setdefault(name, ids) == ids
            assert len(set(ids.values())) == len(ids)
    assert len({ids[0,] for ids in assigned.values()}) == 1
    assert assigned["b2"][2,] == assigned["b3"][2,]
    assert assigned["b2"][5,] == assigned["b3"][5,]
    assert assigned["b1"][5, 6] in {assigned["b2"][5,], assigned["b2"][6,]}


def test_a_backfill_takes_the_ids_of_the_newer_bundle_and_leaves_it_alone():
    mining = Mining(["b1", "b2"])
    newer = dict(mining.mine(Bundle("b2", {(0,): [12], (1,): [20]})))
    older = mining.mine(Bundle("b1", {(1,): [9], (3,): [9]}))
    assert older[1,] == newer[1,]
    assert older[3,] not in newer.values()
    assert mining.stored["b2"] == newer


group_sizes = st.dictionaries(st.integers(0, TOPICS - 1), st.integers(3, 14), min_size=1, max_size=6)


def bundle_of(name: str, sizes: dict[int, int]) -> Bundle:
    return Bundle(name, {(topic,): [size] for topic, size in sizes.items()})


@given(group_sizes, group_sizes, group_sizes)
@settings(max_examples=examples(60), deadline=None)
def test_ids_are_unique_in_a_bundle_the_same_on_a_second_run_and_live_on(first, second, third):
    mining = Mining(["b1", "b2", "b3"])
    ids = {}
    for name, sizes in (("b3", third), ("b1", first), ("b2", second)):
        found = mining.mine(bundle_of(name, sizes))
        assert len(set(found.values())) == len(found)
        ids[name] = found
    for name, sizes in (("b1", first), ("b3", third), ("b2", second)):
        assert mining.mine(bundle_of(name, sizes)) == ids[name]
    for topic in set(second) & set(third):
        assert ids["b2"][topic,] == ids["b3"][topic,] or topic in first


@given(group_sizes, group_sizes, st.randoms(use_true_random=False))
@settings(max_examples=examples(40), deadline=None)
def test_the_order_of_groups_members_and_previous_clusters_does_not_matter(first, second, random):
    previous = list(bundle_of("b1", first).resolve().profiles)
    bundle = bundle_of("b2", second)
    expected = dict(zip(bundle.groups, bundle.resolve(previous=previous).ids, strict=True))
    random.shuffle(previous)
    places = list(range(len(bundle.groups)))
    random.shuffle(places)
    for name in ("groups", "members", "profiles"):
        setattr(bundle, name, [getattr(bundle, name)[place] for place in places])
    for members in bundle.members:
        random.shuffle(members)
    found = bundle.resolve(previous=previous)
    assert dict(zip(bundle.groups, found.ids, strict=True)) == expected
    assert [profile.cluster_id for profile in found.profiles] == list(found.ids)


@given(group_sizes, st.dictionaries(st.integers(0, TOPICS - 1), st.integers(1, 30), max_size=6))
@settings(max_examples=examples(60), deadline=None)
def test_traces_that_come_late_rename_no_cluster(sizes, late):
    mining = Mining(["b1"])
    before = dict(mining.mine(bundle_of("b1", sizes)))
    grown = {topic: sizes.get(topic, 0) + late.get(topic, 0) for topic in {*sizes, *late}}
    after = mining.mine(bundle_of("b1", grown))
    assert {group: after[group] for group in before} == before
    assert len(set(after.values())) == len(after)


def test_a_cluster_of_a_bundle_mined_again_that_falls_apart_leaves_its_id_to_the_larger_part():
    before = [f"b1-0-{index:03d}" for index in range(10)]
    bundle = Bundle("b1", {(0,): [4], (1,): [6]})
    bundle.members = [before[:4], before[4:]]
    ids = bundle.resolve(same_bundle={"fc-old": before}).ids
    assert ids[1] == "fc-old"
    assert ids[0] != "fc-old"


def test_an_id_that_a_group_kept_is_not_given_to_another_group_that_the_bundle_before_would_give_it_to():
    bundle = Bundle("b2", {(0,): [9], (1,): [9]})
    previous = replace(Bundle("b1", {(1,): [9]}).profiles[0], cluster_id="fc-kept")
    found = bundle.resolve(same_bundle={"fc-kept": bundle.members[0]}, previous=[previous])
    assert found.ids[0] == "fc-kept"
    assert found.ids[1] != "fc-kept"
    assert [set(one) for one in found.inherits] == [set(), {"fc-kept"}]


def test_of_two_groups_that_are_alike_the_same_one_is_the_heir_whichever_stands_first():
    bundle = Bundle("b2", {(0,): [9], (1,): [9]})
    bundle.profiles = [bundle.profiles[0], replace(bundle.profiles[0])]
    previous = Bundle("b1", {(0,): [9]}).resolve().profiles
    ids = bundle.resolve(previous=previous).ids
    bundle.profiles, bundle.members = bundle.profiles[::-1], bundle.members[::-1]
    assert bundle.resolve(previous=previous).ids == ids[::-1]


def test_an_id_in_use_anywhere_is_not_given_again():
    bundle = Bundle("b1", {(0,): [5]})
    first = birth_id("b1", bundle.members[0])
    assert bundle.resolve().ids == (first,)
    assert bundle.resolve(taken=frozenset({first})).ids != (first,)
    assert birth_id("b2", bundle.members[0]) != first


def test_another_embedding_dimension_is_an_error_and_not_a_new_birth():
    other = profile_of("p", np.eye(3, dtype=np.float32), ["x", "y", "z"], stage="intent")
    with pytest.raises(ValueError, match="3 and 64 dimensions: the embedding model changed"):
        Bundle("b1", {(0,): [5]}).resolve(previous=[other])
    with pytest.raises(ValueError, match="embedding model changed"):
        Bundle("b1", {(0,): [5]}).resolve(following=[replace(other, stage="unknown")])


def test_what_does_not_fit_together_is_refused():
    bundle = Bundle("b1", {(0,): [5], (1,): [5]})
    with pytest.raises(ValueError, match="2 groups but 1 lists"):
        resolve_identities(bundle.profiles, release_bundle="b1", members=bundle.members[:1])
    with pytest.raises(ValueError, match="'b1-0-000' stands twice in the groups' members"):
        resolve_identities(bundle.profiles, release_bundle="b1", members=[bundle.members[0]] * 2)
    with pytest.raises(ValueError, match="stands twice in the previous clusters"):
        bundle.resolve(previous=[bundle.profiles[0]] * 2)
    with pytest.raises(ValueError, match="has size 5 but 4 members"):
        resolve_identities(bundle.profiles[:1], release_bundle="b1", members=[bundle.members[0][:4]])
    with pytest.raises(ValueError, match="NaN"):
        replace(bundle.profiles[0], centroid=np.full(DIMENSION, np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="newer bundle cannot have more failed turns"):
        bundle_events(bundle.profiles, [], turns=9, previous_turns=0)
    with pytest.raises(ValueError, match="lowest"):
        ClusterMatchingConfig(lowest=0.9)


def test_exemplars_do_not_depend_on_the_order_of_members_and_one_late_trace_changes_at_most_one():
    vectors = messages(0, 90)
    ids = [f"t{index}" for index in range(90)]
    chosen = {ids[row] for row in choose_exemplars(vectors, ids)}
    assert len(chosen) == 32
    assert {ids[::-1][row] for row in choose_exemplars(vectors[::-1], ids[::-1])} == chosen
    later = {[*ids, "late"][row] for row in choose_exemplars(np.concatenate([vectors, vectors[:1]]), [*ids, "late"])}
    assert len(chosen - later) <= 1
    with pytest.raises(ValueError, match="0 trace ids"):
        choose_exemplars(vectors[:0], [])


def test_no_groups_and_single_messages_are_resolved_too():
    assert resolve_identities([], release_bundle="b1", members=[]).ids == ()
    lone = Bundle("b1", {(0,): [1], (1,): [1]})
    again = Bundle("b2", {(0,): [1], (2,): [1]})
    found = again.resolve(previous=lone.resolve().profiles)
    assert [set(one) for one in found.inherits] == [{lone.resolve().ids[0]}, set()]


def test_planted_events_of_a_simulated_stream_are_found_and_few_are_invented():
    planted, found = 0, 0
    invented, claimed = 0, 0
    for seed in range(3):
        draw, move = clouds(np.random.default_rng(seed), topics=50, dimension=96, drift=0.2)
        plan = StreamPlan(bundles=4, groups=14, smallest=10)
        previous = None
        for bundle in stream(draw, move, topics=50, plan=plan, seed=seed):
            groups = {f"{bundle.name}/{place}": group for place, group in enumerate(bundle.vectors)}
            profiles = [
                profile_of(identity, bundle.vectors[group], bundle.trace_ids[group], stage="intent")
                for identity, group in groups.items()
            ]
            if previous:
                events = {
                    Planted(
                        event.kind,
                        frozenset(groups[identity] for identity in event.cluster_ids),
                        frozenset(previous[1][identity] for identity in event.previous_ids),
                    )
                    for event in bundle_events(profiles, previous[0], turns=bundle.turns, previous_turns=previous[2])
                    if event.kind != "unseen"
                }
                planted, found = planted + len(bundle.events), found + len(events & bundle.events)
                claimed, invented = claimed + len(events), invented + len(events - bundle.events)
            previous = (profiles, groups, bundle.turns)
    assert found / planted >= 0.95
    assert invented / claimed < 0.02


def test_a_cluster_that_is_mostly_new_carries_nothing_on():
    earlier = Bundle("b1", {(0,): [4]})
    later = Bundle("b2", {(0, 1): [3, 27]})
    found = link_clusters(later.profiles, earlier.profiles)
    assert not found.kin.any()
    assert link_clusters(later.profiles, earlier.profiles, config=ClusterMatchingConfig(known_share=0.05)).kin.all()


def test_a_cluster_that_is_half_known_is_carried_on():
    earlier = Bundle("b1", {(0,): [16]})
    later = Bundle("b2", {(0, 1): [16, 14]})
    assert link_clusters(later.profiles, earlier.profiles).kin.all()
