"""Which words are taken for names, and which names are the store's own vocabulary."""

from __future__ import annotations

import pytest

from mangaassist_assets.privacy import Vocabulary, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dear Margaret Holloway, your parcel is late", "Dear [NAME], your parcel is late"),
        ("Please ship it to Margaret Holloway instead", "Please ship it to [NAME] instead"),
        ("I spoke with Mr. Rennick about it", "I spoke with [NAME] about it"),
        ("It is under my partner's name Joanna Petrova", "It is under my partner's name [NAME]"),
        ("can you change Sarah's address?", "can you change [NAME]'s address?"),
        ("Thanks,\nTobias Lindqvist", "Thanks,\n[NAME]"),
        ("My husband Mark ordered it", "My husband [NAME] ordered it"),
        ("It was ordered by K. Tanaka for me", "It was ordered by [NAME] for me"),
        ("The parcel is for Anna van der Meer.", "The parcel is for [NAME]."),
        ("They were Angela, Tadelesh and Rebecca.", "They were [NAME], [NAME] and [NAME]."),
        (
            "my friend's book, ordered by jennifer bermúdez, is missing.",
            "my friend's book, ordered by [NAME], is missing.",
        ),
        ("JENNIFER BERMUDEZ IS MY WIFE!", "[NAME] IS MY WIFE!"),
        ("ralph emerson", "[NAME]"),  # the whole answer to a question for the name
        ("christine miller j 33 k 39", "[NAME] j 33 k 39"),
        ("im riley and my parcel is late", "im [NAME] and my parcel is late"),
        ("my name is sarah connor can i get help", "my name is [NAME] can i get help"),
        ("Sometimes people call me Rose", "Sometimes people call me [NAME]"),
        ("my name is jane doe and i want a refund", "my name is [NAME] and i want a refund"),
        ("maybe it's under scott deutekom", "maybe it's under [NAME]"),
        ("Jane Doe lives here. I want volume 3.", "[NAME] lives here. I want volume 3."),
        ("please call jane miller. I want volume 3.", "please call [NAME]. I want volume 3."),
        ("ask for Jane\nMiller at the desk", "ask for [NAME] at the desk"),
        ("Name:\nJane Doe\nPhone:\n60-56-85-91", "Name:\n[NAME]\nPhone:\n[PHONE]"),
        ("They had 6: Daisy, Christina, Sarah and Brandy.", "They had 6: [NAME], [NAME], [NAME] and [NAME]."),
        ("髙橋です", "[NAME]です"),
        ("佐藤健（さとうたける）です", "[NAME]です"),
        ("山田太郎です。3巻が欲しいです。", "[NAME]です。3巻が欲しいです。"),
        ("はい、達也です！新刊はまだですか", "はい、[NAME]です！新刊はまだですか"),
        ("田中さんに代わってください", "[NAME]さんに代わってください"),
        ("受取人は山田花子です", "受取人は[NAME]です"),
        ("はい、鈴木一郎です", "はい、[NAME]です"),
        ("私は田中です", "私は[NAME]です"),
        ("フリガナはヤマダ　タロウです", "フリガナは[NAME]です"),
        ("佐藤様宛ての荷物です", "[NAME]様宛ての荷物です"),
    ],
)
def test_names_are_found_by_lists_and_the_words_around_them(text, expected):
    assert redact(text).text == expected


@pytest.mark.parametrize(
    "text",
    [
        "Do you have Berserk volume 3?",
        "Is Naruto back in stock?",
        "Will my order arrive in May?",
        "What does the author Junji Ito draw now?",
        "JAN 4910000000001",
        "JANコード4910000000000の商品を探しています。",
        "my iban does not work",
        "Sorry, I'm contacting you about it",
        "I moved here from Georgia",
        "Ortiz LLC is our supplier",
        "We ship to Australia, New Zealand and Japan",
        "Do you have The Salt Line in stock?",
        "Where can I find Drums Before Dawn?",
        "Open it in the Shelf Reader. Pre-orders cannot be split.",
        "Death Note Black Edition box set",
        "grace period for returns",
        "call me later",
        "my name got changed",
        "im waiting for volume 3",
        "can i mark it as a gift",
        "tell sean i will be late",  # speech turned into text: a contact of the speaker, not the shopper
        "Please cancel the order, Thanks",
        "Capitalized words like Wisdom and Discipline are often mistaken",
        "うずまきナルトのフィギュアはありますか",
        "伊藤潤二先生の新刊はいつですか",
        "ルフィくんのキーホルダーが欲しい",
        "お客様の声を読みたいです",
        "名前を間違えて登録しました",
        "林の中で読みました",
        "鬼滅の刃（きめつのやいば）の3巻",
    ],
)
def test_ordinary_words_places_and_characters_stay(text):
    assert redact(text).text == text


VOCABULARY = Vocabulary(
    ["Naruto Uzumaki", "Junji Ito", "Monkey D. Luffy", "Alice in Borderland", "竈門炭治郎", "12 Lantern Street"]
)


@pytest.mark.parametrize(
    "text",
    [
        "Do you ship figures of Naruto Uzumaki?",
        "I met junji ito, he was kind.",
        "Monkey D. Luffy said it",
        "ALICE  IN BORDERLAND please",
        "Is 12 Lantern Street back?",
        "竈門炭治郎です",
    ],
)
def test_the_vocabulary_of_the_store_is_no_personal_data(text):
    assert redact(text, vocabulary=VOCABULARY).text == text


def test_the_vocabulary_does_not_cover_what_the_catalogue_lacks_or_a_person_claims():
    assert redact("I met Alice Holloway, she was kind.", vocabulary=VOCABULARY).text == "I met [NAME], she was kind."
    assert redact("My name is Naruto Uzumaki", vocabulary=VOCABULARY).text == "My name is [NAME]"
    assert redact("Send it to 12 Lantern Street, Apt 4", vocabulary=VOCABULARY).text == "Send it to [ADDRESS]"


def test_a_long_text_is_read_to_its_end_in_japanese():
    # Sudachi takes 49,149 bytes at a time; the name stands behind several of its chunks.
    text = "新刊の在庫を確認したいです。" * 3_000 + "受取人は山田花子です"
    assert redact(text).text.endswith("受取人は[NAME]です")
