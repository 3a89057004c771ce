"""Which file describes which document: `NAME.metadata.json` beside `NAME`, in any letter case."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_SUFFIX = ".metadata.json"


@dataclass(frozen=True, slots=True)
class SidecarFiles:
    """The documents with their sidecars (None: none), and what is rejected and why: documents, and sidecars of none."""

    documents: Mapping[str, str | None]
    rejected: Mapping[str, str]


def pair_sidecars(names: Collection[str]) -> SidecarFiles:
    """Find the sidecar of each file.

    A document is held back where it is not certain which sidecar is its own: two that differ in case, one that two
    documents could claim, or one without the document's own suffix (`titles.metadata.json` beside `titles.csv`).

    Args:
        names: Paths of files, with `/`.
    """
    sidecars = sorted(name for name in names if name[-len(_SUFFIX) :].lower() == _SUFFIX)
    documents = sorted(set(names) - set(sidecars))
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for name in documents:
        by_name[_folded(name)].append(name)
        by_stem[_folded(_without_suffix(name))].append(name)
    found: defaultdict[str, list[str]] = defaultdict(list)
    rejected: dict[str, str] = {}
    for sidecar in sidecars:
        described = sidecar[: -len(_SUFFIX)]
        owners = [described] if described in documents else by_name[_folded(described)]
        for owner in owners:
            found[owner].append(sidecar)
        if len(owners) > 1:
            rejected |= dict.fromkeys(owners, f"held back, as {sidecar} could be of {' or of '.join(owners)}")
        if not owners:
            rejected[sidecar] = "there is no document it describes"
            for near in by_stem[_folded(described)]:
                rejected[near] = f"held back, as {sidecar} may be meant for it: name that {near}{_SUFFIX}"
    for name, candidates in found.items():
        if len(candidates) > 1:
            rejected[name] = f"held back, as it has {len(candidates)} sidecars: {', '.join(candidates)}; keep one"
    return SidecarFiles(
        documents={name: next(iter(found.get(name, ())), None) for name in documents if name not in rejected},
        rejected=dict(sorted(rejected.items())),
    )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_suffix(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.rpartition('.')[0] or file}"
