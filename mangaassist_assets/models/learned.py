"""What a champion has learned: nothing of it can test the champion, nor a challenger beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.splits import assign_base_splits
from mangaassist_assets.datasets.guards.near_duplicates import Fingerprints, NearDuplicateIndex
from mangaassist_assets.datasets.sources.training_corpus import read_corpus
from mangaassist_assets.datasets.versions.stored_versions import read_rows, stored_versions
from mangaassist_assets.tracing.erasure import erased_users

if TYPE_CHECKING:
    from mangaassist_assets.core.snapshots import SnapshotStore
    from mangaassist_assets.datasets.sources.utterances import Utterance
    from mangaassist_assets.models.pipelines import ModelPipeline
    from mangaassist_assets.models.registration.registry import ModelVersion

BOOTSTRAP = "bootstrap"
_OWNERS = ("session_id", "user_key")


class ChampionDatasetGoneError(LookupError):
    """What a champion learned from is not stored any more, so there is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a champion was trained or validated on."""

    examples: frozenset[str]
    owners: frozenset[str]
    texts: tuple[str, ...]

    @staticmethod
    def of(frame: pl.DataFrame, text_column: str) -> Learned:
        """Return what a champion learned of the rows of its dataset."""
        learned = frame.filter(pl.col("split") != "test")
        return Learned(
            # The test side is no news either: it is what promotion was decided by.
            examples=frozenset(frame["example_id"].to_list()),
            owners=frozenset(value for name in _OWNERS for value in learned[name].drop_nulls().to_list()),
            texts=tuple(sorted(set(learned[text_column].to_list()))),
        )

    @staticmethod
    def of_corpus(store: SnapshotStore) -> Learned:
        """Return what a champion of the bootstrap learned, at most: the corpus, its test side too."""
        return Learned._of_texts({one.text for one in _corpus(store)})

    @staticmethod
    def of_corpus_but_its_tests(store: SnapshotStore) -> Learned:
        """Return what a champion of the bootstrap learned of messages with an intent: those not on the test side."""
        named = [(one.text, one.intent) for one in _corpus(store) if one.intent is not None]
        sides = assign_base_splits([text for text, _ in named], [intent for _, intent in named])
        return Learned._of_texts({text for (text, _), side in zip(named, sides, strict=True) if side != "test"})

    @staticmethod
    def _of_texts(texts: Collection[str]) -> Learned:
        return Learned(frozenset(), frozenset(), tuple(sorted(texts)))

    def reasons(self, frame: pl.DataFrame, text_column: str) -> Iterator[tuple[str, str]]:
        """Yield the ids of examples that cannot be judged on, with the reason."""
        columns = ("example_id", text_column, *_OWNERS)
        rows = list(frame.select(columns).unique().sort("example_id").iter_rows())
        for (example_id, _, *owners), repeated in zip(rows, self.repeated([row[1] for row in rows]), strict=True):
            if example_id in self.examples:
                yield example_id, "in the champion's own dataset"
            elif repeated is not None:
                yield example_id, repeated
            elif self.owners.intersection(one for one in owners if one):
                yield example_id, "the champion learned from this shopper or session"

    def repeated(self, texts: Sequence[str]) -> list[str | None]:
        """Say of each message how the champion learned from it, whoever wrote it; None where it did not."""
        made = Fingerprints()
        keys = sorted({normalise_text(text) for text in self.texts})
        known, index = frozenset(keys), NearDuplicateIndex.of(keys, made)
        found: dict[str, str | None] = {}
        for key in {normalise_text(text) for text in texts}:
            if key in known:
                found[key] = "the champion learned from this message"
            else:
                near = index.has_near(made.of([key])[0])
                found[key] = "the champion learned from nearly this message" if near else None
        return [found[normalise_text(text)] for text in texts]


def _corpus(store: SnapshotStore) -> Sequence[Utterance]:
    return read_corpus(store) if store.find("training_corpus") else []


def learned_by(store: SnapshotStore, pipeline: ModelPipeline, champion: ModelVersion) -> Learned:
    """Return what a champion has learned, of a model pipeline whose labels are tested by folds.

    Raises:
        ChampionDatasetGoneError: the dataset version it was trained on is not in the store.
    """
    own, _ = own_dataset(store, pipeline, champion)
    return Learned.of_corpus_but_its_tests(store) if own is None else Learned.of(own, pipeline.dataset.text_columns[0])


def own_dataset(
    store: SnapshotStore, pipeline: ModelPipeline, champion: ModelVersion
) -> tuple[pl.DataFrame | None, int | None]:
    """Return the rows a champion was made and judged with, and their as-of time; None for the bootstrap's.

    Raises:
        ChampionDatasetGoneError: the dataset version it was trained on is not in the store.
    """
    bundle, digest = champion.tags.get("release_bundle"), champion.tags.get("dataset_digest")
    if bundle in (None, BOOTSTRAP):
        return None, None
    stored = [one for one in stored_versions(store, (pipeline.dataset_asset,)) if one.card.digest == digest]
    of_bundle = [one for one in stored if one.snapshot.partition == bundle] or stored
    if not of_bundle:
        raise ChampionDatasetGoneError(
            f"{pipeline.dataset_asset} {(digest or 'unknown')[:12]} of {bundle}, which version {champion.version} of "
            f"{champion.name} was trained on, is not in the store: restore its snapshot, or promote a version whose "
            "dataset is there"
        )
    chosen = of_bundle[0]
    return without_erased(store, read_rows(store, chosen)), chosen.card.as_of_ms


def without_erased(store: SnapshotStore, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that no erased user wrote: a stored version keeps them until it is made again."""
    return frame.filter(~pl.col("user_key").fill_null("").is_in(sorted(erased_users(store))))
