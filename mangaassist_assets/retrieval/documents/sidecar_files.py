"""Which file describes which document: `NAME.metadata.json` beside `NAME`, in any letter case."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

_MARK, _SUFFIX = ".metadata", ".metadata.json"


@dataclass(frozen=True, slots=True)
class SidecarFiles:
    """The documents with their sidecars (None: none), and what is rejected and why: documents, and sidecars of none."""

    documents: Mapping[str, str | None]
    rejected: Mapping[str, str]


def is_sidecar(name: str) -> bool:
    """Return whether a file is called as metadata of another."""
    return name[-len(_SUFFIX) :].lower() == _SUFFIX


def pair_sidecars(names: Collection[str]) -> SidecarFiles:
    """Find the sidecar of each file.

    A document is held back where it is not certain which sidecar is its own: two that differ in case, one that two
    documents could claim, or something that is nearly called as one (`titles.metadata.json` or
    `titles.csv.metadata.json.txt` beside `titles.csv`).

    Args:
        names: Paths of files, with `/`.
    """
    sidecars = sorted(name for name in names if is_sidecar(name))
    documents = sorted(set(names) - set(sidecars))
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for name in documents:
        by_name[_folded(name)].append(name)
    found: defaultdict[str, list[str]] = defaultdict(list)
    rejected: dict[str, str] = {}
    for sidecar in sidecars:
        described = sidecar[: -len(_SUFFIX)]
        alike = by_name.get(_folded(described), [])
        owners = [described] if described in alike else alike
        for owner in owners:
            found[owner].append(sidecar)
        if not owners:
            rejected[sidecar] = "there is no document it describes"
        elif len(owners) > 1:
            rejected |= dict.fromkeys(owners, f"held back, as {sidecar} could be of {' or of '.join(owners)}")
    for near, owners in _nearly_sidecars(documents, by_name, orphans=rejected.keys() & set(sidecars)):
        rejected.setdefault(near, f"it is called like metadata of {owners[0]}: name it {owners[0]}{_SUFFIX}")
        for name in owners:
            if name not in found:
                rejected[name] = f"held back, as {near} may be meant for it: name that {name}{_SUFFIX}"
    rejected |= {
        name: f"held back, as it has {len(several)} sidecars: {', '.join(several)}; keep one"
        for name, several in found.items()
        if len(several) > 1
    }
    return SidecarFiles(
        documents={name: next(iter(found.get(name, ())), None) for name in documents if name not in rejected},
        rejected=dict(sorted(rejected.items())),
    )


def _nearly_sidecars(
    documents: Sequence[str], by_name: Mapping[str, list[str]], *, orphans: Collection[str]
) -> Iterator[tuple[str, list[str]]]:
    """Yield files that may be meant as sidecars, with the documents that they may be meant for."""
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for name in documents:
        by_stem[_folded(_without_suffix(name))].append(name)
    for name in sorted(orphans):
        if owners := by_stem.get(_folded(name[: -len(_SUFFIX)])):
            yield name, owners
    for name in documents:
        described, mark, _ = _folded(name).rpartition(_MARK)
        if mark and (owners := by_name.get(described)):
            yield name, owners


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_suffix(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.rpartition('.')[0] or file}"
