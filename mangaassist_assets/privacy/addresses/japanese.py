"""Japanese postal addresses and codes, with digits of any width and in kanji (十 and 百 among them)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind

_NUMBER = "[0-9〇一二三四五六七八九十百千]"
_UNIT = r"(?:丁目|番地の|番地|番町|番|号室|号|条|の(?=[0-9〇一二三四五六七八九])|-|ー)"
_PREFECTURE = (
    "東京都|北海道|大阪府|京都府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|"
    "石川|福井|山梨|長野|岐阜|"
    "静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|"
    "宮崎|鹿児島|沖縄)県"
)
_KANA_CITIES = (
    "さいたま|つくば|つくばみらい|いわき|ひたちなか|うるま|みどり|あわら|むつ|みよし|つがる|かすみがうら|さぬき|"
    "東かがわ|えびの|"
    "南あわじ|にかほ|さくら|ふじみ野|あま|みやま|うきは|いなべ|たつの|かほく|あきる野|南さつま|いちき串木野|"
    "せたな|くりこま"
)
_PLACE = r"[^\s、。,.!?！？「」()0-9\ue000]"
_BUILDING = (
    r"(?:[ 、]?[ァ-ヶーA-Za-zぁ-ん一-龠・]{2,16}(?:マンション|ハイツ|コーポ|荘|ビル|レジデンス|メゾン|アパート|"
    r"タワー|ハウス)?"
    rf"[ ]?{_NUMBER}{{1,5}}(?:号室|階|F)(?:[0-9]{{1,4}}号室)?)?"
)
_TAIL = rf"{_NUMBER}{{1,5}}(?:{_UNIT}[ ]?(?:[東西南北]?{_NUMBER}{{1,5}}{_UNIT}?[ ]?){{0,5}})"
_ADDRESS = re.compile(
    rf"(?:(?:{_PREFECTURE}){_PLACE}{{0,30}}?|(?:[一-龠々ヶケノ]{{1,5}}|"
    rf"{_KANA_CITIES})[市区郡](?={_PLACE}{{0,18}}[0-9〇一二三四五六七八九十]){_PLACE}{{0,24}}?)"
    rf"{_TAIL}{_BUILDING}"
)
# A number alone behind a town: 「高崎市栄町1613」. What is counted is none: 「千葉市3店舗」, 「山田町3巻」.
_BARE = re.compile(
    rf"(?:(?:{_PREFECTURE}){_PLACE}{{0,20}}?|(?:[一-龠々ヶケノ]{{1,5}}|{_KANA_CITIES})[市区町村郡]{_PLACE}{{0,18}}?)"
    rf"(?<=[一-龠々ヶケノァ-ヴー])(?<![第約全各毎年月日計税込価格別])[0-9]{{1,5}}(?:-[0-9]{{1,4}}){{0,3}}(?:番地?)?(?![0-9])"
    r"(?![ ]?(?:円|人|店|巻|話|冊|年|月|日|時|分|個|件|つ|部|回|名|代|万|千|億|%|か所|ヶ所|箇所|軒|社|点|歳|才|km|m|kg|"
    rf"位|周年|度|周|色|作|本|枚|階建|線|種|組|等|版|期|章|丁目|番目|セット|ページ|ヶ月|か月|週|[A-Za-z])){_BUILDING}"
)
# A town part and its number without the city before it: 「神南一丁目二番三号」.
_TOWN = re.compile(
    rf"[一-龠々ヶ]{{1,6}}{_NUMBER}{{1,3}}丁目[ ]?{_NUMBER}{{1,4}}(?:番地?|-|ー|の){_TAIL}?(?:{_NUMBER}{{1,4}}号?)?"
)
_ROOM = re.compile(
    r"[ァ-ヶー一-龠]{2,12}(?:マンション|ハイツ|コーポ|荘|レジデンス|メゾン|アパート)[ ]?[0-9]{1,4}(?:号室)?(?![0-9])"
)
_AFTER_CUE = re.compile(
    rf"(?:住所|届け先|お届け先|送り先|配送先)(?:は|を|:|が|、|"
    rf"に)?[ ]?(?P<value>{_PLACE}{{2,20}}?[0-9一二三四五六七八九十]{{1,4}}-[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{0,3}})"
)
_POSTAL_MARKED = re.compile(r"(?:〒[ ]?|郵便番号[ ]?(?:は|:|が)?[ ]?)(?P<value>[0-9]{3}[-ー]?[0-9]{4})(?![0-9])")
_POSTAL = re.compile(r"(?<![0-9A-Za-z\-])[0-9]{3}-[0-9]{4}(?![0-9\-A-Za-z])")


def find_japanese_addresses(text: str, digits: str) -> Iterator[Detection]:
    """Yield addresses and postal codes.

    Args:
        text: A folded text, with its kanji numbers.
        digits: The same text with runs of kanji digits as ASCII digits (`folding.with_digits`).
    """
    for match in _POSTAL_MARKED.finditer(digits):
        start = match.start() if digits[match.start()] == "〒" else match.start("value")
        yield Detection(start, match.end(), Kind.POSTAL_CODE)
    if not text.isascii():
        for pattern in (_ADDRESS, _TOWN, _ROOM):
            for match in pattern.finditer(text):
                end = match.end()
                yield Detection(match.start(), end - (text[end - 1] in "の "), Kind.ADDRESS)
        for match in _BARE.finditer(digits):
            yield Detection(*match.span(), Kind.ADDRESS)
        for match in _AFTER_CUE.finditer(text):
            yield Detection(*match.span("value"), Kind.ADDRESS)
    for match in _POSTAL.finditer(digits):
        yield Detection(*match.span(), Kind.POSTAL_CODE)
