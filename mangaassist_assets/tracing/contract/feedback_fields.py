"""Where in a feedback event things stand: names and spellings as data (`feedback_fields.toml`), and looking them up."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mangaassist_assets.tracing.contract.turns import Feedback

_SCHEMA = 1
_SEPARATORS = re.compile(r"[\s_.\-]+")
# The variation selector and the skin tones that an emoji may carry, and the colons of a shortcode.
_DECORATION = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff:\\s]+")
_NOTHING = frozenset({"", "null", "none", "undefined", "nil"})
_DEPTH = 3


class FieldError(ValueError):
    """A part of an event that cannot be read; the message names the part and never says its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackFields:
    """Names by part, in one spelling each; `up` and `down` are the words of a thumb, without their spelling."""

    envelopes: tuple[str, ...]
    fields: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...]
    true_is_up: tuple[str, ...]
    true_is_down: tuple[str, ...]
    up: frozenset[str]
    down: frozenset[str]

    def thumb(self, value: object) -> Feedback | None:
        """Return the thumb that a value of a tag or an assessment is, None if it is none."""
        said = word_of(self, "user_feedback", value)
        return None if isinstance(said, FieldError) else said

    @staticmethod
    def parse(text: str) -> FeedbackFields:
        """Read the table.

        Raises:
            ValueError: It is of another schema, lacks a part, or has a word for both thumbs.
        """
        table = tomllib.loads(text)
        if table.get("schema") != _SCHEMA:
            raise ValueError(f"the table of feedback fields has schema {table.get('schema')!r}, not {_SCHEMA}")
        thumb = table["thumb"]
        up, down = frozenset(map(_word, thumb["up"])), frozenset(map(_word, thumb["down"]))
        if up & down:
            raise ValueError(f"the table of feedback fields has words for both thumbs: {', '.join(sorted(up & down))}")
        return FeedbackFields(
            envelopes=tuple(table["envelopes"]),
            fields={part: tuple(names) for part, names in table["fields"].items()},
            words=tuple(thumb["words"]),
            true_is_up=tuple(thumb["true_is_up"]),
            true_is_down=tuple(thumb["true_is_down"]),
            up=up,
            down=down,
        )


@cache
def feedback_fields() -> FeedbackFields:
    """Return the table that comes with the package."""
    return FeedbackFields.parse((resources.files(__package__) / "feedback_fields.toml").read_text("utf-8"))


class EventParts:
    """One event, its envelopes opened, asked part by part."""

    def __init__(self, event: Mapping[str, object], fields: FeedbackFields) -> None:
        self._fields = fields
        self._levels = [_Level(one) for one in _levels(event, fields.envelopes, _DEPTH)]

    def values(self, part: str) -> Iterator[object]:
        """Yield what stands under the names of a part, in their order; of an object its `id`.

        Raises:
            FieldError: One name is there in two spellings that differ.
        """
        for level in self._levels:
            for name in self._fields.fields[part]:
                value = level.value(name)
                if isinstance(value, Mapping):
                    value = value.get("id")
                if not _is_nothing(value):
                    yield value

    def thumb(self) -> Feedback:
        """Return the thumb.

        Raises:
            FieldError: There is none, a word is no thumb, or two of them contradict each other.
        """
        for level in self._levels:
            said = [one for one in self._thumbs(level) if one is not None]
            if said:
                if isinstance(said[0], FieldError):
                    raise said[0]
                thumbs = {one for one in said if not isinstance(one, FieldError)}
                if len(thumbs) > 1:
                    raise FieldError("feedback is ambiguous: the event says both thumbs up and thumbs down")
                return said[0]
        raise FieldError("feedback is missing: the event has no thumb")

    def _thumbs(self, level: _Level) -> Iterator[Feedback | FieldError | None]:
        for name in self._fields.words:
            value = level.value(name)
            if not isinstance(value, Mapping) and not _is_nothing(value):
                yield word_of(self._fields, name, value)
        for names, truth in ((self._fields.true_is_up, True), (self._fields.true_is_down, False)):
            for name in names:
                value = level.value(name)
                if not _is_nothing(value):
                    yield _of_truth(name, value, truth)


class _Level:
    """The names of one object of an event, folded."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self._values: dict[str, list[object]] = {}
        for key, value in content.items():
            self._values.setdefault(_folded(key), []).append(value)

    def value(self, name: str) -> object:
        found = [one for one in self._values.get(_folded(name), ()) if not _is_nothing(one)]
        if any(one != found[0] or type(one) is not type(found[0]) for one in found[1:]):
            raise FieldError(f"{name} is ambiguous: it is there in two spellings that say different things")
        return found[0] if found else None


def _levels(content: Mapping[str, object], envelopes: Sequence[str], depth: int) -> Iterator[Mapping[str, object]]:
    """Yield an object and the objects in its envelopes, the outer ones first."""
    yield content
    if depth == 0:
        return
    folded: dict[str, Mapping[str, object]] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            folded.setdefault(_folded(key), value)
    for name in map(_folded, envelopes):
        if name in folded:
            yield from _levels(folded[name], envelopes, depth - 1)


def word_of(fields: FeedbackFields, name: str, value: object) -> Feedback | FieldError:
    """Return the thumb that a value is, or why it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        return FieldError(f"feedback is no thumb: {name} is a JSON {type(value).__name__}")
    word = _word(str(value))
    if word in fields.up:
        return "thumbs_up"
    if word in fields.down:
        return "thumbs_down"
    if word == "0":
        return FieldError(f"feedback is ambiguous: {name} is 0, which is down to some and no opinion to others")
    return FieldError(f"feedback is neither thumbs_up nor thumbs_down: {name} says something else")


def _of_truth(name: str, value: object, truth_is_up: bool) -> Feedback | FieldError:  # noqa: FBT001 - of two tables
    said = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(_word(str(value)))
    if said is None:
        return FieldError(f"feedback is no thumb: {name} is neither true nor false")
    return "thumbs_up" if said is truth_is_up else "thumbs_down"


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in _NOTHING)


def _folded(name: str) -> str:
    """Return a name without its spelling: `traceId`, `Trace-ID` and `trace_id` are one."""
    return _SEPARATORS.sub("", name).lower()


def _word(text: str) -> str:
    """Return a word of a thumb without its spelling; the sign of a number stays."""
    plain = _DECORATION.sub("", text).casefold()
    return plain if plain in ("-1", "+1") else _SEPARATORS.sub("", plain)
