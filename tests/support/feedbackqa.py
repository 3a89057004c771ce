"""FeedbackQA as the input of this platform: passages as a knowledge folder, questions as labelled queries.

Crowd-sourced questions about Covid and the passages of health authorities that answer them (McGill-NLP/feedbackqa,
Apache-2.0).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mangaassist_assets.models.examples import RankingExample
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.evaluation import LabelledQuery

REGIONS = ("UK", "CDC", "WHO", "Australia")
GRADES = {"Bad": 0.0, "Could be Improved": 1.0, "Acceptable": 2.0, "Excellent": 3.0}

_FIRST_STAGE_TOKENS = 256


def document_id(passage_id: int) -> str:
    """Return the id of a passage's document in the folder of `write_knowledge`."""
    return f"passages/{passage_id:04d}.md"


def write_knowledge(source: Path, folder: Path, *, limit: int | None = None) -> list[str]:
    """Write the passages of a source (`…/feedbackqa/CDC`) as Markdown files into a folder; return the document ids."""
    passages = _read(source, "train")["passages"][:limit]
    (folder / "passages").mkdir(parents=True, exist_ok=True)
    ids = []
    for passage in passages:
        reference = passage["reference"]
        headings = [reference["page_title"], *reference["section_headers"]]
        lines = [f"{'#' * min(level, 6)} {heading}" for level, heading in enumerate(headings, start=1)]
        text = "\n\n".join([*lines, reference["section_content"].strip()])
        name = document_id(passage["passage_id"])
        (folder / name).write_text(text + "\n", "utf-8")
        ids.append(name)
    return ids


def labelled_queries(source: Path, split: str = "valid") -> list[LabelledQuery]:
    """Return the questions of a split (`train` or `valid`), each with the document that answers it."""
    return [
        LabelledQuery(text=example["question"], relevant_documents=(document_id(example["passage_id"]),))
        for example in _read(source, split)["examples"]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedAnswers:
    """One question with the passages that two people graded; `gains` are their mean grades, 0 (bad) to 3."""

    question: str
    passages: tuple[str, ...]
    gains: tuple[float, ...]


class FirstStage:
    """The bi-encoder: MiniLM's mean-pooled sentence vectors and their cosine."""

    def __init__(self) -> None:
        from mangaassist_assets.models.encoders.pretrained import load_base

        self._base = load_base()
        self._kept: dict[str, NDArray[np.float32]] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(texts), 384); a text is encoded once."""
        from mangaassist_assets.models.encoders.tokens import tokenize
        from tests.support.sentence_features import sentence_features

        missing = sorted(set(texts) - self._kept.keys())
        if missing:
            ids = tokenize(self._base.tokenizer, missing, max_tokens=_FIRST_STAGE_TOKENS)
            features = sentence_features(self._base.encoder, ids)
            features /= np.linalg.norm(features, axis=1, keepdims=True)
            self._kept |= dict(zip(missing, features, strict=True))
        return np.stack([self._kept[text] for text in texts])

    def cosines(self, queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float64]:
        """Return shape (len(queries), len(passages)), rounded so that the machine does not decide an order."""
        return np.round((self.vectors(queries) @ self.vectors(passages).T).astype(np.float64), 6)


def passage_texts(source: Path) -> list[str]:
    """Return the passages of a source by their id, headings first, as a reranker reads them."""
    passages = _read(source, "train")["passages"]
    if [passage["passage_id"] for passage in passages] != list(range(len(passages))):
        raise ValueError(f"{source}: passages are not numbered from 0")
    return [_text(passage) for passage in passages]


def ranking_questions(
    source: Path, split: str, first_stage: FirstStage, *, depth: int = 20, limit: int | None = None
) -> list[RankingExample]:
    """Return the questions of a split with the first stage's best `depth` of all passages of the source.

    A question whose answer is not among them has no relevant passage: it counts as a miss in every ranking. Passages
    with the text of the answer are answers. In `train` the answer is put behind them instead, with its own rank.
    """
    passages = passage_texts(source)
    questions = _read(source, split)["examples"][:limit]
    cosines = first_stage.cosines([one["question"] for one in questions], passages)
    examples = []
    for question, row in zip(questions, cosines, strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        answer = passages[question["passage_id"]]
        found = order[:depth]
        if split == "train" and not any(passages[place] == answer for place in found):
            found = [*found, question["passage_id"]]
        examples.append(
            RankingExample(
                example_id=f"{source.name}/{split}/{question['id']}",
                query=question["question"],
                passages=tuple(passages[place] for place in found),
                relevances=tuple(float(passages[place] == answer) for place in found),
                first_stage_ranks=tuple(order.index(place) + 1 for place in found),
            )
        )
    return examples


def held_from_train(example: RankingExample) -> bool:
    """Whether a training question is of the tenth that settings are chosen on, by a hash of its text."""
    digest = hashlib.sha256(example.query.strip().lower().encode()).hexdigest()
    return int(digest[:8], 16) % 10 == 0


def rated_answers(source: Path, split: str = "feedback_valid") -> list[RatedAnswers]:
    """Return the rated questions of a source whose answers are not all graded alike."""
    by_question: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for row in _read(source, split):
        gain = float(np.mean([GRADES[rating] for rating in row["rating"]]))
        by_question[row["question"]].append((_text(row["passage"]), gain))
    return [
        RatedAnswers(question=question, passages=tuple(text for text, _ in rows), gains=tuple(gain for _, gain in rows))
        for question, rows in sorted(by_question.items())
        if len({gain for _, gain in rows}) > 1
    ]


def _text(passage: dict[str, Any]) -> str:
    reference = passage["reference"]
    headings = [heading for heading in (reference["page_title"], *(reference["section_headers"] or ())) if heading]
    return embedding_text(" > ".join(headings), (reference["section_content"] or "").strip())


def _read(source: Path, split: str) -> Any:
    return json.loads((source / f"{split}.json").read_text("utf-8"))
