"""What a piece of work costs, measured so that other processes of the machine decide no test.

CPU time of this process, never the clock on the wall; the least of several runs, which is the work's own; and a ratio
to another input in the same run rather than a number of seconds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 5


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of one call, without the collection of what other tests left behind."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        started = time.process_time()
        work()
        return time.process_time() - started
    finally:
        if was_enabled:
            gc.enable()


def growth(work: Callable[[int], object], short: int, long: int, *, enough: float) -> float:
    """Return how many times the CPU time of `work(short)` one of `work(long)` takes, by the least of several runs.

    Args:
        work: The work on an input of the given size. Its first run, on the short input, is not counted.
        short: A size that takes a millisecond at least.
        long: A size some times that. What is linear grows as the size does, what is quadratic by the square of it.
        enough: A ratio below this ends the measurement; only one above it is measured up to five times.
    """
    work(short)
    shorts: list[float] = []
    longs: list[float] = []
    ratio = float("inf")
    while len(shorts) < TRIES and ratio >= enough:
        shorts.append(cpu_seconds(lambda: work(short)))
        longs.append(cpu_seconds(lambda: work(long)))
        ratio = min(longs) / min(shorts)
    return ratio
