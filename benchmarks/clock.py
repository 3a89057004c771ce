"""Wall and CPU seconds of a part of a benchmark."""

from __future__ import annotations

import time


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Return wall and CPU seconds."""
        wall, cpu = self._began
        return time.perf_counter() - wall, time.process_time() - cpu
