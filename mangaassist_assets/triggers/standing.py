"""Where a bundle stands: of each of its streams how much evidence there is of a rise, and what else it takes to fire.

Streams are the bundle's votes, those on turns of one intent, and among the votes on mined turns the thumbs-downs of one
failure cluster or blamed on one stage. A cluster that was first seen in the window is none: it is called a cluster
because many complained.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.core.arrays import Floats
from mangaassist_assets.triggers.evidence import Reference, Rise, fiercest, find_rise, log_ratio
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.votes import (
    ALL,
    MINED,
    NO_VOTES,
    Vote,
    Window,
    added,
    is_share_of_mined,
    streams_of,
    window_weights,
)

_MOST_EVIDENCE = 1e12
_PARTS = 5
_THREE_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one stream stands. `votes`, `down` and `reference_votes` are weighted; shares are 0 to 1.

    Attributes:
        stream: Its name.
        evidence: Of a rise, at most 1e12.
        needed: The evidence at which it fires.
        down: Thumbs-downs since the most likely start of a rise.
        votes: Votes since then.
        share_before: Share of thumbs-downs before it.
        reference_votes: Votes before it.
        shoppers: Different shoppers with a thumbs-down since then.
        since_ms: Time of the first vote since then (ms since the epoch, UTC).
        unmet: What besides evidence it lacks, a phrase each.
    """

    stream: str
    evidence: float
    needed: float
    down: float
    votes: float
    share_before: float
    reference_votes: float
    shoppers: int
    since_ms: int
    unmet: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of thumbs-downs since the most likely start of a rise."""
        return self.down / self.votes if self.votes else 0.0

    @property
    def reached(self) -> bool:
        """Whether the evidence suffices."""
        return self.evidence >= self.needed

    @property
    def fires(self) -> bool:
        """Whether nothing is missing."""
        return self.reached and not self.unmet

    def described(self) -> str:
        """Return the numbers in a phrase."""
        return (
            f"{self.stream}: evidence {self.evidence:.3g} of {self.needed:.3g}, {self.down:.0f} thumbs-down of "
            f"{self.votes:.0f} ({self.share:.0%}) of {self.shoppers} shoppers after {self.share_before:.0%} of "
            f"{self.reference_votes:.0f}"
        )


def standings(window: Window, baseline: Mapping[str, Reference], config: TriggerConfig) -> list[Standing]:
    """Return where the streams of a bundle stand, those nearest to firing first.

    `baseline` is what was before all votes of the window's bundle, by stream.
    """
    before = added(baseline, window.folded)
    members = _members(window.votes, before)
    others = max(len(members) - 1, 1)
    weights = window_weights(window.votes, config)
    found = [
        _standing(
            name,
            window.votes,
            places,
            downs,
            weights,
            before.get(name, NO_VOTES),
            config.overall_weight if name == ALL else (1.0 - config.overall_weight) / others,
            config,
        )
        for name, (places, downs) in members.items()
        if name == ALL or config.overall_weight < 1.0
    ]
    return sorted(
        (one for one in found if one is not None), key=lambda one: (-one.evidence / one.needed, -one.down, one.stream)
    )


def _members(
    votes: Sequence[Vote], before: Mapping[str, Reference]
) -> dict[str, tuple[NDArray[np.intp], NDArray[np.bool_]]]:
    """Return of each stream the places of its votes, and which of those are thumbs-downs of it."""
    down = np.array([one.down for one in votes], dtype=bool)
    of: dict[str, list[int]] = {}
    for place, vote in enumerate(votes):
        for name in streams_of(vote):
            of.setdefault(name, []).append(place)
    mined = np.array(of.pop(MINED, []), dtype=np.intp)
    members: dict[str, tuple[NDArray[np.intp], NDArray[np.bool_]]] = {}
    for name, own in sorted(of.items()):
        places = np.array(own, dtype=np.intp)
        if not is_share_of_mined(name):
            members[name] = places, down[places]
        elif before.get(name, NO_VOTES).down > 0:
            members[name] = mined, np.isin(mined, places)
    return members


def _standing(
    name: str,
    votes: Sequence[Vote],
    places: NDArray[np.intp],
    downs: NDArray[np.bool_],
    weights: Floats,
    reference: Reference,
    weight: float,
    config: TriggerConfig,
) -> Standing | None:
    rise = find_rise(
        downs,
        weights[places],
        reference,
        block=config.block_votes,
        odds=config.odds,
        least=config.minimum_reference,
        most=config.reference_votes,
    )
    if rise is None:
        return None
    since = places[rise.start :]
    complaining = len({votes[place].shopper for place in since[downs[rise.start :]]})
    needed = config.needed_evidence(weight)
    evidence = math.exp(min(rise.log_evidence, math.log(_MOST_EVIDENCE)))
    unmet: list[str] = []
    if evidence >= needed:
        if rise.since.votes < config.minimum_votes:
            unmet.append(f"{rise.since.votes:.0f} votes since, needed {config.minimum_votes:.0f}")
        if complaining < config.minimum_shoppers:
            unmet.append(f"{complaining} shoppers complain, needed {config.minimum_shoppers}")
        unmet += _unmet_without_fiercest(rise, votes, places, downs, weights, config)
    return Standing(
        stream=name,
        evidence=evidence,
        needed=needed,
        down=rise.since.down,
        votes=rise.since.votes,
        share_before=rise.before.share,
        reference_votes=rise.before.votes,
        shoppers=complaining,
        since_ms=votes[since[0]].time_ms,
        unmet=tuple(unmet),
    )


def _unmet_without_fiercest(
    rise: Rise,
    votes: Sequence[Vote],
    places: NDArray[np.intp],
    downs: NDArray[np.bool_],
    weights: Floats,
    config: TriggerConfig,
) -> list[str]:
    """Say what a rise lacks without the shoppers who complain most, wherever in the bundle they do."""
    start = int(places[rise.start])
    fierce = _fiercest(votes, start, len(votes), config)
    own = places[rise.start :]
    kept = np.array([votes[place].shopper not in fierce for place in own])
    since = Reference(down=float(weights[own[kept & downs[rise.start :]]].sum()), votes=float(weights[own[kept]].sum()))
    before, left_out = rise.before, len(fierce)
    if left_out:
        before = Reference(down=before.down * _calm_factor(votes, start, weights, config), votes=before.votes)
    found: list[str] = []
    fiercest_out = f" without the {left_out} shoppers who complain most" if left_out else ""
    risen = since.share - before.share
    if risen < config.minimum_rise:
        found.append(f"{100 * risen:+.1f} points{fiercest_out}, needed {100 * config.minimum_rise:+.1f}")
    if left_out and (ratio := _ratio(before, since, config)) < config.left_out_evidence:
        found.append(f"evidence {ratio:.3g}{fiercest_out}, needed {config.left_out_evidence:.3g}")
    return found


def _calm_factor(votes: Sequence[Vote], start: int, weights: Floats, config: TriggerConfig) -> float:
    """Return by what factor the bundle's share before a rise is less without those who complained most then.

    Like is compared with like: also before the rise some complained more than others. Parts as long as what came since
    are taken, and the median of their factors: whoever colludes may have begun before the place that the rise seems to
    begin at, in the nearest part. 1.0 where there are not three parts.
    """
    length = len(votes) - start
    factors: list[float] = []
    for end in range(start, max(start - _PARTS * length, length - 1), -length):
        fierce = _fiercest(votes, end - length, end, config)
        part = range(end - length, end)
        everybody = Reference(
            down=sum(float(weights[place]) for place in part if votes[place].down),
            votes=float(weights[end - length : end].sum()),
        )
        calm = Reference(
            down=sum(
                float(weights[place]) for place in part if votes[place].down and votes[place].shopper not in fierce
            ),
            votes=sum(float(weights[place]) for place in part if votes[place].shopper not in fierce),
        )
        factors.append(calm.share / everybody.share if everybody.down else 1.0)
    return min(1.0, statistics.median(factors)) if len(factors) >= _THREE_PARTS else 1.0


def _fiercest(votes: Sequence[Vote], start: int, end: int, config: TriggerConfig) -> frozenset[Hashable]:
    return fiercest(
        [one.shopper for one in votes[start:end]],
        np.array([one.down for one in votes[start:end]], dtype=bool),
        share=config.left_out_share,
    )


def _ratio(before: Reference, since: Reference, config: TriggerConfig) -> float:
    parts = (np.array(one) for one in (before.down, before.votes, since.down, since.votes))
    return math.exp(min(float(log_ratio(*parts, odds=config.odds)), math.log(_MOST_EVIDENCE)))
