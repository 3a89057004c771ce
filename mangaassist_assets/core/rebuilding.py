"""Making a stored output again from what its record names, and comparing every byte; nothing is written.

The proof that an output is what its record says: nobody edited it, and nothing that the record does not name went in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mangaassist_assets.core.declared_inputs import PinnedStore, Read, StepStore
from mangaassist_assets.core.snapshots import Snapshot, SnapshotStore, content_digest

Outcome = Literal["identical", "different", "impossible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuiltOutput:
    """What came of making an output again: how each file compares with the stored one, and why it is not identical."""

    asset: str
    partition: str | None
    digest: str
    outcome: Outcome
    files: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


class RebuildStep(StepStore):
    """The store as the step saw it that made an output; what the step keeps now is only held."""

    def __init__(self, store: SnapshotStore, reads: Collection[Read], snapshot: Snapshot) -> None:
        """Find the inputs that the record of an output names.

        Raises:
            InputGoneError: names every one that is gone, damaged or purged.
        """
        inputs = snapshot.origin.inputs
        super().__init__(
            PinnedStore(store, inputs), reads, output=snapshot.name, bundle=snapshot.partition, origin=snapshot.origin
        )
        self._stored = store
        self._snapshot = snapshot
        self.kept: Mapping[str, bytes] | None = None

    def keep(self, files: Mapping[str, bytes], *, own_rows: bytes | None = None) -> Snapshot:
        """Hold what the step makes."""
        del own_rows
        self.kept = dict(files)
        made = self._snapshot
        hashes = {name: content_digest({name: data}) for name, data in files.items()}
        return Snapshot(made.name, made.partition, content_digest(files), made.uri, hashes, origin=made.origin)

    def recorded(self, file: str) -> bytes | None:
        """Return a file of the output that is made again; None where it has no such file."""
        return self._stored.read(self._snapshot, file) if file in self._snapshot.files else None


def compare_rebuilt(store: SnapshotStore, snapshot: Snapshot, files: Mapping[str, bytes]) -> RebuiltOutput:
    """Return how files that were made again compare with those of a snapshot."""
    found: dict[str, str] = {}
    for file in sorted({*snapshot.files, *files}):
        if file not in files:
            found[file] = "not made again"
        elif file not in snapshot.files:
            found[file] = "was not stored"
        else:
            found[file] = "identical" if store.read(snapshot, file) == files[file] else "different"
    same = set(found.values()) == {"identical"}
    return RebuiltOutput(
        asset=snapshot.name,
        partition=snapshot.partition,
        digest=snapshot.digest,
        outcome="identical" if same else "different",
        files=found,
        reason=None
        if same
        else "the code, its libraries or its settings are not those that made it, or a user was erased since",
    )
