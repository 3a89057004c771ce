"""The second pass of redaction, on the way into a dataset, and what it and the first one left in the texts.

Traces are redacted before they are stored. The finders get better and the store's vocabulary grows, so what was clean
when it was stored is looked at again before it is trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mangaassist_assets.privacy import Vocabulary, redact
from mangaassist_assets.privacy.folding import PLACEHOLDER
from mangaassist_assets.tracing.reading.turn_reader import CONTRACT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionReport:
    """What redaction means for a dataset's texts, each different text counted once.

    `placeholders` counts what stands in the texts, by kind; `changed` the texts that the second pass changed, None
    where it was not counted, and `found_again` what it found in them, by kind. `vocabulary` is the digest of the
    store's words, which were left alone.
    """

    texts: int
    placeholders: Mapping[str, int]
    changed: int | None = None
    found_again: Mapping[str, int] = field(default_factory=dict)
    vocabulary: str | None = None
    contract_version: int = CONTRACT_VERSION

    @staticmethod
    def of_texts(texts: Iterable[str]) -> RedactionReport:
        """Return the placeholders that stand in texts; whether a pass changed them is not known."""
        distinct = set(texts)
        return RedactionReport(texts=len(distinct), placeholders=_placeholders(distinct))


class RedactionPass:
    """Redacts texts and remembers which of them it had to change; every different text is redacted once."""

    def __init__(self, vocabulary: Vocabulary | None = None) -> None:
        self._vocabulary = vocabulary
        self._clean: dict[str, str] = {}
        self._found: dict[str, Mapping[str, int]] = {}

    def clean(self, text: str) -> str:
        """Return the text free of personal data."""
        if text not in self._clean:
            redacted = redact(text, vocabulary=self._vocabulary)
            self._clean[text] = redacted.text
            if redacted.text != text:
                self._found[redacted.text] = redacted.counts
        return self._clean[text]

    def report(self, texts: Iterable[str]) -> RedactionReport:
        """Return what happened to the texts that got into the dataset."""
        distinct = set(texts)
        changed = sorted(distinct & self._found.keys())
        found: Counter[str] = Counter()
        for text in changed:
            found.update(self._found[text])
        return RedactionReport(
            texts=len(distinct),
            placeholders=_placeholders(distinct),
            changed=len(changed),
            found_again=dict(sorted(found.items())),
            vocabulary=None if self._vocabulary is None else self._vocabulary.digest,
        )


def _placeholders(texts: Iterable[str]) -> dict[str, int]:
    counts = Counter(match.group(1) for text in texts for match in PLACEHOLDER.finditer(text))
    return dict(sorted(counts.items()))
