"""What models of folds answered: as a table beside the challenger, and as one model's results for the gate."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from mangaassist_assets.evaluation.results import ModelResults, ScopeResults
from mangaassist_assets.models.registration.registry import ModelStore, ModelVersion

CROSS_FIT_FILE = "cross_fit.parquet"
"""With the training run, and in the snapshot of the challenger."""

_FIGURE = "figure "
_SCHEMA = {
    "example_id": pl.String(),
    "fold": pl.Int64(),
    "outcome": pl.Float64(),
    "confidence": pl.Float64(),
    "accepted": pl.Boolean(),
    "refused": pl.Boolean(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """Answers of models that have not seen the question, a row an example.

    `outcome` and `confidence` are those of `ModelResults`, other figures have columns of their own; `accepted` says of
    an example in scope whether it was taken for one, `refused` of one out of scope whether it was refused.
    """

    frame: pl.DataFrame = field(repr=False)

    @classmethod
    def of(cls, answers: Iterable[tuple[int, Sequence[str], ModelResults]]) -> CrossFit:
        """Join the answers of folds: the fold's number, the examples, and the results."""
        parts = [_rows(fold, example_ids, results) for fold, example_ids, results in answers]
        return cls(frame=pl.concat([pl.DataFrame(schema=_SCHEMA), *parts], how="diagonal").sort("example_id"))

    @classmethod
    def from_parquet(cls, content: bytes) -> CrossFit:
        """Return what `to_parquet` wrote."""
        return cls(frame=pl.read_parquet(io.BytesIO(content)))

    def to_parquet(self) -> bytes:
        """Return the answers as a file."""
        buffer = io.BytesIO()
        self.frame.write_parquet(buffer, compression="zstd")
        return buffer.getvalue()

    @property
    def tested(self) -> frozenset[str]:
        """The examples."""
        return frozenset(self.frame["example_id"])

    @property
    def mean(self) -> float:
        """The mean outcome."""
        return float(self.frame["outcome"].to_numpy().mean()) if len(self.frame) else 0.0

    def results(self, example_ids: Sequence[str], *, version: str) -> ModelResults:
        """Return the answers to some of the examples, in this order, as one model's.

        Raises:
            KeyError: one of them was not asked.
        """
        wanted = pl.DataFrame({"example_id": list(example_ids)}, schema={"example_id": pl.String()})
        rows = wanted.join(self.frame, on="example_id", how="left", maintain_order="left")
        missing = rows.filter(pl.col("outcome").is_null())["example_id"].to_list()
        if missing:
            raise KeyError(f"{len(missing)} examples were not tested by any fold: {', '.join(missing[:5])}")
        in_scope, out_of_scope = rows["accepted"].is_not_null(), rows["refused"].is_not_null()
        scope = ScopeResults(
            in_scope_accepted=rows["accepted"].drop_nulls().to_numpy(),
            out_of_scope_refused=rows["refused"].drop_nulls().to_numpy(),
            in_scope=in_scope.to_numpy(),
            out_of_scope=out_of_scope.to_numpy(),
        )
        figures = [name for name in rows.columns if name.startswith(_FIGURE)]
        return ModelResults(
            version=version,
            outcomes=rows["outcome"].to_numpy(),
            other_figures={name.removeprefix(_FIGURE): rows[name].to_numpy() for name in figures},
            confidences=None if rows["confidence"].has_nulls() else rows["confidence"].to_numpy(),
            scope=scope if bool((in_scope | out_of_scope).any()) else None,
        )


def accuracy_by(answers: CrossFit, frame: pl.DataFrame, column: str) -> list[dict[str, str | int | float]]:
    """Return the mean outcome by a column of the dataset, a row for each value: what, value, examples, mean."""
    known = frame.unique("example_id").select("example_id", pl.col(column).cast(pl.String).fill_null("unknown"))
    grouped = answers.frame.join(known, on="example_id", how="left").group_by(column)
    found = grouped.agg(pl.len().alias("examples"), pl.col("outcome").mean().alias("mean")).sort(column)
    return [
        {"by": column, "value": value or "unknown", "examples": examples, "mean": round(mean, 4)}
        for value, examples, mean in found.iter_rows()
    ]


def _rows(fold: int, example_ids: Sequence[str], results: ModelResults) -> pl.DataFrame:
    size, scope = len(example_ids), results.scope
    accepted, refused = np.full(size, None, dtype=object), np.full(size, None, dtype=object)
    if scope is not None and scope.in_scope is not None and scope.out_of_scope is not None:
        accepted[scope.in_scope] = scope.in_scope_accepted
        refused[scope.out_of_scope] = scope.out_of_scope_refused
    columns = {
        "example_id": list(example_ids),
        "fold": [fold] * size,
        "outcome": results.outcomes,
        "confidence": [None] * size if results.confidences is None else results.confidences,
        "accepted": accepted.tolist(),
        "refused": refused.tolist(),
    }
    figures = {f"{_FIGURE}{name}": values for name, values in results.other_figures.items()}
    return pl.DataFrame(columns | figures, schema_overrides=_SCHEMA)


def kept_answers(models: ModelStore, version: ModelVersion) -> CrossFit | None:
    """Return what models of folds answered when a version was trained; None where nobody asked them."""
    content = models.read_run_file(version.run_id, CROSS_FIT_FILE) if version.run_id else None
    return None if content is None else CrossFit.from_parquet(content)
