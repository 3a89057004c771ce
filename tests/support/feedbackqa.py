"""FeedbackQA as the input of this platform: passages as a knowledge folder, questions as labelled queries.

Crowd-sourced questions about Covid and the passages of health authorities that answer them (McGill-NLP/feedbackqa,
Apache-2.0).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mangaassist_assets.knowledge.retrieval_evaluation import LabelledQuery


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


def _read(source: Path, split: str) -> Any:
    return json.loads((source / f"{split}.json").read_text("utf-8"))
