"""The life of endpoints in the local SageMaker: bring fleets up, switch to them, bring them back after a restart."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from mangaassist_assets.local.sagemaker.containers import ContainerAnswer, ModelContainer, ProcessBook
from mangaassist_assets.local.sagemaker.errors import ACCOUNT, ApiError, DeploymentError, validation
from mangaassist_assets.local.sagemaker.state import Deployment, EndpointRecord, State, Status

WATCH_SECONDS = 0.5
DRAIN_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 30.0

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Fleet:
    """The containers of one deployment by variant name, with what restarting them needs to know."""

    deployment: Deployment
    containers: dict[str, ModelContainer]
    failures: dict[str, int] = field(default_factory=dict)
    restart_at: dict[str, float] = field(default_factory=dict)

    def choose(self, target: str | None, *, endpoint: str) -> ModelContainer:
        """Return the container for one request: the target's, else one by the variants' weights."""
        if target is not None:
            if target not in self.containers:
                raise ApiError("ValidationError", f"Variant {target} of endpoint {endpoint} not found.")
            return self.containers[target]
        variants = self.deployment.variants
        weights = [variant.weight for variant in variants]
        if not any(weights):
            raise ApiError("ValidationError", f"No variant of endpoint {endpoint} has any weight.")
        return self.containers[random.choices(variants, weights)[0].name]


class Endpoints:
    """Runs the endpoints that the state describes. All methods belong to the event loop's thread."""

    def __init__(self, state: State, *, folder: Path, logs: Path) -> None:
        self._state = state
        self._cache = folder / "cache"
        self._logs = logs
        self._book = ProcessBook(folder / "processes.json")
        self._fleets: dict[str, Fleet] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering: set[str] = set()

    @property
    def is_ready(self) -> bool:
        """Whether all endpoints of the last time have come back, or have failed to."""
        return not self._recovering

    def recover(self) -> None:
        """Bring back what ran when the last process ended, and go on with what it was doing."""
        ended = self._book.end_leftovers()
        if ended:
            _logger.warning("ended serving processes left behind: %s", ended)
        for record in list(self._state.endpoints.values()):
            if record.status == "Deleting":
                self._forget(record)
            elif record.deployed is not None:
                record.status = "SystemUpdating"
                self._recovering.add(record.name)
                self._run(self._bring_back(record, record.deployed))
            elif record.pending is not None:
                self._recovering.add(record.name)
                self._run(self._bring_up(record, record.pending))
        self._state.save()
        self._run(self._watch())

    async def close(self) -> None:
        """Stop all containers; the state stays as it is, so that the next start brings them back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop(fleet) for fleet in self._fleets.values()))
        # What was being started or drained is in no fleet.
        await asyncio.to_thread(self._book.end_all)

    def create(self, record: EndpointRecord, deployment: Deployment) -> None:
        """Start bringing up a new endpoint."""
        record.pending, record.pending_since = deployment, time.time()
        self._state.endpoints[record.name] = record
        self._state.save()
        self._run(self._bring_up(record, deployment))

    def update(self, record: EndpointRecord, deployment: Deployment) -> None:
        """Start replacing what an endpoint serves; what it has serves on until the new is healthy."""
        self._change(record, status="Updating", reason=None)
        record.pending, record.pending_since = deployment, time.time()
        self._state.save()
        self._run(self._bring_up(record, deployment))

    def delete(self, record: EndpointRecord) -> None:
        """Start removing an endpoint."""
        self._change(record, status="Deleting", reason=None)
        self._run(self._remove(record))

    def serving(self, record: EndpointRecord, variant: str) -> bool:
        """Return whether a variant has a running process."""
        fleet = self._fleets.get(record.name)
        return fleet is not None and variant in fleet.containers and fleet.containers[variant].is_running

    async def invoke(
        self, name: str, body: bytes, headers: dict[str, str], *, target: str | None
    ) -> tuple[str, ContainerAnswer]:
        """Return the variant that answered and its answer.

        Raises:
            ApiError: no such endpoint, none that serves, or the container's refusal.
        """
        record = self._state.endpoints.get(name)
        if record is None:
            raise ApiError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        fleet = self._fleets.get(name)
        if fleet is None or record.status == "Deleting":
            raise ApiError(
                "ValidationError", f"Endpoint {name} of account {ACCOUNT} is not in service: it is {record.status}."
            )
        container = fleet.choose(target, endpoint=name)
        return container.plan.name, await container.invoke(body, headers)

    async def _bring_up(self, record: EndpointRecord, deployment: Deployment) -> None:
        """Create or update: switch to a new fleet, or stay with the old one where the new does not come up."""
        reason = None
        try:
            fleet = await self._start(record.name, deployment)
        except DeploymentError as error:
            reason = str(error)
            _logger.error("endpoint %s: %s", record.name, reason)  # noqa: TRY400 - the message says it all
        else:
            old = self._fleets.get(record.name)
            self._fleets[record.name] = fleet
            record.deployed, record.config_name = deployment, deployment.config_name
            if old is not None:
                self._run(self._drain(old))
        record.pending = record.pending_since = None
        self._recovering.discard(record.name)
        serves = record.name in self._fleets
        self._change(record, status="InService" if serves else "Failed", reason=reason)

    async def _bring_back(self, record: EndpointRecord, deployment: Deployment) -> None:
        """After a restart: the fleet that served, then the update that was going on, if any."""
        try:
            self._fleets[record.name] = await self._start(record.name, deployment)
        except DeploymentError as error:
            _logger.error("endpoint %s did not come back: %s", record.name, error)  # noqa: TRY400 - as above
            self._recovering.discard(record.name)
            record.pending = record.pending_since = None
            self._change(record, status="Failed", reason=str(error))
            return
        self._recovering.discard(record.name)
        if record.pending is not None:
            self.update(record, record.pending)
        else:
            self._change(record, status="InService", reason=None)

    async def _remove(self, record: EndpointRecord) -> None:
        fleet = self._fleets.pop(record.name, None)
        if fleet is not None:
            await self._stop(fleet)
        self._forget(record)
        self._state.save()

    async def _start(self, name: str, deployment: Deployment) -> Fleet:
        containers: dict[str, ModelContainer] = {}

        async def start(position: int) -> None:
            plan = deployment.variants[position]
            container = await ModelContainer.create(name, plan, cache=self._cache, logs=self._logs, book=self._book)
            containers[plan.name] = container
            await container.start()

        results = await asyncio.gather(*map(start, range(len(deployment.variants))), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await asyncio.gather(*(container.stop() for container in containers.values()))
            if isinstance(failures[0], OSError):
                raise DeploymentError(f"The container could not be started: {failures[0]}") from failures[0]
            raise failures[0]
        return Fleet(deployment, containers)

    async def _watch(self) -> None:
        """Start containers again that ended by themselves, with longer pauses the more often they do."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for name, fleet in list(self._fleets.items()):
                for variant, container in fleet.containers.items():
                    if container.is_running or time.monotonic() < fleet.restart_at.get(variant, 0.0):
                        continue
                    failures = fleet.failures[variant] = fleet.failures.get(variant, 0) + 1
                    # Set ahead, too: a start in progress is not to be started twice.
                    fleet.restart_at[variant] = (
                        time.monotonic() + container.plan.start_seconds + min(2.0**failures, LONGEST_PAUSE_SECONDS)
                    )
                    _logger.error("endpoint %s, variant %s: %s; restarting", name, variant, container.exit_description)
                    self._run(self._restart(name, fleet, variant, container))

    async def _restart(self, name: str, fleet: Fleet, variant: str, container: ModelContainer) -> None:
        try:
            await container.stop()
            await container.start()
        except DeploymentError as error:
            _logger.error("endpoint %s, variant %s did not restart: %s", name, variant, error)  # noqa: TRY400
            pause = min(2.0 ** fleet.failures[variant], LONGEST_PAUSE_SECONDS)
            fleet.restart_at[variant] = time.monotonic() + pause
            return
        fleet.restart_at.pop(variant, None)
        fleet.failures.pop(variant, None)
        if self._fleets.get(name) is not fleet:  # replaced or deleted meanwhile
            await container.stop()

    async def _drain(self, fleet: Fleet) -> None:
        await asyncio.gather(*(c.drain(seconds=DRAIN_SECONDS) for c in fleet.containers.values()))

    async def _stop(self, fleet: Fleet) -> None:
        await asyncio.gather(*(container.stop() for container in fleet.containers.values()))

    def _forget(self, record: EndpointRecord) -> None:
        self._state.endpoints.pop(record.name, None)
        self._state.tags.pop(record.arn, None)

    def _change(self, record: EndpointRecord, *, status: Status, reason: str | None) -> None:
        record.status = status
        record.failure_reason = reason
        record.modified = time.time()
        self._state.save()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.critical("a background task of the local SageMaker failed", exc_info=task.exception())


def require_changeable(record: EndpointRecord, *, deleting: bool) -> None:
    """Refuse changes that SageMaker refuses in the endpoint's present status."""
    if record.status in {"Creating", "Updating", "SystemUpdating", "Deleting"}:
        raise validation(f'Cannot update in-progress endpoint "{record.arn}".')
    if record.status == "Failed" and not deleting:
        raise validation(
            f'Cannot update endpoint "{record.arn}" in status Failed: DeleteEndpoint is the only operation on it.'
        )
