"""What a new version of a configuration document changes: it and the one before it, on the same traffic and questions.

Nothing is deployed and nothing is decided here. What a stage does with another document is run again where that can be
done from what is stored: searches on the live index, guardrails on stored turns, answers to known questions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.chatbot.configuration.documents import (
    Document,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    dump_document,
)
from mangaassist_assets.chatbot.guardrails import check_answer, check_message
from mangaassist_assets.chatbot.parts import GenerationRequest, Generator, StageError
from mangaassist_assets.chatbot.prompts import build_prompt
from mangaassist_assets.core.figures import Figures, Row
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.tracing.contract.turns import ChatTurn

if TYPE_CHECKING:
    from mangaassist_assets.retrieval.types import Hit

EVALUATION_FILE = "evaluation.json"

Figure = float | int
Retrieve = Callable[[str], Sequence["Hit"]]
"""The passages that are selected for a question, best first."""

_WORD = re.compile(r"[^\W_]{3,}|[ぁ-んァ-ヶー一-龠々]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChange:
    """One profile: the two versions that were compared, and each figure under both.

    Attributes:
        profile: Its name.
        before: The version number before; None where the present one is the first.
        after: The version number in force.
        measured_on: On what, in a few words.
        figures: Figure -> (under the version before, under the present one).
        notes: What the figures cannot say.
    """

    profile: str
    before: str | None
    after: str
    measured_on: str
    figures: Mapping[str, tuple[Figure | None, Figure | None]]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Return one row a figure."""
        return [
            {"profile": self.profile, "figure": name, "before": _shown(before), "after": _shown(after)}
            for name, (before, after) in self.figures.items()
        ]


def change_files(changes: Sequence[DocumentChange]) -> dict[str, bytes]:
    """Return changes as they are stored."""
    return {EVALUATION_FILE: canonical_json(changes)}


def change_figures(changes: Sequence[DocumentChange]) -> Figures:
    """Return the versions, one row a figure, and the notes."""
    return {
        "profiles": [
            {
                "profile": one.profile,
                "before": one.before or "none",
                "after": one.after,
                "measured_on": one.measured_on,
            }
            for one in changes
        ],
        "figures": [row for one in changes for row in one.rows()],
        "notes": [{"profile": one.profile, "note": note} for one in changes for note in one.notes],
    }


def changed_fields(before: Document | None, after: Document) -> tuple[str, ...]:
    """Return the names of the fields of a document that differ, its version excepted."""
    old: Mapping[str, object] = {} if before is None else json.loads(dump_document(before))
    new: Mapping[str, object] = json.loads(dump_document(after))
    return tuple(sorted(name for name in {*old, *new} if name != "version" and old.get(name) != new.get(name)))


def compare_guardrails(
    before: GuardrailsDocument, after: GuardrailsDocument, turns: Iterable[ChatTurn]
) -> dict[str, tuple[Figure | None, Figure | None]]:
    """Run both rulesets on stored turns.

    Messages and answers are stored redacted, so what a ruleset refuses for personal data in the answer cannot be seen
    again; all other rules can.
    """
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    told: Counter[str] = Counter()
    for turn in turns:
        told["turns"] += 1
        refused = [bool(_reasons(rules, turn, count)) for rules, count in zip((before, after), counts, strict=True)]
        for count, one in zip(counts, refused, strict=True):
            count["refused"] += one
            count["refused, with thumbs up"] += one and turn.user_feedback == "thumbs_up"
            count["refused, with thumbs down"] += one and turn.user_feedback == "thumbs_down"
        told["newly refused"] += refused[1] and not refused[0]
        told["no longer refused"] += refused[0] and not refused[1]
    names = ["refused", "refused, with thumbs up", "refused, with thumbs down"]
    names += sorted({*counts[0], *counts[1]} - {*names})
    return {
        "turns": (told["turns"], told["turns"]),
        **{name: (counts[0][name], counts[1][name]) for name in names},
        "newly refused": (None, told["newly refused"]),
        "no longer refused": (None, told["no longer refused"]),
    }


def _reasons(rules: GuardrailsDocument, turn: ChatTurn, count: Counter[str]) -> tuple[str, ...]:
    reasons = check_message(rules, turn.message)
    if not reasons and turn.answer is not None and turn.candidates:
        selected = [one.rerank_score for one in turn.candidates if one.selected]
        found = check_answer(_without_personal_data(rules), turn.answer, selected)
        reasons = found if selected else ()
    count.update(f"because of {one.partition(':')[0]}" for one in dict.fromkeys(reasons))
    return reasons


