"""`mangaassist erase-user`: removes a user from feedback and traces, and says what must be made again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mangaassist_assets.commands.session import Session


def run_erasure(session: Session, *, user_id: str | None = None, user_key: str | None = None) -> dict[str, Any]:
    """Erase one user and return the report; safe to run again.

    Args:
        session: The open home.
        user_id: The store's own id; it becomes a pseudonym with the home's key and goes nowhere else.
        user_key: The pseudonym, where that is known; one of the two is given.

    Raises:
        CommandError: neither or both are given.
        InvalidUserKeyError: the key is no pseudonym.
    """
    from mangaassist_assets.commands.session import CommandError
    from mangaassist_assets.tracing.erasure import erase_user
    from mangaassist_assets.tracing.redaction import pseudonym
    from resources.mlflow_erasure import MlflowUserTraces

    if (user_id is None) == (user_key is None):
        raise CommandError("name one user: an id on standard input, or a pseudonym with --user-key")
    key = user_key if user_key is not None else pseudonym(str(user_id), session.home.pseudonym_key())
    store = session.resources.store
    session.progress(f"erasing {key}")
    report = erase_user(
        key,
        requested_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        store=store.snapshots(),
        feedback=store.feedback_landing(),
        traces=MlflowUserTraces.of(session.resources.mlflow),
        tables={
            "landed_traces": store.trace_landing_table(),
            "warehouse": session.resources.warehouse.open(),
        },
    )
    return report.to_dict()
