"""The intent dataset: bootstrap messages and labelled turns, each on its side, ready to train and to judge with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from mangaassist_assets.datasets.intent_labels import IntentLabel, LabelConflict
from mangaassist_assets.datasets.selection import Candidate, Caps, held_out_keys, select
from mangaassist_assets.datasets.splits import DEFAULT_SHARES, Split, SplitShares, assign_base_splits, assign_split
from mangaassist_assets.datasets.text_keys import normalise_text, text_digest
from mangaassist_assets.datasets.utterances import Utterance
from mangaassist_assets.datasets.versions import DatasetVersion, seal_version
from mangaassist_assets.learning.examples import IntentExample
from mangaassist_assets.tracing.redaction import Vocabulary, redact

_STRING = pl.String()
INTENT_SCHEMA = pl.Schema(
    {
        "example_id": _STRING,
        "text": _STRING,
        "intent": _STRING,
        "split": _STRING,
        "label_kind": _STRING,
        "confidence": pl.Float64(),
        "source_trace_id": _STRING,
        "label_sources": pl.List(pl.String()),
        "labeller": _STRING,
        "labelled_ms": pl.Int64(),
        "release_bundle": _STRING,
        "session_id": _STRING,
        "user_key": _STRING,
        "timestamp_ms": pl.Int64(),
    }
)


class EmptyDatasetError(ValueError):
    """Nothing is left to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDatasetConfig:
    """Sides and caps of the intent dataset; `vocabulary` are the store's own words, which are no personal data."""

    shares: SplitShares = DEFAULT_SHARES
    caps: Caps = field(default_factory=Caps)
    vocabulary: Vocabulary | None = None


DEFAULT_INTENT_DATASET = IntentDatasetConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDataset:
    """Examples under `INTENT_SCHEMA`, one row each, what was left out and why, and contradicting labels."""

    examples: pl.DataFrame
    excluded: Mapping[str, int]
    conflicts: tuple[LabelConflict, ...] = ()

    def seal(self, *, as_of: str | None = None, notes: Sequence[str] = ()) -> DatasetVersion:
        """Return the immutable version with its data card."""
        return seal_version(
            self.examples,
            kind="intent",
            excluded=self.excluded,
            conflicts=self.conflicts,
            as_of=as_of,
            notes=notes,
        )


def build_intent_dataset(
    base: Sequence[Utterance],
    labels: Sequence[IntentLabel],
    *,
    conflicts: Sequence[LabelConflict] = (),
    golden_texts: Sequence[str] = (),
    pinned: Mapping[str, Split] | None = None,
    config: IntentDatasetConfig = DEFAULT_INTENT_DATASET,
) -> IntentDataset:
    """Join bootstrap messages and labels into one dataset.

    Args:
        base: bootstrap utterances; those without an intent are left out.
        labels: reviewed and propagated labels, of this bundle and those before.
        conflicts: contradicting reviews that are already excluded, for the card.
        golden_texts: messages that must not be in it.
        pinned: sides an earlier version gave bootstrap messages, by near-duplicate key (`pinned_sides`).
        config: sides and caps.

    Raises:
        EmptyDatasetError: no example is left in train.
    """
    gathered = _Gathered(conflicts=list(conflicts))
    excluded = gathered.excluded
    excluded["reviews contradict each other"] = sum(len(one.trace_ids) for one in conflicts)
    base_intents = _gather_base(gathered, base, pinned=pinned, config=config)
    _gather_labels(gathered, labels, base_intents, config=config)
    candidates = [candidate for candidate, _ in gathered.examples.values()]
    chosen = select(candidates, caps=config.caps, held_out=held_out_keys(golden_texts))
    excluded.update(chosen.excluded)
    examples = pl.DataFrame(
        [row for example_id, (_, row) in gathered.examples.items() if example_id in chosen.kept],
        schema=INTENT_SCHEMA,
    ).sort("example_id")
    if not (examples["split"] == "train").any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(excluded.items()) if count) or "none"
        msg = f"no example to train on of {len(base)} bootstrap messages and {len(labels)} labels; left out: {reasons}"
        raise EmptyDatasetError(msg)
    return IntentDataset(
        examples=examples,
        excluded={reason: count for reason, count in sorted(excluded.items()) if count},
        conflicts=tuple(gathered.conflicts),
    )


def intent_examples(examples: pl.DataFrame, split: Split) -> list[IntentExample]:
    """Return one side of a dataset frame as training examples, ordered by id; the weight is the label's confidence."""
    side = examples.filter(pl.col("split") == split).sort("example_id")
    return [
        IntentExample(example_id=example_id, text=text, intent=intent, weight=confidence)
        for example_id, text, intent, confidence in side.select(
            "example_id", "text", "intent", "confidence"
        ).iter_rows()
    ]


def carried_labels(examples: pl.DataFrame) -> list[IntentLabel]:
    """Return the labels inside an earlier dataset frame, so that a later bundle's dataset can build on them."""
    return [
        IntentLabel(
            trace_id=row["source_trace_id"],
            text=row["text"],
            intent=row["intent"],
            kind=row["label_kind"],
            confidence=row["confidence"],
            sources=tuple(row["label_sources"]),
            release_bundle=row["release_bundle"],
            session_id=row["session_id"],
            user_key=row["user_key"],
            timestamp_ms=row["timestamp_ms"],
            labeller=row["labeller"],
            labelled_ms=row["labelled_ms"],
        )
        for row in examples.filter(pl.col("label_kind") != "base").sort("example_id").to_dicts()
    ]


