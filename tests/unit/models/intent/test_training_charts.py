"""Pictures of a training: drawn for any input that training can leave, the same bytes each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.metrics import reliability
from mangaassist_assets.models.intent import charts
from mangaassist_assets.models.intent.charts import (
    confusion_chart,
    intent_charts,
    learning_curve_chart,
    reliability_chart,
    scope_chart,
)
from mangaassist_assets.models.intent.results import ValidationOutcome
from mangaassist_assets.training.objective import EpochRecord

PNG = b"\x89PNG\r\n\x1a\n"
HISTORY = [
    EpochRecord(epoch=1, training_loss=2.0, validation={"validation_loss": 1.5, "validation_accuracy": 0.5}),
    EpochRecord(epoch=2, training_loss=float("nan"), validation={"validation_accuracy": 0.7}),
]


@pytest.mark.parametrize("name", ["返品のお願い", "$x_1^{2}$", "a|b\nc", "<b>", "_hidden", "\ud800", "", "x" * 300])
def test_any_name_of_an_intent_can_be_drawn(name):
    assert confusion_chart([name, "other"], ["other", "other"]).startswith(PNG)


def test_the_most_confused_intents_are_shown_and_none_is_lost():
    rng = np.random.default_rng(0)
    names = [f"intent{number:02d}" for number in range(60)]
    truth = [names[place] for place in rng.integers(0, 60, 600)]
    said = [names[0] if name in names[:5] else name for name in truth]
    counts, shown = charts._confused(truth, said, 3)
    assert len(shown) == 4
    assert shown[-1] == "all others"
    assert "intent00" in shown
    assert counts.sum() == 600
    assert counts[0].sum() == truth.count("intent00")
    assert counts[:, 0].sum() == said.count("intent00")


def test_pictures_are_the_same_bytes_each_time():
    assert confusion_chart(["a", "b"], ["b", "b"]) == confusion_chart(["a", "b"], ["b", "b"])
    assert learning_curve_chart(HISTORY, kept=2) == learning_curve_chart(HISTORY, kept=2)


@pytest.mark.parametrize("history", [[], HISTORY[:1], HISTORY])
@pytest.mark.parametrize("steps", [[], [1.0], list(np.linspace(3, 1, 5_000))])
def test_a_learning_curve_is_drawn_for_any_length_of_training(history, steps):
    assert learning_curve_chart(history, step_losses=steps, kept=None).startswith(PNG)


@pytest.mark.parametrize(
    ("known", "strange", "threshold"),
    [([], [], None), ([0.5], [], 0.4), ([0.9, 0.8], [0.1], None), ([0.5, 0.5], [0.5], 0.5), ([-3.0, 12.0], [1.0], 0.0)],
)
def test_scope_is_drawn_with_and_without_messages_and_threshold(known, strange, threshold):
    assert scope_chart(known, strange, threshold=threshold).startswith(PNG)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        scope_chart([float("nan")], [], threshold=None)


def test_reliability_is_drawn_before_and_after():
    before, after = reliability([0.9, 0.8], [True, False]), reliability([0.5, 1.0], [True, True])
    assert reliability_chart(before, after).startswith(PNG)
    assert reliability_chart(before, after) != reliability_chart(before, before)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80), st.integers(1, 20))
def test_bins_hold_every_answer_and_their_gaps_are_the_calibration_error(answers, bins):
    sure, right = [one for one, _ in answers], [one for _, one in answers]
    found = reliability(sure, right, bins=bins)
    assert found.count == len(answers)
    assert found.accuracy == pytest.approx(sum(right) / len(right))
    assert all(one.low - 1e-9 <= one.confidence <= one.high + 1e-9 for one in found.bins if one.count)
    gaps = sum(one.count * abs(one.accuracy - one.confidence) for one in found.bins) / len(answers)
    assert gaps == pytest.approx(found.expected_calibration_error)


def test_no_answers_have_no_reliability():
    with pytest.raises(ValueError, match="not empty"):
        reliability([], [])


class TestIntentCharts:
    """All pictures of one training."""

    def test_what_there_is_nothing_to_draw_of_is_left_out(self):
        assert intent_charts(None, [], threshold=None) == {}
        assert set(intent_charts(None, HISTORY, threshold=None, kept_epoch=1)) == {"learning_curve.png"}

    @pytest.mark.parametrize(("known", "strange"), [(6, 3), (6, 0), (0, 3)])
    def test_a_classifier_on_validation_is_drawn(self, known, strange):
        rng = np.random.default_rng(1)
        outcome = ValidationOutcome(
            intents=("a", "b", "c"),
            targets=np.arange(known) % 3,
            logits=rng.normal(size=(known, 3)).astype(np.float32),
            temperature=1.5,
            out_of_scope_logits=rng.normal(size=(strange, 3)).astype(np.float32),
        )
        charts = intent_charts(outcome, HISTORY, threshold=0.4, kept_epoch=2)
        drawn = {"learning_curve.png", "scope.png", *(("confusion.png", "reliability.png") if known else ())}
        assert set(charts) == drawn
        assert all(chart.startswith(PNG) for chart in charts.values())
