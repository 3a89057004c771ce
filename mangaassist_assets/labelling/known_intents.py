"""Which intents there are: those of the corpus and the catalogue, and new ones that reviews may name.

Reviewers type the intent. Where a catalogue is declared, what it does not have waits until a person accepts it. Without
one, a name of a listed reviewer counts at once; where everybody may review, once the messages of two shoppers need it,
for what one of them types once may be a slip, or "no idea".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from mangaassist_assets.labelling.intent_names import is_name, plain_name, spelling_key
from mangaassist_assets.labelling.people.policy import EVERYBODY, LabellingPolicy
from mangaassist_assets.privacy import shopper_of
from mangaassist_assets.tracing.contract.turns import ChatTurn

SHOPPERS_WITHOUT_A_LIST = 2
_EXAMPLES = 3


def known_intents(
    corpus: Mapping[str, Sequence[str]],
    turns: Iterable[ChatTurn],
    policy: LabellingPolicy = EVERYBODY,
    *,
    labelled_before: Collection[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Return the intents that may be labels, by name, each with up to three example messages.

    Args:
        corpus: messages of the training corpus by intent.
        turns: turns of this bundle and those before, as they were heard (`heard`); the reviewed ones count.
        policy: what is declared and accepted, and whether reviewers are listed.
        labelled_before: intents of labels of earlier bundles: a champion may know them.
    """
    known = {intent: tuple(texts[:_EXAMPLES]) for intent, texts in corpus.items()}
    spelled = {spelling_key(intent): intent for intent in known}
    for intent in (*(policy.catalogue or ()), *policy.accepted_intents, *sorted(labelled_before)):
        if spelled.setdefault(spelling_key(intent), intent) == intent:
            known.setdefault(intent, ())
    named: defaultdict[str, list[tuple[str, ChatTurn]]] = defaultdict(list)
    for turn in sorted(turns, key=lambda one: (one.timestamp_ms, one.trace_id)):
        name = plain_name(turn.expected_intent or "")
        if is_name(name):
            named[spelling_key(name)].append((name, turn))
    needed = 1 if policy.reviewers else SHOPPERS_WITHOUT_A_LIST
    for key, given in named.items():
        shoppers = {shopper_of(turn.user_key, turn.session_id) for _, turn in given}
        if key not in spelled and policy.catalogue is None and len(shoppers) >= needed:
            spelled[key] = _most_used(name for name, _ in given)
        if key in spelled and not known.get(spelled[key]):
            known[spelled[key]] = tuple(sorted({turn.learnable_text for _, turn in given})[:_EXAMPLES])
    return dict(sorted(known.items()))


def _most_used(names: Iterable[str]) -> str:
    counted = Counter(names)
    return min(counted, key=lambda name: (-counted[name], name))
