"""The intent dataset: bootstrap messages and labelled turns, each on its side, ready to train and to judge with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.built_dataset import BuiltDataset, DatasetConfig, refuse_empty
from mangaassist_assets.datasets.building.intent_candidates import (
    LABEL_COLUMNS,
    Gathered,
    gather_base,
    gather_labels,
    stand_for_copies,
    usable_labels,
)
from mangaassist_assets.datasets.building.selection import select
from mangaassist_assets.datasets.guards.leakage import NO_HOLDOUT_HISTORY, HoldoutHistory
from mangaassist_assets.datasets.guards.poisoning import ShopperHistory, TrustConfig, admit
from mangaassist_assets.datasets.guards.redaction_pass import RedactionPass
from mangaassist_assets.datasets.schema import INTENT_SCHEMA, Split
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.datasets.versions.data_card import Provenance
from mangaassist_assets.labelling.intent_labels import IntentLabel, LabelConflict


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDatasetConfig(DatasetConfig):
    """Sides, caps and the limits of the poisoning guard."""

    trust: TrustConfig = field(default_factory=TrustConfig)


DEFAULT_INTENT_DATASET = IntentDatasetConfig()


def build_intent_dataset(
    base: Sequence[Utterance],
    labels: Sequence[IntentLabel],
    *,
    conflicts: Sequence[LabelConflict] = (),
    golden_texts: Sequence[str] = (),
    pinned: Mapping[str, Split] | None = None,
    holdout_history: HoldoutHistory = NO_HOLDOUT_HISTORY,
    history: ShopperHistory | None = None,
    confirmed: Collection[str] = (),
    config: IntentDatasetConfig = DEFAULT_INTENT_DATASET,
) -> BuiltDataset:
    """Join bootstrap messages and labels into one dataset under `INTENT_SCHEMA`, a row an example.

    The rows depend on what is given here and on nothing else, not on its order: the same arguments, the same bytes.

    Args:
        base: bootstrap utterances; those without an intent are left out.
        labels: reviewed, judged and propagated labels, of this bundle and those before.
        conflicts: contradicting reviews that are already excluded, for the card.
        golden_texts: messages that must not be in it, nor anything nearly the same.
        pinned: sides an earlier version gave bootstrap messages, by near-duplicate key (`pinned_sides`).
        holdout_history: corpus messages that earlier versions were tested on (`holdout_history_of`), which must not be
            trained on.
        history: since when shoppers are known, and who wrote which trace; None to trust all alike.
        confirmed: reviewers whose answers were found to fit those of others.
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
    admitted = admit(
        usable,
        base_intents=Counter(base_intents.values()),
        history=history,
        caps=config.caps,
        config=config.trust,
        excluded=excluded,
        confirmed=confirmed,
    )
    gather_labels(gathered, admitted, base_intents, shares=config.shares)
    candidates = [candidate for candidate, _ in gathered.examples.values()]
    chosen = select(
        candidates, caps=config.caps, golden_texts=golden_texts, holdout_history=holdout_history, cross_fitted=True
    )
    excluded.update(chosen.excluded)
    stand_for_copies(gathered, chosen.kept)
    examples = pl.DataFrame(
        [row for example_id, (_, row) in gathered.examples.items() if example_id in chosen.kept],
        schema=INTENT_SCHEMA,
    ).sort("example_id")
    refuse_empty(examples, excluded, example="example", of=f"{len(base)} bootstrap messages and {len(labels)} labels")
    return BuiltDataset(
        rows=examples,
        provenance=Provenance(
            kind="intent",
            as_of_ms=config.as_of_ms,
            excluded=+excluded,
            conflicts=tuple(sorted(gathered.conflicts, key=lambda one: (one.trace_ids, one.answers))),
            redaction=cleaner.report(examples["text"]),
            settings=config.settings(),
        ),
    )


def carried_labels(examples: pl.DataFrame) -> list[IntentLabel]:
    """Return the labels inside an earlier dataset frame, so that a later bundle's dataset can build on them.

    Frames of before origins were kept have no columns for them: nothing is known of those labels.
    """
    names = {column: name for name, column in LABEL_COLUMNS.items()}
    labels = examples.filter(pl.col("label_kind") != "base").sort("example_id").rename(names)
    known = set(labels.columns)
    rows = labels.select(field.name for field in fields(IntentLabel) if field.name in known).to_dicts()
    return [IntentLabel(**{**row, "sources": tuple(row["sources"])}) for row in rows]


def pinned_sides(examples: pl.DataFrame) -> dict[str, Split]:
    """Return the sides of the bootstrap messages of an earlier dataset frame, by near-duplicate key."""
    base = examples.filter(pl.col("label_kind") == "base")
    return {normalise_text(text): split for text, split in base.select("text", "split").iter_rows()}
