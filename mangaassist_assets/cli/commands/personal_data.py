"""What redaction would do to a text: the redacted text and where placeholders stand, never what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mangaassist_assets.privacy import Vocabulary

_STYLES = {"NAME": "black on cyan", "PROFILE": "black on magenta", "ADDRESS": "black on green"}
_OTHER_STYLE = "black on yellow"


def run_redact(text: str, *, vocabulary: Iterable[str] = (), conversation: bytes | None = None) -> dict[str, Any]:
    """Redact one text; see `run_redact_lines`."""
    return run_redact_lines([text], vocabulary=vocabulary, conversation=conversation)


def run_redact_lines(
    lines: Iterable[str], *, vocabulary: Iterable[str] = (), conversation: bytes | None = None
) -> dict[str, Any]:
    """Redact texts one by one and say what was found where.

    Args:
        lines: The texts; line ends are cut off.
        vocabulary: Titles, characters and authors that are no personal data.
        conversation: Key of one conversation (`conversation_key`), for placeholders that stay the same in it.

    Returns:
        `messages`, each with the redacted `text`, the `counts` of its kinds, `found` (kind, start and end in characters
        of the text as given) and `placeholders` (the same in the redacted text); `counts` over all, and how many
        messages were `changed`. The values found are in none of them. A value that only shows once another one is
        replaced counts, and has a placeholder, but no place in `found`.
    """
    from mangaassist_assets.privacy import Vocabulary

    phrases = Vocabulary(vocabulary)
    words = phrases if len(phrases) else None
    # Bytes that are no UTF-8 arrive as half characters, which no terminal or file takes: each becomes a question mark.
    clean = (line.rstrip("\r\n").encode("utf-8", "replace").decode("utf-8") for line in lines)
    messages = [_message(line, words, conversation) for line in clean]
    total: Counter[str] = Counter()
    for message in messages:
        total.update(message["counts"])
    return {
        "messages": messages,
        "counts": dict(sorted(total.items())),
        "changed": sum(bool(message["counts"]) for message in messages),
    }


def _message(text: str, vocabulary: Vocabulary | None, conversation: bytes | None) -> dict[str, Any]:
    from mangaassist_assets.privacy import find_personal_data, redact
    from mangaassist_assets.privacy.folding import PLACEHOLDER

    redacted = redact(text, conversation=conversation, vocabulary=vocabulary)
    return {
        "text": redacted.text,
        "counts": dict(redacted.counts),
        "found": [
            {"kind": str(one.kind), "start": one.start, "end": one.end}
            for one in find_personal_data(text, vocabulary=vocabulary)
        ],
        "placeholders": [
            {"kind": match.group(1), "start": match.start(), "end": match.end()}
            for match in PLACEHOLDER.finditer(redacted.text)
        ],
    }


def render_redact(report: dict[str, Any]) -> None:
    """Print the redacted texts with their placeholders highlighted, then what was found how often."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for message in report["messages"]:
        line = Text(_printable(message["text"]))
        for place in message["placeholders"]:
            line.stylize(_STYLES.get(place["kind"], _OTHER_STYLE), place["start"], place["end"])
        console.print(line)
    counts = ", ".join(f"{kind} {count}" for kind, count in report["counts"].items()) or "nothing personal found"
    changed = f"{report['changed']} of {len(report['messages'])} messages changed"
    console.print(Text(f"{counts} ({changed})", style="dim"))


def _printable(text: str) -> str:
    """Return a text that moves no cursor and keeps its length: control characters and broken ones as a dot."""
    return "".join(character if character.isprintable() or character == "\n" else "·" for character in text)
