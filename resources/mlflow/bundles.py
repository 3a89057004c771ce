"""Release bundles seen in traces, by SQL on the tracking store: exact, and without reading traces."""

from __future__ import annotations

from collections.abc import Collection

from mangaassist_assets.tracing.contract.names import Tag
from resources.mlflow.traces.reader import BundleSightings
from resources.mlflow.traces.store import TrackingStore, tables


class SqlBundles:
    """The release bundles of one experiment's traces."""

    def __init__(self, store: TrackingStore, experiment_id: str) -> None:
        self._store = store
        self._experiment_id = int(experiment_id)

    def bundles_since(self, timestamp_ms: int, *, known: Collection[str] = ()) -> BundleSightings:
        """Return the bundles of traces that started after a time; with `known`, all other bundles at any time as well.

        Args:
            timestamp_ms: Milliseconds since the epoch.
            known: Bundles that are known already; any number of them.
        """
        import sqlalchemy as sa

        named = tables()
        info, tags = named["trace_info"], named["trace_tags"]
        ours = info.c.experiment_id == self._experiment_id
        recent = info.c.timestamp_ms > timestamp_ms
        sums = sa.select(sa.func.max(info.c.timestamp_ms), sa.func.count()).where(ours, recent)
        tagged = sa.and_(tags.c.request_id == info.c.request_id, tags.c.key == Tag.RELEASE_BUNDLE.value)
        bundles = sa.select(tags.c.value).distinct().join_from(info, tags, tagged).where(ours)
        with self._store.transaction() as connection:
            newest, count = connection.execute(sums).one()
            found = set(connection.execute(bundles.where(recent)).scalars())
            if known:
                found |= set(connection.execute(bundles).scalars()) - set(known)
        return BundleSightings(bundles=tuple(sorted(filter(None, found))), newest_ms=newest or 0, traces=count)
