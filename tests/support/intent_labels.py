"""Labels and shoppers for tests of datasets."""

from __future__ import annotations

from functools import cache

from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.schema import Split
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.intent_labels import IntentLabel

BASE = [
    Utterance(text=f"{verb} {noun}", intent=intent)
    for intent, verbs in {
        "order_status": ["where is", "track", "locate"],
        "gift_card": ["buy", "redeem", "give"],
    }.items()
    for verb in verbs
    for noun in ["my parcel", "a card", "the thing", "that box"]
]


@cache
def user_on(side: Split, number: int = 0) -> str:
    """Return the name of a shopper who is on a side, another one for each number."""
    found = (name for count in range(100_000) if assign_split("x", None, name := f"user-{count}") == side)
    return next(name for index, name in enumerate(found) if index == number)


@cache
def session_on(side: Split, number: int = 0) -> str:
    """Return the name of a session without an account that is on a side."""
    found = (name for count in range(100_000) if assign_split("x", name := f"session-{count}") == side)
    return next(name for index, name in enumerate(found) if index == number)


def make_label(trace_id: str, text: str, intent: str = "return_item", **fields: object) -> IntentLabel:
    """Return a reviewed label of a shopper on the train side."""
    defaults: dict[str, object] = {
        "trace_id": trace_id,
        "text": text,
        "intent": intent,
        "kind": "human",
        "confidence": 1.0,
        "sources": (trace_id,),
        "release_bundle": "b1",
        "session_id": f"s-{trace_id}",
        "user_key": user_on("train"),
        "timestamp_ms": 1_000,
        "labeller": "reviewer-1",
        "labelled_ms": 2_000,
    }
    return IntentLabel(**{**defaults, **fields})  # type: ignore[arg-type]
