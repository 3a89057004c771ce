"""Which stored versions of a dataset come before another: those that it must not leak into."""

from __future__ import annotations

from mangaassist_assets.core.bundles import bundles_until
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.guards.holdout_history import EarlierVersion
from mangaassist_assets.datasets.versions.versions import CARD_FILE, EXAMPLES_FILE, from_parquet


def earlier_versions(
    store: SnapshotStore, asset: str, release_bundle: str, *, as_of_ms: int | None
) -> list[EarlierVersion]:
    """Return the versions of a dataset, of this bundle and those before, as of the same time or an earlier one.

    What was stored when does not count: a past bundle that is built again must come out as it did, whatever newer
    bundles were built in between. Older snapshots that are no longer the latest of their bundle count, for a model may
    have been judged by them; the version itself is among them once it is stored, which changes nothing.
    """
    bundles = set(bundles_until(store, release_bundle))
    found: dict[str, EarlierVersion] = {}
    for snapshot in store.history(asset):
        if snapshot.partition not in bundles or not {CARD_FILE, EXAMPLES_FILE} <= snapshot.files.keys():
            continue
        card = store.read_json(snapshot, CARD_FILE)
        known_ms = card.get("as_of_ms")
        if as_of_ms is None or known_ms is None or known_ms <= as_of_ms:
            name = f"{snapshot.partition} {card['digest'][:12]}"
            if name not in found:
                rows = from_parquet(store.read(snapshot, EXAMPLES_FILE), expected_digest=card["digest"])
                found[name] = EarlierVersion(name=name, frame=rows)
    return [found[name] for name in sorted(found)]
