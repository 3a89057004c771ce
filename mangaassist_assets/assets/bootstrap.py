"""The bootstrap: the training corpus, the golden set, and the first champions, which replace no other."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from mangaassist_assets.assets.common import (
    LEFT_OUT,
    ML_ENGINEERING,
    TRAINING_POOL,
    as_failure,
    carried_out_by,
    leave_out,
    materialized,
    table,
)
from mangaassist_assets.assets.declaring import declared_asset
from mangaassist_assets.assets.inputs import CHUNKS, CORPUS, GOLDEN, GOLDEN_BEFORE, PROMOTIONS, VOCABULARY, through
from mangaassist_assets.assets.model_pipeline import train, training_metadata
from mangaassist_assets.models.pipelines import INTENT, RERANKER, ModelPipeline
from resources.aws.app_config import AppConfigResource
from resources.mlflow.tracking import MlflowResource
from resources.ray.trainers import TrainerResource
from resources.search.embeddings import EmbeddingsResource
from resources.search.indexes import SearchResource
from resources.settings.learning import LearningResource
from resources.store import StoreResource

if TYPE_CHECKING:
    from mangaassist_assets.core.declared_inputs import StepStore
    from mangaassist_assets.models.registration.registration import Registered


@declared_asset(
    outside="the file that was handed in",
    reads=[VOCABULARY, GOLDEN_BEFORE],
    group_name="bootstrap",
    owners=[ML_ENGINEERING],
    kinds={"json"},
    code_version="1",
)
def golden_set(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
    """The fixed messages that models are compared on from the first day to the last; no dataset may hold one of them.

    One row is one message with what is known of it: its intent, the documents that answer it, its reference answers and
    contexts; redacted; from the file handed to `mangaassist bootstrap --golden`. It is empty where none was. Another
    file is refused unless somebody said `--replace-golden`.
    """
    from collections import Counter

    from mangaassist_assets.datasets.sources.golden_set import store_golden_set

    step = store.step(context)
    golden = store_golden_set(step, store.inputs(), vocabulary=step.load(VOCABULARY))
    intents = Counter(one.intent or "(none)" for one in golden.messages)
    context.log.info(
        f"{len(golden.messages)} messages of {len(intents)} intents"
        if golden.messages
        else "no golden set was handed in: nothing is held out but the test sides"
    )
    return materialized(
        golden.snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(golden.messages)),
            "with_documents": dg.MetadataValue.int(sum(bool(one.relevant_documents) for one in golden.messages)),
            "with_answer": dg.MetadataValue.int(sum(bool(one.answers) for one in golden.messages)),
            "handed_in": dg.MetadataValue.text(golden.sha256 or "none"),
            "intents": table([{"intent": name, "messages": count} for name, count in intents.most_common()]),
        },
    )


@declared_asset(
    outside="the file that was handed in",
    reads=[VOCABULARY],
    group_name="bootstrap",
    owners=[ML_ENGINEERING],
    kinds={"json"},
    code_version="1",
)
def training_corpus(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult[None]:
    """The labelled messages that the first champions learn from, and the base of every dataset version.

    One row is one message with its intent and the documents that answer it, redacted, without user or session; from
    the file handed to `mangaassist bootstrap`.
    """
    import json
    from collections import Counter
    from dataclasses import replace
    from pathlib import Path

    from mangaassist_assets.datasets.sources.training_corpus import INPUT_SOURCE_FILE, corpus_files
    from mangaassist_assets.datasets.sources.utterances import read_utterances
    from mangaassist_assets.privacy import redact

    step = store.step(context)
    reading = read_utterances(Path(str(store.inputs() / "training.jsonl")))
    words = step.load(VOCABULARY)
    utterances = [replace(one, text=redact(one.text, vocabulary=words).text) for one in reading.utterances]
    said = store.inputs() / INPUT_SOURCE_FILE
    traffic_sample = said.exists() and bool(json.loads(said.read_bytes())["traffic_sample"])
    snapshot = step.keep(corpus_files(utterances, traffic_sample=traffic_sample))
    intents = Counter(one.intent or "(none)" for one in utterances)
    context.log.info(f"{len(utterances)} messages of {len(intents)} intents, {len(reading.rejects)} lines rejected")
    return materialized(
        snapshot,
        {
            "dagster/row_count": dg.MetadataValue.int(len(utterances)),
            "rejected_lines": dg.MetadataValue.int(len(reading.rejects)),
            "declared_a_sample_of_the_traffic": dg.MetadataValue.bool(traffic_sample),
            "intents": table([{"intent": name, "messages": count} for name, count in intents.most_common()]),
        },
    )


@declared_asset(
    outside="the registry in MLflow",
    reads=[CORPUS, GOLDEN, PROMOTIONS],
    group_name="bootstrap",
    owners=[ML_ENGINEERING],
    kinds={"pytorch", "mlflow"},
    pool=TRAINING_POOL,
    code_version="1",
)
def first_intent_classifier(
    context: dg.AssetExecutionContext,
    learning: LearningResource,
    mlflow: MlflowResource,
    store: StoreResource,
    trainer: TrainerResource,
) -> dg.MaterializeResult[None]:
    """The first intent classifier, trained on the corpus alone, and champion as long as there is no other.

    A pretrained DistilBERT (or, by configuration, one of a hub) with its head; registered in MLflow with the
    digest of its dataset and of its files.
    """
    from mangaassist_assets.datasets.building.intent_dataset import build_intent_dataset

    step = store.step(context)
    if (present := _present_champion(context, mlflow, step, INTENT)) is not None:
        return present
    version = build_intent_dataset(step.load(CORPUS), [], golden_texts=step.load(GOLDEN)).seal()
    registered = train(
        context, INTENT, version, None, learning=learning, mlflow=mlflow, step=step, store=store, trainer=trainer
    )
    return _first_champion(context, mlflow, step, registered)


@declared_asset(
    outside="the registry in MLflow and the live index",
    reads=[CORPUS, GOLDEN, CHUNKS, PROMOTIONS, through("live_index", "the search index")],
    group_name="bootstrap",
    owners=[ML_ENGINEERING],
    kinds={"pytorch", "mlflow"},
    pool=TRAINING_POOL,
    code_version="1",
)
def first_reranker(
    context: dg.AssetExecutionContext,
    app_config: AppConfigResource,
    embeddings: EmbeddingsResource,
    learning: LearningResource,
    mlflow: MlflowResource,
    search: SearchResource,
    store: StoreResource,
    trainer: TrainerResource,
) -> dg.MaterializeResult[None]:
    """The first reranker, trained on the documents that the corpus names as relevant.

    Where the corpus names none, the titles of the knowledge ask for their own passages: weak, but the store's words.
    Without a second passage there is nothing to tell apart: no reranker is made then, and the chatbot keeps the order
    of retrieval.
    """
    from mangaassist_assets.datasets.building.built_dataset import EmptyDatasetError
    from mangaassist_assets.datasets.building.ranking_versions import first_ranking_version
    from mangaassist_assets.datasets.building.recorded_searches import live_search

    step = store.step(context)
    if (present := _present_champion(context, mlflow, step, RERANKER)) is not None:
        return present
    live = live_search(search.index(), embeddings.embedder(), app_config.configuration().routing().retrieval)
    try:
        version = first_ranking_version(step, search_for=live)
    except EmptyDatasetError as error:
        leave_out(context, str(error))
        # Materialized all the same: without it, what production runs would not be written down.
        return dg.MaterializeResult(
            data_version=dg.DataVersion("none"), metadata={LEFT_OUT: dg.MetadataValue.text(str(error))}
        )
    registered = train(
        context, RERANKER, version, None, learning=learning, mlflow=mlflow, step=step, store=store, trainer=trainer
    )
    return _first_champion(context, mlflow, step, registered)


def _present_champion(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, step: "StepStore", pipeline: ModelPipeline
) -> dg.MaterializeResult[None] | None:
    """Return the materialization that leaves a model pipeline's champion as it is; None where there is none.

    Raises:
        Failure: The alias is gone, and a gate or a person had made another version champion than the first.
    """
    from mangaassist_assets.releases.named_champion import PROMOTIONS as LEDGER
    from mangaassist_assets.releases.named_champion import ForeignMoveError, foreign_move, read_named

    champion = mlflow.version_by_alias(pipeline.model_name, "champion")
    if champion is None:
        last = read_named(step, LEDGER, partition=pipeline.model_name)
        with as_failure(ForeignMoveError):
            if last is not None and last.by != "bootstrap":
                raise foreign_move(last, pipeline, None)
        return None
    context.log.info(f"version {champion.version} is champion: only a gate replaces it, there is nothing to train")
    digest = champion.artifact_sha256 or "unknown"
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest[:16]),
        metadata={
            "version": dg.MetadataValue.text(champion.version),
            "artifact_sha256": dg.MetadataValue.text(digest),
            "model_version": dg.MetadataValue.url(mlflow.model_version_url(pipeline.model_name, champion.version)),
        },
    )


def _first_champion(
    context: dg.AssetExecutionContext, mlflow: MlflowResource, step: "StepStore", registered: "Registered"
) -> dg.MaterializeResult[None]:
    from mangaassist_assets.models.registration.registration import become_first_champion
    from mangaassist_assets.releases.named_champion import NamedChampion, record_promotion

    model = registered.model
    named = NamedChampion(
        version=model.version,
        artifact_sha256=model.artifact_sha256,
        by="bootstrap",
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        carried_out_by=carried_out_by(context),
    )
    # On record before the alias moves: killed in between, the next bootstrap trains the same version again.
    record_promotion(step, model.name, named)
    if become_first_champion(mlflow, model):
        context.log.info(f"version {model.version} is the first champion")
    return materialized(
        step.keep(named.files()), training_metadata(mlflow, registered), data_version=model.artifact_sha256[:16]
    )
