"""A dataset version is built again from what its card records: byte for byte, or with the reason why not."""

from __future__ import annotations

from dataclasses import fields, replace

import polars as pl
import pytest
from upath import UPath

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.building.intent_dataset import DEFAULT_INTENT_DATASET
from mangaassist_assets.datasets.building.intent_versions import build_intent_version
from mangaassist_assets.datasets.building.rebuilding import rebuild
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.datasets.versions.stored_versions import (
    find_version,
    problems_of,
    read_rows,
    stored_versions,
)
from mangaassist_assets.datasets.versions.versions import seal_version
from mangaassist_assets.labelling.intent_labels import LabelConflict
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, queue_files
from mangaassist_assets.models.pipelines import dataset_rebuild
from mangaassist_assets.tracing.erasure import record_erasure
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE, read_turns
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import snapshots_holding
from tests.support.dataset_store import (
    BUNDLE,
    EARLIER,
    LATER,
    START_MS,
    fill,
    knowledge,
    label_of,
    put_dataset,
    put_intents,
    put_knowledge,
    put_labels,
    put_turns,
    reviewed_turn,
    user_on,
    write_version,
)


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    made = SnapshotStore(UPath(tmp_path / "store"))
    fill(made)
    return made


def again(store, stored):
    return rebuild(store, stored, dataset_rebuild(stored.asset))


def test_a_version_is_the_same_bytes_when_everything_has_moved_on(store):
    stored = put_dataset(store, BUNDLE)
    put_knowledge(store, [replace(one, text=f"{one.text} and more") for one in knowledge()])
    put_turns(store, EARLIER, [reviewed_turn(number, bundle=EARLIER, user=None) for number in range(3)])
    put_turns(store, LATER, [reviewed_turn(number, bundle=LATER, user=None) for number in range(3)])
    put_dataset(store, LATER)
    newer = put_dataset(store, BUNDLE)
    assert newer.version != stored.version
    for one in (stored, newer):
        rebuilt = again(store, one)
        assert (rebuilt.outcome, rebuilt.reason) == ("identical", None), rebuilt
        assert set(rebuilt.files) == {"card.json", "card.md", "examples.parquet", "searches.parquet"}


def test_the_card_lists_every_snapshot_it_was_built_from_and_no_later_bundle(store):
    put_turns(store, LATER, [reviewed_turn(1, bundle=LATER, user=None)])
    earlier = put_dataset(store, EARLIER)
    card = put_dataset(store, BUNDLE).card
    rows = earlier.snapshot.files["examples.parquet"][:12]
    assert card.inputs == {
        "knowledge_chunks": store.latest("knowledge_chunks").digest,
        f"reranker_dataset/{EARLIER}@{rows}": earlier.snapshot.digest,
        f"tagged_traces/{EARLIER}": store.latest("tagged_traces", partition=EARLIER).digest,
        f"tagged_traces/{BUNDLE}": store.latest("tagged_traces", partition=BUNDLE).digest,
        "training_corpus": store.latest("training_corpus").digest,
    }
    assert card.settings["index_generation"] == "kb-1"


def test_materializing_again_stores_nothing_new(store):
    first = put_dataset(store, BUNDLE)
    second = put_dataset(store, BUNDLE)
    assert second.snapshot == first.snapshot
    assert len(stored_versions(store)) == 1


def test_turns_that_nobody_reviewed_make_no_new_version(store):
    before = put_dataset(store, BUNDLE)
    unreviewed = replace(reviewed_turn(20, bundle=BUNDLE, user=None), expected_documents=())
    put_turns(store, BUNDLE, [*read_turns(store, BUNDLE), unreviewed])
    assert put_dataset(store, BUNDLE).version == before.version


