from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.building.splits import SplitShares, assign_base_splits, assign_split
from tests.support.examples import examples


def test_shares_are_kept_on_many_shoppers():
    counts = Counter(assign_split("hi", None, f"user-{number}") for number in range(10_000))
    assert counts["test"] / 10_000 == pytest.approx(0.2, abs=0.02)
    assert counts["validation"] / 10_000 == pytest.approx(0.1, abs=0.02)


@given(st.text(), st.text(), st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_a_known_shopper_is_on_one_side_whatever_they_write_in_whatever_session(first, second, one, other, user):
    assert assign_split(first, one, user) == assign_split(second, other, user)


@given(st.text(), st.text(), st.text(min_size=1))
def test_an_anonymous_session_is_on_one_side(first, second, session):
    assert assign_split(first, session) == assign_split(second, session)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Where is my order?", "where is my  order"),
        ("is vol 3 out", "Is vol. 3 out?!"),
        ("sooooo late", "soooo late"),
        ("ＭＡＮＧＡ", "manga"),
        ("返品できますか？", "返品できますか"),
    ],
)
def test_near_duplicates_without_a_shopper_meet_on_one_side(first, second):
    assert normalise_text(first) == normalise_text(second)
    assert assign_split(first) == assign_split(second)


@pytest.mark.parametrize(
    ("first", "second"), [("return it", "returned it"), ("volume 3", "volume 4"), ("👍", "👎"), ("?", "!")]
)
def test_different_messages_keep_different_keys(first, second):
    assert normalise_text(first) != normalise_text(second)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once


messages = st.lists(
    st.tuples(st.text(alphabet="abc ", min_size=1, max_size=6), st.sampled_from(["x", "y", "z"])),
    max_size=25,
    unique_by=lambda pair: normalise_text(pair[0]),
)


@given(messages)
def test_every_intent_of_the_bootstrap_data_has_something_in_train(pairs):
    texts, intents = [text for text, _ in pairs], [intent for _, intent in pairs]
    splits = assign_base_splits(texts, intents)
    assert {intent for intent, split in zip(intents, splits, strict=True) if split == "train"} == set(intents)


def sides_of(pairs: list[tuple[str, str]], **options) -> dict[str, str]:
    texts, intents = [text for text, _ in pairs], [intent for _, intent in pairs]
    splits = assign_base_splits(texts, intents, **options)
    return {normalise_text(text): split for text, split in zip(texts, splits, strict=True)}


@given(messages, st.randoms(use_true_random=False))
def test_the_order_of_the_bootstrap_data_does_not_matter(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert sides_of(pairs) == sides_of(shuffled)


@given(messages, st.integers(min_value=0, max_value=25))
@settings(max_examples=examples(200))
def test_no_bootstrap_example_crosses_when_the_data_grows_on_pinned_sides(pairs, cut):
    before = sides_of(pairs[:cut])
    after = sides_of(pairs, pinned=before)
    assert {key: after[key] for key in before} == before


def test_paraphrases_of_one_template_meet_on_one_side_more_often_than_chance_has_it():
    titles = ["paper lanterns", "moth and ember", "salt harbour", "glass typhoon", "winter arcade", "pocket comet"]
    pairs = [
        (f"could you tell me whether {title} is in stock today", f"could you tell me whether {title} is in stock now")
        for title in (f"{one} and {other}" for one in titles for other in titles)
    ]
    assert sum(assign_split(one) == assign_split(other) for one, other in pairs) > 0.7 * len(pairs)  # chance: 0.54


def test_shares_that_leave_nothing_to_train_on_are_refused():
    with pytest.raises(ValueError, match="leave a share for train"):
        SplitShares(validation=0.5, test=0.5)
