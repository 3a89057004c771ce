"""A configuration that asks for more than its weights is refused before anything of it is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.models.encoders import PACKAGED_MINILM
from mangaassist_assets.models.encoders.bounds import oversize_of
from mangaassist_assets.models.encoders.pretrained import BaseModelError, base_folder, check_checkpoint, read_encoder

MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "intermediate_size": 1536,
    "vocab_size": 30_522,
    "max_position_embeddings": 512,
    "initializer_range": 0.02,
    "id2label": {"0": "a", "1": "b"},
}
BYTES = 90_000_000


def test_what_encoders_have_is_taken() -> None:
    assert oversize_of(MINILM, BYTES) is None
    # Shared layers: many of them are the weights of one.
    albert = {"model_type": "albert", "hidden_size": 4096, "num_hidden_layers": 12, "vocab_size": 30_000}
    assert oversize_of(albert | {"embedding_size": 128}, 60_000_000) is None


@pytest.mark.parametrize(
    "change",
    [
        *({"n_layers": 10**9}, {"num_hidden_layers": 10**9}, {"num_hidden_layers": 513}, {"num_layers": 1e12}),
        *({"hidden_size": 10**7}, {"vocab_size": 10**9}, {"max_position_embeddings": 10**9}, {"num_labels": 10**7}),
        *({"intermediate_size": 10**9}, {"text_config": {"num_hidden_layers": 10**6}}, {"sizes": [1, 10**9]}),
        *({"num_hidden_layers": 500}, {"hidden_size": 8192, "num_hidden_layers": 12}, {"vocab_size": 3_000_000}),
    ],
)
def test_what_no_weights_of_these_files_fill_is_not(change: dict[str, Any]) -> None:
    assert oversize_of(MINILM | change, BYTES) is not None


@pytest.mark.parametrize("read", [check_checkpoint, read_encoder])
def test_a_folder_whose_configuration_was_changed_is_refused_before_it_is_built(read: Any, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(base_folder(PACKAGED_MINILM), folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    layers = next(name for name in ("n_layers", "num_hidden_layers") if name in config)
    file.write_text(json.dumps(config | {layers: 10**9}))
    with pytest.raises(BaseModelError, match=rf"{layers} is 1,000,000,000, at most 512"):
        read("base", folder)
