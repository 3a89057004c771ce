"""The rules of failure mining as data: which signals count, what speaks for or against a stage, where a blame goes.

The packaged file `failure_rules.toml` is complete; a file of one's own takes its place as a whole, so that whoever
reads it sees every rule that was in force. Nothing has a default, and an unknown name is an error: a misspelled
threshold must not be silently ignored.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.mining.blame.rule_names import (
    EVIDENCE_KINDS,
    JUDGED_STAGES,
    LOOPS,
    SIGNAL_PARAMETERS,
    STAGES,
    Loop,
    Number,
    Parameter,
    SignalName,
    Stage,
)
from mangaassist_assets.mining.blame.rule_tables import MiningRulesError, TableReader, short
from mangaassist_assets.mining.blame.verdicts import VerdictRules, plain_name, read_verdicts

__all__ = ["PACKAGED_RULES", "EvidenceRule", "MiningRules", "MiningRulesError", "SignalRule", "Value", "read_rules"]

PACKAGED_RULES = Path(__file__).with_name("failure_rules.toml")
RULES_SCHEMA = 2
_NEW_IN_2 = (
    "table [verdicts]; signals failed_verdict, noted_verdict and tool_failed; evidence verdict_failed and tool_failed"
)
_MAXIMUM_BYTES = 1_000_000
_SHARE = Number(0.0, 1.0)

Value = float | tuple[str, ...]


class _Parameters:
    """Typed access to checked parameters."""

    __slots__ = ()
    parameters: Mapping[str, Value]

    def number(self, key: str) -> float:
        """Return a parameter that is a number."""
        value = self.parameters[key]
        if isinstance(value, tuple):
            raise TypeError(f"parameter {key} is a list of names, not a number")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """Return a parameter that is a list of names."""
        value = self.parameters[key]
        if not isinstance(value, tuple):
            raise TypeError(f"parameter {key} is a number, not a list of names")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule(_Parameters):
    """How one signal counts. Explicit ones make a turn a failure, implicit ones only rank it."""

    name: SignalName
    explicit: bool
    enabled: bool
    confidence: float
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRule(_Parameters):
    """One kind of evidence for or against a stage, and how sure it makes us."""

    stage: Stage
    name: str
    confidence: float
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiningRules:
    """All rules of one file.

    `digest` is the SHA-256 of what the rules say; comments and the order of tables do not change it. `content` is
    what it was computed of, for the record that an auditor reads. `file` is the file's name without its folder.
    """

    signals: Mapping[SignalName, SignalRule]
    evidence: tuple[EvidenceRule, ...]
    loops: Mapping[Stage, Loop]
    intents_without_retrieval: frozenset[str]
    ungrounded_reasons: frozenset[str]
    judge_factor: float
    verdicts: VerdictRules
    file: str
    digest: str
    content: Mapping[str, Any]


def read_rules(path: Path | None = None) -> MiningRules:
    """Read a rules file, by default the packaged one.

    Raises:
        MiningRulesError: The file is missing, is not TOML, or a key of it is wrong; names the first that is.
    """
    return _packaged() if path is None else _read(path)


@cache
def _packaged() -> MiningRules:
    return _read(PACKAGED_RULES)


def _read(path: Path) -> MiningRules:
    try:
        with path.open("rb") as file:
            data = file.read(_MAXIMUM_BYTES + 1)
    except OSError as error:
        raise MiningRulesError(f"the mining rules {path} cannot be read: {error.strerror or error}") from error
    if len(data) > _MAXIMUM_BYTES:
        raise MiningRulesError(f"the mining rules {path} are longer than {_MAXIMUM_BYTES} bytes: is it the right file?")
    try:
        content = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MiningRulesError(f"the mining rules {path} are not TOML in UTF-8: {error}") from error
    return _Reader(TableReader(path.name)).rules(content)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns parsed TOML into rules."""

    tables: TableReader

    def rules(self, content: Mapping[str, Any]) -> MiningRules:
        self._schema(content)
        self.tables.keys(content, "", {"schema", "turns", "verdicts", "signals", "stages"})
        turns = self.tables.table(content, "turns", "turns")
        self.tables.keys(turns, "turns", {"intents_without_retrieval", "ungrounded_reasons", "judge_factor"})
        verdicts = read_verdicts(self.tables.table(content, "verdicts", "verdicts"), self.tables)
        signals = self._signals(self.tables.table(content, "signals", "signals"))
        stages = self.tables.table(content, "stages", "stages")
        self.tables.keys(stages, "stages", set(STAGES))
        evidence: list[EvidenceRule] = []
        loops: dict[Stage, Loop] = {}
        for stage in STAGES:
            table = self.tables.table(stages, stage, f"stages.{stage}")
            loops[stage] = self._loop(table, stage)
            evidence += self._evidence(table, stage)
        without_retrieval = self.tables.names(turns, "intents_without_retrieval", "turns")
        ungrounded = self.tables.names(turns, "ungrounded_reasons", "turns")
        judge_factor = self.tables.number(turns, "judge_factor", "turns", _SHARE)
        self._used(verdicts, [*signals.values(), *evidence])
        canonical = _canonical(signals, evidence, loops, without_retrieval, ungrounded, judge_factor, verdicts)
        return MiningRules(
            signals=signals,
            evidence=tuple(evidence),
            loops=loops,
            intents_without_retrieval=frozenset(without_retrieval),
            ungrounded_reasons=frozenset(ungrounded),
            judge_factor=judge_factor,
            verdicts=verdicts,
            file=self.tables.file,
            digest=hashlib.sha256(canonical_json(canonical)).hexdigest(),
            content=canonical,
        )

    def _schema(self, content: Mapping[str, Any]) -> None:
        schema = content.get("schema", RULES_SCHEMA)
        if schema == RULES_SCHEMA and not isinstance(schema, bool):
            return
        say = f"is {short(schema)}; this platform reads {RULES_SCHEMA}"
        if schema == 1 and not isinstance(schema, bool):
            say += f": add from the packaged file what is new ({_NEW_IN_2}), then set schema = {RULES_SCHEMA}"
        raise self.tables.wrong("schema", say)

    def _used(self, verdicts: VerdictRules, rules: Sequence[SignalRule | EvidenceRule]) -> None:
        """Refuse a verdict that is looked at and means nothing, and a meaning that nothing looks at."""
        looked_at: set[str] = set()
        for rule in rules:
            names = {key: set(rule.names(key)) for key in ("assessments", "verdicts") if key in rule.parameters}
            for name in sorted(names.get("verdicts", set()) - verdicts.names):
                where = f"signals.{rule.name}" if isinstance(rule, SignalRule) else f"stages.{rule.stage}.evidence"
                raise self.tables.wrong(f"{where}.verdicts", f"names {short(name)}, which [verdicts] gives no meaning")
            looked_at = looked_at.union(*names.values())
        for table in ("fails", "above", "below"):
            for name in sorted(set(getattr(verdicts, table)) - looked_at):
                raise self.tables.wrong(f"verdicts.{table}.{name}", "is used by no signal and no evidence")

    def _signals(self, tables: Mapping[str, Any]) -> dict[SignalName, SignalRule]:
        self.tables.keys(tables, "signals", set(SIGNAL_PARAMETERS))
        found: dict[SignalName, SignalRule] = {}
        for name, parameters in SIGNAL_PARAMETERS.items():
            where = f"signals.{name}"
            table = self.tables.table(tables, name, where)
            self.tables.keys(table, where, {"explicit", "confidence", *parameters}, optional={"enabled"})
            found[name] = SignalRule(
                name=name,
                explicit=self.tables.boolean(table, "explicit", where),
                enabled=self.tables.boolean(table, "enabled", where) if "enabled" in table else True,
                confidence=self.tables.number(table, "confidence", where, _SHARE),
                parameters=self._parameters(table, where, parameters),
            )
        if not any(rule.explicit and rule.enabled for rule in found.values()):
            raise self.tables.wrong(
                "signals", "has no signal that is explicit and enabled: no turn would ever be a failure"
            )
        return found

    def _loop(self, table: Mapping[str, Any], stage: Stage) -> Loop:
        where = f"stages.{stage}"
        # Nothing can speak for or against the stage that stands where no stage has evidence.
        self.tables.keys(table, where, {"loop"} if stage == "unknown" else {"loop", "evidence"})
        loop = next((loop for loop in LOOPS if loop == table["loop"]), None)
        if loop is None:
            raise self.tables.wrong(f"{where}.loop", f"is {short(table['loop'])}; the loops are {', '.join(LOOPS)}")
        return loop

    def _evidence(self, table: Mapping[str, Any], stage: Stage) -> list[EvidenceRule]:
        if stage not in JUDGED_STAGES:
            return []
        where = f"stages.{stage}.evidence"
        entries = table["evidence"]
        if not isinstance(entries, list):
            raise self.tables.wrong(where, f"is not a list of tables: write [[{where}]]")
        rules = [self._evidence_rule(entry, stage, f"{where}[{number}]") for number, entry in enumerate(entries, 1)]
        if not any(EVIDENCE_KINDS[rule.name].verdict == "against" for rule in rules):
            raise self.tables.wrong(where, "has nothing that speaks against the stage: it could never be blamed")
        for number, rule in enumerate(rules, start=1):
            if any((one.name, one.parameters) == (rule.name, rule.parameters) for one in rules[: number - 1]):
                again = f"says {rule.name!r} a second time with the same parameters"
                raise self.tables.wrong(f"{where}[{number}]", again)
        return rules

    def _evidence_rule(self, entry: object, stage: Stage, where: str) -> EvidenceRule:
        if not isinstance(entry, dict):
            raise self.tables.wrong(where, "is not a table")
        name = entry.get("name")
        if not isinstance(name, str) or name not in EVIDENCE_KINDS:
            raise self.tables.wrong(f"{where}.name", f"is {short(name)}; there are {', '.join(sorted(EVIDENCE_KINDS))}")
        kind = EVIDENCE_KINDS[name]
        self.tables.keys(entry, where, {"name", "confidence", *kind.parameters})
        return EvidenceRule(
            stage=stage,
            name=name,
            confidence=self.tables.number(entry, "confidence", where, _SHARE),
            parameters=self._parameters(entry, where, kind.parameters),
        )

    def _parameters(self, table: Mapping[str, Any], where: str, wanted: Mapping[str, Parameter]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, kind in wanted.items():
            if isinstance(kind, Number):
                found[key] = self.tables.number(table, key, where, kind)
                continue
            names = self.tables.names(table, key, where)
            found[key] = tuple(dict.fromkeys(map(plain_name, names))) if kind.of_verdicts else names
        return found


def _canonical(
    signals: Mapping[SignalName, SignalRule],
    evidence: list[EvidenceRule],
    loops: Mapping[Stage, Loop],
    without_retrieval: tuple[str, ...],
    ungrounded: tuple[str, ...],
    judge_factor: float,
    verdicts: VerdictRules,
) -> dict[str, Any]:
    """Return the rules as plain JSON values in which equal rules look equal."""
    return {
        "schema": RULES_SCHEMA,
        "turns": {
            "intents_without_retrieval": sorted(without_retrieval),
            "ungrounded_reasons": sorted(ungrounded),
            "judge_factor": judge_factor,
        },
        "verdicts": {
            "harmless": sorted(verdicts.harmless),
            "fails": {name: sorted(words) for name, words in verdicts.fails.items()},
            "above": dict(verdicts.above),
            "below": dict(verdicts.below),
        },
        "signals": {
            rule.name: {
                "explicit": rule.explicit,
                "enabled": rule.enabled,
                "confidence": rule.confidence,
                **_plain(rule.parameters),
            }
            for rule in signals.values()
        },
        "loops": dict(loops),
        "evidence": [
            {"stage": rule.stage, "name": rule.name, "confidence": rule.confidence, **_plain(rule.parameters)}
            for rule in evidence
        ],
    }


def _plain(parameters: Mapping[str, Value]) -> dict[str, float | list[str]]:
    return {key: sorted(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
