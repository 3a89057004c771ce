"""The labels of a bundle, and what the report says of them."""

from __future__ import annotations

import numpy as np

from mangaassist_assets.labelling.error_estimate import error_rate
from mangaassist_assets.labelling.gathering import label_bundle
from mangaassist_assets.labelling.judge import IntentJudgement, Judging, JudgingConfig
from mangaassist_assets.labelling.label_report import describe_error, describe_judge, label_figures
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue
from tests.support.labelling import make_turn, one_group, queue_item, reviewed_turn, said

INTENTS = {"x": ("an x",), "y": ("a y",)}
TURNS = [
    *(reviewed_turn(name, said("x")) for name in "abd"),
    make_turn("open"),
    reviewed_turn("outside", said("y")),
]
ASKED = ReviewQueue(
    items=(queue_item("open"),),
    turns=90,
    audit_sample={"a": 0.5, "b": 0.25, "open": 0.5},
    asked={"open": "failure queue", "b": "failure queue"},
)


class Judge:
    model_id = "judge-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def judge(self, messages, intents):  # noqa: ARG002 - the protocol's
        self.asked += messages
        return [IntentJudgement(intent="x", confidence=0.9) for _ in messages]


def embed(texts):
    """What is outside is unlike all else."""
    return np.array([[0, 1] if "outside" in text else [1, 0] for text in texts], dtype=np.float32).reshape(-1, 2)


def label(**options):
    return label_bundle(TURNS, one_group(TURNS[:4]), intents=INTENTS, embed=embed, **options)


def test_people_label_any_turn_and_clusters_label_their_members_only():
    gathered = label()
    assert {one.trace_id: (one.kind, one.intent) for one in gathered.labels} == {
        **dict.fromkeys("abd", ("human", "x")),
        "open": ("propagated", "x"),
        "outside": ("human", "y"),
    }
    assert gathered.judging.model_id is None


def test_a_judge_is_asked_about_queued_turns_that_nobody_reviewed_and_never_twice():
    judge, config = Judge(), JudgingConfig(minimum_common=2, minimum_agreement=0.5)
    gathered = label(judge=judge, queue=ASKED, judging=config)
    assert {one.trace_id: one.kind for one in gathered.labels}["open"] == "judge"
    asked = len(judge.asked)
    assert asked > 1
    label(judge=judge, queue=ASKED, judging=config, judged_before=gathered.judging.judgements)
    assert len(judge.asked) == asked


def test_a_label_knows_how_its_message_came_to_be_reviewed_and_a_guess_stands_for_no_other():
    gathered = label(queue=ASKED)
    assert {
        one.trace_id: (one.kind, one.origin, one.inclusion_probability, one.bundle_turns) for one in gathered.labels
    } == {
        "a": ("human", "audit", 0.5, 90),
        "b": ("human", "failure queue", 0.25, 90),
        "d": ("human", "import", None, 90),
        "open": ("propagated", "failure queue", None, 90),
        "outside": ("human", "import", None, 90),
    }
    counted = {"audit": 1, "failure queue": 2, "import": 2}
    assert gathered.report()["origins"] == counted
    assert label_figures(gathered)["by_origin"] == [{"origin": one, "number": count} for one, count in counted.items()]


def test_without_a_queue_people_reviewed_of_their_own_choice():
    assert {(one.origin, one.bundle_turns) for one in label().labels if one.kind == "human"} == {("import", None)}


def test_a_turn_that_is_not_queued_is_not_asked_about():
    judge = Judge()
    label(judge=judge)
    assert make_turn("open").message not in judge.asked


def test_the_report_counts_by_who_labelled_and_shows_how_often_propagation_was_wrong():
    figures = label_figures(label(), new_intents={"zeta", "alpha"})
    assert (figures["of_people"], figures["of_the_judge"], figures["propagated"]) == (4, 0, 1)
    assert figures["new_intents"] == "alpha, zeta"
    assert figures["judge"] == "no judge is configured"
    assert str(figures["propagation_error"]).startswith("0 of 3 left-out reviewed shoppers got another intent")
    (row,) = figures["propagation"]
    assert (row["cluster_id"], row["intents"], row["reviewed_shoppers"], row["labelled"]) == ("fc-1", "x", 3, 1)


def test_a_disagreement_names_who_answered_what_and_when():
    turns = [reviewed_turn("p", said("x", by="aki", at=0), said("y", by="ben", at=86_400_000))]
    gathered = label_bundle(turns, [], intents=INTENTS, embed=embed)
    (row,) = label_figures(gathered)["disagreements"]
    assert row["traces"] == "p"
    assert "on 1970-01-01 00:00; y by" in row["answers"]
    assert row["answers"].endswith("on 1970-01-02 00:00")


def test_errors_and_judges_are_described_with_what_keeps_them_out():
    assert describe_error(error_rate(0, 0), "trials") == "not measured: no trials"
    kept_out = Judging(model_id="judge-1", disagreement_rate=error_rate(1, 4), kept_out="too few")
    described = describe_judge(kept_out)
    assert described.startswith("judge-1: 1 of 4 messages that people reviewed got another intent than people gave")
    assert described.endswith("; its labels are left out: too few")
    assert describe_judge(Judging(model_id="judge-1")) == "judge-1"
