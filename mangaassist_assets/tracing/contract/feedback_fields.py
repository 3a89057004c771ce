"""The names of a feedback event's parts and the words of a thumb, as data: `feedback_fields.toml`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from mangaassist_assets.tracing.contract.turns import Feedback

_SCHEMA = 1
_SEPARATORS = re.compile(r"[\s_.\-]+")
# The variation selector and the skin tones that an emoji may carry, and the colons of a shortcode.
_DECORATION = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff:\\s]+")


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
        up, down = frozenset(map(thumb_word, thumb["up"])), frozenset(map(thumb_word, thumb["down"]))
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


def word_of(fields: FeedbackFields, name: str, value: object) -> Feedback | FieldError:
    """Return the thumb that a value is, or why it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        return FieldError(f"feedback is no thumb: {name} is a JSON {type(value).__name__}")
    word = thumb_word(str(value))
    if word in fields.up:
        return "thumbs_up"
    if word in fields.down:
        return "thumbs_down"
    if word == "0":
        return FieldError(f"feedback is ambiguous: {name} is 0, which is down to some and no opinion to others")
    return FieldError(f"feedback is neither thumbs_up nor thumbs_down: {name} says something else")


def thumb_word(text: str) -> str:
    """Return a word of a thumb without its spelling; the sign of a number stays."""
    plain = _DECORATION.sub("", text).casefold()
    return plain if plain in ("-1", "+1") else _SEPARATORS.sub("", plain)
