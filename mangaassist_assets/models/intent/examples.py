"""Examples as intent training can use them: checked, sorted out, numbered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.examples import OUT_OF_SCOPE, IntentExample
from mangaassist_assets.models.intent.heads import balanced_weights

_LONGEST_INTENT_NAME = 200


class IntentTrainingError(ValueError):
    """The examples cannot train a classifier; the message says what is wrong with them and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableExamples:
    """What is learned from and chosen by.

    Attributes:
        intents: The classes, in alphabetical order.
        train: Messages with text, each of one of the intents.
        validation: Messages with text of these intents.
        out_of_scope: Validation messages of no intent.
        unknown: How many validation messages have an intent that `train` lacks.
        validation_decides: Whether `validation` is large enough to choose and to calibrate by.
        given: How many training and validation messages there were at first.
        notices: What was left out, a sentence each.
    """

    intents: tuple[str, ...]
    train: tuple[IntentExample, ...]
    validation: tuple[IntentExample, ...]
    out_of_scope: tuple[IntentExample, ...]
    unknown: int
    validation_decides: bool
    given: tuple[int, int]
    notices: tuple[str, ...]

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class numbers of the training messages."""
        return self.numbers(self.train)

    @property
    def validation_targets(self) -> NDArray[np.int64]:
        """Class numbers of the validation messages."""
        return self.numbers(self.validation)

    def with_validation(self) -> UsableExamples:
        """Return the same with the validation messages of its intents among those that are learned from."""
        return replace(self, train=(*self.train, *self.validation), validation=(), validation_decides=False)

    def weights(self, class_balance: float) -> NDArray[np.float32]:
        """Return loss weights of the training messages with mean 1."""
        return balanced_weights(
            [example.intent for example in self.train],
            [example.weight for example in self.train],
            exponent=class_balance,
        )

    def named(self) -> tuple[IntentExample, ...]:
        """Return the name of each intent as a message of it: `order_status` reads "order status".

        A name says what all messages of its intent have in common, which a handful of them may not. Names without a
        letter are left out.
        """
        texts = {intent: _words(intent) for intent in self.intents}
        return tuple(
            IntentExample(example_id=f"name of {intent}", text=text, intent=intent)
            for intent, text in texts.items()
            if any(letter.isalpha() for letter in text)
        )

    def taught(self, *, names: bool) -> tuple[IntentExample, ...]:
        """Return the training messages and after them, with `names`, the intents' names."""
        return (*self.train, *self.named()) if names else self.train

    def numbers(self, examples: Sequence[IntentExample]) -> NDArray[np.int64]:
        """Return class numbers, shape (len(examples),); each must have one of the intents."""
        numbers = {intent: number for number, intent in enumerate(self.intents)}
        return np.array([numbers[example.intent] for example in examples], dtype=np.int64)

    def counts(self) -> dict[str, float]:
        """Return how many there are of each kind, as metrics."""
        return {
            "train_examples": float(len(self.train)),
            "train_examples_left_out": float(self.given[0] - len(self.train)),
            "intents": float(len(self.intents)),
            "validation_examples": float(self.given[1]),
            "validation_examples_of_unknown_intents": float(self.unknown),
            "validation_examples_out_of_scope": float(len(self.out_of_scope)),
        }


def usable_examples(
    train: Sequence[IntentExample], validation: Sequence[IntentExample], *, minimum_validation: int
) -> UsableExamples:
    """Check examples and sort out what cannot be learned from.

    Raises:
        IntentTrainingError: No examples, one intent only, an id that occurs twice, or an intent or weight that cannot
            be used.
    """
    if not train:
        raise IntentTrainingError("there are no training examples: label some messages first")
    _check(train, validation)
    notices: list[str] = []
    learned = _with_text(train, "training", notices)
    refused = sum(example.intent == OUT_OF_SCOPE for example in learned)
    if refused:
        notices.append(
            f"{refused} training messages of no intent are left out: no class is learned from them, they only serve "
            "in validation"
        )
    learned = [example for example in learned if example.intent != OUT_OF_SCOPE]
    intents = tuple(sorted({example.intent for example in learned}))
    if len(intents) < 2:
        only = f"have the intent {intents[0]!r}" if intents else "are without text or without an intent"
        raise IntentTrainingError(
            f"all {len(learned) or len(train)} training examples {only}: a classifier needs at least two"
        )
    chosen_by = _with_text(validation, "validation", notices)
    out_of_scope = tuple(example for example in chosen_by if example.intent == OUT_OF_SCOPE)
    names = frozenset(intents)
    known = tuple(example for example in chosen_by if example.intent in names)
    return UsableExamples(
        intents=intents,
        train=tuple(learned),
        validation=known,
        out_of_scope=out_of_scope,
        unknown=len(chosen_by) - len(known) - len(out_of_scope),
        validation_decides=len(known) >= minimum_validation,
        given=(len(train), len(validation)),
        notices=tuple(notices),
    )


def _words(name: str) -> str:
    """Return a name's words: underscores and punctuation are spaces, and `OrderStatus` is two words."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[\W_]+", " ", apart).split()).lower()


def _with_text(examples: Sequence[IntentExample], side: str, notices: list[str]) -> list[IntentExample]:
    kept = [example for example in examples if example.text.strip()]
    if len(kept) < len(examples):
        notices.append(f"{len(examples) - len(kept)} {side} messages without text are left out")
    return kept


def _check(train: Sequence[IntentExample], validation: Sequence[IntentExample]) -> None:
    both = [*train, *validation]
    for example in both:
        name = example.intent
        if not name.strip() or len(name) > _LONGEST_INTENT_NAME or name.encode("utf-8", "replace").decode() != name:
            raise IntentTrainingError(
                f"example {example.example_id!r} has the intent {name[:40]!r}: it must be a name of 1 to "
                f"{_LONGEST_INTENT_NAME} characters of valid Unicode"
            )
        if not (np.isfinite(example.weight) and example.weight > 0):
            raise IntentTrainingError(
                f"example {example.example_id!r} has the weight {example.weight}: it must be a positive number"
            )
    twice = sorted(one for one, count in Counter(example.example_id for example in both).items() if count > 1)
    if twice:
        raise IntentTrainingError(
            f"{len(twice)} example ids occur more than once, {twice[0]!r} for one: a message may be on one side only, "
            "and there once"
        )
