"""Clustering of messages: agreement with intents, steadiness, seconds and memory. Prints one JSON line per set.

The baseline of the same run is BERTopic's recipe: UMAP (15 neighbours, 5 components, minimum distance 0, cosine, no
seed, so that it may use all cores) and HDBSCAN (minimum cluster size 10) on the same vectors; UMAP comes with the extra
`benchmarks`. What it calls noise is counted both as one cluster and as clusters of one; `ari` and `nmi` are the better
of the two, each for itself, and the mean of the runs, for without a seed no two are alike.

Each clustering runs in a process of its own, which loads the vectors, clusters them, and reports the time of the first
call (with its imports and, for the baseline, its compilation), the least of the others, and the peak memory of the
process. Processor seconds are of all cores together: they say more than the clock on a machine that is busy. Ours runs
in two processes, whose groups must have the same digest. `steadiness` is how alike (adjusted Rand index, mean and least
of five) the other messages are grouped when 1 % of the distinct ones is left out.

The last line is about new failures: bundles of 300 messages with 40 intents, none of which the champion knows. Of the
intents with three messages or more it tells which share is found: makes up more than half of a group that is no noise,
so of two messages at least; `found_by_three` asks for three of the intent's messages in that group.

The limits of merging (`MergingConfig`) were chosen on these sets, other draws of them in part. Vectors are those of
all-MiniLM-L6-v2, kept in `--cache`.
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
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clustering_sets import DATA, MessageSet, failure_bundles, large_set, quality_sets  # noqa: E402

MINIMUM_CLUSTER = 10
LEFT_OUT = 0.01
DRAWS = 5
Labels = NDArray[np.int64]


def ours(vectors: NDArray[np.float32]) -> Labels:
    """Return our groups."""
    from mangaassist_assets.mining.clustering.communities import cluster_messages

    return cluster_messages(vectors)


def baseline(vectors: NDArray[np.float32]) -> Labels:
    """Return the baseline's clusters, -1 for noise."""
    import umap
    from sklearn.cluster import HDBSCAN

    reduced = umap.UMAP(n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine").fit_transform(vectors)
    model = HDBSCAN(min_cluster_size=MINIMUM_CLUSTER, metric="euclidean", cluster_selection_method="eom", copy=False)
    return np.asarray(model.fit_predict(reduced), dtype=np.int64)


def cluster_in_this_process(method: str, vectors_file: Path, labels_file: Path) -> dict[str, Any]:
    """Cluster a few times, small sets more often, and write the groups of each; what the parent gets to know."""
    vectors = np.load(vectors_file)
    work = {"ours": ours, "baseline": baseline}[method]
    seconds, processor_seconds, labels = [], [], []
    for _ in range(5 if len(vectors) <= 1100 else 2):
        started, processor = time.perf_counter(), time.process_time()
        labels.append(work(vectors))
        seconds.append(round(time.perf_counter() - started, 3))
        processor_seconds.append(round(time.process_time() - processor, 3))
    np.save(labels_file, np.stack(labels))
    return {
        "seconds_first": seconds[0],
        "seconds": min(seconds[1:]),
        "processor_seconds": min(processor_seconds[1:]),
        "peak_mb": peak_memory_mb(),
        "digest": hashlib.sha256(labels[-1].tobytes()).hexdigest()[:16],
    }


def peak_memory_mb() -> int:
    """Return the most memory this process has held; Linux counts the parent's at the start in `ru_maxrss`."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024)
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def cluster(method: str, vectors_file: Path) -> tuple[dict[str, Any], Labels]:
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


def agreement(intents: list[str], labels: Labels) -> dict[str, float]:
    """Return the adjusted Rand index and the normalised mutual information (arithmetic mean), noise the better way."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    noise = labels < 0
    alone = labels.copy()
    alone[noise] = labels.max() + 1 + np.arange(noise.sum())
    ways = (labels, alone) if noise.any() else (labels,)
    return {
        "ari": max(float(adjusted_rand_score(intents, way)) for way in ways),
        "nmi": max(float(normalized_mutual_info_score(intents, way)) for way in ways),
    }


def mean_agreement(intents: list[str], runs: Labels) -> dict[str, float]:
    """Return the means over the runs, shape (runs, messages)."""
    found = [agreement(intents, labels) for labels in runs]
    return {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}


def steadiness(vectors: NDArray[np.float32], labels: Labels) -> dict[str, float]:
    """Return how alike the rest is grouped without one of a hundred distinct messages."""
    from sklearn.metrics import adjusted_rand_score

    from mangaassist_assets.mining.clustering.communities import distinct_rows, unit_rows

    first, numbers = distinct_rows(unit_rows(vectors))
    alike = []
    for draw in range(DRAWS if len(vectors) <= 30_000 else 1):
        random = np.random.default_rng(draw)
        gone = random.choice(len(first), size=max(1, round(LEFT_OUT * len(first))), replace=False)
        kept = np.flatnonzero(~np.isin(numbers, gone))
        alike.append(float(adjusted_rand_score(labels[kept], ours(vectors[kept]))))
    return {"mean": round(float(np.mean(alike)), 4), "least": round(min(alike), 4)}


def found_intents(intents: list[str], labels: Labels, *, least: int) -> tuple[int, int]:
    """Return how many of the intents with three messages or more are the majority of a group, and how many there are.

    The group must hold `least` of the intent's messages.
    """
    found = set()
    for group in range(int(labels.max()) + 1):
        members = Counter(intent for intent, label in zip(intents, labels.tolist(), strict=True) if label == group)
        if not members:
            continue
        intent, count = members.most_common(1)[0]
        if count >= least and count > members.total() / 2:
            found.add(intent)
    wanted = {intent for intent, count in Counter(intents).items() if count >= 3}
    return len(found & wanted), len(wanted)


def run_ours(messages: MessageSet, vectors_file: Path) -> dict[str, Any]:
    """Measure ours in two processes."""
    figures, runs = cluster("ours", vectors_file)
    again, _ = cluster("ours", vectors_file)
    return figures | {
        "same_groups_in_another_process": figures["digest"] == again["digest"],
        "groups": int(runs[-1].max()) + 1,
        "largest": int(np.bincount(runs[-1]).max()),
        "groups_of_one": int((np.bincount(runs[-1]) == 1).sum()),
        "steadiness": steadiness(np.load(vectors_file), runs[-1]),
        **mean_agreement(messages.intents, runs[-1:]),
    }


def run_baseline(messages: MessageSet, vectors_file: Path) -> dict[str, Any] | None:
    """Measure the baseline, or return None where it is not installed."""
    try:
        figures, runs = cluster("baseline", vectors_file)
    except subprocess.CalledProcessError as error:
        missing = [line for line in error.stderr.splitlines() if line.startswith("ModuleNotFoundError")]
        if not missing:
            sys.stderr.write(error.stderr)
            raise
        print(f"no baseline: {missing[0]}; `make bench` installs the extra `benchmarks`", file=sys.stderr)
        return None
    return figures | {
        "groups": int(runs[-1].max()) + 1,
        "noise": round(float((runs < 0).mean()), 4),
        **mean_agreement(messages.intents, runs),
    }


def run(messages: MessageSet, folder: Path, vectors: NDArray[np.float32], *, with_baseline: bool) -> dict[str, Any]:
    """Measure one set."""
    vectors_file = folder / "vectors.npy"
    np.save(vectors_file, vectors)
    mine = run_ours(messages, vectors_file)
    theirs = run_baseline(messages, vectors_file) if with_baseline else None
    return {
        "benchmark": "clustering",
        "set": messages.name,
        "remark": messages.remark,
        "messages": len(messages.texts),
        "distinct": len(set(messages.texts)),
        "intents": len(set(messages.intents)),
        "ours": mine,
        "baseline": theirs,
        "ratio": theirs
        and {
            "times_faster": round(theirs["seconds"] / mine["seconds"], 1),
            "times_less_processor": round(theirs["processor_seconds"] / max(mine["processor_seconds"], 1e-3), 1),
            "times_faster_first_call": round(theirs["seconds_first"] / mine["seconds_first"], 1),
            **{name: round(mine[name] - theirs[name], 4) for name in ("ari", "nmi")},
        },
        "load_before": round(os.getloadavg()[0], 1),
    }


def run_bundles(
    bundles: list[MessageSet], folder: Path, embed: Callable[[list[str]], NDArray[np.float32]], *, with_baseline: bool
) -> dict[str, Any]:
    """Measure which share of new intents is found, by source and of all bundles together."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    vectors_file = folder / "vectors.npy"
    for bundle in bundles:
        np.save(vectors_file, embed(bundle.texts))
        for method in ("ours", "baseline") if with_baseline else ("ours",):
            labels = cluster(method, vectors_file)[1][-1]
            for source in (bundle.name.split("_")[1], "all"):
                own = counts.setdefault(method, {}).setdefault(source, Counter())
                for name, least in (("found", 2), ("found_by_three", 3)):
                    found, wanted = found_intents(bundle.intents, labels, least=least)
                    own[name] += found
                own["intents"] += wanted
    shares = {
        method: {
            source: {name: round(own[name] / own["intents"], 3) for name in ("found", "found_by_three")}
            for source, own in sources.items()
        }
        for method, sources in counts.items()
    }
    return {
        "benchmark": "clustering_new_failures",
        "bundles": len(bundles),
        "ours": shares["ours"],
        "baseline": shares.get("baseline"),
        "ratio": {
            name: round(value - shares["baseline"]["all"][name], 3) for name, value in shares["ours"]["all"].items()
        }
        if "baseline" in shares
        else None,
    }


def main() -> None:
    """Print one JSON line per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="sets whose names hold this, such as hwu64 or large")
    parser.add_argument("--large", type=int, default=100_000, help="messages of the large set, 0 for none")
    parser.add_argument("--baseline-up-to", type=int, default=100_000, help="messages above which there is no baseline")
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

    from mangaassist_assets.mining.clustering.message_vectors import embed_messages
    from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache
    from resources.search.embeddings import LocalEmbedderResource

    embedder = LocalEmbedderResource().embedder()
    with tempfile.TemporaryDirectory() as scratch:
        cache = EmbeddingCache(options.cache or Path(scratch) / "cache")

        def embed(texts: list[str]) -> NDArray[np.float32]:
            return embed_messages(texts, embedder=embedder, cache=cache)[0]

        sets = [one for one in quality_sets(options.seed) if options.only in one.name]
        if options.large and options.only in f"large_{options.large}":
            sets.append(large_set(options.large, options.seed))
        for messages in sets:
            small = len(messages.texts) <= options.baseline_up_to
            measured = run(messages, Path(scratch), embed(messages.texts), with_baseline=small)
            print(json.dumps(measured), flush=True)
        bundles = [one for one in failure_bundles(options.seed) if options.only in one.name]
        if bundles:
            with_baseline = options.baseline_up_to > 0
            print(json.dumps(run_bundles(bundles, Path(scratch), embed, with_baseline=with_baseline)), flush=True)


if __name__ == "__main__":
    main()
