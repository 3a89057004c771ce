import csv
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.guards.near_duplicates import Fingerprints, NearDuplicateIndex, group_key
from tests.support.timing import growth


def similar(first: str, second: str) -> bool:
    one, other = Fingerprints().of([normalise_text(first), normalise_text(second)])
    index = NearDuplicateIndex()
    index.add("other", other)
    return index.has_near(one)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("please create a new list for me", "create a new list for me please"),
        ("can you please clarify me more on your answers", "can you please clarify me more on your answer"),
        ("i got an error message when I tried to pay", "I got an eror message when i tried to pay!"),
        (
            "注文した本がまだ届いていないのですが、どうなっていますか",
            "注文した本がまだ届いていないですが、どうなっていますか？",
        ),
        ("is volume 12 of The Ninth Noodle in stock", "is volume 13 of The Ninth Noodle in stock"),
    ],
)
def test_a_word_more_less_or_misspelt_is_nearly_the_same_message(first, second):
    assert similar(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("turn on the lights", "turn off the lights"),
        ("where is my order", "where is my refund"),
        ("cancel my order", "do not cancel my order"),
        ("返品したいです", "返金したいです"),
        ("届いた本が汚れていました", "届いた本が間違っていました"),
        ("yes", "no"),
        ("👍", "👎"),
    ],
)
def test_what_asks_for_something_else_is_not(first, second):
    assert not similar(first, second)


@given(st.text(max_size=60))
def test_every_message_is_near_itself(text):
    key = normalise_text(text)
    one, again = Fingerprints().of([key, key])
    assert one == again
    assert one.similarity(again) == 1
    assert set(one.bands) & set(again.bands)


@given(st.lists(st.text(alphabet="abc あい ", max_size=14), max_size=25), st.randoms(use_true_random=False))
def test_whether_two_messages_are_near_depends_on_the_two_alone(texts, random):
    keys = sorted({normalise_text(text) for text in texts})

    def pairs(order):
        index, found = NearDuplicateIndex(), set()
        for key, fingerprint in zip(order, Fingerprints().of(order), strict=True):
            found.update(frozenset((key, other)) for other in index.near(fingerprint))
            index.add(key, fingerprint)
        return found

    shuffled = list(keys)
    random.shuffle(shuffled)
    assert pairs(shuffled) == pairs(keys)
    assert pairs(keys) == {
        frozenset((first, second)) for first in keys for second in keys if first < second and similar(first, second)
    }


def test_vectors_say_whether_short_messages_with_another_word_mean_the_same():
    near, far = np.array([1, 0], dtype=np.float32), np.array([0, 1], dtype=np.float32)
    keys = ["open the radio", "start the radio", "mute the radio"]
    made = Fingerprints(dict(zip(keys, (near, near, far), strict=True)))
    index = NearDuplicateIndex.of(keys[:1], made)
    assert index.has_near(made.of(keys[1:2])[0])
    assert not index.has_near(made.of(keys[2:])[0])
    assert not index.has_near(Fingerprints().of(keys[1:2])[0])


def planted(key, change, draw):
    words = key.split()
    place = draw.randrange(len(words))
    if change == "added":
        return " ".join([*words[:place], draw.choice(["please", "maybe", "zebra"]), *words[place:]])
    if change == "dropped":
        return " ".join([*words[:place], *words[place + 1 :]])
    letter = draw.randrange(len(key) - 1)
    return key[:letter] + key[letter + 1] + key[letter] + key[letter + 2 :]


@pytest.mark.parametrize("change", ["swapped", "added", "dropped"])
@pytest.mark.parametrize(("shortest", "longest"), [(8, 15), (15, 30), (30, 60), (60, 500)])
def test_a_changed_message_is_found_whatever_its_length(shared_data, change, shortest, longest):
    lines = (shared_data / "hwu64" / "train.seq.in").read_text(encoding="utf-8").splitlines()
    keys = sorted({key for line in lines if shortest <= len(key := normalise_text(line)) < longest and " " in key})
    draw = random.Random(0)
    pairs = [(key, normalise_text(planted(key, change, draw))) for key in draw.sample(keys, 200)]
    assert sum(similar(*pair) for pair in pairs) >= 0.95 * len(pairs)


def test_real_messages_of_two_intents_are_hardly_ever_nearly_the_same(shared_data):
    folder = shared_data / "hwu64"
    lines = [(folder / f"test.{kind}").read_text(encoding="utf-8").splitlines() for kind in ("seq.in", "label")]
    asked = {normalise_text(line): intent for line, intent in zip(*lines, strict=True)}
    index, wrong = NearDuplicateIndex(), 0
    for key, fingerprint in zip(asked, Fingerprints().of(list(asked)), strict=True):
        wrong += sum(asked[other] != asked[key] for other in index.near(fingerprint))
        index.add(key, fingerprint)
    assert wrong <= 0.00005 * len(asked) ** 2 / 2


def test_copies_without_end_one_message_and_none_cost_nothing():
    for keys in (["where is my order"] * 10_000, ["hello"], [""], ["x" * 10_000, "漫画を返品したい" * 1_250]):
        index = NearDuplicateIndex()
        for key, fingerprint in zip(keys, Fingerprints().of(keys), strict=True):
            if not index.has_near(fingerprint):
                index.add(key, fingerprint)
        assert len(index) == len(set(keys))


def test_near_duplicates_often_share_their_group_and_other_messages_hardly_ever():
    def chance(pairs):
        return sum(group_key(one) == group_key(other) for one, other in pairs) / len(pairs)

    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    picks = random.Random(0)
    messages = [" ".join(picks.choices(words, k=8)) for _ in range(400)]
    assert chance([(one, f"{one} {picks.choice(words)}") for one in messages]) > 0.4
    assert chance(list(pairwise(messages))) < 0.01


def test_no_near_duplicate_among_real_messages_is_missed(shared_data):
    lines = (shared_data / "hwu64" / "test.seq.in").read_text(encoding="utf-8").splitlines()
    keys = sorted({normalise_text(line) for line in lines})
    prints = Fingerprints().of(keys)
    index, found = NearDuplicateIndex(), 0
    for key, fingerprint in zip(keys, prints, strict=True):
        found += sum(1 for _ in index.near(fingerprint))
        index.add(key, fingerprint)
    true = sum(
        one.similarity(other) >= 0.8 or one.is_one_change_of(other)
        for number, one in enumerate(prints)
        for other in prints[:number]
    )
    assert found == true > 0


def test_real_messages_cost_a_time_that_grows_as_their_number(shared_data):
    with (shared_data / "bitext" / "bitext20k.csv").open(encoding="utf-8-sig", newline="") as handle:
        keys = sorted({normalise_text(row["utterance"]) for row in csv.DictReader(handle)})

    def keep(count: int) -> None:
        some = keys[:count]
        index, kept = NearDuplicateIndex(), 0
        for key, fingerprint in zip(some, Fingerprints().of(some), strict=True):
            if not index.has_near(fingerprint):
                index.add(key, fingerprint)
                kept += 1
        assert 0.2 * len(some) < kept < len(some)

    assert growth(keep, 1_250, 5_000, enough=8) < 8
