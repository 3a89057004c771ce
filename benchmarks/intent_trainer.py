"""What an intent training is measured against: the `Trainer` of transformers with all its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.clock import Clock
from mangaassist_assets.models.encoders.pretrained import load_base
from mangaassist_assets.models.encoders.tokens import tokenize
from mangaassist_assets.models.examples import IntentExample

BATCH = 32
MAX_TOKENS = 64


@dataclass(frozen=True, slots=True)
class TrainerBaseline:
    """A model that `Trainer` trained; `seconds` are wall and CPU seconds of the training alone."""

    model: Any
    tokenizer: Any
    intents: tuple[str, ...]
    seconds: tuple[float, float]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the best intent of each text."""
        import torch

        self.model.eval()
        found: list[str] = []
        with torch.no_grad():
            for place in range(0, len(texts), 128):
                batch = list(texts[place : place + 128])
                inputs = self.tokenizer(
                    batch, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
                )
                logits = self.model(**inputs.to(self.model.device)).logits
                found += [self.intents[number] for number in logits.argmax(dim=1).tolist()]
        return found


def train_with_trainer(examples: Sequence[IntentExample], *, epochs: int, folder: str) -> TrainerBaseline:
    """Train the packaged MiniLM with batches of 32, dynamic padding and no other setting, tokenized beforehand."""
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainingArguments,
    )

    base = load_base()
    intents = tuple(sorted({one.intent for one in examples}))
    model = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=len(intents))
    sequences = tokenize(base.tokenizer, [one.text for one in examples], max_tokens=MAX_TOKENS)
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": intents.index(one.intent)}
        for ids, one in zip(sequences, examples, strict=True)
    ]
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base.tokenizer, **special)
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=BATCH,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer))
    clock = Clock()
    trainer.train()
    return TrainerBaseline(model, tokenizer, intents, clock.seconds())
