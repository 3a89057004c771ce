"""Whom a trace is of: everybody that it names as its user, whichever tool wrote it and wherever it says so.

A turn has one user, the first that the mapping finds. Erasing takes no chance: all places of the mapping count, what
adapters met, and every field that is called like an id of a user (LiteLLM's `user` and `end_user`, `enduser.id`, …).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from mangaassist_assets.privacy import user_key
from mangaassist_assets.tracing.adapters import in_contract_shape
from mangaassist_assets.tracing.contract.records import TraceRecord
from mangaassist_assets.tracing.contract.values import decoded
from mangaassist_assets.tracing.importing.scrubbing import USER_NAMES
from mangaassist_assets.tracing.reading.mapping import TraceMapping, read_mapping
from mangaassist_assets.tracing.reading.trace_view import TraceView

_DEEPEST = 8


def people_of(
    trace: TraceRecord, *, pseudonym_key: bytes | None = None, mapping: TraceMapping | None = None
) -> frozenset[str]:
    """Return the pseudonyms of all users that a trace names.

    Args:
        trace: The trace.
        pseudonym_key: The installation's secret; without it plain ids are nobody.
        mapping: Where the facts of a turn are found, by default the packaged mapping.
    """
    where = mapping or read_mapping()
    converted = in_contract_shape(trace)
    view = TraceView(converted.trace, where, converted.made)
    named: list[object] = [trace.user_key, *converted.users]
    for place in where.places["turn"].get("user_id", ()):
        named += view.at(place)
    named += _named({**trace.tags, **trace.metadata})
    for span in trace.spans:
        named += [*_named(span.attributes), *_named(span.inputs)]
    plain = {str(one).strip() for one in named if isinstance(one, str | int) and not isinstance(one, bool)}
    return frozenset(found for one in plain if (found := _pseudonym(one, pseudonym_key)) is not None)


@lru_cache(maxsize=65_536)
def _pseudonym(user: str, key: bytes | None) -> str | None:
    return user_key(user, key)


def _named(value: object, depth: int = 0) -> Iterator[object]:
    """Yield what fields that are called like an id of a user hold, JSON in texts included."""
    if depth > _DEEPEST:
        return
    plain = decoded(value)
    if isinstance(plain, Mapping):
        for key, one in plain.items():
            if str(key).lower() in USER_NAMES:
                yield one
            yield from _named(one, depth + 1)
    elif isinstance(plain, list | tuple):
        for one in plain:
            yield from _named(one, depth + 1)
