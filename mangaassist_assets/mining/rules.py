"""The rules of failure mining as data: which signals count, what speaks for or against a stage, where a blame goes.

The packaged file `failure_rules.toml` is complete; a file of one's own takes its place as a whole, so that whoever
reads it sees every rule that was in force. Nothing has a default, and an unknown name is an error: a misspelled
threshold must not be silently ignored.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

from mangaassist_assets.mining.rule_names import (
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
from mangaassist_assets.storage import canonical_json

PACKAGED_RULES = Path(__file__).with_name("failure_rules.toml")
RULES_SCHEMA = 1
_MAXIMUM_BYTES = 1_000_000
_SHARE = Number(0.0, 1.0)

Value = float | tuple[str, ...]


class MiningRulesError(ValueError):
    """A rules file that cannot be used; the message names the file, the key and what is wrong."""


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
    return _Reader(path.name).rules(content)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns parsed TOML into rules; `file` is what messages call it."""

    file: str

    def rules(self, content: Mapping[str, Any]) -> MiningRules:
        self._keys(content, "", {"schema", "turns", "signals", "stages"})
        if content["schema"] != RULES_SCHEMA or isinstance(content["schema"], bool):
            raise self._wrong("schema", f"is {content['schema']!r}; this platform reads {RULES_SCHEMA}")
        turns = self._table(content, "turns", "turns")
        self._keys(turns, "turns", {"intents_without_retrieval", "ungrounded_reasons", "judge_factor"})
        signals = self._signals(self._table(content, "signals", "signals"))
        stages = self._table(content, "stages", "stages")
        self._keys(stages, "stages", set(STAGES))
        evidence: list[EvidenceRule] = []
        loops: dict[Stage, Loop] = {}
        for stage in STAGES:
            table = self._table(stages, stage, f"stages.{stage}")
            loops[stage] = self._loop(table, stage)
            evidence += self._evidence(table, stage)
        without_retrieval = self._names(turns, "intents_without_retrieval", "turns")
        ungrounded = self._names(turns, "ungrounded_reasons", "turns")
        judge_factor = self._number(turns, "judge_factor", "turns", _SHARE)
        canonical = _canonical(signals, evidence, loops, without_retrieval, ungrounded, judge_factor)
        return MiningRules(
            signals=signals,
            evidence=tuple(evidence),
            loops=loops,
            intents_without_retrieval=frozenset(without_retrieval),
            ungrounded_reasons=frozenset(ungrounded),
            judge_factor=judge_factor,
            file=self.file,
            digest=hashlib.sha256(canonical_json(canonical)).hexdigest(),
            content=canonical,
        )

    def _signals(self, tables: Mapping[str, Any]) -> dict[SignalName, SignalRule]:
        self._keys(tables, "signals", set(SIGNAL_PARAMETERS))
        found: dict[SignalName, SignalRule] = {}
        for name, parameters in SIGNAL_PARAMETERS.items():
            where = f"signals.{name}"
            table = self._table(tables, name, where)
            self._keys(table, where, {"explicit", "confidence", *parameters}, optional={"enabled"})
            found[name] = SignalRule(
                name=name,
                explicit=self._boolean(table, "explicit", where),
                enabled=self._boolean(table, "enabled", where) if "enabled" in table else True,
                confidence=self._number(table, "confidence", where, _SHARE),
                parameters=self._parameters(table, where, parameters),
            )
        if not any(rule.explicit and rule.enabled for rule in found.values()):
            raise self._wrong("signals", "has no signal that is explicit and enabled: no turn would ever be a failure")
        return found

    def _loop(self, table: Mapping[str, Any], stage: Stage) -> Loop:
        where = f"stages.{stage}"
        # Nothing can speak for or against the stage that stands where no stage has evidence.
        self._keys(table, where, {"loop"} if stage == "unknown" else {"loop", "evidence"})
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
        rules = [self._evidence_rule(entry, stage, f"{where}[{number}]") for number, entry in enumerate(entries, 1)]
        if not any(EVIDENCE_KINDS[rule.name].verdict == "against" for rule in rules):
            raise self._wrong(where, "has nothing that speaks against the stage: it could never be blamed")
        for number, rule in enumerate(rules, start=1):
            if any((one.name, one.parameters) == (rule.name, rule.parameters) for one in rules[: number - 1]):
                raise self._wrong(f"{where}[{number}]", f"says {rule.name!r} a second time with the same parameters")
        return rules

    def _evidence_rule(self, entry: object, stage: Stage, where: str) -> EvidenceRule:
        if not isinstance(entry, dict):
            raise self._wrong(where, "is not a table")
        name = entry.get("name")
        if not isinstance(name, str) or name not in EVIDENCE_KINDS:
            raise self._wrong(f"{where}.name", f"is {_short(name)}; there are {', '.join(sorted(EVIDENCE_KINDS))}")
        kind = EVIDENCE_KINDS[name]
        self._keys(entry, where, {"name", "confidence", *kind.parameters})
        return EvidenceRule(
            stage=stage,
            name=name,
            confidence=self._number(entry, "confidence", where, _SHARE),
            parameters=self._parameters(entry, where, kind.parameters),
        )

    def _parameters(self, table: Mapping[str, Any], where: str, wanted: Mapping[str, Parameter]) -> dict[str, Value]:
        return {
            key: self._number(table, key, where, kind) if isinstance(kind, Number) else self._names(table, key, where)
            for key, kind in wanted.items()
        }

    def _keys(
        self,
        table: Mapping[str, Any],
        where: str,
        wanted: set[str],
        *,
        optional: frozenset[str] | set[str] = frozenset(),
    ) -> None:
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
        if not _is_number(value) or not kind.low <= value <= kind.high:
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


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def _canonical(
    signals: Mapping[SignalName, SignalRule],
    evidence: list[EvidenceRule],
    loops: Mapping[Stage, Loop],
    without_retrieval: tuple[str, ...],
    ungrounded: tuple[str, ...],
    judge_factor: float,
) -> dict[str, Any]:
    """Return the rules as plain JSON values in which equal rules look equal."""
    return {
        "schema": RULES_SCHEMA,
        "turns": {
            "intents_without_retrieval": sorted(without_retrieval),
            "ungrounded_reasons": sorted(ungrounded),
            "judge_factor": judge_factor,
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
