import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mangaassist_assets.mining.tracking.growth import (
    ClusterCounts,
    GrowthConfig,
    judge_growth,
    present_dispersion,
    rate_dispersion,
)
from tests.support.examples import examples

EXACT = GrowthConfig(rate_variation=0.0)


def counts(**clusters: tuple[float, ...]) -> list[ClusterCounts]:
    """Earlier counts, then this bundle's."""
    return [ClusterCounts(cluster_id=name, count=int(row[-1]), earlier=row[:-1]) for name, row in clusters.items()]


def judged(clusters: list[ClusterCounts], **options) -> dict:
    options = {"turns": 1000, "earlier_turns": [1000] * len(clusters[0].earlier), **options}
    return {growth.cluster_id: growth for growth in judge_growth(clusters, **options)}


def simulated(rng: np.random.Generator, *, variation: float, bundles: int, factor: float = 1.0):
    """Counts of 25 clusters in some earlier bundles and this one; the first grows by `factor`."""
    turns = rng.integers(1500, 4000, size=bundles + 1)
    rates = np.exp(rng.uniform(np.log(3), np.log(80), size=(25, 1))) / 2500
    rates[0] = 40 / 2500
    rates = rates * rng.gamma(1 / variation**2, variation**2, size=(25, bundles + 1)) if variation else rates
    rates = np.broadcast_to(rates, (25, bundles + 1)).copy()
    rates[0, -1] *= factor
    seen = rng.poisson(rates * turns)
    clusters = [
        ClusterCounts(cluster_id=str(place), count=int(row[-1]), earlier=tuple(map(float, row[:-1])))
        for place, row in enumerate(seen)
        if row[-1]
    ]
    return judged(clusters, turns=int(turns[-1]), earlier_turns=[int(count) for count in turns[:-1]])


@pytest.mark.parametrize(("variation", "bundles"), [(0.0, 1), (0.0, 3), (0.15, 1), (0.15, 3), (0.3, 3)])
def test_where_nothing_changed_at_most_one_bundle_in_twenty_has_a_cluster_called_growing(variation, bundles):
    rng = np.random.default_rng(1)
    wrong = sum(
        any(growth.verdict == "growing" for growth in simulated(rng, variation=variation, bundles=bundles).values())
        for _ in range(200)
    )
    # 5 % of 200 is 10; 17 has a chance of 2 % if the rate is exactly 5 %.
    assert wrong <= 17


def test_a_cluster_that_grew_threefold_is_nearly_always_found():
    rng = np.random.default_rng(2)
    found = sum(simulated(rng, variation=0.15, bundles=3, factor=3)["0"].verdict == "growing" for _ in range(60))
    assert found >= 54


def test_verdicts_ratios_and_intervals_are_in_rates_of_all_turns():
    found = judged(
        counts(up=(20, 22, 90), same=(20, 22, 43), down=(80, 75, 40), fresh=(0, 0, 30), rare=(1, 0, 1)),
        turns=2000,
        earlier_turns=[1000, 1000],
    )
    assert {name: growth.verdict for name, growth in found.items()} == {
        "up": "growing",
        "same": "steady",
        "down": "shrinking",
        "fresh": "new",
        "rare": "too_few",
    }
    assert found["up"].ratio == pytest.approx(90 / 42)
    assert found["up"].expected == pytest.approx(42)
    assert found["up"].low > 1
    assert found["same"].low < 1 < found["same"].high
    assert (found["fresh"].ratio, found["fresh"].p_value) == (None, None)


def test_the_same_count_in_twice_the_turns_is_half_the_rate():
    (growth,) = judged(counts(a=(100, 100)), turns=2000, earlier_turns=[1000], config=EXACT).values()
    assert growth.ratio == pytest.approx(0.5)
    assert growth.verdict == "shrinking"


def test_without_variation_of_rates_interval_and_test_are_the_exact_binomial_ones():
    (growth,) = judged(counts(a=(30, 55)), turns=1000, earlier_turns=[1000], config=EXACT).values()
    exact = binomtest(55, 85, 0.5)
    interval = exact.proportion_ci(method="exact")
    assert growth.low == pytest.approx(interval.low / (1 - interval.low))
    assert growth.high == pytest.approx(interval.high / (1 - interval.high))
    at_most, below = binomtest(55, 85, 0.5, "greater").pvalue, binomtest(56, 85, 0.5, "greater").pvalue
    assert growth.p_value == pytest.approx(at_most + below)


