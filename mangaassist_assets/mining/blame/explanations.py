"""Failures and rules as rows that a person reads: blame, what could not be judged, signals, why, the rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import polars as pl

from mangaassist_assets.core.figures import Figures, Row
from mangaassist_assets.mining.blame.blame import FailedTurn
from mangaassist_assets.mining.blame.evidence import Finding
from mangaassist_assets.mining.blame.opinions import word_or_score
from mangaassist_assets.mining.blame.rule_names import EVIDENCE_KINDS, STAGES
from mangaassist_assets.mining.blame.rules import MiningRules, Rule
from mangaassist_assets.mining.blame.silent_stages import MISSING
from mangaassist_assets.mining.blame.turn_facts import shown
from mangaassist_assets.mining.blame.verdicts import VerdictRules

EXPLAINED_FAILURES = 20
SCORED_COLUMNS = ("verdicts", "reviews")
"""Where a turn's scores are."""


def failure_figures(turns: pl.DataFrame, failures: Sequence[FailedTurn], rules: MiningRules) -> Figures:
    """Return what there is to say of the failed turns of a bundle; of the worst ones the whole explanation.

    `turns` are all turns of the bundle, failed or not, with their `SCORED_COLUMNS`.
    """
    unknown = unknown_failures(failures)
    return {
        "dagster/row_count": len(failures),
        "turns": turns.height,
        "failure_rate": len(failures) / turns.height if turns.height else 0.0,
        "unknown_share": unknown / len(failures) if failures else 0.0,
        "blame": blame_rows(failures, rules),
        "not_judged": not_judged_rows(failures),
        "signals": signal_rows(failures),
        "scores_off_scale": off_scale_rows(turns, rules),
        "why": why_rows(worst(failures, EXPLAINED_FAILURES)),
        "rules_file": rules.file,
        "rules_digest": rules.digest,
        "rules": rule_rows(rules),
        "verdict_rules": verdict_rows(rules),
    }


def unknown_failures(failures: Sequence[FailedTurn]) -> int:
    """Return how many failures have no evidence against any stage."""
    return sum(failure.blame.stage == "unknown" for failure in failures)


def judging_gaps(turns: pl.DataFrame, failures: Sequence[FailedTurn], rules: MiningRules) -> list[str]:
    """Return in sentences which stages could not be judged, and which scores are off their threshold's scale."""
    return [str(row["said"]) for row in (*not_judged_rows(failures), *off_scale_rows(turns, rules))]


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


def not_judged_rows(failures: Sequence[FailedTurn]) -> list[Row]:
    """Return one row a stage that some failures could not be judged on: how many, and what their traces lack."""
    counts = Counter(
        finding.stage for failure in failures for finding in failure.considered if finding.verdict == "untold"
    )
    return [
        {
            "stage": stage,
            "not_judged": counts[stage],
            "failures": len(failures),
            "share": round(counts[stage] / len(failures), 4),
            "said": f"{stage}: {counts[stage]} of {len(failures)} failures could not be judged: the traces tell "
            f"{MISSING[stage]}",
        }
        for stage in STAGES
        if counts[stage]
    ]


def off_scale_rows(turns: pl.DataFrame, rules: MiningRules) -> list[Row]:
    """Return one row a name whose scores are off the scale of its threshold: they neither fail nor pass.

    `turns` have their `SCORED_COLUMNS`.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for name, score in _scores(turns, rules.verdicts):
        if rules.verdicts.outcome(name, None, score) == "off_scale":
            found[name].append(score)
    return [
        {
            "name": name,
            "threshold": rules.verdicts.below.get(name, rules.verdicts.above.get(name)),
            "scores": len(scores),
            "lowest": repr(min(scores)),
            "highest": repr(max(scores)),
            "said": f"{shown(name)}: {len(scores)} scores are off the scale of their threshold, so they neither fail "
            "nor pass, while those from 0 to 1 count: write it on their scale into [verdicts] of the mining rules",
        }
        for name, scores in sorted(found.items())
    ]


def _scores(turns: pl.DataFrame, verdicts: VerdictRules) -> Iterator[tuple[str, float]]:
    stated = turns.select(pl.col("verdicts").explode(empty_as_null=False).struct.unnest()).drop_nulls("score")
    for name, stage, score in stated.select("name", "stage", "score").iter_rows():
        yield verdicts.key(name, stage), score
    reviews = turns.select(pl.col("reviews").explode(empty_as_null=False).struct.unnest())
    given = reviews.filter(pl.col("kind") == "feedback").select("name", pl.col("values").list.first())
    for name, value in given.iter_rows():
        score = word_or_score(value)[1]
        if score is not None:
            yield verdicts.key(name), score


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
            "also_considered": "; ".join(
                _described(finding)
                for finding in failure.considered
                if (finding.stage, finding.rule, finding.evidence)
                != (failure.blame.stage, failure.blame.rule, failure.blame.evidence)
            ),
        }
        for failure in failures
    ]


def rule_rows(rules: MiningRules) -> list[Row]:
    """Return one row a signal and a kind of evidence, with what each counts for."""
    rows: list[Row] = [
        {
            "rule": rule.name,
            "about": "signal",
            "speaks": "switched off" if not rule.enabled else "makes a failure" if rule.explicit else "ranks failures",
            "basis": "explicit" if rule.explicit else "implicit",
            **_counts_for(rule),
            "feeds": "",
        }
        for rule in rules.signals.values()
    ]
    rows += [
        {
            "rule": rule.name,
            "about": rule.stage,
            "speaks": EVIDENCE_KINDS[rule.name].verdict,
            "basis": EVIDENCE_KINDS[rule.name].basis,
            **_counts_for(rule),
            "feeds": rules.loops[rule.stage],
        }
        for rule in rules.evidence
    ]
    return rows


def _counts_for(rule: Rule) -> Row:
    parameters = ", ".join(
        f"{key} = {'[' + ', '.join(value) + ']' if isinstance(value, tuple) else format(value, 'g')}"
        for key, value in rule.parameters.items()
    )
    return {"parameters": parameters, "confidence": rule.confidence}


def verdict_rows(rules: MiningRules) -> list[Row]:
    """Return one row a name of a verdict, by name: the words and the scores that fail under it."""
    verdicts = rules.verdicts
    return [
        {
            "name": name,
            "words_that_fail": ", ".join(sorted(verdicts.fails.get(name, ()))),
            "fails_above": verdicts.above.get(name),
            "fails_below": verdicts.below.get(name),
        }
        for name in sorted(verdicts.names)
    ]


def _described(finding: Finding) -> str:
    if finding.verdict == "untold":
        return f"{finding.stage}: {finding.evidence}"
    if finding.verdict == "none":
        return f"{finding.stage}: no evidence"
    return f"{finding.stage}: {finding.verdict} ({finding.basis}, {finding.confidence:g}): {finding.evidence}"
