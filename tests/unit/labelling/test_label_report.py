"""The labels of a bundle, and what the report says of them."""

from __future__ import annotations

from mangaassist_assets.labelling.error_estimate import error_rate
from mangaassist_assets.labelling.gathering import label_bundle
from mangaassist_assets.labelling.judge import IntentJudgement, Judging, JudgingConfig
from mangaassist_assets.labelling.label_report import describe_error, describe_judge, label_figures
from tests.support.labelling import close_vectors, make_turn, one_group, reviewed_turn, said

INTENTS = {"x": ("an x",), "y": ("a y",)}
TURNS = [
    *(reviewed_turn(name, said("x")) for name in "abd"),
    make_turn("open"),
    reviewed_turn("outside", said("y")),
]


class Judge:
    model_id = "judge-1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def judge(self, messages, intents):  # noqa: ARG002 - the protocol's
        self.asked += messages
        return [IntentJudgement(intent="x", confidence=0.9) for _ in messages]


def label(**options):
    return label_bundle(
        TURNS, one_group(TURNS[:4]), intents=INTENTS, embed=lambda texts: close_vectors(len(texts)), **options
    )


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
    gathered = label(judge=judge, queued={"open"}, judging=config)
    assert {one.trace_id: one.kind for one in gathered.labels}["open"] == "judge"
    asked = len(judge.asked)
    assert asked > 1
    label(judge=judge, queued={"open"}, judging=config, judged_before=gathered.judging.judgements)
    assert len(judge.asked) == asked


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
    assert (row["cluster_id"], row["intent"], row["reviewed_shoppers"], row["labelled"]) == ("fc-1", "x", 3, 1)


def test_a_disagreement_names_who_answered_what_and_when():
    turns = [reviewed_turn("p", said("x", by="aki", at=0), said("y", by="ben", at=86_400_000))]
    gathered = label_bundle(turns, [], intents=INTENTS, embed=lambda texts: close_vectors(len(texts)))
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
