"""Words that speak for or against a person's name beside them, and what each is worth."""

from __future__ import annotations

import re

from mangaassist_assets.privacy.names.common_words import word_set

LETTERS = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿḀ-ỿ\u0300-\u036f"

# Endings that family names of Europe share, for the names that no list holds.
FAMILY_FORM = re.compile(
    r"(?:ov|ova|ev|eva|sson|sen|dottir|dóttir|ski|ska|sky|ić|vić|ovic|escu|poulos|enko|yan|shvili|nen|sdatter|"
    r"wicz|czyk|"
    r"ák|ková|ová|stra|mann|berg|ström|quist|qvist|lund|ález|ínez|ini|etti|elli|cci|eau|aux|ier|vich)$"
)
CAPITAL_INSIDE = re.compile(r"^(?:Mc|Mac|O'|D'|Fitz|Von|Van|De|Di)[A-ZÀ-Þ]")

PARTICLES = word_set("de da do dos du del della der den van von la le bin ibn al el y e ter ten af zu")
TITLES = word_set("mr mrs ms miss dr prof professor sir madam mister mx sra herr frau")
SUFFIXES = word_set("jr sr phd md dds dvm ii iii iv")
STREETS = frozenset({"street", "avenue", "boulevard"})
ORGANIZATION = word_set(
    "inc ltd llc plc gmbh corp corporation company co group technologies systems analytics analytic bank "
    "university college school hospital institute foundation association club press media studios studio "
    "entertainment publishing books comics energy solutions services street avenue road boulevard lane st ave rd "
    "county city island islands river mountain airport station park bridge beach valley republic kingdom sons "
    "partners insurance store shop research lines office project express"
)

LEFT_STRONG = word_set("named dear sincerely regards cheers signed mr mrs ms miss dr prof professor mister guardian")
# Speech and company: whoever stands behind these words is a person.
LEFT_PERSON = word_set(
    "hi hello hey tell told ask asked said says meet user customer client recipient friend brother sister mother "
    "father mom dad wife husband son daughter partner boss colleague teacher starring tribute producer commenter "
    "actor actress singer director"
)
# These stand before things as well, and help a listed name only.
LEFT_LISTED = word_set("by with and not under add call email message contact cc to for love thanks early")
LEFT_AGAINST = word_set(
    "in at from near of visit to via towards around saint san santa port el são cite fort lake mount upper lower "
    "north south east west"
)
LEFT_DETERMINER = word_set("the a an my your our this that")
RIGHT = word_set(
    "said says say shouted told asked lives lived wrote called is was will has had listed can could spent moved "
    "does did explained points thinks wants wanted here speaking"
)
SPEAKING_AT = word_set("shouted yelled laughed looked smiled")

OPENING, CLOSING = '"“「『[(<', '"”」』])>'
ROMAJI_PARTICLES = word_set("wa wo ni ga kara desu mo na no")
CHARACTER_ENDINGS = ("-kun", "-chan", "-sama", "-sensei", "-senpai", "-tan", "-dono", "-hime")

# Only people do these things: behind a word they weigh as much as a list.
PREDICATE = re.compile(
    r"\s(?:is from|is (?:a |an )?(?:very |so |really )?(?:sympathetic|reliable|kind|nice|rude|helpful|friendly|"
    r"impulsive|person|man|woman|"
    r"customer|friend)|lives|lived|shouted|told|asked|wrote|says|said|was born|passed away|moved (?:to|here|"
    r"from)|had given|gave me|ordered|"
    r"bought|will be talking|spoke|phoned|e-?mailed|"
    r"(?:his|her|their) (?:new |old |home )?(?:address|account|order|parcel|package|number))\b",
    re.IGNORECASE,
)
OWNED = re.compile(
    r"'s (?:new |old |home )?(?:address|account|order|name|e-?mail|phone|number|birthday|wife|husband|mother|"
    r"father|daughter|"
    r"son|house|card|package|parcel)\b"
)
# "Amber:" before what she says; a code of the trade that is called like a person.
SPEAKER = re.compile(r"[ ]?:[ ]?\\?[\"“「]")
CODES = frozenset({"jan"})
CODE_BEHIND = re.compile(
    r"[ :#]{0,3}(?:(?:codes?|numbers?|no\.?|is|コード|番号)[ :#]{0,3}){1,2}|[ :#]{0,3}[0-9]{3}", re.IGNORECASE
)
PUNCTUATION = re.compile(r"[.,!?;:\n\"]")
COORDINATED = re.compile(r"(?:,| and| or| &|, and|, or)[ ]")
_CATALOGUE = (
    r"(?:manga|vol|vols|volumes?|chapters?|series|authors?|characters?|anime|mangaka|artist|figures?|figurine|"
    r"box ?set|omnibus|editions?|comics?|novels?|posters?|arc|episodes?|seasons?|ova|scanlations?|spoilers?|drawings?|"
    r"artbooks?|spin-?offs?|titles?|sequel|prequel|movie|film|plush(?:ie)?|merch|keychain|cosplay)"
)
CATALOGUE_BEFORE = re.compile(
    rf"(?:\b{_CATALOGUE}|[巻話])(?:[ ]?[0-9]{{1,4}}(?:[ ]?-[ ]?[0-9]{{1,4}})?)?(?:'s)?[ ]?[\"'“「(:,]{{0,2}}[ ]?"
    r"(?:(?:of|by|from|called|titled|named|about|is|like|featuring|starring|the|with|and|or)[ ][\"'“]?){0,2}\Z",
    re.IGNORECASE,
)
CATALOGUE_BEHIND = re.compile(
    rf"(?:'s)?[ ]?[\"'”」),:\-]{{0,2}}[ ]?"
    r"(?:(?:the|in|from|new|latest|first|last|next|full|complete|and|or|'s)[ ]){0,2}(?:[0-9]{1,4}[ ])?"
    rf"(?:{_CATALOGUE}\b|#[0-9]|[0-9]{{1,3}}(?=[ ]?(?:巻|話|[?.!,]|\Z|and\b|is\b|in\b))|"
    r"第?[0-9]{0,4}[巻話]|漫画)",
    re.IGNORECASE,
)

