"""Overrides: a person makes a version champion whatever the gate said, and it is kept who, why, and over what.

An override is bound to the champion it was made against, and acts once: what was decided about one champion says
nothing about the next, and nothing that runs again may repeat it. Records are never changed, only followed by others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json

if TYPE_CHECKING:
    # Loading definitions reaches this module: redaction with its lexicon comes with the first override.
    from mangaassist_assets.privacy import Vocabulary

OVERRIDES = "champion_overrides"
OVERRIDE_FILE = "override.json"
DEFAULT_BY = "operator"
NO_CHAMPION = "none"
"""What an override is made against where there is no champion yet."""

ID_TAG = "override_id"


class OverrideRefusedError(OperatorError, ValueError):
    """An override that cannot be carried out; nothing was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideRequest:
    """What a person asks for: this version in place of that champion. Make it with `override_request`."""

    version: str
    against: str
    reason: str
    by: str

    @property
    def request_id(self) -> str:
        """SHA-256 of all that was asked: asking for the same again is the same request."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A decided override, as it is stored.

    Attributes:
        request_id: Of the request.
        model_name: The registered model.
        sequence: How many overrides the model had before.
        version: What became champion.
        replaced: What was champion, `NO_CHAMPION` for nothing.
        reason: Why, redacted.
        by: A name or a role.
        decided_at: When, ISO 8601 in UTC.
        artifact_sha256: Of what became champion, checked before.
        verdict: What the gate had said of the version last; None where it was never judged.
        judged_against: The champion that verdict was against.
        verdict_reasons: The gate's reasons.
        overruled: Verdicts that were known then and would undo the override: bundle and challenger. They promote
            nothing any more.
        carried_out_by: What the systems say of who did it: the user of the operating system, what launched the run,
            the caller on AWS. `by` is what was typed, and proves nothing.
    """

    request_id: str
    model_name: str
    sequence: int
    version: str
    replaced: str
    reason: str
    by: str
    decided_at: str
    artifact_sha256: str
    verdict: str | None
    judged_against: str | None
    verdict_reasons: tuple[str, ...] = ()
    overruled: tuple[tuple[str, str], ...] = ()
    carried_out_by: Mapping[str, str] = field(default_factory=dict)
    schema: Literal[1] = 1

    def tags(self) -> dict[str, str]:
        """Return what the registry's version says of it."""
        return {
            ID_TAG: self.request_id,
            "override_by": self.by,
            "override_reason": self.reason,
            "override_at": self.decided_at,
            "override_replaced": self.replaced,
            "override_verdict": self.verdict or "never judged",
            **{f"override_{name}": value for name, value in self.carried_out_by.items()},
        }


def override_request(
    *, version: str, against: str, reason: str, by: str = DEFAULT_BY, vocabulary: Vocabulary | None = None
) -> OverrideRequest:
    """Return a checked request, its reason free of personal data.

    In `by` a name may stand, for somebody answers for it; mail addresses and numbers become placeholders.

    Raises:
        OverrideRefusedError: a version is no number, the reason says nothing or too much, or nobody did it.
    """
    from mangaassist_assets.privacy.statements import StatementError, stated_by, stated_reason

    try:
        said = stated_reason(reason, "an override", vocabulary=vocabulary), stated_by(by, "an override")
    except StatementError as error:
        raise OverrideRefusedError(str(error)) from error
    return OverrideRequest(
        version=_version(version, "the version to promote"),
        against=NO_CHAMPION if against.strip() == NO_CHAMPION else _version(against, "the champion to replace"),
        reason=said[0],
        by=said[1],
    )


def read_overrides(store: SnapshotStore, model_name: str) -> list[Override]:
    """Return all overrides of a model, oldest first."""
    found = (
        from_json(Override, store.read(snapshot, OVERRIDE_FILE))
        for snapshot in store.history(OVERRIDES)
        if snapshot.partition == model_name and OVERRIDE_FILE in snapshot.files
    )
    return sorted(found, key=lambda one: (one.sequence, one.decided_at, one.request_id))


def record_override(store: SnapshotStore, override: Override) -> None:
    """Keep an override for ever, beside those of before."""
    store.write(OVERRIDES, {OVERRIDE_FILE: canonical_json(override)}, partition=override.model_name)


def check_request(
    request: OverrideRequest,
    champion_version: str,
    overrides: Sequence[Override],
    *,
    carried_out: Collection[str] = (),
) -> Override | None:
    """Return the record of a request that was begun before, None for a new one.

    `carried_out` are the ids of requests that the registry records as carried out to the end.

    Raises:
        OverrideRefusedError: the champion is another than the request was made against, is the version already, or
            the request was carried out and something else happened since.
    """
    begun = next((one for one in overrides if one.request_id == request.request_id), None)
    if begun is not None:
        followed = any(one.sequence > begun.sequence for one in overrides)
        unfinished = champion_version == request.against and request.request_id not in carried_out
        if not followed and (unfinished or champion_version == request.version):
            return begun
        raise OverrideRefusedError(
            f"this override was decided on {begun.decided_at} by {begun.by}, and version {champion_version} became "
            "champion since: an override acts once; if it is to be repeated, give a reason of its own"
        )
    if champion_version == request.version:
        raise OverrideRefusedError(f"version {request.version} is champion already: there is nothing to override")
    if champion_version != request.against:
        raise OverrideRefusedError(
            f"the override was made against champion {request.against}, but version {champion_version} is champion "
            f"now: look at it, and if version {request.version} is still better, override again against "
            f"{champion_version}"
        )
    return None


def _version(text: str, what: str) -> str:
    version = text.strip()
    if not (version.isascii() and version.isdigit()) or version.startswith("0"):
        raise OverrideRefusedError(
            f"{what} must be a version number of the registered model, such as 7, not {text[:40]!r}"
        )
    return version
