"""Secrets of every form, made of pieces so that no scanner takes this file for a leak. None was ever issued."""

from __future__ import annotations

import base64


def _body(length: int, alphabet: str = "a7Kd9QmZ2xVb4NsR6tYh1LpW8cJf3GuE5") -> str:
    return (alphabet * (length // len(alphabet) + 1))[:length]


_HEX = "3fa85f6457174562b3fc2c963f66afa6"
AWS_KEY_ID = "AKIA" + "Q3EGRT5MX7ZB4NVD"
AWS_SECRET = "wQ7rXUtnFz1K7" + "MDENGbPxRf/CYq9ZmKp4Ls+Tn8a"
JWT = ".".join(("eyJ" + _body(20), "eyJ" + _body(40), _body(43)))
_PEM_LINES = [_body(64), _body(64, "Zt8Bq2LxM4vK9sHd"), _body(20)]
PRIVATE_KEY = "\n".join(["-----BEGIN RSA " + "PRIVATE KEY-----", *_PEM_LINES, "-----END RSA " + "PRIVATE KEY-----"])

# What an issuer gives out, by issuer: found wherever it stands.
ISSUED: dict[str, str] = {
    "AWS access key": AWS_KEY_ID,
    "AWS temporary key": "ASIA" + "Q3EGRT5MX7ZB4NVD",
    "GitHub": "ghp_" + _body(36),
    "GitHub OAuth": "gho_" + _body(36),
    "GitHub fine-grained": "github_pat_" + _body(22) + "_" + _body(59),
    "GitLab": "glpat-" + _body(20),
    "Slack bot": "xoxb-" + "123456789012-1234567890123-" + _body(24),
    "Slack user": "xoxp-" + "123456789012-123456789012-" + _HEX,
    "Slack hook": "hooks.slack.com/services/" + "T01ABCDEF/B01ABCDEF/" + _body(24),
    "Stripe": "sk_live_" + _body(24),
    "Stripe restricted": "rk_test_" + _body(24),
    "Google": "AIza" + "Sy" + _body(33),
    "OpenAI": "sk-proj-" + _body(48),
    "OpenAI of before": "sk-" + _body(48),
    "Anthropic": "sk-ant-api03-" + _body(93) + "AA",
    "npm": "npm_" + _body(36),
    "PyPI": "pypi-AgEIcHlwaS5vcmc" + _body(60),
    "SendGrid": "SG." + _body(22) + "." + _body(43),
    "Twilio": "SK" + _HEX,
    "Telegram": "123456789:" + "AA" + _body(33),
    "Discord": "MTk4NjIyNDgzNDcxOTI1MjQ4" + ".Cl2FMQ." + _body(27),
    "Hugging Face": "hf_" + _body(34),
    "JWT": JWT,
    "JWT without its end": JWT[:45],
    "private key": PRIVATE_KEY,
}

_BASIC = base64.b64encode(b"shopper:opensesame9").decode()
# A text and the part of it that is the secret.
SAID: tuple[tuple[str, str], ...] = (
    ("my password is hunter2, what now?", "hunter2"),
    ("My password is Tr0ub4dor&3!", "Tr0ub4dor&3!"),
    ("the password for my account is swordfish and it does not work", "swordfish"),
    ("password: sunshine", "sunshine"),
    ("Password:\nBlue$Moon42", "Blue$Moon42"),
    ("password: correct horse battery staple", "correct horse battery staple"),
    ('my password is "blue house 7"', "blue house 7"),
    ("pw = geheim99", "geheim99"),
    ("my pwd: qwerty12", "qwerty12"),
    ("user jane@example.invalid password letmein7", "letmein7"),
    ("I changed my password to Dragon#99 yesterday", "Dragon#99"),
    ("change my password from old11pass to new22pass", "old11pass"),
    ("change my password from old11pass to new22pass", "new22pass"),
    ("hunter2 is my password", "hunter2"),
    ("the passcode I use is 9911", "9911"),
    ("my pin is 4821", "4821"),
    ("verification code: 829113", "829113"),
    ("login: shopper77 / winter2024!", "winter2024!"),
    ("recovery phrase: ripple orbit lemon canyon velvet tiger anchor puzzle", "lemon canyon velvet"),
    ("パスワードはsakura2024です", "sakura2024"),
    ("パスワード：さくらもち です", "さくらもち"),
    ("パスワードはｈｕｎｔｅｒ２です", "ｈｕｎｔｅｒ２"),
    ("パスワードを hunter2 に変更したい", "hunter2"),
    ("合言葉は「ひらけごま」です", "ひらけごま"),
    ("暗証番号は４８２１です", "４８２１"),
    ("暗証番号：4821", "4821"),
    ("hunter2がパスワードです", "hunter2"),
    ("APIキーは abcd1234efgh5678ijkl です", "abcd1234efgh5678ijkl"),
    (f"the pair is {AWS_KEY_ID} and {AWS_SECRET}", AWS_SECRET),
    (f"AWS_SECRET_ACCESS_KEY={AWS_SECRET}", AWS_SECRET),
    (f"my api key is {_HEX}", _HEX),
    (f"the secret 0{_HEX[1:20]} leaked", _HEX[1:20]),
    ("Authorization: Bearer " + _body(30), _body(30)),
    ("send it with bearer " + _body(30), _body(30)),
    (f"curl -H 'Authorization: Basic {_BASIC}'", _BASIC),
    ("https://shopper:opensesame@shop.example.invalid/x", "opensesame"),
    ("postgres://app:s3cr@tpw@db.internal:5432/shop", "s3cr"),
    ("redis://:topsecret@cache:6379", "topsecret"),
    ("Server=db;Uid=sa;Pwd=Sommer2024;Database=x", "Sommer2024"),
    ("DefaultEndpointsProtocol=https;AccountKey=" + _body(60) + "==;", _body(60)),
    ("https://shop.example.invalid/reset?token=a8f3kd93kd&x=1", "a8f3kd93kd"),
    ("https://b.s3.amazonaws.com/a?X-Amz-Signature=" + _HEX + _HEX, _HEX),
    ("Cookie: session=ab12cd34; theme=dark", "ab12cd34"),
    ('{"apiKey": "sunflower", "n": 1}', "sunflower"),
    ("mysql --password geheim123 shop", "geheim123"),
    ("x-api-key: k3y-of-the-shop", "k3y-of-the-shop"),
    ("\n".join(PRIVATE_KEY.split("\n")[:2]) + "\nplease help", _PEM_LINES[0]),
    ("\n".join(PRIVATE_KEY.split("\n")[1:]), _PEM_LINES[0]),
)

# What only looks like a secret.
HARMLESS: tuple[str, ...] = (
    "I forgot my password",
    "password reset does not work",
    "the secret of volume 3",
    "Secret: volume 3 is better",
    "my password is wrong",
    "My password is too short",
    "my password is not being accepted",
    "how do I change my password to something stronger?",
    "it says the password is incorrect",
    "password must be 8 characters long",
    "what is my password?",
    "Is the password case-sensitive?",
    "verification code never arrived",
    "enamel pin is 1200 yen",
    "the token ring manga, volume 3",
    "Do you sell a keychain AB-1234-KC?",
    "promo code SUMMER10",
    "Key to the Kingdom vol 3",
    "ASIN B08N5WRWNW please",
    "ISBN 978-4-08-882000-0",
    "order 5 volumes of vol 12345",
    f"trace id tr-{_HEX} is missing",
    f"the key of trace {_HEX}",
    "https://shop.example.invalid/item?key=manga&code=SUMMER10",
    "max_tokens=1024 and top_k=5",
    "basic information about shipping",
    "The bearer of the ring",
    "パスワードを忘れました",
    "パスワードが違うと言われます",
    "パスワードは8文字以上ですか",
    "パスワードの再設定ができません",
    "パスワードは何ですか",
    "暗証番号を入力しても進めません",
    "「秘密の鍵」3巻はありますか",
)
