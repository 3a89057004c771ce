"""`mangaassist dev` on a tiny store, as people run it: a process of its own, looked at through Dagster's GraphQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import wait_until
from mangaassist_assets.local.sharing import running_services
from tests.support.bootstrapped import bootstrapped_home
from tests.support.command_line import Production, production, run_here, start
from tests.support.tiny_store import TinyStore, write_lines

T = TypeVar("T")

LOCATION = {"repositoryLocationName": "mangaassist", "repositoryName": "__repository__"}
ROOT = Path(__file__).resolve().parents[2]
# `mangaassist dev`, with the definitions of quick_definitions.py and a run monitoring that looks more often.
QUICK_DEV = """
import sys
from pathlib import Path
from mangaassist_assets.cli.commands import serve
from mangaassist_assets.cli.main import main
from mangaassist_assets.local import dagster_instance
serve.WORKSPACE, dagster_instance.CONFIGURATION = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
main()
"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
START_SECONDS = 240.0

RUNS = """query($filter: RunsFilter) { runsOrError(filter: $filter, limit: 60) {
  ... on Runs { results { runId jobName status tags { key value } } } ... on PythonError { message } } }"""
TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) {
  ... on Sensor { sensorState { status ticks(limit: 40) { status skipReason runIds error { message } } } } } }"""

SENSOR = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor { id } } }"""
STOP_SENSOR = """mutation($id: String!) { stopSensor(id: $id) {
  ... on StopSensorMutationResult { instigationState { status } } ... on PythonError { message } } }"""
START_SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
  ... on Sensor { sensorState { status } } ... on PythonError { message } } }"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as Dagster's page shows it."""

    run_id: str
    job: str
    status: str
    tags: Mapping[str, str]

    @property
    def bundle(self) -> str | None:
        """Its partition."""
        return self.tags.get("dagster/partition")


