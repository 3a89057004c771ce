"""The parts a chatbot is put together from, as protocols and plain values.

The domain knows neither boto3 nor MLflow: an endpoint is something that takes JSON and gives JSON, a configuration
is something that hands out the current documents, a sink is where finished traces go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # Resources import this module while definitions load: numpy and pydantic models stay out of it.

    from mangaassist_assets.retrieval.types import Hit
    from mangaassist_assets.tracing.contract.records import TraceRecord


class StageError(RuntimeError):
    """A stage of the chatbot failed: the turn ends in ERROR, the chatbot goes on."""


class Endpoint(Protocol):
    """A model endpoint of the inference contract."""

    @property
    def name(self) -> str:
        """Name of the endpoint, for traces."""

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer; raises StageError where the endpoint gives none."""


class TraceSink(Protocol):
    """Where finished traces go."""

    def write(self, trace: TraceRecord) -> None:
        """Take a trace for writing; may block while too many wait, never drops one."""

    def flush(self) -> int:
        """Wait until every trace taken so far is stored, return how many; raises if one could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a generator gets. `passages` are the selected hits, best first; the texts are already filled in."""

    system: str
    user: str
    question: str
    passages: Sequence[Hit]
    model_id: str
    temperature: float
    maximum_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a generator answered; token counts as the provider tells them."""

    text: str
    model_id: str
    input_tokens: int
    output_tokens: int
    stop_reason: str
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Generator(Protocol):
    """Writes the answer."""

    def generate(self, request: GenerationRequest) -> Generation:
        """Return the answer; raises StageError where the model gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What an endpoint says it has loaded and hash-checked; `family` is its architecture, None where it says none."""

    name: str
    version: str
    sha256: str
    family: str | None = None


def served_model(answer: Mapping[str, Any], endpoint: str) -> ServedModel:
    """Read the `model` part of an endpoint's answer; raises StageError where it breaks the inference contract."""
    model = answer.get("model")
    if not isinstance(model, Mapping) or not all(
        isinstance(model.get(key), str) for key in ("name", "version", "sha256")
    ):
        raise StageError(f"endpoint {endpoint} did not say which model it served: the answer has no valid 'model'")
    family = model.get("family")
    return ServedModel(
        name=model["name"],
        version=model["version"],
        sha256=model["sha256"],
        family=family if isinstance(family, str) else None,
    )


def label_score(entry: object, endpoint: str) -> tuple[str, float]:
    """Read one `{"label", "score"}` of an answer; raises StageError where it is something else."""
    if isinstance(entry, Mapping):
        label, score = entry.get("label"), entry.get("score")
        if (
            isinstance(label, str)
            and isinstance(score, int | float)
            and not isinstance(score, bool)
            and 0 <= score <= 1
        ):
            return label, float(score)
    raise StageError(f"endpoint {endpoint} answered with something that is no label and score between 0 and 1")


def classification(answer: Mapping[str, Any], endpoint: str) -> tuple[str, float]:
    """Read intent and confidence of an answer to one message; raises StageError where they are something else."""
    return label_score({"label": answer.get("intent"), "score": answer.get("confidence")}, endpoint)


def ranked_labels(answer: Mapping[str, Any], endpoint: str) -> list[dict[str, str | float]]:
    """Return the labels of an answer to one message, the most probable first; none where it does not name them.

    Raises:
        StageError: It names them, but not in the form of the inference contract.
    """
    if "predictions" not in answer:
        return []
    ranked = predictions(answer, endpoint, count=1)[0]
    if not isinstance(ranked, list) or not ranked:
        raise StageError(f"endpoint {endpoint} answered without a label")
    return [{"label": label, "score": score} for label, score in (label_score(entry, endpoint) for entry in ranked)]


def scope_decision(answer: Mapping[str, Any], endpoint: str) -> bool | None:
    """Return whether a classifier took its one message for one of its intents; None where it does not decide that.

    Raises:
        StageError: It decides, but not in the form of the inference contract.
    """
    decided = answer.get("in_scope")
    if decided is not None and not isinstance(decided, bool):
        raise StageError(f"endpoint {endpoint} did not say with true or false whether the message was in scope")
    return decided


def predictions(answer: Mapping[str, Any], endpoint: str, *, count: int) -> list[Any]:
    """Return the `predictions` of an answer, one per input; raises StageError where the number differs."""
    found = answer.get("predictions")
    if not isinstance(found, list) or len(found) != count:
        raise StageError(f"endpoint {endpoint} did not answer with a list of {count} predictions")
    return found