def test_how_a_turn_came_to_be_reviewed_is_read_from_its_bundles_queue(store):
    for bundle, probability, turns in ((EARLIER, 0.1, 80), (BUNDLE, 0.2, 40)):
        sample = {turn.trace_id: probability for turn in read_turns(store, bundle)}
        store.write("review_queue", queue_files(ReviewQueue(turns=turns, audit_sample=sample)), partition=bundle)
    stored = put_dataset(store, BUNDLE)
    drawn = read_rows(store, stored).filter(pl.col("origin") == "audit")
    columns = ("release_bundle", "inclusion_probability", "bundle_turns")
    # Shoppers send the same messages in both bundles: one copy of each stays and stands for both.
    assert set(drawn.select(columns).iter_rows()) == {(EARLIER, 1 / 15, 80), (BUNDLE, 1 / 15, 40)}
    assert {f"review_queue/{EARLIER}", f"review_queue/{BUNDLE}"} <= stored.card.inputs.keys()
    store.write("review_queue", queue_files(ReviewQueue()), partition=EARLIER)
    assert again(store, stored).outcome == "identical"


def test_a_trace_that_moved_counts_as_its_newest_copy_says(store):
    def sources():
        return set(read_rows(store, put_dataset(store, BUNDLE))["source_trace_id"])

    moved = read_turns(store, EARLIER)[2]
    assert moved.trace_id in sources()
    unreviewed = replace(moved, release_bundle=BUNDLE, expected_documents=())
    put_turns(store, BUNDLE, [*read_turns(store, BUNDLE), unreviewed])
    assert moved.trace_id not in sources()


def test_where_nobody_reviewed_anything_the_newest_turn_tells_the_time(store):
    for bundle in (EARLIER, BUNDLE):
        put_turns(store, bundle, [replace(one, expected_documents=()) for one in read_turns(store, bundle)])
    assert put_dataset(store, BUNDLE).card.as_of_ms == START_MS[BUNDLE] + 7 * 60_000


def test_the_as_of_time_is_the_newest_word_and_can_be_asked_for(store):
    card = put_dataset(store, BUNDLE).card
    assert card.as_of_ms == START_MS[BUNDLE] + 7 * 60_000
    asked = put_dataset(store, BUNDLE, as_of_ms=START_MS[BUNDLE] - 1)
    assert asked.card.as_of_ms == START_MS[BUNDLE] - 1
    assert asked.card.by_bundle.keys() == {"bootstrap", EARLIER}
    assert asked.card.excluded["turn after the as-of time"] == 8
    assert again(store, asked).outcome == "identical"


def test_an_input_that_is_gone_is_named(store):
    stored = put_dataset(store, BUNDLE)
    store.path(store.latest("tagged_traces", partition=EARLIER), TURNS_FILE).unlink()
    rebuilt = again(store, stored)
    assert rebuilt.outcome == "impossible"
    assert f"tagged_traces/{EARLIER}" in rebuilt.reason
    assert "1 of 4 recorded inputs" in rebuilt.reason


def test_an_input_that_was_edited_is_no_input(store):
    stored = put_dataset(store, BUNDLE)
    path = store.path(store.latest("training_corpus"), "utterances.json")
    path.write_bytes(path.read_bytes().replace(b"tell me", b"TELL me"))
    assert "training_corpus" in again(store, stored).reason


def test_rows_that_were_edited_are_not_built_again_but_named(store):
    stored = put_dataset(store, BUNDLE)
    forged = {file: store.read(stored.snapshot, file) for file in stored.snapshot.files} | {
        "card.json": store.read(stored.snapshot, "card.json").replace(b'"rows": ', b'"rows": 9')
    }
    store.write("reranker_dataset", forged, partition="forged")
    (copy,) = [one for one in stored_versions(store) if one.snapshot.partition == "forged"]
    rebuilt = again(store, copy)
    assert rebuilt.outcome == "impossible"
    assert "card.md does not say what card.json says" in rebuilt.reason


