"""A session on one home directory: services, Dagster instance, resources and runs, opened and closed together."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mangaassist_assets.local.home import Home
from mangaassist_assets.local.processes import ProcessIdentity

if TYPE_CHECKING:
    import dagster as dg

Progress = Callable[[str], None]

OWNER_TAG = "mangaassist/driver"


class CommandError(Exception):
    """What a command cannot do, said to the person who typed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """One Dagster run as the command line reports it.

    `failed_checks` are the blocking checks that stopped it, `check_reasons` what they said, a sentence each;
    `failed_assets` failed for any other reason. `left_out` says by asset why it made nothing, though nothing broke.
    """

    run_id: str
    job: str
    succeeded: bool
    failed_checks: tuple[str, ...]
    failed_assets: tuple[str, ...]
    errors: tuple[str, ...]
    check_reasons: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def stopped_by_gate(self) -> bool:
        """Whether nothing but a blocking check ended the run."""
        return not self.succeeded and bool(self.failed_checks) and not self.failed_assets


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open home: `resources` are the very objects that assets get, `environment` what child processes need."""

    home: Home
    environment: Mapping[str, str]
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    resources: Any
    progress: Progress

    def register_bundle(self, release_bundle: str) -> None:
        """Make a release bundle a partition; a known one stays."""
        from mangaassist_assets.partitions import release_bundles

        name = release_bundles.name
        if name is not None:
            self.instance.add_dynamic_partitions(name, [release_bundle])

    def run_job(
        self,
        name: str,
        *,
        partition: str | None = None,
        assets: Sequence[str] | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> RunOutcome:
        """Run a job, or some of its assets, in this process on the home's Dagster instance.

        Args:
            name: of the job.
            partition: the release bundle, for jobs that have one.
            assets: those to materialize, None for all of the job.
            config: of assets by name.
        """
        import dagster as dg

        job = self.definitions.resolve_job_def(name)
        with keeping_sigterm():
            result = job.execute_in_process(
                instance=self.instance,
                partition_key=partition,
                asset_selection=None if assets is None else [dg.AssetKey(asset) for asset in assets],
                tags={OWNER_TAG: owner_of_this_process()},
                run_config={
                    "ops": {asset: {"config": values} for asset, values in (config or {}).items()},
                    "loggers": {"console": {"config": {"log_level": "INFO"}}},
                },
                raise_on_error=False,
            )
        return _outcome(name, result)


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Leave SIGTERM as it was before a run.

    Dagster puts SIGTERM's handler to what SIGINT's is. A shell starts background jobs with SIGINT ignored: after a run
    such a process, and every one it starts, would not end by SIGTERM any more.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _outcome(job: str, result: dg.ExecuteInProcessResult) -> RunOutcome:
    from mangaassist_assets.assets.common import LEFT_OUT

    stopped = sorted(
        (one for one in result.get_asset_check_evaluations() if not one.passed and one.blocking),
        key=lambda one: (one.asset_key.to_user_string(), one.check_name),
    )
    failed_checks = tuple(f"{one.asset_key.to_user_string()}:{one.check_name}" for one in stopped)
    gated = {check.partition(":")[0] for check in failed_checks}
    observed = [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]
    failed_steps: list[str] = []
    errors: list[str] = []
    for event in result.get_step_failure_events():
        step = event.step_key or "?"
        failure = event.step_failure_data.error
        stopped_by_check = failure is not None and failure.cls_name == "DagsterAssetCheckFailedError"
        if stopped_by_check or step in gated:
            continue
        failed_steps.append(step)
        told = event.step_failure_data.user_failure_data
        if told is not None and told.description:
            errors.append(f"{step}: {told.description}")
        elif failure is not None:
            cause = failure.cause or failure
            errors.append(f"{step}: {cause.message.strip()}")
    return RunOutcome(
        run_id=result.run_id,
        job=job,
        succeeded=result.success,
        failed_checks=failed_checks,
        failed_assets=tuple(failed_steps),
        errors=tuple(errors),
        check_reasons=tuple(f"{one.check_name}: {one.description or 'no'}" for one in stopped),
        left_out={
            one.asset_key.to_user_string(): str(one.metadata[LEFT_OUT].value)
            for one in observed
            if LEFT_OUT in one.metadata
        },
    )


def dagster_yaml() -> Path:
    """Return the checkout's dagster.yaml.

    Raises:
        CommandError: the package runs outside a checkout.
    """
    path = Path(__file__).resolve().parents[2] / "dagster.yaml"
    if not path.is_file():
        msg = f"{path.name} is not beside the package: run from a checkout of the repository"
        raise CommandError(msg)
    return path


def prepare_dagster_home(home: Home) -> None:
    """Put the instance configuration into DAGSTER_HOME; a changed one replaces the older copy."""
    source, target = dagster_yaml(), home.dagster / "dagster.yaml"
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)


@contextmanager
def open_session(home_path: str, progress: Progress) -> Iterator[Session]:
    """Open a home: connect to its running services, or start them for as long as the session lasts."""
    from mangaassist_assets.local.sharing import services

    home = Home.open(home_path)
    prepare_dagster_home(home)
    # Read by mlflow and huggingface_hub when they are imported, which is before the supervisor says the rest.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HF_HUB_OFFLINE": "1"}
    # Read by torch's OpenMP: threads that wait by spinning take the cores from the servers beside this process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The servers take seconds to start, and so do the libraries this process will need: both at once.
    warming = threading.Thread(target=_import_libraries, name="imports", daemon=True)
    warming.start()
    with services(home, progress=progress) as running:
        warming.join()
        # Clients of this process (boto3, MLflow, Dagster) find the stand-ins by their own standard variables.
        os.environ.update(running.environment)
        import dagster as dg

        from mangaassist_assets.definitions import build_definitions

        definitions = build_definitions("local")
        with dg.DagsterInstance.get() as instance, dg.build_resources(dict(definitions.resources or {})) as resources:
            resources.mlflow.end_training_runs_of(end_orphaned_runs(instance))
            yield Session(
                home=home,
                environment=running.environment,
                instance=instance,
                definitions=definitions,
                resources=resources,
                progress=progress,
            )


def _import_libraries() -> None:
    for name in ("dagster", "mlflow", "torch"):
        importlib.import_module(name)


def owner_of_this_process() -> str:
    """Return what a run is tagged with: process id and start time, for the system gives an id to others again."""
    process = psutil.Process()
    return f"{process.pid}:{process.create_time()}"


def _driver(owner: str) -> ProcessIdentity:
    pid, _, created = owner.partition(":")
    return ProcessIdentity(int(pid), float(created))


def end_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose driving process is gone as failed; returns their ids.

    A command that was killed leaves its run STARTED for ever, and its pool slots taken.
    """
    import dagster as dg

    ended: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])):
        owner = run.tags.get(OWNER_TAG)
        if owner is None or _driver(owner).is_alive():
            continue
        instance.report_run_failed(run, f"the process {_driver(owner).pid} that drove this run is gone")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended
