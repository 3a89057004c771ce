"""The rules of failure mining as data: which signals count, what speaks for or against a stage, where a blame goes.

The packaged file `failure_rules.toml` is complete; a file of one's own takes its place as a whole, so that whoever
reads it sees every rule that was in force. Nothing has a default, and an unknown name is an error: a misspelled
threshold must not be silently ignored.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.mining.blame.rule_names import (
    EVIDENCE_KINDS,
    JUDGED_STAGES,
    LOOPS,
    SHARE,
    SIGNAL_PARAMETERS,
    STAGES,
    Loop,
    Number,
    Parameter,
    SignalName,
    Stage,
)
from mangaassist_assets.mining.blame.verdicts import VerdictRules, plain_name

PACKAGED_RULES = Path(__file__).with_name("failure_rules.toml")
RULES_SCHEMA = 2
_MAXIMUM_BYTES = 1_000_000
_SCORES = Number(-1e9, 1e9)

Value = float | tuple[str, ...]


class MiningRulesError(ValueError):
    """A rules file that cannot be used; the message names the file, the key and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What signals and evidence have in common: how sure they make us, and the parameters that their kind needs."""

    name: str
    confidence: float
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
class SignalRule(Rule):
    """How one signal counts. Explicit ones make a turn a failure, implicit ones only rank it."""

    explicit: bool
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceRule(Rule):
    """One kind of evidence for or against a stage."""

    stage: Stage


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

    @property
    def content(self) -> dict[str, Any]:
        """The rules as plain JSON values in which equal rules look equal."""
        return {
            "schema": RULES_SCHEMA,
            "turns": {
                "intents_without_retrieval": sorted(self.intents_without_retrieval),
                "ungrounded_reasons": sorted(self.ungrounded_reasons),
                "judge_factor": self.judge_factor,
            },
            "verdicts": {
                "harmless": sorted(self.verdicts.harmless),
                "fails": {name: sorted(words) for name, words in self.verdicts.fails.items()},
                "above": dict(self.verdicts.above),
                "below": dict(self.verdicts.below),
            },
            "signals": {
                rule.name: {"explicit": rule.explicit, "enabled": rule.enabled, **_plain(rule)}
                for rule in self.signals.values()
            },
            "loops": dict(self.loops),
            "evidence": [{"stage": rule.stage, "name": rule.name, **_plain(rule)} for rule in self.evidence],
        }

    @property
    def digest(self) -> str:
        """What tells these rules from others."""
        return hashlib.sha256(canonical_json(self.content)).hexdigest()


def _plain(rule: Rule) -> dict[str, float | list[str]]:
    values = {key: sorted(value) if isinstance(value, tuple) else value for key, value in rule.parameters.items()}
    return {"confidence": rule.confidence, **values}


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
    return _Reader(path.name).rules(content)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns parsed TOML into rules; `where` is the full name of the table at hand."""

    file: str

    def rules(self, content: Mapping[str, Any]) -> MiningRules:
        schema = content.get("schema", RULES_SCHEMA)
        if schema != RULES_SCHEMA or isinstance(schema, bool):
            raise self._wrong("schema", f"is {_short(schema)}; this platform reads {RULES_SCHEMA}")
        self._check_keys(content, "", {"schema", "turns", "verdicts", "signals", "stages"})
        turns = self._table(content, "turns", "turns")
        self._check_keys(turns, "turns", {"intents_without_retrieval", "ungrounded_reasons", "judge_factor"})
        verdicts = self._verdicts(self._table(content, "verdicts", "verdicts"))
        signals = self._signals(self._table(content, "signals", "signals"))
        stages = self._table(content, "stages", "stages")
        self._check_keys(stages, "stages", set(STAGES))
        evidence: list[EvidenceRule] = []
        loops: dict[Stage, Loop] = {}
        for stage in STAGES:
            table = self._table(stages, stage, f"stages.{stage}")
            loops[stage] = self._loop(table, stage)
            evidence += self._evidence(table, stage)
        self._check_used(verdicts, [*signals.values(), *evidence])
        return MiningRules(
            signals=signals,
            evidence=tuple(evidence),
            loops=loops,
            intents_without_retrieval=frozenset(self._names(turns, "intents_without_retrieval", "turns")),
            ungrounded_reasons=frozenset(self._names(turns, "ungrounded_reasons", "turns")),
            judge_factor=self._number(turns, "judge_factor", "turns", SHARE),
            verdicts=verdicts,
            file=self.file,
        )

    def _verdicts(self, table: Mapping[str, Any]) -> VerdictRules:
        self._check_keys(table, "verdicts", {"harmless", "fails", "above", "below"})
        fails, above, below = (self._table(table, key, f"verdicts.{key}") for key in ("fails", "above", "below"))
        for name in sorted(set(map(plain_name, above)) & set(map(plain_name, below))):
            raise self._wrong(f"verdicts.above.{name}", "also stands in verdicts.below: a score fails on one side")
        found: dict[str, frozenset[str]] = {}
        for name in fails:
            words = self._names(fails, name, "verdicts.fails")
            if not words:
                raise self._wrong(f"verdicts.fails.{name}", "is empty: no word would ever fail")
            found[self._verdict_name(name, "verdicts.fails", found)] = frozenset(word.lower() for word in words)
        return VerdictRules(
            fails=found,
            above=self._thresholds(above, "verdicts.above"),
            below=self._thresholds(below, "verdicts.below"),
            harmless=frozenset(word.lower() for word in self._names(table, "harmless", "verdicts")),
        )

    def _thresholds(self, table: Mapping[str, Any], where: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for key in table:
            found[self._verdict_name(key, where, found)] = self._number(table, key, where, _SCORES)
        return found

    def _verdict_name(self, key: str, where: str, known: Mapping[str, object]) -> str:
        plain = plain_name(key)
        if not plain or plain.count("/") > 1:
            raise self._wrong(f"{where}.{_short(key)}", "is no name: write NAME or STAGE/NAME")
        if plain in known:
            raise self._wrong(f"{where}.{key}", f"is given twice: it is {plain!r} like another key")
        return plain

    def _check_used(self, verdicts: VerdictRules, rules: Sequence[SignalRule | EvidenceRule]) -> None:
        """Refuse a verdict that is looked at and means nothing, and a meaning that nothing looks at."""
        looked_at: set[str] = set()
        for rule in rules:
            names = {key: set(rule.names(key)) for key in ("assessments", "verdicts") if key in rule.parameters}
            for name in sorted(names.get("verdicts", set()) - verdicts.names):
                where = f"signals.{rule.name}" if isinstance(rule, SignalRule) else f"stages.{rule.stage}.evidence"
                raise self._wrong(f"{where}.verdicts", f"names {_short(name)}, which [verdicts] gives no meaning")
            looked_at = looked_at.union(*names.values())
        for table in ("fails", "above", "below"):
            for name in sorted(set(getattr(verdicts, table)) - looked_at):
                raise self._wrong(f"verdicts.{table}.{name}", "is used by no signal and no evidence")

    def _signals(self, tables: Mapping[str, Any]) -> dict[SignalName, SignalRule]:
        self._check_keys(tables, "signals", set(SIGNAL_PARAMETERS))
        found: dict[SignalName, SignalRule] = {}
        for name, parameters in SIGNAL_PARAMETERS.items():
            where = f"signals.{name}"
            table = self._table(tables, name, where)
            self._check_keys(table, where, {"explicit", "confidence", *parameters}, optional={"enabled"})
            found[name] = SignalRule(
                name=name,
                explicit=self._boolean(table, "explicit", where),
                enabled=self._boolean(table, "enabled", where) if "enabled" in table else True,
                confidence=self._number(table, "confidence", where, SHARE),
                parameters=self._parameters(table, where, parameters),
            )
        if not any(rule.explicit and rule.enabled for rule in found.values()):
            raise self._wrong("signals", "has no signal that is explicit and enabled: no turn would ever be a failure")
        return found

    def _loop(self, table: Mapping[str, Any], stage: Stage) -> Loop:
        where = f"stages.{stage}"
        # Nothing can speak for or against the stage that stands where no stage has evidence.
        self._check_keys(table, where, {"loop"} if stage == "unknown" else {"loop", "evidence"})
        loop = next((loop for loop in LOOPS if loop == table["loop"]), None)
        if loop is None:
            raise self._wrong(f"{where}.loop", f"is {_short(table['loop'])}; the loops are {', '.join(LOOPS)}")
        return loop

    def _evidence(self, table: Mapping[str, Any], stage: Stage) -> list[EvidenceRule]:
        if stage not in JUDGED_STAGES:
            return []
        where = f"stages.{stage}.evidence"
        entries = table["evidence"]
        if not isinstance(entries, list):
            raise self._wrong(where, f"is not a list of tables: write [[{where}]]")
        rules: list[EvidenceRule] = []
        for number, entry in enumerate(entries, 1):
            rule = self._evidence_rule(entry, stage, f"{where}[{number}]")
            if any((one.name, one.parameters) == (rule.name, rule.parameters) for one in rules):
                again = f"says {rule.name!r} a second time with the same parameters"
                raise self._wrong(f"{where}[{number}]", again)
            rules.append(rule)
        if not any(EVIDENCE_KINDS[rule.name].verdict == "against" for rule in rules):
            raise self._wrong(where, "has nothing that speaks against the stage: it could never be blamed")
        return rules

    def _evidence_rule(self, entry: object, stage: Stage, where: str) -> EvidenceRule:
        if not isinstance(entry, dict):
            raise self._wrong(where, "is not a table")
        name = entry.get("name")
        if not isinstance(name, str) or name not in EVIDENCE_KINDS:
            raise self._wrong(f"{where}.name", f"is {_short(name)}; there are {', '.join(sorted(EVIDENCE_KINDS))}")
        wanted = EVIDENCE_KINDS[name].parameters
        self._check_keys(entry, where, {"name", "confidence", *wanted})
        return EvidenceRule(
            stage=stage,
            name=name,
            confidence=self._number(entry, "confidence", where, SHARE),
            parameters=self._parameters(entry, where, wanted),
        )

    def _parameters(self, table: Mapping[str, Any], where: str, wanted: Mapping[str, Parameter]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for key, kind in wanted.items():
            if isinstance(kind, Number):
                found[key] = self._number(table, key, where, kind)
                continue
            names = self._names(table, key, where)
            found[key] = tuple(dict.fromkeys(map(plain_name, names))) if kind.of_verdicts else names
        return found

    def _check_keys(
        self, table: Mapping[str, Any], where: str, wanted: set[str], *, optional: AbstractSet[str] = frozenset()
    ) -> None:
        """Refuse keys that nobody reads and those that are missing."""
        prefix = f"{where}." if where else ""
        for key in sorted(set(table) - wanted - optional):
            raise self._wrong(f"{prefix}{key[:60]}", f"is unknown; there are {', '.join(sorted(wanted | optional))}")
        for key in sorted(wanted - set(table)):
            raise self._wrong(f"{prefix}{key}", "is missing: a rules file is complete, copy the packaged one")

    def _table(self, table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
        value = table[key]
        if not isinstance(value, dict):
            raise self._wrong(where, f"is {_short(value)}, not a table")
        return value

    def _number(self, table: Mapping[str, Any], key: str, where: str, kind: Number) -> float:
        value = table[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not kind.low <= value <= kind.high:
            raise self._wrong(f"{where}.{key}", f"is {_short(value)}, not a number from {kind.low:g} to {kind.high:g}")
        return float(value)

    def _boolean(self, table: Mapping[str, Any], key: str, where: str) -> bool:
        value = table[key]
        if not isinstance(value, bool):
            raise self._wrong(f"{where}.{key}", f"is {_short(value)}, neither true nor false")
        return value

    def _names(self, table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = table[key]
        if not isinstance(value, list) or not all(isinstance(name, str) and name.strip() for name in value):
            raise self._wrong(f"{where}.{key}", f"is {_short(value)}, not a list of names")
        return tuple(dict.fromkeys(name.strip() for name in value))

    def _wrong(self, key: str, why: str) -> MiningRulesError:
        return MiningRulesError(f"mining rules {self.file}: {key} {why}")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
