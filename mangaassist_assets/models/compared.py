"""What champion and challenger are compared on, and what both said to it.

The tests of a model type with folds are the labels that people gave traffic. To each the challenger's answer is that of
a model which followed its recipe and has not seen it; the champion answers itself, and what it has learned is left out.
So every label is a test, and no model is tested on what it knows. A verdict on them is about the recipe on this data.

The tests of any other type are on the test side of its dataset, which neither model has learned from: those that the
audit sample drew, or all of it where none was drawn.

Beside the tests there are examples that stay the same from verdict to verdict: the golden set, and the corpus's test
side. The registered models themselves answer those: a guard against regression, no sample of traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.schema import DECLARED_SAMPLE, labels_of_people
from mangaassist_assets.evaluation.results import FixedSet, ModelResults, TrafficSample
from mangaassist_assets.models.learned import ChampionDatasetGoneError, Learned, learned_by
from mangaassist_assets.models.registration.cross_fit import CROSS_FIT_FILE, CrossFit

if TYPE_CHECKING:
    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
    from mangaassist_assets.models.model_types import ModelType
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion

CORPUS = "corpus"
GOLDEN_SET = "golden set"

_CERTIFIES = (
    "The verdict certifies the recipe on this data, estimated out of fold: the registered version is the same recipe "
    "on all labels."
)
_SAMPLE_COLUMNS = frozenset({"origin", "inclusion_probability", "bundle_turns"})


class UntestedChallengerError(LookupError):
    """Nobody asked models of folds when a challenger was trained; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A registered version that is loaded."""

    version: str
    model: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Champion and challenger on the same examples.

    Attributes:
        examples: What both were asked.
        champion: The champion's results on them.
        challenger: The challenger's, or those of models that followed its recipe.
        shoppers: Who wrote each example, an empty name where nobody knows.
        sample: How they stand for the traffic, None where they do not.
        fixed: Both models on fixed sets, by name.
        reported: Examples that neither registered model has learned, for reports on each.
        about: What the tests are, and what a verdict on them certifies.
        left_out: How many labels of people are no tests here, by reason.
    """

    examples: Sequence[Any]
    champion: ModelResults
    challenger: ModelResults
    shoppers: tuple[str, ...]
    sample: TrafficSample | None
    fixed: Mapping[str, FixedSet]
    reported: Sequence[Any]
    about: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def compare_on_test_side(
    model_type: ModelType[Any],
    frame: pl.DataFrame,
    champion: Contender,
    challenger: Contender,
    golden: Sequence[GoldenMessage] = (),
) -> Compared:
    """Let both answer the test side of a dataset; where a part of it is a sample of the traffic, that part."""
    drawn, sample = _drawn_tests(frame)
    others: dict[str, Sequence[Any]] = {}
    if sample is None:
        test = model_type.examples(frame, "test")
        about = "Both models answered every example of the dataset's test side, which neither was trained on."
    else:
        place = {example_id: number for number, example_id in enumerate(drawn)}
        is_drawn = pl.col("example_id").is_in(drawn)
        test = model_type.examples(frame.filter(is_drawn), "test")
        order = [place[getattr(one, "example_id", drawn[number])] for number, one in enumerate(test)]
        sample = replace(sample, inclusion_probabilities=sample.inclusion_probabilities[order])
        others[CORPUS] = model_type.examples(frame.filter(~is_drawn, pl.col("label_kind") == "base"), "test")
        about = (
            f"Both models answered the {len(test)} examples of the dataset's test side that are a random sample of the "
            "traffic; neither was trained on them."
        )
    return Compared(
        examples=test,
        champion=model_type.evaluate(champion.model, test, version=champion.version),
        challenger=model_type.evaluate(challenger.model, test, version=challenger.version),
        shoppers=_shoppers(frame, test),
        sample=sample,
        fixed=_fixed(model_type, champion, challenger, {**others, GOLDEN_SET: model_type.golden_examples(golden)}),
        reported=test,
        about=about,
    )


def _drawn_tests(frame: pl.DataFrame) -> tuple[list[str], TrafficSample | None]:
    """Return the ids of the tests that were drawn from the traffic, and how they stand for it; None where none was.

    A corpus that was declared to be a sample stands beside the audit samples, each row for as many turns.
    """
    if not set(frame.columns) >= _SAMPLE_COLUMNS:
        return [], None
    tests = frame.filter(pl.col("split") == "test").unique("example_id").sort("example_id")
    declared = pl.col("origin") == DECLARED_SAMPLE
    drawn = tests.filter(declared | pl.col("inclusion_probability").is_not_null())
    if drawn.is_empty():
        return [], None
    turns = max(_turns(drawn), len(drawn))
    count = len(drawn.filter(declared))
    probabilities = drawn.select(
        pl.when(declared).then(count / turns).otherwise(pl.col("inclusion_probability"))
    ).to_series()
    return drawn["example_id"].to_list(), TrafficSample(inclusion_probabilities=probabilities.to_numpy(), turns=turns)


