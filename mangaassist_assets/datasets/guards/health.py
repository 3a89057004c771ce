"""Whether a dataset is fit to train on and to judge with: its figures, and what to do about a shortfall.

What is allowed is `limits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.limits import DatasetLimits
from mangaassist_assets.datasets.guards.near_duplicates import Fingerprints, NearDuplicateIndex
from mangaassist_assets.datasets.schema import SPLITS, labels_of_people

if TYPE_CHECKING:
    from mangaassist_assets.labelling.noise.label_noise import GiverNoise, NoiseReport

Row = dict[str, str | int | float | bool | None]

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthResult:
    """Whether one aspect of a dataset is fit, in one sentence, with the rows of its table."""

    passed: bool
    description: str
    rows: tuple[Row, ...] = ()


def judge_size(frame: pl.DataFrame, limits: DatasetLimits, *, cross_fitted: bool = False) -> HealthResult:
    """Say whether each side has enough examples. `frame` has example_id and split; an example may have many rows.

    With `cross_fitted` the labels of people test, whatever side they are on (`folds`), and `frame` has label_kind.
    """
    counts = Counter(dict(_examples(frame)["split"].value_counts().iter_rows()))
    names: dict[str, str] = {side: side for side in SPLITS}
    if cross_fitted:
        names["test"] = "tests by folds"
        counts["test"] = len(labels_of_people(_examples(frame)))
    rows: list[Row] = [
        {"side": names[side], "examples": counts[side], "needed": limits.of_side(side)} for side in SPLITS
    ]
    short = [side for side in SPLITS if counts[side] < limits.of_side(side)]
    description = ", ".join(f"{counts[side]} in {names[side]}" for side in SPLITS)
    if short:
        missing = ", ".join(f"{counts[side]} of {limits.of_side(side)} in {names[side]}" for side in short)
        advice = "review more traces of this bundle, or bootstrap with a larger training file"
        description = f"too few examples: {missing}; {advice}"
    return HealthResult(passed=not short, description=description, rows=tuple(rows))


def judge_balance(frame: pl.DataFrame, limits: DatasetLimits, *, label_column: str = "intent") -> HealthResult:
    """Say whether train is about many things. `frame` has example_id, split and the label."""
    counted = _examples(frame).group_by(label_column, "split").len()
    by_label: dict[str, Counter[str]] = {}
    for label, split, count in counted.iter_rows():
        by_label.setdefault(label, Counter())[split] = count
    train = sorted((counts["train"], label) for label, counts in by_label.items())
    rows: tuple[Row, ...] = tuple(
        {label_column: label, **{side: by_label[label][side] for side in SPLITS}} for _, label in train
    )
    labels = f"{label_column}s"
    in_train = [(count, label) for count, label in train if count]
    if len(in_train) < limits.intents:
        description = f"{len(in_train)} {labels} in train, {limits.intents} are needed: review traces of other {labels}"
        return HealthResult(passed=False, description=description, rows=rows)
    largest, name = in_train[-1]
    share = largest / sum(count for count, _ in in_train)
    allowed = min(0.95, max(limits.largest_share, 2 / len(in_train)))
    small = [label for count, label in train if count < limits.smallest]
    problems: list[str] = []
    if share > allowed:
        problems.append(
            f"{name!r} is {share:.0%} of train, {allowed:.0%} are allowed: review traces of other {labels}, or look "
            "whether somebody floods the chat with it"
        )
    if len(small) > limits.unlearnable_share * len(train):
        problems.append(
            f"{len(small)} of {len(train)} {labels} have fewer than {limits.smallest} examples in train "
            f"({', '.join(small[:_SHOWN])}): review more of them, or merge {labels} that mean the same"
        )
    said = f"{len(train)} {labels}, the largest {name!r} with {share:.0%} of train, the smallest with {train[0][0]}"
    return HealthResult(passed=not problems, description="; ".join(problems) or said, rows=rows)


def judge_repetition(frame: pl.DataFrame, limits: DatasetLimits, *, text_column: str = "text") -> HealthResult:
    """Say whether the sides repeat themselves. No builder lets exact copies through."""
    examples = _examples(frame)
    rows: list[Row] = []
    problems: list[str] = []
    for side in SPLITS:
        texts = examples.filter(pl.col("split") == side).sort("example_id")[text_column].to_list()
        keys = [normalise_text(text) for text in texts]
        copies = len(keys) - len(set(keys))
        share = _repeating(keys) / len(keys) if keys else 0.0
        rows.append({"side": side, "examples": len(keys), "copies": copies, "repeated_share": round(share, 4)})
        if copies:
            problems.append(f"{copies} exact copies in {side}: materialize the dataset again, or report it")
        if share > limits.repeated_share:
            problems.append(
                f"{share:.0%} of {side} nearly repeats another message, {limits.repeated_share:.0%} are allowed: lower "
                "Caps.per_near_duplicate, or look who writes one template over and over"
            )
    summary = "; ".join(f"{row['repeated_share']:.0%} of {row['side']} nearly repeats another message" for row in rows)
    return HealthResult(passed=not problems, description="; ".join(problems) or summary, rows=tuple(rows))


def judge_noise(report: NoiseReport, limits: DatasetLimits) -> HealthResult:
    """Say whether too many labels are probably wrong; only an interval above the limit is reason enough to say so."""
    rows: tuple[Row, ...] = tuple(
        {"example_id": one.example_id, "label": one.given, "likelier": one.likely, "probability": one.probability}
        for one in report.suspects[:50]
    )
    if report.estimated_rate is None or report.low is None or report.high is None:
        return HealthResult(passed=True, description=f"no estimate: {report.why}", rows=rows)
    summary = (
        f"about {report.estimated_rate:.1%} of {report.examples} labels are wrong "
        f"(95 % interval {report.low:.1%} to {report.high:.1%}, {limits.noise:.0%} are allowed)"
    )
    summary += "".join(f"; {_of_giver(name, one)}" for name, one in list(report.by_giver.items())[:_SHOWN])
    passed = report.low <= limits.noise
    if not passed:
        summary += ": look at the suspects, correct their reviews, and materialize intent_labels again"
    return HealthResult(passed=passed, description=summary, rows=rows)


def givers_of(frame: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return who gave each row's label: a person, or nobody. `frame` has label_kind and labeller, as far as known."""
    if "labeller" not in frame.columns:
        return [()] * len(frame)
    return [
        (labeller,) if kind == "human" and labeller is not None else ()
        for kind, labeller in frame.select("label_kind", "labeller").iter_rows()
    ]


def _of_giver(name: str, giver: GiverNoise) -> str:
    if giver.noise is None:
        return f"{name}: {giver.labels} labels, none of which can be judged"
    return (
        f"{name}: {giver.labels} labels, {giver.suspects} suspects, about {giver.noise.rate:.1%} of "
        f"{giver.noise.labels} wrong ({giver.noise.low:.1%} to {giver.noise.high:.1%})"
    )


def _examples(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.unique(subset="example_id", keep="first", maintain_order=True)


def _repeating(keys: Sequence[str]) -> int:
    """Count messages that nearly repeat one before them which repeats none itself."""
    index = NearDuplicateIndex()
    repeating = 0
    for key, fingerprint in zip(keys, Fingerprints().of(keys), strict=True):
        if index.has_near(fingerprint):
            repeating += 1
        else:
            index.add(key, fingerprint)
    return repeating