# "my name is on the parcel" holds no name: these words never start one.
_NOT_A_NAME = (
    "a|an|the|on|in|not|no|now|at|so|too|and|but|wrong|spelled|spelt|misspelled|written|missing|listed|printed|"
    "back|when|"
    "if|about|for|to|with|please|maybe|also|later|again|today|tomorrow|tonight|soon|crazy|old|as|or|is|it|its|my|your|"
    "appears|incorrect|correct|incorrectly|under|associated|different|changed|of|field|that|this|what|which|why|how|"
    "ready|interested|looking|trying|sure|sorry|happy|still|just|really|very|going|here|calling|writing|from|by|"
    "order|mine"
)
_NOT_A_SECOND_NAME = (
    "and|but|with|from|please|i|my|in|on|at|for|to|the|is|here|or|who|thanks|yes|ok|so|now|then|that|not|if|it"
)
_WORD = rf"[{LETTERS}][{LETTERS}'\-]{{0,39}}"
_CAPITAL = r"[A-ZÀ-ÖØ-ÞŠŽČĆŁŚŻĐΑ-ΩА-Я]"
# "im riley", "my name john": an introduction only where the lists hold the word.
LOOSE_INTRODUCTION = re.compile(
    rf"\b(?:my (?:full |first |last )?name|(?:it is|it's|i'm|im|i am|this is)) (?P<value>{_WORD})(?![\w@])",
    re.IGNORECASE,
)
# One of these, in small letters, is in every introduction.
INTRODUCING = ("name", "call", "signed")
INTRODUCTION = re.compile(
    r"(?:\bmy (?:(?!character|manga|book|series|company|team|dog|cat|pet)\w{2,12} )?name is|\bmy name's?|"
    r"\bmy (?:full|first|last) name|(?:\A|[.,!?;\n] ?|\band )(?:full |first |last )?name is|"
    r"\b(?:her|his|their|whose|maiden|the|partner's|wife's|husband's|recipient's) "
    r"(?:maiden |full |last |first )?name is|"
    r"\bi am called|\bi'm called|\b(?:people|they|everyone|everybody|friends|you can) calls? me|\bcall me|"
    r"\bnamed (?:him|her|them)|(?<!user)(?<!file)\bname:|\bsigned,?|"
    r"\bunder (?:my |the )?(?:partner's |wife's |husband's )?name(?: of)?)"
    r"(?:[ \t]{1,5}|[ \t]{0,3}\r?\n[ \t]{0,3})(?:(?:actually|just|also|really) )?"
    rf"(?P<value>(?:(?:mrs?|ms|miss|dr|prof)\.?[ ])?(?!(?:{_NOT_A_NAME})\b){_WORD}"
    rf"(?-i:(?:[ \t]{_CAPITAL}[{LETTERS}'\-]{{0,39}}\.?){{1,3}}|"
    rf"[ \t](?!(?:{_NOT_A_SECOND_NAME})\b)[^\W\d_]{{2,39}}(?=[.,!?\n]|\Z))?)",
    re.IGNORECASE,
)
