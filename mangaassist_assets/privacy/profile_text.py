"""Free text about one customer: what stands behind "Customer profile:", and what is said of "the customer".

Of such text every word is about one person, and few are of a kind with a form of its own: "mother of two from Leeds,
prefers shonen". So it is replaced as a whole. A profile of a character or of an author is the store's own text and
stays: only profiles of customers count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from mangaassist_assets.privacy.detections import Detection, Kind

_WHO = r"(?:customer|shopper|user|client|buyer|member|guest|caller|subscriber|account ?holder)"
_WHO_JAPANESE = "(?:お客様|お客さま|顧客|ユーザー?|会員|購入者|利用者)"
# A profile may be written down under any of these; notes and details may be about the store as well.
_CUE = re.compile(
    rf"(?P<strong>(?<![A-Za-z]){_WHO}(?:'?s)?[ _\-]?(?:profile|persona|bio(?:graphy)?|background|demographics)"
    r"(?:[ _\-]?(?:text|summary|notes?|description|info(?:rmation)?|data))?|(?<![A-Za-z])(?:about[ _\-]?me|"
    r"about (?:the |this )?(?:customer|shopper|user|client|buyer|member)|my profile|crm notes?)"
    rf"|{_WHO_JAPANESE}(?:の)?(?:プロフィール|プロファイル|ペルソナ|属性|背景)|自己紹介)"
    rf"|(?P<weak>(?<![A-Za-z]){_WHO}(?:'?s)?[ _\-]?(?:info(?:rmation)?|details?|notes?|summary|data|context|facts)"
    rf"|{_WHO_JAPANESE}(?:の)?(?:情報|詳細|メモ|データ|概要))",
    re.IGNORECASE,
)
# What makes of a cue the label of what follows: a colon, an equals sign, a closing tag, the end of a heading's line.
_LABEL = re.compile(
    r"[ \t]{0,3}(?:\([^()\n]{0,40}\))?[\"'`*_\]」]{0,4}[ \t]{0,3}"
    r"(?P<mark>[:=>】]|-{1,2}[ \t]|(?:is|are)\b|は|\n)[:*_`]{0,3}[ \t]{0,8}(?:\n[ \t]{0,8}){0,2}",
)
_NEXT = re.compile(
    r"\A[ \t]{0,8}(?:#|<|[>*_]{0,3}(?:(?:customer|user|shopper|current|last|latest)(?:'s)?[ _\-])?(?:question|query|"
    r"message|request|input|passages?|context|documents?|history|conversation|instructions?|task|answer|reply|"
    r"assistant|user|human|system|orders?|retrieved|sources?|q|a)[*_]{0,3}[ \t]{0,3}[:>=]|"
    r"(?:ご?質問|お?問い合わせ|メッセージ|文脈|回答|指示|会話|履歴|注文)[ \t]{0,3}[:】])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+[\"')」]{0,2}(?=\s|\Z)|。|[!?](?=[^\x00-\x7f])|\n")
_TO_THE_READER = re.compile(
    r"(?:you|your|we|our|please|click|tap|go to|open|see|how|where|what|why|can|could|to (?:edit|change|see|update))\b",
    re.IGNORECASE,
)
_YEARS_OLD = (
    r"[0-9]{1,3}[ \-]?(?:years?|yrs?)[ \-]?(?:old|of age)\b|\b(?:age|aged)[: ]{1,2}[0-9]{1,3}\b|"
    r"\b[0-9]{2}, (?:fe)?male\b"
)
_PERSONAL = re.compile(
    rf"{_YEARS_OLD}|\b(?:mother|father|mum|mom|dad|parent|grand(?:mother|father|parent))s? (?:of|to)\b|"
    r"\b(?:married|divorced|widow(?:ed|er)?|engaged to|pregnant|retired|unemployed|disabled)\b|"
    r"\b(?:lives?|living|resides?|residing|based|grew up) (?:in|with|alone|near|at|on)\b|\bborn (?:in|on)\b|"
    r"\bbirthday\b|\bdate of birth\b|\ballerg(?:ic|y|ies)\b|\bdiabet|\basthma|\bdepress|\bdisabilit|\bautis|"
    r"\bdyslexi|\b(?:works?|working|employed) (?:as|at|for|in)\b|\b(?:her|his|their) (?:wife|husband|partner|son|"
    r"daughter|children|kids|mother|father|boss|job|salary|income|birthday|home|address)\b|\b(?:salary|income) of\b|"
    r"\bhas (?:an?|one|two|three|four|five|[0-9]) (?:young |small |teenage )?(?:sons?|daughters?|child(?:ren)?|kids?|"
    r"brothers?|sisters?)\b|\bvip since\b|[0-9一二三四五六七八九十]{1,3}[歳才]|在住|既婚|独身|生まれ|誕生日|生年月日|"
    r"アレルギー|[一二三四五0-9]人暮らし|家族構成|勤務|主婦|会社員|妊娠|の母|の父|息子|娘|年収|障害|通院",
    re.IGNORECASE,
)
_SAID_OF = re.compile(
    rf"(?<![A-Za-z])(?:the|this|our|my) {_WHO}(?: here)?,? "
    r"(?P<verb>(?:is|was|has|lives|works|suffers|resides|grew up|prefers)\b)"
    rf"|{_WHO_JAPANESE}は(?P<said>(?=[^\n]))",
    re.IGNORECASE,
)
_GATE = (
    *("customer", "shopper", "user", "client", "buyer", "member", "guest", "caller", "subscriber", "account", "about"),
    *("profile", "crm", "お客", "顧客", "ユーザ", "会員", "購入者", "利用者", "自己紹介"),
)
_BRACKET = re.compile(r"[\[\]{}]")
_WORD_CHARACTER = re.compile(r"[^\W_]")
_LONGEST = 20_000
_LONGEST_SENTENCE = 1_000
_KEY_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WHO_PARTS = frozenset(
    {"customer", "shopper", "user", "client", "buyer", "member", "guest", "caller", "subscriber", "person"}
)
_PROFILE_PARTS = frozenset({"profile", "persona", "bio", "biography", "demographics", "background"})
_NO_TEXT = frozenset({"id", "version", "url", "count"})
_KEYS = frozenset({"persona", "bio", "about_me", "aboutme", "demographics"})


def is_profile_key(key: str) -> bool:
    """Return whether a field of this name holds a text about one person: `customer_profile`, `userProfile`, `persona`.

    The last part of a dotted name counts, in any casing.
    """
    parts = [part.lower() for part in _KEY_PARTS.findall(key.rpartition(".")[2])]
    if "_".join(parts) in _KEYS:
        return True
    named = any(first in _WHO_PARTS and second in _PROFILE_PARTS for first, second in pairwise(parts))
    return named and parts[-1] not in _NO_TEXT


def find_profile_text(folded: str, text: str) -> Iterator[Detection]:
    """Yield texts about a customer in a folded text; `text` is the same one as it stands, with its placeholders."""
    lower = folded.lower()
    if not any(word in lower for word in _GATE):
        return
    # Each piece of text is looked at once: what a cue took, and what was found to be about nobody, is passed over.
    taken = about_nobody = 0
    for cue in _CUE.finditer(folded):
        label = _LABEL.match(folded, cue.end()) if cue.start() >= taken else None
        if label is None or (label["mark"] == ">" and folded[cue.start() - 1 : cue.start()] != "<"):
            continue
        sure = cue["strong"] is not None and label["mark"] in ":=>】"
        if text.startswith("[PROFILE", label.end()) or (_TO_THE_READER.match(folded, label.end()) and sure):
            continue
        if not sure and cue.start() < about_nobody:
            continue
        start, end = _extent(folded, label.end(), opened=label["mark"] == ">")
        if _is_description(folded, start, end) and (sure or _PERSONAL.search(folded, start, end) is not None):
            yield Detection(start, end, Kind.PROFILE, introduced=True)
            taken = end
        elif not sure:
            about_nobody = end
    yield from _said_of_customers(folded)


def _said_of_customers(folded: str) -> Iterator[Detection]:
    position = 0
    while (match := _SAID_OF.search(folded, position)) is not None:
        start = match.start("verb") if match["verb"] is not None else match.end()
        position = end = _sentence_end(folded, match.end(), min(len(folded), match.end() + _LONGEST_SENTENCE))
        asked = folded[start:end].endswith("?")
        if not asked and _is_description(folded, start, end) and _PERSONAL.search(folded, start, end) is not None:
            yield Detection(start, end, Kind.PROFILE, introduced=True)


def _is_description(folded: str, start: int, end: int) -> bool:
    return _WORD_CHARACTER.search(folded, start, end) is not None


def _extent(folded: str, start: int, *, opened: bool) -> tuple[int, int]:
    limit = min(len(folded), start + _LONGEST)
    if opened:
        closing = folded.find("</", start, limit)
        return start, limit if closing < 0 else _trimmed(folded, start, closing)
    if folded[start : start + 1] in ('"', "'", "「", "{", "["):
        closed = _closing(folded, start, limit)
        if closed is not None:
            return start + 1, closed
    end = start
    while end < limit:
        line_end = folded.find("\n", end, limit)
        line_end = limit if line_end < 0 else line_end
        line = folded[end:line_end]
        if not line.strip() or (end > start and _NEXT.match(line)):
            break
        before = end
        end = _declared(folded, end, line_end)
        if end < line_end or line_end == limit:
            break
        # A profile that began beside its label goes on below it only as a list.
        following = folded[line_end + 1 : line_end + 4].lstrip(" \t")
        if folded[before - 1 : before] != "\n" and not following.startswith(("-", "*", "•", "・")):
            break
        end = line_end + 1
    return start, _trimmed(folded, start, end)


def _declared(folded: str, start: int, line_end: int) -> int:
    """Return where the statements of a line end: before its first question, or what another label begins."""
    end = start
    while end < line_end:
        after = _sentence_end(folded, end, line_end)
        said = folded[end:after].strip()
        if said.endswith("?") or (end > start and _NEXT.match(said)):
            return end
        end = after
        while end < line_end and folded[end].isspace():
            end += 1
    return line_end


def _sentence_end(folded: str, start: int, limit: int) -> int:
    found = _SENTENCE_END.search(folded, start, limit)
    return limit if found is None else _trimmed(folded, start, found.end())


def _closing(folded: str, start: int, limit: int) -> int | None:
    opening = folded[start]
    if opening in "\"'「":
        closing = "」" if opening == "「" else opening
        place = start + 1
        while (place := folded.find(closing, place, limit)) >= 0:
            if folded[place - 1] != "\\" and not (opening == "'" and folded[place + 1 : place + 2].isalpha()):
                return place
            place += 1
        return None
    depth = 0
    for bracket in _BRACKET.finditer(folded, start, limit):
        depth += 1 if bracket.group() in "[{" else -1
        if depth == 0:
            return bracket.start()
    return None


def _trimmed(folded: str, start: int, end: int) -> int:
    while end > start and folded[end - 1].isspace():
        end -= 1
    return end