def test_only_the_last_bundles_count():
    long = judged(counts(a=(500, 20, 21, 19, 20)), turns=1000, earlier_turns=[1000] * 4)["a"]
    assert long.verdict == "steady"
    assert long.expected == pytest.approx(20)


def test_counts_that_always_jump_make_a_jump_no_news():
    jumping = {f"c{place}": (20, 60, 25, 70) if place % 2 else (60, 20, 70, 25) for place in range(12)}
    assert {growth.verdict for growth in judged(counts(**jumping)).values()} == {"steady"}
    assert judged(counts(a=(40, 41, 40, 90)))["a"].verdict == "growing"


def test_a_rise_of_all_clusters_alike_is_growth_and_not_taken_for_variation():
    rising = {f"c{place}": (40 + place, 42 + place, 110 + 2 * place) for place in range(12)}
    assert {growth.verdict for growth in judged(counts(**rising)).values()} == {"growing"}


def test_many_tests_ask_for_more_evidence_than_one():
    alone = judged(counts(a=(40, 40, 66)))["a"]
    crowd = judged(counts(a=(40, 40, 66), **{f"c{place}": (40, 40, 41) for place in range(30)}))["a"]
    assert alone.verdict == "growing"
    assert crowd.verdict == "steady"
    assert crowd.adjusted_p_value > alone.adjusted_p_value


def test_the_variation_of_rates_is_found_in_the_counts():
    rng = np.random.default_rng(3)
    exposures = np.array([2000.0, 3000.0, 2500.0])
    for variation in (0.2, 0.5):
        rates = rng.gamma(1 / variation**2, variation**2, size=(400, 3)) * 0.02
        estimate = rate_dispersion(rng.poisson(rates * exposures).astype(float), exposures)
        assert estimate == pytest.approx(variation**2, rel=0.25)
    steady = rng.poisson(0.02 * exposures, size=(400, 3)).astype(float)
    assert rate_dispersion(steady, exposures) < 0.005
    assert rate_dispersion(steady[:, :1], exposures[:1]) == pytest.approx(0.15**2)
    assert present_dispersion(steady[:3, 0], steady[:3, 1], share=0.5, spread=2.0) == 0.0


def test_the_first_bundle_has_only_new_clusters():
    assert judge_growth(counts(a=(5,), b=(7,)), turns=100, earlier_turns=[])[0].verdict == "new"
    assert judge_growth([], turns=100, earlier_turns=[50]) == ()


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="1 earlier counts for 2 bundles"):
        judge_growth(counts(a=(1, 2)), turns=10, earlier_turns=[10, 10])
    with pytest.raises(ValueError, match="between 0 and the turns"):
        judge_growth(counts(a=(1, 20)), turns=10, earlier_turns=[10])
    with pytest.raises(ValueError, match="between 0 and the turns"):
        judge_growth(counts(a=(float("nan"), 2)), turns=10, earlier_turns=[10])
    with pytest.raises(ValueError, match="needs turns"):
        judge_growth(counts(a=(1, 2)), turns=10, earlier_turns=[0])
    with pytest.raises(ValueError, match="'a' stands twice"):
        judge_growth(counts(a=(1, 2)) * 2, turns=10, earlier_turns=[10])
    with pytest.raises(ValueError, match="false_discovery_rate"):
        GrowthConfig(false_discovery_rate=0)


rows = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=15)


@given(rows)
@settings(max_examples=examples(150), deadline=None)
def test_verdicts_agree_with_their_figures_and_hang_on_no_order(table):
    clusters = counts(**{f"c{place}": row for place, row in enumerate(table)})
    found = judged(clusters)
    for growth in found.values():
        if growth.ratio is not None:
            assert growth.low <= growth.ratio * (1 + 1e-9)
            assert growth.high is None or growth.ratio <= growth.high * (1 + 1e-9)
        if growth.verdict in {"growing", "shrinking"}:
            assert growth.adjusted_p_value <= 0.05
            assert (growth.ratio > 1) == (growth.verdict == "growing")
            assert growth.p_value <= growth.adjusted_p_value
    assert judged(clusters[::-1]) == found
