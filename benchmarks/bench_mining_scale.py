"""Cost per turn and peak memory of mining bundles of 10,000 to 1,000,000 synthetic turns. Prints one JSON line.

Each size is two fresh processes: one writes the ingestion table of a bundle by the product's own `append`, a page of
10,000 traces at a time; the other makes of it what the assets make, by the same functions, and its peak resident set
is what is reported. A bundle of 500 turns goes first, so that imports and the first reading of rules count for nothing.
Parts: `snapshot` (table to stored turns, presence, quarantine), `presence` (coverage of the contract), `failures`
(signals, blame, figures, their file), `clustering_inputs` (failures read back, their vectors), `labels` (queue and
labels of people and clusters), `datasets` (intent and ranking dataset), `served` (release manifest, observed requests).
`clusters` (grouping the failures) is told apart and is in `peak_mb`, not in the cost per turn: its cost is that of the
failures.

Of the turns 5 % fail, 8 % have a thumbs-up, 0.5 % are reviewed. Vectors are sums of random vectors of the words: a
sentence encoder takes longer than all the rest, and is a matter of its own (`embedding_cache`). The baseline is the
smallest size of the same run; `ratio` is CPU time per turn of the largest over that of the smallest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from upath import UPath

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.clock import Clock  # noqa: E402
from mangaassist_assets.core.codecs import from_json  # noqa: E402
from mangaassist_assets.core.ingestion_tables import IngestionTable  # noqa: E402
from mangaassist_assets.core.snapshots import SnapshotStore  # noqa: E402
from mangaassist_assets.datasets.building.intent_dataset import DEFAULT_INTENT_DATASET  # noqa: E402
from mangaassist_assets.datasets.building.intent_versions import build_intent_version  # noqa: E402
from mangaassist_assets.datasets.sources.training_corpus import (  # noqa: E402
    CORPUS_FILE,
    corpus_to_json,
    labelled_queries,
    messages_by_intent,
    read_corpus,
)
from mangaassist_assets.datasets.sources.utterances import Utterance  # noqa: E402
from mangaassist_assets.labelling.gathering import label_bundle  # noqa: E402
from mangaassist_assets.labelling.judged_reviews import judge_reviews  # noqa: E402
from mangaassist_assets.labelling.queue.audit_sample import read_traffic  # noqa: E402
from mangaassist_assets.labelling.queue.bundle_queue import queue_bundle  # noqa: E402
from mangaassist_assets.labelling.queue.stored_queue import queue_files  # noqa: E402
from mangaassist_assets.labelling.reviews import read_reviewed_turns, read_turns_to_label  # noqa: E402
from mangaassist_assets.labelling.stored_labels import label_files  # noqa: E402
from mangaassist_assets.mining.blame.explanations import SCORED_COLUMNS, failure_figures  # noqa: E402
from mangaassist_assets.mining.blame.rules import read_rules  # noqa: E402
from mangaassist_assets.mining.blame.stored_failures import (  # noqa: E402
    FAILURES_FILE,
    failures_to_json,
    find_stored_failures,
    read_failures,
)
from mangaassist_assets.mining.cluster_building import mine_clusters  # noqa: E402
from mangaassist_assets.mining.tracking.cluster_files import bundle_to_files, read_clusters  # noqa: E402
from mangaassist_assets.models.pipelines import INTENT, RERANKER  # noqa: E402
from mangaassist_assets.releases.manifest import MANIFEST_COLUMNS, build_manifest  # noqa: E402
from mangaassist_assets.reporting.experiments import EXPERIMENT_COLUMNS, arm_rows, shadow_rows  # noqa: E402
from mangaassist_assets.serving.deployment_contract import newest_stages, observed_requests  # noqa: E402
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT, RELEVANT_DOCUMENTS  # noqa: E402
from mangaassist_assets.tracing.contract.turns import (  # noqa: E402
    ChatTurn,
    Generation,
    RankedCandidate,
    Review,
    StageTiming,
    Verdict,
)
from mangaassist_assets.tracing.ingestion.bundle_ingestion import BundleIngestion  # noqa: E402
from mangaassist_assets.tracing.ingestion.coverage import coverage  # noqa: E402
from mangaassist_assets.tracing.ingestion.ingested_traces import INGESTED_SCHEMA, IngestedTraces  # noqa: E402
from mangaassist_assets.tracing.ingestion.stored_turns import (  # noqa: E402
    count_turns,
    read_presence,
    read_turn_frame,
)
from mangaassist_assets.tracing.ingestion.trace_ingestion import TraceCounts  # noqa: E402
from mangaassist_assets.tracing.ingestion.turn_frames import turn_row  # noqa: E402
from tests.support.dataset_store import TEXTS, build, knowledge, put_knowledge  # noqa: E402

BUNDLE = "2026.03.24-rc2"
PAGE = 10_000
WARM_UP = 500
DIMENSION = 384
TOPICS = {
    "order_status": "where is my order parcel tracking late arrived yet",
    "returns": "send back refund damaged copy wrong volume money",
    "recommend": "something like similar series dark fantasy romance next",
    "stock": "in stock box set signed edition restock when available",
}
SMALL_WORDS = "the a please can you tell me is it for this that i want need do have any more of with and"
SERIES = tuple(f"series{number}" for number in range(400))
STAGES = (
    *("intent_classification", "retrieve_chunks", "embed_query", "vector_search", "keyword_search"),
    *("rerank_chunks", "build_prompt", "bedrock_generate", "guardrails"),
)


def synthetic_turn(number: int, draw: random.Random) -> ChatTurn:
    """Return a turn as our chatbot writes it; four make a session, a minute apart."""
    intent = draw.choice(list(TOPICS))
    words = [*draw.choices(TOPICS[intent].split(), k=5), *draw.choices(SMALL_WORDS.split(), k=5), draw.choice(SERIES)]
    fails = draw.random() < 0.05
    kind = draw.choices(("down", "error", "blocked", "empty"), (80, 8, 6, 6))[0] if fails else ""
    asked = draw.random() < 0.005
    expected = (draw.choice(list(TOPICS)) if draw.random() < 0.3 else intent) if asked else None
    documents = (draw.choice(list(TEXTS)),) if asked else ()
    started = 1_774_310_400_000 + number * 250
    said = (("expected_intent", EXPECTED_INTENT, (expected or "",)), ("documents", RELEVANT_DOCUMENTS, documents))
    return ChatTurn(
        trace_id=f"{number:x}",
        timestamp_ms=started,
        duration_ms=draw.randrange(300, 4_000),
        state="ERROR" if kind == "error" else "OK",
        failed_span="bedrock_generate" if kind == "error" else None,
        release_bundle=BUNDLE,
        session_id=f"s-{number // 4}",
        user_key=None if draw.random() < 0.3 else hashlib.md5(str(number // 8).encode()).hexdigest(),  # noqa: S324
        message=" ".join(words),
        answer=" ".join(draw.choices(SMALL_WORDS.split(), k=70)),
        intent=intent,
        intent_confidence=round(1 - draw.random() ** 2, 4),
        intent_model_version="7",
        reranker_version="3",
        prompt_version="p12",
        bedrock_model_id="anthropic.claude-3-haiku-20240307-v1:0",
        guardrail_ruleset_version="g4",
        routing_policy_version="r2",
        index_generation="kb-20260301-1",
        embedding_model_id="amazon.titan-embed-text-v2:0",
        experiment_id=draw.choice(["none", "depth:control", "depth:deep"]),
        response_id=f"{draw.getrandbits(96):x}",
        candidates=()
        if kind == "empty"
        else tuple(
            RankedCandidate(
                chunk_id=f"{document}::{draw.randrange(20)}",
                document_id=document,
                retrieval_rank=rank,
                retrieval_score=draw.random(),
                rerank_rank=rank,
                rerank_score=draw.random(),
                selected=rank <= 3,
            )
            for rank, document in enumerate(draw.choices([*TEXTS, *SERIES], k=10), start=1)
        ),
        candidate_count=0 if kind == "empty" else 10,
        guardrail_blocked=kind == "blocked",
        guardrail_reasons=("injection",) if kind == "blocked" else (),
        user_feedback="thumbs_down" if kind == "down" else "thumbs_up" if draw.random() < 0.08 else None,
        expected_intent=expected,
        expected_documents=documents,
        reviewer="a" if asked else None,
        reviews=tuple(
            Review(
                name=name, kind="expectation", values=values, source="human", source_id="a", timestamp_ms=started + 9
            )
            for _, name, values in said
            if asked
        ),
        verdicts=(Verdict(name="prompt_safety", text="safe", stage="guardrails"),) if draw.random() < 0.1 else (),
        stages=tuple(
            StageTiming(
                name=name,
                duration_ms=draw.random() * 200,
                endpoint_name="mangaassist-intent" if name == "intent_classification" else None,
                request_keys=("text",) if name == "intent_classification" else (),
            )
            for name in STAGES
        ),
        generations=(
            Generation(
                model_id="anthropic.claude-3-haiku-20240307-v1:0",
                input_tokens=draw.randrange(300, 3_000),
                output_tokens=draw.randrange(20, 400),
                stop_reason="end_turn",
            ),
        ),
    )


def pages(turns: int) -> Iterator[pl.DataFrame]:
    """Yield rows of the ingestion table: one page is made turn by turn, the others are it with ids and words anew."""
    draw = random.Random(7)
    rows = [
        {
            **turn_row(synthetic_turn(number, draw)),
            "kind": "turn",
            "fingerprint": f"{draw.getrandbits(256):x}",
            "tags_present": ["session_id", "intent", "prompt_version", "release_bundle", "bedrock_model_id"],
            "spans_present": ["chat_turn", *STAGES],
            "problems": [],
        }
        for number in range(min(turns, PAGE))
    ]
    first = pl.DataFrame(rows, schema=INGESTED_SCHEMA)
    for number in range(-(-turns // PAGE)):
        suffix = pl.lit(f"-{number}")
        yield first.head(turns - number * PAGE).with_columns(
            trace_id=pl.format("tr-{}", (pl.col("trace_id") + suffix).hash(3)),
            session_id=pl.col("session_id") + suffix,
            user_key=pl.col("user_key") + suffix,
            response_id=pl.col("response_id") + suffix,
            timestamp_ms=pl.col("timestamp_ms") + number * PAGE * 250,
            # Another series for each page: the messages are not the same ones again and again.
            message=pl.format(
                "{} {}", "message", pl.lit(SERIES[number % len(SERIES)] + ("" if number < len(SERIES) else "x"))
            ),
            sequence=pl.lit(number + 1, dtype=pl.Int64),
        )


def table_at(folder: Path) -> IngestionTable:
    """Return the ingestion table as the store opens it."""
    return IngestionTable(str(folder / "traces"), schema=INGESTED_SCHEMA, skipping=("timestamp_ms",))


def write(folder: Path, turns: int) -> None:
    """Write the ingestion table of a bundle."""
    table = table_at(folder)
    for page in pages(turns):
        table.append(page.select(INGESTED_SCHEMA.names()), after=table.checkpoint(), value={})


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return sums of random vectors of the words, float32 of shape (len(texts), 384), rows of length one."""
    known: dict[str, np.ndarray] = {}
    small = set(SMALL_WORDS.split())
    vectors = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            if word not in known:
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
                # Words of no topic say little.
                weight = 0.2 if word in small else 1.0
                known[word] = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32) * weight
            vectors[row] += known[word]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