def compare_by_folds(
    snapshots: SnapshotStore,
    pipeline: ModelPipeline,
    model_type: ModelType[Any],
    frame: pl.DataFrame,
    champion: Contender,
    challenger: Contender,
    *,
    champion_version: ModelVersion,
    bundle: str,
    golden: Sequence[GoldenMessage] = (),
) -> Compared:
    """Compare both on the labels that people gave traffic.

    Raises:
        UntestedChallengerError: the challenger has no answers of its folds' models.
    """
    text_column = pipeline.dataset.text_columns[0]
    learned, gone = _learned(snapshots, pipeline, champion_version)
    answers = _answers(snapshots, pipeline, bundle)
    labels = labels_of_people(frame).sort("example_id")
    if answers is None and len(labels):
        raise UntestedChallengerError(
            f"{pipeline.model_asset} of {bundle} has no answers of models that have not seen its labels: materialize "
            "it again, which trains those and nothing else"
        )
    asked = answers or CrossFit.of([])
    tested = asked.tested
    reasons = [
        repeated if row in tested else "no fold was asked: the dataset changed after the training"
        for row, repeated in zip(labels["example_id"], _repeated(learned, labels[text_column].to_list()), strict=True)
    ]
    tests = labels.filter(pl.Series([reason is None for reason in reasons], dtype=pl.Boolean))
    examples = model_type.examples(tests.with_columns(pl.lit("test").alias("split")), "test")
    corpus = frame.filter(pl.col("split") == "test", pl.col("label_kind") == "base")
    corpus = corpus.filter(_unlearned(learned, corpus[text_column].to_list()))
    unknown = _unlearned(learned, [message.text for message in golden])
    held_out = {
        CORPUS: model_type.examples(corpus, "test"),
        GOLDEN_SET: model_type.golden_examples(
            [message for message, keeps in zip(golden, unknown, strict=True) if keeps]
        ),
    }
    left_out = {reason: reasons.count(reason) for reason in sorted({one for one in reasons if one is not None})}
    out_of_fold = asked.results([one.example_id for one in examples], version=challenger.version)
    whole = model_type.evaluate(challenger.model, held_out[CORPUS], version=challenger.version)
    return Compared(
        examples=examples,
        champion=model_type.evaluate(champion.model, examples, version=champion.version),
        challenger=replace(out_of_fold, size_bytes=whole.size_bytes),
        shoppers=_shoppers(tests, examples),
        sample=sample_of(tests),
        fixed=_fixed(model_type, champion, challenger, held_out),
        reported=held_out[CORPUS],
        about=_about(model_type.folds, len(examples), left_out, gone),
        left_out=left_out,
    )


def sample_of(rows: pl.DataFrame) -> TrafficSample | None:
    """Return how labels of people, a row each, stand for the traffic; None where none of them is of an audit sample."""
    if not set(rows.columns) >= _SAMPLE_COLUMNS:
        return None
    drawn = rows.select(pl.when(pl.col("origin") == "audit").then(pl.col("inclusion_probability"))).to_series()
    if drawn.null_count() == len(drawn):
        return None
    return TrafficSample(
        inclusion_probabilities=drawn.cast(pl.Float64).fill_null(np.nan).to_numpy(), turns=max(_turns(rows), len(rows))
    )


def _turns(rows: pl.DataFrame) -> int:
    """Return how many turns the bundles of these rows have in all."""
    turns = rows.drop_nulls("bundle_turns").group_by("release_bundle").agg(pl.col("bundle_turns").max())
    return int(turns["bundle_turns"].sum())


def _about(folds: int, tests: int, left_out: Mapping[str, int], gone: str) -> str:
    answered = (
        f"The tests are {tests} labels that people gave traffic. The challenger's answer to each is that of a model "
        "which followed its recipe and has seen neither the message nor its near-duplicates nor its shopper "
        f"({folds} folds); the champion answered itself."
    )
    others = f"{sum(left_out.values())} further labels are no tests here." if left_out else ""
    return " ".join(filter(None, (answered, gone, others, _CERTIFIES)))


def _learned(snapshots: SnapshotStore, pipeline: ModelPipeline, champion: ModelVersion) -> tuple[Learned | None, str]:
    """Return what the champion has learned; where that is not known, None and what it means."""
    try:
        return learned_by(snapshots, pipeline, champion), ""
    except ChampionDatasetGoneError as error:
        return None, (
            f"What the champion has learned is not known, so it may have seen tests, which favours it: {error}."
        )


def _repeated(learned: Learned | None, texts: Sequence[str]) -> list[str | None]:
    return [None] * len(texts) if learned is None else learned.repeated(texts)


def _unlearned(learned: Learned | None, texts: Sequence[str]) -> pl.Series:
    return pl.Series([reason is None for reason in _repeated(learned, texts)], dtype=pl.Boolean)


def _answers(snapshots: SnapshotStore, pipeline: ModelPipeline, bundle: str) -> CrossFit | None:
    stored = snapshots.latest(pipeline.model_asset, partition=bundle)
    return CrossFit.from_parquet(snapshots.read(stored, CROSS_FIT_FILE)) if CROSS_FIT_FILE in stored.files else None


def _shoppers(frame: pl.DataFrame, examples: Sequence[Any]) -> tuple[str, ...]:
    if not {"user_key", "session_id"} <= set(frame.columns):
        return ()
    rows = frame.unique("example_id").select("example_id", pl.coalesce("user_key", "session_id", pl.lit("")))
    named = dict(rows.iter_rows())
    return tuple(named.get(getattr(one, "example_id", None), "") for one in examples)


def _fixed(
    model_type: ModelType[Any],
    champion: Contender,
    challenger: Contender,
    sets: Mapping[str, Sequence[Any]],
) -> dict[str, FixedSet]:
    return {
        name: FixedSet(
            champion=model_type.evaluate(champion.model, examples, version=champion.version).outcomes,
            challenger=model_type.evaluate(challenger.model, examples, version=challenger.version).outcomes,
        )
        for name, examples in sets.items()
        if examples
    }
