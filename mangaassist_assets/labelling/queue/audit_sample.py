"""The audit sample: turns drawn at random from all traffic of a bundle, each with a known inclusion probability.

Poisson sampling with permanent random numbers (Ohlsson 1995): a turn has one random number for ever, a hash of its
trace id, and is drawn if that is below its inclusion probability. So the probability is exact, the draw of one turn
says nothing of another, and the sample hardly moves when more turns arrive or more of them are wanted.

Strata are predicted intent, language, and failed or not. Most of the sample is spread over them as the traffic is; a
part is spread equally, so that a rare stratum is seen too. A turn that only a review calls failed counts as one that
did not fail: a review must not change the probability by which its own turn was drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.core.text_keys import language_of
from mangaassist_assets.mining.blame.rule_names import SignalName
from mangaassist_assets.mining.blame.stored_failures import read_failed_ids
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.stored_turns import read_turn_frame

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

STRATUM = ("intent", "language", "failed")
FLOOR_SHARE = 0.25
"""How much of the sample is spread equally over the strata."""
_OF_REVIEWS: tuple[SignalName, ...] = ("failed_review",)
_SALT = "audit sample"


def is_traffic(turn: ChatTurn) -> bool:
    """Whether an audit may ask about a turn: it has a message, and the guardrail did not block it."""
    return not turn.guardrail_blocked and bool(turn.message.strip())


def read_traffic(store: SnapshotStore, release_bundle: str) -> pl.DataFrame:
    """Return the turns of a bundle that an audit may ask about (`is_traffic`), reviewed ones included.

    The columns are trace_id, message and those of `STRATUM`.
    """
    turns = read_turn_frame(
        store, release_bundle, columns=["trace_id", "intent", "message"], where=~pl.col("guardrail_blocked")
    )
    failed = read_failed_ids(store, release_bundle, without=_OF_REVIEWS)
    said = turns.filter(pl.Series([bool(message.strip()) for message in turns["message"]], dtype=pl.Boolean))
    return said.with_columns(
        pl.Series("language", map(language_of, said["message"]), dtype=pl.String),
        pl.col("trace_id").is_in(list(failed)).alias("failed"),
    )


def draw_audit(turns: pl.DataFrame, size: float, *, floor_share: float = FLOOR_SHARE) -> pl.DataFrame:
    """Return the rows that are drawn, with their `inclusion_probability`, in the order in which to review them.

    Whoever stops on the way has reviewed a random part of the sample: by the order nothing can be told of a turn, not
    even how likely it was to be drawn. The same turns in any order give the same sample.

    Args:
        turns: distinct trace_id and the columns of `STRATUM`, as `read_traffic` gives them.
        size: how many turns to expect; the number that is drawn varies around it.
        floor_share: see `inclusion_probabilities`.

    Raises:
        ValueError: a negative size, or a share that is none.
    """
    strata = turns.group_by(STRATUM).len().sort("len")
    probabilities = inclusion_probabilities(strata["len"].to_numpy(), size, floor_share=floor_share)
    known = strata.select(*STRATUM, pl.Series("inclusion_probability", probabilities, dtype=pl.Float64))
    draw = pl.Series("draw", random_numbers(turns["trace_id"]), dtype=pl.Float64)
    return (
        turns.with_columns(draw)
        .join(known, on=STRATUM, how="left", nulls_equal=True)
        .filter(pl.col("draw") < pl.col("inclusion_probability"))
        .sort(pl.col("draw") / pl.col("inclusion_probability"), "trace_id")
        .drop("draw")
    )


def inclusion_probabilities(sizes: NDArray[np.integer], size: float, *, floor_share: float = FLOOR_SHARE) -> Floats:
    """Return the probability by which each turn of a stratum is drawn, shape (strata,).

    They add up to `size` over all turns, or to the number of turns where that is less. Of the sample `floor_share` is
    for all strata alike and the rest as the traffic is; what a small stratum cannot give, the others do.

    Args:
        sizes: of the strata in turns, all above 0, shape (strata,).
        size: how many turns to expect in the sample.
        floor_share: 0 to 1.

    Raises:
        ValueError: a negative size, or a share that is none.
    """
    if not size >= 0 or not 0 <= floor_share <= 1:
        raise ValueError(f"no sample of {size} turns with a floor of {floor_share}: give 0 or more, and 0 to 1")
    turns = sizes.astype(np.float64)
    total = float(turns.sum())
    if size >= total:
        return np.ones(len(turns), dtype=np.float64)
    wanted = (1.0 - floor_share) * turns / total + floor_share / len(turns)
    each = wanted / turns
    # The first strata in this order are the first of which every turn is drawn, as the sample grows.
    order = np.argsort(-each, kind="stable")
    whole = np.concatenate(([0.0], np.cumsum(turns[order])[:-1]))
    rest = np.cumsum(wanted[order][::-1])[::-1]
    scales = (size - whole) / rest
    fits = scales * each[order] <= 1.0
    fits[-1] = True  # as it is but for rounding
    scale = scales[int(np.argmax(fits))]
    probabilities: Floats = np.minimum(scale * each, 1.0)
    return probabilities


def random_numbers(trace_ids: Iterable[str]) -> Floats:
    """Return the random number of each trace, uniform in [0, 1), the same for ever."""
    hashes = b"".join(
        hashlib.sha256(f"{_SALT}\x1f{trace_id}".encode("utf-8", "surrogatepass")).digest()[:8] for trace_id in trace_ids
    )
    numbers: Floats = (np.frombuffer(hashes, dtype=">u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers
