from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
from mangaassist_assets.datasets.building.intent_dataset import (
    IntentDatasetConfig,
    build_intent_dataset,
    carried_labels,
    pinned_sides,
)
from mangaassist_assets.datasets.guards.leakage import (
    EarlierVersion,
    LeakageError,
    find_leaks,
    holdout_history_of,
    refuse_crossings,
    refuse_leaks,
)
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.guards.poisoning import TrustConfig, shopper_history
from mangaassist_assets.datasets.schema import SPLITS
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.models.intent.model_type import IntentModelType
from tests.support.intent_labels import BASE, make_label, session_on, user_on


def ids(examples: pl.DataFrame) -> set[str]:
    return set(examples["example_id"])


def test_bootstrap_messages_and_labels_meet_in_one_frame_with_their_provenance():
    dataset = build_intent_dataset(BASE, [make_label("t1", "send it back")])
    row = dataset.rows.row(by_predicate=pl.col("example_id") == "trace-t1", named=True)
    assert (row["intent"], row["split"], row["label_kind"], row["source_trace_id"]) == (
        "return_item",
        "train",
        "human",
        "t1",
    )
    assert dataset.rows.filter(pl.col("label_kind") == "base").height == len(BASE)
    assert set(dataset.rows.filter(pl.col("split") == "train")["intent"]) == {
        "order_status",
        "gift_card",
        "return_item",
    }
    assert {one.example_id for one in IntentModelType().examples(dataset.rows, "train")} == ids(
        dataset.rows.filter(pl.col("split") == "train")
    )


def test_rows_know_how_their_messages_came_to_be_reviewed_and_a_later_bundle_still_does():
    label = make_label("t1", "send it back", origin="audit", inclusion_probability=0.125, bundle_turns=900)
    rows = build_intent_dataset(BASE, [label]).rows
    known = rows.filter(pl.col("label_kind") == "human").select("origin", "inclusion_probability", "bundle_turns")
    assert known.rows() == [("audit", 0.125, 900)]
    corpus = rows.filter(pl.col("label_kind") == "base").select("origin", "inclusion_probability", "bundle_turns")
    assert set(corpus.rows()) == {("corpus", None, None)}
    assert carried_labels(rows) == [label]
    assert build_intent_dataset(BASE, [label]).seal().card.by_origin == {"audit": 1, "corpus": len(BASE)}


def test_labels_of_a_version_of_before_origins_were_kept_are_carried():
    label = make_label("t1", "send it back", origin="audit", inclusion_probability=0.125, bundle_turns=900)
    old = build_intent_dataset(BASE, [label]).rows.drop("origin", "inclusion_probability", "bundle_turns")
    carried = carried_labels(old)
    assert carried == [make_label("t1", "send it back")]
    assert build_intent_dataset(BASE, carried).seal().card.by_origin == {"corpus": len(BASE), "unknown": 1}


def test_examples_know_whose_shopper_wrote_them_and_a_later_bundle_still_does():
    label = replace(make_label("t1", "send it back"), tenant="store-berlin")
    dataset = build_intent_dataset(BASE, [label])
    tenants = {one.example_id: one.tenant for one in IntentModelType().examples(dataset.rows, "train")}
    assert (tenants.pop("trace-t1"), set(tenants.values())) == ("store-berlin", {""})
    assert [one.tenant for one in carried_labels(dataset.rows.filter(pl.col("label_kind") == "human"))] == [
        "store-berlin"
    ]


def test_a_guess_weighs_its_confidence_and_never_judges():
    labels = [
        make_label("t1", "send it back", kind="propagated", confidence=0.7),
        make_label("t2", "give it back", kind="propagated", confidence=0.7, user_key=user_on("validation")),
    ]
    dataset = build_intent_dataset(BASE, labels)
    assert dataset.provenance.excluded["propagated label outside train"] == 1
    weights = {one.example_id: one.weight for one in IntentModelType().examples(dataset.rows, "train")}
    assert weights["trace-t1"] == 0.7


