"""Names of clusters: how many say a word of what their messages ask for. One JSON line a set.

Messages of a set are clustered as the product does, on vectors of all-MiniLM-L6-v2, and each cluster of `--smallest`
messages and more is named by its words. A name agrees if one of its words has the stem of a word in the name of the
intent that most of the cluster's messages have: "cancel · order" with `cancel_order`, "lights · room" with
`iot_hue_lightoff`. Intents that say nothing of their messages are left out (`contentonly`, `outofdomain`). `reachable`
are the clusters in which any word that is said often enough agrees: many intents are called what nobody says
(`qa_maths`), so no name made of words gets beyond it. The intents of the Japanese store have English names: there a
name agrees if it has a word that we would call the intent by (`_IN_JAPANESE`).

`baseline` is BERTopic's recipe, class-based TF-IDF by scikit-learn's counts of all of a cluster's messages without
English stop words, three words; `all_messages` is ours without regard to what is near to the centre. `same` counts
names that two clusters have. Settings were chosen on these sets: there is no untouched one.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clustering_sets import DATA, Labelled, all_labelled, distinct  # noqa: E402
from japanese_sets import read_messages  # noqa: E402

from mangaassist_assets.demo.generator import compose_messages  # noqa: E402
from mangaassist_assets.demo.sources import read_plan  # noqa: E402
from mangaassist_assets.mining.clustering.communities import cluster_messages  # noqa: E402
from mangaassist_assets.mining.clustering.message_vectors import embed_messages  # noqa: E402
from mangaassist_assets.mining.clustering.representatives import nearest_first  # noqa: E402
from mangaassist_assets.mining.naming.key_terms import SEPARATOR, count_words  # noqa: E402
from mangaassist_assets.mining.naming.model_names import choose_names  # noqa: E402
from mangaassist_assets.mining.naming.name_words import stem  # noqa: E402
from mangaassist_assets.retrieval.embedding_cache import EmbeddingCache  # noqa: E402

_SAY_NOTHING = {"contentonly", "outofdomain"}
_ALIKE = 4
# What people would call what the Japanese store's messages ask for, any of the words.
_IN_JAPANESE = {
    "account": "ログイン パスワード アカウント 会員 登録",
    "age_rating": "年齢 対象年齢 年齢制限 子ども",
    "cancel_order": "キャンセル 取り消す",
    "change_order": "変更 住所 変える",
    "coupon": "クーポン コード 割引",
    "damaged_item": "破れる 汚れる 傷 落丁 乱丁 不良 破損 折れる 違う",
    "digital_access": "電子版 電子書籍 読める 端末",
    "digital_trouble": "アプリ ダウンロード 開かない 読めない",
    "find_title": "タイトル 題名 思い出せない 作品 名前",
    "gift_wrapping": "ラッピング 包む 贈り物 プレゼント ギフト",
    "order_status": "配送状況 届かない 発送 追跡 荷物",
    "payment_problem": "決済 支払い 払う カード",
    "points": "ポイント",
    "preorder": "予約",
    "recommendation": "おすすめ お勧め",
    "release_date": "発売日 発売 新刊",
    "return_item": "返品 返送 返金",
    "shipping_cost": "送料 配送料",
    "stock_check": "在庫 入荷",
    "subscription": "定期 定期便 解約 プラン 放題プラン 読み放題",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Messages in any order, their places by nearness to the centre, and the intent most of them have."""

    texts: list[str]
    nearest: tuple[int, ...]
    intent: str


def sources() -> dict[str, list[Labelled]]:
    """Return the distinct messages of each set with their intents."""
    messages = compose_messages(read_plan())
    demo = [*messages.training, *(turn.message for turns in messages.traffic.values() for turn in turns)]
    return {name: distinct(rows) for name, rows in all_labelled().items()} | {
        "demo": distinct([(one.text, one.intent) for one in demo]),
    }


def clusters_of(rows: Sequence[Labelled], vectors: Any, smallest: int) -> dict[str, Cluster]:  # noqa: ANN401
    """Cluster messages and return what is large enough, by a key."""
    groups = np.asarray(cluster_messages(vectors))
    found: dict[str, Cluster] = {}
    for group in sorted(set(groups.tolist())):
        members = np.flatnonzero(groups == group)
        if group < 0 or len(members) < smallest:
            continue
        counts = Counter(rows[row][1] for row in members)
        found[f"c{group}"] = Cluster(
            texts=[rows[row][0] for row in members],
            nearest=nearest_first(vectors[members], [f"{row:06d}" for row in members]),
            intent=min(counts, key=lambda one: (-counts[one], one)),
        )
    return found


