"""Japanese content words by SudachiPy: nouns, verbs and adjectives in dictionary form, with their negation.

A complaint is often its negation ("届かない", "読めない"), so a verb that is denied is shown denied. Names of people
are left out: they are no subject, and one that redaction missed must not become the title of a chart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mangaassist_assets.privacy.names.morphology import core_dictionary

if TYPE_CHECKING:
    from sudachipy import Morpheme, Tokenizer

JAPANESE = r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff々ー"

_LOCAL = threading.local()

_STOP_WORDS = frozenset(
    """
    為る 有る 居る 成る 出来る 下さる 貰う 頂く 頂ける 遣る 呉れる 行く 来る
    教える 知る 願う 思う 言う 聞く 見る 分かる 困る 欲しい 良い 無い 済む
    事 物 方 時 為 場合 所 訳 人 今 今日 昨日 明日 前 後 中 際
    御願い 願い 質問 方法 件 以上 他 様 本当 大丈夫 可能 必要 筈 儘
    急ぐ 幾ら 次 入る 対応 初めて
    """.split()  # noqa: SIM905  # a list of sixty quoted words reads worse
)
_LITTLE_KINDS = frozenset({"助詞", "助動詞", "接頭辞", "接尾辞", "空白"})
_A_ROW = dict(zip("うくぐすつぬぶむる", "わかがさたなばまら", strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class JapaneseWord:
    """One content word: `[start, end)` in characters of the text, `key` its normalised form, `text` as shown."""

    key: str
    text: str
    start: int
    end: int
    noun: bool


def japanese_words(text: str) -> list[JapaneseWord]:
    """Return the content words of a text of at most some thousand characters, in order."""
    found = list(_tokenizer().tokenize(text))
    return list(_content_words(found))


def subject_keys(text: str) -> list[str]:
    """Return what each word of a short Japanese text is counted by, little words left out and names of people not."""
    found = list(_tokenizer().tokenize(text))
    content = {word.start: word.key for word in _content_words(found)}
    return [
        content.get(morpheme.begin(), morpheme.normalized_form())
        for morpheme in found
        if morpheme.part_of_speech()[0] not in _LITTLE_KINDS and morpheme.normalized_form() not in _STOP_WORDS
    ]


def negated(dictionary_form: str, conjugation: str) -> str:
    """Return the plain negative of a verb or adjective: 届く (五段) 届かない, 食べる (一段) 食べない, 安い 安くない."""
    head, tail = dictionary_form[:-1], dictionary_form[-1]
    if conjugation.startswith("五段") and tail in _A_ROW:
        return f"{head}{_A_ROW[tail]}ない"
    if conjugation.startswith("形容詞"):
        return f"{head}くない"
    return f"{head}ない"


def _content_words(found: Sequence[Morpheme]) -> Iterator[JapaneseWord]:
    for position, morpheme in enumerate(found):
        kind, second, third, _, conjugation, _ = morpheme.part_of_speech()
        key = morpheme.normalized_form()
        noun = kind in {"名詞", "形状詞"}
        counter = second == "普通名詞" and third == "助数詞可能" and position and _is_numeral(found[position - 1])
        wanted = (
            (kind == "名詞" and second in {"普通名詞", "固有名詞"} and third != "人名" and not counter)
            or (kind == "形状詞" and second == "一般")
            or (kind in {"動詞", "形容詞"} and second == "一般")
        )
        if not wanted or key in _STOP_WORDS or _is_one_kana(morpheme.surface()):
            continue
        text = morpheme.dictionary_form()
        if not noun and _is_denied(found[position + 1 : position + 4]):
            text, key = negated(text, conjugation), f"{key}:not"
        yield JapaneseWord(key=key, text=text, start=morpheme.begin(), end=morpheme.end(), noun=noun)


def _is_numeral(morpheme: Morpheme) -> bool:
    return tuple(morpheme.part_of_speech()[:2]) == ("名詞", "数詞")


def _is_denied(following: Sequence[Morpheme]) -> bool:
    """Return whether a verb's endings deny it: ない, ません, ていない, くない."""
    for morpheme in following:
        kind, form = morpheme.part_of_speech()[0], morpheme.dictionary_form()
        if form in {"ない", "ぬ", "ず"} and kind in {"助動詞", "形容詞"}:
            return True
        if kind != "助動詞" and form not in {"て", "で", "いる"}:
            return False
    return False


def _is_one_kana(surface: str) -> bool:
    return len(surface) == 1 and "\u3040" <= surface <= "\u30ff"


def _tokenizer() -> Tokenizer:
    # A tokenizer keeps buffers of its own and belongs to one thread; the dictionary is shared.
    if not hasattr(_LOCAL, "tokenizer"):
        fields = {"surface", "pos", "dictionary_form", "normalized_form"}
        _LOCAL.tokenizer = core_dictionary().tokenizer("C", fields=fields)
    tokenizer: Tokenizer = _LOCAL.tokenizer
    return tokenizer
