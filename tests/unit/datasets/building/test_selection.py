from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.selection import DatasetCandidate, Selection, select
from mangaassist_assets.datasets.guards.leakage import HoldoutHistory
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.schema import SPLITS

MINUTE = 60_000
SENTENCE = "could you please tell me where my order of last week has got to"
ALIKE = "could you please tell me where my order from last week has got to"


def candidate(example_id: str, text: str, split: str = "train", **fields) -> DatasetCandidate:
    defaults = {"kind": "human", "session_id": f"s-{example_id}", "user_key": f"u-{example_id}"}
    if fields.get("kind") == "base":
        defaults = {}
    return DatasetCandidate(
        **{"example_id": example_id, "key": normalise_text(text), "split": split, **defaults, **fields}
    )


def chosen(*candidates: DatasetCandidate, **options) -> Selection:
    return select(candidates, caps=options.pop("caps", Caps()), **options)


def test_nearly_the_same_message_stays_on_the_stronger_side_only():
    selection = chosen(candidate("a", SENTENCE), candidate("b", ALIKE, "test"), candidate("c", "quite another"))
    assert selection.kept == {"b", "c"}
    assert selection.excluded == {"nearly the same message in test": 1}


def test_what_is_dropped_itself_drops_nothing():
    flood = [
        candidate("t1", "first of all", "test", user_key="flood", timestamp_ms=1),
        candidate("t2", SENTENCE, "test", user_key="flood", timestamp_ms=2),
    ]
    assert chosen(*flood, candidate("honest", ALIKE), caps=Caps(per_user=1)).kept == {"t1", "honest"}


def test_paraphrases_of_one_template_do_not_fill_a_side():
    template = "could you please tell me whether the ninth volume of paper lanterns is in stock at branch {}"
    crowd = [candidate(f"c{n:02d}", template.format(n), timestamp_ms=n) for n in range(40)]
    selection = chosen(*crowd, caps=Caps(per_near_duplicate=5))
    assert selection.kept == {f"c{n:02d}" for n in range(5)}
    assert selection.excluded == {"over the cap per near-duplicate": 35}


def test_of_copies_the_most_trusted_then_the_oldest_stays():
    copies = [
        candidate("guess", SENTENCE, kind="propagated", timestamp_ms=1),
        candidate("late", SENTENCE, timestamp_ms=9),
        candidate("early", SENTENCE, timestamp_ms=5),
    ]
    assert chosen(*copies).kept == {"early"}
    assert chosen(*copies, candidate("base", SENTENCE, kind="base")).kept == {"base"}


def test_the_golden_set_keeps_its_near_duplicates_out_of_every_side():
    selection = chosen(candidate("a", ALIKE), candidate("b", ALIKE, "test"), golden_texts=[SENTENCE])
    assert not selection.kept
    assert selection.excluded == {"in the golden set": 2}


def test_what_an_earlier_version_was_tested_on_is_never_trained_on():
    history = HoldoutHistory(
        examples={"a": "v1"},
        sessions={"tested-session": "v1"},
        users={"tested-user": "v1"},
        messages={normalise_text(SENTENCE): ("v1", "gone")},
    )
    selection = chosen(
        candidate("a", "by its id"),
        candidate("b", "by its session", session_id="tested-session"),
        candidate("c", "by its shopper", user_key="tested-user"),
        candidate("d", ALIKE),
        candidate("e", ALIKE, "test", user_key="tested-user"),
        candidate("f", "free to learn"),
        holdout_history=history,
    )
    assert selection.kept == {"e", "f"}


def test_who_starts_anew_without_an_account_minutes_later_is_on_one_side():
    asked = candidate("a", "where is my parcel please", "test", user_key=None, timestamp_ms=100 * MINUTE)
    again = candidate("b", "so where is my parcel", user_key=None, timestamp_ms=103 * MINUTE)
    assert chosen(asked, again).excluded == {"same conversation in test": 1}
    next_day = candidate("b", "so where is my parcel", user_key=None, timestamp_ms=1_600 * MINUTE)
    assert chosen(asked, next_day).kept == {"a", "b"}
    two_shoppers = [
        candidate("a", "where is my parcel please", "test", timestamp_ms=100 * MINUTE),
        candidate("b", "so where is my parcel", timestamp_ms=103 * MINUTE),
    ]
    assert chosen(*two_shoppers).kept == {"a", "b"}


WORDS = [
    "where is my order",
    "where is my order now",
    "refund",
    "volume 1 please",
    "volume 2 please",
    "volume 3 please",
]
candidates = st.lists(
    st.builds(
        lambda number, text, split, kind, user, session, time: candidate(
            f"{number}",
            text,
            split,
            kind=kind,
            timestamp_ms=time * MINUTE,
            **({} if kind == "base" else owners(user, session)),
        ),
        st.integers(0, 10_000),
        st.sampled_from([f"{word} {tail}" for word in WORDS for tail in ("", "thanks", "and be quick about it")]),
        st.sampled_from(SPLITS),
        st.sampled_from(["base", "human", "judge", "propagated"]),
        st.sampled_from([None, "u1", "u2", "u3"]),
        st.sampled_from(["s1", "s2", "s3", "s4"]),
        st.integers(0, 40),
    ),
    max_size=30,
    unique_by=lambda one: one.example_id,
)


def owners(user: str | None, session: str) -> dict[str, str | None]:
    return {"user_key": user, "session_id": session}


def sides_tested(selection: Selection, offered: list[DatasetCandidate]) -> HoldoutHistory:
    test = [one for one in offered if one.example_id in selection.kept and one.split == "test"]
    return HoldoutHistory(
        examples={one.example_id: "v" for one in test},
        sessions={one.session_id: "v" for one in test if one.session_id},
        users={one.user_key: "v" for one in test if one.user_key},
        messages={one.key: ("v", one.example_id) for one in test},
    )


@given(candidates, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_choosing_again_with_the_version_that_came_out_among_the_earlier_ones_changes_nothing(offered, random):
    caps = Caps(per_user=3, per_session=2, per_near_duplicate=2)
    first = select(offered, caps=caps)
    shuffled = list(offered)
    random.shuffle(shuffled)
    again = select(shuffled, caps=caps, holdout_history=sides_tested(first, offered))
    assert again.kept == first.kept
    assert again.excluded == first.excluded
    assert len(first.kept) + sum(first.excluded.values()) == len(offered)
