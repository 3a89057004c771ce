"""Which release bundles seen in traces are new, and which can be no partition."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mangaassist_assets.core.bundles import bundle_defect


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


def _printable(key: object) -> str:
    text = key if isinstance(key, str) else repr(key)
    return ascii(text)[1:-1][:80]
