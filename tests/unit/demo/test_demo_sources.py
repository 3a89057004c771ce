"""The hand-written files: every template can be filled, and a mistake is named where it is."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mangaassist_assets.demo.noise import Garnish, make_noisy, slip
from mangaassist_assets.demo.shop import Shop, build_shop
from mangaassist_assets.demo.slots import SlotFiller
from mangaassist_assets.demo.sources import (
    DATA,
    DemoDataError,
    Template,
    read_intents,
    read_plan,
    read_series,
    read_toml,
)
from mangaassist_assets.demo.traffic import Crowd

ALWAYS = {
    "opener": 0.0,
    "closer": 0.0,
    "aside": 0.0,
    "typo": 1.0,
    "second_typo": 1.0,
    "no_final_mark": 1.0,
    "lower_case": 1.0,
    "shouting": 0.0,
}
GARNISH = Garnish(
    openers=("hi,",), closers=("thanks",), asides=("Nice shop.",), closers_ja=("お願いします",), rates=ALWAYS
)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return build_shop(1)


@pytest.fixture(scope="module")
def filler(shop: Shop) -> SlotFiller:
    return SlotFiller(shop, read_toml(DATA / "slots.toml"), held_out=False)


def test_every_template_can_be_filled_with_series_in_use_and_held_out(shop: Shop) -> None:
    words = read_toml(DATA / "slots.toml")
    for held_out in (False, True):
        filler = SlotFiller(shop, words, held_out=held_out)
        for intent in read_intents():
            for template in (
                *intent.plain,
                *intent.templates,
                *intent.new_words,
                *intent.unseen,
                *intent.unseen_new_words,
            ):
                for seed in range(2):
                    filled = filler.fill(template, random.Random(seed))
                    assert filled.documents, template.text
                    assert not re.search(r"[{}\[\]|]", filled.text), template.text


def test_every_intent_has_variety_and_held_out_templates() -> None:
    intents = read_intents()
    assert len(intents) == 18
    for intent in intents:
        assert len(intent.plain) + len(intent.templates) + len(intent.new_words) >= 32, intent.name
        assert len(intent.unseen) >= 4, intent.name
        assert any(template.is_japanese for template in intent.templates), intent.name


def test_no_held_out_template_is_in_use_anywhere() -> None:
    in_use = {t.text for intent in read_intents() for t in (*intent.plain, *intent.templates, *intent.new_words)}
    held_out = {t.text for intent in read_intents() for t in (*intent.unseen, *intent.unseen_new_words)}
    assert in_use & held_out == set()


def test_an_unknown_slot_is_named_with_its_template(filler: SlotFiller) -> None:
    with pytest.raises(DemoDataError, match=r"'who is \{nobody\}' has an unknown slot \{nobody\}"):
        filler.fill(Template(text="who is {nobody}", documents=("faq.html",)), random.Random(0))


def test_a_reference_without_its_slot_is_named_with_its_template(filler: SlotFiller) -> None:
    with pytest.raises(DemoDataError, match="'hello' points to @title"):
        filler.fill(Template(text="hello", documents=("@title",)), random.Random(0))


def test_a_catalogue_row_without_premise_is_named(tmp_path: Path) -> None:
    table = tmp_path / "catalogue.csv"
    table.write_text("title,romaji,japanese,genre,themes,premise,remembered_as\nA,,,comedy,cats,,\n", encoding="utf-8")
    with pytest.raises(DemoDataError, match=r"catalogue\.csv, row 1: premise must not be empty"):
        read_series(table)


def test_a_title_given_twice_is_named(tmp_path: Path) -> None:
    table = tmp_path / "catalogue.csv"
    row = "Twin Tale,,,comedy,cats,Two.,\n"
    table.write_text(f"title,romaji,japanese,genre,themes,premise,remembered_as\n{row}{row}", encoding="utf-8")
    with pytest.raises(DemoDataError, match="row 2: there is already a series called 'Twin Tale'"):
        read_series(table)


def test_an_intent_file_that_lacks_a_key_or_repeats_a_template_is_named(tmp_path: Path) -> None:
    path = tmp_path / "greeting.toml"
    path.write_text('about = "x"\nsince = "launch"\n', encoding="utf-8")
    with pytest.raises(DemoDataError, match=r"greeting\.toml: documents, plain, templates, unseen must be given"):
        read_intents(tmp_path)
    path.write_text(
        'about = "x"\nsince = "launch"\ndocuments = ["faq.html"]\nplain = "hi"\ntemplates = "hi"\nunseen = "hey"\n',
        encoding="utf-8",
    )
    with pytest.raises(DemoDataError, match="template given twice: 'hi'"):
        read_intents(tmp_path)


def test_a_plan_that_is_not_toml_or_lacks_a_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("seed = ", encoding="utf-8")
    with pytest.raises(DemoDataError, match=r"plan\.toml is not valid TOML"):
        read_plan(path)
    path.write_text("seed = 1\n", encoding="utf-8")
    with pytest.raises(DemoDataError, match="japanese_share"):
        read_plan(path)


def test_a_plan_with_too_many_messages_for_its_shoppers_is_named(filler: SlotFiller) -> None:
    plan = read_plan()
    impossible = replace(plan.traffic[0], users=3)
    crowd = Crowd(read_intents(), plan, GARNISH)
    with pytest.raises(DemoDataError, match=r"bundle-1\.jsonl: 230 messages cannot be 1 to 6 each for 3 users"):
        crowd.traffic(impossible, ["order_status", "gift_card"], filler)


def test_noise_leaves_digits_order_numbers_and_japanese_alone() -> None:
    for seed in range(200):
        noisy = make_noisy("Where is order MA-00000042, volume 12 please?", GARNISH, random.Random(seed))
        assert "MA-00000042" in noisy
        assert re.findall(r"\d+", noisy) == ["00000042", "12"]
        assert make_noisy("荷物はどこですか", GARNISH, random.Random(seed)) == "荷物はどこですか"


def test_a_slip_changes_one_place_and_text_without_long_words_stays() -> None:
    for seed in range(200):
        slipped = slip("parcel", random.Random(seed))
        assert abs(len(slipped) - 6) <= 1
        assert slipped[0] == "p"
        assert slipped != "parcel"
        assert len(set(slipped) ^ set("parcel")) <= 2
    assert slip("ok ty", random.Random(0)) == "ok ty"
