"""Traffic: which messages a crowd of shoppers writes, who writes them in which session, and when."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.demo.noise import Garnish, make_noisy
from mangaassist_assets.demo.slots import SlotFiller
from mangaassist_assets.demo.sources import DemoDataError, Intent, Plan, Template, TrafficPlan, is_japanese

_NEAR_DUPLICATE = 0.8
_TRIES = 60
_JAPANESE_TRIES = 15
_TURNS = (1, 2, 3, 4, 5, 6)
_TURN_WEIGHTS = (30, 25, 18, 12, 9, 6)
_MOST_TURNS_IN_A_SESSION = 4
# Shoppers are drawn out of this many times as many, so that a third of one bundle comes back in the next.
_REGULARS = 3
_STAY_ON_SUBJECT = 0.3
# Shoppers by hour of the day, UTC: few at night, most after work.
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 1, 2, 4, 6, 7, 8, 8, 9, 8, 8, 8, 9, 10, 12, 13, 13, 10, 7, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One labelled message; `template` is where it came from, for tests and statistics only."""

    text: str
    intent: str
    documents: tuple[str, ...]
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A message with its shopper, session and time."""

    message: Message
    user_id: str
    session_id: str
    timestamp: datetime


class Crowd:
    """Writes messages that have not been written before in any file.

    It remembers the normalised texts and word sets of all it wrote, so that a later file never repeats an earlier one.
    """

    def __init__(self, intents: Sequence[Intent], plan: Plan, garnish: Garnish) -> None:
        self._intents = {intent.name: intent for intent in intents}
        self._plan = plan
        self._garnish = garnish
        self._texts: set[str] = set()
        self._word_sets: dict[str, list[frozenset[str]]] = {intent.name: [] for intent in intents}
        self._used_templates: set[str] = set()

    def training(self, filler: SlotFiller) -> list[Message]:
        """Write the labelled messages a shop has before it opens its chat: the launch intents, the same number each."""
        rng = random.Random(f"{self._plan.seed}:training")
        messages = []
        for intent in self._intents.values():
            if intent.since == "launch":
                decks = _Decks(
                    intent.templates, intent.plain, self._plan.training_plain_share, self._used_templates, rng
                )
                languages = self._choose_languages(self._plan.training_messages_per_intent, rng)
                messages += [self._write(intent, decks, filler, rng, japanese=japanese) for japanese in languages]
        return messages

    def traffic(self, traffic: TrafficPlan, known: Sequence[str], filler: SlotFiller) -> list[Turn]:
        """Write one file of traffic over the known and the new intents of its plan."""
        rng = random.Random(f"{self._plan.seed}:{traffic.file}")
        names = self._choose_intents(traffic, known, rng)
        decks: dict[tuple[str, bool], _Decks] = {}
        messages = []
        for name, japanese in zip(names, self._choose_languages(len(names), rng), strict=True):
            intent = self._intents[name]
            new_words = name not in traffic.new_intents and rng.random() < traffic.new_words_share
            if (name, new_words) not in decks:
                pools = _pools(intent, traffic, new_words=new_words)
                plain_share = 0.0 if new_words else traffic.plain_share
                decks[name, new_words] = _Decks(pools, intent.plain, plain_share, self._used_templates, rng)
            messages.append(self._write(intent, decks[name, new_words], filler, rng, japanese=japanese))
        return _assign(messages, traffic, rng)

    def _choose_intents(self, traffic: TrafficPlan, known: Sequence[str], rng: random.Random) -> list[str]:
        unknown_names = [name for name in (*known, *traffic.new_intents) if name not in self._intents]
        if unknown_names:
            raise DemoDataError(f"plan.toml, {traffic.file}: no file intents/{unknown_names[0]}.toml")
        new_count = round(traffic.messages * traffic.new_intent_share)
        names = [traffic.new_intents[index % len(traffic.new_intents)] for index in range(new_count)]
        weights = [self._plan.popularity.get(name, 1.0) for name in known]
        names += rng.choices(known, weights, k=traffic.messages - new_count)
        rng.shuffle(names)
        return names

    def _choose_languages(self, messages: int, rng: random.Random) -> list[bool]:
        """Return which of the messages are Japanese."""
        japanese = round(messages * self._plan.japanese_share)
        languages = [True] * japanese + [False] * (messages - japanese)
        rng.shuffle(languages)
        return languages

    def _write(
        self, intent: Intent, decks: _Decks, filler: SlotFiller, rng: random.Random, *, japanese: bool
    ) -> Message:
        for attempt in range(_TRIES):
            # There are few Japanese templates: when all are used up the message is English after all.
            template = decks.draw(japanese=japanese and attempt < _JAPANESE_TRIES)
            filled = filler.fill(template, rng)
            text = make_noisy(filled.text, self._garnish, rng)
            words = _words_of(text)
            # A near-duplicate is accepted at the very end only: crowds do repeat themselves, files of ours rarely.
            strict = attempt < _TRIES - 10
            if normalise_text(text) in self._texts or (strict and self._has_near_duplicate(intent.name, words)):
                continue
            self._texts.add(normalise_text(text))
            self._word_sets[intent.name].append(words)
            self._used_templates.add(template.text)
            return Message(text=text, intent=intent.name, documents=filled.documents, template=template.text)
        raise DemoDataError(f"intents/{intent.name}.toml has too few templates for this plan; add some with slots")

    def _has_near_duplicate(self, intent: str, words: frozenset[str]) -> bool:
        return any(similarity(words, other) >= _NEAR_DUPLICATE for other in self._word_sets[intent])


class _Decks:
    """Templates of one intent: plain ones that everybody uses, and a pile of particular ones for each language.

    Particular templates are drawn without replacement, those never used before first; a spent pile is reshuffled.
    """

    def __init__(
        self,
        particular: Iterable[Template],
        plain: Iterable[Template],
        plain_share: float,
        used: set[str],
        rng: random.Random,
    ) -> None:
        templates = list(particular)
        self._plain = [template for template in plain if not template.is_japanese]
        self._plain_share = plain_share if self._plain else 0.0
        self._by_language = {
            True: [template for template in templates if template.is_japanese],
            False: [template for template in templates if not template.is_japanese],
        }
        self._used = used
        self._rng = rng
        self._piles: dict[bool, list[Template]] = {True: [], False: []}

    def draw(self, *, japanese: bool) -> Template:
        """Return the next template, in the other language if there is none in this one."""
        if not japanese and self._rng.random() < self._plain_share:
            return self._rng.choice(self._plain)
        if not self._by_language[japanese]:
            japanese = not japanese
        if not self._piles[japanese]:
            pile = list(self._by_language[japanese])
            self._rng.shuffle(pile)
            # Popped from the end: what nobody has used yet comes first.
            pile.sort(key=lambda template: template.text not in self._used)
            self._piles[japanese] = pile
        return self._piles[japanese].pop()


def similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the Jaccard similarity of two word sets, 0 to 1."""
    return len(first & second) / max(1, len(first | second))


