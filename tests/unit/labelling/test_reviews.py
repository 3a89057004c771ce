from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json
from mangaassist_assets.labelling.people.policy import LabellingPolicy, person_key
from mangaassist_assets.labelling.reviews import (
    is_reviewed,
    labels_from_reviews,
    read_reviewed_turns,
    read_turns_to_label,
)
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from tests.support.labelling import make_turn, reviewed_turn, said
from tests.support.turn_frames import turns_frame


def kinds(reading):
    return [one.kind for one in reading.disagreements]


def test_a_review_is_a_label_with_its_own_trace_as_its_source():
    reading = labels_from_reviews([reviewed_turn("b", said("gift_card", by="aki", at=7)), make_turn("a")])
    (label,) = reading.labels
    assert (label.trace_id, label.intent, label.kind, label.confidence) == ("b", "gift_card", "human", 1.0)
    assert (label.sources, label.labeller, label.labelled_ms) == (("b",), "aki", 7)


def test_a_turn_without_its_list_of_reviews_still_has_its_label():
    (label,) = labels_from_reviews([make_turn("b", expected_intent="gift_card", timestamp_ms=5)]).labels
    assert (label.intent, label.labeller, label.labelled_ms) == ("gift_card", "unknown", 5)


def test_a_review_that_confirms_the_classifier_is_a_label_too():
    assert len(labels_from_reviews([reviewed_turn("a", said("order_status"))]).labels) == 1


def test_two_people_who_contradict_each_other_on_a_turn_are_listed_and_give_no_label():
    reading = labels_from_reviews([reviewed_turn("a", said("x", by="aki", at=1), said("y", by="ben", at=2))])
    assert reading.labels == ()
    (conflict,) = reading.conflicts
    assert (conflict.trace_ids, conflict.answers) == (("a",), ("x", "y"))
    (found,) = reading.disagreements
    assert [(one.intent, one.by, one.given_ms) for one in found.answers] == [("x", "aki", 1), ("y", "ben", 2)]
    assert "no label" in found.outcome


def test_two_people_who_agree_make_one_label():
    reading = labels_from_reviews([reviewed_turn("a", said("x", by="aki", at=1), said("x", by="ben", at=2))])
    assert [(one.intent, one.labeller, one.labelled_ms) for one in reading.labels] == [("x", "aki", 2)]
    assert reading.disagreements == ()


def test_a_person_who_changes_their_mind_is_believed_later_and_listed():
    reading = labels_from_reviews([reviewed_turn("a", said("x", by="Aki", at=1), said("y", by="aki", at=2))])
    assert [one.intent for one in reading.labels] == ["y"]
    assert kinds(reading) == ["revised"]
    assert reading.conflicts == ()


def test_contradicting_reviews_of_near_identical_messages_are_listed_and_excluded():
    reading = labels_from_reviews(
        [
            reviewed_turn("a", said("find_title"), message="Where is vol. 12?"),
            reviewed_turn("b", said("order_status"), message="where is vol 12"),
            reviewed_turn("c", said("order_status"), message="another thing"),
        ]
    )
    assert [label.trace_id for label in reading.labels] == ["c"]
    (conflict,) = reading.conflicts
    assert (conflict.trace_ids, conflict.answers) == (("a", "b"), ("find_title", "order_status"))
    assert kinds(reading) == ["same_message"]
    assert reading.skipped == {"people contradict each other": 2}


def test_a_turn_in_two_disagreements_is_in_one_conflict():
    reading = labels_from_reviews(
        [
            reviewed_turn("a", said("x", by="aki"), said("y", by="ben"), message="the same"),
            reviewed_turn("b", said("x", by="aki"), message="The same!"),
        ]
    )
    assert [one.trace_ids for one in reading.conflicts] == [("a", "b")]
    assert kinds(reading) == ["reviewers", "same_message"]


def test_an_answer_is_a_known_intent_however_it_is_spelled_and_anything_else_is_no_label():
    reading = labels_from_reviews(
        [
            reviewed_turn("a", said("Gift-Card ")),
            reviewed_turn("b", said("event booking")),
            reviewed_turn("c", said("no idea | <b>")),
        ],
        known_intents=["gift_card", "event_booking"],
    )
    assert [one.intent for one in reading.labels] == ["gift_card", "event_booking"]
    assert reading.waiting == ()
    assert reading.skipped == {"the answer is no name of an intent": 1}


def test_judges_and_code_are_no_people():
    turn = make_turn("a", reviews=(said("x"),))
    for source in ("judge", "code"):
        other = make_turn("a", reviews=tuple(type(one)(**{**_fields(one), "source": source}) for one in turn.reviews))
        assert labels_from_reviews([other]).labels == ()


def _fields(review):
    return {name: getattr(review, name) for name in ("name", "kind", "values", "source", "source_id", "timestamp_ms")}


reviews = st.lists(
    st.builds(said, st.sampled_from("xyz"), by=st.sampled_from(["aki", "ben"]), at=st.integers(1, 5)),
    min_size=1,
    max_size=4,
)


