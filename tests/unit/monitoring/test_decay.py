"""Decay is told from chance at any number of looks, from the way reviews come about, and from too few of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.evaluation.gate.gate import judge
from mangaassist_assets.evaluation.results import GateInput, ModelResults
from mangaassist_assets.monitoring.decay import judge_decay, with_references
from mangaassist_assets.monitoring.decay_report import AUDITED, DecayConfig, Reviews, decay_chart
from tests.support.decay_simulation import Life, live

ITSELF = "answered by this champion"
PROMOTED_WITH = 0.93


def reviews(bundle, outcomes, selection=AUDITED, **fields):
    return Reviews(
        release_bundle=bundle, selection=selection, outcomes=np.asarray(outcomes, dtype=np.float64), **fields
    )


def flips(generator, size, rate):
    return (generator.random(size) < rate).astype(np.float64)


def judged(promotion, later, **options):
    marked = with_references(promotion, later, config=options.get("config"))
    return judge_decay(marked, metric="accuracy", binary=True, **options)


def lived(life, seed):
    return judged(*live(life, np.random.default_rng(seed)))


def alarms(report):
    """Return whether a look after any of the bundles would have been an alarm."""
    found = [one.evidence for one in report.audited.bundles if one.evidence is not None]
    return max(found) >= report.config.needed_evidence


def share_of_alarms(life, lives):
    return sum(alarms(lived(life, seed)) for seed in range(lives)) / lives


def bound(lives):
    """Return how many alarms a level of 5 % allows, but for one time in a hundred."""
    from scipy.stats import binom

    return binom.ppf(0.99, lives, 0.05) / lives


class TestSimulations:
    """Small; `benchmarks/bench_decay.py` has the large ones."""

    @pytest.mark.parametrize(
        "life",
        [
            Life(icc=0.25),
            Life(failures=20, audits=20, turns=160),
            Life(reference=50),
            Life(accuracy=0.97, audits=12, turns=100),
        ],
        ids=["shoppers alike", "failures beside", "a small reference", "errors are rare"],
    )
    def test_a_year_of_weekly_looks_without_decay_alarms_at_most_as_often_as_its_level(self, life):
        assert share_of_alarms(life, 60) <= bound(60)

    def test_a_loss_of_eight_points_is_found_within_four_hundred_audited_reviews(self):
        assert share_of_alarms(Life(reference=1000, weeks=10, loss=0.08), 100) >= 0.8

    def test_a_loss_that_comes_later_is_found_too_and_its_bundle_is_named(self):
        found = [lived(Life(weeks=25, loss=0.2, loss_from=16), seed) for seed in range(25)]
        assert sum(one.outcome == "decayed" for one in found) >= 22
        named = [int(one.audited.since.removeprefix("week ")) for one in found]
        assert sum(abs(week - 16) <= 2 for week in named) >= 18

    def test_a_champion_that_passed_its_gate_by_luck_on_the_reference_is_not_called_decayed_for_that(self):
        generator = np.random.default_rng(0)
        found = []
        while len(found) < 40:
            # Both are right on 76 %, and one of them on 8 %: they are equally good.
            place = generator.random(400)
            ours, theirs = place < 0.8, (place < 0.76) | ((place >= 0.8) & (place < 0.84))
            results = GateInput(
                metric="accuracy",
                binary=True,
                champion=ModelResults(version="1", outcomes=theirs.astype(float)),
                challenger=ModelResults(version="2", outcomes=ours.astype(float)),
            )
            if judge(results).figures["p_better"] <= 0.05:
                later = [reviews(f"rc{number}", flips(generator, 40, 0.8)) for number in range(52)]
                found.append(judged([reviews("promotion", ours)], later))
        assert sum(map(alarms, found)) / len(found) <= 0.1

    def test_figures_on_a_scale_keep_the_level_and_find_a_loss(self):
        def gains(generator, size, mean):
            """Draw figures like nDCG: none found, or one over the logarithm of a rank."""
            ranks = 1 / np.log2(generator.integers(2, 12, size))
            return np.where(generator.random(size) < mean / 0.44, ranks, 0.0)

        def report(seed, after):
            generator = np.random.default_rng(seed)
            later = [reviews(f"rc{number:02d}", gains(generator, 40, after)) for number in range(20)]
            marked = with_references([reviews("promotion", gains(generator, 600, 0.3))], later)
            return judge_decay(marked, metric="ndcg@10", binary=False)

        assert sum(alarms(report(seed, 0.3)) for seed in range(40)) <= 5
        assert sum(alarms(report(seed, 0.22)) for seed in range(25)) >= 20


class TestSelections:
    def test_failures_alone_are_a_hint_and_no_alarm(self):
        generator = np.random.default_rng(1)
        later = [
            reviews(f"rc{number}", flips(generator, 50, 0.6 if number < 4 else 0.2), ITSELF) for number in range(9)
        ]
        report = judged([], later)
        assert (report.outcome, report.compared_reviews) == ("too_few", 0)
        assert report.reasons[0].startswith("0 fresh reviews of the audit sample")
        assert "a hint to look, no proof" in report.reasons[-1]
        assert "most likely since rc4" in report.reasons[-1]
        assert report.audited.evidence == 1

    def test_failures_beside_do_not_move_what_the_audit_sample_says(self):
        generator = np.random.default_rng(2)
        promotion = [reviews("promotion", flips(generator, 400, 0.85))]
        later = [reviews(f"rc{number}", flips(generator, 50, 0.85)) for number in range(6)]
        beside = [reviews(f"rc{number}", flips(generator, 200, 0.2), ITSELF) for number in range(6)]
        with_them = judged(promotion, [one for pair in zip(later, beside, strict=True) for one in pair])
        assert with_them.audited == judged(promotion, later).audited
        assert with_them.fresh_reviews == 6 * 50 + 5 * 200

    def test_complaints_about_itself_are_not_compared_with_those_about_the_model_before(self):
        generator = np.random.default_rng(1)
        others = "answered by another model"
        promotion = [reviews("promotion", flips(generator, 400, 0.9), others)]
        later = [reviews(f"rc{number}", flips(generator, 100, 0.4), ITSELF) for number in range(6)]
        report = judged(promotion, later)
        sizes = {one.selection: (one.reference_reviews, one.fresh_reviews) for one in report.others}
        assert sizes == {others: (400, 0), ITSELF: (100, 500)}
        assert not any("hint" in reason for reason in report.reasons)

    def test_too_few_reviews_at_promotion_are_joined_by_the_first_bundles(self):
        later = [reviews(f"rc{number}", [1.0] * 30) for number in range(4)]
        marked = with_references([reviews("promotion", [1.0] * 20)], later)
        assert [one.role for one in marked] == ["promotion", "first", "fresh", "fresh", "fresh"]
        assert [one.role for one in with_references([], later)] == ["first", "first", "fresh", "fresh"]

    def test_a_draw_that_was_not_even_is_weighted_and_decides_so(self):
        """The same traffic, drawn evenly at promotion and with more of the failures later, has not decayed."""
        generator = np.random.default_rng(3)
        later = []
        for number in range(8):
            wrong = generator.random(800) < 0.15
            probabilities = np.where(wrong, 0.15, 0.04)
            drawn = generator.random(800) < probabilities
            outcomes = (~wrong[drawn]).astype(float)
            later.append(reviews(f"rc{number}", outcomes, weights=1 / probabilities[drawn]))
        promotion = [reviews("promotion", flips(generator, 400, 0.85))]
        assert not alarms(judged(promotion, later))
        assert alarms(judged(promotion, [replace(one, weights=None) for one in later]))


class TestTooFew:
    def test_no_reviews_at_all(self):
        report = judge_decay([], metric="accuracy", binary=True, promotion_score=0.9)
        assert (report.outcome, report.audited.fresh_score, report.audited.needed_reviews) == ("too_few", None, None)
        assert decay_chart(report, title="intent").startswith(b"\x89PNG")

    def test_before_the_first_fresh_review_it_is_said_how_many_it_takes(self):
        report = judged([reviews("p", [1.0] * 850 + [0.0] * 150)], [])
        assert (report.outcome, report.compared_reviews, report.audited.reference_reviews) == ("too_few", 0, 1000)
        assert f"about {report.audited.needed_reviews} fresh ones" in report.reasons[1]

    def test_twenty_bad_answers_are_still_too_few(self):
        report = judged([reviews("p", [1.0] * 100)], [reviews("rc1", [0.0] * 20)])
        assert report.outcome == "too_few"
        assert "at least 30 of each are needed" in report.reasons[0]

    def test_a_small_reference_is_said_to_be_the_reason(self):
        generator = np.random.default_rng(0)
        report = judged([reviews("p", flips(generator, 60, 0.85))], [reviews("rc1", flips(generator, 40, 0.85))])
        assert report.audited.needed_reviews is None
        assert "60 to compare with are too few" in report.reasons[-1]

    def test_holding_means_that_a_loss_worth_an_alarm_is_ruled_out(self):
        generator = np.random.default_rng(3)
        report = judged([reviews("p", flips(generator, 2_000, 0.85))], [reviews("rc1", flips(generator, 2_000, 0.85))])
        assert report.outcome == "holding"
        assert report.audited.low > -report.config.loss

    def test_a_loss_worth_an_alarm_is_hardly_ever_called_holding(self):
        found = [lived(Life(loss=0.08, weeks=10), seed) for seed in range(100)]
        assert sum(one.outcome == "holding" for one in found) / len(found) <= bound(100)


outcomes = st.lists(st.sampled_from([0.0, 1.0]), max_size=80)
bundles = st.lists(st.tuples(st.sampled_from([AUDITED, ITSELF]), outcomes), max_size=6)


@given(bundles, outcomes)
def test_any_reviews_give_a_report_that_adds_up(drawn, at_promotion):
    later = [reviews(f"rc{number}", outcomes, selection) for number, (selection, outcomes) in enumerate(drawn)]
    marked = with_references([reviews("promotion", at_promotion)], later)
    report = judge_decay(marked, metric="accuracy", binary=True)
    shown = [report.audited, *report.others]
    assert sum(one.reviews for part in shown for one in part.bundles) == sum(len(one.outcomes) for one in later)
    assert sum(part.fresh_reviews for part in shown) == report.fresh_reviews
    assert report.compared_reviews >= 30 or report.outcome == "too_few"
    assert all(0 <= one.low <= one.score <= one.high <= 1 for part in shown for one in part.bundles)
    assert report.markdown().startswith(f"**{report.outcome}**")
    turned = judge_decay([replace(one, outcomes=one.outcomes[::-1]) for one in marked], metric="accuracy", binary=True)
    assert (turned.outcome, turned.audited.evidence) == (report.outcome, pytest.approx(report.audited.evidence))


def test_the_report_shows_evidence_level_bundles_calibration_and_what_it_cannot_tell():
    generator = np.random.default_rng(6)
    sure = np.full(200, 0.95)
    promotion = [reviews("promotion", flips(generator, 200, 0.85), confidences=sure)]
    later = [reviews("rc|1\n<b>", flips(generator, 200, 0.6), confidences=sure), reviews("$x$", [1.0] * 12)]
    report = judged(promotion, later, promotion_score=PROMOTED_WITH)
    assert report.outcome == "decayed"
    assert report.calibration.reviews == 200
    assert report.calibration.overconfidence > report.reference_calibration.overconfidence > 0
    text = report.markdown()
    assert "rc\\|1 &lt;b&gt;" in text
    assert "and 20 is an alarm. Level: 5% over the champion's life" in text
    assert "Other reviewed messages are mostly complaints" in text
    assert "Promoted with accuracy 0.930" in text
    chart = decay_chart(report, title="intent classifier")
    assert chart.startswith(b"\x89PNG")
    assert decay_chart(report, title="intent classifier") == chart
    stored = json.loads(canonical_json(report.to_dict()))
    assert (stored["outcome"], stored["level"], stored["needed_evidence"]) == ("decayed", 0.05, 20)
    assert stored["evidence"] == report.audited.evidence >= 20


def test_what_is_left_of_the_level_falls_while_nothing_is_found():
    generator = np.random.default_rng(7)
    quiet = judged([reviews("p", flips(generator, 600, 0.85))], [reviews("rc1", flips(generator, 600, 0.85))])
    assert quiet.level_left == pytest.approx(0.05 * quiet.audited.evidence)
    assert quiet.level_left < 0.05
    assert judged([], []).level_left == 0.05
    assert judged([reviews("p", [1.0] * 100)], [reviews("rc1", [0.0] * 100)]).level_left == 0


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
def test_outcomes_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        judged([reviews("p", [bad])], [])


@pytest.mark.parametrize("options", [{"alpha": 0.6}, {"loss": 0}, {"minimum_reviews": 1}, {"reference_reviews": 10}])
def test_levels_that_are_none_are_refused(options):
    with pytest.raises(ValueError, match=r"must lie|at least"):
        DecayConfig(**options)
