import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.datasets.intent_dataset import (
    EmptyDatasetError,
    IntentDatasetConfig,
    build_intent_dataset,
    carried_labels,
    intent_examples,
    pinned_sides,
)
from mangaassist_assets.datasets.intent_labels import IntentLabel
from mangaassist_assets.datasets.leakage import (
    LeakageError,
    find_leaks,
    refuse_crossings,
    refuse_held_out,
    refuse_leaks,
)
from mangaassist_assets.datasets.selection import Caps
from mangaassist_assets.datasets.splits import assign_split
from mangaassist_assets.datasets.utterances import Utterance
from mangaassist_assets.datasets.versions import (
    DatasetDamagedError,
    content_digest,
    from_parquet,
    seal_version,
    to_parquet,
)

BASE = [
    Utterance(text=f"{verb} {noun}", intent=intent)
    for intent, verbs in {
        "order_status": ["where is", "track", "locate"],
        "gift_card": ["buy", "redeem", "give"],
    }.items()
    for verb in verbs
    for noun in ["my parcel", "a card", "the thing", "that box"]
]


def user_on(side: str, start: int = 0) -> str:
    return next(name for number in range(start, 10_000) if assign_split("x", None, name := f"user-{number}") == side)


def make_label(trace_id: str, text: str, intent: str = "return_item", **fields) -> IntentLabel:
    defaults = {
        "trace_id": trace_id,
        "text": text,
        "intent": intent,
        "kind": "human",
        "confidence": 1.0,
        "sources": (trace_id,),
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "user_key": user_on("train"),
        "timestamp_ms": 1_000,
        "labeller": "reviewer-1",
        "labelled_ms": 2_000,
    }
    return IntentLabel(**{**defaults, **fields})


def ids(examples: pl.DataFrame) -> set[str]:
    return set(examples["example_id"])


def test_bootstrap_messages_and_labels_meet_in_one_frame_with_their_provenance():
    dataset = build_intent_dataset(BASE, [make_label("t1", "send it back")])
    row = dataset.examples.row(by_predicate=pl.col("example_id") == "trace-t1", named=True)
    assert (row["intent"], row["split"], row["label_kind"], row["source_trace_id"]) == (
        "return_item",
        "train",
        "human",
        "t1",
    )
    assert dataset.examples.filter(pl.col("label_kind") == "base").height == len(BASE)
    assert set(dataset.examples.filter(pl.col("split") == "train")["intent"]) == {
        "order_status",
        "gift_card",
        "return_item",
    }
    assert {one.example_id for one in intent_examples(dataset.examples, "train")} == ids(
        dataset.examples.filter(pl.col("split") == "train")
    )


def test_a_guess_weighs_its_confidence_and_never_judges():
    labels = [
        make_label("t1", "send it back", kind="propagated", confidence=0.7),
        make_label("t2", "give it back", kind="propagated", confidence=0.7, user_key=user_on("test")),
    ]
    dataset = build_intent_dataset(BASE, labels)
    assert dataset.excluded["propagated label outside train"] == 1
    weights = {one.example_id: one.weight for one in intent_examples(dataset.examples, "train")}
    assert weights["trace-t1"] == 0.7


def test_the_same_message_on_two_sides_stays_on_the_test_side():
    labels = [make_label("t1", "Send it back!"), make_label("t2", "send it back", user_key=user_on("test"))]
    dataset = build_intent_dataset(BASE, labels)
    assert ids(dataset.examples) & {"trace-t1", "trace-t2"} == {"trace-t2"}
    assert dataset.excluded["same message in test"] == 1


def test_a_session_that_logs_in_halfway_stays_on_one_side():
    session = next(f"s{n}" for n in range(1000) if assign_split("x", f"s{n}") == "test")
    labels = [
        make_label("t1", "before the login", session_id=session, user_key=None),
        make_label("t2", "after the login", session_id=session),
    ]
    dataset = build_intent_dataset(BASE, labels)
    assert ids(dataset.examples) & {"trace-t1", "trace-t2"} == {"trace-t1"}
    assert find_leaks(dataset.examples) == []


def test_nobody_teaches_the_model_alone():
    flood = [make_label(f"t{n:03d}", f"poison number {n}", timestamp_ms=n) for n in range(60)]
    dataset = build_intent_dataset(BASE, flood, config=IntentDatasetConfig(caps=Caps(per_user=10, per_session=10)))
    kept = dataset.examples.filter(pl.col("label_kind") == "human")
    assert kept.height == 10
    assert dataset.excluded["over the cap per shopper"] == 50
    assert ids(kept) == {f"trace-t{n:03d}" for n in range(10)}


