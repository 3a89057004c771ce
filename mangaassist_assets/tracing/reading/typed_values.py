"""Values that anybody wrote into a trace, as the types of the contract: what has another type says so.

Each function takes any JSON value and returns None for an empty one. A text that holds JSON is looked into where the
type wanted is none of text: exporters differ in how often they encode. No message quotes a value: it may be personal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mangaassist_assets.tracing.contract.feedback_fields import feedback_fields
from mangaassist_assets.tracing.contract.turns import Feedback
from mangaassist_assets.tracing.contract.values import content_text, decoded, mapping, message_text

T = TypeVar("T")

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST_NAME = 250
_UNPAIRED = re.compile(r"[\ud800-\udfff]")
# `bedrock/`, `bedrock/converse/`, `bedrock/us-east-1/` (LiteLLM, "AWS Bedrock").
_VENDOR = re.compile(
    r"(?:litellm(?:_proxy)?/)*(?:bedrock(?:_converse)?/)+(?:(?:converse|converse_like|invoke)/)?(?:[a-z]{2}(?:-[a-z]+)+-\d+/)?"
)
_MAXIMUM_COUNT = 2**53
_MAXIMUM_NAMES = 1_000
_DEEPEST = 4
_TEXT_KEYS = ("message", "text", "content", "answer", "query", "question", "output", "response")
_TRUE = frozenset({
    "true", "1", "yes", "hit", "blocked", "block", "intervened", "guardrail_intervened", "deny", "denied",
})  # fmt: skip
_FALSE = frozenset({
    "false", "0", "no", "miss", "none", "null", "allowed", "allow", "pass", "passed", "ok", "not_blocked", "permit",
})  # fmt: skip
_ABSENT = frozenset({"", "none", "null"})
_ROLES = frozenset({"user", "human", "assistant", "ai", "model", "system", "developer", "tool"})
_DOCUMENT_KEYS = ("document_id", "doc_id", "doc_uri", "source")
_ID_KEYS = ("chunk_id", "id", "_id", "document_id", "doc_uri")


class WrongTypeError(ValueError):
    """A value of another type than the fact has; the message follows the place's name."""


