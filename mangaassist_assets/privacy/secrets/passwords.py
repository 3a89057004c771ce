"""Passwords, PINs and one-time codes that a sentence tells: "my password is …", "pw = …", 「パスワードは…です」.

What a sentence says *about* a password is no password: "my password is wrong", 「パスワードを忘れました」. Words that
go on such a sentence are no value; what else stands behind the link is one, for a password may be any word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.names.common_words import word_set

# Japanese has no spaces: a boundary is one of ASCII words.
_FLAGS = re.IGNORECASE | re.ASCII
_NOUN = (
    r"(?:pass[ \-]?(?:word|wrod|phrase|code|wd)s?|pas?sw(?:or|ro|o)d|passowrd|passwd|p/?w|pwd|"
    r"log[ \-]?in (?:code|word)|(?:wi-?fi|network|access|unlock|screen|entry|door) (?:key|code))"
)
_CODE = (
    r"(?:(?:my|the|your|our|card|bank|debit|credit|atm|sim|security|account|phone|parental|door|4[ \-]digit|"
    r"four[ \-]digit)[ ]pin|pin(?:[ \-]?(?:code|number|no\.?))|\bpin(?=[ ]?[:=])|otp|totp|"
    r"one[ \-]time (?:code|password|passcode|pin)|(?:verification|confirmation|2fa|mfa|two[ \-]factor|authentication|"
    r"login|log[ \-]in|sign[ \-]in|sms|security|recovery|backup|reset|unlock|access)[ \-](?:code|number|key))"
)
_GAP = (
    r"(?:[ ](?:for|on|of|to|at|with|my|the|your|our|this|that|which|i|we|you|use|used|using|set|have|had|chose|picked|"
    r"typed|entered|gave|got|account|login|log|in|store|app|site|website|shop|web|e-?mail|mail|profile|amazon|page|"
    r"new|old|current|temporary|first|second|last|now|here|currently|manga|mangaassist|assist|user|username|"
    r"computer|laptop|phone|wifi|wi-fi|and username|again)\b){0,6}?"
)
_VALUE = r"[^\s\ue000]"
_SAYS = r"(?:is|was|were|are|will be|should be|must be|used to be|being|equals|reads|=|:|->|=>|→|-)"
_STATED = re.compile(
    rf"(?<![A-Za-z]){_NOUN}(?:'s)?{_GAP}[ \t]{{0,3}}[\\\"'`*)]{{0,3}}(?P<link>[ \t]{{0,3}}{_SAYS}(?![A-Za-z]))"
    rf"(?:[ \t]{{0,3}}(?:is|still|now|just|actually|always|really|also|:))?[ \t]{{0,3}}(?:\n[ \t]{{0,3}})?"
    rf"[\[(<\\]?(?:(?P<quote>[\"'`“「『])(?P<quoted>[^\"'`”」』\n\ue000]{{1,100}})[\"'`”」』]|(?P<value>{_VALUE}{{2,200}}+))",
    _FLAGS,
)
_CHANGED = re.compile(
    rf"\b(?:change|changed|set|reset|update|updated|make|made|switch(?:ed)?|turn(?:ed)?)\b[^.!?\n\ue000]{{0,30}}?"
    rf"(?<![A-Za-z]){_NOUN}"
    rf"{_GAP}(?:[ ]from[ ](?P<old>[\"'`]?{_VALUE}{{3,100}}+))?[ ](?:to|into|as|be|from)(?:[ ]be)?[ ][\"'`]?"
    rf"(?P<value>{_VALUE}{{3,200}}+)",
    _FLAGS,
)
_NAMED = re.compile(
    rf"(?<![A-Za-z]){_NOUN}[ \t]{{1,3}}[\"'`(]?(?P<value>(?=[^\s\ue000]{{0,60}}[0-9!@#$%^&*_+])"
    rf"(?=[^\s\ue000]{{0,60}}[A-Za-z0-9]){_VALUE}{{4,200}}+)",
    _FLAGS,
)
_BEFORE = re.compile(
    rf"(?<![^\s\"'`(])(?P<value>{_VALUE}{{4,200}}+)[\"'`]?[ ](?:(?:is|was|as|for)[ ](?:my|the|our|his|her|a)|as)[ ]"
    rf"(?:[a-z]{{2,10}}[ ]){{0,2}}?(?:{_NOUN}|pin)(?![A-Za-z])",
    _FLAGS,
)
_CODE_STATED = re.compile(
    rf"(?<![A-Za-z]){_CODE}{_GAP}(?:[ \t]{{0,3}}(?:is|was|reads|are|[:=#-])){{0,2}}[ \t]{{0,3}}(?:\n[ \t]{{0,3}})?"
    r"[\"'`(]?(?P<value>(?:[0-9][ \-]?){3,9}[0-9](?![0-9])(?![ ]?(?:yen|euros?|eur|dollars?|usd|gbp|pounds|"
    r"volumes?|times|copies|digits?|characters?|%|€|\$|円))"
    r"|(?=[A-Za-z\-]{0,20}[0-9])(?=[0-9\-]{0,20}[A-Za-z])[A-Za-z0-9\-]{6,60}+)",
    _FLAGS,
)
_PHRASE = re.compile(
    r"\b(?:seed|recovery|mnemonic|backup|secret)[ ](?:phrase|words)\b(?:[ ](?:is|are))?[ ]?[:=]?[ \t\n]{0,3}"
    r"(?P<value>[a-z]{3,8}(?:[ ,]{1,2}[a-z]{3,8}){5,23})",
    _FLAGS,
)
_PAIR = re.compile(
    r"\b(?:log[ \-]?in|sign[ \-]?in|creds?|credentials?|account|user(?:name)?)\b(?:[ ](?:details?|data|info|are|"
    r"is|with|as|and pass(?:word)?|/[ ]?pass(?:word)?)){0,2}[ ]?[:=]?[ ]"
    r"[^\s/:\ue000]{2,60}+(?:[ ]?[/:|][ ]?|[ ](?:and|with)[ ])"
    r"(?P<value>(?=[^\s\ue000]{0,60}[0-9!@#$%^&*_+])[^\s/\ue000]{5,100}+)",
    _FLAGS,
)
# Words that go on a sentence about a password.
_NO_VALUE = word_set(
    "not no wrong incorrect invalid expired too very so still never always being reset required needed forgotten lost "
    "the a an my your our his her their in on at of for with without what where how why who whom which when whether "
    "it its this that these those there here same correct right fine ok okay good bad weak strong secure safe short "
    "long saved stored changed set sent shown visible hidden accepted rejected refused denied working failing broken "
    "blocked locked unknown missing empty blank case different like just only now also already really supposed asking "
    "going getting coming compromised leaked stolen hacked exposed protected encrypted me you us them him someone "
    "anyone something anything nothing everything please help be been have has had get got do does did doesn't don't "
    "didn't isn't wasn't won't can't cannot can could would should will may might must log login sign access enter "
    "open see update change unlock recover resetting changing typing entering and or but if as to from by i i'm we he "
    "she they all any some more most less than then again yet once twice because since until while after before "
    "impossible possible easy hard difficult simple useless private confidential mandatory optional unsafe insecure "
    "old new temporary default known unclear unreadable undefined null none nil true false somewhere nowhere "
    "everywhere gone mine yours ours theirs thanks thank sorry hello hi yes case-sensitive up out off down about over "
    "under into through per via forgot forget remember remembered recognized recognised considered displayed masked "
    "valid necessary important special characters letters digits words link links page email button field form box "
    "screen option menu policy manager generator recovery strength length problem problems issue issues trouble error "
    "errors failed fails works work worked n't supposedly apparently probably maybe perhaps almost nearly exactly "
    "basically definitely literally absolutely completely totally"
)
_ABOUT = re.compile(r"(?:[a-z'-]{3,}(?:ing|ed|ly))|[0-9]{1,2}|[0-9]+(?:\+|-[0-9]+)?(?=[ ])", _FLAGS)
_MEASURED = re.compile(
    r"[ ](?:characters?|chars?|letters?|digits?|symbols?|words?|signs?|days?|hours?|minutes?|times?|years?)\b", re.ASCII
)
_STRIP = "\"'`”」』)]}>,;"
_SHORTEST_PHRASE, _WORDS_OF_A_PHRASE = 3, 8
_NEXT_WORD = re.compile(r"[ ]?(?<![A-Za-z])([A-Za-z]{2,15})(?=[ .,!?\n]|\Z)", re.ASCII)

_NOUN_JAPANESE = (
    "(?:パスワード|パスコード|パスフレーズ|ぱすわーど|暗証番号|暗証コード|暗証|合言葉|合い言葉|ワンタイム(?:コード|パス)|"
    "(?:認証|確認|ログイン|セキュリティ)(?:コード|番号)|PIN(?:コード|番号)?|ピン(?:コード|番号)|(?:API|シークレット|アクセス|秘密)"
    "(?:キー|鍵)|トークン|PW)"
)
_LINK_JAPANESE = r"(?:(?:です|の)?[ ]?(?:は|が|を|って|とは|:|=|→|->|、|「|『|\"|\()){1,4}[ ]?"
_STATED_JAPANESE = re.compile(
    rf"{_NOUN_JAPANESE}(?:[^\s。、はがを:=「\ue000]{{0,6}})?(?:{_LINK_JAPANESE}|[ ]{{1,2}}|(?=[!-~]{{4}}))"
    r"[「『\"'(]{0,2}(?:(?:今|現在|以前|いま)は)?(?P<value>[!-~]{3,200}+|"
    r"(?P<word>[ぁ-んァ-ヶー一-龠々]{2,16}?)"
    r"(?=(?P<after>[ ]?(?:です|でした|だ(?:った)?(?:[。、 ]|\Z)|"
    r"にしてい|に変更|に設定|[」』]|でログイン|と入力|を入力))))",
    _FLAGS,
)
_BEFORE_JAPANESE = re.compile(
    rf"(?P<value>[!-~]{{4,200}}+)[」』\"')]?(?:が|は|を|という|って)[^\s。]{{0,8}}?{_NOUN_JAPANESE}(?=です|だ|に|と|で)"
)
_NO_VALUE_JAPANESE = re.compile(
    r"\A[おご]|何|なん|なに|どれ|どこ|どう|いつ|忘|間違|まちが|変|違|ちが|必要|再|正し|無効|有効|同じ|こちら|以下|以上|不明|分か|わか|入力|設定|届|来|合|一致|"
    r"長|短|英|半角|全角|数字|文字|桁|知|教|確認|大丈夫|安全|危険|秘密|大切|重要|記号|通ら|使え|使う|入れ|入ら|リセット|ロック|エラー|"
    r"メール|ページ|画面|リンク|今|まだ|もう|すぐ|なぜ|覚え|登録|ある|ない|なし|アカウント|ログイン|期限|失効|保存|表示"
)
_MEASURED_JAPANESE = re.compile(r"[0-9]{1,3}(?:[-~][0-9]{1,3})?(?:文字|桁|字|回|個|種類|日|時間|分|円|巻)")
_GATE = re.compile(
    r"pas|pwd|\bp/?w\b|\bpin|otp|code|wi-?fi|key|phrase|words|log|sign|cred|user|account|verification|recovery|パス|ぱす|"
    r"暗証|合言葉|合い言葉|コード|番号|ピン|キー|鍵|トークン",
    re.ASCII,
)


def find_passwords(text: str, lower: str) -> Iterator[Detection]:
    """Yield what a folded text tells of passwords and codes; `lower` is the same text in lower case."""
    if not _GATE.search(lower):
        return
    for match in _STATED.finditer(text):
        yield from _stated(text, match)
    for pattern in (_CHANGED, _NAMED, _BEFORE):
        for match in pattern.finditer(text):
            if (found := _value(text, match)) is not None:
                yield found
            if match.groupdict().get("old") is not None:
                yield Detection(*match.span("old"), Kind.SECRET)
    for pattern in (_CODE_STATED, _PHRASE, _PAIR):
        for match in pattern.finditer(text):
            yield Detection(*match.span("value"), Kind.SECRET)
    if not text.isascii():
        yield from _japanese(text)


def _stated(text: str, match: re.Match[str]) -> Iterator[Detection]:
    if match["quoted"] is not None:
        yield Detection(*match.span("quoted"), Kind.SECRET)
        return
    labelled = match["link"].strip() in {":", "="}
    phrase = _end_of_phrase(text, match.start("value")) if labelled else None
    if phrase is not None:
        yield Detection(match.start("value"), phrase, Kind.SECRET)
    elif (found := _value(text, match)) is not None:
        yield found


def _value(text: str, match: re.Match[str]) -> Detection | None:
    """Return a stated value without the sentence's signs; None where it is a word about a password."""
    start, end = match.span("value")
    while start < end and text[start] in "\"'`(<[{“":
        start += 1
    while end > start and (text[end - 1] in _STRIP or (text[end - 1] == "." and end - start > 1)):
        end -= 1
    value = text[start:end]
    word = value.strip("!?.:*").lower()
    if len(word) < 2 or word in _NO_VALUE or word.split("'")[0] in _NO_VALUE or _ABOUT.fullmatch(word):
        return None
    if value.isdigit() and _MEASURED.match(text, end):
        return None
    return Detection(start, end, Kind.SECRET)


def _end_of_phrase(text: str, start: int) -> int | None:
    """Return the end of a pass phrase that fills a line: "password: correct horse battery staple"."""
    end, words = start, 0
    while (following := _NEXT_WORD.match(text, end)) is not None and words < _WORDS_OF_A_PHRASE:
        # One word of a sentence may be in it, but none that only a sentence has.
        if words and following[1].lower() in _NO_VALUE:
            return None
        end, words = following.end(), words + 1
    return end if words >= _SHORTEST_PHRASE and (end == len(text) or text[end] in "\n.!?") else None


def _japanese(text: str) -> Iterator[Detection]:
    for match in _STATED_JAPANESE.finditer(text):
        start, end = match.span("value")
        if match["word"] is not None:
            if match["after"] in {"」", "』"} or not _NO_VALUE_JAPANESE.search(match["word"]):
                yield Detection(start, end, Kind.SECRET)
            continue
        if _MEASURED_JAPANESE.match(text, start):
            continue
        while end > start and text[end - 1] in "\"')(,;:.":
            end -= 1
        if end - start >= 3:
            yield Detection(start, end, Kind.SECRET)
    for match in _BEFORE_JAPANESE.finditer(text):
        yield Detection(*match.span("value"), Kind.SECRET)
