"""How completely traces hold what the contract asks for: the share of traces with each tag and each span.

A share counts only traces of which the tag or span can be expected: a turn that was blocked before generation has no
model call to trace, and nothing is reranked where retrieval found nothing. A falling share means that an application
or a tool stopped writing something, long before a model misses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.tracing.contract.names import SpanName, Tag
from mangaassist_assets.tracing.contract.records import TraceState

Kind = Literal["tag", "span"]
Severity = Literal["warn", "error"]
_MOST_PROBLEMS = 200
_PROBLEMS_SHOWN = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePresence:
    """What one trace has.

    `candidates` is how many chunks retrieval found, None where the trace does not say. `problems` are what was odd,
    each beginning with the fact's name and a colon.
    """

    trace_id: str
    tags: frozenset[str]
    spans: frozenset[str]
    state: TraceState
    candidates: int | None = None
    blocked: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many traces have a tag or span.

    `present` counts among all `traces`, `met` among those of which it is `expected`; `example` is an id of an expected
    one without it.
    """

    kind: Kind
    name: str
    traces: int
    present: int
    expected: int
    met: int
    example: str | None = None

    @property
    def value(self) -> float | None:
        """The share among the traces of which it is expected, or None where those are none."""
        return self.met / self.expected if self.expected else None

    @property
    def overall(self) -> float | None:
        """The share among all finished traces, or None where there are none."""
        return self.present / self.traces if self.traces else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A part that cannot be read: what is wrong, in how many traces, and the id of one of them."""

    what: str
    traces: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The shares over some traces; those in progress are counted apart and expected to have nothing yet.

    `problems` are the parts that were there and could not be read, the most frequent first.
    """

    traces: int
    in_progress: int
    shares: tuple[Share, ...]
    problems: tuple[Problem, ...] = ()

    def share(self, kind: Kind, name: str) -> Share:
        """Return the share of one tag or span.

        Raises:
            KeyError: It is none of the contract.
        """
        for one in self.shares:
            if (one.kind, one.name) == (kind, name):
                return one
        raise KeyError(f"{kind} {name} is not in the trace contract")

    def figures(self) -> Figures:
        """Return the number of traces, one row a tag or span, and the most frequent problems."""
        return {
            "traces": self.traces,
            "coverage": [
                {
                    "kind": one.kind,
                    "name": one.name,
                    "traces": one.traces,
                    "present": one.present,
                    "expected": one.expected,
                    "share of expected": one.value,
                }
                for one in self.shares
            ],
            "cannot_be_read": [asdict(one) for one in self.problems[:_PROBLEMS_SHOWN]],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The least share that is right, and the least that is not yet an error; `error_below` None never is one."""

    kind: Kind
    name: str
    warn_below: float
    error_below: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.warn_below <= 1 or not 0 <= (self.error_below or 0) <= self.warn_below:
            raise ValueError(
                f"threshold of {self.kind} {self.name}: needs 0 <= error_below <= warn_below <= 1, "
                f"not {self.error_below} and {self.warn_below}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """A share below its threshold."""

    share: Share
    severity: Severity
    threshold: float

    def describe(self) -> str:
        """Return the shortfall in one line."""
        one = self.share
        return (
            f"{one.kind} {one.name}: {one.met} of {one.expected} traces ({(one.value or 0.0):.1%}), at least "
            f"{self.threshold:.1%} expected; missing for example in {one.example}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageJudgement:
    """What thresholds say of a coverage. Too few traces are no evidence: then there are no shortfalls."""

    traces: int
    enough: bool
    shortfalls: tuple[Shortfall, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """The worst severity, or None where all is well."""
        found = {one.severity for one in self.shortfalls}
        return "error" if "error" in found else "warn" if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageThresholds:
    """The thresholds of all that is watched; `minimum_traces` finished traces are needed to judge."""

    minimum_traces: int = 20
    thresholds: Sequence[Threshold] = field(default_factory=lambda: DEFAULT_THRESHOLDS)


# Of which traces a tag or span can be expected; see `_conditions`.
_EXPECTED: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "tag": {
        "always": (Tag.SESSION_ID, Tag.RELEASE_BUNDLE),
        "not_blocked": (Tag.INTENT, Tag.INTENT_MODEL_VERSION, Tag.PROMPT_VERSION, Tag.BEDROCK_MODEL_ID),
        "found_chunks": (Tag.RERANKER_VERSION,),
        "went_well": (Tag.GUARDRAIL_RULESET_VERSION, Tag.ROUTING_POLICY_VERSION),
        "retrieved": (Tag.INDEX_GENERATION, Tag.EMBEDDING_MODEL_ID),
        # Most turns have no experiment, no tenant, no cache and no thumb.
        "never": (Tag.EXPERIMENT_ID, Tag.TENANT, Tag.CACHE_HIT, Tag.USER_FEEDBACK),
    },
    "span": {
        "always": (SpanName.CHAT_TURN,),
        "not_blocked": (
            *(SpanName.INTENT_CLASSIFICATION, SpanName.RETRIEVE_CHUNKS, SpanName.BUILD_PROMPT),
            SpanName.BEDROCK_GENERATE,
        ),
        "retrieved": (SpanName.EMBED_QUERY, SpanName.VECTOR_SEARCH, SpanName.KEYWORD_SEARCH),
        "found_chunks": (SpanName.RERANK_CHUNKS,),
        "went_well": (SpanName.GUARDRAILS,),
        # Only agents call tools.
        "never": (SpanName.TOOL_CALL,),
    },
}
# Not every retrieval embeds, or searches in both ways.
_UNWATCHED = frozenset({SpanName.EMBED_QUERY, SpanName.VECTOR_SEARCH, SpanName.KEYWORD_SEARCH})
DEFAULT_THRESHOLDS: tuple[Threshold, ...] = tuple(
    # Without what is always expected no trace can be read: a single one is worth a word, one in ten means a broken
    # writer. Other tools' traces know nothing of the rest, so a mixture of tools is no error.
    Threshold(kind=kind, name=name, warn_below=1.0, error_below=0.9)
    if condition == "always"
    else Threshold(kind=kind, name=name, warn_below=0.95)
    for kind, names_of in _EXPECTED.items()
    for condition, names in names_of.items()
    for name in names
    if condition != "never" and name not in _UNWATCHED
)


def _conditions(trace: TracePresence) -> Mapping[str, bool]:
    # An error ends a turn anywhere, so nothing after its beginning can be expected of it.
    went_well = trace.state == "OK"
    # A turn without retrieval (a greeting, a blocked question) has neither index nor chunks.
    retrieved = went_well and SpanName.RETRIEVE_CHUNKS in trace.spans
    return {
        "always": True,
        "went_well": went_well,
        "not_blocked": went_well and not trace.blocked,
        "retrieved": retrieved,
        "found_chunks": retrieved and (trace.candidates or 0) > 0,
        "never": False,
    }


def coverage(rows: Iterable[TracePresence]) -> Coverage:
    """Return the shares over traces, each trace given once; the rows are read once and not kept."""
    present: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    met: Counter[str] = Counter()
    lacking: dict[str, str] = {}
    odd: Counter[str] = Counter()
    examples: dict[str, str] = {}
    traces = in_progress = 0
    names = [(kind, name, why) for kind, table in _EXPECTED.items() for why, found in table.items() for name in found]
    for row in rows:
        if row.state == "IN_PROGRESS":
            in_progress += 1
            continue
        traces += 1
        for what in dict.fromkeys(row.problems):
            # What is odd comes from outside: of a thousand kinds the first are counted.
            if what in odd or len(odd) < _MOST_PROBLEMS:
                odd[what] += 1
                examples.setdefault(what, row.trace_id)
        conditions = _conditions(row)
        for kind, name, why in names:
            there = name in (row.tags if kind == "tag" else row.spans)
            present[name] += there
            expected[name] += conditions[why]
            met[name] += there and conditions[why]
            if conditions[why] and not there:
                lacking.setdefault(name, row.trace_id)
    return Coverage(
        traces=traces,
        in_progress=in_progress,
        shares=tuple(
            Share(
                kind=kind,
                name=str(name),
                traces=traces,
                present=present[name],
                expected=expected[name],
                met=met[name],
                example=lacking.get(name),
            )
            for kind, name, _ in names
        ),
        problems=tuple(Problem(what=what, traces=count, example=examples[what]) for what, count in odd.most_common()),
    )


def judge(found: Coverage, thresholds: CoverageThresholds | None = None) -> CoverageJudgement:
    """Return which shares are too low, errors first.

    Raises:
        KeyError: A threshold names what is not in the contract.
    """
    rules = thresholds or CoverageThresholds()
    if found.traces < rules.minimum_traces:
        return CoverageJudgement(traces=found.traces, enough=False)
    shortfalls: list[Shortfall] = []
    for rule in rules.thresholds:
        share = found.share(rule.kind, rule.name)
        if share.value is None or share.value >= rule.warn_below:
            continue
        failed = rule.error_below is not None and share.value < rule.error_below
        severity: Severity = "error" if failed else "warn"
        shortfalls.append(Shortfall(share=share, severity=severity, threshold=rule.warn_below))
    shortfalls.sort(key=lambda one: (one.severity != "error", one.share.value, one.share.kind, one.share.name))
    return CoverageJudgement(traces=found.traces, enough=True, shortfalls=tuple(shortfalls))
