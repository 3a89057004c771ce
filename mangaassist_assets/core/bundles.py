"""Release bundles: what one may be called, and the one order they have, by the start of their first trace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from mangaassist_assets.core.errors import OperatorError

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore

TURNS_ASSET = "tagged_traces"
TURNS_CARD_FILE = "card.json"
"""JSON beside a bundle's turns; its `first_timestamp_ms` is the start of the bundle."""
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")


class InvalidBundleError(OperatorError, ValueError):
    """A release bundle key that cannot be a partition, a path or a tag."""


def bundle_defect(key: object) -> str | None:
    """Return why a key is no release bundle, or None if it is one."""
    if not isinstance(key, str):
        return f"a release bundle is a string, not {type(key).__name__}"
    if ".." in key:
        return "a release bundle has no '..'"
    if _NAME.fullmatch(key) is None:
        return "a release bundle has 1 to 63 letters, digits, '.', '_' or '-' and begins with a letter or digit"
    return None


def validate_bundle(key: str) -> str:
    """Return the release bundle key unchanged.

    Raises:
        InvalidBundleError: It is not 1 to 63 letters, digits, dots, dashes and underscores beginning with a letter
            or digit, or it contains `..`.
    """
    if bundle_defect(key) is not None:
        shown = repr(key)[:80]
        raise InvalidBundleError(
            f"release bundle {shown} is not valid: use 1 to 63 letters, digits, '.', '-' or '_', beginning with a "
            "letter or digit, without '..' (for example 2026.03.24-rc2)"
        )
    return key


def in_order(starts: Mapping[str, int]) -> dict[str, int]:
    """Return bundles with the start of their first trace (ms since the epoch), oldest first.

    Two bundles that start in the same millisecond stand in the order of their names.
    """
    return dict(sorted(starts.items(), key=lambda item: (item[1], item[0])))


def bundles_by_start(store: SnapshotStore) -> dict[str, int]:
    """Return the bundles with stored traces and the start of their first one (ms since the epoch), oldest first."""
    starts: dict[str, int] = {}
    for bundle in store.partitions(TURNS_ASSET):
        card = json.loads(store.read(store.latest(TURNS_ASSET, partition=bundle), TURNS_CARD_FILE))
        if card["first_timestamp_ms"] is not None:
            starts[bundle] = card["first_timestamp_ms"]
    return in_order(starts)


def bundles_until(store: SnapshotStore, release_bundle: str) -> list[str]:
    """Return the bundles that began before this one and then this one, oldest first; none if it has no stored trace."""
    order = list(bundles_by_start(store))
    return order[: order.index(release_bundle) + 1] if release_bundle in order else []


def previous_bundle(store: SnapshotStore, release_bundle: str, *, having: str) -> str | None:
    """Return the newest bundle that began before this one and has a snapshot of the asset `having`."""
    earlier = bundles_until(store, release_bundle)[:-1]
    return next((bundle for bundle in reversed(earlier) if store.find(having, partition=bundle)), None)


def newest_bundle(
    bundles: Iterable[str], stored: Mapping[str, int], find_start: Callable[[str], int | None]
) -> str | None:
    """Return the bundle whose first trace started last, or None if none has a trace.

    Args:
        bundles: The bundles to choose from.
        stored: The start of bundles with stored traces (ms since the epoch).
        find_start: Asks for the start of a bundle whose traces are not stored yet; None where it has no trace.
    """
    starts: dict[str, int] = {}
    for bundle in bundles:
        start = stored[bundle] if bundle in stored else find_start(bundle)
        if start is not None:
            starts[bundle] = start
    return next(reversed(in_order(starts)), None)
