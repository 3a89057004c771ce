"""What people say of themselves: age, date of birth, work, health.

Only statements in the first person, or dates that are called a birthday, are personal here. "Volume 34", "rated 16+"
and "my 8 year old likes dragons" are shop talk: an unnamed child's age is what the recommendation needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mangaassist_assets.privacy.detections import Detection, Kind

_SELF = r"(?:\bi(?:'?m| am)|\bme,)"
_YEARS = r"[0-9]{1,3}(?:[ \-]?(?:years?|yrs?)(?:[ \-]old|[ \-]of[ \-]age)?|[ ]?y/?o)\b"
_WORK = (
    "nurse|teacher|doctor|engineer|programmer|developer|lawyer|student|accountant|designer|artist|driver|chef|cook|"
    "manager|librarian|pharmacist|dentist|soldier|pilot|electrician|plumber|carpenter|mechanic|cashier|waiter|waitress|"
    "barista|cleaner|secretary|receptionist|journalist|writer|editor|translator|photographer|musician|actor|actress|"
    "scientist|researcher|professor|analyst|consultant|architect|farmer|firefighter|paramedic|therapist|psychologist|"
    "social worker|police officer|civil servant|housewife|freelancer|veterinarian|surgeon|physician|midwife|banker|"
    "salesman|saleswoman|salesperson|technician|welder|gardener|hairdresser|baker|butcher|bartender|tutor|lecturer"
)
_AGE = re.compile(
    rf"{_SELF}[ ](?:just |only |already |"
    rf"now )?(?:an? )?(?P<value>{_YEARS}(?:[ ](?:\w{{2,12}}[ ]){{0,2}}?(?:{_WORK})\b)?)",
    re.IGNORECASE,
)
_AGE_SHORT = re.compile(rf"{_SELF}[ ](?P<value>[1-9][0-9])(?=\s*(?:[.,!;)]|\Z|and\b))(?!\s*,\s*[0-9])", re.IGNORECASE)
_AGE_NAMED = re.compile(r"\bmy age(?:[ ]is|:)?[ ]{1,2}(?P<value>[0-9]{1,3})(?![0-9])", re.IGNORECASE)
_JOB = re.compile(
    rf"(?:{_SELF}[ ]an?|\bi work as an?|\bmy (?:job|occupation|profession) is(?: an?)?)[ ]"
    rf"(?P<value>(?:(?!fan\b|reader\b|collector\b)\w{{2,14}}[ ]){{0,2}}?(?:{_WORK}))\b",
    re.IGNORECASE,
)
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
_DATE = (
    rf"(?:[0-9]{{1,4}}[/.\-][0-9]{{1,2}}[/.\-][0-9]{{1,4}}|[0-9]{{1,2}}(?:st|nd|rd|"
    rf"th)?(?: of)?[ ](?:{_MONTH})\b(?:,?[ ][0-9]{{4}})?"
    rf"|(?:{_MONTH})[ ][0-9]{{1,2}}(?:st|nd|rd|th)?\b(?:,?[ ][0-9]{{4}})?|(?:in[ ])?(?:19|20)[0-9]{{2}}\b)"
)
_BIRTH = re.compile(
    rf"(?:\b(?:date of birth|birth ?date|birthday|dob|d\.o\.b\.?)\b[^0-9\n]{{0,20}}?|\bborn (?:on|"
    rf"in)[ ](?:the )?)(?P<value>{_DATE})",
    re.IGNORECASE,
)
_ILLNESS = (
    "diabetes|diabetic|asthma|epilepsy|epileptic|cancer|depression|anxiety|adhd|autis(?:m|tic)|dyslexi[ac]|arthritis|"
    "migraines?|hiv|leukemia|lupus|crohn'?s|parkinson'?s|multiple sclerosis|ptsd|bipolar|schizophreni[ac]|anorexia|"
    "celiac|coeliac|hypertension|insomnia|colou?r ?blind|pregnant|wheelchair user|deaf|blind"
)
_HEALTH = re.compile(
    rf"(?:{_SELF}|\bi (?:have|suffer from|live with|was diagnosed with|got diagnosed with)|\bi've (?:got|"
    rf"been diagnosed with))[ ]"
    rf"(?:been |an? |also |legally |severe |chronic |type [12] ){{0,2}}(?P<value>(?:{_ILLNESS}))\b",
    re.IGNORECASE,
)
_ALLERGENS = (
    "(?:pea|wal|hazel|tree )?nuts?|almonds?|milk|dairy|lactose|gluten|wheat|eggs?|fish|shellfish|seafood|shrimps?|"
    "soya?|sesame|latex|pollen|dust|mou?ld|cats?|dogs?|bees?|wasps?|penicillin|aspirin|ibuprofen|paper|ink|glue|perfumes?"
)
_ALLERGY = re.compile(
    rf"\ballergic to (?P<value>(?:{_ALLERGENS})(?:(?:, | and | or )(?:{_ALLERGENS}))?)\b", re.IGNORECASE
)
_WORK_JAPANESE = (
    "看護師|教師|先生|医者|医師|会社員|公務員|主婦|主夫|大学生|高校生|中学生|小学生|大学院生|学生|エンジニア|"
    "プログラマー|デザイナー|"
    "弁護士|薬剤師|保育士|介護士|美容師|運転手|店員|農家|漁師|警察官|消防士|自営業|フリーター|アルバイト|無職|"
    "イラストレーター|調理師"
)
_NUMBER = "[0-9一二三四五六七八九十]{1,3}"
_YEAR = "(?:大正|昭和|平成|令和)?[0-9〇一二三四五六七八九十元]{1,4}"
_AGE_JAPANESE = re.compile(
    rf"(?P<value>{_NUMBER}[歳才](?:の(?:男性|女性|{_WORK_JAPANESE}))?)(?=です|で[、。 ]|になり|になる|なのです|"
    rf"なので|なんです|だ[。、]|、(?:男性|女性)|の母|の父)"
)
_AGE_OF_SELF = re.compile(
    rf"(?:(?:\A|[。!?\n])(?=[0-9]{{2}}[歳才]、)|私は|僕は|俺は|わたしは|年齢は|自分は)(?P<value>{_NUMBER}[歳才](?:の(?:男性|女性|{_WORK_JAPANESE}))?)"
)
_AGE_AND_WORK = re.compile(rf"(?P<value>{_NUMBER}[歳才]の(?:{_WORK_JAPANESE}))(?=です|で|をして|だ|と)")
_JOB_JAPANESE = re.compile(
    rf"(?:私は|僕は|職業は|仕事は)[^\s、。]{{0,6}}?(?P<value>{_WORK_JAPANESE})|"
    rf"(?P<work>{_WORK_JAPANESE})(?:をしています|をしております|として働)"
)
_BIRTH_JAPANESE = re.compile(
    rf"(?:生年月日|誕生日)(?:は|が|:|、)?[ ]?(?P<value>(?:{_YEAR}[年/\-.])?[ ]?{_NUMBER}[月/\-.]{_NUMBER}日?)"
    rf"|(?P<birth>{_YEAR}年(?:{_NUMBER}月(?:{_NUMBER}日)?)?)(?=の?生まれ)"
)
_HEALTH_JAPANESE = re.compile(
    r"(?P<value>糖尿病|喘息|てんかん|うつ病|鬱病|がん|癌|発達障害|自閉症|弱視|色覚異常|高血圧|妊娠中|"
    r"アレルギー)(?=があ|を患|で通院|で入院|と診断|を持|です|なので|なんです|持ち)"
    r"|(?P<allergy>[^\s、。はがも]{1,8}アレルギー)"
)

_ENGLISH = (_AGE, _AGE_SHORT, _AGE_NAMED, _JOB, _BIRTH, _HEALTH, _ALLERGY)
_JAPANESE = (_AGE_JAPANESE, _AGE_OF_SELF, _AGE_AND_WORK, _JOB_JAPANESE, _BIRTH_JAPANESE, _HEALTH_JAPANESE)
_GATE = (
    "i'm",
    "im ",
    "i am",
    "me,",
    "my age",
    "my job",
    "my occ",
    "my prof",
    "birth",
    "born",
    "dob",
    "d.o.b",
    "i ",
    "i've",
)
_JAPANESE_GATE = re.compile(
    r"[歳才年私僕]|生まれ|誕生|職業|仕事|病|喘息|癌|がん|障害|自閉|弱視|色覚|高血圧|妊娠|てんかん|アレルギー|"
    r"して(?:い|お)|働"
)


def find_profile(text: str) -> Iterator[Detection]:
    """Yield the identifying parts of self-descriptions in a folded text."""
    lower = text.lower()
    if any(word in lower for word in _GATE):
        yield from _find(_ENGLISH, text)
    if not text.isascii() and _JAPANESE_GATE.search(text):
        yield from _find(_JAPANESE, text)


# Whose age it is, when it is not the writer's: the book's, a character's, an unnamed child's.
_NOT_MINE = re.compile(
    r"(?:対象(?:年齢)?|主人公|キャラ(?:クター)?|ヒロイン|ヒーロー|子ども|子供|息子|娘|孫|甥|姪)[^、。\s]{0,8}\Z"
)


def _find(patterns: tuple[re.Pattern[str], ...], text: str) -> Iterator[Detection]:
    for pattern in patterns:
        for match in pattern.finditer(text):
            group = match.lastgroup
            if group is not None and not _NOT_MINE.search(text, max(0, match.start() - 16), match.start()):
                yield Detection(*match.span(group), Kind.PROFILE)