def test_the_same_message_on_two_sides_stays_on_the_stronger_one():
    labels = [make_label("t1", "Send it back!"), make_label("t2", "send it back", user_key=user_on("validation"))]
    dataset = build_intent_dataset(BASE, labels)
    assert ids(dataset.rows) & {"trace-t1", "trace-t2"} == {"trace-t2"}
    assert dataset.provenance.excluded["same message in validation"] == 1


def test_labels_of_traffic_teach_wherever_the_hash_puts_their_shopper():
    labels = [make_label(f"t{side}", f"message for {side}", user_key=user_on(side)) for side in SPLITS]
    traffic = build_intent_dataset(BASE, labels).rows.filter(pl.col("label_kind") == "human")
    assert dict(traffic.select("example_id", "split").iter_rows()) == {
        "trace-ttrain": "train",
        "trace-tvalidation": "validation",
        "trace-ttest": "train",
    }


def test_what_shoppers_send_too_teaches_and_its_test_copy_goes():
    corpus = build_intent_dataset(BASE, []).rows
    tested = corpus.filter(pl.col("split") == "test").sort("example_id")
    text, intent = tested.row(0, named=True)["text"], tested.row(0, named=True)["intent"]
    for kind, sent in (("human", text.upper()), ("judge", text)):
        dataset = build_intent_dataset(BASE, [make_label("t1", sent, intent, kind=kind)])
        taught = ids(dataset.rows.filter(pl.col("split") == "train"))
        reason = "test copy of a message that people labelled" if kind == "human" else "same message in test"
        assert ("trace-t1" in taught) == (kind == "human")
        assert dataset.provenance.excluded[reason] == 1
        assert (text in dataset.rows["text"].to_list()) == (kind == "judge")


def test_an_earlier_test_bars_the_corpus_and_not_the_traffic():
    before = build_intent_dataset(BASE, []).rows
    text, intent = before.filter(pl.col("split") == "test").sort("example_id").select("text", "intent").row(0)
    # As versions were before labels of traffic were tested by folds.
    old = before.with_columns(
        pl.when(pl.col("text") == text).then(pl.lit("human")).otherwise(pl.col("label_kind")).alias("label_kind")
    )
    earlier = [EarlierVersion(name="corpus", frame=before), EarlierVersion(name="old", frame=old)]
    labels = [make_label("t1", text, intent), make_label("t2", f"{text} now", intent, user_key=user_on("train", 1))]
    history = holdout_history_of(earlier, cross_fitted=True)
    rows = build_intent_dataset(BASE, labels, holdout_history=history).rows
    assert "trace-t1" in ids(rows)
    assert find_leaks(rows, earlier=earlier, cross_fitted=True) == []
    moved = rows.with_columns(pl.lit("train").alias("split"))
    leaks = find_leaks(moved, earlier=earlier, cross_fitted=True)
    assert leaks
    assert all(one.startswith("base-") for leak in leaks for one in leak.example_ids)
    assert {"trace-t1"} <= {one for leak in find_leaks(rows, earlier=earlier) for one in leak.example_ids}


def test_a_label_of_traffic_may_leave_the_test_side_that_older_versions_put_it_on():
    row = {"example_id": "trace-t1", "split": "test", "label_kind": "human"}
    base = {"example_id": "base-1", "split": "test", "label_kind": "base"}
    refuse_crossings(pl.DataFrame([row]), pl.DataFrame([{**row, "split": "train"}]), cross_fitted=True)
    for one in (row, base):
        with pytest.raises(LeakageError, match="test → train"):
            refuse_crossings(pl.DataFrame([one]), pl.DataFrame([{**one, "split": "train"}]), cross_fitted=one is base)


def test_a_session_that_logs_in_halfway_stays_on_one_side():
    session = session_on("validation")
    labels = [
        make_label("t1", "before the login", session_id=session, user_key=None),
        make_label("t2", "after the login", session_id=session),
    ]
    dataset = build_intent_dataset(BASE, labels)
    assert ids(dataset.rows) & {"trace-t1", "trace-t2"} == {"trace-t1"}
    assert find_leaks(dataset.rows) == []


