"""Labels of messages as plain values and as a table: what the message is, who says so, when, and how sure."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import polars as pl

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.tracing.contract.turns import ChatTurn

LabelKind = Literal["human", "judge", "propagated"]
"""From the most to the least trusted: a person's review, a language model's, what a cluster's reviews say of others."""
LabelOrigin = Literal["audit", "failure queue", "import"]
"""How a message came to be reviewed: drawn at random from all traffic, asked about as a failure, or by somebody's own
choice."""

LABELS_FILE = "labels.parquet"
CONFLICTS_FILE = "conflicts.json"
LABEL_SCHEMA = pl.Schema(
    {
        "trace_id": pl.String(),
        "text": pl.String(),
        "intent": pl.String(),
        "kind": pl.String(),
        "confidence": pl.Float64(),
        "sources": pl.List(pl.String()),
        "release_bundle": pl.String(),
        "session_id": pl.String(),
        "user_key": pl.String(),
        "timestamp_ms": pl.Int64(),
        "labeller": pl.String(),
        "labelled_ms": pl.Int64(),
        "tenant": pl.String(),
        "origin": pl.String(),
        "inclusion_probability": pl.Float64(),
        "bundle_turns": pl.Int64(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOrigin:
    """How a turn came to be reviewed, and what it says of the traffic.

    `inclusion_probability` is that of the audit sample, None for a turn that is not in it: it stands for itself alone.
    `bundle_turns` counts the turns that the sample was drawn from, None where there was no queue.
    """

    origin: LabelOrigin
    inclusion_probability: float | None = None
    bundle_turns: int | None = None

    def with_copies(self, copies: Iterable[ReviewOrigin]) -> ReviewOrigin:
        """Return the origin of one message that stays of several copies, of `copies` and this: it stands for all.

        A copy that was drawn stands for the inverse of its inclusion probability many turns, any other for itself.
        """
        probabilities = [one.inclusion_probability for one in (self, *copies)]
        if len(probabilities) == 1 or all(one is None for one in probabilities):
            return self
        turns = sum(1.0 if one is None else 1.0 / one for one in probabilities)
        return replace(self, origin="audit", inclusion_probability=1.0 / turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentLabel:
    """The intent of one turn's message.

    `confidence` is 1.0 for a person's review, else the estimated probability that the label is right. `sources` are
    the traces whose reviews it rests on: its own for a review. `labeller` is the reviewer, the judge's model id, or the
    failure cluster it was propagated in. `timestamp_ms` is when the message was written, `labelled_ms` when the label
    was given (for a propagated one: the newest review it rests on), both milliseconds since the epoch (UTC). `origin`,
    `inclusion_probability` and `bundle_turns` are those of `ReviewOrigin`, all None in a label of before they were
    kept; what is no person's is of the failure queue and has no probability.
    """

    trace_id: str
    text: str
    intent: str
    kind: LabelKind
    confidence: float
    sources: tuple[str, ...]
    release_bundle: str
    session_id: str
    user_key: str | None
    timestamp_ms: int
    labeller: str
    labelled_ms: int
    tenant: str | None = None
    origin: LabelOrigin | None = None
    inclusion_probability: float | None = None
    bundle_turns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConflict:
    """Near-identical messages that people gave different answers for; none of them is a label.

    `answers` are the intents, or the joined document ids, sorted.
    """

    trace_ids: tuple[str, ...]
    answers: tuple[str, ...]


def label_of(
    turn: ChatTurn,
    intent: str,
    kind: LabelKind,
    *,
    labeller: str,
    labelled_ms: int,
    confidence: float,
    sources: Iterable[str] | None = None,
) -> IntentLabel:
    """Return the label of a turn; it rests on the turn itself unless `sources` are given."""
    return IntentLabel(
        trace_id=turn.trace_id,
        text=turn.learnable_text,
        intent=intent,
        kind=kind,
        confidence=confidence,
        sources=(turn.trace_id,) if sources is None else tuple(sorted(sources)),
        release_bundle=turn.release_bundle,
        session_id=turn.session_id,
        user_key=turn.user_key,
        tenant=turn.tenant,
        timestamp_ms=turn.timestamp_ms,
        labeller=labeller,
        labelled_ms=labelled_ms,
    )


def labels_to_parquet(labels: Iterable[IntentLabel]) -> bytes:
    """Return labels as Parquet under `LABEL_SCHEMA`; the same labels in any order give the same bytes."""
    rows = sorted((asdict(one) for one in labels), key=lambda row: (row["trace_id"], row["kind"], row["labeller"]))
    return to_parquet(pl.DataFrame(rows, schema=LABEL_SCHEMA, orient="row"))


def labels_from_parquet(content: bytes) -> list[IntentLabel]:
    """Return the labels that `labels_to_parquet` stored, ordered by trace id, kind and labeller."""
    rows = pl.read_parquet(io.BytesIO(content)).to_dicts()
    return [IntentLabel(**{**row, "sources": tuple(row["sources"])}) for row in rows]
