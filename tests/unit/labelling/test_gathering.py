import io
import json

import polars as pl

from mangaassist_assets.core.codecs import from_json, to_parquet
from mangaassist_assets.labelling.gathering import gather_labels
from mangaassist_assets.labelling.intent_labels import (
    CONFLICTS_FILE,
    LABELS_FILE,
    LabelConflict,
    labels_from_parquet,
    labels_to_parquet,
)
from mangaassist_assets.labelling.judge import IntentJudgement, Judging
from mangaassist_assets.labelling.reviews import labels_from_reviews
from mangaassist_assets.labelling.stored_labels import JUDGEMENTS_FILE, REPORT_FILE, label_files
from tests.support.labelling import close_vectors, human_label, make_turn, one_group, reviewed_turn, said


def judged(trace_id, intent):
    return human_label(trace_id, intent, kind="judge", labeller="judge-1", confidence=0.8)


def gather(turns, *labels):
    return gather_labels(
        labels_from_reviews(turns),
        one_group(turns),
        turns,
        close_vectors(len(turns)),
        judging=Judging(model_id="judge-1", labels=labels),
    )


AGREED = [reviewed_turn("a", said("x")), reviewed_turn("b", said("x")), reviewed_turn("d", said("x"))]


def test_people_come_before_the_judge_and_the_judge_before_the_cluster():
    gathered = gather([*AGREED, make_turn("c"), make_turn("e")], judged("a", "y"), judged("c", "y"))
    assert {one.trace_id: (one.kind, one.intent) for one in gathered.labels} == {
        "a": ("human", "x"),
        "b": ("human", "x"),
        "c": ("judge", "y"),
        "d": ("human", "x"),
        "e": ("propagated", "x"),
    }


def test_every_overruled_answer_is_listed_with_who_gave_it():
    gathered = gather([*AGREED, make_turn("c")], judged("a", "y"), judged("c", "y"))
    listed = {
        one.trace_ids: (one.kind, tuple(answer.by for answer in one.answers), one.outcome)
        for one in gathered.disagreements
    }
    assert listed == {
        ("a",): ("judge", ("aki", "judge-1"), "the human label counts: x"),
        ("c",): ("judge", ("fc-1", "judge-1"), "the judge label counts: y"),
    }


def test_nobody_labels_what_people_contradict_each_other_on():
    disputed = reviewed_turn("p", said("x", by="aki"), said("y", by="ben"))
    gathered = gather([*AGREED, disputed], judged("p", "x"))
    assert "p" not in {one.trace_id for one in gathered.labels}
    assert gathered.skipped["judge: people contradict each other"] == 1
    assert [one.trace_ids for one in gathered.conflicts] == [("p",)]


def test_what_is_stored_reads_back_and_is_the_same_every_time():
    turns = [*AGREED, make_turn("c"), reviewed_turn("p", said("x", by="aki"), said("y", by="ben"))]
    gathered = gather(turns)
    files = label_files(gathered)
    assert label_files(gather(turns)) == files
    assert tuple(labels_from_parquet(files[LABELS_FILE])) == gathered.labels
    assert from_json(tuple[LabelConflict, ...], files[CONFLICTS_FILE]) == gathered.conflicts
    assert from_json(dict[str, IntentJudgement], files[JUDGEMENTS_FILE]) == {}
    report = json.loads(files[REPORT_FILE])
    assert report["labels"] == {"human": 3, "judge": 0, "propagated": 1}
    assert report["propagation"]["error"]["trials"] == 3
    assert "message" not in files[REPORT_FILE].decode()


def test_labels_of_before_origins_were_kept_are_read():
    label = human_label("a", "x", origin="audit", inclusion_probability=0.5, bundle_turns=7)
    frame = pl.read_parquet(io.BytesIO(labels_to_parquet([label])))
    assert labels_from_parquet(to_parquet(frame)) == [label]
    old = frame.drop("origin", "inclusion_probability", "bundle_turns")
    assert labels_from_parquet(to_parquet(old)) == [human_label("a", "x")]


def test_nothing_at_all_gives_no_label():
    gathered = gather_labels(labels_from_reviews([]), [], [], close_vectors(0))
    assert (gathered.labels, gathered.disagreements, dict(gathered.skipped)) == ((), (), {})
