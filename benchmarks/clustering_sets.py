"""The messages that the clustering benchmark groups, with their intents: real ones, and noisy variants to fill up."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

Labelled = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSet:
    """Messages in a fixed order, with the intent of each."""

    name: str
    texts: list[str]
    intents: list[str]
    remark: str = ""


def quality_sets(seed: int) -> Iterator[MessageSet]:
    """Yield the sets with intents: whole, one domain at a time, and small as a bundle's failures are, 150 and up."""
    draw = random.Random(seed)
    hwu64, bitext = distinct(all_labelled()["hwu64"]), distinct(_bitext())
    airline, fastfood = _multidogo("airline"), _multidogo("fastfood")
    for size in (150, 300, 1000):
        yield _labelled(f"hwu64_{size}", draw.sample(hwu64, size))
    yield _labelled("hwu64_test", _hwu64("test"))
    yield _labelled("hwu64_all", hwu64)
    for scenario, rows in _by(hwu64, {text: intent.split("_")[0] for text, intent in hwu64}).items():
        yield _labelled(f"hwu64:{scenario}", rows, "one domain")
    for size in (150, 300, 3000):
        yield _labelled(f"bitext_{size}", draw.sample(bitext, size))
    yield _labelled("bitext_all", bitext)
    for category, rows in _by(bitext, _bitext_categories()).items():
        yield _labelled(f"bitext:{category}", draw.sample(rows, min(len(rows), 3000)), "one domain")
    for name, turns in (("airline", airline), ("fastfood", fastfood)):
        once = distinct(turns)
        for size in (300, 1000):
            yield _labelled(f"multidogo_{name}_{size}", draw.sample(once, size), "distinct turns, majority intent")
        yield _labelled(f"multidogo_{name}_turns", draw.sample(turns, 4000), "turns as they came")
        yield _labelled(f"multidogo_{name}_all", once, "distinct turns, majority intent")
    for authority in ("CDC", "UK"):
        yield _labelled(f"feedbackqa:{authority}", _questions(authority), "one domain; the passage is the intent")
    yield _labelled("demo", _demo_messages(), "written for the demo, not by shoppers")
    mixed = _mixed()
    for size in (1000, 10_000):
        yield _labelled(f"mixed_{size}", draw.sample(mixed, size), "of hwu64, bitext and both multidogo domains")
    yield _labelled("mixed_all", mixed, "hwu64, bitext and both multidogo domains")


def large_set(count: int, seed: int) -> MessageSet:
    """Return `count` distinct messages: all labelled ones, then copies of them with one or two typing errors."""
    draw = random.Random(seed)
    originals = _mixed()[:count]
    rows = dict(originals)
    while len(rows) < count:
        text, intent = draw.choice(originals)
        rows.setdefault(_mistyped(text, draw), intent)
    copies = count - len(originals)
    return _labelled(f"large_{count}", list(rows.items()), f"{len(originals)} real messages, {copies} copies of them")


def failure_bundles(seed: int, *, messages: int = 300, intents: int = 40) -> Iterator[MessageSet]:
    """Yield bundles of failures that no champion knows: of each source as many intents, about as often each."""
    draw = random.Random(seed)
    shop = [
        (text, f"{name}:{intent}")
        for name, rows in all_labelled().items()
        if name != "hwu64"
        for text, intent in distinct(rows)
    ]
    sources = {
        "hwu64": distinct(all_labelled()["hwu64"]),
        "bitext": distinct(_bitext()),
        "fastfood": distinct(_multidogo("fastfood")),
        "customers": shop,
    }
    for name, rows in sources.items():
        texts = _by(rows, dict(rows), least_intents=1, least_rows=8)
        for number in range(4):
            chosen = draw.sample(sorted(texts), min(intents, len(texts)))
            pool = [row for intent in chosen for row in draw.sample(texts[intent], min(len(texts[intent]), 20))]
            yield _labelled(f"bundle_{name}_{number}", draw.sample(pool, min(messages, len(pool))))