def test_a_version_made_otherwise_than_its_card_says_is_different(store, monkeypatch):
    stored = put_dataset(store, BUNDLE)
    monkeypatch.setattr("mangaassist_assets.datasets.building.passages.word_overlap", lambda *_: 0.0)
    monkeypatch.setattr("mangaassist_assets.datasets.building.passages._hash", len)
    rebuilt = again(store, stored)
    assert rebuilt.outcome == "different"
    assert rebuilt.files["examples.parquet"] == "different"
    assert rebuilt.files["searches.parquet"] == "identical"


def test_a_version_with_an_erased_users_data_is_not_built_again(store):
    stored = put_dataset(store, BUNDLE)
    record_erasure(store, user_on("train"), requested_at="2026-02-01T00:00:00Z")
    rebuilt = again(store, stored)
    assert rebuilt.outcome == "impossible"
    assert rebuilt.reason.startswith("1 of its users were erased since")
    assert user_on("train") not in rebuilt.reason
    without = put_dataset(store, BUNDLE)
    assert user_on("train") not in set(read_rows(store, without)["user_key"])
    assert again(store, without).outcome == "identical"


def test_a_version_of_before_inputs_were_recorded_says_so(store):
    stored = put_dataset(store, BUNDLE)
    card = replace(stored.card, inputs={})
    files = {file: store.read(stored.snapshot, file) for file in stored.snapshot.files}
    store.write(
        "reranker_dataset",
        {**files, "card.json": card.to_json(), "card.md": card.to_markdown().encode()},
        partition=BUNDLE,
    )
    assert "records no inputs" in again(store, find_version(store, stored.version)).reason


