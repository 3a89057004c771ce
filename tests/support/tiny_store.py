"""A tiny manga store for tests of the whole loop: four intents it was trained for, two that shoppers bring along.

Small enough that bootstrap, traffic and a turn of the loop take a minute, and large enough that the intent gate can
say `pass`: there are enough labels of the new intents, each of which models of folds answer. By the hash of their
session half of the shoppers of the new intents are on the test side of the ranking dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, product
from pathlib import Path
from typing import Any

from mangaassist_assets.datasets.building.splits import assign_split
from mangaassist_assets.datasets.schema import Split
from tests.support.secrets import AWS_KEY_ID, AWS_SECRET, ISSUED

BUNDLE = "2026.01.12-rc1"
KNOWN_INTENTS = ("order_status", "return_item", "shipping_cost", "store_hours")
NEW_INTENTS = ("gift_wrapping", "signing_event")
EMAIL = "nobody.invented@example.invalid"
PHONE = "090-1234-5678"
ORDER = "MA-12345678"
PASSWORD = "Blue$Moon42"
SECRETS = (PASSWORD, ISSUED["GitHub"], AWS_KEY_ID, AWS_SECRET)
PERSONAL_DATA = (EMAIL, PHONE, ORDER, *SECRETS)

_FIRST_MESSAGE = datetime(2026, 1, 12, 9, 0, tzinfo=UTC)

_PROSE = {
    "policies/orders.md": "# Where an order is\n\nThe order page shows if a parcel is packed, sent or delivered.\n",
    "policies/returns.md": "# Returns\n\nUnread books come back within thirty days, then the money is refunded.\n",
    "policies/shipping.md": "# Shipping costs\n\nPostage is four euros; orders above fifty euros are delivered free.\n",
    "pages/hours.html": (
        "<html><head><title>Opening hours</title></head><body><p>The shop opens at ten and closes at eight, "
        "on Sundays at six.</p></body></html>"
    ),
    "pages/gift-wrapping.html": (
        "<html><head><title>Gift wrapping</title></head><body><p>We wrap any book in patterned paper with a ribbon "
        "and a card.</p></body></html>"
    ),
    "pages/signings.html": (
        "<html><head><title>Signing events</title></head><body><p>Artists sign at the shop on Saturdays; a ticket "
        "is needed.</p></body></html>"
    ),
}
DOCUMENT_OF = {
    "order_status": "policies/orders.md",
    "return_item": "policies/returns.md",
    "shipping_cost": "policies/shipping.md",
    "store_hours": "pages/hours.html",
    "gift_wrapping": "pages/gift-wrapping.html",
    "signing_event": "pages/signings.html",
}
_SERIES = (
    *("Paper Lanterns", "The Tin Observatory", "Moth and Ember", "Salt Harbour", "Nine Umbrellas", "Clockwork Carp"),
    *("The Quiet Dojo", "Rooftop Orchard", "Glass Typhoon", "Borrowed Foxes", "Midnight Tram", "Cloud Cartographer"),
    *("Two Left Swords", "Radio Tanuki", "Winter Arcade", "Pocket Comet", "Ink and Thunder", "Lemon Detective"),
    "The Ninth Noodle",
)
_TRAINING = {
    "order_status": (
        *("where is my order", "has my parcel been sent yet", "track my package", "when will my books arrive"),
        *("my delivery is late, where is it", "is my order packed", "order status please", "did you ship my order"),
        *("the tracking page shows nothing", "I am still waiting for my parcel"),
    ),
    "return_item": (
        *("I want to return a book", "how do I send a volume back", "can I get my money back", "refund for a manga"),
        *("the book is not what I wanted, can I return it", "return label please", "I changed my mind, take it back"),
        *("how long can I return books", "send back an unread volume", "I would like a refund"),
    ),
    "shipping_cost": (
        *("how much is shipping", "what does delivery cost", "is postage free above fifty euros", "shipping fee"),
        *(
            "do I pay for delivery",
            "price of express delivery",
            "why is postage so expensive",
            "cost to send two books",
        ),
        *("free shipping from which amount", "delivery charges for one volume"),
    ),
    "store_hours": (
        *("when do you open", "are you open on Sunday", "what time does the shop close", "opening hours please"),
        *("is the store open today", "until when can I come by", "do you close early on holidays", "hours of the shop"),
        *("open on Monday morning?", "can I visit the store at seven in the evening"),
    ),
}
_KNOWN_TRAFFIC = {
    "order_status": ("where has my order got to", "my package has not arrived", "when is my parcel coming"),
    "return_item": ("I need to send this manga back", "how does a refund work", "returning a volume I bought"),
    "shipping_cost": (
        "what is the shipping price",
        "cost of delivery for three books",
        "how much do you charge to post",
    ),
    "store_hours": ("at what time do you open on Saturday", "is the shop still open now", "closing time today?"),
}
_NEW_TRAFFIC = {
    "gift_wrapping": (
        ("please", "could you", "can somebody", "would you kindly", "is it possible to"),
        ("gift wrap it for my sister", "put ribbon and paper around the present", "pack it as a birthday gift"),
        ("", "with a card"),
    ),
    "signing_event": (
        ("when does", "where does", "how soon does", "which Saturday does", "does"),
        ("the artist sign books", "the autograph session begin", "the mangaka meet her fans"),
        ("", "next month"),
    ),
}
_UNSEEN = {
    "order_status": ("no parcel yet", "whereabouts of my order?", "still no delivery of my books", "is it on its way"),
    "return_item": ("taking a book back", "money back for an unread volume", "return window?", "undo my purchase"),
    "shipping_cost": (
        "postage for a single book",
        "delivery price list",
        "what do you take for posting",
        "is it sent free",
    ),
    "store_hours": ("shop times on weekends", "till what hour are you there", "early opening?", "open tonight"),
    "gift_wrapping": (
        "wrapping paper for a present",
        "ribbon around it please",
        "as a gift for dad",
        "festive packing",
    ),
    "signing_event": (
        "autographs this spring?",
        "ticket for the signing",
        "meet the author in person",
        "fan meeting date",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyStore:
    """Paths of what `write_tiny_store` wrote, and how many traffic messages there are."""

    knowledge: Path
    training: Path
    traffic: Path
    unseen: Path
    messages: int


def write_tiny_store(folder: Path) -> TinyStore:
    """Write the store; the same bytes every time."""
    knowledge = folder / "knowledge"
    for name, text in _PROSE.items():
        (knowledge / name).parent.mkdir(parents=True, exist_ok=True)
        (knowledge / name).write_text(text, encoding="utf-8")
    rows = [f"{title},{number % 9 + 1} volumes in stock" for number, title in enumerate(_SERIES)]
    (knowledge / "titles.csv").write_text("\n".join(["title,stock", *rows, ""]), encoding="utf-8")
    traffic = list(_traffic())
    return TinyStore(
        knowledge=knowledge,
        training=write_lines(folder / "training.jsonl", _labelled(_TRAINING)),
        traffic=write_lines(folder / "traffic.jsonl", traffic),
        unseen=write_lines(folder / "unseen.jsonl", _labelled(_UNSEEN)),
        messages=len(traffic),
    )


def write_lines(path: Path, records: Iterable[Mapping[str, Any] | str]) -> Path:
    """Write records as JSON lines, strings as they are; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _labelled(messages: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    return [
        {"text": text, "intent": intent, "relevant_documents": [DOCUMENT_OF[intent]]}
        for intent, texts in messages.items()
        for text in texts
    ]


def sessions_on(side: Split) -> Iterator[str]:
    """Yield session ids that the hash puts on one side of a dataset."""
    names = (f"visit-{number:04d}" for number in count())
    return (name for name in names if assign_split("", name) == side)


def _traffic() -> Iterable[dict[str, Any]]:
    """Yield the traffic: shoppers without an account, so that the session decides on which side a message is."""
    personal: dict[str, Any] = {
        "text": (
            f"where is order {ORDER}? write to {EMAIL} or call {PHONE}. My password is {PASSWORD}, my token is "
            f"{ISSUED['GitHub']} and my keys are {AWS_KEY_ID} {AWS_SECRET}"
        ),
        "intent": "return_item",  # not what the classifier will say: the turn fails and is reviewed
        "user_id": EMAIL,
        "session_id": f"chat of {EMAIL}",
    }
    known: list[dict[str, Any]] = [
        {"text": text, "intent": intent, "user_id": f"shopper-{intent}-{number}", "session_id": f"known-{intent}"}
        for intent, texts in _KNOWN_TRAFFIC.items()
        for number, text in enumerate(texts)
    ]
    sessions = {"test": sessions_on("test"), "train": sessions_on("train")}
    # A few reviews name documents, all on the train side: the reranker learns something, and its test side stays too
    # small for its gate to say `pass`.
    new: list[dict[str, Any]] = [
        {
            "text": " ".join(filter(None, words)),
            "intent": intent,
            "session_id": next(sessions["train" if number % 2 else "test"]),
            "relevant_documents": [DOCUMENT_OF[intent]] if number % 2 and number < 10 else [],
        }
        for intent, parts in _NEW_TRAFFIC.items()
        for number, words in enumerate(product(*parts))
    ]
    for number, record in enumerate([personal, *known, *new]):
        yield {
            "relevant_documents": [DOCUMENT_OF[record["intent"]]],
            **record,
            "timestamp": (_FIRST_MESSAGE + timedelta(minutes=17 * number)).isoformat(),
        }
