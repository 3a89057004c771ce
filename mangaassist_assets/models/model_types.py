"""What one kind of model is: how it is trained, loaded, asked, and judged. All else of its model pipeline is shared.

The platform registers, gates, deploys, serves and watches any `ModelType` alike. A new kind of model is one class of
this form and one dataset asset: the rest of its model pipeline is made from them. A package brings its class by an
entry point of the group `mangaassist_assets.model_types`, named like the kind. So an endpoint's process, which is
handed nothing but a folder, finds it too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from mangaassist_assets.core.arrays import Flags
from mangaassist_assets.core.text_keys import language_of, length_slice
from mangaassist_assets.evaluation.results import ModelResults
from mangaassist_assets.training.checkpoints import Checkpoints
from mangaassist_assets.training.objective import ProgressCallback, ignore_progress

if TYPE_CHECKING:
    import polars as pl

    from mangaassist_assets.datasets.sources.golden_file import GoldenMessage
    from mangaassist_assets.training.objective import EpochRecord

ExampleT = TypeVar("ExampleT")
AskedT_contra = TypeVar("AskedT_contra", contravariant=True)

ENTRY_POINT_GROUP = "mangaassist_assets.model_types"
DEFAULT_TOP_K = 5
MAX_TEXT_CHARACTERS = 200_000

_OWN = {
    "intent_classifier": "mangaassist_assets.models.intent.model_type:IntentModelType",
    "reranker": "mangaassist_assets.models.reranker.model_type:RerankerModelType",
}


class UnknownModelTypeError(LookupError):
    """No class knows this kind of artifact; the message names those that are known."""


class InputError(ValueError):
    """A request's input or parameter is of the wrong type or out of range; the message names it."""


