"""Writing a trained reranker: the folder that libraries load, the ONNX files that serve, and the settings.

A cross-encoder's folder is one that `sentence_transformers.CrossEncoder` scores alike: the calibration is in the head's
weights. A split-attention network has no standard form: the folder is that of its encoder, which `AutoModel` loads, and
what it has beside that is in `reranker.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.models.artifacts import seal_artifact, whole_or_nothing
from mangaassist_assets.models.encoders.pretrained import quiet_transformers
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.intent.text_classification import write_tokenizer
from mangaassist_assets.models.onnx_export import export_onnx
from mangaassist_assets.models.parity import Parity, order_parity
from mangaassist_assets.models.precision import ONNX_SETTINGS, smallest_that_holds
from mangaassist_assets.models.reranker.calibration import ScoreCalibration
from mangaassist_assets.models.reranker.lists import CandidateList
from mangaassist_assets.models.reranker.networks.files import ARTIFACT_KIND, EXTRA_FILE, ONNX_FILES
from mangaassist_assets.models.reranker.networks.pair_tokens import PairTokens
from mangaassist_assets.models.reranker.networks.runners import CrossRunner, Runner, SplitRunner
from mangaassist_assets.models.reranker.networks.starts import RerankerStart
from mangaassist_assets.models.reranker.ranking_figures import Scores

if TYPE_CHECKING:
    from torch import Tensor

    from mangaassist_assets.models.reranker.networks.cross_network import CrossNetwork
    from mangaassist_assets.models.reranker.networks.pair_network import PairNetwork

_COMPARED_LISTS = 40
# What is closer has no order that could matter, and none that all machines agree on.
_SAME_SCORE_DIGITS = 4
_TOKENIZER_CONFIG = "tokenizer_config.json"
_LAYERS_OF_TEXTS = {"input_ids": {0: "texts", 1: "length"}, "attention_mask": {0: "texts", 1: "length"}}


def write_reranker(
    output: Path,
    start: RerankerStart,
    calibration: ScoreCalibration,
    lists: Sequence[CandidateList],
    scores: Scores,
    *,
    provenance: Mapping[str, Any],
) -> str:
    """Write and seal a reranker, whose network is on a CPU, and return its digest. It is there whole or not at all.

    Args:
        output: An empty folder.
        start: The trained network with its tokenizer.
        calibration: Of the network's logits; a cross-encoder's goes into its head.
        lists: By which it is seen that what serves orders alike; some of them are asked, each as one request.
        scores: What the trained network says of them before calibration, parallel to their passages.
        provenance: What it was made from: JSON values.

    Raises:
        FileExistsError: `output` holds files.
        ExportError: The network has no ONNX form.
        ArtifactWriteError: The disk is full, or the folder cannot be written.
    """
    from mangaassist_assets.models.reranker.networks.cross_network import CrossNetwork

    with whole_or_nothing(output) as folder:
        settings: dict[str, Any] = {
            "network": start.kind,
            "query_tokens": start.query_tokens,
            "passage_tokens": start.passage_tokens,
            "pad_id": start.network.encoder.pad_id,
        }
        wanted = calibration
        if isinstance(start.network, CrossNetwork):
            start.network.fold_calibration(calibration.scale, calibration.shift)
            calibration = ScoreCalibration(scale=1.0, shift=0.0)
            settings["max_tokens"] = start.max_tokens
            _write_cross_encoder(folder, start, start.network)
            full = [_exported_cross_encoder(start, start.network, lists)]
        else:
            settings["joint_layers"] = start.network.joint_layers
            _write_split_attention(folder, start, start.network)
            full = list(_exported_split_attention(start, start.network, lists))
        asked = lists[:_COMPARED_LISTS]
        reference = [wanted.probabilities(row).round(_SAME_SCORE_DIGITS) for row in scores[: len(asked)]]

        def judge(models: Sequence[bytes]) -> Parity:
            runner = _runner(start, models)
            said = [runner.logits([(one.query, passage) for passage in one.passages]) for one in asked]
            return order_parity(reference, [calibration.probabilities(row.astype(np.float64)) for row in said])

        models, served = smallest_that_holds(full, judge)
        for name, model in zip(ONNX_FILES[start.kind], models, strict=True):
            (folder / name).write_bytes(model)
        settings |= {
            "calibration": asdict(calibration),
            ONNX_SETTINGS: asdict(served),
            "provenance": dict(provenance),
        }
        return seal_artifact(folder, ARTIFACT_KIND, settings)


def _write_cross_encoder(folder: Path, start: RerankerStart, network: CrossNetwork) -> None:
    with quiet_transformers():
        network.model.save_pretrained(folder)
    write_tokenizer(folder, start.tokenizer, pad_id=network.encoder.pad_id, max_tokens=start.max_tokens)
    file = folder / _TOKENIZER_CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    if network.reads_types:
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    file.write_text(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _exported_cross_encoder(start: RerankerStart, network: CrossNetwork, lists: Sequence[CandidateList]) -> bytes:
    import torch

    encoded = start.pair_tokens().encode([(lists[0].query, lists[0].passages[0]), ("a", "b")])
    arrays = PairTokens.padded(
        sorted(encoded, key=lambda one: -len(one[0])), pad=network.encoder.pad_id, types=network.reads_types
    )
    names = {name: {0: "pairs", 1: "length"} for name in arrays}
    inputs = {name: torch.from_numpy(value) for name, value in arrays.items()}
    return export_onnx(network, inputs, outputs=("logits",), dynamic={**names, "logits": {0: "pairs"}})


def _write_split_attention(folder: Path, start: RerankerStart, network: PairNetwork) -> None:
    from safetensors.torch import save_file

    with quiet_transformers():
        network.model.save_pretrained(folder)
    write_tokenizer(folder, start.tokenizer, pad_id=network.encoder.pad_id, max_tokens=network.encoder.max_tokens)
    own = {name: value.detach().contiguous().clone() for name, value in network.own_state().items()}
    save_file(own, folder / EXTRA_FILE)


def _exported_split_attention(
    start: RerankerStart, network: PairNetwork, lists: Sequence[CandidateList]
) -> tuple[bytes, bytes]:
    """Return the lower layers of single texts, and the joint ones of pairs with the head."""
    import torch
    from torch import nn

    from mangaassist_assets.models.encoders.pretrained import padded
    from mangaassist_assets.models.reranker.networks.pair_network import Segments

    class Lower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.network.lower(input_ids, attention_mask.bool()).states

    class Joint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(
            self,
            query_states: Tensor,
            query_ids: Tensor,
            query_mask: Tensor,
            passage_states: Tensor,
            passage_ids: Tensor,
            passage_mask: Tensor,
        ) -> Tensor:
            queries = Segments(query_states, query_ids, query_mask.bool())
            passages = Segments(passage_states, passage_ids, passage_mask.bool())
            scores: Tensor = self.network(queries, passages)
            return scores

    texts = {
        "query": tokenize(start.tokenizer, [lists[0].query, "a"], max_tokens=start.query_tokens),
        "passage": tokenize(start.tokenizer, [lists[0].passages[0], "b"], max_tokens=start.passage_tokens),
    }
    inputs: dict[str, Tensor] = {}
    for name, sequences in texts.items():
        ids, mask = padded(sorted(sequences, key=len, reverse=True), network.encoder)
        with torch.no_grad():
            states = network.lower(ids, mask).states * mask[:, :, None]
        inputs |= {f"{name}_states": states, f"{name}_ids": ids, f"{name}_mask": mask.long()}
    lower_inputs = {"input_ids": inputs["passage_ids"], "attention_mask": inputs["passage_mask"]}
    lower = export_onnx(
        Lower(), lower_inputs, outputs=("states",), dynamic={**_LAYERS_OF_TEXTS, "states": {0: "texts", 1: "length"}}
    )
    axes = {name: {0: "pairs", 1: f"{name.split('_')[0]}_length"} for name in inputs}
    joint = export_onnx(Joint(), inputs, outputs=("logits",), dynamic={**axes, "logits": {0: "pairs"}})
    return lower, joint


def _runner(start: RerankerStart, models: Sequence[bytes]) -> Runner:
    from tokenizers import Tokenizer

    from mangaassist_assets.models.encoders.layer_states import LayerStates

    pad_id = start.network.encoder.pad_id
    own: Tokenizer = Tokenizer.from_str(start.tokenizer.to_str())
    if start.kind == "cross-encoder":
        return CrossRunner(models, own, max_tokens=start.max_tokens, pad_id=pad_id)
    return SplitRunner(
        models,
        own,
        query_tokens=start.query_tokens,
        passage_tokens=start.passage_tokens,
        pad_id=pad_id,
        passages=LayerStates(),
    )