def _labelled(name: str, rows: list[Labelled], remark: str = "") -> MessageSet:
    return MessageSet(
        name=name, texts=[text for text, _ in rows], intents=[intent for _, intent in rows], remark=remark
    )


def _by(
    rows: list[Labelled], domain: dict[str, str], *, least_intents: int = 3, least_rows: int = 150
) -> dict[str, list[Labelled]]:
    """Return the rows of each domain that has enough of both, by name."""
    found: dict[str, list[Labelled]] = {}
    for text, intent in rows:
        found.setdefault(domain[text], []).append((text, intent))
    return {
        name: own
        for name, own in sorted(found.items())
        if len(own) >= least_rows and len({intent for _, intent in own}) >= least_intents
    }


def _mixed() -> list[Labelled]:
    """Return every labelled text once, the intent with the name of its set."""
    rows: dict[str, str] = {}
    for name, labelled in all_labelled().items():
        for text, intent in distinct(labelled):
            rows.setdefault(text, f"{name}:{intent}")
    return list(rows.items())


def all_labelled() -> dict[str, list[Labelled]]:
    """Return the labelled messages of each source by its name, as they came."""
    return {
        "hwu64": [row for split in ("train", "valid", "test") for row in _hwu64(split)],
        "bitext": _bitext(),
        "airline": _multidogo("airline"),
        "fastfood": _multidogo("fastfood"),
    }


def _hwu64(split: str) -> list[Labelled]:
    texts = (DATA / "hwu64" / f"{split}.seq.in").read_text("utf-8").splitlines()
    return list(zip(texts, (DATA / "hwu64" / f"{split}.label").read_text("utf-8").splitlines(), strict=True))


def _bitext() -> list[Labelled]:
    with (DATA / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as file:
        return [(row["utterance"], row["intent"]) for row in csv.DictReader(file)]


def _bitext_categories() -> dict[str, str]:
    with (DATA / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["utterance"]: row["category"] for row in csv.DictReader(file)}


def _multidogo(domain: str) -> list[Labelled]:
    rows: list[Labelled] = []
    for split in ("train", "dev", "test"):
        with (DATA / "multidogo" / f"{domain}_{split}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                if row["utterance"] and row["intent"]:
                    rows.append((row["utterance"], row["intent"]))  # noqa: PERF401 - the condition reads better
    return rows


def distinct(rows: list[Labelled]) -> list[Labelled]:
    """Return each text once with the intent it has most often, ties by name."""
    found: dict[str, Counter[str]] = {}
    for text, intent in rows:
        found.setdefault(text, Counter())[intent] += 1
    return [(text, min(counts, key=lambda one: (-counts[one], one))) for text, counts in found.items()]


def _questions(authority: str) -> list[Labelled]:
    """Return what people asked a health authority, those passages only that at least four questions point to."""
    rows: dict[str, str] = {}
    for file in sorted((DATA / "feedbackqa" / authority).glob("*.json")):
        if not file.stem.startswith("feedback"):
            for example in json.loads(file.read_text("utf-8"))["examples"]:
                rows[example["question"]] = f"{file.stem}:{example['passage_id']}"
    counts = Counter(rows.values())
    return [(text, passage) for text, passage in rows.items() if counts[passage] >= 4]


def _demo_messages() -> list[Labelled]:
    from mangaassist_assets.demo.generator import compose_messages
    from mangaassist_assets.demo.sources import read_plan

    messages = compose_messages(read_plan())
    turns = [turn.message for own in messages.traffic.values() for turn in own]
    return distinct([(one.text, one.intent) for one in (*messages.training, *turns)])


def _mistyped(text: str, draw: random.Random) -> str:
    """Return a text with one or two letters dropped, doubled, or swapped with the next."""
    letters = list(text)
    for _ in range(draw.choice((1, 2))):
        place = draw.randrange(max(1, len(letters) - 1))
        kind = draw.randrange(3)
        if kind == 0 and len(letters) > 3:
            del letters[place]
        elif kind == 1:
            letters.insert(place, letters[place] if letters else "x")
        elif place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)
