"""The labels of a bundle as a person reads them: how many of whom, how often propagation and judge were wrong."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

from mangaassist_assets.core.figures import Figures, Row, count_rows
from mangaassist_assets.labelling.disagreement import Answer, Disagreement
from mangaassist_assets.labelling.error_estimate import ErrorRate
from mangaassist_assets.labelling.gathering import GatheredLabels
from mangaassist_assets.labelling.judge import Judging
from mangaassist_assets.labelling.propagation import ClusterPropagation
from mangaassist_assets.labelling.reviewed_messages import PropagationRule

_ROWS_SHOWN = 50
_LONGEST_INTENT = 80


def label_figures(gathered: GatheredLabels, *, new_intents: Collection[str] = ()) -> Figures:
    """Return counts of labels, measured errors, and the first disagreements.

    Args:
        gathered: The labels.
        new_intents: Known intents that the training corpus does not have.
    """
    propagation = gathered.propagation
    return {
        "dagster/row_count": len(gathered.labels),
        "of_people": gathered.count("human"),
        "of_the_judge": gathered.count("judge"),
        "propagated": gathered.count("propagated"),
        "by_origin": count_rows(gathered.origins(), what="origin"),
        "new_intents": ", ".join(sorted(new_intents)) or "none",
        "unknown_intents": count_rows(
            {name[:_LONGEST_INTENT]: count for name, count in gathered.unknown_intents.items()}
        ),
        "propagation_error": describe_error(propagation.error, "left-out reviewed shoppers"),
        "propagation_rule": describe_rule(propagation.rule),
        "propagation": [_propagation_row(one) for one in propagation.clusters[:_ROWS_SHOWN] if one.reviewed],
        "judge": describe_judge(gathered.judging),
        "disagreements": [_disagreement_row(one) for one in gathered.disagreements[:_ROWS_SHOWN]],
        "disagreements_in_all": len(gathered.disagreements),
        "not_labelled": count_rows(gathered.skipped),
    }


def describe_error(error: ErrorRate, trials: str) -> str:
    """Return a measured error with its interval in words; `trials` names what was tried."""
    if error.trials == 0:
        return f"not measured: no {trials}"
    return (
        f"{error.wrong} of {error.trials} {trials} got another intent than people gave "
        f"(95 % interval {error.low:.1%} to {error.high:.1%})"
    )


def describe_rule(rule: PropagationRule | None) -> str:
    """Return in words which failures get the intent of the reviewed messages that are nearest to them."""
    if rule is None:
        return "none: nothing was propagated"
    answered = ", other than what the classifier answered" if rule.doubts_answer else ""
    return f"the nearest intent{answered}, if it is nearer than the next by {rule.margin:g} (cosine)"


def describe_judge(judging: Judging) -> str:
    """Return in words which judge was asked, how often it was wrong, and why its labels do not count if so."""
    if judging.model_id is None:
        return "no judge is configured"
    description = judging.model_id
    if judging.disagreement_rate is not None:
        description += f": {describe_error(judging.disagreement_rate, 'messages that people reviewed')}"
    return description if judging.kept_out is None else f"{description}; its labels are left out: {judging.kept_out}"


def _propagation_row(one: ClusterPropagation) -> Row:
    return {
        "cluster_id": one.cluster_id,
        "intents": ", ".join(one.intents) or None,
        "reviewed_shoppers": one.reviewed,
        "trials": one.error.trials if one.error else 0,
        "wrong": one.error.wrong if one.error else 0,
        "estimated_error": one.error.rate if one.error else None,
        "confidence": round(1 - one.error.bound, 4) if one.error else None,
        "labelled": one.labelled,
        "refused": one.refused,
    }


def _disagreement_row(one: Disagreement) -> Row:
    return {
        "kind": one.kind,
        "traces": ", ".join(one.trace_ids[:5]),
        "answers": "; ".join(_describe_answer(answer) for answer in one.answers[:6]),
        "outcome": one.outcome,
    }


def _describe_answer(answer: Answer) -> str:
    given = datetime.fromtimestamp(answer.given_ms / 1000, tz=UTC)
    return f"{answer.intent} by {answer.by} on {given:%Y-%m-%d %H:%M}"
