"""What a trace may keep of prompts and JSON values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mangaassist_assets.privacy.conversation import placeholder
from mangaassist_assets.privacy.field_names import field_kind
from mangaassist_assets.privacy.folding import PLACEHOLDER
from mangaassist_assets.privacy.redaction import redact, redact_number
from mangaassist_assets.privacy.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRecord:
    """What a trace keeps of a prompt: its hash and length always, the text only up to the limit.

    `text` is the whole redacted prompt, or None where it was over the limit; `preview` is its beginning.
    """

    sha256: str
    characters: int
    preview: str
    text: str | None


def prompt_record(
    text: str,
    limit: int,
    *,
    preview: int = 200,
    conversation: bytes | None = None,
    vocabulary: Vocabulary | None = None,
) -> PromptRecord:
    """Return what a trace may keep of a prompt, redacted; one of more characters than `limit` keeps no text."""
    redacted = redact(text, conversation=conversation, vocabulary=vocabulary).text
    return PromptRecord(
        sha256=hashlib.sha256(redacted.encode("utf-8", "surrogatepass")).hexdigest(),
        characters=len(redacted),
        preview=redacted[:preview],
        text=redacted if len(redacted) <= limit else None,
    )


def redact_json(value: object, *, conversation: bytes | None = None, vocabulary: Vocabulary | None = None) -> object:
    """Return a JSON value with every string and number in it redacted; keys stay as they are.

    What the name of a field calls personal or a secret (`field_kind`) becomes one placeholder, whatever it is made of.
    """
    return _redact_json(
        value, lambda text: redact(text, conversation=conversation, vocabulary=vocabulary).text, conversation
    )


def clear_named_fields(value: object) -> object:
    """Return a JSON value without what the names of its fields call personal or a secret; other texts stay."""
    return _redact_json(value, lambda text: text, None)


def _redact_json(value: object, text: Callable[[str], str], conversation: bytes | None) -> object:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: _field(str(key), item, text, conversation) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_json(item, text, conversation) for item in value]
    return redact_number(value) if isinstance(value, int | float) else value


def _field(name: str, value: object, text: Callable[[str], str], conversation: bytes | None) -> object:
    kind = field_kind(name)
    if kind is None or not value or isinstance(value, bool):
        return _redact_json(value, text, conversation)
    if isinstance(value, str) and PLACEHOLDER.fullmatch(value):
        return value
    return placeholder(kind, str(value), conversation)
