"""What stands for a container of SageMaker: one serving process on a port of its own."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mangaassist_assets.core.files import read_json, write_whole
from mangaassist_assets.local.ports import HOST, answers, listen_on, port_of
from mangaassist_assets.local.processes import (
    ProcessIdentity,
    end_leftovers,
    exit_status,
    log_tail,
    start_tethered,
    wait_until,
)
from mangaassist_assets.local.sagemaker.container_variables import refusal_of
from mangaassist_assets.local.sagemaker.errors import ApiError, DeploymentError
from mangaassist_assets.local.sagemaker.model_data import model_folder
from mangaassist_assets.local.sagemaker.state import VariantPlan
from mangaassist_assets.serving.server import KEY_HEADER, KEY_VARIABLE

INVOCATION_SECONDS = 60.0  # what SageMaker gives a container for a real-time invocation
STOP_SECONDS = 10.0
REASON_CHARACTERS = 1024  # FailureReason's limit on AWS
MESSAGE_CHARACTERS = 2000
# What a serving process needs of this one's environment; keys and addresses are not its business.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "PYTHONWARNINGS", "LD_LIBRARY_PATH")


class ProcessBook:
    """The serving processes that run, on disk, so that the next start can end what a kill left behind."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identities: dict[int, ProcessIdentity] = {}

    def end_leftovers(self) -> list[int]:
        """End the processes of an earlier time and return their ids."""
        try:
            content = read_json(
                self._path,
                what="the serving processes of an earlier time",
                mend="End what is left of them by hand (`ps ax | grep mangaassist_assets.serving`) and delete it.",
            )
        except FileNotFoundError:
            return []
        ended = end_leftovers((ProcessIdentity(*entry) for entry in content), grace_seconds=STOP_SECONDS)
        self._write()
        return ended

    def add(self, pid: int) -> None:
        """Note that a process was started."""
        identity = ProcessIdentity.of(pid)
        if identity is not None:
            self._identities[pid] = identity
            self._write()

    def remove(self, pid: int) -> None:
        """Note that a process has ended."""
        if self._identities.pop(pid, None) is not None:
            self._write()

    def end_all(self) -> None:
        """End every process of this time that still runs."""
        end_leftovers(self._identities.values(), grace_seconds=STOP_SECONDS)
        self._identities.clear()
        self._write()

    def _write(self) -> None:
        processes = [[i.pid, i.created] for i in self._identities.values()]
        write_whole(self._path, json.dumps(processes).encode())


@dataclass(frozen=True, slots=True)
class ContainerAnswer:
    """What a container answered to an invocation."""

    status: int
    body: bytes
    content_type: str
    custom_attributes: str | None


