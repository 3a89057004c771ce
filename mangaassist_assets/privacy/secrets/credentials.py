"""Secrets with a form: keys and tokens by their issuer's prefix, JWTs, private keys, headers, URLs and assignments.

The prefixes are those that the issuers document for secret scanning (GitHub's and gitleaks' lists name the same).
Lengths are the least that still say something, because a message may be cut off. A token without a prefix is one where
the words around it call it a key, token or secret and it looks drawn by chance.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator

from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.field_names import field_kind

# Japanese has no spaces: a boundary is one of ASCII words.
_FLAGS = re.IGNORECASE | re.ASCII
_NOT_BEFORE = r"(?<![A-Za-z0-9])"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def _token(prefix: str, rest: str) -> re.Pattern[str]:
    return re.compile(rf"{_NOT_BEFORE}{prefix}{rest}", _FLAGS)


# A literal that stands in every match, in lower case, then the pattern: where no literal is, no pattern is tried.
_ISSUED: tuple[tuple[str, re.Pattern[str]], ...] = (
    *(
        (prefix, _token(prefix, r"(?=[A-Z]{0,20}[0-9])[A-Z0-9]{12,}+"))
        for prefix in ("akia", "asia", "abia", "acca", "aroa", "aida", "ltai")
    ),
    ("fwogzxivyxdz", _token("FwoGZXIvYXdz", r"[\w+/=\-]{16,}+")),
    ("iqojb3jpz2lu", _token("IQoJb3JpZ2lu", r"[\w+/=\-]{16,}+")),
    ("absk", _token("ABSK", r"[A-Za-z0-9+/]{30,}+=*")),
    ("bedrock-api-key-", _token("bedrock-api-key-", r"[\w+/=\-]{16,}+")),
    *((f"gh{one}_", _token(f"gh{one}_", r"\w{10,}+")) for one in "pousr"),
    ("github_pat_", _token("github_pat_", r"\w{10,}+")),
    (
        "gl",
        _token(r"gl(?:pat|dt|ft|oas|ptt|rtr?|soat|cbt|agent|imt|ffct|wt)-", r"(?=[\w.\-]{0,40}[0-9_])[\w.\-]{12,}+"),
    ),
    ("gr1348941", _token("GR1348941", r"[\w\-]{12,}+")),
    ("xox", _token(r"xox[a-z](?:\.xox[a-z])?-", r"[A-Za-z0-9\-]{8,}+")),
    ("xapp-", _token(r"xapp-[0-9]-", r"[A-Za-z0-9\-]{8,}+")),
    ("hooks.slack.com/", _token(r"hooks\.slack\.com/(?:services|workflows|triggers)/", r"[\w/]{8,}+")),
    ("_live_", _token(r"(?:sk|rk|pk|whsec)_live_", r"\w{8,}+")),
    ("_test_", _token(r"(?:sk|rk|pk)_test_", r"\w{8,}+")),
    ("whsec_", _token("whsec_", r"[A-Za-z0-9+/=]{12,}+")),
    ("aiza", _token("AIza", r"[\w\-]{20,}+")),
    ("ya29.", _token(r"ya29\.", r"[\w\-.]{16,}+")),
    ("gocspx-", _token("GOCSPX-", r"[\w\-]{12,}+")),
    ("sk-", _token("sk-", r"(?=[A-Za-z_\-]{0,60}[0-9])[\w\-]{14,}+")),
    ("npm_", _token("npm_", r"(?=\w{0,40}[0-9])[A-Za-z0-9]{14,}+")),
    ("pypi-", _token("pypi-", r"(?=[\w\-]{0,60}[0-9])[\w\-]{16,}+")),
    ("sg.", _token(r"SG\.", r"[\w\-]{10,}+\.[\w\-]{10,}+")),
    ("ac", _token("AC", r"[0-9a-f]{32}(?![A-Za-z0-9])")),
    ("sk", _token("SK", r"[0-9a-f]{32}(?![A-Za-z0-9])")),
    (":aa", _token(r"[0-9]{7,11}:", r"AA[\w\-]{25,}+")),
    ("mfa.", _token(r"mfa\.", r"[\w\-]{20,}+")),
    ("api/webhooks/", _token(r"discord(?:app)?\.com/api/webhooks/", r"[0-9]{5,}/[\w\-]{8,}+")),
    ("key-", _token("key-", r"[0-9a-f]{32}(?![A-Za-z0-9])")),
    ("-us", re.compile(rf"{_NOT_BEFORE}[0-9a-f]{{32}}-us[0-9]{{1,2}}(?![A-Za-z0-9])")),
    ("sq0", _token(r"sq0[a-z]{3}-", r"[\w\-]{16,}+")),
    ("eaaa", _token("EAAA", r"[A-Za-z0-9_\-]{40,}+")),
    ("shp", _token(r"shp(?:at|ca|pa|ss)_", r"[0-9a-f]{16,}+")),
    ("_v1_", _token(r"do[oprt]_v1_", r"[0-9a-f]{16,}+")),
    ("hf_", _token("hf_", r"[A-Za-z0-9]{20,}+")),
    ("dapi", _token("dapi", r"[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])")),
    ("lin_api_", _token("lin_api_", r"[A-Za-z0-9]{16,}+")),
    ("ntn_", _token("ntn_", r"[A-Za-z0-9]{24,}+")),
    ("secret_", _token("secret_", r"(?=[A-Za-z]{0,40}[0-9])[A-Za-z0-9]{24,}+")),
    ("pmak-", _token("PMAK-", r"[0-9a-f\-]{24,}+")),
    ("hv", _token(r"hv[sbr]\.", r"[\w\-]{16,}+")),
    ("dp.", _token(r"dp\.(?:pt|st|ct|sa|scim|audit)\.", r"[\w.\-]{16,}+")),
    ("gl", _token(r"gl(?:sa|c)_", r"[A-Za-z0-9_=+/]{16,}+")),
    ("nra", _token(r"NRA[KAL]-", r"[A-Z0-9]{16,}+")),
    ("sntry", _token(r"sntry[su]_", r"[A-Za-z0-9+/=_]{16,}+")),
    ("at", _token(r"AT[ACB]TT3xFf", r"[\w\-=]{16,}+")),
    ("figd_", _token("figd_", r"[\w\-]{16,}+")),
    ("gsk_", _token("gsk_", r"[A-Za-z0-9]{20,}+")),
    ("xai-", _token("xai-", r"[A-Za-z0-9]{20,}+")),
    ("pplx-", _token("pplx-", r"[A-Za-z0-9]{20,}+")),
    ("r8_", _token("r8_", r"[A-Za-z0-9]{20,}+")),
    ("pcsk_", _token("pcsk_", r"\w{20,}+")),
    ("lsv2_", _token(r"lsv2_(?:pt|sk)_", r"\w{16,}+")),
    ("tvly-", _token("tvly-", r"[A-Za-z0-9\-]{16,}+")),
    ("dckr_pat_", _token("dckr_pat_", r"[\w\-]{16,}+")),
    (".atlasv1.", _token(r"[A-Za-z0-9]{10,20}\.atlasv1\.", r"[\w\-=]{16,}+")),
    ("rubygems_", _token("rubygems_", r"[0-9a-f]{16,}+")),
    ("sbp_", _token("sbp_", r"[0-9a-f]{16,}+")),
    ("pscale_", _token(r"pscale_(?:tkn|pw|oauth)_", r"[\w.\-]{16,}+")),
    ("xkeysib-", _token("xkeysib-", r"[A-Za-z0-9\-]{16,}+")),
    ("ops_eyj", _token("ops_eyJ", r"[A-Za-z0-9+/=]{16,}+")),
    ("age-secret-key-1", _token("AGE-SECRET-KEY-1", r"[A-Z0-9]{16,}+")),
    ("access_token$", _token(r"access_token\$production\$", r"[A-Za-z0-9$]{16,}+")),
    ("eyj", _token("eyJ", r"[\w\-]{8,}+\.[\w\-]*+(?:\.[\w\-]*+){0,3}")),
)
# Discord's bots: the number of the bot in Base64, the time, a keyed hash. No literal to look for but its two points.
_DISCORD = re.compile(r"(?<![\w.\-])[MNO][A-Za-z0-9_\-]{22,28}\.[A-Za-z0-9_\-]{5,7}\.[A-Za-z0-9_\-]{25,}+", re.ASCII)

_PEM_BEGIN = re.compile(r"-{4,5}[ ]?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?[ ]?(?:-{1,5})?", _FLAGS)
_PEM_END = re.compile(r"-{4,5}[ ]?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?[ ]?-{0,5}", _FLAGS)
_PEM_GAP = r"(?:\s|\\[rn]|[>|]|\ue000)"
_PEM_BODY = re.compile(
    rf"(?:{_PEM_GAP}*+(?:[A-Za-z0-9+/=]{{16,}}+|[A-Za-z0-9+/]{{1,15}}={{1,2}}|"
    rf"(?<=[\sn])(?=(?:[a-z]{{0,15}}[A-Z0-9+/]){{2}})[A-Za-z0-9+/]{{4,15}}+|"
    rf"(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash):[^\n\\]{{0,200}}))++",
    re.ASCII,
)
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
_SHORTEST_LINE = 16
_LONGEST_PEM = 20_000

_SCHEME = r"(?:bearer|basic|token|api-?key|digest|negotiate|hmac|aws4-hmac-sha256)"
_HEADER = re.compile(
    rf"\b(?:proxy-)?authori[sz]ation\b[\\\"']{{0,3}}[ \t]{{0,3}}[:=][ \t]{{0,3}}[\[{{(]?[\\\"']{{0,3}}"
    rf"(?P<value>(?:{_SCHEME}[ :]{{1,3}}[^\s\"'\\,;\ue000]{{3,}}+|"
    rf"(?=[^\s\"']{{0,60}}[0-9_])[^\s\"'\\,;\ue000]{{12,}}+))",
    _FLAGS,
)
_SIGNED_HEADER = re.compile(
    r"\bauthorization\b[\"']?[ ]?[:=][ ]{0,2}[\"']?(?P<value>(?:AWS4-HMAC-SHA256|Digest|OAuth)\b[^\n\"']{8,600})",
    _FLAGS,
)
_BEARER = re.compile(
    r"\bbearer[ \t:]{1,3}[\"']?(?P<value>(?=[^\s\"']{0,60}[0-9_])[\w.~+/=\-]{8,}+|[\w.~+/=\-]{24,}+)", _FLAGS
)
_BASIC = re.compile(r"\bbasic[ \t:]{1,3}[\"']?(?P<value>[A-Za-z0-9+/]{6,}+={0,2})", _FLAGS)

# What stands before the last @ of an authority: of a URL or a connection string. The user may stay, the rest not.
_URL = re.compile(
    r"(?<![A-Za-z0-9+.\-])[A-Za-z][A-Za-z0-9+.\-]{1,30}://(?:[^\s/:@?#\"'<>\ue000]{0,100}+:"
    r"(?P<password>[^\s/?#\"'<>\ue000]{1,200})|(?P<token>(?=[^\s/:@]{0,60}[0-9])[^\s/:@?#\"'<>\ue000]{12,200}+))@",
    re.ASCII,
)
_PARAMETER = re.compile(r"[?&;#](?P<name>[\w.%\-\[\]]{1,60}+)=(?P<value>[^\s&;#\"'<>)\]\ue000]{3,}+)", re.ASCII)
_PARAMETERS = frozenset(
    {"token", "sig", "signature", "key", "auth", "pass", "pw", "jwt", "sid", "session", "sessionid", "ticket", "code"}
)

# Behind a tight sign or in quotation marks a value may be any word; elsewhere it is one of a sentence, perhaps.
_ASSIGNED = re.compile(
    r"(?<![\w.\-/])(?:--?)?(?P<name>[A-Za-z][\w.\-]{1,60}+)[\\\"']{0,3}(?P<sign>[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3})"
    r"[\[(]?(?:\\?[\"'](?P<quoted>[^\"'\\\n\ue000]{3,300}+)|(?P<value>[^\s\"'\\<>\ue000]{3,}+))",
    re.ASCII,
)
_FLAG = re.compile(
    r"(?<![\w\-])--?(?P<name>[A-Za-z][\w\-]{2,40}+)[ ](?P<value>[^\s\"'\-\ue000][^\s\"'\ue000]{3,}+)", re.ASCII
)
_COOKIE = re.compile(
    r"\b(?:set-)?cookies?[\"']?[ ]?[:=][ ]{0,2}[\"']?(?P<value>[^\s=;\"'\ue000]{1,60}+=[^\n\"'\ue000]{3,2000})", _FLAGS
)
_CONNECTION = re.compile(
    r"\b(?:password|pwd|accountkey|sharedaccesskey|sharedaccesssignature|secret|accesskey)[ ]?=[ ]?"
    r"(?P<value>[^\s;\"'\ue000]{3,}+)",
    _FLAGS,
)

_CALLED = re.compile(
    r"\b(?:api|access|secret|private|licen[cs]e|activation|product|encryption|ssh|auth|session|refresh|client|"
    r"security|signing|webhook|bot|app|account|service|master|personal|deploy)[ _\-]?(?:access[ _\-]?)?"
    r"(?:keys?|tokens?|secrets?)\b|\b(?:keys?|tokens?|secrets?|credentials?|apikey)\b|キー|鍵|トークン|シークレット|認証情報",
    _FLAGS,
)
_DRAWN = re.compile(r"(?<![\w+/.\-])[A-Za-z0-9+/_.\-]{8,300}+={0,2}", re.ASCII)
# A hash, a number or a code of the trade is none, whatever stands further on.
_IS_AN_ID = re.compile(
    r"(?:\b(?:traces?|spans?|requests?|orders?|isbn|jan|ean|upc|asin|sku|commit|sha[\d\-]*|digest|chunks?|tracking|"
    r"versions?|models?|products?|items?|sessions?|file|page|uuid|id)\b[ #:=]{0,3}(?:is |id |no\.? |number |code ){0,2}"
    r"[ #:=]{0,2}|[=/])\Z",
    _FLAGS,
)
_UUID_FORM = re.compile(_UUID, _FLAGS)
_NEAR = 60
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])", re.ASCII)
_AWS_NEAR = 300
_GATE = ("key", "token", "secret", "credential", "キー", "鍵", "トークン", "シークレット", "認証情報")
_ASSIGNMENTS = (
    "key",
    "tok",
    "secret",
    "pass",
    "pwd",
    "auth",
    "cred",
    "cookie",
    "jwt",
    "otp",
    "cvv",
    "cvc",
    "bearer",
    "sign",
)


def find_credentials(text: str, lower: str) -> Iterator[Detection]:
    """Yield secrets of a folded text; `lower` is the same text in lower case."""
    for literal, pattern in _ISSUED:
        if literal in lower:
            yield from _all(pattern, text)
    if text.count(".") >= 2:
        yield from _all(_DISCORD, text)
    for words, finder in _FINDERS:
        if any(word in lower for word in words):
            yield from finder(text)


def _all(pattern: re.Pattern[str], text: str) -> Iterator[Detection]:
    group: str | int = "value" if "value" in pattern.groupindex else 0
    for match in pattern.finditer(text):
        yield _secret(match, group)


def _secret(match: re.Match[str], group: str | int) -> Detection:
    start, end = match.span(group)
    while end > start + 1 and match.string[end - 1] in ".,;":
        end -= 1
    return Detection(start, end, Kind.SECRET)


def _headers(text: str) -> Iterator[Detection]:
    yield from _all(_HEADER, text)
    yield from _all(_SIGNED_HEADER, text)


def _basic(text: str) -> Iterator[Detection]:
    yield from (one for one in _all(_BASIC, text) if _is_user_and_password(text[one.start : one.end]))


def _urls(text: str) -> Iterator[Detection]:
    for match in _URL.finditer(text) if "@" in text else ():
        yield _secret(match, "password" if match["password"] is not None else "token")


def _private_keys(text: str) -> Iterator[Detection]:
    """Yield private keys, whole or cut off at either end."""
    ends = list(_PEM_END.finditer(text))
    closing, position = 0, 0
    for begin in _PEM_BEGIN.finditer(text):
        if begin.start() < position:
            continue
        while closing < len(ends) and ends[closing].start() < begin.end():
            closing += 1
        if closing < len(ends) and ends[closing].start() <= begin.end() + _LONGEST_PEM:
            position = ends[closing].end()
        else:
            body = _PEM_BODY.match(text, begin.end())
            position = begin.end() if body is None else body.end()
        yield Detection(begin.start(), position, Kind.SECRET)
    position = 0
    for end in ends:
        start = _tail_start(text, max(position, end.start() - _LONGEST_PEM), end.start())
        position = end.end()
        yield Detection(start, position, Kind.SECRET)


def _tail_start(text: str, low: int, end: int) -> int:
    """Return where the lines of Base64 begin that end at `end`; only the last of them may be short."""
    place = end
    while place > low:
        stop = place
        while stop > low and text[stop - 1].isspace():
            stop -= 1
        start = stop
        while start > low and text[start - 1] in _BASE64:
            start -= 1
        if start == stop or (stop - start < _SHORTEST_LINE and place != end):
            break
        place = start
    return place


def _aws_secrets(text: str) -> Iterator[Detection]:
    """Yield the forty characters of a secret access key beside the id of the key, or a word for it."""
    cues = [match.span() for match in re.finditer(r"(?:AKIA|ASIA)[A-Z0-9]{12,}|\baws\b|aws_", text, _FLAGS)]
    cue = 0
    for match in _AWS_SECRET.finditer(text):
        while cue < len(cues) and cues[cue][1] < match.start() - _AWS_NEAR:
            cue += 1
        near = cue < len(cues) and cues[cue][0] < match.end() + _AWS_NEAR
        if near and _is_mixed(match.group()):
            yield Detection(*match.span(), Kind.SECRET)


def _is_mixed(value: str) -> bool:
    """Return whether a value has small and capital letters, as no hexadecimal hash and no file name in capitals has."""
    return not value.islower() and not value.isupper() and len(set(value)) > 8


def _is_user_and_password(value: str) -> bool:
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False


def _parameters(text: str) -> Iterator[Detection]:
    for match in _PARAMETER.finditer(text):
        name = match["name"].lower()
        known = field_kind(match["name"]) is Kind.SECRET
        if known or (name in _PARAMETERS and (len(match["value"]) >= 16 or name not in {"code", "key"})):
            yield _secret(match, "value")


def _assignments(text: str) -> Iterator[Detection]:
    """Yield the values of what is written as in a program: `API_KEY=…`, `"clientSecret": "…"`, `--password …`."""
    for match in _ASSIGNED.finditer(text):
        if field_kind(match["name"]) is Kind.SECRET:
            if match["quoted"] is not None:
                yield _secret(match, "quoted")
            elif match["sign"] == "=" or not _is_word(match["value"]):
                yield _secret(match, "value")
    for match in _FLAG.finditer(text):
        if field_kind(match["name"]) is Kind.SECRET:
            yield _secret(match, "value")
    yield from _all(_CONNECTION, text)
    yield from _all(_COOKIE, text)


def _is_word(value: str) -> bool:
    """Return whether a value may be a word of a sentence ("authorization: please")."""
    plain = value.strip(".,;:!?)('")
    return len(plain) < 4 or plain.isalpha()


def _drawn(text: str) -> Iterator[Detection]:
    """Yield what looks drawn by chance next to a word that says key, token or secret."""
    cues = [match.span() for match in _CALLED.finditer(text)]
    cue = 0
    for match in _DRAWN.finditer(text) if cues else ():
        while cue < len(cues) and cues[cue][1] < match.start() - _NEAR:
            cue += 1
        if cue == len(cues):
            return
        start, end = cues[cue]
        value = match.group().strip(".=-")
        if start >= match.end() + _NEAR // 2 or not _is_drawn(
            value, called=" " in text[start:end] and end <= match.start()
        ):
            continue
        if "\n" in text[end : match.start()].strip() or _IS_AN_ID.search(
            text, max(0, match.start() - 24), match.start()
        ):
            continue
        yield Detection(*match.span(), Kind.SECRET)


def _is_drawn(value: str, *, called: bool) -> bool:
    """Return whether a value looks drawn by chance; one that is called a key of a kind may be shorter."""
    digits = sum(one.isdigit() for one in value)
    letters = sum(one.isalpha() for one in value)
    if digits < 2 or letters < 2 or len(value) < (10 if called else 20):
        return False
    if "/" in value and value.count("/") > 3:
        return False
    # The entropy of n characters is at most log2 n: a short one is measured by what it could have.
    return _entropy(value) >= min(3.2, 0.8 * math.log2(len(value)))


def _entropy(value: str) -> float:
    """Return Shannon's entropy in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


# Words in lower case, one of which is in every match, and the finder.
_FINDERS: tuple[tuple[tuple[str, ...], Callable[[str], Iterator[Detection]]], ...] = (
    (("private key",), _private_keys),
    (("akia", "asia", "aws"), _aws_secrets),
    (("authori",), _headers),
    (("bearer",), lambda text: _all(_BEARER, text)),
    (("basic",), _basic),
    (("://",), _urls),
    (("=",), _parameters),
    (_ASSIGNMENTS, _assignments),
    (_GATE, _drawn),
)
