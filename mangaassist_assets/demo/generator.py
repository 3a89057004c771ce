"""Writing the demo store.

Pure and seeded: the same files under `data/` and the same seed give the same bytes. Nothing of what is written says
to the platform what will fail; it sees the files as it would see those of any shop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mangaassist_assets.demo.noise import read_garnish
from mangaassist_assets.demo.shop import build_shop, write_knowledge
from mangaassist_assets.demo.slots import SlotFiller
from mangaassist_assets.demo.sources import DATA, Plan, read_intents, read_plan, read_toml
from mangaassist_assets.demo.traffic import Crowd, Message, Turn

_LAUNCH = "launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPaths:
    """What `write_demo` wrote: knowledge, the intents there are, and five files of messages, one JSON object a line."""

    knowledge: Path
    intents: Path
    training: Path
    first_bundle: Path
    second_bundle: Path
    unseen_first: Path
    unseen_second: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoMessages:
    """All messages before they are written; `traffic` is keyed by the file's name in `plan.toml`."""

    training: tuple[Message, ...]
    traffic: Mapping[str, tuple[Turn, ...]]


def write_demo(directory: Path) -> DemoPaths:
    """Write the demo's knowledge and messages into a folder, created if missing; files of the same names are replaced.

    Raises:
        DemoDataError: If a hand-written file under `data/` is wrong.
        OSError: If the folder cannot be written.
    """
    plan = read_plan()
    words = read_toml(DATA / "slots.toml")
    shop = build_shop(plan.seed)
    messages = compose_messages(plan)
    knowledge = directory / "knowledge"
    write_knowledge(shop, words["theme_words"], knowledge)
    intents = directory / "intents.txt"
    intents.write_text("".join(f"{one.name}\n" for one in read_intents()), "utf-8")
    training = directory / "training.jsonl"
    _write_lines(training, (_training_record(message) for message in messages.training))
    for file, turns in messages.traffic.items():
        _write_lines(directory / file, (_turn_record(turn) for turn in turns))
    return DemoPaths(
        knowledge=knowledge,
        intents=intents,
        training=training,
        first_bundle=directory / "bundle-1.jsonl",
        second_bundle=directory / "bundle-2.jsonl",
        unseen_first=directory / "unseen-1.jsonl",
        unseen_second=directory / "unseen-2.jsonl",
    )


def compose_messages(plan: Plan) -> DemoMessages:
    """Compose all messages of the plan without writing anything.

    Raises:
        DemoDataError: If a hand-written file under `data/` is wrong.
    """
    words = read_toml(DATA / "slots.toml")
    shop = build_shop(plan.seed)
    intents = read_intents()
    seen_in_traffic = SlotFiller(shop, words, held_out=False)
    held_out = SlotFiller(shop, words, held_out=True)
    crowd = Crowd(intents, plan, read_garnish(words, words["noise"]))
    training = crowd.training(seen_in_traffic)
    known = [intent.name for intent in intents if intent.since == _LAUNCH]
    traffic: dict[str, tuple[Turn, ...]] = {}
    for entry in plan.traffic:
        of_this_file = [name for name in known if name not in entry.new_intents]
        filler = held_out if entry.held_out else seen_in_traffic
        traffic[entry.file] = tuple(crowd.traffic(entry, of_this_file, filler))
        # A later file knows what an earlier one brought.
        known += [name for name in entry.new_intents if name not in known]
    return DemoMessages(training=tuple(training), traffic=traffic)


def _training_record(message: Message) -> dict[str, Any]:
    # Written by the shop's own staff before launch: there is no user, session or time to it.
    return {"text": message.text, "intent": message.intent, "relevant_documents": list(message.documents)}


def _turn_record(turn: Turn) -> dict[str, Any]:
    return {
        **_training_record(turn.message),
        "user_id": turn.user_id,
        "session_id": turn.session_id,
        "timestamp": turn.timestamp.isoformat().replace("+00:00", "Z"),
    }


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))
