"""Words that lists of names claim and that mostly mean something else."""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text, parted by white space."""
    return frozenset(text.split())


# Words that begin sentences, and ranks: no evidence for a name even with a capital.
NEVER = word_set(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand "
    "million hai hii hiii helo hellow okey okie byee lang html http https www git repo repos ink edo "
    "the a an and or but if so to of in on at by as be do is it he she we you me my his her our your can has had "
    "have was see say let get got set put how why who what when where this that these those there then than all "
    "any some one two not now new old good best nice dear more most much many very well way day time year great "
    "big small long short princess prince royal king queen duke lord lady knight master major general sergeant "
    "captain pastor doctor saint angel god devil hero world story life love war death dragon magic game star moon "
    "sun night light dark black white red blue green gold silver girl boy man woman child baby home house school "
    "high land sea sky fire wind rain snow come go make take give want need look like just only even still also "
    "too here order cancel return refund please part case size box book page price sale free first last next end "
    "begin start stop wait help hope save arent isnt dont cant wont didnt doesnt theres whats thats its youre "
    "theyre havent hasnt wasnt werent lets aint gonna wanna gotta dunno geta thx plz pls bro lol omg wtf irl lmao "
    "imo with into from for about after before over under out up down off through during between against without "
    "within upon am are were been being does did doing done will would shall should could may might must having "
    "them they us him hers ours mine yours theirs myself yourself himself herself each every both few other "
    "another same own again once because while until whereas unless since although though whether which whose "
    "whom nor yet ever never always often today tomorrow yesterday tonight soon later maybe perhaps really quite "
    "rather almost enough everything something nothing anything someone anyone everyone nobody till ago away back "
    "around across along near far left right customer client service support agent person human account invoice "
    "delivery shipping payment address email phone such news post question answer spoiler spoilers art cover "
    "song songs said asked replied limited special edition bit fan fans favourite favorite real"
)
# Words of the trade and brands that name lists claim.
TRADE = word_set(
    "manga manhwa manhua anime otaku shonen shounen shojo shoujo seinen josei isekai viz visa paypal amazon ebay "
    "google apple android iphone ipad kindle netflix crunchyroll facebook instagram twitter youtube reddit "
    "discord fedex ups dhl usps ok okay hi hello hey thanks thank please yes no usa uk eu id pdf dvd cd tv faq "
    "vip isbn yen usd eur gbp kodansha shueisha kadokawa shogakukan bot alexa siri olly echo spotify pandora mr "
    "mrs ms dr miss apt st iban ean upc asin sku swift bic cvv otp pin"
)

# Days, months, countries, peoples and large cities: in a shop they say where and when.
PLACES = word_set(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december easter christmas valentine halloween santa spring summer autumn winter "
    "afghanistan albania algeria andorra angola antigua barbuda argentina armenia australia austria azerbaijan "
    "bahamas bahrain bangladesh barbados belarus belgium belize benin bermuda bhutan bolivia bosnia herzegovina "
    "botswana brazil brunei bulgaria burkina faso burundi cambodia cameroon canada verde cape chad chile china "
    "colombia comoros congo costa rica croatia cuba cyprus czech denmark djibouti dominica dominican ecuador "
    "egypt salvador eritrea estonia eswatini ethiopia fiji finland france gabon gambia georgia germany ghana "
    "greece grenada grenadines guatemala guinea bissau guyana haiti honduras hungary iceland india indonesia iran "
    "iraq ireland israel italy jamaica japan jordan kazakhstan kenya kiribati korea kosovo kuwait kyrgyzstan laos "
    "latvia lebanon lesotho liberia libya liechtenstein lithuania luxembourg macedonia madagascar malawi malaysia "
    "maldives mali malta mauritania mauritius mexico micronesia moldova monaco mongolia montenegro morocco "
    "mozambique myanmar namibia nauru nepal netherlands zealand nicaragua niger nigeria norway oman pakistan "
    "palau palestine panama papua paraguay peru philippines poland portugal qatar romania russia rwanda samoa "
    "marino arabia saudi senegal serbia seychelles sierra leone singapore slovakia slovenia solomon somalia "
    "africa spain lanka sudan suriname sweden switzerland syria taiwan tajikistan tanzania thailand togo tonga "
    "trinidad tobago tunisia turkey turkmenistan tuvalu uganda ukraine emirates arab england scotland wales "
    "britain uruguay uzbekistan vanuatu vatican venezuela vietnam yemen zambia zimbabwe greenland guadeloupe "
    "martinique montserrat aruba curacao faroe gibraltar guam guernsey jersey macao macau mayotte niue reunion "
    "lucia helena kitts nevis vincent kong hong american english british irish scottish welsh french german "
    "spanish italian portuguese dutch swedish norwegian danish finnish polish russian ukrainian greek turkish "
    "arabic hebrew indian chinese japanese korean thai vietnamese malay african asian european mexican brazilian "
    "canadian australian latin roman asia america europe holland london paris florence sydney austin dallas "
    "houston boston chelsea brooklyn virginia carolina victoria alexandria milan vienna geneva lourdes santiago "
    "lima berlin hamburg frankfurt bristol devon york lincoln washington madison jackson tokyo osaka kyoto "
    "yokohama nagoya sapporo fukuoka kobe hiroshima akihabara shibuya shinjuku san los las el la le de new north "
    "south east west republic island islands angeles diego francisco antonio orleans vegas atlanta chicago "
    "seattle denver portland miami rome madrid lisbon dublin athens moscow prague warsaw amsterdam brussels "
    "zurich toronto montreal vancouver melbourne perth texas california florida nevada oregon ohio kansas arizona "
    "utah alaska hawaii iowa idaho maine michigan minnesota missouri montana nebraska oklahoma tennessee "
    "wisconsin wyoming indiana illinois louisiana alabama arkansas delaware kentucky maryland massachusetts"
)
