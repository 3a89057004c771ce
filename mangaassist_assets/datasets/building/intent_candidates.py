"""From bootstrap messages and labels to candidates of the intent dataset: redacted, on their sides, in agreement."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mangaassist_assets.core.text_keys import normalise_text, text_digest
from mangaassist_assets.datasets.building.selection import DatasetCandidate
from mangaassist_assets.datasets.building.splits import SplitShares, assign_base_splits, assign_taught_split
from mangaassist_assets.datasets.schema import CORPUS, HOW_REVIEWED, TRUST, Split
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict, LabelKind, ReviewOrigin

LABEL_COLUMNS = {"trace_id": "source_trace_id", "kind": "label_kind", "sources": "label_sources"}
"""What a dataset calls the fields of a label, where it calls them otherwise."""


@dataclass(slots=True)
class Gathered:
    """Examples before selection, by id, with what was noticed on the way."""

    conflicts: list[LabelConflict]
    examples: dict[str, tuple[DatasetCandidate, dict[str, object]]] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)


def gather_base(
    gathered: Gathered,
    base: Sequence[Utterance],
    *,
    clean: Callable[[str], str],
    pinned: Mapping[str, Split] | None,
    shares: SplitShares,
) -> dict[str, str]:
    """Add bootstrap messages; returns their intents by near-duplicate key."""
    by_key: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for utterance in base:
        if utterance.intent is None:
            gathered.excluded["bootstrap message without an intent"] += 1
            continue
        text = clean(utterance.text)
        by_key[normalise_text(text)].append((text, utterance.intent))
    agreed: list[tuple[str, str, str]] = []
    for key, same in by_key.items():
        intents = sorted({intent for _, intent in same})
        text = min(text for text, _ in same)
        if len(intents) > 1:
            gathered.excluded["bootstrap messages contradict each other"] += len(same)
            gathered.conflicts.append(LabelConflict(trace_ids=(_base_id(text),), answers=tuple(intents)))
            continue
        gathered.excluded["duplicate message"] += len(same) - 1
        agreed.append((key, text, intents[0]))
    splits = assign_base_splits(
        [text for _, text, _ in agreed], [intent for _, _, intent in agreed], pinned=pinned, shares=shares
    )
    for (key, text, intent), split in zip(agreed, splits, strict=True):
        example_id = _base_id(text)
        row: dict[str, object] = {
            "example_id": example_id,
            "text": text,
            "intent": intent,
            "split": split,
            "label_kind": "base",
            "confidence": 1.0,
            "label_sources": [],
            "origin": CORPUS,
        }
        gathered.examples[example_id] = (
            DatasetCandidate(example_id=example_id, key=key, split=split, kind="base"),
            row,
        )
    return {key: intent for key, _, intent in agreed}


def usable_labels(
    labels: Sequence[IntentLabel], *, clean: Callable[[str], str], as_of_ms: int | None, excluded: Counter[str]
) -> list[IntentLabel]:
    """Return the labels that were given in time, with redacted text, one a turn: the most trusted, then the newest."""
    sound = [label for label in labels if 0 <= label.confidence <= 1]
    excluded["confidence is no probability"] += len(labels) - len(sound)
    of_turn: dict[str, IntentLabel] = {}
    for label in sorted(sound, key=_strength):
        if as_of_ms is not None and max(label.timestamp_ms, label.labelled_ms) > as_of_ms:
            excluded["after the as-of time"] += 1
        elif label.trace_id in of_turn:
            excluded["second label of the same turn"] += 1
        else:
            of_turn[label.trace_id] = label
    cleaned = [replace(label, text=clean(label.text)) for label in of_turn.values()]
    usable = [label for label in cleaned if normalise_text(label.text)]
    excluded["message without words"] += len(cleaned) - len(usable)
    return usable


def gather_labels(
    gathered: Gathered, labels: Sequence[IntentLabel], base_intents: Mapping[str, str], *, shares: SplitShares
) -> None:
    """Add labelled turns that contradict nothing: in train or validation, for folds test them."""
    keyed = [(normalise_text(label.text), label) for label in labels]
    accepted = dict(_accepted_intents(keyed, base_intents, gathered.conflicts))
    for key, label in keyed:
        if accepted[key] != label.intent:
            gathered.excluded["label contradicts one of the same message"] += 1
            continue
        example_id = f"trace-{label.trace_id}"
        candidate = DatasetCandidate(
            example_id=example_id,
            key=key,
            split=assign_taught_split(label.text, label.session_id, label.user_key, shares=shares),
            kind=label.kind,
            timestamp_ms=label.timestamp_ms,
            session_id=label.session_id,
            user_key=label.user_key,
        )
        row: dict[str, object] = {LABEL_COLUMNS.get(name, name): value for name, value in asdict(label).items()}
        row |= {"example_id": example_id, "split": candidate.split, "label_sources": sorted(label.sources)}
        gathered.examples[example_id] = (candidate, row)


def stand_for_copies(gathered: Gathered, kept: Collection[str]) -> None:
    """Let a label of people that is kept stand for the turns of its copies too: many shoppers may send a message."""
    copies: defaultdict[str, list[str]] = defaultdict(list)
    for example_id, (candidate, _) in gathered.examples.items():
        if candidate.kind == "human":
            copies[candidate.key].append(example_id)
    for same in copies.values():
        staying = [example_id for example_id in same if example_id in kept]
        if len(staying) == 1:
            row = gathered.examples[staying[0]][1]
            others = [_origin(gathered.examples[one][1]) for one in same if one != staying[0]]
            row.update(asdict(_origin(row).with_copies(others)))


def _origin(row: Mapping[str, Any]) -> ReviewOrigin:
    return ReviewOrigin(**{name: row[name] for name in HOW_REVIEWED})


def _accepted_intents(
    labels: Sequence[tuple[str, IntentLabel]], base_intents: Mapping[str, str], conflicts: list[LabelConflict]
) -> Iterator[tuple[str, str | None]]:
    """Yield the intent that labels of a message may have, by near-duplicate key; None where equals contradict.

    The most trusted speak for a message: people (bootstrap data, reviews), else a judge, else guesses. What people
    contradict each other on is listed as a conflict and none of the reviews is taken; the bootstrap example stays, for
    one review must not unteach it.
    """
    named: defaultdict[str, defaultdict[LabelKind, set[str]]] = defaultdict(lambda: defaultdict(set))
    reviewed: defaultdict[str, set[str]] = defaultdict(set)
    for key, label in labels:
        named[key][label.kind].add(label.intent)
        if label.kind == "human":
            reviewed[key].add(label.trace_id)
    for key in sorted(named):
        people = named[key]["human"] | ({base_intents[key]} if key in base_intents else set())
        answers = people or named[key]["judge"] or named[key]["propagated"]
        if len(people) > 1:
            conflicts.append(LabelConflict(trace_ids=tuple(sorted(reviewed[key])), answers=tuple(sorted(people))))
        yield key, next(iter(answers)) if len(answers) == 1 else None


def _strength(label: IntentLabel) -> tuple[int, int, float, str, str]:
    """Order labels of one turn: the most trusted kind first, of that the newest, then the surest."""
    return (TRUST[label.kind], -label.labelled_ms, -label.confidence, label.intent, label.labeller)


def _base_id(text: str) -> str:
    return f"base-{text_digest(text)[:20]}"