def _words_of(text: str) -> frozenset[str]:
    """Return what two messages are compared by: words, or for Japanese pairs of characters."""
    normalised = normalise_text(text)
    if is_japanese(normalised):
        dense = normalised.replace(" ", "")
        return frozenset(dense[index : index + 2] for index in range(max(1, len(dense) - 1)))
    return frozenset(normalised.split())


def _pools(intent: Intent, traffic: TrafficPlan, *, new_words: bool) -> tuple[Template, ...]:
    in_use = intent.new_words if new_words and intent.new_words else intent.templates
    if not traffic.held_out:
        return in_use
    # Templates in use come back with held-out series when the held-out ones are spent.
    return (intent.unseen_new_words if new_words else intent.unseen) + in_use


def _assign(messages: Sequence[Message], traffic: TrafficPlan, rng: random.Random) -> list[Turn]:
    """Deal the messages to shoppers and sessions and put the turns in the order of time."""
    queue = list(messages)
    numbers = range(traffic.first_shopper, traffic.first_shopper + _REGULARS * traffic.users)
    shoppers = [f"shopper-{number}" for number in rng.sample(numbers, traffic.users)]
    turns: list[Turn] = []
    for user_id, count in zip(shoppers, _turn_counts(len(queue), traffic, rng), strict=True):
        remaining = count
        while remaining > 0:
            length = min(remaining, rng.randint(1, _MOST_TURNS_IN_A_SESSION))
            remaining -= length
            session_id = f"s-{rng.randrange(16**10):010x}"
            moment = _session_start(traffic, rng)
            previous: Message | None = None
            for _ in range(length):
                message = _next_message(queue, previous, rng)
                turns.append(Turn(message=message, user_id=user_id, session_id=session_id, timestamp=moment))
                moment += timedelta(seconds=rng.randint(15, 240))
                previous = message
    return sorted(turns, key=lambda turn: (turn.timestamp, turn.session_id))


def _turn_counts(messages: int, traffic: TrafficPlan, rng: random.Random) -> list[int]:
    if not traffic.users <= messages <= traffic.users * _TURNS[-1]:
        raise DemoDataError(
            f"plan.toml, {traffic.file}: {messages} messages cannot be {_TURNS[0]} to {_TURNS[-1]} each for "
            f"{traffic.users} users"
        )
    counts = rng.choices(_TURNS, _TURN_WEIGHTS, k=traffic.users)
    while (difference := messages - sum(counts)) != 0:
        step = 1 if difference > 0 else -1
        index = rng.randrange(len(counts))
        if _TURNS[0] <= counts[index] + step <= _TURNS[-1]:
            counts[index] += step
    return counts


def _next_message(queue: list[Message], previous: Message | None, rng: random.Random) -> Message:
    if previous is not None and rng.random() < _STAY_ON_SUBJECT:
        for index in range(len(queue) - 1, -1, -1):
            if queue[index].intent == previous.intent:
                return queue.pop(index)
    return queue.pop()


def _session_start(traffic: TrafficPlan, rng: random.Random) -> datetime:
    day = traffic.first_day + timedelta(days=rng.randrange(traffic.days))
    hour = rng.choices(range(24), _HOUR_WEIGHTS)[0]
    return datetime.combine(day, time(hour, rng.randrange(60), rng.randrange(60)), tzinfo=UTC)
