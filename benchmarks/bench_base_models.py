"""Two bases for a store of two languages: MiniLM and multilingual-e5-small, for intents and retrieval.

One JSON line, all of the product's own path: `train_intent_classifier`, the chunks and `SentenceEncoder` and search
pipeline of the knowledge base. The first base is the baseline, the last is held against it.

- `intent_japanese`: accuracy on `japanese_store/messages.jsonl`, 10 messages an intent to learn from, 5 to choose by,
  15 to report on, over several seeded splits; by how a message was written, too. The interval is a bootstrap over
  groups (a template or a message by hand), since splits share their messages; `difference` pairs the bases by group.
- `intent_hwu64`: accuracy on `test` from 10 messages an intent of `train`, 5 of `valid`; with `--full` from all.
- `retrieval_japanese`: 128 questions on 87 sections of Japanese policy pages, vector, keyword and fused search.
- `retrieval_feedbackqa`: English, the questions of `valid` on the passages of one region.
- `serving`: an artifact of `intent_japanese` in a fresh process: seconds to the first answer, median milliseconds of a
  request, memory.

Each part runs in a process of its own for each base, so seconds and peak memory are its own. `--quick` shows that all
parts run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))

from benchmarks.japanese_sets import (  # noqa: E402 - the path comes first
    Message,
    read_messages,
    section_chunks,
    section_queries,
    split_messages,
)
from mangaassist_assets.models.examples import IntentExample  # noqa: E402
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig  # noqa: E402
from mangaassist_assets.models.intent.model import IntentClassifier  # noqa: E402
from mangaassist_assets.models.intent.training import train_intent_classifier  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402
from mangaassist_assets.retrieval.chunking import chunk_documents, embedding_text  # noqa: E402
from mangaassist_assets.retrieval.documents.documents import read_knowledge  # noqa: E402
from mangaassist_assets.retrieval.evaluation import LabelledQuery, evaluate_retrieval  # noqa: E402
from mangaassist_assets.retrieval.types import Chunk, Embedder  # noqa: E402

BASES = ("packaged-minilm", "packaged-multilingual-e5")
RESAMPLES = 2_000
REQUESTS = 100
Options = argparse.Namespace


def intent_japanese(base: str, options: Options) -> dict[str, Any]:
    """Train on every split; `right` has the answers on tested messages, for the interval."""
    messages = read_messages()
    right: dict[str, list[bool]] = {}
    accuracies, seconds, kept = [], [], Counter[str]()
    for seed in range(1 if options.quick else options.splits):
        split = split_messages(messages, seed)
        output = options.artifacts / Path(base).name / str(seed)
        train, validation = _examples(split.train), _examples(split.validation)
        began = time.perf_counter()
        kept[_train(train, validation, base, output, options)] += 1
        seconds.append(time.perf_counter() - began)
        answers = _answers(output, [one.text for one in split.test])
        rows = [answer == one.intent for answer, one in zip(answers, split.test, strict=True)]
        accuracies.append(float(np.mean(rows)))
        for one, row in zip(split.test, rows, strict=True):
            right.setdefault(one.id, []).append(row)
    kinds: dict[str, list[bool]] = {}
    for one in messages:
        kinds.setdefault(one.mixed or one.how, []).extend(right.get(one.id, ()))
    return {
        "accuracy": round(float(np.mean(accuracies)), 4),
        "by_split": [round(one, 4) for one in accuracies],
        "by_kind": {kind: round(float(np.mean(rows)), 3) for kind, rows in sorted(kinds.items()) if rows},
        "kept": dict(kept),
        "seconds": round(statistics.median(seconds), 1),
        "artifact_mb": _megabytes(options.artifacts / Path(base).name / "0"),
        "right": right,
    }


def intent_hwu64(base: str, options: Options) -> dict[str, Any]:
    """Train on ten messages an intent of hwu64, or on all, and ask about `test`."""
    train, validation, test = (_hwu64(part) for part in ("train", "valid", "test"))
    if not options.full:
        train, validation = _first_of_each(train, 10), _first_of_each(validation, 5)
    if options.quick:
        test = test[:100]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        kept = _train(train, validation, base, Path(folder) / "model", options)
        seconds = time.perf_counter() - began
        answers = _answers(Path(folder) / "model", [one.text for one in test])
    rows = [answer == one.intent for answer, one in zip(answers, test, strict=True)]
    return {
        "messages": len(train),
        "accuracy": round(float(np.mean(rows)), 4),
        "kept": kept,
        "seconds": round(seconds, 1),
        "right": {one.example_id: [row] for one, row in zip(test, rows, strict=True)},
    }


def serving(base: str, options: Options) -> dict[str, Any]:
    """Load an artifact and answer one message a request."""
    texts = [one.text for one in read_messages()][:: 600 // REQUESTS]
    began = time.perf_counter()
    classifier = IntentClassifier.load(options.artifacts / Path(base).name / "0")
    classifier.judge(texts[:1])
    first = time.perf_counter() - began
    return {
        "seconds_to_first_answer": round(first, 2),
        "request_ms": _median_ms(lambda text: classifier.judge([text]), texts),
        "artifact_mb": _megabytes(options.artifacts / Path(base).name / "0"),
    }


def retrieval_japanese(base: str, options: Options) -> dict[str, Any]:
    """Look for the section that answers each Japanese question."""
    queries = section_queries()
    return _retrieval(base, section_chunks(), queries[:20] if options.quick else queries)


def retrieval_feedbackqa(base: str, options: Options) -> dict[str, Any]:
    """Look for the passage that answers each English question of one region."""
    from tests.support.feedbackqa import labelled_queries, write_knowledge

    source = DATA / "feedbackqa" / options.region
    with tempfile.TemporaryDirectory() as folder:
        write_knowledge(source, Path(folder))
        chunks = chunk_documents(read_knowledge(Path(folder)).documents)
    queries = labelled_queries(source)
    return _retrieval(base, chunks, queries[:20] if options.quick else queries)


PARTS: dict[str, Callable[[str, Options], dict[str, Any]]] = {
    "intent_japanese": intent_japanese,
    "serving": serving,
    "intent_hwu64": intent_hwu64,
    "retrieval_japanese": retrieval_japanese,
    "retrieval_feedbackqa": retrieval_feedbackqa,
}


def _retrieval(base: str, chunks: Sequence[Chunk], queries: Sequence[LabelledQuery]) -> dict[str, Any]:
    from resources.search.lancedb_index import LanceDbIndex

    embedder = _embedder(base)
    began = time.perf_counter()
    vectors = embedder.embed([embedding_text(chunk.title, chunk.text, chunk.context) for chunk in chunks])
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        index = LanceDbIndex(Path(folder))
        index.create_generation("bench", dimension=embedder.dimension)
        index.add("bench", chunks, vectors)
        index.seal("bench")
        found = evaluate_retrieval(queries, "bench", index=index, embedder=embedder)
    return {
        "queries": len(queries),
        "chunks": len(chunks),
        **{search: {name: round(value, 4) for name, value in means.items()} for search, means in found.items()},
        "chunks_per_second": round(len(chunks) / seconds, 1),
        "query_ms": _median_ms(
            lambda text: embedder.embed([text], use="query"), [one.text for one in queries[:REQUESTS]]
        ),
    }


def _embedder(base: str) -> Embedder:
    from mangaassist_assets.models.encoders.sentence_encoder import load_sentence_encoder

    return load_sentence_encoder(base)


def _train(
    train: list[IntentExample], validation: list[IntentExample], base: str, output: Path, options: Options
) -> str:
    config = IntentTrainingConfig(epochs=1) if options.quick else IntentTrainingConfig()
    request = TrainingRequest(train=train, validation=validation, output=output)
    return train_intent_classifier(request, config=config, base=base).kept


def _answers(artifact: Path, texts: list[str]) -> list[str]:
    classifier = IntentClassifier.load(artifact)
    return [classifier.labels[number] for number in classifier.judge(texts).probabilities.argmax(axis=1)]


def _examples(messages: Iterable[Message]) -> list[IntentExample]:
    return [IntentExample(example_id=one.id, text=one.text, intent=one.intent) for one in messages]


def _hwu64(part: str) -> list[IntentExample]:
    texts = (DATA / "hwu64" / f"{part}.seq.in").read_text(encoding="utf-8").splitlines()
    intents = (DATA / "hwu64" / f"{part}.label").read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(texts))
    return [IntentExample(example_id=f"{part}-{one}", text=texts[one], intent=intents[one]) for one in order]


def _first_of_each(examples: Sequence[IntentExample], count: int) -> list[IntentExample]:
    taken = Counter[str]()
    found = []
    for one in examples:
        taken[one.intent] += 1
        if taken[one.intent] <= count:
            found.append(one)
    return found


def _median_ms(ask: Callable[[str], object], texts: Sequence[str]) -> float:
    times = []
    for text in texts:
        began = time.perf_counter()
        ask(text)
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 2)


def _megabytes(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20, 1)


def interval(right: Sequence[dict[str, list[bool]]], cluster: dict[str, str]) -> list[list[float]]:
    """Return the central 95 % of bootstrapped accuracies, one a base, then that of last minus first.

    Clusters are resampled, not messages; one that `cluster` does not name is its own. The bases share each resample.
    """
    names = sorted({cluster.get(one, one) for one in right[0]})
    place = {name: number for number, name in enumerate(names)}
    sums = np.zeros((len(right), len(names)))
    counts = np.zeros(len(names))
    for one, rows in right[0].items():
        counts[place[cluster.get(one, one)]] += len(rows)
    for number, of_base in enumerate(right):
        for one, rows in of_base.items():
            sums[number, place[cluster.get(one, one)]] += sum(rows)
    draws = np.random.default_rng(0).integers(len(names), size=(RESAMPLES, len(names)))
    accuracies = sums[:, draws].sum(axis=2) / counts[draws].sum(axis=1)
    compared = [*accuracies, accuracies[-1] - accuracies[0]]
    return [[round(float(edge), 4) for edge in np.quantile(one, (0.025, 0.975))] for one in compared]


def in_child(part: str, base: str, options: Options) -> dict[str, Any]:
    """Run one part for one base in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--bases", base, "--artifacts", str(options.artifacts)]
    command += ["--splits", str(options.splits), "--region", options.region]
    command += [f"--{name}" for name in ("quick", "full") if getattr(options, name)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(part: str, options: Options) -> dict[str, Any]:
    """Run one part for every base; where it tells which answers were right, with intervals and the difference."""
    found = {base: in_child(part, base, options) for base in options.bases}
    right = [one.pop("right") for one in found.values() if "right" in one]
    if right:
        *edges, difference = interval(right, {one.id: one.group for one in read_messages()})
        for one, edge in zip(found.values(), edges, strict=True):
            one["interval"] = edge
        first, last = (found[base]["accuracy"] for base in (options.bases[0], options.bases[-1]))
        return {**found, "difference": round(last - first, 4), "difference_interval": difference}
    if part.startswith("retrieval"):
        first, last = (found[base]["vector"]["ndcg@10"] for base in (options.bases[0], options.bases[-1]))
        return {**found, "difference": round(last - first, 4)}
    return dict(found)


def main() -> None:
    """Run all parts for all bases, or one part for one base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="One split, one epoch, few questions.")
    parser.add_argument("--full", action="store_true", help="hwu64 with all its messages.")
    parser.add_argument("--splits", type=int, default=5, help="Of the Japanese messages.")
    parser.add_argument("--region", default="CDC", help="Of feedbackqa.")
    parser.add_argument("--bases", nargs="+", default=list(BASES), help="Names or folders; the first is the baseline.")
    parser.add_argument("--part", choices=list(PARTS))
    parser.add_argument("--artifacts", type=Path, help="Where trained classifiers are left.")
    options = parser.parse_args()
    if options.part:
        found = PARTS[options.part](options.bases[0], options)
        found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        print(json.dumps(found), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.artifacts = options.artifacts or Path(folder)
        parts = [part for part in PARTS if DATA.is_dir() or not part.endswith(("hwu64", "feedbackqa"))]
        print(
            json.dumps(
                {"benchmark": "base_models", "cpus": os.cpu_count(), "load": os.getloadavg()[0], "quick": options.quick}
                | {part: compare(part, options) for part in parts}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
