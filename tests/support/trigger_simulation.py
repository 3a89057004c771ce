"""Many streams of votes at once, judged by the feedback trigger's own functions: each vote of a shopper of its own.

`first_firings` is what `standings` says of the stream of all votes, look by look; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.triggers.evidence import Reference, start_ratios
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.standing import standings
from mangaassist_assets.triggers.votes import Vote, Window, fold

NEVER = np.iinfo(np.int64).max


def first_firings(
    downs: NDArray[np.bool_],
    reference: Reference | NDArray[np.float64],
    config: TriggerConfig,
    *,
    weight: float | None = None,
    first_look: int = 1,
) -> NDArray[np.int64]:
    """Return after how many blocks of votes each stream fires, NEVER where it does not; shape (streams,).

    Args:
        downs: Whether each vote is a thumbs-down, shape (streams, votes), whole blocks.
        reference: What was before; or down and votes of each stream, shape (streams, 2).
        config: The settings.
        weight: The stream's weight, by default that of all votes.
        first_look: Block after which is looked first.
    """
    streams, votes = downs.shape
    block, width = config.block_votes, config.window_votes // config.block_votes
    needed = np.log(config.needed_evidence(config.overall_weight if weight is None else weight))
    if isinstance(reference, Reference):
        reference = np.tile([reference.down, reference.votes], (streams, 1))
    down = np.zeros((streams, votes // block + 1))
    down[:, 1:] = np.cumsum(downs.reshape(streams, -1, block).sum(axis=2), axis=1)
    found = np.full(streams, NEVER)
    open_ones = np.arange(streams)
    for look in range(first_look, votes // block + 1):
        start = max(0, look - width)
        counted = block * np.arange(start, look + 1, dtype=np.float64)
        base = reference[open_ones]
        ratios = start_ratios(
            down[open_ones, start : look + 1],
            np.broadcast_to(counted, (len(open_ones), look - start + 1)),
            reference_down=base[:, :1],
            reference_votes=base[:, 1:],
            odds=config.odds,
            most=config.reference_votes,
        )
        ratios = np.where(base[:, 1:] + counted[:-1] >= config.minimum_reference, ratios, -np.inf)
        likeliest = np.argmax(ratios, axis=1)
        rows = np.arange(len(open_ones))
        since = down[open_ones, look] - down[open_ones, start + likeliest]
        of = counted[-1] - counted[likeliest]
        before = (base[:, 0] + down[open_ones, start + likeliest]) / np.maximum(base[:, 1] + counted[likeliest], 1.0)
        fires = (
            (np.logaddexp.reduce(ratios, axis=1) >= needed)
            & (of >= config.minimum_votes)
            & (since >= config.minimum_shoppers)
            & (since / of - before >= config.minimum_rise)
            & np.isfinite(ratios[rows, likeliest])
        )
        found[open_ones[fires]] = look
        open_ones = open_ones[~fires]
        if not len(open_ones):
            break
    return found


def first_firing(
    shoppers: Sequence[str],
    downs: NDArray[np.bool_],
    reference: Reference,
    config: TriggerConfig,
    *,
    intents: Sequence[str] | None = None,
    first_look: int = 1,
    every: int = 1,
) -> int:
    """Return the same of one stream, vote by vote, by `standings`; here shoppers may have several votes."""
    cast = [
        Vote(
            time_ms=number,
            event=f"{number:08d}",
            turn=f"{number:08d}",
            shopper=shopper,
            session=None,
            down=bool(down),
            mined=intents is not None,
            intent=None if intents is None else intents[number],
        )
        for number, (shopper, down) in enumerate(zip(shoppers, downs, strict=True))
    ]
    baseline = {"all": reference}
    for look in range(first_look, len(cast) // config.block_votes + 1, every):
        known = look * config.block_votes
        window = Window(votes=tuple(cast[:known]))
        beyond = max(0, known - config.window_votes)
        window = fold(window, beyond, config) if beyond else window
        if any(one.fires for one in standings(window, baseline, config)):
            return look
    return int(NEVER)
