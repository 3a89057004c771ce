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
    """Messages in a fixed order; `intents` is None where nobody labelled them, `role` what the set was used for."""

    name: str
    role: str
    texts: list[str]
    intents: list[str] | None
    remark: str = ""


def quality_sets(seed: int) -> Iterator[MessageSet]:
    """Yield the sets with intents. Settings were chosen on those of role `tuned`."""
    draw = random.Random(seed)
    yield _labelled("hwu64_test", "reported", _hwu64("test"))
    fastfood, airline = _multidogo("fastfood"), _multidogo("airline")
    yield _labelled("multidogo_fastfood_4000", "reported", draw.sample(fastfood, 4000), "turns as they came")
    yield _labelled("multidogo_fastfood_distinct", "reported", distinct(fastfood), "distinct turns, majority intent")
    yield _labelled("multidogo_airline_4000", "tuned", draw.sample(airline, 4000), "turns as they came")
    yield _labelled("multidogo_airline_distinct", "tuned", distinct(airline), "distinct turns, majority intent")
    yield _labelled("bitext_3000", "tuned", draw.sample(_bitext(), 3000))
    yield _labelled("hwu64_train", "tuned", _hwu64("train"))
    yield _labelled("bitext_10000", "tuned", draw.sample(_bitext(), 10_000))
    mixed = [(text, f"{name}:{intent}") for name, rows in all_labelled().items() for text, intent in distinct(rows)]
    yield _labelled("mixed_10000", "reported", draw.sample(mixed, 10_000), "of all three, with both multidogo domains")


def large_set(count: int, seed: int) -> MessageSet:
    """Return `count` distinct messages: all real ones there are, then copies of them with one or two typing errors."""
    draw = random.Random(seed)
    real = dict.fromkeys(text for rows in all_labelled().values() for text, _ in rows)
    real |= dict.fromkeys(_other_messages())
    originals = list(real)[:count]
    texts = dict.fromkeys(originals)
    while len(texts) < count:
        texts.setdefault(_mistyped(draw.choice(originals), draw))
    remark = f"{len(originals)} real messages, {count - len(originals)} of them again with typing errors"
    return MessageSet(name=f"large_{count}", role="reported", texts=list(texts), intents=None, remark=remark)


def _labelled(name: str, role: str, rows: list[Labelled], remark: str = "") -> MessageSet:
    return MessageSet(
        name=name, role=role, texts=[text for text, _ in rows], intents=[intent for _, intent in rows], remark=remark
    )


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


def _other_messages() -> Iterator[str]:
    """Yield what people wrote in the sets without intents."""
    for file in sorted((DATA / "feedbackqa").rglob("*.json")):
        content = json.loads(file.read_text("utf-8"))
        examples = content["examples"] if isinstance(content, dict) and "examples" in content else []
        yield from (one["question"] for one in examples if isinstance(one, dict) and one.get("question"))
    for dialog in json.loads((DATA / "convai2" / "data_intermediate.json").read_text("utf-8")):
        yield from (turn["text"] for turn in dialog["dialog"] if turn.get("text"))
    for row in json.loads((DATA / "pii" / "generated_large.json").read_text("utf-8")):
        yield row["full_text"]
    with (DATA / "manga" / "reddit_r_manga.csv").open(encoding="utf-8-sig", newline="") as file:
        yield from (row["title"] for row in csv.DictReader(file) if row["title"])


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
