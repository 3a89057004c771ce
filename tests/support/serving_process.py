"""The serving process, started as an endpoint starts it, and what it has loaded when it has answered."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_REPORTING = "tests.support.reporting_entry_point"


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """The first answer of a new process, the modules it has imported by then, and how long it took from its start."""

    answer: Mapping[str, Any]
    modules: frozenset[str]
    seconds: float


def first_answer(model: Path, request: Mapping[str, Any], *, entry_point: str, threads: int = 1) -> FirstAnswer:
    """Start the server on a model's folder, ask it once and end it."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(_ROOT),
        "OMP_NUM_THREADS": str(threads),
        "REPORTED_ENTRY_POINT": entry_point,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            *(sys.executable, "-m", "mangaassist_assets.serving.server", "--model-dir", str(model)),
            *("--fd", str(listener.fileno()), "--entry-point", _REPORTING),
        ]
        started = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, pass_fds=[listener.fileno()], cwd=_ROOT, stderr=subprocess.PIPE, text=True
        ) as process:
            port = listener.getsockname()[1]
            # Only the process accepts: a question waits until it listens, and fails where it ends instead.
            listener.close()
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
                    headers = {"Content-Type": "application/json"}
                    connection.request("POST", "/invocations", json.dumps(request), headers)
                    response = connection.getresponse()
                    answer, seconds = json.loads(response.read()), time.perf_counter() - started
            except OSError as error:
                raise AssertionError(f"no answer: {process.communicate()[1][-2000:]}") from error
            finally:
                process.terminate()
    assert response.status == 200, answer
    return FirstAnswer(answer, frozenset(answer.pop("loaded_modules")), seconds)