def test_one_anonymous_session_is_capped_as_well():
    flood = [make_label(f"t{n:02d}", f"number {n}", session_id="s", user_key=None) for n in range(30)]
    config = IntentDatasetConfig(caps=Caps(per_session=4))
    card = build_intent_dataset(BASE, flood, config=config).seal().card
    assert card.by_label_kind["human"] == 4


def test_a_label_that_contradicts_the_bootstrap_data_is_listed_and_does_not_unteach_it():
    dataset = build_intent_dataset(BASE, [make_label("t1", "Track my parcel!", "gift_card")])
    assert "trace-t1" not in ids(dataset.examples)
    assert dataset.examples.filter(pl.col("text") == "track my parcel")["intent"].to_list() == ["order_status"]
    assert dataset.conflicts[0].answers == ("gift_card", "order_status")


def test_contradicting_reviews_from_two_bundles_are_both_left_out():
    labels = [make_label("t1", "hmm that one"), make_label("t2", "Hmm, that one", "cancel_order", release_bundle="b2")]
    dataset = build_intent_dataset(BASE, labels)
    assert not ids(dataset.examples) & {"trace-t1", "trace-t2"}
    assert dataset.conflicts[0].trace_ids == ("t1", "t2")


def test_a_review_replaces_the_guess_about_the_same_turn_and_outvotes_guesses_about_its_message():
    labels = [
        make_label("t1", "hmm that one", "cancel_order", kind="propagated", confidence=0.8),
        make_label("t1", "hmm that one", "return_item"),
        make_label(
            "t2", "hmm that one!", "cancel_order", kind="propagated", confidence=0.8, user_key=user_on("train", 500)
        ),
    ]
    dataset = build_intent_dataset(BASE, labels)
    live = dataset.examples.filter(pl.col("label_kind") != "base")
    assert live.select("example_id", "intent", "label_kind").rows() == [("trace-t1", "return_item", "human")]


def test_golden_messages_are_kept_out_and_the_guard_would_notice():
    dataset = build_intent_dataset(
        BASE, [make_label("t1", "send it back")], golden_texts=["SEND IT BACK", "track my parcel"]
    )
    assert dataset.excluded["in the golden set"] == 2
    refuse_held_out(dataset.examples, ["send it back"])
    with pytest.raises(LeakageError, match="trace-t1"):
        refuse_held_out(build_intent_dataset(BASE, [make_label("t1", "send it back")]).examples, ["Send it back."])


def test_personal_data_is_redacted_again():
    dataset = build_intent_dataset(
        [*BASE, Utterance(text="write to jane.sample@example.com", intent="gift_card")],
        [make_label("t1", "call jane.sample@example.com")],
    )
    assert not dataset.examples["text"].str.contains("example.com").any()


def test_contradicting_or_unlabelled_bootstrap_messages_are_counted_out():
    dataset = build_intent_dataset(
        [*BASE, Utterance(text="Track my parcel?", intent="gift_card"), Utterance(text="no intent"), BASE[0]], []
    )
    assert dataset.excluded["bootstrap messages contradict each other"] == 2
    assert dataset.excluded["bootstrap message without an intent"] == 1
    assert dataset.excluded["duplicate message"] == 1


def test_nothing_to_train_on_is_an_error_with_the_reasons():
    with pytest.raises(EmptyDatasetError, match="1 bootstrap message without an intent"):
        build_intent_dataset([Utterance(text="a")], [])


def test_an_earlier_version_carries_its_labels_and_sides_into_the_next():
    first = build_intent_dataset(BASE, [make_label("t1", "send it back")])
    second = build_intent_dataset(
        BASE,
        [*carried_labels(first.examples), make_label("t2", "refund me", user_key=user_on("test"))],
        pinned=pinned_sides(first.examples),
    )
    assert ids(first.examples) < ids(second.examples)
    refuse_crossings(first.examples, second.examples)