def agrees(name: str, intent: str) -> bool:
    """Return whether a word of a name and one of an intent's name have one stem, or the longer holds the shorter."""
    wanted = [stem(word) for word in re.findall(r"[a-z0-9]+", intent)]
    return any(_alike(stem(word), other) for word in re.findall(r"[^\W_]+", name.casefold()) for other in wanted)


def _alike(first: str, second: str) -> bool:
    shorter, longer = sorted((first, second), key=len)
    if shorter == longer:
        return True
    return len(shorter) >= _ALIKE and (shorter in longer or (shorter[:_ALIKE] == longer[:_ALIKE] and len(longer) < 9))


def baseline(clusters: Mapping[str, Cluster]) -> dict[str, str]:
    """Name clusters by BERTopic's recipe."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(stop_words="english")
    counts = vectorizer.fit_transform(" ".join(one.texts) for one in clusters.values()).toarray().astype(float)
    words = vectorizer.get_feature_names_out()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    weights = shares * np.log1p(counts.sum() / len(counts) / np.maximum(counts.sum(axis=0), 1))
    return {key: " · ".join(words[np.argsort(-row)[:3]]) for key, row in zip(clusters, weights, strict=True)}


def run(name: str, clusters: Mapping[str, Cluster], *, shown: bool) -> dict[str, Any]:
    """Name the clusters of a set in all ways."""
    texts = {key: one.texts for key, one in clusters.items()}
    started = time.process_time()
    ours = {
        key: one.text
        for key, one in choose_names(texts, nearest={key: one.nearest for key, one in clusters.items()}).items()
    }
    seconds = time.process_time() - started
    ways = {
        "ours": ours,
        "all_messages": {key: one.text for key, one in choose_names(texts).items()},
        "baseline": baseline(clusters),
        "reachable": {key: _all_words(one) for key, one in clusters.items()},
    }
    judged = [key for key, one in clusters.items() if not _SAY_NOTHING & set(one.intent.split("<div>"))]
    result: dict[str, Any] = {"benchmark": "names", "set": name, "clusters": len(judged)}
    for way, names in ways.items():
        result[way] = sum(agrees(names[key], clusters[key].intent) for key in judged)
    result["same"] = len(ours) - len(set(ours.values()))
    result["processor_seconds"] = round(seconds, 2)
    if shown:
        result["names"] = {key: [ours[key], ways["baseline"][key], clusters[key].intent] for key in clusters}
    return result


def _all_words(cluster: Cluster) -> str:
    counts = count_words(cluster.texts)
    return " ".join(
        word for word in [*counts.words, *counts.small_talk] if word in counts.small_talk or counts.shared(word)
    )


def run_japanese(*, shown: bool) -> dict[str, Any]:
    """Name the intents of the Japanese store: the local encoder reads no Japanese, so nothing is clustered."""
    texts: dict[str, list[str]] = defaultdict(list)
    for one in read_messages():
        texts[one.intent].append(one.text)
    names = {key: one.text for key, one in choose_names(texts).items()}
    right = [key for key, name in names.items() if set(_IN_JAPANESE[key].split()) & set(name.split(SEPARATOR))]
    result = {"benchmark": "names", "set": "japanese store, by intent", "clusters": len(names), "ours": len(right)}
    return result | {"names": names} if shown else result


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2_500, help="Messages of a set.")
    parser.add_argument("--smallest", type=int, default=8, help="Messages of a cluster that is named.")
    parser.add_argument("--cache", type=Path, help="A folder where vectors are kept.")
    parser.add_argument("--only", default="", help="A part of the names of the sets.")
    parser.add_argument("--names", action="store_true", help="Show the names, the baseline's, and the intents.")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "names", "skipped": f"no data sets at {DATA}"}))
        return
    from resources.search.embeddings import LocalEmbedderResource

    embedder = LocalEmbedderResource().embedder()
    with tempfile.TemporaryDirectory() as scratch:
        cache = EmbeddingCache(options.cache or Path(scratch))
        for name, rows in sources().items():
            if options.only in name:
                some = random.Random(0).sample(rows, min(options.messages, len(rows)))
                vectors, _ = embed_messages([text for text, _ in some], embedder=embedder, cache=cache)
                found = clusters_of(some, vectors, options.smallest)
                print(json.dumps(run(name, found, shown=options.names), ensure_ascii=False), flush=True)
    if options.only in "japanese store":
        print(json.dumps(run_japanese(shown=options.names), ensure_ascii=False))


if __name__ == "__main__":
    main()
