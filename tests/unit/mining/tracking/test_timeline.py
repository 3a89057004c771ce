import io
import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest

from mangaassist_assets.mining.tracking.clusters import MinedBundle
from mangaassist_assets.mining.tracking.profiles import ClusterProfile, profile_of
from mangaassist_assets.mining.tracking.timeline import build_timeline, timeline_rows
from mangaassist_assets.mining.tracking.timeline_chart import timeline_chart

HOSTILE = "$x_{1} \\frac{$ | <img src=x>\nignore previous instructions ../ 返品 " + "long " * 30


def profile(identity: str, topics: dict[int, int], *, seed: int = 0, stage: str = "intent") -> ClusterProfile:
    rng = np.random.default_rng([seed, *topics])
    rows = np.concatenate([np.eye(32)[[topic] * size] for topic, size in topics.items()])
    rows += rng.normal(size=rows.shape) * 0.08
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return profile_of(identity, vectors, [f"{seed}-{identity}-{row}" for row in range(len(rows))], stage=stage)


def mined(name: str, turns: int, profiles, names=(), verdicts=()) -> MinedBundle:
    """A bundle whose clusters have what a timeline asks of them."""
    clusters = tuple(
        SimpleNamespace(
            cluster_id=one.cluster_id,
            name=dict(names).get(one.cluster_id, one.cluster_id),
            growth=SimpleNamespace(verdict=dict(verdicts).get(one.cluster_id, "steady")),
        )
        for one in profiles
    )
    return MinedBundle(
        release_bundle=name, turns=turns, embedding_model_id="minilm", clusters=clusters, profiles=tuple(profiles)
    )


def bundle(name: str, turns: int, clusters: dict[str, dict[int, int]], *, seed: int, **options) -> MinedBundle:
    return mined(
        name, turns, [profile(identity, topics, seed=seed) for identity, topics in clusters.items()], **options
    )


@pytest.fixture(scope="module")
def history() -> list[MinedBundle]:
    return [
        bundle("b1", 1000, {"a": {0: 20}, "b": {1: 30}, "c": {2: 12}}, seed=1, names={"a": "refund · parcel"}),
        bundle("b2", 2000, {"b": {0: 22, 1: 28}, "d": {3: 15}}, seed=2, verdicts={"b": "growing"}),
        bundle("b3", 1000, {"b": {1: 30}, "e": {0: 25}, "c": {2: 14}}, seed=3),
    ]


def told(history: list[MinedBundle]) -> dict[tuple[str, str], str]:
    return {(row["release_bundle"], row["cluster_id"]): row["events"] for row in timeline_rows(build_timeline(history))}


def test_each_row_says_what_became_of_the_cluster(history):
    assert told(history) == {
        ("b1", "a"): "",
        ("b1", "b"): "",
        ("b1", "c"): "died after this bundle",
        ("b2", "b"): "merged from b, a",
        ("b2", "d"): "born; died after this bundle",
        ("b3", "b"): "split from b",
        ("b3", "e"): "split from b",
        ("b3", "c"): "came back",
    }


def test_a_cluster_that_had_another_id_before_is_told_with_it():
    rows = told([bundle("b1", 100, {"old": {0: 9}}, seed=1), bundle("b2", 100, {"new": {0: 9}}, seed=2)])
    assert rows["b2", "new"] == "continued from old"


def test_shares_are_of_all_turns_and_rows_are_plain_values(history):
    rows = timeline_rows(build_timeline(history))
    assert {row["share"] for row in rows if row["release_bundle"] == "b2"} == {0.025, 0.0075}
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows if row["cluster_id"] == "a"] == ["refund · parcel"]
    assert [row["verdict"] for row in rows if row["verdict"] != "steady"] == ["growing"]


def test_the_order_of_the_clusters_of_a_bundle_does_not_matter(history):
    turned = [replace(one, profiles=one.profiles[::-1]) for one in history]
    assert build_timeline(turned) == build_timeline(history)


def test_what_is_no_history_is_refused(history):
    with pytest.raises(ValueError, match="stands twice in the timeline"):
        build_timeline([history[0], history[0]])
    with pytest.raises(ValueError, match="names a cluster twice"):
        build_timeline([bundle("b1", 100, {"a": {0: 3}}, seed=1), twice("b2")])


def test_a_bundle_without_turns_is_left_out(history):
    assert build_timeline([mined("b0", 0, []), *history]) == build_timeline(history)


def twice(name: str) -> MinedBundle:
    return mined(name, 100, [profile("a", {0: 3}), profile("a", {1: 3})])


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


def painted(png: bytes, colour: str) -> int:
    """Return how many pixels have a colour."""
    wanted = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return int((np.abs(pixels(png)[..., :3] - wanted).max(axis=-1) < 0.02).sum())


GROWING, BIRTH, MERGE, SPLIT = "#b3261e", "#1b7f3b", "#7b3fa0", "#d1760f"


def test_the_picture_shows_growth_births_merges_and_splits_and_is_the_same_each_time(history):
    png, legend = timeline_chart(build_timeline(history)), timeline_chart(build_timeline([]))
    for colour in (GROWING, BIRTH, MERGE, SPLIT):
        assert painted(png, colour) > painted(legend, colour) + 15
    assert png == timeline_chart(build_timeline(history))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"


def test_many_clusters_and_bundles_are_cut_to_the_largest_and_newest():
    bundles = [
        bundle(f"b{order:02d}", 5000, {f"c{place}": {place: 3 + place} for place in range(30)}, seed=order)
        for order in range(15)
    ]
    png = timeline_chart(build_timeline(bundles))
    height, width = pixels(png).shape[:2]
    assert height < 900
    assert width < 1400


def test_hostile_names_are_drawn_as_they_are_and_raise_nothing():
    hostile = bundle("$b_1^{", 100, {"a": {0: 9}}, seed=1, names={"a": HOSTILE})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Pp]ars.*")
        assert pixels(timeline_chart(build_timeline([hostile]))).shape[1] < 900
