"""Redaction: messages a second on one core, and how much it finds and leaves alone. Prints one JSON line.

Speed is measured on a shuffled mix of four sets: hwu64, bitext, pii (English) and the Japanese set of the tests. The
baseline of the same run is presidio-analyzer with its pattern recognisers on a blank spaCy pipeline, on the English
part of the mix (`uv pip install presidio-analyzer`; without it the baseline is null with the reason).

An entity counts as found when at least half of its characters are inside findings of any kind; a finding counts as
right when it overlaps an entity of its own kind (`precision`), or any entity of the set (`precision_any`). `tune` is
the half of the templates that weights were set on, `test` the other half.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
JAPANESE = ROOT / "tests" / "data" / "pii_japanese.jsonl"

# Kinds of shared/data/pii that are personal data here. The others stay on purpose: a bare place, organisation, link,
# job or date names nobody by itself; dates of birth are found where they are called so.
OWN_KINDS: dict[str, frozenset[str]] = {
    "PERSON": frozenset({"NAME"}),
    "PREFIX": frozenset({"NAME"}),
    "ADDRESS": frozenset({"ADDRESS", "POSTAL_CODE"}),
    "CREDIT_CARD": frozenset({"CARD"}),
    "PHONE_NUMBER": frozenset({"PHONE"}),
    "EMAIL_ADDRESS": frozenset({"EMAIL"}),
    "US_SSN": frozenset({"NATIONAL_ID"}),
    "IBAN_CODE": frozenset({"PAYMENT_REF"}),
    "US_DRIVER_LICENSE": frozenset({"LICENSE_ID"}),
    "IP_ADDRESS": frozenset({"IP_ADDRESS"}),
    "DATE_TIME": frozenset({"PROFILE"}),
    "LOCATION": frozenset({"ADDRESS"}),
}

Span = tuple[str, int, int]


@dataclass(slots=True)
class Score:
    """Counts of one half of a set."""

    entities: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    touching: Counter[str] = field(default_factory=Counter)

    def add(self, gold: Sequence[Span], found: Sequence[Span], own: Callable[[str], Iterable[str]]) -> None:
        """Add one sentence: entities of the set, findings as (kind, start, end)."""
        for kind, start, end in gold:
            covered = sum(max(0, min(stop, end) - max(first, start)) for _, first, stop in found)
            self.entities[kind] += 1
            self.found[kind] += 2 * covered >= end - start
        for kind, start, end in found:
            overlapping = [entity for entity, first, stop in gold if first < end and start < stop]
            self.findings[kind] += 1
            self.right[kind] += any(kind in own(entity) for entity in overlapping)
            self.touching[kind] += bool(overlapping)

    def report(self) -> dict[str, Any]:
        """Return shares by kind and over all findings."""
        total = max(1, sum(self.findings.values()))
        return {
            "recall": {kind: round(self.found[kind] / count, 4) for kind, count in sorted(self.entities.items())},
            "entities": dict(sorted(self.entities.items())),
            "precision_by_kind": {
                kind: round(self.right[kind] / count, 4) for kind, count in sorted(self.findings.items())
            },
            "precision": round(sum(self.right.values()) / total, 4),
            "precision_any": round(sum(self.touching.values()) / total, 4),
        }


def read_pii() -> list[tuple[str, str, list[Span]]]:
    """Return (half, sentence, spans) of the English set; templates with odd numbers are the test half."""
    rows = json.loads((DATA / "pii" / "generated_large.json").read_text("utf-8"))
    return [
        (
            ("tune", "test")[row["template_id"] % 2],
            row["full_text"],
            [(span["entity_type"], span["start_position"], span["end_position"]) for span in row["spans"]],
        )
        for row in rows
    ]


def read_japanese() -> list[tuple[str, str, list[Span]]]:
    """Return (half, sentence, spans) of the Japanese set."""
    rows = [json.loads(line) for line in JAPANESE.read_text("utf-8").splitlines()]
    return [
        (row["half"], row["text"], [(span["kind"], span["start"], span["end"]) for span in row["spans"]])
        for row in rows
    ]


def read_airline() -> list[tuple[str, str, list[Span]]]:
    """Return (test, message, spans) of multidogo's airline customers: lower case, no signs, names as bare answers."""
    rows: list[tuple[str, str, list[Span]]] = []
    with (DATA / "multidogo" / "airline_test.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            words, labels = (row["utterance"] or "").split(" "), (row["slot-labels"] or "").split(" ")
            if len(words) == len(labels):
                rows.append(("test", " ".join(words), _slots(words, labels)))
    return rows


def _slots(words: Sequence[str], labels: Sequence[str]) -> list[Span]:
    """Return runs of words with the same label (`O` is none) as spans in the words joined by single spaces."""
    spans: list[Span] = []
    place = 0
    for word, label in zip(words, labels, strict=True):
        kind, end = label.split("-")[-1], place + len(word)
        if spans and spans[-1][0] == kind and spans[-1][2] + 1 == place:
            spans[-1] = (kind, spans[-1][1], end)
        elif label not in {"", "O"}:
            spans.append((kind, place, end))
        place = end + 1
    return spans


def read_column(path: Path, *names: str) -> list[str]:
    """Return the non-empty cells of some columns of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row[name] for row in csv.DictReader(file) for name in names if row[name]]


def read_hwu64() -> list[str]:
    """Return the messages of all splits."""
    return [
        line
        for split in ("train", "valid", "test")
        for line in (DATA / "hwu64" / f"{split}.seq.in").read_text("utf-8").splitlines()
    ]


def quality(rows: list[tuple[str, str, list[Span]]], own: Callable[[str], Iterable[str]]) -> dict[str, Any]:
    """Return recall and precision of both halves of a set."""
    from mangaassist_assets.privacy import find_personal_data

    scores = {"tune": Score(), "test": Score()}
    for half, text, gold in rows:
        found = [(str(one.kind), one.start, one.end) for one in find_personal_data(text)]
        scores[half].add(gold, found, own)
    return {half: score.report() for half, score in scores.items()}


def share_changed(texts: Sequence[str], vocabulary: Iterable[str] | None = None) -> float:
    """Return the share of texts that redaction changes."""
    from mangaassist_assets.privacy import Vocabulary, redact

    words = None if vocabulary is None else Vocabulary(vocabulary)
    return round(sum(bool(redact(text, vocabulary=words).counts) for text in texts) / len(texts), 5)


def speed(texts: Sequence[str], work: Callable[[str], object]) -> float:
    """Return messages a second of processor time; lists and dictionaries are loaded before."""
    for text in texts[:50]:
        work(text)
    started = time.process_time()
    for text in texts:
        work(text)
    return round(len(texts) / (time.process_time() - started), 1)


def presidio() -> tuple[Callable[[str], object] | None, str]:
    """Return the baseline's function, or None and why there is none."""
    try:
        import spacy
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as missing:
        return None, f"{missing.name} is not installed"

    # The list of top-level domains inside the package; by default it asks the network for a newer one.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class BlankEngine(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

    engine = AnalyzerEngine(nlp_engine=BlankEngine(), supported_languages=["en"])
    return (lambda text: engine.analyze(text, language="en")), "presidio-analyzer, pattern recognisers, blank pipeline"


def baseline_quality(work: Callable[[str], Any]) -> dict[str, Any]:
    """Return the baseline's recall and precision on the English set (it shares the set's own kinds)."""
    names = {"IP_ADDRESS": "IP_ADDRESS", "URL": "DOMAIN_NAME"}
    score = Score()
    for _, text, gold in read_pii():
        found = [(names.get(one.entity_type, one.entity_type), one.start, one.end) for one in work(text)]
        score.add(gold, found, lambda entity: (entity,))
    return score.report()


def run(messages: int, seed: int) -> dict[str, Any]:
    """Measure everything."""
    from mangaassist_assets.privacy import redact

    draw = random.Random(seed)
    hwu64, english, japanese = read_hwu64(), read_pii(), read_japanese()
    bitext = read_column(DATA / "bitext" / "bitext20k.csv", "utterance")
    quarter = messages // 4
    mixed = [
        draw.choices(texts, k=quarter) for texts in (hwu64, bitext, [r[1] for r in english], [r[1] for r in japanese])
    ]
    mix = draw.sample(list(chain(*mixed)), quarter * 4)
    ours = speed(mix, redact)
    titles = read_column(DATA / "manga" / "anilist_manga.csv", "eng_title", "rom_title")
    posts = read_column(DATA / "manga" / "reddit_r_manga.csv", "title")
    report: dict[str, Any] = {
        "benchmark": "redaction",
        "messages": len(mix),
        "messages_per_second": ours,
        "messages_per_second_japanese": speed(mixed[3], redact),
        "maximum_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "pii": quality(english, lambda entity: OWN_KINDS.get(entity, ())),
        "japanese": quality(japanese, lambda entity: (entity,)),
        "airline": quality(
            read_airline(), lambda entity: {"name": ["NAME"], "phone_number": ["PHONE"]}.get(entity, ())
        )["test"],
        "changed": {
            "hwu64": share_changed(hwu64),
            "bitext": share_changed(bitext),
            "manga_titles": share_changed(titles),
            "manga_titles_with_vocabulary": share_changed(titles, titles),
            "manga_posts": share_changed(posts),
            "manga_posts_with_vocabulary": share_changed(posts, titles),
        },
    }
    work, reason = presidio()
    report["baseline"] = {"name": reason, "messages_per_second": None}
    if work is not None:
        slow = draw.sample(list(chain(*mixed[:3])), min(2_000, quarter))
        theirs, same = speed(slow, work), speed(slow, redact)
        report["baseline"] |= {
            "messages_per_second": theirs,
            "ours_on_the_same_messages": same,
            "ratio": round(same / theirs, 2),
            "pii": baseline_quality(work),
        }
    return report


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("shared/data is not beside this checkout: the benchmark needs hwu64, bitext, pii and manga")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.path.insert(0, str(ROOT))
    print(json.dumps(run(options.messages, options.seed), ensure_ascii=False))


if __name__ == "__main__":
    main()
