"""How long two models take for the same requests, asked in turns, so that a busy machine slows both alike."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mangaassist_assets.core.arrays import Floats

DEFAULT_REQUESTS = 60


class Answering(Protocol):
    """A loaded model."""

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> object:
        """Answer the inputs of a request."""


def latencies_in_turns(
    champion: Answering,
    challenger: Answering,
    requests: Sequence[Sequence[Any]],
    *,
    count: int = DEFAULT_REQUESTS,
) -> tuple[Floats, Floats] | None:
    """Time requests of both models, in milliseconds: champion's and challenger's, each of shape (count,).

    Every request is asked of both once before, untimed: what is loaded or kept at the first call counts for neither.
    Then they are asked in turns, and who is first changes from request to request.

    Args:
        champion: The model in production.
        challenger: The other.
        requests: The inputs of different requests; they repeat until `count` is reached.
        count: Requests timed of each model.

    Returns:
        None where there is no request.
    """
    if not requests:
        return None
    both = (champion, challenger)
    for inputs in requests[:count]:
        for model in both:
            model.answer(inputs, {})
    taken = np.zeros((2, count), dtype=np.float64)
    for turn in range(count):
        inputs = requests[turn % len(requests)]
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            started = time.perf_counter()
            both[place].answer(inputs, {})
            taken[place, turn] = (time.perf_counter() - started) * 1_000
    return taken[0], taken[1]
