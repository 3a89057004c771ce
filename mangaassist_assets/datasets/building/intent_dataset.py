"""The intent dataset: bootstrap messages and labelled turns, each on its side, ready to train and to judge with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.intent_candidates import Gathered, gather_base, gather_labels, usable_labels
from mangaassist_assets.datasets.building.selection import select
from mangaassist_assets.datasets.building.splits import DEFAULT_SHARES, SplitShares
from mangaassist_assets.datasets.guards.holdout_history import NO_HOLDOUT_HISTORY, HoldoutHistory
from mangaassist_assets.datasets.guards.limits import Caps
from mangaassist_assets.datasets.guards.poisoning import ShopperHistory, TrustConfig, admit
from mangaassist_assets.datasets.guards.redaction_pass import RedactionPass, RedactionReport
from mangaassist_assets.datasets.schema import INTENT_SCHEMA, Split
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.versions import DatasetVersion, seal_version
from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict
from mangaassist_assets.privacy import Vocabulary


class EmptyDatasetError(ValueError):
    """Nothing is left to train on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDatasetConfig:
    """Sides and limits of the intent dataset.

    `vocabulary` are the store's own words, which are no personal data. Nothing that was written or labelled after
    `as_of_ms` (milliseconds since the epoch) counts; None for no such time.
    """

    shares: SplitShares = DEFAULT_SHARES
    caps: Caps = field(default_factory=Caps)
    trust: TrustConfig = field(default_factory=TrustConfig)
    vocabulary: Vocabulary | None = None
    as_of_ms: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return what decides the rows besides the inputs, as JSON values."""
        return {"shares": asdict(self.shares), "caps": asdict(self.caps), "trust": asdict(self.trust)}

    @staticmethod
    def from_settings(settings: Mapping[str, Any], *, as_of_ms: int | None) -> IntentDatasetConfig:
        """Return the configuration that a data card records; the vocabulary comes from the knowledge."""
        return IntentDatasetConfig(
            shares=SplitShares(**settings["shares"]),
            caps=Caps(**settings["caps"]),
            trust=TrustConfig(**settings["trust"]),
            as_of_ms=as_of_ms,
        )


DEFAULT_INTENT_DATASET = IntentDatasetConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDataset:
    """Examples under `INTENT_SCHEMA`, one row each, what was left out and why, and contradicting labels."""

    examples: pl.DataFrame
    excluded: Mapping[str, int]
    conflicts: tuple[LabelConflict, ...] = ()
    redaction: RedactionReport | None = None
    config: IntentDatasetConfig = DEFAULT_INTENT_DATASET

    def seal(
        self, *, as_of: str | None = None, notes: Sequence[str] = (), inputs: Mapping[str, str] | None = None
    ) -> DatasetVersion:
        """Return the immutable version with its data card; `as_of` is the release bundle."""
        return seal_version(
            self.examples,
            kind="intent",
            excluded=self.excluded,
            conflicts=self.conflicts,
            as_of=as_of,
            notes=notes,
            as_of_ms=self.config.as_of_ms,
            inputs=inputs,
            settings=self.config.settings(),
            redaction=self.redaction,
        )


def build_intent_dataset(
    base: Sequence[Utterance],
    labels: Sequence[IntentLabel],
    *,
    conflicts: Sequence[LabelConflict] = (),
    golden_texts: Sequence[str] = (),
    pinned: Mapping[str, Split] | None = None,
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    history: ShopperHistory | None = None,
    config: IntentDatasetConfig = DEFAULT_INTENT_DATASET,
) -> IntentDataset:
    """Join bootstrap messages and labels into one dataset.

    The rows depend on what is given here and on nothing else, not on its order: the same arguments, the same bytes.

    Args:
        base: bootstrap utterances; those without an intent are left out.
        labels: reviewed, judged and propagated labels, of this bundle and those before.
        conflicts: contradicting reviews that are already excluded, for the card.
        golden_texts: messages that must not be in it, nor anything nearly the same.
        pinned: sides an earlier version gave bootstrap messages, by near-duplicate key (`pinned_sides`).
        holdout_history: what earlier versions were tested on (`holdout_history_of`), which must not be trained on.
        history: since when shoppers are known, and who wrote which trace; None to trust all alike.
        config: sides, limits and time.

    Raises:
        EmptyDatasetError: no example is left in train.
    """
    cleaner = RedactionPass(config.vocabulary)
    gathered = Gathered(conflicts=list(conflicts))
    excluded = gathered.excluded
    excluded["reviews contradict each other"] = sum(len(one.trace_ids) for one in conflicts)
    base_intents = gather_base(gathered, base, clean=cleaner.clean, pinned=pinned, shares=config.shares)
    usable = usable_labels(labels, clean=cleaner.clean, as_of_ms=config.as_of_ms, excluded=excluded)
    admission = admit(
        usable, base_intents=Counter(base_intents.values()), history=history, caps=config.caps, config=config.trust
    )
    excluded.update(admission.excluded)
    gather_labels(gathered, admission.labels, base_intents, shares=config.shares)
    candidates = [candidate for candidate, _ in gathered.examples.values()]
    chosen = select(candidates, caps=config.caps, golden_texts=golden_texts, holdout_history=holdout_history)
    excluded.update(chosen.excluded)
    examples = pl.DataFrame(
        [row for example_id, (_, row) in gathered.examples.items() if example_id in chosen.kept],
        schema=INTENT_SCHEMA,
    ).sort("example_id")
    counted = {reason: count for reason, count in sorted(excluded.items()) if count}
    if not (examples["split"] == "train").any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted.items()) or "none"
        msg = f"no example to train on of {len(base)} bootstrap messages and {len(labels)} labels; left out: {reasons}"
        raise EmptyDatasetError(msg)
    return IntentDataset(
        examples=examples,
        excluded=counted,
        conflicts=tuple(sorted(gathered.conflicts, key=lambda one: (one.trace_ids, one.answers))),
        redaction=cleaner.report(examples["text"]),
        config=config,
    )


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
            tenant=row["tenant"],
            labelled_ms=row["labelled_ms"],
        )
        for row in examples.filter(pl.col("label_kind") != "base").sort("example_id").to_dicts()
    ]


def pinned_sides(examples: pl.DataFrame) -> dict[str, Split]:
    """Return the sides of the bootstrap messages of an earlier dataset frame, by near-duplicate key."""
    base = examples.filter(pl.col("label_kind") == "base")
    return {normalise_text(text): split for text, split in base.select("text", "split").iter_rows()}