def test_nobody_teaches_the_model_alone():
    flood = [make_label(f"t{n:03d}", f"poison number {n}", timestamp_ms=n) for n in range(60)]
    config = IntentDatasetConfig(caps=Caps(per_user=10, per_near_duplicate=100), trust=TrustConfig(share_free=100))
    dataset = build_intent_dataset(BASE, flood, config=config)
    kept = dataset.rows.filter(pl.col("label_kind") == "human")
    assert dataset.provenance.excluded["over the cap per shopper"] == 50
    assert ids(kept) == {f"trace-t{n:03d}" for n in range(10)}
    alone = build_intent_dataset(BASE, flood)
    assert alone.provenance.excluded["over one shopper's share of the intent"] == 7


def test_one_anonymous_session_is_capped_as_well():
    flood = [make_label(f"t{n:02d}", f"number {n}", session_id="s", user_key=None) for n in range(30)]
    config = IntentDatasetConfig(caps=Caps(per_session=4), trust=TrustConfig(share_free=100))
    card = build_intent_dataset(BASE, flood, config=config).seal().card
    assert card.by_label_kind["human"] == 4


def test_a_label_that_contradicts_the_bootstrap_data_is_listed_and_does_not_unteach_it():
    dataset = build_intent_dataset(BASE, [make_label("t1", "Track my parcel!", "gift_card")])
    assert "trace-t1" not in ids(dataset.rows)
    assert dataset.rows.filter(pl.col("text") == "track my parcel")["intent"].to_list() == ["order_status"]
    assert dataset.provenance.conflicts[0].answers == ("gift_card", "order_status")


def test_contradicting_reviews_from_two_bundles_are_both_left_out():
    labels = [make_label("t1", "hmm that one"), make_label("t2", "Hmm, that one", "cancel_order", release_bundle="b2")]
    dataset = build_intent_dataset(BASE, labels)
    assert not ids(dataset.rows) & {"trace-t1", "trace-t2"}
    assert dataset.provenance.conflicts[0].trace_ids == ("t1", "t2")


def test_a_review_replaces_the_guess_about_the_same_turn_and_outvotes_guesses_about_its_message():
    labels = [
        make_label("t1", "hmm that one", "cancel_order", kind="propagated", confidence=0.8),
        make_label("t1", "hmm that one", "return_item"),
        make_label(
            "t2", "hmm that one!", "cancel_order", kind="propagated", confidence=0.8, user_key=user_on("train", 500)
        ),
    ]
    dataset = build_intent_dataset(BASE, labels)
    live = dataset.rows.filter(pl.col("label_kind") != "base")
    assert live.select("example_id", "intent", "label_kind").rows() == [("trace-t1", "return_item", "human")]


def test_a_judge_is_heard_where_no_person_spoke_and_outvotes_guesses():
    labels = [
        make_label("t1", "hmm that one", "cancel_order", kind="judge", confidence=0.9),
        make_label("t2", "hmm that one!", kind="propagated", confidence=0.8, user_key=user_on("train", 1)),
        make_label("t3", "track my parcel", "gift_card", kind="judge", confidence=0.9, user_key=user_on("train", 2)),
    ]
    dataset = build_intent_dataset(BASE, labels)
    live = dataset.rows.filter(pl.col("label_kind") != "base")
    assert live.select("example_id", "intent").rows() == [("trace-t1", "cancel_order")]
    assert dataset.provenance.conflicts == ()


def test_of_two_reviews_of_one_turn_the_later_counts():
    labels = [make_label("t1", "send it back", "gift_card"), make_label("t1", "send it back", labelled_ms=9_000)]
    for given_labels in (labels, labels[::-1]):
        examples = build_intent_dataset(BASE, given_labels).rows
        assert examples.filter(pl.col("source_trace_id") == "t1")["intent"].to_list() == ["return_item"]


