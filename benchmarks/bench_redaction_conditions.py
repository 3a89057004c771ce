"""Redaction under the conditions of a manga store's chat: one JSON line a condition, then one a kind of long text.

The sentences of shared/data/pii (English) and of the Japanese set of the tests are read as they are, with words of the
catalogue before or behind them, in lower case, and broken into lines. `recall` is the share of entities of which half
of the characters are found, `whole` the share of which every letter and digit is. `precision` is the share of findings
that touch an entity of the set. `rate` is messages a second of processor time, `megabytes_per_second` that of long
texts. The baseline of the same run is the condition `plain`: what a condition costs is the difference to it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from bench_redaction import DATA, ROOT, Span, read_japanese, read_pii

# Kinds of the sets by what they are called here; the others stay on purpose.
KINDS = {
    "PERSON": "name",
    "NAME": "name",
    "ADDRESS": "address",
    "PHONE_NUMBER": "phone",
    "PHONE": "phone",
    "CREDIT_CARD": "card",
    "CARD": "card",
}
Row = tuple[str, str, list[Span]]
Change = Callable[[str, list[Span]], tuple[str, list[Span]]]


def around(before: str, behind: str) -> Change:
    """Return a change that puts words before and behind a sentence."""
    return lambda text, spans: (
        before + text + behind,
        [(kind, start + len(before), end + len(before)) for kind, start, end in spans],
    )


def _lower(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    lower = "".join(one.lower() if len(one.lower()) == 1 else one for one in text)
    return lower, spans


def _wrapped(text: str, spans: list[Span]) -> tuple[str, list[Span]]:
    """Return the text with a line's end in the place of every space that a narrow window would break at."""
    broken = list(text)
    place = 0
    for line in textwrap.wrap(text, 28, break_long_words=False, break_on_hyphens=False, drop_whitespace=False):
        place += len(line)
        if place < len(text) and text[place - 1] == " ":
            broken[place - 1] = "\n"
    return "".join(broken), spans


ENGLISH: dict[str, Change] = {
    "plain": lambda text, spans: (text, spans),
    "volume behind": around("", " I want volume 3."),
    "volume before": around("I want volume 3. ", ""),
    "chapter behind": around("", " It is about chapter 12 of the manga."),
    "season before": around("I have watched the anime up to season 2. ", ""),
    "series and author behind": around("", " Which series has that author, and is there a box set?"),
    "lower case": _lower,
    "line breaks": _wrapped,
    "lower case, volume behind": lambda text, spans: around("", " i want volume 3.")(*_lower(text, spans)),
}
JAPANESE: dict[str, Change] = {
    "plain": lambda text, spans: (text, spans),
    "volume behind": around("", "3巻が欲しいです。"),
    "volume before": around("3巻が欲しいです。", ""),
    "english volume behind": around("", " I want volume 3."),
    "chapter and season": around("", "第12話とアニメ2期の話です。"),
    "series and author before": around("その作者の新刊シリーズについてです。", ""),
}


def measure(rows: Sequence[Row], change: Change, halves: Sequence[str]) -> dict[str, Any]:
    """Return recall by kind, precision and rate on the changed sentences of some halves."""
    from mangaassist_assets.privacy import find_personal_data

    entities, found, whole = Counter[str](), Counter[str](), Counter[str]()
    findings = touching = 0
    changed = [change(text, spans) for half, text, spans in rows if half in halves]
    find_personal_data("田中 hello")
    started = time.process_time()
    results = [find_personal_data(text) for text, _ in changed]
    seconds = time.process_time() - started
    for (text, gold), result in zip(changed, results, strict=True):
        covered = {place for one in result for place in range(one.start, one.end)}
        for kind, start, end in gold:
            if (name := KINDS.get(kind)) is not None:
                entities[name] += 1
                found[name] += 2 * len(covered.intersection(range(start, end))) >= end - start
                whole[name] += all(place in covered for place in range(start, end) if text[place].isalnum())
        findings += len(result)
        touching += sum(any(start < one.end and one.start < end for _, start, end in gold) for one in result)
    return {
        "messages": len(changed),
        "entities": dict(sorted(entities.items())),
        "recall": {kind: round(found[kind] / count, 4) for kind, count in sorted(entities.items())},
        "whole": {kind: round(whole[kind] / count, 4) for kind, count in sorted(entities.items())},
        "precision": round(touching / max(1, findings), 4),
        "rate": round(len(changed) / seconds),
    }


def long_texts(rows: Sequence[Row], japanese: Sequence[Row], size: int) -> dict[str, str]:
    """Return long texts: messages one after another, prose, words of names, a log, JSON, one long word."""

    def repeated(text: str) -> str:
        return (text * (size // len(text) + 1))[:size]

    everything = " ".join(text for _, text, _ in rows)
    return {
        "messages": repeated(everything),
        "messages in lower case": repeated(everything.lower()),
        "japanese messages": repeated("".join(text for _, text, _ in japanese))[: size // 3],
        "a chat of lines": repeated("\n".join(text for _, text, _ in rows)),
        "prose": repeated("Hello, please help me with volume three of the story, it is late. "),
        "names": repeated("Jane Doe and John Smith met Maria Garcia. "),
        "log": repeated('2026-03-10T12:30:11Z INFO request_id=4bf92f35 status=200 path="/api/items/12" took 31 ms\n'),
        "json": repeated('{"role": "user", "content": "where is my order?", "index": 12}, '),
        "one word": repeated("a"),
    }


def main() -> None:
    """Print one JSON line a condition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="A pattern that the name of a condition holds.")
    parser.add_argument("--half", choices=("tune", "test"), help="One half of the templates instead of both.")
    parser.add_argument("--size", type=int, default=1_000_000, help="Characters of a long text.")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("shared/data is not beside this checkout: the benchmark needs pii")
    sys.path.insert(0, str(ROOT))
    from mangaassist_assets.privacy import redact

    halves = (options.half,) if options.half else ("tune", "test")
    english, japanese = read_pii(), read_japanese()
    for language, rows, conditions in (("english", english, ENGLISH), ("japanese", japanese, JAPANESE)):
        for name, change in conditions.items():
            if re.search(options.only, f"{language} {name}"):
                line = {"benchmark": "redaction_conditions", "language": language, "condition": name}
                print(json.dumps(line | measure(rows, change, halves)), flush=True)
    for name, text in long_texts(english, japanese, options.size).items():
        if re.search(options.only, f"long {name}"):
            started = time.process_time()
            redact(text)
            rate = len(text.encode()) / 1e6 / (time.process_time() - started)
            line = {"benchmark": "redaction_conditions", "long": name, "characters": len(text)}
            print(json.dumps(line | {"megabytes_per_second": round(rate, 3)}), flush=True)


if __name__ == "__main__":
    main()
