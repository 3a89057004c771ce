"""Which release bundles seen in traces are new, and which can be no partition."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from mangaassist_assets.core.bundles import bundle_defect


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBundles:
    """New partition keys, and why keys were rejected, by the key (shortened and printable); both sorted."""

    new: tuple[str, ...]
    rejected: Mapping[str, str]


def find_new_bundles(known: Collection[str], seen: Iterable[str]) -> NewBundles:
    """Return what of `seen` is not among the `known` partitions."""
    defects = {key: bundle_defect(key) for key in set(seen).difference(known)}
    rejected = {ascii(str(key))[1:-1][:80]: reason for key, reason in defects.items() if reason is not None}
    return NewBundles(
        new=tuple(sorted(key for key, reason in defects.items() if reason is None)),
        rejected=dict(sorted(rejected.items())),
    )
