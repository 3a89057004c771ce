"""Make `pii_japanese.jsonl` again: sentences of a manga store's chat in Japanese, with the spans of personal data.

    python tests/data/generate_pii_japanese.py

How it was made: 108 sentence templates were written by hand for this store (delivery, orders, payment, accounts,
self-descriptions) and filled four times each from lists of frequent family and given names, real city names with
invented streets, and drawn numbers (with right check digits where the kind has one), in half-width, full-width or kanji
digits. No person, number or address in it is known to exist: telephone numbers have a zero where no exchange has one,
cards begin like the test cards of payment providers. `negatives_japanese.txt` holds sentences about manga,
written by hand, in which nothing is personal although names, numbers and honorifics occur. Every line says whether its
template belongs to the half that the recognisers were tuned on (`tune`) or to the half that is only measured (`test`).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).parent
FILLS = 4


def _words(text: str) -> list[str]:
    return text.split()


FAMILY = _words(
    "佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 "
    "木村 林 斎藤 清水 山崎 森 池田 橋本 阿部 石川 前田 藤田 小川 岡田 後藤 長谷川 村上 "
    "近藤 石井 坂本 遠藤 青木 藤井 西村 福田 太田 三浦 藤原 岡本 松田 中川 中野 原田 小野 "
    "田村 竹内 金子 和田 中山 石田 上田 森田 原 柴田 酒井 工藤 横山 宮崎 宮本 内田 高木 "
    "安藤 谷口 大野 丸山 今井 河野 藤本 村田 武田 上野 杉山 増田 平野 大塚 千葉 久保 松井 "
    "小島 岩崎 桜井 野口 松尾 木下 菊地 佐野 大西 杉本 新井 浜田 菅原 市川 水野 小松 島田 "
    "古川 小西 久保田"
)
GIVEN = _words(
    "翔太 健太 大輔 拓也 直樹 和也 達也 亮 誠 学 浩 隆 豊 剛 修 健 陽子 裕子 真由美 "
    "智子 久美子 恵子 美咲 愛 彩 舞 麻衣 結衣 葵 陽菜 さくら 美穂 綾香 千尋 由美 直美 "
    "香織 友美 優子 恵美 大翔 蓮 悠真 湊 陸 樹 颯太 一郎 次郎 太郎 花子 京子 幸子 明美 "
    "洋子 和子 春香 夏美 秋子 美雪 雄一 慎也 俊介 英樹 哲也 裕太 康平 浩二 翼 遥 光 歩 "
    "楓 七海 莉子 杏奈"
)
KANA_FAMILY = _words(
    "ヤマダ サトウ スズキ タカハシ ワタナベ イトウ ナカムラ コバヤシ ヨシダ マツモト キムラ "
    "シミズ ヤマザキ ハシモト オカダ"
)
KANA_GIVEN = _words("タロウ ハナコ ケンタ ユウコ ミサキ ダイスケ ナオキ サクラ リョウ アヤカ トモコ ショウタ マイ ユイ")
CITIES = _words(
    "東京都世田谷区 東京都杉並区 東京都八王子市 大阪府堺市北区 大阪市中央区 京都府宇治市 "
    "北海道札幌市中央区 福岡県久留米市 愛知県豊橋市 神奈川県川崎市高津区 埼玉県川口市 千葉県船橋市 "
    "兵庫県西宮市 広島県福山市 宮城県仙台市青葉区 静岡県浜松市 沖縄県那覇市 新潟県長岡市 "
    "長野県松本市 熊本県八代市"
)
TOWNS = _words("見本町 花岡 桜台 緑ヶ丘 本町 若葉町 北山 中央 栄町 青葉台 梅田町 新町 東山 泉町 美里 富士見")
BUILDINGS = _words("コーポ桜 メゾン緑 ハイツ花岡 グランドマンション サンハイツ レジデンス本町")
KANJI = "〇一二三四五六七八九"


def _full_width(text: str) -> str:
    return "".join(chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in text)


def _kanji_digits(text: str) -> str:
    return "".join(KANJI[int(character)] if character.isdigit() else character for character in text)


def _kanji_number(number: int) -> str:
    tens, ones = divmod(number, 10)
    return ("" if tens == 0 else "十" if tens == 1 else KANJI[tens] + "十") + (KANJI[ones] if ones else "")


def _digits(draw: random.Random, count: int) -> str:
    return "".join(str(draw.randrange(10)) for _ in range(count))


def _width(draw: random.Random, text: str, *, kanji: float = 0.15) -> str:
    roll = draw.random()
    return _kanji_digits(text) if roll < kanji else _full_width(text) if roll < kanji + 0.25 else text


def _phone(draw: random.Random) -> str:
    dash = draw.choice(["-", "-", "", "ー"])
    if draw.random() < 0.6:
        number = dash.join(["0" + draw.choice("789") + "0", "0" + _digits(draw, 3), _digits(draw, 4)])
    else:
        number = "-".join(["0" + draw.choice("36"), "0" + _digits(draw, 3), _digits(draw, 4)])
    return _width(draw, number)


def _address(draw: random.Random) -> str:
    numbers = [draw.randrange(1, 30) for _ in range(3)]
    place = draw.choice(CITIES) + draw.choice(TOWNS)
    style = draw.randrange(4)
    if style == 0:
        text = place + _width(draw, "-".join(map(str, numbers)), kanji=0)
    elif style == 1:
        text = f"{place}{numbers[0]}丁目{numbers[1]}番{numbers[2]}号"
    elif style == 2:
        text = f"{place}{_kanji_number(numbers[0])}丁目{_kanji_number(numbers[1])}番{_kanji_number(numbers[2])}号"
    else:
        text = f"{place}{numbers[0]}丁目{numbers[1]}番地{numbers[2]}"
    return text + (f" {draw.choice(BUILDINGS)}{draw.randrange(101, 909)}号室" if draw.random() < 0.3 else "")


def _my_number(draw: random.Random) -> str:
    digits = _digits(draw, 11)
    weights = (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
    rest = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11
    digits += str(0 if rest <= 1 else 11 - rest)
    spaced = " ".join((digits[:4], digits[4:8], digits[8:]))
    return _width(draw, draw.choice([digits, spaced]), kanji=0)


def _card(draw: random.Random) -> str:
    digits = "400000" + _digits(draw, 9)
    total = sum(sum(divmod(int(digit) * (1 + (place % 2 == 0)), 10)) for place, digit in enumerate(digits))
    digits += str(-total % 10)
    return _width(draw, draw.choice(["", " ", "-"]).join(digits[place : place + 4] for place in (0, 4, 8, 12)), kanji=0)


def _name(draw: random.Random) -> str:
    return draw.choice(FAMILY) + draw.choice(["", "", " ", "　"]) + draw.choice(GIVEN)


MAKERS: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "name": ("NAME", _name),
    "family": ("NAME", lambda draw: draw.choice(FAMILY)),
    "given": ("NAME", lambda draw: draw.choice(GIVEN)),
    "kana": ("NAME", lambda draw: draw.choice(KANA_FAMILY) + draw.choice(["", " ", "　"]) + draw.choice(KANA_GIVEN)),
    "phone": ("PHONE", _phone),
    "address": ("ADDRESS", _address),
    "postal": ("POSTAL_CODE", lambda draw: _width(draw, f"{_digits(draw, 3)}-{_digits(draw, 4)}", kanji=0.05)),
    "email": (
        "EMAIL",
        lambda draw: f"{draw.choice(['hana', 'taro.m', 'neko_99', 'yomu-hon'])}{draw.randrange(99)}@example.jp",
    ),
    "order": ("ORDER_ID", lambda draw: _width(draw, f"MA-{_digits(draw, 8)}", kanji=0)),
    "order_number": ("ORDER_ID", lambda draw: _width(draw, _digits(draw, 10), kanji=0)),
    "card": ("CARD", _card),
    "payment": ("PAYMENT_REF", lambda draw: f"{draw.choice(['PX', 'KS'])}{_digits(draw, 9)}"),
    "my_number": ("MY_NUMBER", _my_number),
    "age": ("PROFILE", lambda draw: f"{draw.randrange(18, 70)}歳"),
    "age_work": (
        "PROFILE",
        lambda draw: f"{draw.randrange(20, 65)}歳の{draw.choice(['看護師', '会社員', '主婦', '大学生', '教師'])}",
    ),
    "birthday": (
        "PROFILE",
        lambda draw: f"{draw.randrange(1950, 2006)}年{draw.randrange(1, 13)}月{draw.randrange(1, 29)}日",
    ),
    "illness": ("PROFILE", lambda draw: draw.choice(["糖尿病", "喘息", "てんかん", "うつ病"])),
}

TEMPLATES = """
はじめまして、{name}と申します。注文の件でお聞きしたいことがあります。
{family}と申しますが、昨日届いた本が破れていました。
お世話になっております。{name}です。返品の方法を教えてください。
{family}です。先週の注文はいつ届きますか？
名前は{name}です。会員登録の確認をお願いします。
宛名は{name}でお願いします。
受取人を{name}に変更してください。
届け先の名前が{name}になっていません。
{family}様宛ての荷物がこちらに届いています。
{family}さんという担当の方に対応してもらいました。
昨日電話で話した{family}さんに代わってもらえますか。
友人の{name}に直接送ってもらえますか。
妻の{given}の名前で注文しました。
プレゼントなので送り主は{name}と書いてください。
{name}様の代わりに問い合わせています。
カード名義は{kana}です。
フリガナは{kana}です。
氏名：{name}　電話：{phone}
お名前：{name}
{name}という名前で予約したはずです。
母の{name}が受け取ります。
領収書の宛名を{name}様にしてください。
配達員の方が{family}さんに渡したと言っています。
私は{family}といいます。ログインできません。
こちら{name}の家族の者です。本人の注文をキャンセルしたいです。
{name}より。早めの返信をお願いします。
会員名は{name}で登録しています。
もしもし、{family}ですけど、在庫の確認をお願いします。
隣の{family}さんのお宅に誤配されました。
{name}の住所を変更したいです。
電話番号は{phone}です。
{phone}に電話してください。
連絡先は{phone}、メールは{email}です。
携帯の番号が変わりました。新しい番号は{phone}です。
折り返しは{phone}までお願いします。
配達前に{phone}へ連絡をもらえますか？
FAXは{phone}です。
昼間は{phone}、夜は{phone}につながります。
住所は{address}です。
{address}に送ってください。
届け先を{address}に変更お願いします。
〒{postal} {address}
郵便番号は{postal}です。
{postal}の地域にも届きますか？
引っ越して{address}になりました。
請求先は{address}のままでお願いします。
新住所：{address}、氏名：{name}
実家の{address}まで配送できますか。
配送先が{address}になっているか確認してください。
メールアドレスは{email}です。
{email}に領収書を送ってください。
{email}で登録したのにログインできません。
確認メールが{email}に届きません。
注文番号{order}はまだ届きませんか？
{order}をキャンセルしたいです。
注文番号は{order_number}です。
注文{order}と{order}をまとめて送れますか。
オーダー番号：{order_number}
{order}の配送状況を知りたいです。
カード番号は{card}です。
{card}で払えますか？
クレジットカード{card}が使えませんでした。
決済番号は{payment}です。
取引ID：{payment}の返金をお願いします。
決済ID {payment} が二重に請求されています。
マイナンバーは{my_number}です。
本人確認のため個人番号{my_number}を送ります。
{my_number}がマイナンバーですが必要ですか？
私は{age}です。おすすめの漫画はありますか。
{age_work}です。仕事の合間に読める作品を探しています。
生年月日は{birthday}です。
{birthday}生まれですが、年齢確認は必要ですか。
誕生日は{birthday}なので、クーポンはもらえますか。
{illness}があるので、重い荷物は受け取れません。
{name}、{phone}、{address}
{family}です。電話は{phone}、注文番号は{order}です。
送り先：〒{postal} {address} {name}様
{name}（{email}）です。パスワードを忘れました。
{age_work}で、{illness}を患っています。通院中でも読みやすい作品はありますか。
母の誕生日は{birthday}です。プレゼント包装できますか。
{family}{given}宛に{address}へお願いします。
すみません、{name}ですが、注文{order}の件です。
会員番号がわかりません。{name}、電話は{phone}です。
{kana}と申します。予約の確認をお願いします。
昨日{name}名義で三冊買ったのですが、一冊足りません。
{family}ともうします、夜分にすみません。
うちの住所、{address}なんですけど合ってますか
荷物の宛先が{family}じゃなくて別の人になってる
{phone}なんですが、こちらに不在通知が来ました
え、{family}さんって店長さんですか？さっき電話に出た人です
送付先は{name}、{address}、{phone}でよろしく
登録メアドは{email}、パスは忘れた
{name}あてで請求書をPDFで送ってほしい
ギフトの相手は{family}{given}さんで、{address}在住です
予約したのは夫で、名前は{kana}といいます
店に電話したら{family}さんが調べてくれると言ってました
身分証の番号が必要なら、マイナンバー {my_number} を使ってください
注文確認メールに{order}と書いてあるけど商品が違う
{age}、{illness}持ちです。大きい文字の本はありますか
こんにちは！{given}です！予約特典ってまだもらえますか？
{postal}の{address}に明日着きますか
カード（{card}）が引き落とされていません
代引きで、{address}の{family}まで
先日お問い合わせした{name}です。返信がありません。
{birthday}の生まれなので来月で成人します
{kana}で登録した会員情報を消してください
電話は苦手なので{email}にください。{family}より
{name}さま名義のカードで決済しましたが、取引番号{payment}が見つかりません
""".strip().split("\n")  # fmt: skip


def sentences() -> list[dict[str, object]]:
    """Return every template filled, with its spans, and the negatives."""
    draw = random.Random(20_260_324)
    rows: list[dict[str, object]] = []
    for number, template in enumerate(TEMPLATES):
        for _ in range(FILLS):
            text, spans = _fill(template, draw)
            rows.append({"text": text, "spans": spans, "template": number, "half": ("tune", "test")[number % 2]})
    negatives = (FOLDER / "negatives_japanese.txt").read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(line for line in negatives if line):
        rows.append({"text": text, "spans": [], "template": -1, "half": ("tune", "test")[number % 2]})
    return rows


def _fill(template: str, draw: random.Random) -> tuple[str, list[dict[str, object]]]:
    text, spans = "", []
    for piece in re.split(r"(\{\w+\})", template):
        if piece.startswith("{"):
            kind, make = MAKERS[piece[1:-1]]
            value = make(draw)
            spans.append({"kind": kind, "start": len(text), "end": len(text) + len(value)})
            text += value
        else:
            text += piece
    return text, spans


if __name__ == "__main__":
    lines = [json.dumps(row, ensure_ascii=False) for row in sentences()]
    (FOLDER / "pii_japanese.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
