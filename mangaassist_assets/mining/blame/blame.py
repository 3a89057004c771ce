"""Which stage a failure is blamed on, on what evidence, and the loop that this feeds.

Stages are tried in the order in which a turn passes them: a later stage cannot be judged on what an earlier one
spoiled. But evidence is of three firmnesses, and the firmest decides before the order does:

1. what the trace says (an error, a block, nothing found) and what a person's review says;
2. what a judging model or code says;
3. guesses from behaviour (an unsure classifier, a reversed order, unusually low scores).

So a review of the documents outranks an unsure classifier, although the classifier comes first. A stage that a person's
review confirms is not blamed by a judge or a guess, one that a judge confirms is not blamed by a guess; a fact stands
whatever is said. A stage of which the trace records nothing is blamed by reviews only. Where nothing is left the stage
is `unknown`: a review would show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mangaassist_assets.mining.blame.evidence import Finding, finding_of
from mangaassist_assets.mining.blame.rule_names import (
    EVIDENCE_KINDS,
    JUDGED_STAGES,
    LOOP_OF_STAGE,
    STAGES,
    Basis,
    Loop,
    Stage,
)
from mangaassist_assets.mining.blame.rules import MiningRules, read_rules
from mangaassist_assets.mining.blame.signals import Signal, signals_of
from mangaassist_assets.mining.blame.silent_stages import MISSING, is_passed, unrecorded_stages
from mangaassist_assets.mining.blame.turn_context import TurnContext, context_of
from mangaassist_assets.tracing.contract.turns import ChatTurn

_FIRMNESS: dict[Basis, int] = {"fact": 0, "review": 0, "judge": 1, "guess": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """The blamed stage, the sentence that blames it, and how sure that is (0 to 1).

    `rule` is the kind of evidence; `routed_to` is the loop under the rules in force, None for the packaged one.
    """

    stage: Stage
    evidence: str
    confidence: float
    rule: str | None = None
    basis: Basis | None = None
    routed_to: Loop | None = None

    @property
    def loop(self) -> Loop:
        """The loop this failure feeds."""
        return self.routed_to or LOOP_OF_STAGE[self.stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTurn:
    """A turn with at least one explicit signal; `considered` has at least one finding of every stage, in order."""

    turn: ChatTurn
    signals: tuple[Signal, ...]
    blame: Blame
    considered: tuple[Finding, ...] = ()

    @property
    def severity(self) -> float:
        """Rank among failures: one for every explicit signal, a quarter for every implicit one."""
        return sum(1.0 if signal.explicit else 0.25 for signal in self.signals)


def find_failures(turns: Iterable[ChatTurn], *, config: MiningRules | None = None) -> list[FailedTurn]:
    """Return the failed turns with their blame, ordered by (timestamp_ms, trace_id).

    Pass all turns of a bundle, not only the bad ones: a rephrased question is known by the message after it, an
    unusual score by those of the turns that pleased. `config` are the rules, by default the packaged ones. Those of a
    stored bundle are found by `stored_failures.find_stored_failures`, which does not hold its turns.
    """
    rules = config or read_rules()
    all_turns = sorted(turns, key=lambda turn: (turn.timestamp_ms, turn.trace_id))
    return list(failures_among(all_turns, rules, context_of(all_turns, rules)))


def failures_among(turns: Iterable[ChatTurn], rules: MiningRules, around: TurnContext) -> Iterator[FailedTurn]:
    """Yield those of the turns that failed, with their blame, in their order."""
    for turn in turns:
        signals = signals_of(turn, rules, around)
        if any(signal.explicit for signal in signals):
            considered = consider(turn, rules, around)
            blame = decide(considered, rules)
            yield FailedTurn(turn=turn, signals=signals, blame=blame, considered=considered)


def consider(turn: ChatTurn, rules: MiningRules, around: TurnContext) -> tuple[Finding, ...]:
    """Return what every rule found, in the order of the stages and, within one, of the rules.

    A stage of which the trace records nothing is judged by what people and judges say only; where they say nothing, its
    finding is `untold` and says what is missing.
    """
    unrecorded = unrecorded_stages(turn, rules)
    found: list[Finding] = []
    for rule in rules.evidence:
        kind = EVIDENCE_KINDS[rule.name]
        if rule.stage in unrecorded and kind.verdict == "against" and kind.basis in ("fact", "guess"):
            continue
        finding = finding_of(rule, turn, rules, around)
        if finding is not None:
            found.append(finding)
    spoken = {finding.stage for finding in found}
    silent = [
        Finding(stage=stage, verdict="untold", evidence=f"cannot be blamed: the trace tells {MISSING[stage]}")
        if stage in unrecorded and is_passed(turn, stage, rules)
        else Finding(stage=stage, verdict="none")
        for stage in JUDGED_STAGES
        if stage not in spoken
    ]
    return tuple(sorted([*found, *silent], key=lambda finding: STAGES.index(finding.stage)))


def decide(considered: Sequence[Finding], rules: MiningRules) -> Blame:
    """Return the blame: the firmest evidence against a stage that nothing firmer clears, then the earliest stage.

    Of several findings that are as firm, on one stage, the surest is reported.
    """
    cleared: dict[Stage, int] = {}
    against: list[tuple[int, Finding]] = []
    for finding in considered:
        if finding.basis is None:
            continue
        firmness = _FIRMNESS[finding.basis]
        if finding.verdict == "for":
            cleared[finding.stage] = min(firmness, cleared.get(finding.stage, firmness))
        else:
            against.append((firmness, finding))
    against = [(firmness, one) for firmness, one in against if firmness <= cleared.get(one.stage, firmness)]
    if not against:
        untold = [finding.stage for finding in considered if finding.verdict == "untold"]
        return Blame(
            stage="unknown",
            evidence="no stage has evidence against it: a review would tell"
            + (f"; the trace tells nothing to judge {', '.join(untold)} by" if untold else ""),
            confidence=0.0,
            routed_to=rules.loops["unknown"],
        )
    _, blamed = min(
        against, key=lambda one: (one[0], STAGES.index(one[1].stage), -one[1].confidence, one[1].rule or "")
    )
    return Blame(
        stage=blamed.stage,
        evidence=blamed.evidence,
        confidence=blamed.confidence,
        rule=blamed.rule,
        basis=blamed.basis,
        routed_to=rules.loops[blamed.stage],
    )
