"""Failures and rules as rows that a person reads: blame by stage, signals, why each of the worst, the rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from mangaassist_assets.mining.blame import STAGES, FailedTurn, Finding
from mangaassist_assets.mining.rule_names import EVIDENCE_KINDS
from mangaassist_assets.mining.rules import MiningRules, SignalRule, Value

Row = dict[str, str | int | float | bool | None]


def blame_rows(failures: Sequence[FailedTurn], rules: MiningRules) -> list[Row]:
    """Return one row a blamed stage, in the order of the stages: turns, share, loop, mean confidence."""
    confidences: defaultdict[str, list[float]] = defaultdict(list)
    for failure in failures:
        confidences[failure.blame.stage].append(failure.blame.confidence)
    return [
        {
            "stage": stage,
            "turns": len(confidences[stage]),
            "share": round(len(confidences[stage]) / len(failures), 4),
            "feeds": rules.loops[stage],
            "mean_confidence": round(sum(confidences[stage]) / len(confidences[stage]), 3),
        }
        for stage in STAGES
        if confidences[stage]
    ]


def signal_rows(failures: Sequence[FailedTurn]) -> list[Row]:
    """Return one row a signal, the most frequent first."""
    counts = Counter((signal.name, signal.explicit) for failure in failures for signal in failure.signals)
    return [
        {"signal": name, "explicit": explicit, "turns": count}
        for (name, explicit), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def worst(failures: Sequence[FailedTurn], count: int) -> list[FailedTurn]:
    """Return the failures that most signals speak of, the surest blames first among equals."""
    return sorted(failures, key=lambda one: (-one.severity, -one.blame.confidence, one.turn.trace_id))[:count]


def why_rows(failures: Sequence[FailedTurn]) -> list[Row]:
    """Return one row a failure: its signals, the blamed stage with evidence, and what else was considered."""
    return [
        {
            "trace_id": failure.turn.trace_id,
            "signals": "; ".join(signal.evidence for signal in failure.signals),
            "stage": failure.blame.stage,
            "feeds": failure.blame.loop,
            "evidence": failure.blame.evidence,
            "rule": failure.blame.rule or "",
            "confidence": failure.blame.confidence,
            "also_considered": _also_considered(failure),
        }
        for failure in failures
    ]


def rule_rows(rules: MiningRules) -> list[Row]:
    """Return one row a signal and a kind of evidence, with what each counts for."""
    signals: list[Row] = [
        {
            "rule": rule.name,
            "about": "signal",
            "speaks": _strength(rule),
            "basis": "explicit" if rule.explicit else "implicit",
            "parameters": _parameters(rule.parameters),
            "confidence": rule.confidence,
            "feeds": "",
        }
        for rule in rules.signals.values()
    ]
    evidence: list[Row] = [
        {
            "rule": rule.name,
            "about": rule.stage,
            "speaks": EVIDENCE_KINDS[rule.name].verdict,
            "basis": EVIDENCE_KINDS[rule.name].basis,
            "parameters": _parameters(rule.parameters),
            "confidence": rule.confidence,
            "feeds": rules.loops[rule.stage],
        }
        for rule in rules.evidence
    ]
    return signals + evidence


def _also_considered(failure: FailedTurn) -> str:
    told = [_told(finding) for finding in failure.considered if not _is_the_blame(finding, failure)]
    return "; ".join(told)


def _is_the_blame(finding: Finding, failure: FailedTurn) -> bool:
    blame = failure.blame
    return (finding.stage, finding.rule, finding.evidence) == (blame.stage, blame.rule, blame.evidence)


def _told(finding: Finding) -> str:
    if finding.verdict == "none":
        return f"{finding.stage}: no evidence"
    return f"{finding.stage}: {finding.verdict} ({finding.basis}, {finding.confidence:g}): {finding.evidence}"


def _strength(rule: SignalRule) -> str:
    if not rule.enabled:
        return "switched off"
    return "makes a failure" if rule.explicit else "ranks failures"


def _parameters(parameters: Mapping[str, Value]) -> str:
    return ", ".join(
        f"{key} = {'[' + ', '.join(value) + ']' if isinstance(value, tuple) else format(value, 'g')}"
        for key, value in parameters.items()
    )
