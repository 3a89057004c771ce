"""Make the word and name lists of the redaction package again.

    uv pip install "faker>=40" "mimesis>=18" "names==0.3.0" "spylls>=0.1.7"
    python tools/build_name_lists.py

Sources, all of them published word lists and none of them people: the lists of Faker (MIT) and Mimesis (MIT) for given
and family names of 90 locales, the names of the United States census of 1990 (public domain, inside the package
`names`, MIT), and the American spelling dictionary inside spylls (SCOWL, permissive) for the words that
English writes without a capital. Two gzipped texts result, sorted, one entry a line:

* `names.txt.gz`: `name<TAB>flags`, folded to lower case; `g` given name, `s` family name, `r` rare family name;
* `words.txt.gz`: an English word in lower case, with its endings.

A larger list (names-dataset, 1.7 million names) was measured and left out: it was extracted from a leak of personal
data, and most words of a shop's messages are somebody's name in it.
"""

# ruff: noqa: INP001
from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import pkgutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "mangaassist_assets" / "tracing" / "redaction" / "data"
_ALPHABETS = ("LATIN", "GREEK", "CYRILLIC")
_FLAGS = {"first_name": "g", "last_name": "s", "first_roma": "g", "last_roman": "s"}


# A rare census name that is an English word ("Manga", "Volume") is the word.
_COMMON_CENSUS_NAMES = 3_000

Names = dict[str, set[str]]


def add_faker(names: Names) -> None:
    """Add every single-word name of Faker's locales in Latin, Greek or Cyrillic letters, with its flags."""
    from faker.providers import person

    for module in pkgutil.iter_modules(person.__path__):
        provider = importlib.import_module(f"{person.__name__}.{module.name}").Provider
        for attribute in dir(provider):
            flag = _FLAGS.get(attribute[:10]) or _FLAGS.get(attribute[:9])
            entries = getattr(provider, attribute)
            if flag is None or not isinstance(entries, dict | list | tuple | set):
                continue
            for entry in entries:
                for part in str(entry[-1] if isinstance(entry, tuple) else entry).replace("-", " ").split():
                    _add(names, part, flag)


def add_mimesis(names: Names) -> None:
    """Add the names of Mimesis' locales."""
    for path in sorted(_folder("mimesis").glob("datasets/*/person.json")):
        person = json.loads(path.read_text(encoding="utf-8"))
        for key, flag in (("names", "g"), ("surnames", "s")):
            entries = person.get(key, [])
            for group in entries.values() if isinstance(entries, dict) else [entries]:
                for entry in group:
                    for part in entry.replace("-", " ").split():
                        _add(names, part, flag)


def add_census(names: Names, words: frozenset[str]) -> None:
    """Add the names of the census, the common ones also where they are English words."""
    for file, flag in (("dist.all.last", "s"), ("dist.female.first", "g"), ("dist.male.first", "g")):
        for rank, line in enumerate((_folder("names") / file).read_text().splitlines()):
            name = line.split()[0].lower()
            if len(name) > 3 and (rank < _COMMON_CENSUS_NAMES or name not in words):
                _add(names, name, flag if rank < _COMMON_CENSUS_NAMES or flag == "g" else "r")


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {package} is not installed; the docstring of this file says which are needed")
    return Path(spec.origin).parent


def _add(names: Names, part: str, flag: str) -> None:
    name = unicodedata.normalize("NFC", part).lower().replace("’", "'")
    letters = name.replace("'", "")
    if len(letters) >= 2 and letters.isalpha() and all(unicodedata.name(c, "").startswith(_ALPHABETS) for c in letters):
        names.setdefault(name, set()).add(flag)


def english_words() -> list[str]:
    """Return the words of the spelling dictionary that begin without a capital, with their endings."""
    from spylls.hunspell import Dictionary

    dictionary = Dictionary.from_files("en_US")
    words: set[str] = set()
    for entry in dictionary.dic.words:
        if entry.stem.isalpha() and entry.stem.islower():
            forms = {entry.stem, *_with_endings(entry.stem, entry.flags, dictionary.aff.SFX)}
            beginnings = _beginnings(entry.flags, dictionary.aff.PFX)
            words |= forms | {f"{beginning}{form}" for beginning in beginnings for form in forms}
    return sorted(words)


def _beginnings(flags: set[str], prefixes: dict[str, list[Any]]) -> list[str]:
    return [prefix.add for flag in flags for prefix in prefixes.get(flag, ()) if prefix.add.isalpha()]


def _with_endings(stem: str, flags: set[str], endings: dict[str, list[Any]]) -> Iterator[str]:
    for flag in flags:
        for ending in endings.get(flag, ()):
            if ending.cond_regexp.search(stem):
                word = stem[: len(stem) - len(ending.strip)] + ending.add
                if word.isalpha():
                    yield word


def _write(name: str, lines: list[str]) -> None:
    # No time and no file name inside, so that the same lists give the same bytes.
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / name).write_bytes(gzip.compress("\n".join([*lines, ""]).encode(), 9, mtime=0))


def main() -> None:
    """Write both lists and say how long they are."""
    words = english_words()
    names: Names = {}
    add_faker(names)
    add_mimesis(names)
    add_census(names, frozenset(words))
    _write("names.txt.gz", [f"{name}\t{''.join(sorted(names[name]))}" for name in sorted(names)])
    _write("words.txt.gz", words)
    print(f"{len(names)} names, {len(words)} words")  # noqa: T201


if __name__ == "__main__":
    main()