@given(st.lists(reviews, max_size=5), st.randoms())
def test_nothing_is_averaged_and_order_changes_nothing(given_reviews, random):
    turns = [
        reviewed_turn(f"t{number}", *some, message=f"text {number % 3}") for number, some in enumerate(given_reviews)
    ]
    reading = labels_from_reviews(turns)
    shuffled = list(turns)
    random.shuffle(shuffled)
    assert labels_from_reviews(shuffled) == reading
    labelled = {label.trace_id for label in reading.labels}
    disputed = {trace_id for conflict in reading.conflicts for trace_id in conflict.trace_ids}
    assert labelled.isdisjoint(disputed)
    assert labelled | disputed == {turn.trace_id for turn in turns}
    assert len({(label.text, label.intent) for label in reading.labels}) == len(
        {label.text for label in reading.labels}
    )


def test_of_a_stored_bundle_those_turns_are_read_that_reviews_and_labels_are_made_of(tmp_path):
    turns = [
        reviewed_turn("a", said("x", by="aki")),
        make_turn("b", expected_documents=("a.md",)),
        make_turn("c", reviews=(said("x", by="aki"),)),
        make_turn("d", reviews=(replace(said("x"), source="judge"),)),
        make_turn("e"),
        make_turn("f"),
    ]
    store = SnapshotStore(UPath(tmp_path))
    files = {TURNS_FILE: to_parquet(turns_frame(turns)), TURNS_CARD_FILE: canonical_json({"first_timestamp_ms": 1})}
    store.write("tagged_traces", files, partition="b1")
    assert read_reviewed_turns(store, "b1") == [turn for turn in turns if is_reviewed(turn)] == turns[:2]
    found = read_turns_to_label(store, "b1", ["f"])
    assert found == [*turns[:3], turns[5]]
    assert labels_from_reviews(found) == labels_from_reviews(turns)


def test_what_others_than_the_listed_say_is_counted_and_never_used():
    turns = [
        reviewed_turn("a", said("x", by="Aki"), said("y", by="eve", at=9)),
        reviewed_turn("b", said("x", by="eve")),
    ]
    reading = labels_from_reviews(turns, policy=LabellingPolicy(reviewers=("aki",)))
    assert [(one.trace_id, one.intent) for one in reading.labels] == [("a", "x")]
    assert reading.conflicts == ()
    assert reading.unheard == {"eve": 2}
    assert reading.skipped == {"not of a listed reviewer": 1}


def test_who_is_held_back_gives_no_label_and_contradicts_nobody():
    turns = [reviewed_turn("a", said("x", by="aki"), said("y", by="Eve")), reviewed_turn("b", said("y", by="eve"))]
    reading = labels_from_reviews(turns, held_back={"eve"})
    assert [one.trace_id for one in reading.labels] == ["a"]
    assert reading.fates == {"the reviewer's answers are held back": 2, "used": 1}


def test_a_name_that_is_not_known_waits_with_who_gave_it_and_to_whose_messages():
    turns = [
        reviewed_turn("a", said("zine")),
        reviewed_turn("b", said("ｚｉｎｅ", by="ben")),
        reviewed_turn("c", said("Zi\u200bne")),
        reviewed_turn("d", said("x")),
    ]
    reading = labels_from_reviews(turns, known_intents=["x"])
    (waiting,) = reading.waiting
    assert (waiting.name, waiting.trace_ids, waiting.shoppers, waiting.by) == (
        "zine",
        ("a", "b", "c"),
        3,
        ("aki", "ben"),
    )
    assert reading.fates == {"the name waits to be accepted": 3, "used": 1}


def test_a_third_person_settles_what_two_differ_on():
    turn = reviewed_turn("a", said("x", by="aki", at=1), said("y", by="ben", at=2), said("y", by="cho", at=3))
    reading = labels_from_reviews([turn])
    assert [(one.intent, one.labeller) for one in reading.labels] == [("y", "ben")]
    assert reading.people == {"a": ("ben", "cho")}
    (found,) = reading.disagreements
    assert (found.kind, found.outcome) == ("outvoted", "2 of 3 people agree: y")
    assert reading.fates == {"outvoted by two others who agree": 1, "used": 2}


def test_a_third_answer_settles_nothing():
    turn = reviewed_turn("a", *(said(intent, by=intent) for intent in "xyz"))
    assert labels_from_reviews([turn]).labels == ()


PEOPLE = st.sampled_from(["aki", "Aki", "ben", "cho", "eve", ""])
ANSWERS = st.tuples(st.sampled_from(["x", "y", "X", "new", "n\u200bew", "no | name"]), PEOPLE, st.integers(1, 5))


@given(
    st.lists(st.tuples(st.lists(ANSWERS, min_size=1, max_size=5), st.sampled_from(["", "m", "n", "o"])), max_size=12),
    st.sampled_from([(), ("aki", "ben", "eve")]),
    st.sampled_from([(), ("eve",), ("eve", "ben")]),
)
def test_no_answer_is_lost(given_to, listed, held_back):
    turns = [
        reviewed_turn(
            f"t{number}",
            *(said(intent, by=by, at=at) for intent, by, at in answers),
            message=message or "   ",
        )
        for number, (answers, message) in enumerate(given_to)
    ]
    reading = labels_from_reviews(
        turns, known_intents=["x", "y"], policy=LabellingPolicy(reviewers=listed), held_back=held_back
    )
    assert sum(reading.fates.values()) == sum(len(answers) for answers, _ in given_to)
    assert len(reading.labels) + sum(reading.skipped.values()) == len(turns)
    assert sum(len(behind) for behind in reading.people.values()) == reading.fates.get("used", 0)
    used = {person for behind in reading.people.values() for person in behind}
    assert not {person_key(one) for one in used} & set(held_back)
    assert not listed or {person_key(one) for one in used} <= set(listed)
