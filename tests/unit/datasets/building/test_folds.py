"""Every label that people gave is a test of a model that has not seen it: not its shopper, session, message or copy."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.folds import folds_of
from mangaassist_assets.datasets.guards.near_duplicates import Fingerprints, NearDuplicateIndex
from mangaassist_assets.datasets.schema import INTENT_SCHEMA, labels_of_people

SENTENCES = [
    *(f"could you tell me where my {thing} has got to, please" for thing in ("order", "older", "orders", "parcel")),
    *("one", "Two!", "two", "six vol 1", "six vol 2", "track my parcel", "wrap it as a present"),
]

rows = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(SENTENCES),
            "label_kind": st.sampled_from(["base", "human", "human", "judge", "propagated"]),
            "split": st.sampled_from(["train", "train", "validation", "test"]),
            "user_key": st.sampled_from([None, "u1", "u2", "u3", "u4"]),
            "session_id": st.sampled_from([None, "s1", "s2", "s3", "s4", "s5"]),
            "timestamp_ms": st.one_of(st.none(), st.integers(0, 40).map(lambda minute: minute * 60_000)),
        }
    ),
    max_size=30,
)


def frame_of(given_rows) -> pl.DataFrame:
    named = []
    for number, row in enumerate(given_rows):
        owners = {} if row["label_kind"] != "base" else {"user_key": None, "session_id": None, "timestamp_ms": None}
        named.append({**row, **owners, "example_id": f"e{number:02d}", "intent": "p"})
    return pl.DataFrame(named, schema=INTENT_SCHEMA)


@given(rows, st.integers(1, 5))
@settings(deadline=None)
def test_no_fold_model_saw_a_tests_shopper_session_message_or_near_duplicate(given_rows, count):
    frame = frame_of(given_rows)
    by_id = {row["example_id"]: row for row in frame.to_dicts()}
    folds = folds_of(frame, count=count)
    tests = sorted(one for fold in folds for one in fold.tests)
    assert tests == sorted(labels_of_people(frame)["example_id"])
    made = Fingerprints()
    for fold in folds:
        asked = [by_id[one] for one in fold.tests]
        messages = NearDuplicateIndex.of(sorted({normalise_text(row["text"]) for row in asked}), made)
        for one in fold.learned:
            row = by_id[one]
            assert row["split"] != "test"
            assert not messages.has_near(made.of([normalise_text(row["text"])])[0])
            for name in ("user_key", "session_id"):
                assert row[name] is None or row[name] not in {other[name] for other in asked}


@given(rows)
@settings(deadline=None)
def test_what_has_nothing_to_do_with_the_tests_is_learned_in_every_fold(given_rows):
    frame = frame_of(given_rows)
    apart = pl.DataFrame(
        [
            {"example_id": "apart", "text": "entirely other words", "label_kind": "base", "split": "train"},
            {"example_id": "held", "text": "nothing of the kind either", "label_kind": "base", "split": "test"},
        ],
        schema=INTENT_SCHEMA,
    )
    for fold in folds_of(pl.concat([frame, apart]), count=3):
        assert "apart" in fold.learned
        assert "held" not in fold.learned


def test_a_session_and_the_account_it_logged_in_to_are_one_person():
    def row(example_id, text, session_id, user_key):
        return {
            "example_id": example_id,
            "text": text,
            "label_kind": "human",
            "split": "train",
            "session_id": session_id,
            "user_key": user_key,
        }

    frame = pl.DataFrame(
        [
            row("before", "where is it", "s1", None),
            row("after", "send another one", "s1", "u1"),
            row("elsewhere", "gift for my aunt", "s2", "u1"),
            row("other", "opening hours", "s3", "u2"),
        ],
        schema=INTENT_SCHEMA,
    )
    person = {"before", "after", "elsewhere"}
    for fold in folds_of(frame, count=50):
        assert not (fold.tests & person and fold.learned & person)
        assert (fold.learned == {"other"}) == bool(fold.tests & person)


def test_a_shopper_stays_in_the_fold_as_labels_come_in():
    def labels(count):
        return frame_of(
            {
                "text": f"message number {number * 7919}",
                "label_kind": "human",
                "split": "train",
                "user_key": f"u{number % 9}",
                "session_id": f"s{number}",
                "timestamp_ms": number * 3_600_000,
            }
            for number in range(count)
        )

    few = {one: fold.number for fold in folds_of(labels(30), count=5) for one in fold.tests}
    many = {one: fold.number for fold in folds_of(labels(60), count=5) for one in fold.tests}
    assert few.items() <= many.items()
    assert len(set(few.values())) > 2
