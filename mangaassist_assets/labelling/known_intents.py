"""Which intents there are: those of the training corpus, and new ones that enough reviewed messages name.

Reviewers type the intent. What one of them types once may be a slip, or "no idea"; what several messages need is an
intent that nobody had thought of.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.labelling.reviews import spelling_key
from mangaassist_assets.tracing.contract.turns import ChatTurn

MINIMUM_MESSAGES = 3
_NAME = re.compile(r"[^\W_][\w \-]{0,63}")
_EXAMPLES = 3


def known_intents(
    corpus: Mapping[str, Sequence[str]], turns: Iterable[ChatTurn], *, minimum_messages: int = MINIMUM_MESSAGES
) -> dict[str, tuple[str, ...]]:
    """Return the intents that may be labels, by name, each with up to three example messages.

    Args:
        corpus: messages of the training corpus by intent.
        turns: turns of this bundle and those before; the reviewed ones count.
        minimum_messages: distinct messages that must name a new intent, however it is spelled.
    """
    known = {intent: tuple(texts[:_EXAMPLES]) for intent, texts in corpus.items()}
    spelled = {spelling_key(intent) for intent in known}
    messages: defaultdict[str, dict[str, str]] = defaultdict(dict)
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for turn in sorted(turns, key=lambda one: (one.timestamp_ms, one.trace_id)):
        name = (turn.expected_intent or "").strip()
        key = spelling_key(name)
        if key in spelled or not _NAME.fullmatch(name):
            continue
        messages[key].setdefault(normalise_text(turn.learnable_text), turn.learnable_text)
        names[key][name] += 1
    for key, named in messages.items():
        if len(named) >= minimum_messages:
            most_used = min(names[key], key=lambda name: (-names[key][name], name))
            known[most_used] = tuple(sorted(named.values())[:_EXAMPLES])
    return dict(sorted(known.items()))
