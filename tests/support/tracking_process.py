"""An MLflow server that a test kills and starts again on the same port."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from mangaassist_assets.local.ports import listen_on


class TrackingProcess:
    """A server on SQLite with its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        listener = listen_on(self._port, service="MLflow")
        self._port = listener.getsockname()[1]
        with (self._folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mangaassist_assets.local.mlflow_server"),
                    *("--fd", str(listener.fileno()), "--folder", str(self._folder)),
                ],
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
        listener.close()
        assert requests.get(f"{self.url}/health", timeout=120).ok

    def kill(self) -> None:
        """End it as a crash would: nothing is flushed, nobody is told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start it if it does not run."""
        if self._process is None:
            self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hang for a while: connections are taken, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