def _without_personal_data(rules: GuardrailsDocument) -> GuardrailsDocument:
    """Return the ruleset without the rule that a stored, redacted answer cannot be judged by."""
    return rules.model_copy(update={"block_personal_data_in_answer": False})


def compare_experiments(
    before: ExperimentsDocument | None, after: ExperimentsDocument
) -> dict[str, tuple[Figure | None, Figure | None]]:
    """Return the share of every arm of an enabled experiment under both documents."""
    shares = [
        {}
        if document is None
        else {
            f"{name}:{arm}": one.share
            for name, experiment in sorted(document.experiments.items())
            if experiment.enabled
            for arm, one in experiment.arms.items()
        }
        for document in (before, after)
    ]
    return {name: (shares[0].get(name), shares[1].get(name)) for name in sorted({*shares[0], *shares[1]})}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringParts:
    """What answers a question beside its prompts: search, model and guardrails, the same for both versions."""

    retrieve: Retrieve
    generator: Generator
    routing: RoutingDocument
    guardrails: GuardrailsDocument


def compare_prompts(
    before: PromptsDocument, after: PromptsDocument, questions: Sequence[str], parts: AnsweringParts
) -> dict[str, tuple[Figure | None, Figure | None]]:
    """Answer the same questions from the same passages under both prompts.

    `supported` is the mean share of an answer's words that stand in its passages or in the question: a sign of
    grounding, no judgement.

    Raises:
        StageError: The model answered none of them.
    """
    passages = [parts.retrieve(question) for question in questions]
    answers = [
        [_answer(document, question, hits, parts) for question, hits in zip(questions, passages, strict=True)]
        for document in (before, after)
    ]
    if questions and all(one.error for side in answers for one in side):
        raise StageError(f"none of {len(questions)} questions was answered: {answers[1][0].error}")
    sides = [_answer_figures(side) for side in answers]
    changed = sum(old.text != new.text for old, new in zip(*answers, strict=True))
    return {
        "questions": (len(questions), len(questions)),
        **{name: (sides[0][name], sides[1][name]) for name in sides[0]},
        "answers that changed": (None, changed),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    text: str
    refused: bool
    supported: float
    input_tokens: int
    output_tokens: int
    error: str | None = None


def _answer(document: PromptsDocument, question: str, hits: Sequence[Hit], parts: AnsweringParts) -> _Answered:
    prompt = build_prompt(document, question, hits)
    try:
        generation = parts.generator.generate(
            GenerationRequest(
                system=prompt.system,
                user=prompt.user,
                question=question,
                passages=prompt.passages,
                model_id=parts.routing.bedrock_model_id,
                temperature=parts.routing.temperature,
                maximum_tokens=parts.routing.maximum_tokens,
            )
        )
    except StageError as error:
        return _Answered(text="", refused=False, supported=0.0, input_tokens=0, output_tokens=0, error=str(error))
    known = {word for text in (question, *(hit.text for hit in prompt.passages)) for word in _words(text)}
    words = _words(generation.text)
    return _Answered(
        text=generation.text,
        refused=bool(
            check_answer(
                parts.guardrails,
                generation.text,
                [None] * len(prompt.passages),
                passages=[hit.text for hit in prompt.passages],
            )
        ),
        supported=sum(word in known for word in words) / len(words) if words else 0.0,
        input_tokens=generation.input_tokens,
        output_tokens=generation.output_tokens,
    )


def _answer_figures(answers: Sequence[_Answered]) -> dict[str, Figure]:
    given = [one for one in answers if one.text]
    count = max(len(given), 1)
    return {
        "answered": len(given),
        "no answer": sum(not one.text and one.error is None for one in answers),
        "the model failed": sum(one.error is not None for one in answers),
        "refused by guardrails": sum(one.refused for one in answers),
        "supported": sum(one.supported for one in given) / count,
        "characters an answer": sum(len(one.text) for one in given) / count,
        "input tokens": sum(one.input_tokens for one in answers),
        "output tokens": sum(one.output_tokens for one in answers),
    }


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _shown(figure: Figure | None) -> str | Figure:
    return "" if figure is None else round(figure, 4)
