import hashlib

import polars as pl
import pytest

from mangaassist_assets.datasets.guards.health import (
    givers_of,
    judge_balance,
    judge_noise,
    judge_repetition,
    judge_size,
)
from mangaassist_assets.datasets.guards.limits import INTENT_LIMITS, RANKING_LIMITS, DatasetLimits
from mangaassist_assets.labelling.noise.label_noise import GiverNoise, NoiseReport, Suspect
from mangaassist_assets.labelling.noise.mixture import NoiseShare

LIMITS = DatasetLimits(train=10, validation=2, test=4, intents=2)


def frame_of(**counts: dict[str, int]) -> pl.DataFrame:
    """Return a frame of so many examples by intent and side, no two of them alike."""
    rows = [
        {"intent": intent, "split": side, "text": hashlib.sha256(f"{intent} {side} {n}".encode()).hexdigest()}
        for intent, sides in counts.items()
        for side, count in sides.items()
        for n in range(count)
    ]
    return pl.DataFrame(rows).with_row_index("number").with_columns(example_id=pl.format("e{}", "number"))


BALANCED = {f"intent{n}": {"train": 5, "validation": 1, "test": 2} for n in range(4)}


def test_a_dataset_of_the_right_size_passes_and_says_its_sides():
    finding = judge_size(frame_of(**BALANCED), LIMITS)
    assert finding.passed
    assert finding.description == "20 in train, 4 in validation, 8 in test"


@pytest.mark.parametrize(
    ("side", "left", "said"),
    [("train", 9, "9 of 10 in train"), ("validation", 1, "1 of 2 in validation"), ("test", 0, "0 of 4 in test")],
)
def test_one_example_too_few_on_any_side_is_named_with_what_to_do(side, left, said):
    frame = frame_of(**BALANCED)
    short = pl.concat([frame.filter(pl.col("split") != side), frame.filter(pl.col("split") == side).head(left)])
    finding = judge_size(short, LIMITS)
    assert not finding.passed
    assert said in finding.description
    assert "review more traces" in finding.description


def test_many_rows_of_one_query_are_one_example():
    frame = frame_of(**BALANCED)
    many = pl.concat([frame.filter(pl.col("split") == "test").head(1)] * 30)
    finding = judge_size(pl.concat([frame.filter(pl.col("split") != "test"), many]), LIMITS)
    assert "1 of 4 in test" in finding.description


def test_an_intent_that_has_most_of_train_is_refused_by_name():
    assert judge_balance(frame_of(**BALANCED), LIMITS).passed
    finding = judge_balance(frame_of(**{**BALANCED, "spam": {"train": 40}}), LIMITS)
    assert not finding.passed
    assert "'spam' is 67% of train" in finding.description
    assert finding.rows[-1] == {"intent": "spam", "train": 40, "validation": 0, "test": 0}


def test_two_intents_may_be_two_to_one_and_one_alone_is_no_dataset():
    assert judge_balance(frame_of(a={"train": 20}, b={"train": 10}), LIMITS).passed
    finding = judge_balance(frame_of(a={"train": 30}, b={"test": 5}), LIMITS)
    assert not finding.passed
    assert "1 intents in train" in finding.description


def test_one_new_intent_with_one_example_blocks_nothing_and_many_of_them_do():
    assert judge_balance(frame_of(**BALANCED, new={"train": 1}), LIMITS).passed
    finding = judge_balance(frame_of(**BALANCED, **{f"new{n}": {"test": 1} for n in range(3)}), LIMITS)
    assert not finding.passed
    assert "3 of 7 intents have fewer than 2 examples in train (new0, new1, new2)" in finding.description


def test_a_side_that_repeats_itself_is_refused():
    assert judge_repetition(frame_of(**BALANCED), LIMITS).passed
    template = "could you please tell me whether the next volume of paper lanterns is in stock at branch {}"
    flood = frame_of(template={"test": 20}).with_columns(
        text=pl.Series([template.format(n) for n in range(20)]), example_id=pl.format("f{}", "number")
    )
    finding = judge_repetition(pl.concat([frame_of(**BALANCED), flood]), LIMITS)
    assert not finding.passed
    assert "68% of test nearly repeats another message" in finding.description
    assert [row["repeated_share"] for row in finding.rows][:2] == [0, 0]


def test_one_exact_copy_is_one_too_many():
    frame = frame_of(**BALANCED).with_columns(
        text=pl.when(pl.col("number") < 2).then(pl.lit("the same")).otherwise("text")
    )
    finding = judge_repetition(frame, LIMITS)
    assert not finding.passed
    assert finding.description.startswith("1 exact copies in train")


def noise(rate: float | None, low: float | None, high: float | None, **fields) -> NoiseReport:
    return NoiseReport(examples=200, unjudged=0, estimated_rate=rate, low=low, high=high, **fields)


def test_label_noise_blocks_only_where_the_whole_interval_is_above_the_limit():
    suspect = Suspect(example_id="e1", given="refund", likely="parcel", probability=0.6)
    bad = judge_noise(noise(0.25, 0.16, 0.31, suspects=(suspect,)), LIMITS)
    assert not bad.passed
    assert "look at the suspects" in bad.description
    assert bad.rows == ({"example_id": "e1", "label": "refund", "likelier": "parcel", "probability": 0.6},)
    assert judge_noise(noise(0.18, 0.14, 0.23), LIMITS).passed


def test_too_few_examples_for_an_estimate_pass_with_the_reason():
    finding = judge_noise(noise(None, None, None, why="12 examples, 20 are needed"), LIMITS)
    assert finding.passed
    assert finding.description == "no estimate: 12 examples, 20 are needed"


def test_the_limits_in_use_ask_for_something():
    for limits in (INTENT_LIMITS, RANKING_LIMITS):
        assert not judge_size(frame_of(a={"train": 5, "validation": 1, "test": 2}), limits).passed
    assert INTENT_LIMITS.of_side("test") == INTENT_LIMITS.test


def test_label_noise_is_told_of_each_person():
    noise = NoiseShare(labels=9, rate=0.5, low=0.3, high=0.7)
    givers = {
        "eve": GiverNoise(labels=12, suspects=4, noise=noise),
        "ben": GiverNoise(labels=1, suspects=0, noise=None),
    }
    report = NoiseReport(examples=90, unjudged=0, estimated_rate=0.1, low=0.05, high=0.2, by_giver=givers)
    said = judge_noise(report, INTENT_LIMITS).description
    assert "about 10.0% of 90 labels are wrong" in said
    assert "eve: 12 labels, 4 suspects, about 50.0% of 9 wrong (30.0% to 70.0%)" in said
    assert "ben: 1 labels, none of which can be judged" in said


def test_only_people_give_labels():
    frame = pl.DataFrame({"label_kind": ["human", "base", "judge", "human"], "labeller": ["aki", None, "j", None]})
    assert givers_of(frame) == [("aki",), (), (), ()]
    assert givers_of(frame.drop("labeller")) == [(), (), (), ()]