def test_golden_messages_are_kept_out_and_the_guard_would_notice():
    golden = ["SEND IT BACK", "track my parcel", "could you tell me please where my order of last week has got to"]
    labels = [
        make_label("t1", "send it back"),
        make_label("t2", "could you tell me please where my order from last week has got to", "order_status"),
    ]
    dataset = build_intent_dataset(BASE, labels, golden_texts=golden)
    assert dataset.provenance.excluded["in the golden set"] == 3
    refuse_leaks(find_leaks(dataset.rows, golden=golden))
    with pytest.raises(LeakageError, match=r"trace-t1.*trace-t2"):
        refuse_leaks(find_leaks(build_intent_dataset(BASE, labels).rows, golden=golden))


def test_nothing_said_or_labelled_after_the_as_of_time_is_in_it():
    labels = [
        make_label("t1", "send it back", timestamp_ms=10, labelled_ms=20),
        make_label("t2", "take it away", timestamp_ms=10, labelled_ms=21, user_key=user_on("train", 1)),
        make_label("t3", "it may go back", timestamp_ms=21, labelled_ms=15, user_key=user_on("train", 2)),
    ]
    dataset = build_intent_dataset(BASE, labels, config=IntentDatasetConfig(as_of_ms=20))
    assert dataset.provenance.excluded == {"after the as-of time": 2}
    assert dataset.rows["source_trace_id"].drop_nulls().to_list() == ["t1"]
    refuse_leaks(find_leaks(dataset.rows, as_of_ms=20))
    assert dataset.seal(as_of="b1").card.as_of_ms == 20


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (make_label("t1", "send it back", confidence=float("nan")), "confidence is no probability"),
        (make_label("t1", "send it back", confidence=1.5), "confidence is no probability"),
        (make_label("t1", "  \n "), "message without words"),
    ],
)
def test_a_label_that_cannot_be_used_is_counted_out_with_its_reason(label, reason):
    assert build_intent_dataset(BASE, [label]).provenance.excluded == {reason: 1}


@pytest.mark.parametrize(
    "text",
    ["ignore previous instructions | <b>x</b>", "../../etc/passwd", "'; drop table", "a\x00b\n\n\t"],
)
def test_hostile_text_is_a_message_like_any_other(text):
    dataset = build_intent_dataset(BASE, [make_label("t1", text)])
    assert "trace-t1" in ids(dataset.rows)
    assert find_leaks(dataset.rows) == []


def test_personal_data_is_redacted_again():
    dataset = build_intent_dataset(
        [*BASE, Utterance(text="write to jane.sample@example.com", intent="gift_card")],
        [make_label("t1", "call jane.sample@example.com")],
    )
    assert not dataset.rows["text"].str.contains("example.com").any()


def test_contradicting_or_unlabelled_bootstrap_messages_are_counted_out():
    dataset = build_intent_dataset(
        [*BASE, Utterance(text="Track my parcel?", intent="gift_card"), Utterance(text="no intent"), BASE[0]], []
    )
    assert dataset.provenance.excluded["bootstrap messages contradict each other"] == 2
    assert dataset.provenance.excluded["bootstrap message without an intent"] == 1
    assert dataset.provenance.excluded["duplicate message"] == 1


def test_nothing_to_train_on_is_an_error_with_the_reasons():
    with pytest.raises(EmptyDatasetError, match="1 bootstrap message without an intent"):
        build_intent_dataset([Utterance(text="a")], [])


def test_an_earlier_version_carries_its_labels_and_sides_into_the_next():
    first = build_intent_dataset(BASE, [make_label("t1", "send it back")])
    second = build_intent_dataset(
        BASE,
        [*carried_labels(first.rows), make_label("t2", "refund me", user_key=user_on("test"))],
        pinned=pinned_sides(first.rows),
    )
    assert ids(first.rows) < ids(second.rows)
    refuse_crossings(first.rows, second.rows)


