"""Writing a trained intent classifier: transformers' folder, the ONNX file that serves, and the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mangaassist_assets.models.artifacts import artifact_settings, seal_artifact, verify_kind, whole_or_nothing
from mangaassist_assets.models.encoders.pretrained import PretrainedEncoder, padded
from mangaassist_assets.models.encoders.tokens import length_batches, tokenize
from mangaassist_assets.models.intent.heads import Features, LinearHead, softmax
from mangaassist_assets.models.intent.model import INTENT_CLASSIFIER, ONNX_FILE, SCOPE_SCORE, onnx_logits
from mangaassist_assets.models.intent.out_of_scope import ScopeRule, scope_scores
from mangaassist_assets.models.intent.text_classification import (
    FolderForm,
    read_text_classification,
    write_text_classification,
)
from mangaassist_assets.models.onnx_export import export_onnx
from mangaassist_assets.models.onnx_network import OnnxNetwork
from mangaassist_assets.models.parity import Parity, label_parity, spread
from mangaassist_assets.models.precision import ONNX_SETTINGS, smallest_that_holds

if TYPE_CHECKING:
    from torch import Tensor, nn

_COMPARED_TEXTS = 32
_TOKENS_PER_BATCH = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedClassifier:
    """A classifier as training has it: encoder, tokenizer and head in memory.

    `labels` are of the head's rows. `temperature` divides the logits; `scope` judges them after that.
    """

    pretrained: PretrainedEncoder
    head: LinearHead
    labels: tuple[str, ...]
    temperature: float
    max_tokens: int
    scope: ScopeRule

    def logits(self, sequences: Sequence[Sequence[int]]) -> Features:
        """Return the logits of token ids, divided by the temperature, shape (len(sequences), labels)."""
        import torch

        encoder = self.pretrained.encoder
        logits = np.zeros((len(sequences), len(self.labels)), dtype=np.float32)
        with torch.no_grad():
            for batch in length_batches([len(sequence) for sequence in sequences], max_tokens=_TOKENS_PER_BATCH):
                ids, mask = padded([sequences[index] for index in batch], encoder)
                features = encoder.features(encoder(ids, mask), mask).cpu().numpy()
                logits[batch] = self.head.logits(features) / self.temperature
        return logits


def write_classifier(
    output: Path, classifier: TrainedClassifier, *, texts: Sequence[str], provenance: Mapping[str, Any]
) -> str:
    """Write and seal a classifier, and return its digest. It is there as a whole or not at all.

    Args:
        output: An empty folder.
        classifier: What was trained, on a CPU.
        texts: By which it is seen that the folder says what was trained, and which form of the ONNX file decides
            alike: those of validation, or of training where there are few. Of many, `parity.MOST_COMPARED` are asked.
        provenance: What it was made from: JSON values.

    Raises:
        FileExistsError: `output` holds files.
        UnsupportedHeadError: The encoder has no text-classification form.
        ExportError: It has no ONNX form.
        ArtifactWriteError: The disk is full, or the folder cannot be written.
    """
    pretrained, encoder = classifier.pretrained, classifier.pretrained.encoder
    sequences = tokenize(pretrained.tokenizer, spread(texts), max_tokens=classifier.max_tokens)
    with whole_or_nothing(output) as beside:
        form = write_text_classification(
            beside,
            pretrained,
            classifier.head,
            labels=classifier.labels,
            temperature=classifier.temperature,
            max_tokens=classifier.max_tokens,
            examples=sequences[:_COMPARED_TEXTS],
        )
        scope = classifier.scope
        (model,), served = smallest_that_holds(
            [_exported(classifier, sequences)], _judge_of(classifier, scope, sequences)
        )
        (beside / ONNX_FILE).write_bytes(model)
        settings = {
            "labels": list(classifier.labels),
            "max_tokens": classifier.max_tokens,
            "pad_id": encoder.pad_id,
            "temperature": classifier.temperature,
            "scope": {"score": SCOPE_SCORE, **asdict(scope)},
            "form": asdict(form),
            ONNX_SETTINGS: asdict(served),
            "provenance": dict(provenance),
        }
        return seal_artifact(beside, INTENT_CLASSIFIER, settings)


def read_classifier(directory: Path) -> TrainedClassifier:
    """Load a sealed classifier in full, as training had it.

    Raises:
        ArtifactMismatchError: It is damaged, or of another kind.
        BaseModelError: Its folder cannot be read.
    """
    digest = verify_kind(directory, INTENT_CLASSIFIER)
    settings = artifact_settings(directory)
    labels = tuple(settings["labels"])
    form = FolderForm(**settings["form"])
    pretrained, head = read_text_classification(digest, directory, form, labels=len(labels))
    scope = {name: value for name, value in settings["scope"].items() if name != "score"}
    return TrainedClassifier(
        pretrained=pretrained,
        head=head,
        labels=labels,
        temperature=form.temperature,
        max_tokens=int(settings["max_tokens"]),
        scope=ScopeRule(**scope),
    )


def _exported(classifier: TrainedClassifier, sequences: Sequence[Sequence[int]]) -> bytes:
    """Return the classifier as ONNX: token ids and mask in, logits out, divided by the temperature."""
    import torch

    longest = max(sequences, key=len)
    ids, mask = padded([longest, longest[:2]], classifier.pretrained.encoder)
    return export_onnx(
        _network(classifier),
        {"input_ids": ids, "attention_mask": mask.to(torch.int64)},
        outputs=("logits",),
        dynamic={
            "input_ids": {0: "batch", 1: "length"},
            "attention_mask": {0: "batch", 1: "length"},
            "logits": {0: "batch"},
        },
    )


def _network(classifier: TrainedClassifier) -> nn.Module:
    import torch

    encoder = classifier.pretrained.encoder

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model
            self.head = torch.nn.Linear(encoder.dim, len(classifier.labels))
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(classifier.head.weight / classifier.temperature))
                self.head.bias.copy_(torch.from_numpy(classifier.head.bias / classifier.temperature))

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.head(encoder.features(hidden, attention_mask))  # type: ignore[no-any-return]

    with torch.random.fork_rng(devices=[]):
        return Classifier().eval()


def _judge_of(
    classifier: TrainedClassifier, scope: ScopeRule, sequences: Sequence[Sequence[int]]
) -> Callable[[Sequence[bytes]], Parity]:
    """Return what compares an ONNX file with the classifier: both are asked each text alone."""
    reference = classifier.logits(sequences)
    within = scope.accepts(scope_scores(reference))

    def judge(models: Sequence[bytes]) -> Parity:
        network = OnnxNetwork(*models)
        pad_id = classifier.pretrained.encoder.pad_id
        logits = np.concatenate(
            [onnx_logits(network, [one], labels=len(classifier.labels), pad_id=pad_id) for one in sequences]
        )
        return label_parity(softmax(reference), softmax(logits), scope=(within, scope.accepts(scope_scores(logits))))

    return judge
