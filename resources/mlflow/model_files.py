"""A trained artifact as a model that MLflow knows: signature, input example, environment, and a loader that checks it.

The model is MLflow 3's own entity (`LoggedModel`), so that MLflow's pages link run, model and versions and show the
metrics of each model. Its folder is what MLflow's writer makes, without pickle and without code, with the sealed
artifact beside it, unchanged:

    MLmodel  requirements.txt  python_env.yaml  conda.yaml  input_example.json  serving_input_example.json
    README.md  request.schema.json  response.schema.json
    artifact/artifact.json  artifact/model.onnx  artifact/model.safetensors  …

The fluent `mlflow.pyfunc.log_model` would make a run of the process current and infer requirements by loading the
model; the calls here name their run.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mangaassist_assets.models.artifacts import ArtifactMismatchError, verify_artifact
from resources.mlflow.registry import ARTIFACT_TAG
from resources.mlflow.rest import all_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from pandas import DataFrame  # type: ignore[import-untyped]

KIND_TAG = "artifact_kind"

# These three are `serving.mlflow_flavor`'s, which imports models: too much for storing one.
ARTIFACT_FOLDER = "artifact"
_DIGEST_OPTION = "artifact_sha256"
_LOADER = "mangaassist_assets.serving.mlflow_flavor"
_PACKAGE = "mangaassist-assets"
# What loading and predicting imports. The package itself is on no public index, so no requirement names it.
_REQUIRED = ("numpy", "onnx", "onnxruntime", "pandas", "tokenizers")
_DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedArtifact:
    """A model in MLflow, whole. `uri` is the folder with MLmodel, `digest` the sealed artifact's."""

    model_id: str
    uri: str
    digest: str
    artifact_path: str = ARTIFACT_FOLDER


def log_model(
    client: MlflowClient,
    directory: Path,
    *,
    experiment_id: str,
    run_id: str,
    kind: str,
    digest: str,
    beside: Mapping[str, bytes],
) -> LoggedArtifact:
    """Store a sealed artifact as a model of a run, or find the one that holds the same artifact already.

    A model is READY only when every file is there, and only then it is returned: what a killed process leaves is never
    registered. What was stored, but not registered before a process was killed, is found again.

    Args:
        client: Of the tracking server.
        directory: The sealed artifact.
        experiment_id: The run's.
        run_id: The open run that trained it.
        kind: Decides the signature.
        digest: Of the artifact; it is verified before anything is stored, and again by whoever loads the model.
        beside: Further files of the folder by name: the model's card, what the endpoint takes and answers.

    Raises:
        ArtifactMismatchError: The artifact is not the one that was sealed.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    verify_artifact(directory, digest)
    found = stored_model(client, experiment_id, kind=kind, digest=digest)
    if found is None:
        model = client.create_logged_model(
            experiment_id,
            name="model",
            source_run_id=run_id,
            tags={ARTIFACT_TAG: digest, KIND_TAG: kind},
            params={"artifact_kind": kind},
            model_type=kind,
        )
        try:
            _upload(client, model, directory, kind=kind, digest=digest, beside=beside)
        except BaseException:
            _give_up(client, model)
            raise
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        found = LoggedArtifact(model_id=model.model_id, uri=model.artifact_location, digest=digest)
    outputs = client.get_run(run_id).outputs
    # MLflow refuses to note down the same output twice.
    if outputs is None or found.model_id not in {one.model_id for one in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(found.model_id, step=0)])
    return found


def stored_model(client: MlflowClient, experiment_id: str, *, kind: str, digest: str) -> LoggedArtifact | None:
    """Return the oldest whole model of an experiment with this artifact.

    Files that this machine can see are checked; what lies elsewhere was whole when it became READY.
    """
    from mlflow.entities import LoggedModelStatus

    models = all_pages(
        lambda token: client.search_logged_models(
            [experiment_id],
            filter_string=f"tags.{ARTIFACT_TAG} = '{digest}' AND tags.{KIND_TAG} = '{kind}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": True}],
            page_token=token,
        )
    )
    for model in models:
        if model.status == LoggedModelStatus.READY and _holds(model, digest):
            return LoggedArtifact(model_id=model.model_id, uri=model.artifact_location, digest=digest)
    return None


def save_model(
    folder: Path, *, kind: str, digest: str, size_bytes: int, run_id: str | None, model_id: str | None
) -> None:
    """Write what MLflow needs around an artifact into a new folder, the artifact itself not."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model as write

    model = Model(run_id=run_id, model_id=model_id, model_uuid=model_id)
    # Else it says on standard error that it looks at the example.
    logging.getLogger(write.__module__).addFilter(_is_warning)
    with _quietly():
        write(
            str(folder),
            loader_module=_LOADER,
            mlflow_model=model,
            signature=model_signature(kind),
            input_example=input_example(kind),
            model_config={_DIGEST_OPTION: digest},
            pip_requirements=_requirements(),
            # Else it copies the project files of whatever directory the process happens to be in.
            uv_project_path=str(folder.parent),
            metadata={KIND_TAG: kind, ARTIFACT_TAG: digest, "package": f"{_PACKAGE} {package_version(_PACKAGE)}"},
        )
    # The writer knows nothing of the artifact, which is most of the model.
    model.model_size_bytes = size_bytes + sum(path.stat().st_size for path in folder.iterdir())
    model.save(str(folder / "MLmodel"))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep MLflow from logging, once a model, that it looks at the input example."""
    logger = logging.getLogger("mlflow.pyfunc")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def model_signature(kind: str) -> ModelSignature:
    """Return what a model takes and answers, row by row; of another model type's a text, and its prediction as JSON."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    if kind == "reranker":
        return ModelSignature(
            inputs=Schema([ColSpec("string", "text"), ColSpec("string", "text_pair")]),
            outputs=Schema([ColSpec("double", "score")]),
        )
    if kind != "intent_classifier":
        return ModelSignature(
            inputs=Schema([ColSpec("string", "text")]), outputs=Schema([ColSpec("string", "prediction")])
        )
    best = Array(Object([Property("label", DataType.string), Property("score", DataType.double)]))
    return ModelSignature(
        inputs=Schema([ColSpec("string", "text")]),
        outputs=Schema(
            [
                ColSpec("string", "label"),
                ColSpec("double", "score"),
                ColSpec("boolean", "out_of_scope"),
                ColSpec(best, "best"),
            ]
        ),
        params=ParamSchema([ParamSpec("top_k", DataType.integer, _DEFAULT_TOP_K)]),
    )


