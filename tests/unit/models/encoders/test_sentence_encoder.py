"""Claims about sentence encoders: sentence-transformers' own vectors, without it, and what is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mangaassist_assets.models.encoders import sentence_encoder as sentence_encoder_module
from mangaassist_assets.models.encoders.sentence_encoder import load_sentence_encoder
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache, embed_contents
from mangaassist_assets.retrieval.errors import EmbeddingError
from tests.support.intent_training import MESSAGES, UNSEEN

TinyBase = Callable[[str], Path]
TEXTS = [*UNSEEN, *MESSAGES["order_status"], "hi", "返品したい", "where is my parcel " * 40]
PROMPTS = {"query": "where: ", "passage": "order: "}
FORMS: dict[str, dict[str, object]] = {
    "mean": {},
    "cls": {"pooling": "cls"},
    "max": {"pooling": "max"},
    "prompts": {"prompts": PROMPTS},
    "document prompt": {"prompts": {"query": "where: ", "document": "my: ", "passage": "order: "}},
    "default prompt": {"prompts": {"any": "please: "}, "default": "any"},
    "no normalisation": {"normalise": False},
    "dense": {"dense": True},
    "short": {"longest": 8},
}
# What is put before a query and before a passage; nothing in the other forms. encode_document() knows no `passage`
# where a folder has no `document`, for it takes that one's default: an empty text.
SPOKEN = {
    "prompts": ("where: ", "order: "),
    "document prompt": ("where: ", "my: "),
    "default prompt": ("please: ", "please: "),
}
ROOT = Path(__file__).parents[4]


def written(
    base: Path,
    folder: Path,
    *,
    pooling: str = "mean",
    prompts: dict[str, str] | None = None,
    default: str | None = None,
    normalise: bool = True,
    dense: bool = False,
    longest: int = 64,
) -> Path:
    """A folder as sentence-transformers writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules as parts

    transformer = parts.Transformer(str(base), max_seq_length=longest)
    modules = [transformer, parts.Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)]
    if dense:
        modules.append(parts.Dense(transformer.get_embedding_dimension(), 16))
    if normalise:
        modules.append(parts.Normalize())
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name=default).save(str(folder))
    return folder


@pytest.fixture(scope="module")
def plain(tiny_base: TinyBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tiny_base("bert"), tmp_path_factory.mktemp("plain") / "encoder")


