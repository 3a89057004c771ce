"""The Japanese evaluation set is what its README says it is."""

import re
import tomllib
import unicodedata
from collections import Counter

import pytest

from benchmarks.japanese_sets import (
    STORE,
    read_messages,
    read_questions,
    section_chunks,
    section_queries,
    split_messages,
)

MESSAGES = read_messages()
TEMPLATES = tomllib.loads((STORE / "templates.toml").read_text(encoding="utf-8"))
JAPANESE = re.compile(r"[ぁ-ヿ一-鿿ｦ-ﾟ]")


def folded(text):
    return unicodedata.normalize("NFKC", text).casefold()


def headings(page):
    return re.findall(r"^## (.+)$", (STORE / "policies" / f"{page}.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_twenty_intents_of_thirty_messages_each_eighteen_of_them_written_by_hand():
    assert set(Counter(one.intent for one in MESSAGES).values()) == {30}
    assert len({one.intent for one in MESSAGES}) == 20
    assert set(Counter(one.intent for one in MESSAGES if one.how == "hand").values()) == {18}


def test_no_message_comes_twice_however_it_is_typed():
    assert [text for text, count in Counter(folded(one.text) for one in MESSAGES).items() if count > 1] == []
    assert len({one.id for one in MESSAGES}) == len(MESSAGES)


def test_a_tenth_is_of_mixed_language_one_of_each_kind_an_intent():
    kinds = Counter((one.intent, one.mixed) for one in MESSAGES if one.mixed)
    assert set(kinds.values()) == {1}
    assert {kind for _, kind in kinds} == {"english-words", "english-clause", "romaji"}
    assert kinds.total() == len(MESSAGES) / 10


def test_a_message_is_written_in_japanese_script_unless_it_is_romaji():
    assert [one.id for one in MESSAGES if bool(JAPANESE.search(one.text)) == (one.mixed == "romaji")] == []
    english = re.compile(r"[A-Za-z]{3,}")
    assert [one.id for one in MESSAGES if one.mixed and not english.search(one.text)] == []


def test_every_templated_message_is_its_template_filled_with_words_of_the_slots():
    def pattern(template):
        parts = re.split(r"{(\w+)}", template)
        return "".join(
            f"(?:{'|'.join(map(re.escape, TEMPLATES['slots'][part]))})" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )

    patterns = {
        f"{intent}-t{number}": pattern(template)
        for intent, templates in TEMPLATES["templates"].items()
        for number, template in enumerate(templates, start=1)
    }
    templated = [one for one in MESSAGES if one.how == "template"]
    assert [one.id for one in templated if not re.fullmatch(patterns[one.group], one.text)] == []
    assert Counter(one.group for one in templated) == Counter(dict.fromkeys(patterns, 3))


@pytest.mark.parametrize("seed", range(3))
def test_a_split_gives_ten_five_and_fifteen_messages_an_intent_and_no_template_to_two_sides(seed):
    split = split_messages(MESSAGES, seed)
    parts = (split.train, split.validation, split.test)
    for part, count in zip(parts, (10, 5, 15), strict=True):
        assert set(Counter(one.intent for one in part).values()) == {count}
    groups = [{one.group for one in part} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in MESSAGES)


def test_a_split_follows_its_seed_and_not_the_order_of_the_messages():
    def tested(messages, seed):
        return {one.id for one in split_messages(messages, seed).test}

    assert tested(MESSAGES, 1) == tested(MESSAGES[::-1], 1)
    assert tested(MESSAGES, 1) != tested(MESSAGES, 2)


def test_every_section_of_twelve_pages_is_asked_for_and_every_question_names_one_that_there_is():
    pages = {path.stem for path in (STORE / "policies").glob("*.md")}
    sections = {(page, section) for page in pages for section in headings(page)}
    questions = read_questions()
    assert len(pages) == 12
    assert len(questions) >= 120
    assert {(one.page, one.section) for one in questions} == sections
    assert len({folded(one.text) for one in questions}) == len(questions)


def test_the_chunks_of_the_product_name_the_sections_that_the_queries_look_for():
    found = {chunk.document_id for chunk in section_chunks()}
    assert {document for query in section_queries() for document in query.relevant_documents} == found


def test_no_question_repeats_a_phrase_of_its_page():
    """Nine characters in a row, punctuation aside, are a phrase that was copied."""
    copied = []
    for one in read_questions():
        page = (STORE / "policies" / f"{one.page}.md").read_text(encoding="utf-8")
        text = re.sub(r"[\s、。？?]", "", one.text)
        plain = re.sub(r"[\s、。？?]", "", page)
        copied += [one.id for start in range(len(text) - 8) if text[start : start + 9] in plain]
    assert copied == []
