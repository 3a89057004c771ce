"""Clustering of messages: agreement with intents, seconds and memory. Prints one JSON line per set of messages.

The baseline of the same run is BERTopic's recipe: UMAP (15 neighbours, 5 components, minimum distance 0, cosine, no
seed, so that it uses all cores) and HDBSCAN (minimum cluster size 10) on the same vectors
(`uv pip install umap-learn hdbscan`; without them the baseline is null with the reason). What it calls noise is
counted both as one cluster and as clusters of one; `ari` and `nmi` are the better of the two, each for itself.

Each clustering runs in a process of its own, which loads the vectors, clusters them twice, and reports the time of the
first call (with its imports and, for the baseline, its compilation), of the second, and the peak memory of the process.
Processor seconds are the second call's, of all cores together: they say more than the clock on a machine that is busy.
Ours runs in two processes, whose groups must have the same digest. Settings were chosen on the sets of role `tuned`;
the others were seen meanwhile, so they are not untouched. Vectors are those of all-MiniLM-L6-v2, kept in `--cache`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clustering_sets import DATA, MessageSet, large_set, quality_sets  # noqa: E402

MINIMUM_CLUSTER = 10


def ours(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return our groups."""
    from mangaassist_assets.mining.clustering.communities import cluster_messages

    return cluster_messages(vectors)


