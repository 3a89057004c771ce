"""Claims about the reranker as a model type: trained, loaded, asked and judged without knowing what it is."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from mangaassist_assets.models.artifacts import ArtifactMismatchError, artifact_kind
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.model_types import TrainedArtifact, TrainingRequest, load_model_type
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.model_type import RerankerModelType
from tests.support.tiny_ranker import TINY, WORDS, tiny_examples, write_tiny_base


@pytest.fixture(scope="module")
def model_type(tmp_path_factory: pytest.TempPathFactory) -> RerankerModelType:
    base = write_tiny_base(tmp_path_factory.mktemp("tiny") / "base")
    return RerankerModelType(base=base, config=TINY, checkpoint_steps=2)


@pytest.fixture(scope="module")
def trained(model_type: RerankerModelType, tmp_path_factory: pytest.TempPathFactory) -> TrainedArtifact:
    request = TrainingRequest(
        train=tiny_examples(),
        validation=tiny_examples("v"),
        output=tmp_path_factory.mktemp("model_type") / "model",
        corpus=[passage for one in tiny_examples() for passage in one.passages],
    )
    return model_type.train(request)


@pytest.fixture(scope="module")
def model(model_type: RerankerModelType, trained: TrainedArtifact) -> Reranker:
    return model_type.load(trained.directory, trained.digest)


def frame(examples: list[RankingExample], *, tenants: dict[str, str]) -> pl.DataFrame:
    rows = pl.DataFrame(
        [
            {
                "example_id": one.example_id,
                "query": one.query,
                "chunk_id": f"chunk-{place}",
                "passage": passage,
                "relevance": one.relevances[place],
                "first_stage_rank": one.first_stage_ranks[place],
                "split": "test",
            }
            for one in reversed(examples)
            for place, passage in enumerate(one.passages)
        ]
    )
    return rows.with_columns(tenant=pl.col("example_id").replace_strict(tenants, default=None, return_dtype=pl.String))


def test_the_registry_finds_the_family_by_its_kind(trained: TrainedArtifact) -> None:
    assert isinstance(load_model_type(artifact_kind(trained.directory)), RerankerModelType)


def test_settings_decide_the_weights_and_name_the_base(model_type: RerankerModelType) -> None:
    assert model_type.settings()["epochs"] == TINY.epochs
    assert RerankerModelType().settings()["base"] == "packaged-minilm"
    assert RerankerModelType(loss="binary").settings() == {**RerankerModelType().settings(), "loss": "binary"}
    assert "checkpoint_steps" not in model_type.settings()


def test_examples_come_back_from_a_frame_with_their_tenants(model_type: RerankerModelType) -> None:
    examples = tiny_examples()
    tenanted = model_type.examples(frame(examples, tenants={"q0": "north"}), "test")
    assert [one.tenant for one in tenanted] == ["north", *[""] * 9]
    assert [replace(one, tenant="") for one in tenanted] == examples
    assert model_type.examples(frame(examples, tenants={}), "train") == []


def test_a_row_without_a_rank_is_what_the_retriever_missed(model_type: RerankerModelType) -> None:
    rows = frame(tiny_examples()[:1], tenants={}).with_columns(
        first_stage_rank=pl.when(pl.col("chunk_id") == "chunk-0").then(None).otherwise(pl.col("first_stage_rank"))
    )
    (example,) = model_type.examples(rows, "test")
    assert (len(example.passages), example.relevances, example.missed) == (9, (0.0,) * 9, (1.0,))
    assert example.first_stage_ranks == tuple(range(2, 11))


def test_training_says_what_it_had_to_choose_from(trained: TrainedArtifact) -> None:
    assert trained.kept == "trained"
    assert len(trained.history) == 3
    assert [row["candidate"] for row in trained.tables["candidates"]] == [
        "split-attention base",
        "split-attention trained",
    ]
    assert trained.metrics["seconds_training"] > 0
    assert trained.metrics["validation_brier"] < 0.25
    assert any("16 tokens" in limit for limit in trained.limits)


def test_a_champion_of_the_family_can_teach_and_be_gone_on_from(
    model_type: RerankerModelType, trained: TrainedArtifact, tmp_path: Path
) -> None:
    settings = model_type.settings()
    distilling = RerankerModelType(base=str(settings["base"]), config=TINY, loss="distillation")
    request = TrainingRequest(
        train=tiny_examples(), validation=tiny_examples("v"), output=tmp_path / "model", champion=trained.directory
    )
    result = distilling.train(request)
    assert result.started_from == trained.digest
    assert result.metrics["validation_ndcg"] >= trained.metrics["validation_ndcg"]


def test_an_artifact_with_another_digest_is_not_loaded(model_type: RerankerModelType, trained: TrainedArtifact) -> None:
    with pytest.raises(ArtifactMismatchError):
        model_type.load(trained.directory, "0" * 64)


def test_evidence_has_a_figure_per_query_and_the_artifacts_size(
    model_type: RerankerModelType, model: Reranker, trained: TrainedArtifact
) -> None:
    nothing_relevant = replace(tiny_examples()[0], example_id="lost", relevances=(0.0,) * len(WORDS))
    results = model_type.evaluate(model, [*tiny_examples(), nothing_relevant], version="7")
    assert results.version == "7"
    assert results.outcomes.shape == results.other_figures["mrr@10"].shape == (11,)
    assert results.outcomes[-1] == 0.0
    assert ((results.outcomes >= 0) & (results.outcomes <= 1)).all()
    size = sum(path.stat().st_size for path in trained.directory.rglob("*") if path.is_file())
    assert results.size_bytes == size
    again = model_type.evaluate(model, tiny_examples()[:1], version="7")
    assert again.outcomes[0] == results.outcomes[0]


def test_a_passage_that_the_retriever_missed_lowers_the_gates_figure(
    model_type: RerankerModelType, model: Reranker
) -> None:
    found = tiny_examples()[0]
    half = replace(found, missed=(1.0,))
    outcomes = model_type.evaluate(model, [found, half], version="7").outcomes
    assert outcomes[1] < outcomes[0]
    assert model_type.report(model, [half])["retriever"]["ndcg@10"] < 1.0


def test_a_timed_request_is_what_the_model_answers(model_type: RerankerModelType, model: Reranker) -> None:
    request = model_type.request_input(tiny_examples()[0])
    assert len(model.answer(request, {})["predictions"]) == len(WORDS)


def test_slices_are_language_length_and_tenant_where_there_is_one(model_type: RerankerModelType) -> None:
    english, japanese = tiny_examples()[:2]
    japanese = replace(japanese, query="返品はできますか")
    assert model_type.slices([english, japanese]) == {"language": ("en", "ja"), "length": ("short", "short")}
    assert model_type.slices([replace(english, tenant="north"), japanese])["tenant"] == ("north", "")


def test_the_report_sets_the_retriever_beside_the_model(model_type: RerankerModelType, model: Reranker) -> None:
    lost = replace(tiny_examples()[0], example_id="lost", relevances=(0.0,) * len(WORDS))
    report = model_type.report(model, [*tiny_examples(), lost])
    assert report["queries"] == 11
    assert report["queries_without_a_relevant_candidate"] == pytest.approx(1 / 11)
    assert report["retriever"]["mrr@10"] == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 11)
    assert set(report["model"]) > {"ndcg@10", "mrr@10", "brier"}
    assert model_type.report(model, []) == {"queries": 0}
