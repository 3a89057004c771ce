"""What a person accepted: the name of an intent that is in no catalogue, or a reviewer whose answers were held back.

Records are never changed, only followed by others. Nothing has to be reviewed again: what waited counts when the labels
of its bundle are gathered next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.labelling.intent_names import is_name, plain_name, spelling_key

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.privacy import Vocabulary

ACCEPTANCES = "label_acceptances"
ACCEPTANCE_FILE = "acceptance.json"

AcceptanceKind = Literal["intent", "reviewer"]


class AcceptanceRefusedError(OperatorError, ValueError):
    """What cannot be accepted; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What was accepted, by whom, why (redacted), and when (ISO 8601 in UTC)."""

    kind: AcceptanceKind
    name: str
    by: str
    reason: str
    decided_at: str
    schema: Literal[1] = 1


def accept(
    store: SnapshotStore,
    kind: AcceptanceKind,
    name: str,
    *,
    by: str,
    reason: str,
    now_ms: int,
    vocabulary: Vocabulary | None = None,
) -> Acceptance:
    """Keep for ever that a person accepted a name, and return the record.

    Raises:
        AcceptanceRefusedError: it is no name, it was accepted before, the reason says nothing, or nobody did it.
    """
    from mangaassist_assets.privacy.statements import StatementError, stated_by, stated_reason

    plain = plain_name(name)
    if not plain or (kind == "intent" and not is_name(plain)):
        raise AcceptanceRefusedError(f"{name[:40]!r} is no name of {_A[kind]}")
    before = [one for one in read_acceptances(store) if one.kind == kind]
    for one in before:
        if spelling_key(one.name) == spelling_key(plain):
            raise AcceptanceRefusedError(f"{one.name!r} was accepted on {one.decided_at} by {one.by} already")
    try:
        acceptance = Acceptance(
            kind=kind,
            name=plain,
            by=stated_by(by, "an acceptance"),
            reason=stated_reason(reason, "an acceptance", vocabulary=vocabulary),
            decided_at=datetime.fromtimestamp(now_ms / 1000, tz=UTC).isoformat(timespec="seconds"),
        )
    except StatementError as error:
        raise AcceptanceRefusedError(str(error)) from error
    store.write(ACCEPTANCES, {ACCEPTANCE_FILE: canonical_json(acceptance)}, partition=kind)
    return acceptance


def read_acceptances(store: SnapshotStore) -> list[Acceptance]:
    """Return all that was accepted, oldest first."""
    found = (from_json(Acceptance, store.read(one, ACCEPTANCE_FILE)) for one in store.history(ACCEPTANCES))
    return sorted(found, key=lambda one: (one.decided_at, one.kind, one.name))


def accepted_names(acceptances: Iterable[Acceptance], kind: AcceptanceKind) -> tuple[str, ...]:
    """Return the names of a kind that were accepted, sorted."""
    return tuple(sorted(one.name for one in acceptances if one.kind == kind))


_A: dict[AcceptanceKind, str] = {"intent": "an intent", "reviewer": "a reviewer"}
