from dataclasses import dataclass, field

import pytest

from mangaassist_assets.labelling.judge import IntentJudgement, JudgingConfig, judge_labels
from tests.support.labelling import human_label, make_turn

INTENTS = {"x": ("an x",), "y": ("a y",)}
FEW = JudgingConfig(minimum_common=3)


@dataclass
class ScriptedJudge:
    """Answers by message, `x` by default, and remembers what it was asked."""

    answers: dict[str, IntentJudgement] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    model_id: str = "judge-1"

    def judge(self, messages, intents):
        assert intents == INTENTS
        self.asked += messages
        return [self.answers.get(message, IntentJudgement(intent="x", confidence=0.9)) for message in messages]


def people(count, intent="x"):
    return {f"h{number}": human_label(f"h{number}", intent, labelled_ms=10 + number) for number in range(count)}


def test_a_judge_that_agrees_with_people_labels_what_nobody_reviewed():
    judging = judge_labels(ScriptedJudge(), [make_turn("q")], people(5), intents=INTENTS, config=FEW)
    (label,) = judging.labels
    assert (label.kind, label.intent, label.labeller, label.trace_id) == ("judge", "x", "judge-1", "q")
    assert label.labelled_ms == 1_000
    assert judging.disagreement_rate is not None
    assert label.confidence == round(1 - judging.disagreement_rate.bound, 4)
    assert judging.kept_out is None


def test_a_judge_that_contradicts_people_is_not_believed_and_its_errors_are_listed():
    judging = judge_labels(ScriptedJudge(), [make_turn("q")], people(4, "y"), intents=INTENTS, config=FEW)
    assert judging.labels == ()
    assert judging.kept_out == "it agrees with people on 0% of 4 messages, not 80%"
    assert judging.skipped == {"the judge is not believed": 1}
    assert len(judging.disagreements) == 4
    assert {one.by for one in judging.disagreements[0].answers} == {"aki", "judge-1"}


def test_a_judge_that_was_measured_on_too_few_messages_is_not_believed():
    judging = judge_labels(ScriptedJudge(), [make_turn("q")], people(2), intents=INTENTS, config=FEW)
    assert judging.labels == ()
    assert "answered 2 messages that people reviewed, at least 3" in str(judging.kept_out)


def test_what_people_reviewed_is_left_to_people():
    judging = judge_labels(ScriptedJudge(), [make_turn("h1")], people(4), intents=INTENTS, config=FEW)
    assert judging.labels == ()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (IntentJudgement(intent=None, confidence=0.9), "the judge could not tell"),
        (IntentJudgement(intent="x", confidence=0.2), "the judge is not sure"),
        (IntentJudgement(intent="x", confidence=float("nan")), "the judge is not sure"),
        (IntentJudgement(intent=None, confidence=0.0, refused="no tool call"), "the judge's answer was refused"),
        (IntentJudgement(intent="drop tables", confidence=1.0), "the judge's answer was refused"),
    ],
)
def test_an_answer_that_is_none_makes_no_label(answer, reason):
    judge = ScriptedJudge({"message q": answer})
    judging = judge_labels(judge, [make_turn("q")], people(5), intents=INTENTS, config=FEW)
    assert (judging.labels, dict(judging.skipped)) == ((), {reason: 1})


def test_nothing_is_asked_twice():
    judge = ScriptedJudge()
    turns = [make_turn("q"), make_turn("r", "message q")]
    first = judge_labels(judge, turns, people(5), intents=INTENTS, config=FEW)
    assert len(judge.asked) == len(set(judge.asked)) == 6
    again = judge_labels(judge, turns, people(5), intents=INTENTS, earlier=first.judgements, config=FEW)
    assert len(judge.asked) == 6
    assert again == first


def test_the_messages_it_is_measured_on_are_bounded_and_distinct():
    judge = ScriptedJudge()
    same = {f"s{number}": human_label(f"s{number}", "x", text="the very same") for number in range(50)}
    config = JudgingConfig(minimum_common=1, measured_on=4)
    judge_labels(judge, [], people(20) | same, intents=INTENTS, config=config)
    assert len(judge.asked) == 4


def test_a_judge_that_drops_answers_is_an_error():
    judge = ScriptedJudge()
    judge.judge = lambda _messages, _intents: []  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="gave 0 answers to 1 messages"):
        judge_labels(judge, [make_turn("q")], {}, intents=INTENTS)


def test_without_a_choice_there_is_nothing_to_judge():
    judge = ScriptedJudge()
    judging = judge_labels(judge, [make_turn("q")], {}, intents={"x": ()})
    assert (judge.asked, judging.labels) == ([], ())
    assert "nothing to choose" in str(judging.kept_out)