def kind_of(value: object) -> str:
    """Return what a JSON value is, in a word."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else "none of JSON's types"


def name_of(value: object) -> str | None:
    """Return an identifier: up to 250 characters, none of control; a number counts as its digits."""
    value = decoded(value)
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    if not isinstance(value, str):
        raise WrongTypeError(f"is {kind_of(value)}, not a name")
    found = value.strip()
    if len(found) > LONGEST_NAME or CONTROL.search(found):
        raise WrongTypeError(f"is longer than {LONGEST_NAME} characters or holds control characters")
    if _UNPAIRED.search(found):
        raise WrongTypeError("holds half of a character")
    return found or None


def given_name_of(value: object) -> str | None:
    """Return an identifier, where `none` and `null` say that there is none."""
    found = name_of(value)
    return None if found is None or found.lower() in _ABSENT else found


def model_of(value: object) -> str | None:
    """Return the id of a model, without the prefixes by which LiteLLM says that it asks Bedrock for it."""
    found = given_name_of(value)
    if found is None:
        return None
    prefix = _VENDOR.match(found)
    return found if prefix is None else found[prefix.end() :] or found


def said_by(role: str) -> Callable[[object], str | None]:
    """Return what reads a text that somebody said: plain, in content blocks, or the last of their messages."""
    return lambda value: _said(value, role, 0)


def _said(value: object, role: str, depth: int) -> str | None:
    inside = decoded(value)
    if isinstance(value, str) and not isinstance(inside, Mapping | list):
        # An empty message is one, too: a shopper sent it.
        return inside if isinstance(inside, str) else value
    if value is None or depth > _DEEPEST:
        return None
    found: str | None = None
    if isinstance(inside, list | tuple):
        found = _last_message(inside, role)
        if found is None and not any(map(_is_message, inside)):
            found = next((said for one in reversed(inside) if (said := _nested(one, role, depth))), None)
        found = found or content_text(inside)
    elif isinstance(inside, Mapping):
        if inside.get("role", role) not in _names_of_role(role):
            return None
        found = next(
            (said for key in _TEXT_KEYS if key in inside and (said := _nested(inside[key], role, depth))), None
        )
        found = found or _said(inside.get("messages"), role, depth + 1)
    if found is None and isinstance(value, str):
        # A shopper may write what looks like JSON.
        return value
    if found is None and not inside:
        return None
    if found is None:
        raise WrongTypeError(f"is {kind_of(inside)} without a text that the {role} said")
    return found


def _nested(value: object, role: str, depth: int) -> str | None:
    try:
        return _said(value, role, depth + 1)
    except WrongTypeError:
        return None


def _names_of_role(role: str) -> tuple[str, ...]:
    return ("user", "human") if role == "user" else ("assistant", "ai", "model")


def _last_message(messages: list[object] | tuple[object, ...], role: str) -> str | None:
    """Return the text of the last message of a role; LangChain calls it `type`, users `human`, and takes pairs.

    What was said before the last message of the user answers an earlier one.
    """
    said = [one for message in messages if (one := _as_message(message)) is not None]
    if role == "assistant":
        asked = [place for place, one in enumerate(said) if message_text([one], "user") is not None]
        said = said[asked[-1] :] if asked else said
    return message_text(said, role)


def _is_message(value: object) -> bool:
    if isinstance(value, list | tuple):
        return len(value) == 2 and isinstance(value[0], str) and value[0].lower() in _ROLES
    return isinstance(value, Mapping) and ("role" in value or "type" in value)


def _as_message(message: object) -> Mapping[str, object] | None:
    if isinstance(message, list | tuple) and _is_message(message):
        message = {"role": message[0], "content": message[1]}
    if not isinstance(message, Mapping):
        return None
    called = str(message.get("role", message.get("type"))).lower()
    roles = (role for role in ("user", "assistant") if called in _names_of_role(role))
    return next(({**message, "role": role} for role in roles), None)


def number_of(value: object) -> float | None:
    """Return a finite number, also where it came as text."""
    value = _scalar(value)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= 40 else value
        except ValueError:
            raise WrongTypeError("is text, not a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongTypeError(f"is {kind_of(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:
        raise WrongTypeError("is not a finite number") from None
    if not math.isfinite(found):
        raise WrongTypeError("is not a finite number")
    return found


def share_of(value: object) -> float | None:
    """Return a number from 0 to 1."""
    found = number_of(value)
    if found is not None and not 0.0 <= found <= 1.0:
        raise WrongTypeError("is not between 0 and 1")
    return found


def cost_of(value: object) -> float | None:
    """Return an amount in USD, 0 or more."""
    found = number_of(value)
    if found is not None and found < 0:
        raise WrongTypeError("is below zero")
    return found


def count_of(value: object) -> int | None:
    """Return a number of things."""
    found = number_of(value)
    if found is None:
        return None
    if found < 0 or found != int(found) or found > _MAXIMUM_COUNT:
        raise WrongTypeError("is not a count")
    return int(found)


def boolean_of(value: object) -> bool | None:
    """Return true or false, also in the words that tools use for them (`"True"`, `hit`, `INTERVENED`)."""
    value = _scalar(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower().replace("-", "_").replace(" ", "_")
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise WrongTypeError("is text that says neither true nor false")
    raise WrongTypeError(f"is {kind_of(value)}, neither true nor false")


def _scalar(value: object) -> object:
    value = decoded(value)
    return None if isinstance(value, str) and not value.strip() else value


def names_of(value: object) -> tuple[str, ...] | None:
    """Return a list of identifiers, each once in its order.

    An entry is a name or an object with an id (`chunk_id`, `id`, or such of its `metadata`, as MLflow's documents are).
    """
    value = decoded(value)
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        found = name_of(value)
        return () if found is None else (found,)
    if not isinstance(value, list | tuple):
        raise WrongTypeError(f"is {kind_of(value)}, not a list of names")
    if len(value) > _MAXIMUM_NAMES:
        raise WrongTypeError(f"is a list of more than {_MAXIMUM_NAMES}")
    names = [name_of(_identifier(entry)) for entry in value]
    if None in names:
        raise WrongTypeError("is a list with entries that are no names")
    return tuple(dict.fromkeys(name for name in names if name is not None))


Described = tuple[tuple[str | None, float | None], ...]


def documents_of(*score_keys: str) -> Callable[[object], Described | None]:
    """Return what reads document and score of each entry of a list of chunks, in the entry or in its `metadata`.

    LangChain's and MLflow's documents are such entries. It returns None where the value is no list of objects.
    """

    def read(value: object) -> Described | None:
        value = decoded(value)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Mapping) for one in value):
            return None
        return tuple(
            (_first_value(one, _DOCUMENT_KEYS, name_of), _first_value(one, score_keys, number_of)) for one in value
        )

    return read


def _first_value(entry: Mapping[str, object], keys: Sequence[str], convert: Callable[[object], T | None]) -> T | None:
    for place in (entry, mapping(entry.get("metadata"))):
        for key in keys:
            try:
                found = convert(place.get(key))
            except WrongTypeError:
                continue
            if found is not None:
                return found
    return None


def list_of_names(value: object) -> tuple[str, ...] | None:
    """Return a list of identifiers as `names_of`, but never a lone name for a list."""
    if not isinstance(decoded(value), list | tuple) and value is not None:
        raise WrongTypeError(f"is {kind_of(decoded(value))}, not a list of names")
    return names_of(value)


def _identifier(entry: object) -> object:
    if not isinstance(entry, Mapping):
        return entry
    metadata = entry.get("metadata")
    places = (entry, metadata) if isinstance(metadata, Mapping) else (entry,)
    return next((place[key] for place in places for key in _ID_KEYS if place.get(key) not in (None, "")), None)


def numbers_of(value: object) -> tuple[float, ...] | None:
    """Return a list of finite numbers, None for an empty one."""
    value = decoded(value)
    if value is None or value in ([], ()):
        return None
    if not isinstance(value, list | tuple) or len(value) > _MAXIMUM_NAMES:
        raise WrongTypeError(f"is {kind_of(value)}, not a list of numbers")
    found = [number_of(one) for one in value]
    if None in found:
        raise WrongTypeError("is a list with entries that are no numbers")
    return tuple(one for one in found if one is not None)


def feedback_of(value: object) -> Feedback | None:
    """Return a thumb, in the words of `feedback_fields.toml`, by which events are read, too."""
    value = _scalar(value)
    if value is None:
        return None
    found = feedback_fields().thumb(value)
    if found is None:
        raise WrongTypeError("is neither thumbs_up nor thumbs_down")
    return found
