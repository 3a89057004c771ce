"""Person names in Japanese: the person-name tags of Sudachi's dictionary, weighed by honorifics and introductions.

A store of manga speaks of invented people all day. A bare name beside words of the catalogue ("新刊", "推し") is a
character or an author and stays; with an honorific for people, or after an introduction, it is a shopper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names.common_words import word_set
from mangaassist_assets.privacy.names.morphology import Morpheme, Word, morphemes

_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff々]")
# Forms of one character that names are written with and dictionaries are not.
_VARIANTS = str.maketrans("髙﨑濵濱邊邉齋齊栁桒德眞惠𠮷塚槇增曻靜瀨", "高崎浜浜辺辺斎斉柳桑徳真恵吉塚槙増昇静瀬")
_READING = re.compile(r"[ ]?\([ぁ-んァ-ヶー ]{2,20}\)")
_PERSON = frozenset({Word.FAMILY, Word.GIVEN, Word.PERSON})
# How far, in characters, a word of the catalogue decides what a name is.
_NEAR = 24
_SENTENCE_END = re.compile(r"[。!?\n]|です|でした|ます|ました|ください|下さい|ほしい|欲しい")
_HONORIFICS = frozenset({"さん", "様", "さま", "くん", "君", "ちゃん", "氏", "殿"})
_FORMAL = frozenset({"様", "さま", "氏", "殿"})
_KATAKANA = re.compile(r"[ァ-ヶー]+")
_GIVEN_FORM = re.compile(
    r"[一-龠々ぁ-んァ-ヶー]{0,3}(?:郎|子|美|介|太|斗|香|奈|菜|也|人|代|恵|江|雄|夫|男|彦|樹|希|輝|乃|花|華|葵|"
    r"翔|蓮|凛|結|さくら|ひかり|あかり|まこと)|[楓凛蓮陸湊颯碧律翼光歩舞愛彩葵亮学浩隆豊剛修健誠遥薫忍司望]"
)
_CUE_BEFORE = re.compile(
    r"(?:名前|氏名|名義|宛名|宛先|受取人|受け取り人|届け先|送り先|差出人|署名|本人|担当者?|担当の|夫の?|妻の?|"
    r"主人の|母の|父の|息子の|娘の|"
    r"友人の|友達の|兄の|姉の|弟の|妹の|契約者|会員|代理の|注文者|購入者|電話の)(?:は|が|を|に|で|:|、)?[ ]?\Z"
)
_CUE_AFTER = re.compile(
    r"[ ]?(?:と申|という者|といいます|と言います|と言う者|名義|宛て?[にで]?|に代わ|の代理|本人|が受け取|の注文|"
    r"の住所|の名前で|の名で|に届け|"
    r"から電話|から連絡|に電話|に連絡|が注文|の自宅|の口座|のアカウント|の携帯|の電話|まで(?:[。!\s]|\Z|第?[0-9])|あて|で登録)"
)
_SELF = re.compile(r"(?:私|わたし|わたくし|僕|俺|こちら)は?[ ]?\Z")
_IS = re.compile(r"[ ]?(?:です|でございます|だ[。、]|より(?:[。、\s]|\Z|第?[0-9]))")
_CATALOGUE = re.compile(
    r"作品|漫画|マンガ|まんが|コミック|巻|(?<![電通会])話|図鑑|雑誌|フィギュア|グッズ|キャラ|先生|新刊|主人公|"
    r"登場|推し|好き|アニメ|サイン|作者|著|描|原作|連載|"
    r"ポスター|声優|シリーズ|ラノベ|小説|画集|短編|完結|発売|表紙|特典|伏線|死|戦|ぬいぐるみ|缶バッジ|アクスタ|"
    r"コスプレ|監督|映画|ヒロイン"
)
_ORGANIZATION_BEFORE = re.compile(r"(?:株式会社|有限会社|合同会社|\(株\))\Z")
_INTRODUCED_AFTER = re.compile(r"と申します|と申す|と言います|といいます|と申しま|という者です|ともうします")
_INTRODUCED_BEFORE = re.compile(
    r"(?:お?名前は|氏名は?[: ]|氏名は|宛名は|受取人は|名義は|お?名前[:]|宛名[:]|受取人[:])[ ]?"
    r"(?P<value>[一-龠々ァ-ヶーぁ-んｦ-ﾟA-Za-z][一-龠々ァ-ヶーｦ-ﾟA-Za-z ]{0,14}|[ぁ-ん]{2,6}[ ]?[ぁ-ん]{0,6}?)"
    r"(?=です|だ|と|で|に|、|。|\n|\Z)"
)
_STOPS = frozenset("はがもを、。,.!?！？「」『』()（）[]:： \t\r\n\ue000")
_GIVEN_ALONE = re.compile(r"[一-龠々]{2,4}")
_NO_NAME = word_set(
    "後 あと 何 誰 どなた それ これ 別 違う 間違 漢字 ひらがな カタカナ ローマ字 本名 偽名 匿名 秘密 同じ 私"
)


def find_japanese_names(text: str) -> Iterator[Detection]:
    """Yield person names of a folded text; nothing where it holds no Japanese character."""
    if text.isascii() or not _JAPANESE.search(text):
        return
    text = text.translate(_VARIANTS)
    yield from _introductions(text)
    words = list(morphemes(text))
    index = 0
    while index < len(words):
        if words[index].word not in _PERSON:
            index += 1
            continue
        last = _last_of_name(words, index)
        if _is_person(text, words, index, last):
            reading = _READING.match(text, words[last].end)
            yield Detection(words[index].start, words[last].end if reading is None else reading.end(), Kind.NAME)
        index = last + 1


def _last_of_name(words: list[Morpheme], first: int) -> int:
    """Return the index of the last morpheme of a name: family and given name, one space between them at most."""
    last = first
    while last - first < 4:
        following = last + 1
        if (
            following < len(words)
            and words[following].word is Word.SPACE
            and words[following].end - words[following].start == 1
        ):
            following += 1
        if following >= len(words):
            break
        word = words[following]
        spoken = (
            word.word is Word.NOUN
            and last == first
            and words[first].word is Word.FAMILY
            and _GIVEN_FORM.fullmatch(word.surface)
        )
        if word.word not in _PERSON and not spoken:
            break
        last = following
    return last


def _is_person(text: str, words: list[Morpheme], first: int, last: int) -> bool:
    start, end = words[first].start, words[last].end
    following = words[last + 1].surface if last + 1 < len(words) else ""
    family = words[first].word is Word.FAMILY
    full = family and last > first
    catalogue = _catalogue(text, start, end)
    before = text[max(0, start - 12) : start]
    if following in _HONORIFICS:
        return _honoured(words[first], following, surname=family, catalogue=catalogue)
    # 「森川先生」 and 「田中書店」: an author, a company.
    compound = last + 1 < len(words) and words[last + 1].word is Word.NOUN and not _CUE_AFTER.match(text, end)
    if compound or _ORGANIZATION_BEFORE.search(before):
        return False
    if _CUE_BEFORE.search(before) or _CUE_AFTER.match(text, end):
        return family or not catalogue
    alone = first == 0 or words[first - 1].word in {Word.SIGN, Word.INTERJECTION, Word.SPACE}
    alone = alone or _SELF.search(before) is not None
    if (
        first
        and words[first - 1].word is Word.SIGN
        and _IS.match(text, end)
        and _GIVEN_ALONE.fullmatch(text, start, end)
    ):
        return family or not catalogue
    if _IS.match(text, end) or (alone and end == len(text)):
        return family and (alone or (full and not catalogue))
    return full and not catalogue


def _honoured(name: Morpheme, honorific: str, *, surname: bool, catalogue: bool) -> bool:
    katakana = _KATAKANA.fullmatch(name.surface) is not None
    if surname or honorific in _FORMAL:
        return not (catalogue and katakana and honorific not in _FORMAL)
    # 「ナルトくん」 is a character; 「花子さん」 is not.
    return not katakana and not (honorific != "さん" and catalogue)


def _catalogue(text: str, start: int, end: int) -> bool:
    """Return whether a word of the catalogue stands beside a name in its sentence."""
    low, high = max(0, start - _NEAR), min(len(text), end + _NEAR)
    for boundary in _SENTENCE_END.finditer(text, low, high):
        if boundary.end() <= start:
            low = boundary.end()
        elif boundary.start() >= end:
            high = boundary.start()
            break
    return _CATALOGUE.search(text, low, high) is not None


def _introductions(text: str) -> Iterator[Detection]:
    """Yield names that the sentence announces, whether a dictionary knows them or not."""
    for match in _INTRODUCED_BEFORE.finditer(text):
        value = match.group("value").rstrip()
        if value and not any(value.startswith(word) for word in _NO_NAME):
            start = match.start("value")
            yield Detection(start, start + len(value), Kind.NAME, introduced=True)
    position = 0
    for match in _INTRODUCED_AFTER.finditer(text):
        start = match.start()
        while start > position and match.start() - start < 12 and not _ends_name(text, start - 1):
            start -= 1
        if start < match.start():
            yield Detection(start, match.start(), Kind.NAME, introduced=True)
        position = match.end()


def _ends_name(text: str, index: int) -> bool:
    if text[index] == " " and index > 0:
        # One space may stand between family name and given name, never between Latin words.
        return not (_is_name_letter(text[index - 1]) and index + 1 < len(text) and _is_name_letter(text[index + 1]))
    return text[index] in _STOPS


def _is_name_letter(character: str) -> bool:
    return "一" <= character <= "龠" or "ァ" <= character <= "ヶ"