class ModelContainer:
    """One serving process for one variant of one endpoint."""

    def __init__(self, endpoint: str, plan: VariantPlan, *, folder: Path, log: Path, book: ProcessBook) -> None:
        self.plan = plan
        self.log = log
        self.in_flight = 0
        self._endpoint = endpoint
        self._folder = folder
        self._book = book
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._key = secrets.token_hex(16)

    @classmethod
    async def create(
        cls, endpoint: str, plan: VariantPlan, *, cache: Path, logs: Path, book: ProcessBook
    ) -> ModelContainer:
        """Fetch the model data of a variant and return its container, not started.

        Raises:
            DeploymentError: the data cannot be had, or the environment is not taken.
        """
        # Of a state that was written before, or by hand.
        if (refusal := refusal_of(plan.environment)) is not None:
            raise DeploymentError(refusal)
        folder = await asyncio.to_thread(model_folder, plan.model_uri, cache=cache)
        return cls(endpoint, plan, folder=folder, log=logs / f"endpoint-{endpoint}-{plan.name}.log", book=book)

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and exit_status(self._process) is None

    @property
    def exit_description(self) -> str:
        """How its process ended."""
        status = None if self._process is None else exit_status(self._process)
        if status is None:
            return "it runs"
        return f"exit code {status}" if status >= 0 else f"ended by {signal.Signals(-status).name}"

    async def start(self) -> None:
        """Start the process and return when it answers its ping.

        Call it in the event loop's own thread: the process is tied to the thread that starts it.

        Raises:
            DeploymentError: it ended or did not answer in time; it does not run then.
        """
        with listen_on(0, service=f"endpoint {self._endpoint}") as listener:
            self._port = port_of(listener)
            argv = [
                *(sys.executable, "-P", "-m", "mangaassist_assets.serving.server"),  # -P: not what lies in this folder
                *("--model-dir", str(self._folder), "--fd", str(listener.fileno())),
            ]
            process = start_tethered(
                argv,
                environment={
                    **container_environment(self.plan.environment, self._folder, os.environ),
                    KEY_VARIABLE: self._key,
                },
                log=self.log,
                inherited=(listener.fileno(),),
                own_group=False,
            )
        self._process = process
        self._book.add(process.pid)
        healthy = await asyncio.to_thread(
            wait_until,
            lambda: exit_status(process) is not None or answers(f"http://{HOST}:{self._port}/ping"),
            seconds=self.plan.start_seconds,
        )
        if healthy and self.is_running:
            return
        how = self.exit_description if not self.is_running else f"no answer within {self.plan.start_seconds} seconds"
        await self.stop()
        reason = (
            f"The primary container for production variant {self.plan.name} did not pass the ping health check "
            f"({how}; log: {self.log}). "
        )
        raise DeploymentError(reason + log_tail(self.log)[-(REASON_CHARACTERS - len(reason)) :])

    async def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL where it does not go."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        if not await asyncio.to_thread(wait_until, lambda: exit_status(process) is not None, seconds=STOP_SECONDS):
            process.kill()
        await asyncio.to_thread(process.wait)
        self._book.remove(process.pid)

    async def drain(self, *, seconds: float) -> None:
        """Stop once the requests that it is answering are answered, at the latest after `seconds`."""
        await asyncio.to_thread(wait_until, lambda: self.in_flight == 0, seconds=seconds)
        await self.stop()

    async def invoke(self, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        """Pass one request on and return the container's answer of status 2xx.

        Raises:
            ApiError: ModelError with the container's own message where it refuses or fails or takes too long;
                ServiceUnavailable where it does not run just now.
        """
        self.in_flight += 1
        try:
            answer = await asyncio.to_thread(self._post, body, headers)
        except TimeoutError as error:
            raise self._model_error(
                0,
                "Your invocation timed out while waiting for a response from container primary. Review the latency "
                "metrics for each container in Amazon CloudWatch, resolve the issue, and try again.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(
                "ServiceUnavailable",
                f"The container of variant {self.plan.name} of endpoint {self._endpoint} does not answer "
                f"({self.exit_description}); it is being restarted. Its log: {self.log}",
                status=503,
            ) from error
        finally:
            self.in_flight -= 1
        if not 200 <= answer.status < 300:
            raise self._model_error(answer.status, answer.body.decode("utf-8", "replace")[:MESSAGE_CHARACTERS])
        return answer

    def _model_error(self, status: int, message: str) -> ApiError:
        side = "client" if 400 <= status < 500 else "server"
        return ApiError(
            "ModelError",
            f'Received {side} error ({status}) from primary with message "{message}". '
            f"See {self.log} for more information.",
            status=424,
            extra={"OriginalStatusCode": status, "OriginalMessage": message, "LogStreamArn": self.log.as_uri()},
        )

    def _post(self, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=INVOCATION_SECONDS)
        try:
            connection.request("POST", "/invocations", body=body, headers={**headers, KEY_HEADER: self._key})
            response = connection.getresponse()
            return ContainerAnswer(
                status=response.status,
                body=response.read(),
                content_type=response.getheader("Content-Type", "application/octet-stream"),
                custom_attributes=response.getheader("X-Amzn-SageMaker-Custom-Attributes"),
            )
        finally:
            connection.close()


def container_environment(container: Mapping[str, str], folder: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return a serving process's environment: the container definition's over a few variables of this process's."""
    threads = inherited.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 2) // 2))
    return {
        **{name: inherited[name] for name in INHERITED if name in inherited},
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **container,
        "SM_MODEL_DIR": str(folder),
    }
