"""Which class knows a kind of artifact: the platform's own, and those that other packages bring.

A package brings its own by an entry point of the group `mangaassist_assets.model_types`, named like the kind and
pointing at the class. So an endpoint's process, which is handed nothing but a folder, finds it too.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from mangaassist_assets.models.model_types import ModelType

ENTRY_POINT_GROUP = "mangaassist_assets.model_types"

_OWN = {
    "intent_classifier": "mangaassist_assets.models.intent.model_type:IntentModelType",
    "reranker": "mangaassist_assets.models.reranker.model_type:RerankerModelType",
}


class UnknownModelTypeError(LookupError):
    """No class knows this kind of artifact; the message names those that are known."""


def load_model_type(kind: str, **options: Any) -> ModelType[Any]:  # noqa: ANN401 - a model type's own options
    """Return the model type of a kind, made with its options.

    Raises:
        UnknownModelTypeError: Nobody knows the kind, or the class says another one of itself.
    """
    found = _class_of(kind)
    if not (isinstance(found, type) and issubclass(found, ModelType) and found.kind == kind):
        raise UnknownModelTypeError(
            f"{found!r} is registered for models of kind {kind!r}, but is no model type of that kind"
        )
    return found(**options)


def _class_of(kind: str) -> object:
    if kind in _OWN:
        module, _, name = _OWN[kind].partition(":")
        return getattr(import_module(module), name)
    others = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if kind not in others:
        known = ", ".join(sorted({*_OWN, *others}))
        raise UnknownModelTypeError(
            f"no model type is known for artifacts of kind {kind!r} (known: {known}): install the package that "
            f"brings it, with an entry point {kind!r} in the group {ENTRY_POINT_GROUP}"
        )
    return others[kind].load()
