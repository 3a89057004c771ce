"""What all configuration documents share: fields that grow, strict JSON, and problems with their place."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from mangaassist_assets.core.errors import OperatorError

_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a document, and where: `experiments.depth.arms.deep.share`; empty is the document itself."""

    field: str
    reason: str

    def __str__(self) -> str:
        """Return place and reason as one phrase."""
        return f"{self.field or 'document'}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownField:
    """A field that this platform does not know, and the known one of its place that it resembles, if any."""

    field: str
    resembles: str | None


class ConfigurationDocumentError(OperatorError, ValueError):
    """A configuration document that the chatbot could not run with; never repeats values of the document."""

    def __init__(self, profile: str, problems: Iterable[Problem]) -> None:
        self.profile = profile
        self.problems = tuple(problems)
        super().__init__(f"the {profile} document is not valid: {'; '.join(map(str, self.problems))}")


class GrowingModel(BaseModel):
    """A part of a document: what is known is strictly typed, what is unknown is kept."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


def unknown_fields(part: object, *, place: str = "") -> tuple[UnknownField, ...]:
    """Return the fields of a document that its models do not know, by their dotted paths."""
    return tuple(sorted(_unknown(part, place), key=lambda one: one.field))


def _unknown(part: object, place: str) -> Iterator[UnknownField]:
    if isinstance(part, Mapping):
        for name, value in part.items():
            yield from _unknown(value, f"{place}{name}.")
    elif isinstance(part, BaseModel):
        known = list(type(part).model_fields)
        for name in part.model_extra or {}:
            near = difflib.get_close_matches(name[:_LONGEST_PATH], known, n=1, cutoff=0.8)
            yield UnknownField(field=f"{place}{name}"[:_LONGEST_PATH], resembles=near[0] if near else None)
        for name in known:
            yield from _unknown(getattr(part, name), f"{place}{name}.")


def problems_of(invalid: ValidationError) -> tuple[Problem, ...]:
    """Return the problems that pydantic found, without the values it found them in."""
    return tuple(
        Problem(
            field=".".join(str(part) for part in error["loc"])[:_LONGEST_PATH],
            reason=error["msg"].removeprefix("Value error, "),
        )
        for error in invalid.errors(include_url=False, include_input=False)
    )


def checked_json(content: bytes | str) -> str:
    """Return a document's text, which is a JSON object of RFC 8259 that names every key once.

    Python and pydantic both read more than that: NaN, and the last of two equal keys.

    Raises:
        ValueError: It is not; says why.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8: byte {error.start} of {len(content)}") from None
    if not text.strip():
        raise ValueError("is empty")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"is JSON of type {type(value).__name__}, not an object")  # noqa: TRY004 - content is wrong here, not a call
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"is not JSON: {name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds the number {text[:20]}, which is too large")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names {twice[:_LONGEST_PATH]!r} twice in one object")
    return found