class TestIntents:
    """The intent dataset, which builds on the labels of the bundle before."""

    @pytest.fixture
    def labelled(self, store) -> SnapshotStore:
        for bundle in (EARLIER, BUNDLE):
            turns = read_turns(store, bundle)
            conflict = LabelConflict(trace_ids=(turns[0].trace_id, turns[1].trace_id), answers=("a", "b"))
            put_labels(store, bundle, [label_of(turn) for turn in turns], conflicts=[conflict])
        return store

    def test_it_is_the_same_bytes_when_labels_and_traces_have_moved_on(self, labelled):
        first = put_intents(labelled, EARLIER)
        second = put_intents(labelled, BUNDLE)
        assert second.card.by_bundle.keys() == {"bootstrap", EARLIER, BUNDLE}
        put_labels(labelled, EARLIER, [])
        put_labels(labelled, BUNDLE, [label_of(turn) for turn in read_turns(labelled, BUNDLE)[:2]])
        put_knowledge(labelled, knowledge()[:2])
        newer = put_intents(labelled, BUNDLE)
        assert newer.version != second.version
        for one in (first, second, newer):
            rebuilt = again(labelled, one)
            assert (rebuilt.outcome, rebuilt.reason) == ("identical", None), rebuilt

    def test_a_version_of_before_origins_were_kept_is_read_built_upon_and_rebuilt(self, labelled):
        built = build_intent_version(labelled, EARLIER, config=DEFAULT_INTENT_DATASET)
        card, names = built.card, ("origin", "inclusion_probability", "bundle_turns")
        provenance = Provenance(**{one.name: getattr(card, one.name) for one in fields(Provenance)})
        write_version(
            labelled, "intent_dataset", old := seal_version(built.frame.drop(names), provenance), partition=EARLIER
        )
        stored = find_version(labelled, old.card.version)
        assert stored.card.by_origin == {}
        assert problems_of(labelled, stored) == []
        assert "Reviewed because of" not in stored.card.to_markdown()
        assert again(labelled, stored).files["examples.parquet"] == "different"
        later = read_rows(labelled, put_intents(labelled, BUNDLE))
        carried = later.filter(pl.col("release_bundle") == EARLIER)
        assert set(carried.select(names).rows()) == {(None, None, None)}

    def test_materializing_again_stores_nothing_new(self, labelled):
        assert put_intents(labelled, BUNDLE).snapshot == put_intents(labelled, BUNDLE).snapshot

    def test_an_erased_user_leaves_the_next_version_carried_labels_included(self, labelled):
        user = user_on("train")
        put_intents(labelled, EARLIER)
        before = put_intents(labelled, BUNDLE)
        held = set(read_rows(labelled, before).filter(pl.col("user_key") == user)["source_trace_id"])
        assert any(EARLIER in trace for trace in held)
        record_erasure(labelled, user, requested_at="2026-02-01T00:00:00Z")
        without = put_intents(labelled, BUNDLE)
        rows = read_rows(labelled, without)
        assert user not in set(rows["user_key"])
        assert held.isdisjoint(rows["source_trace_id"])
        mine = [turn.trace_id for turn in read_turns(labelled, BUNDLE) if turn.user_key == user] + [*held]
        still = {
            (one.name, one.partition)
            for one in snapshots_holding(labelled, PersonMarks(user, frozenset(mine)))
            if one.latest
        }
        assert ("intent_dataset", BUNDLE) not in still
        assert ("intent_dataset", EARLIER) in still
        assert again(labelled, without).outcome == "identical"
        assert again(labelled, before).outcome == "impossible"

    def test_no_label_of_others_rests_on_what_an_erased_user_wrote(self, labelled):
        user, other = user_on("train"), user_on("train", 1)
        turns = read_turns(labelled, EARLIER)
        own = [turn for turn in turns if turn.user_key == user]
        guessed = [turn for turn in turns if turn.user_key == other]
        reviewed = [turn for turn in turns if turn.user_key not in {user, other}]
        sources = [*(turn.trace_id for turn in own), *(turn.trace_id for turn in reviewed)]
        guesses = [label_of(turn, kind="propagated", sources=sources) for turn in guessed]
        put_labels(labelled, EARLIER, [*guesses, *(label_of(turn) for turn in [*own, *reviewed])])
        put_labels(labelled, BUNDLE, [])
        mine = {turn.trace_id for turn in own}
        before = read_rows(labelled, put_intents(labelled, EARLIER)).filter(pl.col("label_kind") == "propagated")
        assert mine & set(before["label_sources"].explode())
        record_erasure(labelled, user, requested_at="2026-02-01T00:00:00Z")
        rows = read_rows(labelled, put_intents(labelled, BUNDLE))
        assert mine.isdisjoint(rows["label_sources"].explode().drop_nulls())

    def test_who_is_held_back_or_listed_no_more_leaves_the_next_version_and_so_do_guesses_from_them(self, labelled):
        turns = read_turns(labelled, EARLIER)
        own, guessed, others = turns[::3], turns[1::3], turns[2::3]
        reviewed = [replace(label_of(turn), labeller="Eve") for turn in own] + [
            replace(label_of(turn), labeller="aki") for turn in others
        ]
        guesses = [label_of(turn, kind="propagated", sources=[one.trace_id for one in own]) for turn in guessed]
        put_labels(labelled, EARLIER, [*reviewed, *guesses])
        put_intents(labelled, EARLIER)
        for report in ({"held_back": ["eve"]}, {"reviewers": ["aki", "ben"]}):
            put_labels(labelled, BUNDLE, [], **report)
            stored = put_intents(labelled, BUNDLE)
            rows = read_rows(labelled, stored)
            assert set(rows["labeller"].drop_nulls()) == {"aki"}
            assert "propagated" not in set(rows["label_kind"])
            assert any("labels of people by reviewer: aki " in note for note in stored.card.notes)
            assert again(labelled, stored).outcome == "identical"
        put_labels(labelled, BUNDLE, [], reviewers=["AKI", "eve"])
        assert set(read_rows(labelled, put_intents(labelled, BUNDLE))["labeller"].drop_nulls()) >= {"aki", "Eve"}
