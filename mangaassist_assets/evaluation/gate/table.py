"""A decision of the gate as Markdown that a person reads on an asset's page."""

from __future__ import annotations

from collections.abc import Sequence

from mangaassist_assets.core.markdown import plain
from mangaassist_assets.evaluation.gate.decision import GateDecision, GuardrailFigures, SliceFigures

_ROWS_SHOWN = 20
_LONGEST_NAME = 80
_FIRST = {"worse": 0, "suspicious": 1}
_WORDS = {
    "insufficient_evidence": "insufficient evidence",
    "not_judged": "not judged",
    "not_measured": "not measured",
    "needs_sign_off": "needs sign-off",
}


def decision_table(decision: GateDecision) -> str:
    """Return verdict, reasons and tables: figures, guardrail metrics, and the slices of each dimension, worst first."""
    who = ""
    if decision.champion_version or decision.challenger_version:
        who = f": challenger {_name(decision.challenger_version)} against champion {_name(decision.champion_version)}"
    lines = [f"**{_words(decision.verdict)}** ({_name(decision.metric)}){who}", ""]
    lines += [f"- {plain(reason)}" for reason in decision.reasons]
    if decision.needed_examples is not None:
        lines.append(f"- about {decision.needed_examples:,} test examples would be needed in all")
    if "turns" in decision.figures:
        lines.append(
            f"- estimated for {_number(decision.figures['turns'])} turns of traffic from "
            f"{_number(decision.figures['audited'])} reviews of the audit sample, each standing for the turns that it "
            "was drawn from; other reviews stand for themselves"
        )
    lines += ["", "| figure | value |", "|---|---:|"]
    lines += [f"| {_name(name.replace('_', ' '))} | {_number(value)} |" for name, value in decision.figures.items()]
    if decision.guardrails:
        lines += ["", "| guardrail metric | champion | challenger | limit | interval of the change | judgement | why |"]
        lines += ["|---|---:|---:|---|---|---|---|"]
        lines += [_guardrail_row(guardrail) for guardrail in decision.guardrails]
    for dimension in sorted({item.dimension for item in decision.slices}):
        lines += _slice_table(decision, dimension)
    return "\n".join(lines) + "\n"


def _name(text: str) -> str:
    return plain(text, longest=_LONGEST_NAME)


def worst_first(slices: Sequence[SliceFigures]) -> list[SliceFigures]:
    """Return slices in the order in which a person wants to see them."""
    return sorted(
        slices,
        key=lambda item: (_FIRST.get(item.judgement, 2), round(item.difference, 9), item.dimension, item.name),
    )


def _guardrail_row(guardrail: GuardrailFigures) -> str:
    interval = "" if guardrail.low is None or guardrail.high is None else f"{guardrail.low:.4g} to {guardrail.high:.4g}"
    cells = [
        _name(guardrail.name),
        "" if guardrail.champion is None else _number(guardrail.champion),
        "" if guardrail.challenger is None else _number(guardrail.challenger),
        _name(guardrail.limit),
        interval,
        f"**{guardrail.judgement}**" if guardrail.judgement == "broken" else _words(guardrail.judgement),
        plain(guardrail.why),
    ]
    return f"| {' | '.join(cells)} |"


def _slice_table(decision: GateDecision, dimension: str) -> list[str]:
    ordered = worst_first([item for item in decision.slices if item.dimension == dimension])
    heads = (
        f"{_name(dimension)} | examples | champion | challenger | change | {decision.config.confidence:.0%} interval"
    )
    lines = ["", f"| {heads} | chance of a loss | judgement |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for item in ordered[:_ROWS_SHOWN]:
        wanted = "" if item.needed_examples is None else f", about {item.needed_examples:,} examples would tell"
        lines.append(
            f"| {_name(item.name)} | {item.examples} | {item.champion:.3f} | {item.challenger:.3f} "
            f"| {item.difference:+.3f} | {item.low:+.3f} to {item.high:+.3f} | {item.loss_probability:.0%} "
            f"| {_judgement(item)}{wanted} |"
        )
    lines += ["", _explained(decision)]
    hidden = ordered[_ROWS_SHOWN:]
    if hidden:
        kinds = sorted({item.judgement for item in hidden})
        counts = ", ".join(f"{sum(item.judgement == kind for item in hidden)} {_words(kind)}" for kind in kinds)
        lines += ["", f"{len(hidden)} more of {_name(dimension)}, with smaller losses or gains: {counts}."]
    return lines


def _explained(decision: GateDecision) -> str:
    margin = f"{decision.config.slice_margin:g}"
    return (
        f"Worse: a loss of more than {margin} is proven. Suspicious: it is likely, and a person should look. "
        f"Non-inferior: it is ruled out. Undecided: the reviews of this slice cannot tell, nor do they look bad; the "
        "interval says what is possible."
    )


def _judgement(item: SliceFigures) -> str:
    return f"**{item.judgement}**" if item.judgement in _FIRST else _words(item.judgement)


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", "-" if name.startswith("non") else " "))


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) and abs(value) >= 10 else f"{value:.4g}"
