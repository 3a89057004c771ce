"""Values of a request, checked alike by every kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mangaassist_assets.models.model_types import InputError

DEFAULT_TOP_K = 5
MAX_TEXT_CHARACTERS = 200_000


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
