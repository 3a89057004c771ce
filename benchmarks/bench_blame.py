"""Blame under planted faults: how many of the blamed failures name the stage that was broken. JSON lines.

The demo's messages go through the reference chatbot over the demo's knowledge, in a real search index (LanceDB) with
MiniLM vectors. Classifier and reranker know the truth but for a share of slips (`--slip`), and the search misses what
it misses: so other stages err as well. One line a fault:

- `planted`: failures that the fault made, because the same message did not fail without it. `named` is the share of
  the blamed ones among them that name the broken stage, `unknown` the share that none is blamed for.
- `all`: the same over all failures of the bundle, with those that other stages made by themselves.
- `right`: the share of all blamed failures whose stage truly erred, planted or not.
- `stripped_unknown`: the share of `unknown` after reviews, confidences, scores, stop reasons, blocks and errors were
  taken off the turns.

The baseline of the same run blames under the fixed rules that came before: first evidence in the order of the stages.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mangaassist_assets.chatbot.configuration.documents import RoutingDocument  # noqa: E402
from mangaassist_assets.chatbot.generation import ExtractiveGenerator  # noqa: E402
from mangaassist_assets.datasets.sources.utterances import Utterance, read_utterances  # noqa: E402
from mangaassist_assets.demo.generator import write_demo  # noqa: E402
from mangaassist_assets.mining.blame.blame import FailedTurn, find_failures  # noqa: E402
from mangaassist_assets.mining.blame.rules import PACKAGED_RULES, MiningRules, read_rules  # noqa: E402
from mangaassist_assets.retrieval.chunking import chunk_documents, embedding_text  # noqa: E402
from mangaassist_assets.retrieval.documents.documents import read_knowledge  # noqa: E402
from mangaassist_assets.retrieval.types import Chunk, TextUse, Vectors  # noqa: E402
from resources.search.embeddings import LocalEmbedderResource  # noqa: E402
from resources.search.indexes import LanceDbSearchResource  # noqa: E402
from tests.support.chatbot_faults import (  # noqa: E402
    ChatbotParts,
    FailingPart,
    Fault,
    InvertedScores,
    MissingDocuments,
    Overblocking,
    SwappedIntents,
    WrongAnswers,
)
from tests.support.planted_faults import TruthEndpoint, drive, share_named, unit, without_evidence  # noqa: E402
from tests.support.store_chatbot import FixedConfiguration  # noqa: E402

STAGES_BEFORE = """
[stages.infrastructure]
loop = "none"
evidence = [{ name = "turn_in_error", confidence = 1.0 }]
[stages.guardrail]
loop = "configuration"
evidence = [{ name = "blocked", confidence = 1.0 }]
[stages.intent]
loop = "retrain_intent"
evidence = [
  { name = "review_names_other_intent", confidence = 0.95 },
  { name = "unsure_classifier", below = 0.5, confidence = 0.5 },
  { name = "review_confirms_intent", confidence = 0.95 },
]
[stages.retrieval]
loop = "reindex"
evidence = [
  { name = "expected_documents_not_found", confidence = 0.95 },
  { name = "nothing_found", confidence = 0.8 },
]
[stages.reranker]
loop = "retrain_reranker"
evidence = [{ name = "expected_document_not_used", confidence = 0.95 }]
[stages.generation]
loop = "configuration"
evidence = [{ name = "thumbs_down_with_right_inputs", confidence = 0.95 }]
[stages.unknown]
loop = "none"
"""


def rules_before(folder: Path) -> MiningRules:
    """Return the fixed rules that came before, as a rules file."""
    signals = PACKAGED_RULES.read_text(encoding="utf-8").split("[stages.infrastructure]")[0]
    path = folder / "before.toml"
    path.write_text(
        signals.replace('ungrounded_reasons = ["ungrounded"]', "ungrounded_reasons = []") + STAGES_BEFORE,
        encoding="utf-8",
    )
    return read_rules(path)


class CachedEmbedder:
    """Embeds each text once: the same traffic is driven once a fault."""

    def __init__(self) -> None:
        self._embedder = LocalEmbedderResource().embedder()
        self._known: dict[str, Any] = {}
        self.model_id = self._embedder.model_id
        self.dimension = self._embedder.dimension

    def embed(self, texts: Sequence[str], *, use: TextUse = "passage") -> Vectors:
        """Return float32 of shape (len(texts), dimension)."""
        del use
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        return np.stack([self._known[text] for text in texts])


class SlippingReranker:
    """Relevance by the similarity of question and passage, but for passages that answer: those it knows, mostly."""

    name = "mangaassist-reranker"

    def __init__(
        self, truth: Mapping[str, Utterance], chunks: Sequence[Chunk], embedder: CachedEmbedder, slip: float
    ) -> None:
        self._truth = truth
        self._documents = {embedding_text(one.title, one.text)[:2_000]: one.document_id for one in chunks}
        self._embedder = embedder
        self._slip = slip

    def invoke(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Answer by the inference contract."""
        question = payload["inputs"][0]["text"]
        passages = [pair["text_pair"] for pair in payload["inputs"]]
        similar = self._embedder.embed(passages) @ self._embedder.embed([question])[0]
        slips = unit("rerank slip", question) < self._slip
        scores = []
        for passage, similarity in zip(passages, similar, strict=True):
            answers = self._documents[passage] in self._truth[question].relevant_documents and not slips
            by_vector = 1 / (1 + float(np.exp(-(similarity - 0.45) * 10)))
            scores.append(0.5 + 0.5 * by_vector if answers else 0.5 * by_vector)
        predictions = [{"label": "relevant", "score": score} for score in scores]
        return {"predictions": predictions, "model": {"name": self.name, "version": "1", "sha256": "cd" * 32}}


