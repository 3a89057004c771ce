from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.datasets.building.intent_dataset import IntentDatasetConfig, build_intent_dataset
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.guards.poisoning import ShopperHistory, TrustConfig, admit, shopper_history
from tests.support.intent_labels import BASE, make_label, user_on

DAY = 24 * 60 * 60 * 1000
NOW = 100 * DAY


def history_of(**first_days: int) -> ShopperHistory:
    traces = [("first-of-all", "founder", "s0", 0)]
    traces += [(f"t-{user}", user, f"s-{user}", day * DAY) for user, day in first_days.items()]
    return shopper_history(traces)


def guess(trace_id: str, text: str, **fields):
    return make_label(trace_id, text, **{"kind": "propagated", "confidence": 0.8, "labelled_ms": NOW, **fields})


def admitted(labels, *, base=None, history=None, caps=None, **limits):
    excluded = Counter()
    labels = admit(
        labels,
        base_intents=base or {"return_item": 100},
        history=history,
        caps=caps or Caps(),
        config=TrustConfig(**limits),
        excluded=excluded,
    )
    return SimpleNamespace(labels=labels, excluded=+excluded)


def trace_ids(admission) -> set[str]:
    return {label.trace_id for label in admission.labels}


def test_who_came_a_day_ago_is_new_and_who_came_first_is_not():
    history = history_of(old=20, fresh=99, early=3)
    assert history.is_newcomer("fresh", at_ms=NOW, days=7)
    assert not history.is_newcomer("old", at_ms=NOW, days=7)
    assert not history.is_newcomer("early", at_ms=4 * DAY, days=7), "nobody could be older when the record began"
    assert history.is_newcomer(None, at_ms=NOW, days=7)
    assert history.is_newcomer("never seen", at_ms=NOW, days=7)


def test_a_newcomer_has_a_smaller_cap():
    history = history_of(old=20, fresh=99)
    labels = [
        make_label(f"{user}{n:02d}", f"message {n} of {user}", user_key=user, labelled_ms=NOW, timestamp_ms=n)
        for user in ("old", "fresh")
        for n in range(20)
    ]
    admission = admitted(labels, history=history)
    assert Counter(label.user_key for label in admission.labels) == {"old": 10, "fresh": 3}
    assert admission.excluded == {"over the cap per shopper": 10, "over the cap per new shopper": 17}


def test_saying_the_same_again_does_not_use_up_the_cap():
    labels = [make_label(f"a{n}", "send it back!", timestamp_ms=n) for n in range(30)]
    labels += [make_label(f"b{n}", f"other message {n}", timestamp_ms=100 + n) for n in range(9)]
    admission = admitted(labels)
    assert len(admission.labels) == 10
    assert admission.excluded == {"duplicate message": 29}


@pytest.mark.parametrize(
    ("writers", "counts"),
    [
        (["old", "elder"], True),
        (["old"], False),
        (["old", "old"], False),
        (["fresh", "fresh2", "fresh3"], False),
        (["fresh", "fresh2", "fresh3", "fresh4"], True),
        (["old", "fresh", "fresh2"], True),
        ([], False),
    ],
)
def test_a_guess_counts_only_with_a_quorum_of_distinct_shoppers_behind_it(writers, counts):
    first_days = {"old": 20, "elder": 20} | {f"fresh{n}": 99 for n in ("", "2", "3", "4")}
    history = history_of(**first_days)
    sources = {f"source{n}": user for n, user in enumerate(writers)}
    history = shopper_history(
        [
            ("first-of-all", "founder", "s0", 0),
            *((f"seen-{user}", user, "s", day * DAY) for user, day in first_days.items()),
            *((trace_id, user, "s", NOW) for trace_id, user in sources.items()),
        ]
    )
    label = guess("g", "send it back", user_key="old", sources=(*sources, "trace of an erased shopper"))
    assert bool(admitted([label], history=history).labels) is counts


def test_one_shopper_is_a_quarter_of_an_intent_at_most():
    own = [make_label(f"a{n:02d}", f"own message {n}", "rare", timestamp_ms=n) for n in range(10)]
    others = [make_label(f"b{n:02d}", f"message of {n}", "rare", user_key=f"other{n}") for n in range(15)]
    admission = admitted([*own, *others], base={})
    assert trace_ids(admission) == {f"a{n:02d}" for n in range(5)} | {f"b{n:02d}" for n in range(15)}
    assert len(admitted(own, base={}).labels) == 3


def test_fifty_fresh_accounts_acting_in_concert_do_not_outnumber_what_is_known():
    users = [f"fresh{n}" for n in range(50)]
    history = shopper_history(
        [
            ("first-of-all", "founder", "s0", 0),
            *((f"by-{user}", user, "s", day) for user, day in {"old": DAY, "elder": DAY}.items()),
            *((f"seen-{user}", user, f"s-{user}", NOW - 1) for user in users),
        ]
    )
    crowd = [
        guess(f"{user}-{n}", f"{user} says {n}", intent="gift_card", user_key=user, sources=("by-old", "by-elder"))
        for user in users
        for n in range(20)
    ]
    admission = admitted(crowd, base={"gift_card": 12}, history=history)
    assert len(admission.labels) == 12
    assert len(admitted(crowd, base={"gift_card": 12}).labels) == 500, "without the discount"
    reviewed = [make_label(f"r{n}", f"review {n}", "gift_card", user_key=users[n], labelled_ms=NOW) for n in range(40)]
    assert len(admitted(reviewed, base={"gift_card": 12}, history=history).labels) == 40, "people looked at each"