def test_an_example_that_changes_sides_between_versions_is_refused_by_name():
    before = build_intent_dataset(BASE, [make_label("t1", "send it back")]).examples
    after = before.with_columns(
        pl.when(pl.col("example_id") == "trace-t1").then(pl.lit("test")).otherwise("split").alias("split")
    )
    with pytest.raises(LeakageError, match=r"trace-t1 \(train → test\)"):
        refuse_crossings(before, after)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"text": "WHERE is my parcel"}, "text"),
        ({"session_id": "shared"}, "session"),
        ({"user_key": "shared"}, "user"),
        ({"example_id": "e1"}, "example"),
    ],
)
def test_the_guard_names_what_is_on_two_sides(change, kind):
    rows = [
        {"example_id": "e1", "text": "where is my parcel", "split": "train", "session_id": None, "user_key": None},
        {"example_id": "e2", "text": "quite another", "split": "test", "session_id": None, "user_key": None},
    ]
    schema = dict.fromkeys(rows[0], pl.String())
    refuse_leaks(pl.DataFrame(rows, schema=schema))
    rows[1].update(change)
    if kind in {"session", "user"}:
        rows[0].update(change)
    frame = pl.DataFrame(rows, schema=schema)
    assert [leak.kind for leak in find_leaks(frame)] == [kind]
    with pytest.raises(LeakageError, match=f"{kind} on test and train: e1"):
        refuse_leaks(frame)


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
            timestamp_ms=time,
        ),
        st.sampled_from(["one", "two", "three", "four", "Two!", "five", "six vol 1", "six vol 2"]),
        st.sampled_from(["p", "q"]),
        st.sampled_from([None, *(f"user-{n}" for n in range(12))]),
        st.sampled_from([f"session-{n}" for n in range(6)]),
        st.sampled_from(["human", "propagated"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(label_lists, st.integers(0, 30))
@settings(max_examples=120, deadline=None)
def test_no_version_leaks_and_no_example_crosses_as_labels_arrive(labels, cut):
    early = build_intent_dataset(BASE, labels[:cut]).examples
    late = build_intent_dataset(BASE, labels, pinned=pinned_sides(early)).examples
    for frame in (early, late):
        refuse_leaks(frame)
    refuse_crossings(early, late)


@given(label_lists, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_digest_and_the_bytes_depend_on_the_content_alone(labels, random):
    first = build_intent_dataset(BASE, labels).seal()
    base, shuffled = list(BASE), list(labels)
    random.shuffle(base)
    random.shuffle(shuffled)
    second = build_intent_dataset(base, shuffled).seal()
    assert second.digest == first.digest
    assert second.files() == first.files()


def test_shuffled_rows_columns_and_chunks_give_the_same_digest_and_bytes_and_other_content_another():
    frame = build_intent_dataset(BASE, [make_label("t1", "send it back")]).examples
    shuffled = pl.concat([frame[10:], frame[:10]], rechunk=False).select(reversed(frame.columns))
    assert content_digest(shuffled) == content_digest(frame)
    assert to_parquet(shuffled) == to_parquet(frame)
    changed = frame.with_columns(pl.col("intent").replace("return_item", "cancel_order"))
    assert content_digest(changed) != content_digest(frame)


def test_a_stored_version_is_read_back_and_a_damaged_one_is_noticed():
    version = build_intent_dataset(BASE, [make_label("t1", "send it back")]).seal(as_of="2026-03-24")
    frame = from_parquet(version.files()["examples.parquet"], expected_digest=version.digest)
    assert frame.equals(version.frame)
    with pytest.raises(DatasetDamagedError, match="build the dataset again"):
        from_parquet(to_parquet(frame.head(3)), expected_digest=version.digest)


def test_the_card_counts_sides_sources_and_what_was_left_out():
    labels = [
        make_label("t1", "send it back"),
        make_label("t2", "hmm | that one", "a"),
        make_label("t3", "hmm | that one", "b"),
    ]
    version = build_intent_dataset(BASE, labels).seal(as_of="2026-03-24", notes=["first version"])
    card = version.card
    assert card.examples == len(BASE) + 1
    assert card.by_source == {"b1": 1, "bootstrap": len(BASE)}
    assert card.by_label_kind == {"base": len(BASE), "human": 1}
    assert sum(card.by_split.values()) == card.examples
    assert card.by_intent["return_item"] == {"train": 1}
    text = card.to_markdown()
    assert "as of 2026-03-24" in text
    assert "| a / b | t2, t3 |" in text
    assert "- first version" in text


def test_sealing_needs_only_the_common_columns():
    frame = pl.DataFrame(
        {"example_id": ["a"], "split": ["train"], "label_kind": ["base"], "release_bundle": [None], "user_key": [None]}
    )
    assert seal_version(frame, kind="ranking", excluded={"x": 0}).card.excluded == {}
