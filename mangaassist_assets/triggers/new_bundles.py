"""Which release bundles seen in traces are new, and which can be no partition."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_BUNDLE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedBundle:
    """A key that cannot be a partition; `key` is shortened and printable."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBundles:
    """New partition keys, sorted, and rejected ones with their reasons, sorted."""

    new: tuple[str, ...]
    rejected: tuple[RejectedBundle, ...]


def find_new_bundles(known: Collection[str], seen: Iterable[str]) -> NewBundles:
    """Return what of `seen` is not among the `known` partitions."""
    existing = frozenset(known)
    new: set[str] = set()
    rejected: dict[str, str] = {}
    for key in seen:
        if key in existing:
            continue
        defect = bundle_defect(key)
        if defect is None:
            new.add(key)
        else:
            rejected[_printable(key)] = defect
    return NewBundles(
        new=tuple(sorted(new)),
        rejected=tuple(RejectedBundle(key=key, reason=reason) for key, reason in sorted(rejected.items())),
    )


def bundle_defect(key: object) -> str | None:
    """Return why a key is no release bundle, or None if it is one."""
    if not isinstance(key, str):
        return f"a release bundle is a string, not {type(key).__name__}"
    if ".." in key:
        return "a release bundle has no '..'"
    if _BUNDLE.fullmatch(key) is None:
        return "a release bundle has 1 to 63 letters, digits, '.', '_' or '-' and begins with a letter or digit"
    return None


def _printable(key: object) -> str:
    text = key if isinstance(key, str) else repr(key)
    return ascii(text)[1:-1][:80]
