"""Texts as an author would write them who wants them to be more than text on somebody's page."""

from __future__ import annotations

MARK = "payload"
"""In every address below: what a page must not load, link to or run."""

HOSTILE_TEXTS = (
    f"![x](/graphql?query=mutation&{MARK}=1)",
    f"![x](https://evil.test/{MARK}.png)",
    f"![x][1]\n\n[1]: https://evil.test/{MARK}.png",
    f"[click](https://evil.test/{MARK})",
    f"[click](javascript:alert('{MARK}'))",
    f"<https://evil.test/{MARK}>",
    f"https://evil.test/{MARK}",
    f"HTTP://evil.test/{MARK}",
    f"www.evil.test/{MARK}",
    f"{MARK}@evil.test",
    f"<img src=/{MARK}.png>",
    f"<img/src=x onerror=\"location='//evil.test/{MARK}'\">",
    f"<a href=/{MARK}>x</a>",
    f"<svg><image href=/{MARK}.png></svg>",
    f"<iframe src=/{MARK}></iframe>",
    f"&lt;img src=/{MARK}.png&gt;",
    f"&#60;img src=/{MARK}.png&#62;",
    f"\\![x](/{MARK}.png)",
    f"\\\\![x](/{MARK}.png)",
    f"`code` ![x](/{MARK}.png) `",
    f"`` ` ![x](/{MARK}.png)",
    f"a | b ![x](/{MARK}.png) | c",
    f"a \\| ![x](/{MARK}.png) | c",
    f"line\n\n![x](/{MARK}.png)",
    f"line\r![x](/{MARK}.png)",
    f"line\u2028![x](/{MARK}.png)",
    f"line\x0b![x](/{MARK}.png)",
    f"$![x](/{MARK}.png)$",
    f"[![x](/{MARK}.png)](https://evil.test/{MARK})",
    f"[^1]\n\n[^1]: ![x](/{MARK}.png)",
    f"```\n![x](/{MARK}.png)\n```\n![y](/{MARK}.png)",
    f"# heading {MARK}",
    f"- list {MARK}",
    f"1. list {MARK}",
    f"1) list {MARK}",
    f"> quoted {MARK}",
    f"**strong {MARK}**",
    f"~~struck {MARK}~~",
    f"_emphasis {MARK}_",
)