class ServableModel(Protocol):
    """A loaded model, for one thread at a time."""

    @property
    def digest(self) -> str:
        """The artifact's digest, verified when it was loaded."""

    def answer(self, inputs: Sequence[Any], parameters: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        """Answer the inputs of a request with lists of JSON values as long as `inputs`, `predictions` among them.

        Raises:
            InputError: An input or a parameter cannot be used.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest(Generic[ExampleT]):
    """What a model type is asked to train.

    `validation` chooses epoch, start, temperature and thresholds; it may be empty. `output` is an empty folder for the
    artifact, `champion` the artifact of the present champion, which training may start from, `checkpoints` where a
    killed training goes on from, `corpus` texts of the store's knowledge, for model types that want word frequencies.
    A model type with folds is given no champion: that has learned from tests.
    """

    train: Sequence[ExampleT]
    validation: Sequence[ExampleT]
    output: Path
    champion: Path | None = None
    checkpoints: Checkpoints | None = None
    corpus: Sequence[str] = ()
    progress: ProgressCallback = ignore_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedArtifact:
    """What training left: a sealed artifact, and what is worth recording about it.

    Attributes:
        directory: The artifact.
        digest: Of the artifact.
        metrics: Figures of the whole training, under MLflow's names.
        history: Its epochs.
        kept: Which candidate is in the artifact: `frozen_head`, `fine_tuned`, `start` …
        started_from: The base model's name, or the champion's digest.
        charts: PNG files by name, for MLflow and the page.
        tables: Rows by name, for MLflow and the page.
        limits: What the model is known not to do well, a sentence each, for its card.
    """

    directory: Path
    digest: str
    metrics: Mapping[str, float]
    history: tuple[EpochRecord, ...] = ()
    kept: str = ""
    started_from: str = ""
    charts: Mapping[str, bytes] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, str | int | float]]] = field(default_factory=dict)
    limits: tuple[str, ...] = ()


class FoldLearner(Protocol[AskedT_contra]):
    """Trains models of folds, one after the other, and lets each answer what it has not seen."""

    def answers(
        self,
        learned: Collection[str],
        asked: Sequence[AskedT_contra],
        *,
        version: str,
        checkpoints: Checkpoints,
        progress: ProgressCallback,
    ) -> ModelResults:
        """Learn from some of the examples, named by their ids, and answer others.

        With several workers all call it with the same arguments and get the same results.
        """


class ModelType(ABC, Generic[ExampleT]):
    """One kind of model. Methods do no I/O but on the folders they are given.

    Attributes:
        kind: What `artifact.json` says; lower case and underscores.
        metric: What the gate decides on, the mean of `ModelResults.outcomes`.
        binary: Whether outcomes are 0 or 1.
        reads_knowledge: Whether training wants the texts of the store's knowledge.
        folds: By how many folds labels of traffic are tested, each by a model that has not seen it. Such a type has a
            `fold_learner`, its examples an `example_id`, and its dataset no traffic on the test side. 0 for a type
            whose tests are the dataset's test side.
        request_forms: Forms of request that its models take, by the names in `serving.request_forms`.
        text_fields: Members of an answer, besides `predictions`, that are a single value where one text was asked
            instead of a list of them.
    """

    kind: ClassVar[str]
    metric: ClassVar[str]
    binary: ClassVar[bool]
    reads_knowledge: ClassVar[bool] = False
    folds: ClassVar[int] = 0
    request_forms: ClassVar[tuple[str, ...]] = ("text", "inputs")
    text_fields: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return all that decides the weights besides examples, champion and corpus: JSON values."""

    @abstractmethod
    def examples(self, frame: pl.DataFrame, side: str) -> list[ExampleT]:
        """Return one side (`train`, `validation`, `test`) of the model type's dataset frame, by example id."""

    @abstractmethod
    def train(self, request: TrainingRequest[ExampleT]) -> TrainedArtifact:
        """Train and write a sealed artifact."""

    @abstractmethod
    def load(self, directory: Path, expected_digest: str | None = None) -> ServableModel:
        """Verify and load an artifact.

        Raises:
            ArtifactMismatchError: It is damaged, of another kind, or not the expected one.
        """

    @abstractmethod
    def evaluate(self, model: Any, examples: Sequence[ExampleT], *, version: str) -> ModelResults:  # noqa: ANN401
        """Let a model that `load` returned answer held-out examples, and say how well it did, example by example."""

    def fold_learner(self, examples: Sequence[ExampleT], recipe: Mapping[str, Any]) -> FoldLearner[ExampleT]:
        """Return what trains models of folds as a registered one was trained, without choosing anything again.

        `examples` are all that teach or test; `recipe` is what the registered artifact says of itself.
        """
        raise NotImplementedError(f"models of kind {self.kind!r} are not tested by folds")

    def golden_examples(self, messages: Sequence[GoldenMessage]) -> list[ExampleT]:
        """Return what models of this type can be asked of the golden set."""
        del messages
        return []

    @abstractmethod
    def request_input(self, example: ExampleT) -> Any:  # noqa: ANN401 - a JSON value of the model type's own form
        """Return the input of a request that asks about an example, for timing; a list where it takes several."""

    def slices(self, examples: Sequence[ExampleT]) -> Mapping[str, tuple[str, ...]]:
        """Return by dimension the slice that each example belongs to; an empty name for none."""
        del examples
        return {}

    def unknown_to(self, model: Any, examples: Sequence[ExampleT]) -> Flags | None:  # noqa: ANN401
        """Return which examples have an answer that a model never learned; None where that cannot be."""
        del model, examples
        return None

    def report(self, model: Any, examples: Sequence[ExampleT]) -> Mapping[str, Any]:  # noqa: ANN401
        """Return figures of one model worth keeping beside the verdict: JSON values."""
        del model, examples
        return {}


def load_model_type(kind: str, **options: Any) -> ModelType[Any]:  # noqa: ANN401 - a model type's own options
    """Return the model type of a kind, made with its options.

    Raises:
        UnknownModelTypeError: Nobody knows the kind, or what is registered is no class of models of this kind.
    """
    others = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if kind not in _OWN and kind not in others:
        known = ", ".join(sorted({*_OWN, *others}))
        raise UnknownModelTypeError(
            f"no model type is known for artifacts of kind {kind!r} (known: {known}): install the package that "
            f"brings it, with an entry point {kind!r} in the group {ENTRY_POINT_GROUP}"
        )
    found: object = resolve_name(_OWN[kind]) if kind in _OWN else others[kind].load()
    if not (isinstance(found, type) and issubclass(found, ModelType) and found.kind == kind):
        raise UnknownModelTypeError(
            f"{found!r} is registered for models of kind {kind!r}, but is no model type of that kind"
        )
    return found(**options)


def checked_text(value: object, where: str) -> str:
    """Return a text of a request; `where` names its place in it, `inputs[0]`.

    Raises:
        InputError: It is no string, or too long.
    """
    if not isinstance(value, str):
        raise InputError(f"{where} must be a string, got {type(value).__name__}")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise InputError(f"{where} has {len(value)} characters, at most {MAX_TEXT_CHARACTERS} are allowed")
    return value


def checked_top_k(parameters: Mapping[str, Any]) -> int:
    """Return how many labels a request wants.

    Raises:
        InputError: It is no whole number of at least 1.
    """
    value = parameters.get("top_k", DEFAULT_TOP_K)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError('"parameters.top_k" must be a whole number of at least 1')
    return value


def text_slices(asked: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return language and length of each text, and the tenants where any has one; of (text, tenant) pairs."""
    slices: dict[str, tuple[str, ...]] = {
        "language": tuple(language_of(text) for text, _ in asked),
        "length": tuple(length_slice(text) for text, _ in asked),
    }
    tenants = tuple(tenant for _, tenant in asked)
    return slices | {"tenant": tenants} if any(tenants) else slices
