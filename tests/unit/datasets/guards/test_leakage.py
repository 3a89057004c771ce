import polars as pl
import pytest

from mangaassist_assets.datasets.guards.holdout_history import EarlierVersion
from mangaassist_assets.datasets.guards.leakage import (
    LeakageError,
    find_leaks,
    leak_counts,
    refuse_crossings,
    refuse_leaks,
)
from tests.support.timing import growth

SENTENCE = "could you please tell me where my order of last week has got to"
ALIKE = "could you please tell me where my order from last week has got to"
MINUTE = 60_000
SCHEMA = {
    "example_id": pl.String,
    "text": pl.String,
    "split": pl.String,
    "session_id": pl.String,
    "user_key": pl.String,
    "timestamp_ms": pl.Int64,
    "labelled_ms": pl.Int64,
}


def frame_of(*rows: dict) -> pl.DataFrame:
    filled = [
        {**dict.fromkeys(SCHEMA), "example_id": f"e{number}", "text": f"message {number}", "split": "train", **row}
        for number, row in enumerate(rows, start=1)
    ]
    return pl.DataFrame(filled, schema=SCHEMA)


@pytest.mark.parametrize(
    ("shared", "kind"),
    [
        ({"text": SENTENCE}, "text"),
        ({"session_id": "shared"}, "session"),
        ({"user_key": "shared"}, "user"),
        ({"example_id": "e1"}, "example"),
    ],
)
def test_the_guard_names_what_is_on_two_sides(shared, kind):
    frame = frame_of({**shared, "split": "train"}, {**shared, "split": "test"})
    assert [leak.kind for leak in find_leaks(frame)] == [kind]
    with pytest.raises(LeakageError, match=f"{kind} on test and train: e1"):
        refuse_leaks(find_leaks(frame))
    one_side = frame_of({**shared, "split": "train"}, {**shared, "split": "train"})
    refuse_leaks(find_leaks(one_side))


def test_near_duplicates_on_two_sides_are_named_together():
    frame = frame_of({"text": ALIKE}, {"text": SENTENCE, "split": "test"}, {"text": "something else"})
    (leak,) = find_leaks(frame)
    assert (leak.kind, leak.sides, leak.example_ids) == ("near duplicate", ("test", "train"), ("e1", "e2"))
    assert SENTENCE not in leak.describe()


def test_one_conversation_in_two_sessions_on_two_sides_is_found():
    asked = {"text": "where is my parcel please", "split": "test", "session_id": "a", "timestamp_ms": 100 * MINUTE}
    again = {"text": "so where is my parcel", "session_id": "b", "timestamp_ms": 104 * MINUTE}
    assert [leak.kind for leak in find_leaks(frame_of(asked, again))] == ["conversation"]
    assert not find_leaks(frame_of(asked, {**again, "timestamp_ms": 400 * MINUTE}))
    assert not find_leaks(frame_of({**asked, "user_key": "one"}, {**again, "user_key": "other"}))


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_no_side_may_hold_nearly_a_message_of_the_golden_set(split):
    frame = frame_of({"text": ALIKE, "split": split}, {"text": "something else"})
    (leak,) = find_leaks(frame, golden=[SENTENCE])
    assert leak.example_ids == ("e1",)
    with pytest.raises(LeakageError, match=f"near duplicate on {split} and in the golden set: e1"):
        refuse_leaks(find_leaks(frame, golden=[SENTENCE]))


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"example_id": "old"}, "example"),
        ({"text": SENTENCE}, "text"),
        ({"text": ALIKE}, "near duplicate"),
        ({"session_id": "old-session"}, "session"),
        ({"user_key": "old-user"}, "user"),
    ],
)
def test_the_test_side_of_any_earlier_version_must_not_be_trained_on(row, kind):
    old = {"example_id": "old", "text": SENTENCE, "session_id": "old-session", "user_key": "old-user", "split": "test"}
    versions = [
        EarlierVersion(
            name="2026.03.03-rc1 11aa", frame=frame_of({"example_id": "other", "text": "unrelated", "split": "test"})
        ),
        EarlierVersion(name="2026.03.10-rc1 22bb", frame=frame_of(old)),
        EarlierVersion(name="2026.03.17-rc1 33cc", frame=frame_of({**old, "split": "train"})),
    ]
    leaks = find_leaks(frame_of(row), earlier=versions)
    assert {leak.kind for leak in leaks} == {kind}
    assert {leak.beside for leak in leaks} == {"the test side of 2026.03.10-rc1 22bb"}
    assert not find_leaks(frame_of({**row, "split": "test"}), earlier=versions)


def test_nothing_is_later_than_the_as_of_time():
    frame = frame_of({"timestamp_ms": 5, "labelled_ms": 9}, {"timestamp_ms": 5, "labelled_ms": 6}, {})
    assert not find_leaks(frame, as_of_ms=9)
    with pytest.raises(LeakageError, match=r"later than the as-of time: e1; do not"):
        refuse_leaks(find_leaks(frame, as_of_ms=8))


def test_an_example_that_changes_sides_between_versions_is_refused_by_name():
    with pytest.raises(LeakageError, match=r"e1 \(train → test\)"):
        refuse_crossings(frame_of({}, {}), frame_of({"split": "test"}, {}))


def test_a_frame_without_times_and_with_many_rows_an_example_is_looked_at_as_well():
    frame = frame_of({"text": "q"}, {"text": "q", "example_id": "e1"}).drop("timestamp_ms", "labelled_ms")
    assert not find_leaks(frame.rename({"text": "query"}), text_column="query", as_of_ms=1)
    assert not find_leaks(frame.clear())


def test_leaks_are_counted_by_kind_and_place():
    frame = frame_of({"text": ALIKE, "session_id": "s"}, {"text": SENTENCE, "session_id": "s", "split": "test"})
    counts = leak_counts(find_leaks(frame, golden=[SENTENCE]))
    assert counts == {"near duplicate": 1, "near duplicate, beside the golden set": 2, "session": 1}


def test_comparing_with_ten_versions_costs_no_more_than_in_proportion(shared_data):
    import csv

    with (shared_data / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as handle:
        texts = sorted({row["utterance"] for row in csv.DictReader(handle)})[::20]
    rows = [
        {
            "text": text,
            "split": ("test", "validation", *["train"] * 6)[number % 8],
            "session_id": f"s{number}",
            "timestamp_ms": number * 20_000,
        }
        for number, text in enumerate(texts)
    ]
    frame = frame_of(*rows)
    versions = [EarlierVersion(name=f"v{number}", frame=frame) for number in range(10)]

    def compare(count: int) -> None:
        assert find_leaks(frame, golden=texts[:200], earlier=versions[:count], as_of_ms=10**9)

    assert growth(compare, 1, 10, enough=10) < 10
