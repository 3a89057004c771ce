"""Ids of a feedback event as they may be kept: whatever names a person becomes a pseudonym, as on traces."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from mangaassist_assets.privacy import is_personal_id, pseudonym, user_key
from mangaassist_assets.tracing.feedback.events import CONTENT_ID, FeedbackEvent

_IDENTIFIER = re.compile(r"[0-9A-Za-z._:/=+#-]+")


@dataclass(frozen=True, slots=True)
class StoredIds:
    """Makes ids fit to be kept, with the installation's secret; without it, those of people are left out."""

    key: bytes | None

    def row(self, event: FeedbackEvent) -> dict[str, Any]:
        """Return an event as a row to ingest, in the columns of events and the response's id."""
        return {
            "event_id": self._event(event.event_id),
            "trace_id": event.trace_id,
            "response_id": None if event.response_id is None else self._response(event.response_id),
            "session_id": self.session(event.session_id, user=event.user),
            "user_key": self.user(event.user),
            "release_bundle": event.release_bundle,
            "feedback": event.feedback,
            "timestamp": event.timestamp,
        }

    def user(self, user: str | None) -> str | None:
        """Return the pseudonym of a user."""
        return user_key(user, self.key)

    def session(self, session_id: str | None, *, user: str | None) -> str | None:
        """Return a session's id; that of a person, such as an e-mail address or the user's own, as a pseudonym."""
        if session_id is None:
            return None
        if session_id != user and not is_personal_id(session_id):
            return session_id
        return None if self.key is None else pseudonym(session_id, self.key, prefix="s")

    def _event(self, event_id: str) -> str:
        # An id made of content is long and numeric: chance may write a telephone number in it.
        own = event_id.startswith(CONTENT_ID) or not is_personal_id(event_id)
        return event_id if own else self._hashed(event_id, "e")

    def _response(self, response_id: str) -> str:
        # A response is looked for by this id: only what is clearly no id of a program may be changed.
        return response_id if _IDENTIFIER.fullmatch(response_id) else self._hashed(response_id, "r")

    def _hashed(self, value: str, prefix: str) -> str:
        if self.key is None:
            # Events have to be distinct, and responses found again, also without the secret.
            return f"{prefix}-{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}"
        return pseudonym(value, self.key, prefix=prefix)