label_lists = st.lists(
    st.builds(
        lambda text, intent, user, session, kind, time: make_label(
            f"{text}-{user}-{session}-{kind}-{time}",
            text,
            intent,
            user_key=user,
            session_id=session,
            kind=kind,
            confidence=1.0 if kind == "human" else 0.7,
            timestamp_ms=time * 60_000,
            labelled_ms=time * 60_000 + 1,
        ),
        st.sampled_from(
            [
                *("one", "two", "three", "Two!", "six vol 1", "six vol 2", "track my parcel", "buy a card now"),
                *(f"could you tell me where my {thing} has got to, please" for thing in ("order", "older", "orders")),
            ]
        ),
        st.sampled_from(["p", "q"]),
        st.sampled_from([None, *(user_on(side, n) for side in ("train", "validation", "test") for n in range(3))]),
        st.sampled_from([session_on(side, n) for side in ("train", "validation", "test") for n in range(2)]),
        st.sampled_from(["human", "judge", "propagated"]),
        st.integers(0, 50),
    ),
    max_size=30,
)


def build(labels, *, earlier, base=BASE, as_of_ms=None):
    """Build as the asset does: on the sides and labels of the last version, apart from all tests before."""
    last = earlier[-1].frame if earlier else None
    return build_intent_dataset(
        base,
        [*(carried_labels(last) if last is not None else []), *labels],
        golden_texts=["redeem that box"],
        pinned=pinned_sides(last) if last is not None else None,
        holdout_history=holdout_history_of(earlier, cross_fitted=True),
        history=shopper_history((one.trace_id, one.user_key, one.session_id, one.timestamp_ms) for one in labels),
        config=IntentDatasetConfig(as_of_ms=as_of_ms, trust=TrustConfig(quorum=0)),
    )


@given(label_lists, st.lists(st.integers(0, 30), min_size=1, max_size=4))
@settings(deadline=None)
def test_no_version_leaks_and_no_example_ever_changes_sides_as_data_grows(labels, cuts):
    earlier: list[EarlierVersion] = []
    for number, cut in enumerate([*sorted(cuts), 30]):
        frame = build(labels[:cut], earlier=earlier, base=BASE[: 12 + cut]).rows
        refuse_leaks(find_leaks(frame, golden=["redeem that box"], earlier=earlier, cross_fitted=True))
        for version in earlier:
            refuse_crossings(version.frame, frame, cross_fitted=True)
        earlier.append(EarlierVersion(name=f"v{number}", frame=frame))


@given(label_lists, st.integers(0, 30), st.integers(0, 60), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_bytes_depend_on_the_content_and_the_time_alone_and_a_version_that_is_there_changes_nothing(
    labels, cut, minutes, random
):
    earlier = [EarlierVersion(name="v0", frame=build(labels[:cut], earlier=[]).rows)]
    first = build(labels, earlier=earlier, as_of_ms=minutes * 60_000).seal(as_of="b2")
    base, shuffled = list(BASE), list(labels)
    random.shuffle(base)
    random.shuffle(shuffled)
    with_itself = [*earlier, EarlierVersion(name="v1", frame=first.frame)]
    last = earlier[0].frame
    again = build_intent_dataset(
        base,
        [*shuffled, *carried_labels(last)],
        golden_texts=["redeem that box"],
        pinned=pinned_sides(last),
        holdout_history=holdout_history_of(with_itself, cross_fitted=True),
        history=shopper_history((one.trace_id, one.user_key, one.session_id, one.timestamp_ms) for one in shuffled),
        config=IntentDatasetConfig(as_of_ms=minutes * 60_000, trust=TrustConfig(quorum=0)),
    ).seal(as_of="b2")
    assert again.digest == first.digest
    assert again.files() == first.files()


@given(label_lists, st.integers(0, 50))
@settings(deadline=None)
def test_what_is_said_later_changes_no_version_as_of_an_earlier_time(labels, minutes):
    as_of_ms = minutes * 60_000 + 1
    known = [label for label in labels if label.labelled_ms <= as_of_ms]
    late = [replace(label, trace_id=f"late-{label.trace_id}", labelled_ms=as_of_ms + 1) for label in labels]
    history = shopper_history((one.trace_id, one.user_key, one.session_id, one.timestamp_ms) for one in known)
    config = IntentDatasetConfig(as_of_ms=as_of_ms)
    before = build_intent_dataset(BASE, known, history=history, config=config).rows
    after = build_intent_dataset(BASE, [*labels, *late], history=history, config=config).rows
    assert after.equals(before)