class Mining:
    """What assets make of one bundle, part by part."""

    def __init__(self, folder: Path) -> None:
        self.table = table_at(folder)
        self.store = SnapshotStore(UPath(folder / "store"))
        self.rules = read_rules()
        put_knowledge(self.store, knowledge())
        corpus = [
            Utterance(text=f"{words} {name}", intent=intent, relevant_documents=(name,))
            for intent, words in TOPICS.items()
            for name in TEXTS
        ]
        self.store.write("training_corpus", {CORPUS_FILE: corpus_to_json(corpus)})

    def parts(self) -> dict[str, Callable[[], None]]:
        """Return the parts in the order in which they follow each other."""
        return {
            "snapshot": self.snapshot,
            "presence": self.presence,
            "failures": self.failures,
            "clustering_inputs": self.clustering_inputs,
            "clusters": self.clusters,
            "labels": self.labels,
            "datasets": self.datasets,
            "served": self.served,
        }

    def snapshot(self) -> None:
        """Store the turns as `tagged_traces` does once the traces are ingested."""
        ingested = IngestedTraces(self.table)
        bundle = BundleIngestion(
            release_bundle=BUNDLE,
            found=ingested.bundle(BUNDLE),
            feedback={},
            new=TraceCounts(),
            changed=None,
            unassigned=ingested.unassigned().height,
        )
        self.store.write("tagged_traces", bundle.files(), partition=BUNDLE)
        bundle.figures()

    def presence(self) -> None:
        """Judge what traces have, as the check `contract_coverage` does."""
        coverage(read_presence(self.store, BUNDLE)).figures()

    def failures(self) -> None:
        """Find and store failures and their figures as `failed_traces` does."""
        turns = read_turn_frame(self.store, BUNDLE, columns=[*EXPERIMENT_COLUMNS, *SCORED_COLUMNS])
        failures = find_stored_failures(self.store, BUNDLE, self.rules)
        self.store.write("failed_traces", {FAILURES_FILE: failures_to_json(failures)}, partition=BUNDLE)
        failure_figures(turns, failures, self.rules)
        arm_rows(turns, {failure.turn.trace_id for failure in failures})
        shadow_rows(turns)

    def clustering_inputs(self) -> None:
        """Read failures back and embed their messages, as `failure_clusters` begins."""
        self.failed = read_failures(self.store, BUNDLE)
        self.vectors = embed([failure.turn.learnable_text for failure in self.failed])
        self.turns = count_turns(self.store, BUNDLE)

    def clusters(self) -> None:
        """Group the failures and store the clusters."""
        mined = mine_clusters(
            self.failed, self.vectors, release_bundle=BUNDLE, turns=self.turns, embedding_model_id="words"
        )
        self.store.write("failure_clusters", bundle_to_files(mined.bundle), partition=BUNDLE)
        del self.failed, self.vectors

    def labels(self) -> None:
        """Choose turns for review and gather labels, as `review_queue` and `intent_labels` do."""
        clusters = read_clusters(self.store, BUNDLE)
        earlier = read_reviewed_turns(self.store, BUNDLE)
        wanted = [one for cluster in clusters for one in cluster.trace_ids]
        queued = queue_bundle(
            read_turns_to_label(self.store, BUNDLE, wanted),
            clusters,
            earlier,
            read_traffic(self.store, BUNDLE),
            embed=embed,
            budget=50,
        )
        self.store.write("review_queue", queue_files(queued.queue), partition=BUNDLE)
        turns = read_turns_to_label(self.store, BUNDLE, wanted)
        said = judge_reviews(turns, earlier, corpus=messages_by_intent(read_corpus(self.store)), embed=embed)
        gathered = label_bundle(turns, clusters, said, embed=embed, queue=queued.queue)
        self.store.write("intent_labels", label_files(gathered), partition=BUNDLE)

    def datasets(self) -> None:
        """Build the datasets, and read the queries that searches are evaluated with."""
        build_intent_version(self.store, BUNDLE, config=DEFAULT_INTENT_DATASET)
        build(self.store, BUNDLE)
        labelled_queries(self.store)

    def served(self) -> None:
        """Count what served the bundle, and how endpoints were asked."""
        build_manifest(BUNDLE, read_turn_frame(self.store, BUNDLE, columns=MANIFEST_COLUMNS), learned={})
        for pipeline in (INTENT, RERANKER):
            sum(1 for _ in observed_requests(newest_stages(self.store), pipeline))