@dataclass(slots=True, kw_only=True)
class DagsterDev:
    """A bootstrapped home with `mangaassist dev` on it; `urls` by service name, `dagster` among them."""

    home: Path
    store: TinyStore
    urls: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it where it does not run, and wait until its page answers."""
        if self.process is not None:
            return
        program = ("-c", QUICK_DEV, *self._quick_settings())
        self.process = start(self.home, "dev", "--json", program=program, variables={"OMP_NUM_THREADS": "1"})
        # Its pipes must be emptied, or it would stand still; what it says is kept for a failed test.
        stdout, stderr = self.process.stdout, self.process.stderr
        assert stdout is not None
        assert stderr is not None
        threading.Thread(target=lambda: self.said.extend(stderr), daemon=True).start()
        line = stdout.readline()
        assert line, "mangaassist dev ended: " + "".join(self.said)
        self.urls = json.loads(line)["urls"]

    def stop(self) -> None:
        """Stop it as Ctrl-C does; without effect where it does not run."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def graphql(self, query: str, **variables: object) -> Any:
        """Return the data of a GraphQL answer."""
        request = urllib.request.Request(  # noqa: S310 - a local URL
            f"{self.urls['dagster']}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - a local URL
            content = json.load(answer)
        assert "errors" not in content, content["errors"]
        return content["data"]

    def runs(self, job: str | None = None, **tags: str) -> list[Run]:
        """Return runs, the newest first."""
        selection = {
            **({"pipelineName": job} if job else {}),
            "tags": [{"key": key.replace("__", "/"), "value": value} for key, value in tags.items()],
        }
        answer = self.graphql(RUNS, filter=selection)["runsOrError"]["results"]
        return [
            Run(
                run_id=run["runId"],
                job=run["jobName"],
                status=run["status"],
                tags={tag["key"]: tag["value"] for tag in run["tags"]},
            )
            for run in answer
        ]

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """Return the ticks of a sensor by the daemon, the newest first."""
        answer = self.graphql(TICKS, selector={**LOCATION, "sensorName": sensor})
        ticks: list[dict[str, Any]] = answer["sensorOrError"]["sensorState"]["ticks"]
        errors = [tick["error"]["message"] for tick in ticks if tick["error"]]
        assert not errors, errors
        return ticks

    def eventually(self, look: Callable[[], T | None], *, what: str, seconds: float = 150) -> T:
        """Return what `look` finds as soon as it finds something."""
        found: list[T] = []

        def there() -> bool:
            assert self.process is not None, "mangaassist dev was stopped"
            assert self.process.poll() is None, "mangaassist dev ended: " + "".join(self.said)
            value = look()
            if value:
                found.append(value)
            return bool(found)

        assert wait_until(there, seconds=seconds, every=0.5), f"no {what} within {seconds:.0f} s: {self._standing()}"
        return found[0]

    def ended_run(self, job: str, *, seconds: float = 400, **tags: str) -> Run:
        """Return the newest run of a job with these tags (`__` stands for `/`) that is over and not tried again."""

        def over() -> Run | None:
            runs = self.runs(job, **tags)
            return next(
                (run for run in runs if run.status in ENDED and run.tags.get("dagster/will_retry") != "true"), None
            )

        return self.eventually(over, what=f"ended run of {job} with {tags}", seconds=seconds)

    def idle(self) -> None:
        """Wait until no run is under way or waits."""
        self.eventually(lambda: all(run.status in ENDED for run in self.runs()), what="end of all runs", seconds=400)

    def environment(self) -> dict[str, str]:
        """Return the variables with which a client reaches what runs here."""
        running = running_services(Home.open(self.home))
        assert running is not None
        return dict(running.environment)

    def production(self) -> Production:
        """Return what only a deployment may change."""
        running = running_services(Home.open(self.home))
        assert running is not None
        return production(running)  # type: ignore[arg-type]  # needs its environment alone

    def simulate(self, bundle: str, *, lines: slice, review_budget: int = 0) -> dict[str, Any]:
        """Drive some lines of the store's traffic as a bundle's, by the command line; return its report.

        Without a budget nobody reviews anything, and the bundle is mined by nobody but Dagster.
        """
        chosen = self.store.traffic.read_text(encoding="utf-8").splitlines()[lines]
        file = write_lines(self.home.parent / f"{bundle}.jsonl", chosen)
        options = ("--release-bundle", bundle, "--review-budget", review_budget, "--feedback-noise", "0", "--json")
        ran = run_here(self.home, "simulate", "--utterances", file, *map(str, options))
        assert ran.code == 0, ran.stderr
        report: dict[str, Any] = json.loads(ran.stdout)
        return report

    @contextmanager
    def stopped_sensor(self, name: str) -> Iterator[None]:
        """Stop a sensor as the page does; it is started again afterwards."""
        state = self.graphql(SENSOR, selector={**LOCATION, "sensorName": name})["sensorOrError"]
        stopped = self.graphql(STOP_SENSOR, id=state["id"])["stopSensor"]
        assert stopped["instigationState"]["status"] == "STOPPED", stopped
        try:
            yield
        finally:
            started = self.graphql(START_SENSOR, selector={**LOCATION, "sensorName": name})["startSensor"]
            assert started["sensorState"]["status"] == "RUNNING", started

    def worker_of(self, run: Run) -> psutil.Process | None:
        """Return the process that executes a run, as the run's own events name it."""
        query = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
            ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } } } } } }"""
        for event in self.graphql(query, id=run.run_id)["logsForRun"]["events"]:
            for entry in event.get("metadataEntries") or []:
                if entry["label"] == "pid" and psutil.pid_exists(int(entry["text"])):
                    return psutil.Process(int(entry["text"]))
        return None

    def _quick_settings(self) -> tuple[str, str]:
        """Write a workspace of the definitions with quick sensors, and dagster.yaml with shorter waits."""
        workspace, instance = self.home.parent / "workspace.yaml", self.home.parent / "dagster.yaml"
        definitions = Path(__file__).with_name("quick_definitions.py")
        location = {"relative_path": str(definitions), "attribute": "defs", "location_name": "mangaassist"}
        workspace.write_text(json.dumps({"load_from": [{"python_file": location}]}))
        settings = (ROOT / "dagster.yaml").read_text()
        for waits in ("poll_interval_seconds", "free_slots_after_run_end_seconds"):
            assert f"{waits}: 30" in settings
            settings = settings.replace(f"{waits}: 30", f"{waits}: 5")
        instance.write_text(settings)
        return str(workspace), str(instance)

    def _standing(self) -> str:
        return "; ".join(f"{run.job} {run.bundle or ''} {run.status}" for run in self.runs()) or "no runs"


@pytest.fixture(scope="session")
def bootstrapped_dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterDev]:
    """A bootstrapped home that `mangaassist dev` can be started on; one a session."""
    start = bootstrapped_home(tmp_path_factory, "dev")
    dev = DagsterDev(home=start.home, store=start.store)
    yield dev
    dev.stop()


@pytest.fixture
def dagster_dev(bootstrapped_dev: DagsterDev) -> DagsterDev:
    """`mangaassist dev`, running; whoever used it last in a file may stop it, the next one starts it again."""
    bootstrapped_dev.start()
    return bootstrapped_dev


def job_command(dev: DagsterDev, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Dagster's own command line on the home, as the README says."""
    return subprocess.run(
        [sys.executable, "-m", "dagster", *arguments, "--workspace", str(ROOT / "workspace.yaml")],
        env={**os.environ, **dev.environment()},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