def pinned_sides(examples: pl.DataFrame) -> dict[str, Split]:
    """Return the sides of the bootstrap messages of an earlier dataset frame, by near-duplicate key."""
    base = examples.filter(pl.col("label_kind") == "base")
    return {normalise_text(text): split for text, split in base.select("text", "split").iter_rows()}


@dataclass(slots=True)
class _Gathered:
    """Examples before selection, by id, with what was noticed on the way."""

    conflicts: list[LabelConflict]
    examples: dict[str, tuple[Candidate, dict[str, object]]] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)


def _gather_base(
    gathered: _Gathered, base: Sequence[Utterance], *, pinned: Mapping[str, Split] | None, config: IntentDatasetConfig
) -> dict[str, str]:
    """Add bootstrap messages; returns their intents by near-duplicate key."""
    by_key: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for utterance in base:
        if utterance.intent is None:
            gathered.excluded["bootstrap message without an intent"] += 1
            continue
        text = _redacted(utterance.text, config.vocabulary)
        by_key[normalise_text(text)].append((text, utterance.intent))
    agreed: list[tuple[str, str, str]] = []
    for key, same in by_key.items():
        intents = sorted({intent for _, intent in same})
        if len(intents) > 1:
            gathered.excluded["bootstrap messages contradict each other"] += len(same)
            gathered.conflicts.append(LabelConflict(trace_ids=(_base_id(same[0][0]),), answers=tuple(intents)))
            continue
        gathered.excluded["duplicate message"] += len(same) - 1
        agreed.append((key, min(text for text, _ in same), intents[0]))
    splits = assign_base_splits(
        [text for _, text, _ in agreed], [intent for _, _, intent in agreed], pinned=pinned, shares=config.shares
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
        }
        gathered.examples[example_id] = (Candidate(example_id=example_id, key=key, split=split, kind="base"), row)
    return {key: intent for key, _, intent in agreed}


def _gather_labels(
    gathered: _Gathered, labels: Sequence[IntentLabel], base_intents: Mapping[str, str], *, config: IntentDatasetConfig
) -> None:
    """Add labelled turns that contradict nothing; of two labels of one turn the review wins over the guess."""
    of_turn: dict[str, tuple[str, str, IntentLabel]] = {}
    for label in sorted(labels, key=lambda one: (one.kind != "human", -one.confidence, one.intent)):
        if label.trace_id in of_turn:
            gathered.excluded["second label of the same turn"] += 1
            continue
        text = _redacted(label.text, config.vocabulary)
        of_turn[label.trace_id] = (normalise_text(text), text, label)
    accepted = _accepted_intents([(key, label) for key, _, label in of_turn.values()], base_intents, gathered)
    for key, text, label in of_turn.values():
        if accepted[key] != label.intent:
            gathered.excluded["label contradicts one of the same message"] += 1
            continue
        example_id = f"trace-{label.trace_id}"
        candidate = Candidate(
            example_id=example_id,
            key=key,
            split=assign_split(text, label.session_id, label.user_key, shares=config.shares),
            kind=label.kind,
            timestamp_ms=label.timestamp_ms,
            session_id=label.session_id,
            user_key=label.user_key,
        )
        row: dict[str, object] = {
            "example_id": example_id,
            "text": text,
            "intent": label.intent,
            "split": candidate.split,
            "label_kind": label.kind,
            "confidence": label.confidence,
            "source_trace_id": label.trace_id,
            "label_sources": sorted(label.sources),
            "labeller": label.labeller,
            "labelled_ms": label.labelled_ms,
            "release_bundle": label.release_bundle,
            "session_id": label.session_id,
            "user_key": label.user_key,
            "timestamp_ms": label.timestamp_ms,
        }
        gathered.examples[example_id] = (candidate, row)


def _accepted_intents(
    labels: Sequence[tuple[str, IntentLabel]], base_intents: Mapping[str, str], gathered: _Gathered
) -> dict[str, str | None]:
    """Return the intent that labels of a message may have, by near-duplicate key; None where people contradict.

    What people say (bootstrap data, reviews) is listed as a conflict and none of the reviews is taken; the bootstrap
    example stays, for one review must not unteach it. A guess that contradicts people, or another guess, just goes.
    """
    human: defaultdict[str, set[str]] = defaultdict(set)
    guessed: defaultdict[str, set[str]] = defaultdict(set)
    traces: defaultdict[str, set[str]] = defaultdict(set)
    for key, label in labels:
        (human if label.kind == "human" else guessed)[key].add(label.intent)
        if label.kind == "human":
            traces[key].add(label.trace_id)
    accepted: dict[str, str | None] = {}
    for key in human.keys() | guessed.keys():
        said = human[key] | ({base_intents[key]} if key in base_intents else set())
        answers = said or guessed[key]
        accepted[key] = next(iter(answers)) if len(answers) == 1 else None
    for key in sorted(key for key in traces if accepted[key] is None):
        said = human[key] | ({base_intents[key]} if key in base_intents else set())
        gathered.conflicts.append(LabelConflict(trace_ids=tuple(sorted(traces[key])), answers=tuple(sorted(said))))
    return accepted


def _base_id(text: str) -> str:
    return f"base-{text_digest(text)[:20]}"


def _redacted(text: str, vocabulary: Vocabulary | None) -> str:
    return redact(text, vocabulary=vocabulary).text
