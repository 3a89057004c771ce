"""Mining rules for tests: the packaged file with one place changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mangaassist_assets.mining.blame.rules import PACKAGED_RULES, MiningRules, read_rules


def changed_rules(old: str, new: str) -> str:
    """The packaged file's text with one place, that must be there once, changed."""
    text = PACKAGED_RULES.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the packaged rules"
    return text.replace(old, new)


def rules_of(text: str) -> MiningRules:
    """The rules that a text says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.toml"
        path.write_text(text, encoding="utf-8")
        return read_rules(path)


def rules_with(old: str, new: str) -> MiningRules:
    """The packaged rules with one place changed."""
    return rules_of(changed_rules(old, new))