def mine(folder: Path, turns: int) -> dict[str, Any]:
    """Mine a small bundle unmeasured, then the bundle; return CPU seconds and peak memory after each part."""
    small = folder / "small"
    write(small, WARM_UP)
    for part in Mining(small).parts().values():
        part()
    seconds: dict[str, float] = {}
    peaks: dict[str, int] = {}
    for name, part in Mining(folder).parts().items():
        clock = Clock()
        part()
        seconds[name] = clock.seconds()[1]
        peaks[name] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    per_turn = {name: spent / turns * 1_000 for name, spent in seconds.items()}
    return {
        "turns": turns,
        "cpu_s_per_1000": round(sum(per_turn.values()) - per_turn["clusters"], 4),
        "parts_cpu_s_per_1000": {name: round(spent, 4) for name, spent in per_turn.items()},
        "peak_mb": max(peaks.values()),
        "peak_mb_after": peaks,
    }


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", default="10000,100000,1000000")
    parser.add_argument("--work", choices=("write", "mine"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work == "write":
        return write(arguments.folder, int(arguments.turns))
    if arguments.work == "mine":
        return print(json.dumps(mine(arguments.folder, int(arguments.turns))))
    sizes = []
    for turns in sorted(map(int, arguments.turns.split(","))):
        with tempfile.TemporaryDirectory() as folder:
            for work in ("write", "mine"):
                command = [sys.executable, __file__, "--work", work, "--turns", str(turns), "--folder", folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            sizes.append(from_json(dict[str, Any], done.stdout))
    ratio = sizes[-1]["cpu_s_per_1000"] / sizes[0]["cpu_s_per_1000"]
    print(json.dumps({"benchmark": "mining_scale", "sizes": sizes, "ratio": round(ratio, 3)}))
    return None


if __name__ == "__main__":
    main()