@pytest.fixture
def own(plain: Path, tmp_path: Path) -> Path:
    """A folder of its own, for a test to spoil."""
    return Path(shutil.copytree(plain, tmp_path / "encoder"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("model-cache")


@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_those_of_sentence_transformers(
    tiny_base: TinyBase, form: str, tmp_path: Path, cache: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = written(tiny_base("bert"), tmp_path / "encoder", **FORMS[form])
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    ours = load_sentence_encoder(str(folder), cache=cache)
    query, passage = (
        theirs.encode(TEXTS, prompt=prompt, normalize_embeddings=True, batch_size=4)
        for prompt in SPOKEN.get(form, ("", ""))
    )
    np.testing.assert_allclose(ours.embed(TEXTS, use="query"), query, atol=1e-5)
    np.testing.assert_allclose(ours.embed(TEXTS, use="passage"), passage, atol=1e-5)
    np.testing.assert_array_equal(ours.embed(TEXTS), ours.embed(TEXTS, use="passage"))
    assert ours.dimension == query.shape[1]


@pytest.mark.parametrize("name", ["distilbert", "xlm-roberta", "mpnet", "modernbert", "deberta-v3", "albert"])
def test_other_architectures_embed_alike(tiny_base: TinyBase, name: str, tmp_path: Path, cache: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = written(tiny_base(name), tmp_path / name)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors = load_sentence_encoder(str(folder), cache=cache).embed(TEXTS)
    np.testing.assert_allclose(vectors, theirs.encode(TEXTS, normalize_embeddings=True), atol=1e-5)


def test_a_folder_of_a_transformer_alone_is_mean_pooled(tiny_base: TinyBase, plain: Path, cache: Path) -> None:
    alone = load_sentence_encoder(str(tiny_base("bert")), cache=cache).embed(TEXTS[:4])
    np.testing.assert_allclose(alone, load_sentence_encoder(str(plain), cache=cache).embed(TEXTS[:4]), atol=1e-5)


def test_the_models_name_changes_with_prompts_pooling_weights_and_a_lower_limit(
    tiny_base: TinyBase, plain: Path, tmp_path: Path, cache: Path
) -> None:
    others = {
        "prompts": written(tiny_base("bert"), tmp_path / "a" / "encoder", prompts=PROMPTS),
        "pooling": written(tiny_base("bert"), tmp_path / "b" / "encoder", pooling="cls"),
        "weights": written(tiny_base("distilbert"), tmp_path / "c" / "encoder"),
    }
    names = {load_sentence_encoder(str(folder), cache=cache).model_id for folder in (plain, *others.values())}
    assert len(names) == 4
    assert all(name.startswith("encoder@") for name in names)
    own = load_sentence_encoder(str(plain), cache=cache).model_id
    moved = Path(shutil.copytree(plain, tmp_path / "d" / "encoder"))
    (moved / "README.md").write_text("Another word about it.")
    assert load_sentence_encoder(str(moved), cache=cache).model_id == own
    assert load_sentence_encoder(str(plain), max_tokens=8, cache=cache).model_id == f"{own}:8"
    assert load_sentence_encoder(str(plain), max_tokens=500, cache=cache).model_id == own


def test_a_second_process_exports_nothing_and_loads_neither_torch_nor_transformers(plain: Path, cache: Path) -> None:
    ours = load_sentence_encoder(str(plain), cache=cache).embed(TEXTS[:3])
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("model.onnx")}
    code = (
        "import hashlib, json, sys; from pathlib import Path; "
        "from mangaassist_assets.models.encoders.sentence_encoder import load_sentence_encoder; "
        "encoder = load_sentence_encoder(sys.argv[1], cache=Path(sys.argv[2])); "
        "vectors = encoder.embed(json.loads(sys.argv[3])); "
        "heavy = sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)); "
        "print(json.dumps([hashlib.sha256(vectors.tobytes()).hexdigest(), heavy]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plain), str(cache), json.dumps(TEXTS[:3])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [hashlib.sha256(ours.tobytes()).hexdigest(), []]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("model.onnx")} == files


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "settings.json"])
def test_a_damaged_export_is_made_anew(plain: Path, tmp_path: Path, file: str) -> None:
    expected = load_sentence_encoder(str(plain), cache=tmp_path).embed(TEXTS[:3])
    (damaged,) = tmp_path.rglob(file)
    before = damaged.read_bytes()
    damaged.write_bytes(before[: len(before) // 2])
    np.testing.assert_array_equal(load_sentence_encoder(str(plain), cache=tmp_path).embed(TEXTS[:3]), expected)
    assert damaged.read_bytes() == before


def test_a_changed_folder_is_exported_again(own: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = load_sentence_encoder(str(own), cache=cache)
    config = own / "config_sentence_transformers.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"prompts": PROMPTS}))
    second = load_sentence_encoder(str(own), cache=cache)
    assert first.model_id != second.model_id
    assert np.abs(first.embed(TEXTS[:3]) - second.embed(TEXTS[:3])).max() > 1e-3


def replaced(folder: Path, place: int, **changes: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[place] |= changes
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    "kind",
    ["theirs.Pooling", "sentence_transformers.models.Unknown", "os.system", "sentence_transformersx.models.Pooling"],
)
def test_a_module_of_another_package_is_never_run(own: Path, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "it-ran"
    (own / "theirs.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    replaced(own, 1, type=kind)
    with pytest.raises(EmbeddingError, match=r"has a module of type .*which is never run"):
        load_sentence_encoder(str(own), cache=tmp_path / "cache")
    assert not marker.exists()


@pytest.mark.parametrize("path", ["../elsewhere", "/etc"])
def test_a_module_outside_of_the_folder_is_refused(own: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(own / "1_Pooling", tmp_path / "elsewhere")
    replaced(own, 1, path=path)
    with pytest.raises(EmbeddingError, match="module outside of its folder"):
        load_sentence_encoder(str(own), cache=tmp_path / "cache")


def test_a_pickled_module_is_not_read(tiny_base: TinyBase, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = written(tiny_base("bert"), tmp_path / "encoder", dense=True)
    (weights,) = (path for path in folder.rglob("model.safetensors") if "Dense" in path.parent.name)
    torch.save(load_file(weights), weights.parent / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(EmbeddingError, match=r"Dense/pytorch_model\.bin may run code when it is read"):
        load_sentence_encoder(str(folder), cache=tmp_path / "cache")


@pytest.mark.parametrize("content", ["{", "[1]", '[{"path": "1_Pooling"}]', "7"])
def test_modules_that_are_no_list_of_them_are_refused(own: Path, tmp_path: Path, content: str) -> None:
    (own / "modules.json").write_text(content)
    with pytest.raises(EmbeddingError, match=r"modules\.json is no list of modules"):
        load_sentence_encoder(str(own), cache=tmp_path / "cache")


def test_two_uses_of_a_text_are_kept_apart(tiny_base: TinyBase, tmp_path: Path, cache: Path) -> None:
    encoder = load_sentence_encoder(str(written(tiny_base("bert"), tmp_path / "encoder", prompts=PROMPTS)), cache=cache)
    vectors = EmbeddingCache(tmp_path / "vectors")
    texts = {"0" * 63 + "1": TEXTS[0]}
    passage, first = embed_contents(texts, encoder, vectors)
    query, second = embed_contents(texts, encoder, vectors, use="query")
    again, third = embed_contents(texts, encoder, vectors, use="query")
    assert (first.embedded, second.embedded, third.embedded) == (1, 1, 0)
    ((key, one),) = passage.items()
    assert np.abs(one - query[key]).max() > 1e-3
    assert np.array_equal(query[key], again[key])
    assert third.model_id == encoder.model_id


def test_a_blank_text_is_a_dash_after_its_prompt_and_no_text_is_no_vector(
    plain: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_sentence_encoder(str(plain), cache=cache)
    vectors = encoder.embed(["", " \x00 ", "-"])
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])
    monkeypatch.setattr(sentence_encoder_module, "tokenize", lambda *_: pytest.fail("tokenized nothing"))
    assert encoder.embed([]).shape == (0, encoder.dimension)