def demo_store(folder: Path, limit: int, slip: float) -> tuple[list[Utterance], ChatbotParts, list[Chunk]]:
    """Return messages that know their intent and documents, the chatbot's parts, and the knowledge."""
    paths = write_demo(folder / "demo")
    bundles = (paths.first_bundle, paths.second_bundle, paths.unseen_first, paths.unseen_second)
    messages = [one for path in bundles for one in read_utterances(path).utterances]
    traffic = [one for one in messages if one.intent and one.relevant_documents][:limit]
    truth = {one.text: one for one in traffic}
    chunks = chunk_documents(read_knowledge(paths.knowledge).documents)
    embedder = CachedEmbedder()
    index = LanceDbSearchResource(path=str(folder / "search")).index()
    index.create_generation("kb-1", dimension=embedder.dimension)
    index.add("kb-1", chunks, embedder.embed([embedding_text(one.title, one.text) for one in chunks]))
    index.seal("kb-1")
    index.swap_live("kb-1", expected=None)
    parts = ChatbotParts(
        intent=TruthEndpoint(truth, slip),
        index=index,
        embedder=embedder,
        reranker=SlippingReranker(truth, chunks, embedder, slip),
        configuration=FixedConfiguration(routing=RoutingDocument(version="r1")),
        generator=ExtractiveGenerator(),
    )
    return traffic, parts, chunks


def faults(traffic: Sequence[Utterance]) -> dict[str, Fault | None]:
    """Return one or more faults of each stage, each touching a third or more of the traffic."""
    intents = sorted({one.intent for one in traffic if one.intent})
    documents = sorted({document for one in traffic for document in one.relevant_documents})
    return {
        "none": None,
        "generator times out": FailingPart(part="generator"),
        "reranker times out": FailingPart(part="reranker"),
        "harmless messages refused": Overblocking(patterns=(r"\bmy\b", r"\bhow\b")),
        "intents swapped": SwappedIntents(swaps=dict(zip(intents[::2], intents[1::2], strict=False))),
        "documents missing": MissingDocuments(documents=frozenset(documents[::3])),
        "index empty": MissingDocuments(),
        "relevance inverted": InvertedScores(share=0.6),
        "answers cut off": WrongAnswers(kind="truncated"),
        "answers off topic": WrongAnswers(kind="off_topic"),
        "answers empty": WrongAnswers(kind="empty"),
    }


def figures(failures: Sequence[FailedTurn], stage: str | None) -> dict[str, Any]:
    """Return how many failures there are, which share of the blamed ones names the stage, and which is unknown."""
    named, unknown = share_named(failures, stage or "")
    return {"failures": len(failures), "named": round(named, 3) if stage else None, "unknown": round(unknown, 3)}


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=600)
    parser.add_argument("--reviewed", type=float, default=0.3, help="share of failing turns that are reviewed")
    parser.add_argument("--slip", type=float, default=0.02)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        traffic, parts, chunks = demo_store(folder, arguments.messages, arguments.slip)
        passages: dict[str, list[str]] = {}
        for chunk in chunks:
            passages.setdefault(chunk.document_id, []).append(chunk.text)
        before, failing_anyway = rules_before(folder), frozenset[str]()
        for title, fault in faults(traffic).items():
            driven = drive(traffic, parts, fault, reviewed=arguments.reviewed, passages=passages)
            if fault is None:
                failing_anyway = driven.failing
            hurt = driven.failing - failing_anyway
            started = time.perf_counter()
            ours = driven.failures()
            seconds = time.perf_counter() - started
            theirs = driven.failures(before)
            stage = fault.stage if fault else None
            planted = [one for one in ours if one.turn.trace_id in hurt]
            planted_before = [one for one in theirs if one.turn.trace_id in hurt]
            stripped = find_failures([without_evidence(turn) for turn in driven.turns])
            print(
                json.dumps(
                    {
                        "benchmark": "blame",
                        "fault": title,
                        "stage": stage,
                        "turns": len(driven.turns),
                        "failing": len(driven.failing),
                        "planted": figures(planted, stage),
                        "planted_before": figures(planted_before, stage),
                        "all": figures(ours, stage),
                        "all_before": figures(theirs, stage),
                        "right": round(driven.share_right(ours), 3),
                        "right_before": round(driven.share_right(theirs), 3),
                        "stripped_unknown": figures(stripped, stage)["unknown"],
                        "blamed": dict(sorted(_counts(ours).items())),
                        "turns_per_s": round(len(driven.turns) / seconds),
                    }
                ),
                flush=True,
            )


def _counts(failures: Sequence[FailedTurn]) -> dict[str, int]:
    found: dict[str, int] = {}
    for failure in failures:
        found[failure.blame.stage] = found.get(failure.blame.stage, 0) + 1
    return found


if __name__ == "__main__":
    main()
