"""Decay is told from chance, from the way reviews come about, and from too few of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, product
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.evaluation.significance import mcnemar_p_value
from mangaassist_assets.evaluation.unpaired import (
    Stratum,
    compare_means,
    compare_rates,
    falling_trend,
    later_sample_size,
)
from mangaassist_assets.monitoring.decay import judge_decay, with_references
from mangaassist_assets.monitoring.decay_report import DecayConfig, Reviews, decay_chart

OTHERS, ITSELF = "answered by another model", "answered by this champion"
PROMOTED_WITH = 0.93


def reviews(bundle, outcomes, selection=OTHERS, **fields):
    return Reviews(
        release_bundle=bundle, selection=selection, outcomes=np.asarray(outcomes, dtype=np.float64), **fields
    )


def flips(generator, size, rate):
    return (generator.random(size) < rate).astype(np.float64)


def gains(generator, size, mean):
    """Figures like nDCG: none found, or one over the logarithm of a rank."""
    found = 1 / np.log2(generator.integers(2, 12, size))
    return np.where(generator.random(size) < mean / 0.44, found, 0.0).clip(0, 1)


def judged(seed, *, before=0.85, after=0.85, reference=400, fresh=400, bundles=4, draw=flips, binary=True, **options):
    """Reviews of complaints, before promotion and after it, the loss there from the first fresh bundle on."""
    generator = np.random.default_rng(seed)
    promotion = [reviews("promotion", draw(generator, reference, before))]
    later = [reviews(f"rc{number}", draw(generator, fresh // bundles, after)) for number in range(bundles)]
    return judge_decay(
        with_references(promotion, later, config=options.get("config")),
        metric="accuracy",
        binary=binary,
        promotion_score=PROMOTED_WITH,
        **options,
    )


def naive_alarm(report):
    """What a simple check does: the fresh score is lower than the one at promotion."""
    return report.fresh_score < report.promotion_score


class TestSimulations:
    def test_without_decay_it_alarms_at_most_as_often_as_its_level_where_the_naive_check_always_does(self):
        found = [judged(seed) for seed in range(250)]
        alarms = sum(one.outcome == "decayed" for one in found) / len(found)
        assert alarms <= 0.05 + 1.65 * (0.05 * 0.95 / 250) ** 0.5
        assert sum(map(naive_alarm, found)) / len(found) > 0.99

    def test_nor_does_it_where_reviews_are_a_fair_sample_and_the_naive_check_alarms_every_other_week(self):
        found = [judged(seed, before=PROMOTED_WITH, after=PROMOTED_WITH) for seed in range(120)]
        assert sum(one.outcome == "decayed" for one in found) / len(found) <= 0.05 + 1.65 * (0.05 * 0.95 / 120) ** 0.5
        assert 0.35 < sum(map(naive_alarm, found)) / len(found) < 0.65

    def test_a_loss_of_eight_points_is_found_at_four_hundred_reviews(self):
        power = sum(judged(seed, after=0.77).outcome == "decayed" for seed in range(150)) / 150
        assert power >= 0.8

    def test_a_champion_that_passed_its_gate_on_the_reference_is_not_called_decayed_for_that(self):
        generator = np.random.default_rng(0)
        found = []
        while len(found) < 60:
            # Of 400 messages the model before has 80 % right; this one has 4 % of them wrong, and 7 % others right.
            place = generator.random(400)
            ours, theirs = (place < 0.76) | ((place >= 0.8) & (place < 0.87)), place < 0.8
            gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
            if mcnemar_p_value(gained, lost, alternative="greater") <= 0.05:
                later = [reviews(f"rc{number}", flips(generator, 100, 0.83)) for number in range(4)]
                marked = with_references([reviews("promotion", ours)], later)
                found.append(judge_decay(marked, metric="accuracy", binary=True))
        assert sum(one.outcome == "decayed" for one in found) / len(found) <= 0.1

    def test_a_slow_decline_is_found_by_its_trend(self):
        def declining(seed):
            generator = np.random.default_rng(seed)
            later = [reviews(f"rc{week}", flips(generator, 60, 0.8 - 0.025 * week), ITSELF) for week in range(10)]
            return judge_decay(with_references([], later), metric="accuracy", binary=True)

        found = [declining(seed) for seed in range(60)]
        assert sum(one.outcome == "decayed" for one in found) / len(found) >= 0.8
        assert sum("falling" in " ".join(one.reasons) for one in found) / len(found) >= 0.6

    def test_a_bundle_that_breaks_is_named(self):
        generator = np.random.default_rng(0)
        promotion = [reviews("promotion", flips(generator, 400, 0.85))]
        rates = {f"rc{number}": 0.85 for number in range(8)} | {"rc5": 0.45}
        later = [reviews(bundle, flips(generator, 50, rate)) for bundle, rate in rates.items()]
        report = judge_decay(with_references(promotion, later), metric="accuracy", binary=True)
        assert report.outcome == "decayed"
        assert [one.release_bundle for one in report.bundles if one.judgement == "lower"] == ["rc5"]

    def test_figures_on_a_scale_keep_the_level_and_find_a_loss(self):
        config = DecayConfig(resamples=400)
        options = {"draw": gains, "binary": False, "before": 0.3, "config": config}
        quiet = [judged(seed, after=0.3, **options) for seed in range(40)]
        loud = [judged(seed, after=0.22, **options) for seed in range(25)]
        assert sum(one.outcome == "decayed" for one in quiet) / len(quiet) <= 0.1
        assert sum(one.outcome == "decayed" for one in loud) / len(loud) >= 0.8


class TestSelections:
    def test_complaints_about_itself_are_not_compared_with_those_about_the_model_before(self):
        generator = np.random.default_rng(1)
        promotion = [reviews("promotion", flips(generator, 400, 0.9))]
        later = [reviews(f"rc{number}", flips(generator, 100, 0.4), ITSELF) for number in range(6)]
        report = judge_decay(with_references(promotion, later), metric="accuracy", binary=True)
        assert report.outcome != "decayed"
        assert [one.judgement for one in report.bundles][:2] == ["reference", "not_lower"]
        assert report.by_selection == ((OTHERS, 400, 0), (ITSELF, 100, 500))

    def test_another_mix_of_both_is_no_decay(self):
        generator = np.random.default_rng(2)
        promotion = [reviews("promotion", flips(generator, 300, 0.9))]
        later = [reviews("rc0", flips(generator, 300, 0.9)), reviews("rc0", flips(generator, 60, 0.4), ITSELF)]
        later += [reviews("rc1", flips(generator, 20, 0.9)), reviews("rc1", flips(generator, 300, 0.4), ITSELF)]
        report = judge_decay(with_references(promotion, later), metric="accuracy", binary=True)
        assert report.fresh_score < 0.75 < report.reference_score
        assert report.outcome != "decayed"

    def test_too_few_reviews_at_promotion_make_the_first_bundles_the_reference(self):
        later = [reviews(f"rc{number}", [1.0] * 30) for number in range(4)]
        marked = with_references([reviews("promotion", [1.0] * 20)], later)
        assert [one.role for one in marked] == ["first", "first", "fresh", "fresh"]
        enough = with_references([reviews("promotion", [1.0] * 40)], later)
        assert [one.role for one in enough] == ["promotion", "fresh", "fresh", "fresh", "fresh"]


class TestTooFew:
    def test_no_reviews_at_all(self):
        report = judge_decay([], metric="accuracy", binary=True, promotion_score=0.9)
        assert (report.outcome, report.fresh_score, report.needed_reviews) == ("too_few", None, None)
        assert decay_chart(report, title="intent").startswith(b"\x89PNG")

    def test_before_the_first_fresh_review_it_is_said_how_many_it_takes(self):
        report = judge_decay(with_references([reviews("p", [1.0, 0.0] * 400)], []), metric="accuracy", binary=True)
        assert (report.outcome, report.compared_reviews, report.reference_reviews) == ("too_few", 0, 800)
        assert f"about {report.needed_reviews} comparable fresh reviews" in report.reasons[1]

    def test_twenty_bad_answers_are_still_too_few(self):
        report = judge_decay(
            with_references([reviews("p", [1.0] * 100)], [reviews("rc1", [0.0] * 20)]), metric="accuracy", binary=True
        )
        assert report.outcome == "too_few"
        assert "at least 30 of each are needed" in report.reasons[0]

    def test_a_small_reference_is_said_to_be_the_reason(self):
        report = judged(0, reference=60)
        assert report.needed_reviews is None
        assert report.needed_reference > 60
        enough = judged(0, reference=report.needed_reference)
        assert enough.needed_reviews == pytest.approx(2 * report.needed_reference, rel=0.25)

    def test_holding_means_that_a_loss_worth_seeing_is_ruled_out(self):
        report = judged(3, reference=3_000, fresh=3_000)
        assert report.outcome == "holding"
        assert report.difference.low > -report.config.loss

    def test_a_loss_worth_seeing_is_hardly_ever_called_holding(self):
        found = [judged(seed, after=0.8) for seed in range(120)]
        assert sum(one.outcome == "holding" for one in found) / len(found) <= 0.05 + 1.65 * (0.05 * 0.95 / 120) ** 0.5
        assert any(one.outcome == "too_few" and one.difference.difference > -0.05 for one in found)

    def test_the_number_of_reviews_that_is_named_has_the_power_that_is_promised(self):
        needed = later_sample_size(
            variance=0.85 * 0.15, later_variance=0.75 * 0.25, earlier=800, loss=0.1, alpha=0.05, power=0.8
        )
        generator = np.random.default_rng(0)
        seen = [
            compare_rates([Stratum(flips(generator, 800, 0.85), flips(generator, needed, 0.75))], confidence=0.9)
            for _ in range(300)
        ]
        assert sum(one.p_lower <= 0.05 for one in seen) / 300 == pytest.approx(0.8, abs=0.09)


class TestStatistics:
    def test_one_stratum_is_fishers_exact_test_and_newcombes_interval(self):
        from scipy.stats import fisher_exact

        from mangaassist_assets.core.intervals import newcombe_difference

        earlier, later = np.array([1.0] * 17 + [0.0] * 3), np.array([1.0] * 22 + [0.0] * 13)
        found = compare_rates([Stratum(earlier, later)], confidence=0.9)
        assert found.p_lower == pytest.approx(fisher_exact([[22, 13], [17, 3]], alternative="less").pvalue)
        expected = newcombe_difference(22, 35, 17, 20, confidence=0.9)
        assert (found.difference, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))

    def test_two_strata_are_exact_too(self):
        strata = [
            Stratum(np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0])),
            Stratum(np.array([1.0, 0.0]), np.array([0.0, 0.0, 1.0])),
        ]
        # Every way to put the figures on the two sides is as likely as any other.
        pooled = [np.concatenate([one.earlier, one.later]) for one in strata]
        ways = product(*(combinations(range(5), len(one.later)) for one in strata))
        counted = [sum(p[list(places)].sum() for p, places in zip(pooled, way, strict=True)) for way in ways]
        expected = np.mean(np.array(counted) <= 2.0)
        assert compare_rates(strata, confidence=0.9).p_lower == pytest.approx(expected)

    def test_the_trend_is_cochran_and_armitages(self):
        periods = [np.array([1.0] * right + [0.0] * (20 - right)) for right in (16, 14, 12, 9)]
        trend = falling_trend([periods])
        assert trend.slope == pytest.approx(-0.115)
        # By the textbook's formula, but for the variance's n - 1.
        places = np.repeat(np.arange(4.0), 20)
        figures = np.concatenate(periods)
        score = ((places - 1.5) * figures).sum() / np.sqrt(
            figures.mean() * (1 - figures.mean()) * ((places - 1.5) ** 2).sum() * 80 / 79
        )
        assert trend.p_falling == pytest.approx(NormalDist().cdf(score))
        assert falling_trend([periods[:2]]) is None
        assert falling_trend([[np.ones(5)] * 4]) is None

    def test_permutations_agree_with_fisher_on_right_and_wrong(self):
        generator = np.random.default_rng(4)
        strata = [Stratum(flips(generator, 90, 0.8), flips(generator, 60, 0.7)) for _ in range(2)]
        exact = compare_rates(strata, confidence=0.9)
        permuted = compare_means(strata, confidence=0.9, resamples=8_000)
        assert permuted.difference == pytest.approx(exact.difference)
        assert permuted.p_lower == pytest.approx(exact.p_lower, abs=0.02)
        assert (permuted.low, permuted.high) == pytest.approx((exact.low, exact.high), abs=0.02)

    @pytest.mark.parametrize("bad", [np.array([0.5, 1.0]), np.array([np.nan, 1.0]), np.array([])])
    def test_what_is_no_right_or_wrong_is_refused(self, bad):
        with pytest.raises(ValueError, match=r"1 or 0|finite|needs earlier and later"):
            compare_rates([Stratum(np.ones(3), bad)], confidence=0.9)
        with pytest.raises(ValueError, match="nothing to compare"):
            compare_rates([], confidence=0.9)


bundles = st.lists(
    st.tuples(st.sampled_from([OTHERS, ITSELF]), st.lists(st.sampled_from([0.0, 1.0]), max_size=80)), max_size=6
)


@given(bundles, st.lists(st.sampled_from([0.0, 1.0]), max_size=80))
def test_any_reviews_give_a_report_that_adds_up(drawn, at_promotion):
    later = [reviews(f"rc{number}", outcomes, selection) for number, (selection, outcomes) in enumerate(drawn)]
    marked = with_references([reviews("promotion", at_promotion)], later)
    report = judge_decay(marked, metric="accuracy", binary=True)
    assert sum(one.reviews for one in report.bundles) == sum(len(one.outcomes) for one in later)
    assert sum(one.compared for one in report.bundles) == report.compared_reviews <= report.fresh_reviews
    assert report.compared_reviews >= 30 or report.outcome == "too_few"
    assert all(0 <= one.low <= one.score <= one.high <= 1 for one in report.bundles)
    assert report.markdown().startswith(f"**{report.outcome}**")
    shuffled = [replace(one, outcomes=one.outcomes[::-1]) for one in marked]
    assert judge_decay(shuffled, metric="accuracy", binary=True) == report


def test_the_report_shows_bundles_calibration_and_what_it_cannot_tell():
    generator = np.random.default_rng(6)
    sure = np.full(100, 0.95)
    promotion = [reviews("promotion", flips(generator, 100, 0.8), confidences=sure)]
    later = [reviews("rc|1\n<b>", flips(generator, 100, 0.6), confidences=sure), reviews("$x$", [1.0] * 12)]
    report = judge_decay(
        with_references(promotion, later), metric="accuracy", binary=True, promotion_score=PROMOTED_WITH
    )
    assert report.calibration.reviews == 100
    assert report.calibration.overconfidence > report.reference_calibration.overconfidence > 0
    text = report.markdown()
    assert "rc\\|1 &lt;b>" in text
    assert "Reviewed messages are mostly complaints" in text
    assert "Promoted with accuracy 0.930" in text
    chart = decay_chart(report, title="intent classifier")
    assert chart.startswith(b"\x89PNG")
    assert decay_chart(report, title="intent classifier") == chart
    assert json.loads(canonical_json(report.to_dict()))["outcome"] == report.outcome


@pytest.mark.parametrize("options", [{"alpha": 0.6}, {"loss": 0}, {"minimum_reviews": 1}, {"resamples": 3}])
def test_levels_that_are_none_are_refused(options):
    with pytest.raises(ValueError, match=r"must lie|at least"):
        DecayConfig(**options)
