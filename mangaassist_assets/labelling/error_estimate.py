"""How often a guess is wrong, from trials of which the truth is known: an interval, and a bound to act on."""

from __future__ import annotations

from dataclasses import dataclass

INTERVAL = 0.95
BOUND = 0.9
"""One-sided: the true error lies below the bound with this probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRate:
    """`wrong` of `trials`; the error lies in `low`..`high` with probability `INTERVAL`, below `bound` with `BOUND`.

    The interval is Jeffreys' (Brown, Cai & DasGupta 2001): the posterior under a Beta(1/2, 1/2) prior. `rate` is the
    posterior's mean, so that no trial means one half and not zero.
    """

    trials: int
    wrong: int
    rate: float
    low: float
    high: float
    bound: float


def error_rate(wrong: int, trials: int, *, prior_wrong: float = 0.0, prior_right: float = 0.0) -> ErrorRate:
    """Return the estimate from trials, and from like trials elsewhere as a prior that adds to them.

    Raises:
        ValueError: counts that are no counts, or a negative prior.
    """
    if not 0 <= wrong <= trials or prior_wrong < 0 or prior_right < 0:
        raise ValueError(
            f"{wrong} wrong of {trials} trials, prior {prior_wrong} and {prior_right}: no counts to estimate from"
        )
    from scipy.stats import beta

    a = 0.5 + wrong + prior_wrong
    b = 0.5 + trials - wrong + prior_right
    tail = (1.0 - INTERVAL) / 2.0
    low = 0.0 if wrong + prior_wrong == 0 else float(beta.ppf(tail, a, b))
    high = 1.0 if trials - wrong + prior_right == 0 else float(beta.ppf(1.0 - tail, a, b))
    return ErrorRate(
        trials=trials,
        wrong=wrong,
        rate=round(a / (a + b), 4),
        low=round(low, 4),
        high=round(high, 4),
        bound=round(float(beta.ppf(BOUND, a, b)), 4),
    )
