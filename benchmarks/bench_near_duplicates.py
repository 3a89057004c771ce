"""Near-duplicates of messages: what is found, what is missed, what is wrongly found, how long it takes. JSON lines.

- `planted`: changes planted in real messages (`planted_changes`), found or not by the length of the message; `baseline`
  are those with four of five shingles in common, which was the whole relation once. `other_intent` counts what is found
  wrongly: of all pairs of a set's messages with two intents; of those that are compared at all because they look alike,
  which is much harder; and of all that is found. `largest_component` is how many messages would hang together if they
  were joined, which nothing does. `replaced_with_vectors` has the embedding check as well: what of the short messages'
  replaced words it lets through, planted and of two intents, with vectors of all-MiniLM-L6-v2 (`--vectors`).
- `pairs`: all near-duplicate pairs of a set. The baseline of the same run compares every message with every other one,
  which is the definition itself; `missed` are the pairs that ours does not find, `ratio` is the baseline's time over
  ours.
- `hostile`: seconds for what nobody means well with.
- `selection`: a whole dataset of `--messages` chosen (`select`) and looked at by the leakage guard (`find_leaks`). The
  messages are those of hwu64, Bitext and MultiDoGO; what they are too few for is filled with variants of themselves, a
  word taken out or doubled, which is harder than other messages would be. `dropped` says for which reasons.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clustering_sets import DATA, all_labelled  # noqa: E402
from planted_changes import BANDS, CHANGES, RealSet, band_of, changed, real_sets  # noqa: E402

from mangaassist_assets.core.text_keys import normalise_text  # noqa: E402
from mangaassist_assets.datasets.building.selection import DatasetCandidate, select  # noqa: E402
from mangaassist_assets.datasets.building.splits import assign_split  # noqa: E402
from mangaassist_assets.datasets.guards.leakage import find_leaks  # noqa: E402
from mangaassist_assets.datasets.guards.limits import Caps  # noqa: E402
from mangaassist_assets.datasets.guards.near_duplicates import (  # noqa: E402
    THRESHOLD,
    Fingerprint,
    Fingerprints,
    NearDuplicateIndex,
)

Vectors = Mapping[str, NDArray[np.float32]]
Pair = tuple[str, str]

_PLANTED_IN = 3_000
_EMBEDDED = 200
_UNDECIDED = 600


def is_found(one: Fingerprint, other: Fingerprint) -> bool:
    """Return whether one message is found beside the other."""
    index = NearDuplicateIndex()
    index.add("", one)
    return index.has_near(other)


def planted(real: RealSet, limit: int, folder: Path | None) -> dict[str, object]:
    """Compare at most so many messages of a set, plant changes in 3,000 of them, and count what is found."""
    keys = list(real.asked)
    random.Random(0).shuffle(keys)
    keys = keys[:limit]
    started, worked = time.perf_counter(), time.process_time()
    prints = dict(zip(keys, Fingerprints().of(keys), strict=True))
    pairs = list(found_pairs(prints))
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    compared = set(compared_pairs(prints))
    differ = len(keys) * (len(keys) - 1) // 2
    differ -= sum(count * (count - 1) // 2 for count in Counter(real.asked[key] for key in keys).values())
    wrong = sum(real.asked[one] != real.asked[other] for one, other in pairs)
    hard = sum(real.asked[one] != real.asked[other] for one, other in compared)
    draw, vocabulary = random.Random(1), real.words()
    changes = {
        change: [(key, new) for key in keys[:_PLANTED_IN] if (new := changed(key, change, vocabulary, draw))]
        for change in CHANGES
    }
    result: dict[str, object] = {
        "benchmark": "near_duplicates",
        "kind": "planted",
        "set": real.name,
        "messages": len(keys),
        "seconds": round(seconds, 2),
        "processor_seconds": round(worked, 2),
        "found": {change: shares(changes[change], prints) for change in CHANGES},
        "pairs_found": len(pairs),
        "other_intent": {
            "found": wrong,
            "percent_of_all_pairs": round(100 * wrong / max(differ, 1), 5),
            "percent_of_compared_pairs": round(100 * wrong / max(hard, 1), 1),
            "percent_of_found": round(100 * wrong / max(len(pairs), 1), 1),
        },
        "largest_component": largest_component(pairs),
    }
    if folder is not None and real.name in {"hwu64", "bitext", "airline", "fastfood"}:
        result["replaced_with_vectors"] = replaced_with_vectors(real, prints, changes["replaced"], compared, folder)
    return result


def shares(changes: Sequence[Pair], prints: Mapping[str, Fingerprint]) -> dict[str, dict[str, float]]:
    """Return by length which share of changed messages is found, now and by shingles alone, and how many there are."""
    ours: Counter[str] = Counter()
    baseline: Counter[str] = Counter()
    total = Counter(band_of(key) for key, _ in changes)
    for (key, _), fingerprint in zip(changes, Fingerprints().of([new for _, new in changes]), strict=True):
        ours[band_of(key)] += is_found(prints[key], fingerprint)
        baseline[band_of(key)] += prints[key].reaches(THRESHOLD, fingerprint)
    return {
        band: {
            "found": round(ours[band] / total[band], 3),
            "baseline": round(baseline[band] / total[band], 3),
            "of": total[band],
        }
        for _, band in BANDS
        if total[band]
    }


def replaced_with_vectors(
    real: RealSet,
    prints: Mapping[str, Fingerprint],
    changes: Sequence[Pair],
    compared: set[Pair],
    folder: Path,
) -> dict[str, object]:
    """Let vectors say which short messages with another word mean the same; embedded is what they can decide about."""
    by_band: dict[str, list[Pair]] = defaultdict(list)
    for pair in changes:
        by_band[band_of(pair[0])].append(pair)
    some = [pair for pairs in by_band.values() for pair in pairs[:_EMBEDDED]]
    alike = sorted(pair for pair in compared if set(prints[pair[0]].rests) & set(prints[pair[1]].rests))
    undecided = [pair for pair in alike if not prints[pair[0]].is_one_change_of(prints[pair[1]])]
    undecided = random.Random(2).sample(undecided, min(_UNDECIDED, len(undecided)))
    vectors = embedded(sorted({key for pair in [*some, *undecided] for key in pair}), folder)
    made = Fingerprints(vectors)
    counted: dict[str, dict[str, float]] = {}
    for band, pairs in by_band.items():
        ours = [is_found(*made.of(list(pair))) for pair in pairs[:_EMBEDDED]]
        counted[band] = {"found": round(sum(ours) / len(ours), 3), "of": len(ours)}
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    for one, other in undecided:
        verdicts[real.asked[one] == real.asked[other]].append(is_found(*made.of([one, other])))
    return {
        "found": {band: counted[band] for _, band in BANDS if band in counted},
        "real_pairs_let_through": {
            name: {"percent": round(100 * sum(found) / len(found), 1), "of": len(found)}
            for name, found in (("one intent", verdicts[True]), ("two intents", verdicts[False]))
            if found
        },
    }


def embedded(keys: Sequence[str], folder: Path) -> Vectors:
    """Return the vectors of keys, kept in a folder."""
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
    from resources.search.embeddings import LocalEmbedderResource

    vectors, _ = embed_messages(keys, embedder=LocalEmbedderResource().embedder(), cache=EmbeddingCache(folder))
    return dict(zip(keys, vectors, strict=True))


def found_pairs(prints: Mapping[str, Fingerprint]) -> Iterator[Pair]:
    """Yield the near-duplicates among messages."""
    index = NearDuplicateIndex()
    for key, fingerprint in prints.items():
        yield from ((key, other) for other in index.near(fingerprint))
        index.add(key, fingerprint)


def compared_pairs(prints: Mapping[str, Fingerprint]) -> Iterator[Pair]:
    """Yield the pairs that have a band or a rest in common, some more than once."""
    buckets: dict[tuple[str, int], list[str]] = defaultdict(list)
    for key, fingerprint in prints.items():
        for place in (*(("band", one) for one in fingerprint.bands), *(("rest", one) for one in fingerprint.rests)):
            yield from ((key, other) for other in buckets[place])
            buckets[place].append(key)


def largest_component(pairs: Sequence[Pair]) -> int:
    """Return how many messages the largest group has that pairs join."""
    linked: dict[str, str] = {}

    def root(name: str) -> str:
        while linked.setdefault(name, name) != name:
            linked[name] = name = linked[linked[name]]
        return name

    for one, other in pairs:
        linked[root(one)] = root(other)
    return max(Counter(root(name) for name in list(linked)).values(), default=1)


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
    found = sum(1 for _ in found_pairs(dict(zip(keys, prints, strict=True))))
    ours = time.perf_counter() - started
    started = time.perf_counter()
    true = sum(
        one.reaches(THRESHOLD, other) or one.is_one_change_of(other)
        for number, one in enumerate(prints)
        for other in prints[:number]
    )
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


def hostile() -> dict[str, object]:
    """Time 10,000 equal messages, one, an empty one, and long ones, one of them Japanese."""
    seconds: dict[str, float] = {}
    for name, keys in {
        "10000 equal": ["where is my order"] * 10_000,
        "one": ["hello"],
        "empty": [""],
        "200 of 10000 characters": [f"{number} {'abcdefghi ' * 1_000}"[:10_000] for number in range(200)],
        "one word of 10000 characters": ["x" * 10_000, f"{'x' * 9_999}y"],
        "Japanese of 10000 characters": ["漫画を返品したいです" * 1_000, "漫画が届きませんでした" * 900],
    }.items():
        started = time.perf_counter()
        index = NearDuplicateIndex()
        for key, fingerprint in zip(keys, Fingerprints().of(keys), strict=True):
            if not index.has_near(fingerprint):
                index.add(key, fingerprint)
        seconds[name] = round(time.perf_counter() - started, 3)
    return {"benchmark": "near_duplicates", "kind": "hostile", "seconds": seconds}


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
    """Run all kinds and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planted", type=int, default=10_000, help="Messages of a set that are compared.")
    parser.add_argument("--pairs", type=int, default=2_000, help="Messages of a set whose pairs are all compared.")
    parser.add_argument("--messages", type=int, default=100_000, help="Messages that a dataset is chosen from.")
    parser.add_argument("--vectors", type=Path, help="A folder for vectors: the embedding check is counted too.")
    parser.add_argument("--only", default="", help="A part of the names of the sets to plant in.")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "near_duplicates", "skipped": f"no data sets at {DATA}"}))
        return
    for real in real_sets():
        if options.only in real.name:
            print(json.dumps(planted(real, options.planted, options.vectors), ensure_ascii=False), flush=True)
    print(json.dumps(hostile()), flush=True)
    labelled = {name: [text for text, _ in rows] for name, rows in all_labelled().items()}
    for name in ("hwu64", "bitext") if options.pairs else ():
        print(json.dumps(pairs(name, keys_of(labelled[name], options.pairs))), flush=True)
    if options.messages:
        real_keys = keys_of([text for texts in labelled.values() for text in texts], options.messages)
        print(json.dumps(selection(filled_up(real_keys, options.messages), len(real_keys))), flush=True)


if __name__ == "__main__":
    main()