def baseline(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the baseline's clusters, -1 for noise."""
    import hdbscan
    import umap

    reduced = umap.UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine").fit_transform(vectors)
    model = hdbscan.HDBSCAN(
        min_cluster_size=MINIMUM_CLUSTER, metric="euclidean", cluster_selection_method="eom", prediction_data=True
    )
    return np.asarray(model.fit_predict(reduced), dtype=np.int64)


def cluster_in_this_process(method: str, vectors_file: Path, labels_file: Path) -> dict[str, Any]:
    """Cluster twice and write the groups of the second time; what the parent gets to know."""
    vectors = np.load(vectors_file)
    work = {"ours": ours, "baseline": baseline}[method]
    seconds = []
    for _ in range(2):
        started, processor = time.perf_counter(), time.process_time()
        labels = work(vectors)
        seconds.append(round(time.perf_counter() - started, 3))
        processor_seconds = round(time.process_time() - processor, 3)
    np.save(labels_file, labels)
    return {
        "seconds_first": seconds[0],
        "seconds": seconds[1],
        "processor_seconds": processor_seconds,
        "peak_mb": peak_memory_mb(),
        "digest": hashlib.sha256(labels.tobytes()).hexdigest()[:16],
    }


def peak_memory_mb() -> int:
    """Return the most memory this process has held; Linux counts the parent's at the start in `ru_maxrss`."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024)
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def cluster(method: str, vectors_file: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Cluster in a new process; the memory of this one must not count."""
    labels_file = vectors_file.with_name(f"{method}.npy")
    done = subprocess.run(
        [sys.executable, __file__, "--child", method, str(vectors_file), str(labels_file)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if method == "baseline" else None,  # UMAP warns of its own settings
        text=True,
    )
    return json.loads(done.stdout), np.load(labels_file)


def agreement(intents: list[str], labels: NDArray[np.int64]) -> dict[str, float]:
    """Return the adjusted Rand index and the normalised mutual information (arithmetic mean)."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "ari": round(float(adjusted_rand_score(intents, labels)), 4),
        "nmi": round(float(normalized_mutual_info_score(intents, labels)), 4),
    }


def run_ours(messages: MessageSet, vectors_file: Path) -> dict[str, Any]:
    """Measure ours in two processes."""
    figures, labels = cluster("ours", vectors_file)
    again, _ = cluster("ours", vectors_file)
    figures |= {
        "same_groups_in_another_process": figures["digest"] == again["digest"],
        "groups": int(labels.max()) + 1,
        "groups_of_one": int((np.bincount(labels) == 1).sum()),
    }
    return figures | (agreement(messages.intents, labels) if messages.intents else {})


def run_baseline(messages: MessageSet, vectors_file: Path) -> dict[str, Any] | None:
    """Measure the baseline, or return None where it is not installed."""
    try:
        figures, labels = cluster("baseline", vectors_file)
    except subprocess.CalledProcessError as error:
        missing = [line for line in error.stderr.splitlines() if line.startswith("ModuleNotFoundError")]
        if not missing:
            sys.stderr.write(error.stderr)
            raise
        print(f"no baseline: {missing[0]}; uv pip install umap-learn hdbscan", file=sys.stderr)
        return None
    noise = labels < 0
    figures |= {"groups": int(labels.max()) + 1, "noise": round(float(noise.mean()), 4)}
    if messages.intents:
        alone = labels.copy()
        alone[noise] = labels.max() + 1 + np.arange(noise.sum())
        as_one, as_many = agreement(messages.intents, labels), agreement(messages.intents, alone)
        figures |= {"noise_as_one_cluster": as_one, "noise_as_clusters_of_one": as_many}
        figures |= {name: max(as_one[name], as_many[name]) for name in as_one}
    return figures


def run(messages: MessageSet, folder: Path, embedder: Any, cache: Any, *, with_baseline: bool) -> dict[str, Any]:  # noqa: ANN401
    """Measure one set."""
    from mangaassist_assets.mining.clustering.message_vectors import embed_messages

    started = time.perf_counter()
    vectors, embedding = embed_messages(messages.texts, embedder=embedder, cache=cache)
    embedding_seconds = round(time.perf_counter() - started, 1)
    vectors_file = folder / "vectors.npy"
    np.save(vectors_file, vectors)
    mine = run_ours(messages, vectors_file)
    theirs = run_baseline(messages, vectors_file) if with_baseline else None
    return {
        "benchmark": "clustering",
        "set": messages.name,
        "role": messages.role,
        "remark": messages.remark,
        "messages": len(messages.texts),
        "distinct": len(set(messages.texts)),
        "intents": len(set(messages.intents)) if messages.intents else None,
        "embedded": embedding.embedded,
        "embedding_seconds": embedding_seconds,
        "ours": mine,
        "baseline": theirs,
        "ratio": theirs
        and {
            "times_faster": round(theirs["seconds"] / mine["seconds"], 1),
            "times_less_processor": round(theirs["processor_seconds"] / mine["processor_seconds"], 1),
            "times_faster_first_call": round(theirs["seconds_first"] / mine["seconds_first"], 1),
            **{name: round(mine[name] - theirs[name], 4) for name in ("ari", "nmi") if name in mine},
        },
        "load_before": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Print one JSON line per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sets whose names hold this, such as hwu64 or large")
    parser.add_argument("--large", type=int, default=100_000, help="messages of the large set, 0 for none")
    parser.add_argument("--baseline-up-to", type=int, default=10_000, help="messages above which there is no baseline")
    parser.add_argument("--cache", type=Path, help="folder of vectors by hash; by default a temporary one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        method, vectors_file, labels_file = options.child
        print(json.dumps(cluster_in_this_process(method, Path(vectors_file), Path(labels_file))))
        return
    if not DATA.is_dir():
        raise SystemExit("shared/data is not beside this checkout: the benchmark needs hwu64, bitext and multidogo")

    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
    from resources.search.embeddings import LocalEmbedderResource

    embedder = LocalEmbedderResource().embedder()
    with tempfile.TemporaryDirectory() as scratch:
        cache = EmbeddingCache(options.cache or Path(scratch) / "cache")
        sets = [one for one in quality_sets(options.seed) if options.only in one.name]
        if options.large and options.only in f"large_{options.large}":
            sets.append(large_set(options.large, options.seed))
        for messages in sets:
            small = len(messages.texts) <= options.baseline_up_to
            print(json.dumps(run(messages, Path(scratch), embedder, cache, with_baseline=small)), flush=True)


if __name__ == "__main__":
    main()
