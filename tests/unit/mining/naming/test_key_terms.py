"""Names made of words: particular, readable, the same on every run, and no stage for whoever writes a message."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.naming.key_terms import (
    LONGEST_NAME,
    NAMELESS,
    SEPARATOR,
    count_groups,
    name_counted,
    nearest_half,
)
from mangaassist_assets.mining.naming.model_names import is_plain
from mangaassist_assets.mining.naming.name_words import name_words, stem
from mangaassist_assets.mining.naming.words import word_overlap, words_of
from tests.support.cluster_names import name_groups


def terms(name: str) -> list[str]:
    return name.split(SEPARATOR)


def test_names_say_what_is_particular_and_do_not_repeat_a_word_in_two_forms():
    names = name_groups(
        {
            "a": ["my order refund please", "refunds for my order", "order refund when"],
            "b": ["order a gift card", "gift cards for an order", "can i order gift card"],
        }
    )
    assert "refund" in names["a"]
    assert "refunds" not in names["a"]
    assert terms(names["b"])[0] == "gift card"


def test_a_word_that_is_said_beside_another_is_shown_as_the_phrase():
    names = name_groups({"a": ["what is my order status", "order status of my parcel", "show the order status"]})
    assert "order status" in terms(names["a"])


def test_words_around_a_stop_word_or_a_comma_are_no_phrase():
    names = name_groups({"a": ["status of order", "status, order", "status for my order", "status. order"]})
    assert set(terms(names["a"])) == {"order", "status"}


def test_a_denied_word_is_shown_denied():
    names = name_groups({"a": ["app not working", "it isn't working", "reader not working on my phone"]})
    assert "not working" in terms(names["a"])


def test_japanese_groups_get_japanese_names_in_dictionary_form():
    names = name_groups(
        {
            "late": ["注文した本がまだ届きません", "商品が届かない", "漫画が届いていないのですが"],
            "cancel": ["予約をキャンセルしたい", "ｷｬﾝｾﾙできますか", "キャンセルお願いします"],
            "status": ["配送状況を教えてください", "配送状況が更新されません"],
        }
    )
    assert "届かない" in terms(names["late"])
    assert terms(names["cancel"])[0] == "キャンセル"
    assert "配送状況" in terms(names["status"])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("食べない", "食べない"),
        ("安くないですね", "安くない"),
        ("買えませんでした", "買えない"),
        ("開かないのですが", "開かない"),
        ("使わなかった", "使わない"),
        ("届いた", "届く"),
    ],
)
def test_japanese_verbs_and_adjectives_keep_their_negation(message, shown):
    assert [word.text for word in name_words(message)] == [shown]


def test_particles_endings_figures_and_names_of_people_are_no_japanese_subject():
    assert [word.text for word in name_words("山田さんが第100巻をお願いしますと言っていました")] == []


def test_groups_without_words_have_a_name_and_placeholders_are_no_words():
    assert name_groups({"a": ["???", "the a of"], "b": ["[EMAIL] <PHONE> artbook [NAME_7q]"]}) == {
        "a": NAMELESS,
        "b": "artbook",
    }
    assert name_groups({}) == {}
    assert name_groups({"a": []}) == {"a": NAMELESS}


def test_one_shopper_cannot_name_a_group():
    messages = ["where is my parcel", "parcel is late", *[f"pwned pwned {number} pwned" for number in range(50)]]
    speakers = ["u1", "u2", *["loud"] * 50]
    assert "pwned" in name_groups({"a": messages})["a"]
    assert "pwned" not in name_groups({"a": messages}, speakers={"a": speakers})["a"]


def test_what_most_say_outweighs_what_two_say_and_no_other_group_knows():
    editions = ["which edition is this", "is the edition in colour", "deluxe edition in stock", "edition with a case"]
    few = ["bad contract import", "import a bad contract"]
    others = [f"where is the {thing}" for thing in ("parcel", "invoice", "card", "locker", "badge", "edition")]
    names = name_groups({"a": [*editions * 4, *few], "b": others * 4})
    assert terms(names["a"])[0] == "edition"
    assert "contract" not in names["a"]


def test_a_title_that_two_of_many_mention_is_no_subject():
    messages = ["recommend something", "can you recommend one", "please recommend", "what do you recommend"] * 5
    names = name_groups({"a": [*messages, "lighthouse bride", "the lighthouse bride"], "b": ["manga in stock"] * 20})
    assert "bride" not in names["a"]
    assert "recommend" in names["a"]


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        (["hello drew", "good morning", "hi", "hey there", "hello sam"], "hello"),
        (["no thanks", "nope thank you", "no thank you sam", "no thanks a lot"], "no · thanks"),
        (["have a great day", "bye", "goodbye", "have a nice evening"], "bye"),
        (["hello where is my parcel", "hi, parcel please", "good morning, my parcel", "thanks, parcel"], "parcel"),
        (["delivery in the morning", "morning delivery", "is a morning delivery possible"], "morning delivery"),
    ],
)
def test_small_talk_names_a_group_that_says_nothing_else_and_no_other(messages, name):
    assert name_groups({"a": messages}) == {"a": name}


def test_the_messages_nearest_to_the_centre_name_a_group():
    middle, edge = ["gift card balance"] * 8, ["lost locker key"] * 8
    groups = {"a": [*edge, *middle], "b": ["where is my parcel"] * 4}
    whole = count_groups(groups)
    cores = count_groups(
        {"a": [groups["a"][row] for row in nearest_half([*range(8, 16), *range(8)])], "b": groups["b"]}
    )
    assert "locker" in name_counted(whole)["a"]
    assert "locker" not in name_counted(whole, cores=cores)["a"]
    assert "gift" in name_counted(whole, cores=cores)["a"]


def test_groups_that_both_say_only_thanks_have_two_names():
    names = name_groups(
        {"a": ["thanks", "thank you", "thanks a lot"] * 3, "b": [*["thanks"] * 5, *["thanks casey"] * 2]}
    )
    assert names["a"] == "thanks"
    assert names["b"] == "thanks · casey"


def test_a_small_group_is_named_by_all_of_it():
    assert list(nearest_half(range(7))) == list(range(7))
    assert list(nearest_half(range(30))) == list(range(15))


def test_speakers_and_messages_must_be_as_many():
    with pytest.raises(ValueError, match="2 messages but 1 speakers"):
        name_groups({"a": ["one", "two"]}, speakers={"a": ["u"]})
    with pytest.raises(ValueError, match="1 messages but 0 speakers"):
        name_groups({"a": ["one"]}, speakers={})


def test_a_word_of_a_single_message_does_not_name_a_larger_group():
    names = name_groups({"a": ["refund kowalczyk", "refund now", "refund please"]})
    assert names == {"a": "refund"}


def test_equal_names_get_a_further_word_and_the_larger_group_keeps_the_short_one():
    shared = ["cancel, order, fee"] * 4
    digital = ["cancel, order, fee, digital"] * 2
    names = name_groups({"small": [*shared, *digital], "large": [*shared, *shared], "other": ["digital"] * 9})
    assert set(terms(names["large"])) == {"cancel", "order", "fee"}
    assert set(terms(names["small"])) == {"cancel", "order", "fee", "digital"}


def test_a_new_group_does_not_take_a_name_that_is_kept():
    messages = ["cancel, refund, late, order", "cancel, refund, late, order"]
    alone = name_groups({"new": messages})["new"]
    names = name_groups({"new": messages, "old": ["anything"]}, kept={"old": alone})
    assert names["old"] == alone
    assert set(terms(names["new"])) > set(terms(alone))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("see http://evil.example/pwned?x=1#y or www.evil.example/x", []),
        ("<img src=x onerror=alert(1)> parcel <b>late</b>", ["parcel", "late"]),
        ("＜script＞parcel＜/script＞", ["parcel"]),
        ("&lt;b&gt; parcel", ["parcel"]),
        ("[click](javascript:alert(1)) parcel", ["click", "parcel"]),
        ("write to eve@evil.example parcel", ["write", "parcel"]),
        ("par\u200bcel \u202elate", ["parcel", "late"]),
        ("a\x00parcel\x1b[31m", ["parcel"]),
        ("AB-12345678 4111111111111111 parcel", ["parcel"]),
        ("x" * 30 + " loooooool parcel", ["parcel"]),
        ("**parcel** `late` $HOME", ["parcel", "late", "home"]),
        ("you've they'll parcel's", ["parcel"]),
    ],
)
def test_what_is_no_word_of_a_person_is_cut_out(message, words):
    assert [word.text for word in name_words(message)] == words


def test_long_words_make_no_long_name():
    long = [letter * 2 + "bcdefghijklmnopqrstuv"[:20] for letter in "pqrst"]
    name = name_groups({"a": [", ".join(long)] * 3}, words=5)["a"]
    assert 40 < len(name) <= LONGEST_NAME


def test_hostile_megabytes_cost_no_time():
    for hostile in ("<" * 1_000_000, "a." * 500_000, "a@" * 500_000, "x" * 1_000_000, "&" * 1_000_000, "-a" * 500_000):
        name_words(hostile)


@given(st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=60), max_size=5), max_size=4))
def test_whatever_is_written_a_name_is_short_plain_text(groups):
    names = name_groups(groups)
    assert set(names) == set(groups)
    for name in names.values():
        assert 0 < len(name) <= LONGEST_NAME
        assert is_plain(name)
        assert not re.search(r"[<>\[\](){}*_`#|$\\:/@&\x00-\x1f]", name)


messages = st.lists(st.sampled_from(["refund late", "order status", "届かない本", "gift card order", "?"]), max_size=6)


@given(st.dictionaries(st.sampled_from("abcd"), messages, max_size=4), st.randoms())
def test_the_order_of_groups_and_messages_changes_no_name(groups, random):
    keys = list(groups)
    random.shuffle(keys)
    shuffled = {key: random.sample(groups[key], len(groups[key])) for key in keys}
    assert name_groups(shuffled) == name_groups(groups)


def test_plurals_are_counted_with_their_singulars():
    for singular, plural in [
        ("refund", "refunds"),
        ("delivery", "deliveries"),
        ("movie", "movies"),
        ("bonus", "bonus"),
    ]:
        assert stem(singular) == stem(plural)


def test_the_dictionary_is_loaded_for_japanese_only():
    code = (
        "import sys\n"
        "from tests.support.cluster_names import name_groups\n"
        "name_groups({'a': ['refund my order', 'order refund']})\n"
        "assert 'sudachipy' not in sys.modules\n"
        "name_groups({'a': ['返品']})\n"
        "assert 'sudachipy' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_intent_of_a_real_set_gets_a_name_of_its_own(shared_data):
    groups = defaultdict(list)
    folder = shared_data / "hwu64"
    labels = (folder / "train.label").read_text("utf-8").splitlines()
    texts = (folder / "train.seq.in").read_text("utf-8").splitlines()
    for label, text in zip(labels, texts, strict=True):
        groups[label].append(text)
    names = name_groups(groups)
    assert len(set(names.values())) == len(groups) == 64
    # What a reader expects to see in the name of an intent.
    expected = {
        "alarm_set": "alarm",
        "weather_query": "weather",
        "takeaway_order": "order",
        "qa_currency": "exchange rate",
    }
    assert all(word in names[intent] for intent, word in expected.items())


def test_similarity_of_messages_is_that_of_words_and_bigrams():
    assert words_of("Refunds for [NAME], don’t") == ["refunds", "for", "don’t"]
    assert words_of("届かない") == ["届か", "かな", "ない"]
    assert word_overlap("refund my order", "order my refund") == 1.0
    assert word_overlap("", "") == 0.0
