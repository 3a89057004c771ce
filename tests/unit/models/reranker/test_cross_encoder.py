"""Claims about cross-encoders: the library's form, published starts, and checkpoints that are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mangaassist_assets.models.artifacts import artifact_settings
from mangaassist_assets.models.encoders.pretrained import BaseModelError
from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.models.reranker.model import Reranker
from mangaassist_assets.models.reranker.model_type import RerankerModelType
from mangaassist_assets.models.reranker.training import RerankerTrainingResult
from tests.support.tiny_encoders import tiny_encoder
from tests.support.tiny_ranker import TINY, tiny_examples, train_tiny, write_tiny_base, write_tiny_cross_encoder

PAIRS = [(one.query, passage) for one in tiny_examples()[:3] for passage in one.passages]
PAIRS += [("", "harbour"), ("harbour " * 40, "lantern " * 40), ("返品", "crane")]
LEARNING = replace(TINY, epochs=20, patience=20, learning_rate=1e-2, max_training_pairs=2000)
LAST = (*[0.0] * 9, 1.0)


def always_the_last(prefix: str) -> list[RankingExample]:
    """Queries that all want one passage, which a network of two tiny layers can learn."""
    return [replace(one, relevances=LAST) for one in tiny_examples(prefix)]


def train_cross(folder: Path, published: str, **options: Any) -> RerankerTrainingResult:
    return train_tiny(
        folder,
        base="unused",
        network="cross-encoder",
        cross_encoder=published,
        train=always_the_last("q"),
        validation=always_the_last("v"),
        **{"config": LEARNING, **options},
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_cross_encoder(tmp_path_factory.mktemp("published") / "model")


@pytest.fixture(scope="module")
def trained(published: str, tmp_path_factory: pytest.TempPathFactory) -> RerankerTrainingResult:
    folder = tmp_path_factory.mktemp("cross")
    return train_cross(folder, published)


def logit(scores: Any) -> Any:
    return np.log(scores / (1.0 - scores))


def library_scores(folder: Path) -> Any:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", trust_remote_code=False, local_files_only=True)
    return model.predict(PAIRS, show_progress_bar=False)


def test_the_library_scores_a_trained_folder_alike(trained: RerankerTrainingResult) -> None:
    ours, theirs = Reranker.load(trained.directory).score(PAIRS), library_scores(trained.directory)
    onnx = artifact_settings(trained.directory)["onnx"]
    assert np.abs(ours - theirs).max() < (1e-5 if onnx["precision"] == "float32" else 0.1), onnx
    assert np.ptp(theirs) > 0.05


def test_the_calibration_is_in_the_head(trained: RerankerTrainingResult) -> None:
    settings = artifact_settings(trained.directory)
    assert settings["calibration"] == {"scale": 1.0, "shift": 0.0}
    scores = Reranker.load(trained.directory).score([(q.query, p) for q in tiny_examples() for p in q.passages])
    assert abs(scores.mean() - 0.1) < 0.05  # one passage of ten is relevant


def test_training_a_published_cross_encoder_improves_on_it_and_repeats(
    trained: RerankerTrainingResult, published: str, tmp_path: Path
) -> None:
    assert (trained.network, trained.kept, trained.started_from) == ("cross-encoder", "trained", published)
    assert trained.metrics["validation_ndcg"] > trained.metrics["validation_ndcg_start"]
    again = train_cross(tmp_path, published)
    assert again.digest == trained.digest


def test_an_untrained_published_cross_encoder_keeps_its_order(published: str, tmp_path: Path) -> None:
    kept = train_cross(tmp_path, published, config=replace(TINY, epochs=0))
    ours, theirs = (library_scores(folder) for folder in (kept.directory, Path(published)))
    scale, shift = np.polyfit(logit(theirs), logit(ours), 1)
    assert scale > 0
    assert np.abs(scale * logit(theirs) + shift - logit(ours)).max() < 1e-3


def test_lower_layers_and_embeddings_stay_the_checkpoints(trained: RerankerTrainingResult, published: str) -> None:
    from safetensors.numpy import load_file

    before = load_file(Path(published) / "model.safetensors")
    after = load_file(trained.directory / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all("layer.1." in name or "pooler" in name or "classifier" in name for name in changed)


@pytest.mark.parametrize("architecture", ["distilbert", "xlm-roberta", "modernbert", "deberta-v3"])
def test_an_encoder_of_any_architecture_takes_a_fresh_head(architecture: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted({word for query, passage in PAIRS[:30] for word in (*query.split(), *passage.split())})
    vocabulary = {token: place for place, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special)
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    base = tmp_path / "base"
    tiny_encoder(architecture).save_pretrained(base)
    tokenizer.save(str(base / "tokenizer.json"))
    result = train_tiny(tmp_path, base=str(base), network="cross-encoder", checkpoints=False)
    ours, theirs = Reranker.load(result.directory).score(PAIRS), library_scores(result.directory)
    exact = artifact_settings(result.directory)["onnx"]["precision"] == "float32"
    assert np.abs(ours - theirs).max() < (1e-4 if exact else 0.1)


def test_auto_trains_both_where_there_is_a_published_one_and_validation_chooses(published: str, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    both = train_tiny(tmp_path, base=base, network="auto", cross_encoder=published)
    assert {one.name.split()[0] for one in both.candidates} == {"split-attention", "cross-encoder"}
    best = max((one for one in both.candidates if one.figures), key=lambda one: one.figures.score)
    assert both.network == best.name.split()[0] == artifact_settings(both.directory)["network"]
    alone = train_tiny(tmp_path / "alone", base=base, network="auto")
    assert {one.name.split()[0] for one in alone.candidates} == {"split-attention"}
    said = artifact_settings(both.directory)["provenance"]["candidates"]
    assert [one["name"] for one in said] == [one.name for one in both.candidates]


def test_the_limits_say_by_how_much_a_network_won(published: str, tmp_path: Path) -> None:
    from mangaassist_assets.models.model_types import TrainingRequest

    model_type = RerankerModelType(base=write_tiny_base(tmp_path / "base"), cross_encoder=published, config=TINY)
    assert model_type.settings()["network"] == "auto"
    request = TrainingRequest(train=tiny_examples(), validation=tiny_examples("v"), output=tmp_path / "model")
    said = [limit for limit in model_type.train(request).limits if "nDCG@10" in limit]
    assert len(said) == 1
    assert "split-attention" in said[0]
    assert "cross-encoder" in said[0]


def test_a_champion_of_the_other_network_is_not_gone_on_from_but_can_teach(
    trained: RerankerTrainingResult, tmp_path: Path
) -> None:
    base = write_tiny_base(tmp_path / "base")
    result = train_tiny(tmp_path, base=base, champion=trained.directory, network="split-attention")
    assert result.started_from == base
    assert not any("champion" in one.name for one in result.candidates)
    config = replace(TINY, loss="distillation")
    taught = train_tiny(
        tmp_path / "taught", base=base, champion=trained.directory, teacher=trained.directory, config=config
    )
    assert taught.training_losses


def test_a_champion_is_gone_on_from(trained: RerankerTrainingResult, published: str, tmp_path: Path) -> None:
    result = train_cross(tmp_path, published, champion=trained.directory, config=replace(TINY, epochs=0))
    assert result.started_from == trained.digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_labels": 3}, "3 labels"), ({"auto_map": {"AutoModel": "evil.Model"}}, "code of its own")],
)
def test_a_checkpoint_of_another_form_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = Path(write_tiny_cross_encoder(tmp_path / "published"))
    if "num_labels" in settings:
        folder = Path(write_tiny_cross_encoder(tmp_path / "three", **settings))
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | settings))
    refused(folder, message, tmp_path)


def test_a_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = Path(write_tiny_cross_encoder(tmp_path / "published"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "may run code", tmp_path)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    refused(Path(write_tiny_cross_encoder(tmp_path / "published", vocab_size=300)), "tokenizer does not fit", tmp_path)


def test_a_sentence_encoder_is_no_cross_encoder(tmp_path: Path) -> None:
    refused(Path(write_tiny_base(tmp_path / "published")), "no head that scores", tmp_path)


def refused(folder: Path, message: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=message):
        train_tiny(tmp_path, base="unused", network="cross-encoder", cross_encoder=str(folder))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("network", ["split-attention", "cross-encoder"])
def test_full_precision_serves_where_eight_bits_order_otherwise(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mangaassist_assets.models.onnx_network import OnnxNetwork
    from mangaassist_assets.models.parity import ParityBound, order_parity
    from mangaassist_assets.models.reranker.networks import writing

    strict = ParityBound(difference=1e-4)
    monkeypatch.setattr(writing, "order_parity", lambda one, other: order_parity(one, other, bound=strict))
    result = train_tiny(tmp_path, base=write_tiny_base(tmp_path / "base"), network=network)
    onnx = artifact_settings(result.directory)["onnx"]
    assert onnx["precision"] == "float32"
    assert "int8" in onnx["refused"]
    for file in result.directory.glob("*.onnx"):
        assert OnnxNetwork(file).outputs


def test_an_unlisted_network_is_named() -> None:
    with pytest.raises(ValueError, match="network"):
        RerankerModelType(network="poly-encoder")  # type: ignore[arg-type]


def test_passages_of_one_query_are_scored_as_they_are_alone(trained: RerankerTrainingResult) -> None:
    reranker = Reranker.load(trained.directory)
    example: RankingExample = tiny_examples()[0]
    together = reranker.score([(example.query, passage) for passage in example.passages])
    alone = np.concatenate([reranker.score([(example.query, passage)]) for passage in example.passages])
    assert np.abs(together - alone).max() < 0.05