def input_example(kind: str) -> DataFrame | tuple[DataFrame, dict[str, int]]:
    """Return an example of the input, with parameters if it takes any; invented: no shopper wrote it."""
    import pandas as pd

    if kind == "reranker":
        rows = {"text": ["Can I return a volume?"], "text_pair": ["Volumes may be returned within 30 days."]}
        return pd.DataFrame(rows)
    frame = pd.DataFrame({"text": ["Where is my order?", "返品できますか"]})
    return (frame, {"top_k": _DEFAULT_TOP_K}) if kind == "intent_classifier" else frame


def _upload(
    client: MlflowClient, model: LoggedModel, directory: Path, *, kind: str, digest: str, beside: Mapping[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        save_model(
            folder,
            kind=kind,
            digest=digest,
            size_bytes=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
            run_id=model.source_run_id,
            model_id=model.model_id,
        )
        for name, content in beside.items():
            (folder / name).write_bytes(content)
        client.log_model_artifacts(model.model_id, str(directory), ARTIFACT_FOLDER)
        client.log_model_artifacts(model.model_id, str(folder))


def _give_up(client: MlflowClient, model: LoggedModel) -> None:
    """Mark a model whose files are not all there; where the server is away too, it stays PENDING, which is as good."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.exceptions import MlflowException

    try:
        client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
    except MlflowException:
        return


def _holds(model: LoggedModel, digest: str) -> bool:
    parts = urlsplit(model.artifact_location)
    if parts.scheme not in ("", "file"):
        return True
    try:
        verify_artifact(Path(unquote(parts.path)) / ARTIFACT_FOLDER, digest)
    except ArtifactMismatchError:
        return False
    return True


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _requirements() -> list[str]:
    return [f"{name}=={package_version(name).split('+')[0]}" for name in _REQUIRED]