def test_a_thousand_sessions_without_an_account_are_newcomers_all():
    crowd = [
        guess(f"x{n:04d}", f"anonymous words {n}", intent="gift_card", user_key=None, sources=(f"x{n:04d}", "x0000"))
        for n in range(1_000)
    ]
    traces = [("first-of-all", "founder", "s0", 0), *((one.trace_id, None, one.session_id, NOW) for one in crowd)]
    history = shopper_history(traces)
    assert not admitted(crowd, base={"gift_card": 12}, history=history).labels, "two of them are no quorum"
    assert len(admitted(crowd, base={"gift_card": 12}, history=history, quorum=1).labels) == 12


def test_impossible_limits_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        TrustConfig(share_of_one=1.0)
    with pytest.raises(ValueError, match="quorum is -1"):
        TrustConfig(quorum=-1)


HONEST = [
    make_label(f"h{n:03d}", f"honest message {n} about {topic}", intent, user_key=user_on(side, n), timestamp_ms=n)
    for n, (topic, intent, side) in enumerate(
        (topic, intent, side)
        for topic, intent in (("a refund", "return_item"), ("wrapping", "gift_card"), ("the parcel", "order_status"))
        for side in ("train", "train", "validation", "test")
        for _ in range(4)
    )
]


def flood_of(side: str, count: int, texts: list[str]) -> list:
    """Return what one shopper gets labelled in many sessions: reviews, and guesses in all the clusters they are in."""
    flooder = user_on(side, 200)
    return [
        make_label(
            f"x{n:05d}",
            texts[n % len(texts)].format(n),
            ("return_item", "gift_card", "order_status", "invented")[n % 4],
            kind=("human", "judge", "propagated", "propagated")[n % 4],
            confidence=0.9,
            sources=("h000", "h001"),
            user_key=flooder,
            session_id=f"flood-{n}",
            timestamp_ms=500 + n,
            labelled_ms=3_000 + n,
        )
        for n in range(count)
    ]


def kept(labels, caps) -> set[str]:
    examples = build_intent_dataset(BASE, labels, config=IntentDatasetConfig(caps=caps)).rows
    return set(examples["example_id"])


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_ten_thousand_labels_of_one_shopper_change_no_dataset_beyond_the_cap(side):
    caps = Caps(per_user=10)
    flood = flood_of(side, 10_000, ["thumbs down number {}"])
    without, with_flood = kept(HONEST, caps), kept([*HONEST, *flood], caps)
    assert without <= with_flood
    assert 0 < len(with_flood - without) <= caps.per_user


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_flood_of_other_peoples_messages_pushes_out_no_more_than_the_cap(side):
    caps = Caps(per_user=10)
    flood = flood_of(side, 10_000, [label.text for label in HONEST] + [one.text for one in BASE])
    without, with_flood = kept(HONEST, caps), kept([*HONEST, *flood], caps)
    assert len(with_flood - without) <= caps.per_user
    assert len(without - with_flood) <= caps.per_user


@given(
    st.lists(st.tuples(st.integers(0, 47), st.integers(0, 3), st.integers(0, 9_999)), max_size=60),
    st.sampled_from(["train", "validation", "test"]),
)
@settings(deadline=None)
def test_whatever_one_shopper_writes_the_difference_is_bounded(written, side):
    caps = Caps(per_user=4)
    flooder = user_on(side, 200)
    labels = [
        make_label(
            f"x{number}",
            HONEST[copied].text if kind else f"new words {time}",
            HONEST[(copied + kind) % 48].intent,
            kind=("human", "judge", "propagated", "human")[kind],
            user_key=flooder,
            session_id=f"flood-{number}",
            timestamp_ms=time,
            labelled_ms=20_000,
        )
        for number, (copied, kind, time) in enumerate(written)
    ]
    without, with_labels = kept(HONEST, caps), kept([*HONEST, *labels], caps)
    own = {f"trace-{label.trace_id}" for label in labels}
    assert len(with_labels & own) <= caps.per_user
    assert len((without ^ with_labels) - own) <= 2 * caps.per_user


def by_reviewer(**counts):
    """Labels of many shoppers, so many of each reviewer."""
    return [
        make_label(f"{who}-{n:03d}", f"message {n} of {who}", user_key=f"{who}-shopper-{n}", labeller=who)
        for who, count in counts.items()
        for n in range(count)
    ]


def reviewers_of(admission):
    return Counter(label.labeller for label in admission.labels)


def test_one_unconfirmed_reviewer_has_half_of_peoples_labels_where_several_review():
    assert reviewers_of(admitted(by_reviewer(eve=200, aki=70, ben=10))) == {"eve": 80, "aki": 70, "ben": 10}
    admission = admitted(by_reviewer(eve=200, aki=7))
    assert reviewers_of(admission) == {"eve": 50, "aki": 7}, "one bundle's queue is allowed to anybody"
    assert admission.excluded == {"over one reviewer's share of people's labels": 150}


def test_a_single_reviewer_is_not_capped_nor_one_beside_whom_somebody_only_tried_it_out():
    assert reviewers_of(admitted(by_reviewer(aki=200))) == {"aki": 200}
    assert reviewers_of(admitted(by_reviewer(aki=200, ben=4))) == {"aki": 200, "ben": 4}


def test_a_confirmed_reviewer_is_not_capped():
    excluded = Counter()
    labels = admit(
        by_reviewer(Aki=200, ben=10),
        base_intents={"return_item": 100},
        history=None,
        caps=Caps(),
        config=TrustConfig(),
        excluded=excluded,
        confirmed=("aki",),
    )
    assert Counter(label.labeller for label in labels) == {"Aki": 200, "ben": 10}


def test_a_share_of_reviewers_that_is_none_is_refused():
    with pytest.raises(ValueError, match="reviewer_share is 1"):
        TrustConfig(reviewer_share=1.0)
