"""Near-duplicates of messages: what is found, what is missed, and how long it takes. JSON lines.

- `pairs`: all near-duplicate pairs of a set. The baseline of the same run compares every message with every other one,
  which is the definition itself; `missed` are the pairs that ours does not find, `ratio` is the baseline's time over
  ours.
- `selection`: a whole dataset of `--messages` chosen (`select`) and looked at by the leakage guard (`find_leaks`). The
  messages are those of hwu64, Bitext and MultiDoGO; what they are too few for is filled with variants of themselves, a
  word taken out or doubled, which is harder than other messages would be. `dropped` says for which reasons.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mangaassist_assets.core.text_keys import normalise_text  # noqa: E402
from mangaassist_assets.datasets.building.selection import DatasetCandidate, select  # noqa: E402
from mangaassist_assets.datasets.building.splits import assign_split  # noqa: E402
from mangaassist_assets.datasets.guards.leakage import find_leaks  # noqa: E402
from mangaassist_assets.datasets.guards.limits import Caps  # noqa: E402
from mangaassist_assets.datasets.guards.near_duplicates import THRESHOLD, Fingerprints, NearDuplicateIndex  # noqa: E402

DATA = ROOT.parent / "shared" / "data"


def hwu64(name: str) -> list[str]:
    """Return the messages of one part of hwu64."""
    return (DATA / "hwu64" / f"{name}.seq.in").read_text(encoding="utf-8").splitlines()


def bitext() -> list[str]:
    """Return the messages of Bitext."""
    with (DATA / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as handle:
        return [row["utterance"] for row in csv.DictReader(handle)]


def multidogo() -> Iterator[str]:
    """Yield the messages of both domains of MultiDoGO."""
    for path in sorted((DATA / "multidogo").glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield row["utterance"] or ""


def keys_of(messages: Sequence[str], limit: int) -> list[str]:
    """Return the distinct keys of at most so many messages, the same ones every time."""
    keys = sorted({key for message in messages if (key := normalise_text(message))})
    random.Random(0).shuffle(keys)
    return keys[:limit]


def filled_up(keys: Sequence[str], wanted: int) -> list[str]:
    """Return the keys with variants of them, as many as wanted."""
    rng = random.Random(0)
    found = dict.fromkeys(keys)
    while len(found) < wanted:
        words = rng.choice(keys).split()
        place = rng.randrange(len(words))
        found.setdefault(" ".join([*words[:place], *([words[place]] * rng.choice((0, 2))), *words[place + 1 :]]) or "x")
    return list(found)[:wanted]


def pairs(name: str, keys: Sequence[str]) -> dict[str, object]:
    """Find all pairs of a set in both ways."""
    started = time.perf_counter()
    prints = Fingerprints().of(keys)
    index, found = NearDuplicateIndex(), 0
    for key, fingerprint in zip(keys, prints, strict=True):
        found += sum(1 for _ in index.near(fingerprint))
        index.add(key, fingerprint)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    true = sum(one.similarity(other) >= THRESHOLD for number, one in enumerate(prints) for other in prints[:number])
    baseline = time.perf_counter() - started
    return {
        "benchmark": "near_duplicates",
        "kind": "pairs",
        "set": name,
        "messages": len(keys),
        "pairs": true,
        "missed": true - found,
        "seconds": round(ours, 2),
        "baseline_seconds": round(baseline, 2),
        "ratio": round(baseline / ours, 1),
    }


def selection(keys: Sequence[str], real: int) -> dict[str, object]:
    """Choose a dataset out of messages of as many sessions, then look for leaks in it."""
    candidates = [
        DatasetCandidate(
            example_id=f"e{number}",
            key=key,
            split=assign_split(key, f"s{number // 3}"),
            kind="human",
            timestamp_ms=number * 30_000,
            session_id=f"s{number // 3}",
        )
        for number, key in enumerate(keys)
    ]
    started = time.perf_counter()
    chosen = select(candidates, caps=Caps())
    selecting = time.perf_counter() - started
    kept = [one for one in candidates if one.example_id in chosen.kept]
    frame = pl.DataFrame(
        {
            "example_id": [one.example_id for one in kept],
            "split": [one.split for one in kept],
            "text": [one.key for one in kept],
            "session_id": [one.session_id for one in kept],
            "user_key": [None] * len(kept),
            "timestamp_ms": [one.timestamp_ms for one in kept],
        },
        schema_overrides={"user_key": pl.String},
    )
    started = time.perf_counter()
    leaks = find_leaks(frame)
    return {
        "benchmark": "near_duplicates",
        "kind": "selection",
        "messages": len(keys),
        "real_messages": real,
        "kept": len(kept),
        "dropped": dict(sorted(chosen.excluded.items())),
        "leaks": len(leaks),
        "seconds": round(selecting, 1),
        "guard_seconds": round(time.perf_counter() - started, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Run both kinds and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3_000, help="Messages of a set whose pairs are all compared.")
    parser.add_argument("--messages", type=int, default=100_000, help="Messages that a dataset is chosen from.")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "near_duplicates", "skipped": f"no data sets at {DATA}"}))
        return
    for name, messages in (("hwu64", hwu64("test")), ("bitext", bitext())):
        print(json.dumps(pairs(name, keys_of(messages, options.pairs))), flush=True)
    real = keys_of([*hwu64("train"), *hwu64("test"), *bitext(), *multidogo()], options.messages)
    print(json.dumps(selection(filled_up(real, options.messages), len(real))), flush=True)


if __name__ == "__main__":
    main()
