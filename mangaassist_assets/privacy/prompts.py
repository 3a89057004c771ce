"""What a trace may keep of prompts and JSON values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mangaassist_assets.privacy.conversation import placeholder
from mangaassist_assets.privacy.detections import Kind
from mangaassist_assets.privacy.profile_text import is_profile_key, is_redacted_profile
from mangaassist_assets.privacy.redaction import redact
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
    """Return a JSON value with every string in it redacted; keys stay as they are.

    What a key calls a profile of a customer (`is_profile_key`) becomes one placeholder, whatever it is made of.
    """
    if isinstance(value, str):
        return redact(value, conversation=conversation, vocabulary=vocabulary).text
    if isinstance(value, Mapping):
        return {
            key: placeholder(Kind.PROFILE, str(item), conversation)
            if item and is_profile_key(str(key)) and not is_redacted_profile(item)
            else redact_json(item, conversation=conversation, vocabulary=vocabulary)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_json(item, conversation=conversation, vocabulary=vocabulary) for item in value]
    return value
