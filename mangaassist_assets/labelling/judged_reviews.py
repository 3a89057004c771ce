"""Reviews with everybody's standing: what people said, and whose answers are held back for now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mangaassist_assets.labelling.known_intents import known_intents
from mangaassist_assets.labelling.people.policy import EVERYBODY, LabellingPolicy, heard_turns, person_key
from mangaassist_assets.labelling.people.standing import NOBODY, GivenLabel, People, corpus_to_compare, judge_people
from mangaassist_assets.labelling.reviews import ReviewLabels, is_reviewed, labels_from_reviews
from mangaassist_assets.retrieval.types import Vectors
from mangaassist_assets.tracing.contract.turns import ChatTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedReviews:
    """The labels of a bundle's reviews without those that are held back, and the people who gave them.

    `intents` are the known ones, each with a few redacted example messages; the reviews were read under `policy`.
    """

    reviews: ReviewLabels
    intents: Mapping[str, Sequence[str]]
    people: People = NOBODY
    policy: LabellingPolicy = EVERYBODY

    def heard(self, turns: Collection[ChatTurn]) -> list[ChatTurn]:
        """Return turns as they are without the labels of people who are not listed, or held back."""
        held_back = {person_key(one) for one in self.people.held_back}
        return heard_turns(turns, self.policy, held_back=held_back)

    def unheard(self, turns: Collection[ChatTurn]) -> frozenset[str]:
        """Return the ids of turns that only such people reviewed: somebody else is to be asked."""
        pairs = zip(turns, self.heard(turns), strict=True)
        return frozenset(turn.trace_id for turn, heard in pairs if is_reviewed(turn) and not is_reviewed(heard))


def judge_reviews(
    turns: Sequence[ChatTurn],
    earlier: Sequence[ChatTurn],
    *,
    corpus: Mapping[str, Sequence[str]],
    embed: Callable[[Sequence[str]], Vectors],
    policy: LabellingPolicy = EVERYBODY,
    labelled_before: Collection[str] = (),
) -> JudgedReviews:
    """Return what the reviews of a bundle say, without the answers of people that others' answers speak against.

    Args:
        turns: The bundle's turns, at least those that people reviewed.
        earlier: Reviewed turns of the bundles before; those of `turns` among them count once.
        corpus: Messages of the training corpus by intent.
        embed: Returns the vectors of messages, each of length one.
        policy: Whose answers count, and which new intents.
        labelled_before: See `known_intents`.
    """
    own = {turn.trace_id for turn in turns}
    others = [turn for turn in earlier if turn.trace_id not in own]
    intents = known_intents(corpus, heard_turns([*others, *turns], policy), policy, labelled_before=labelled_before)
    reviews = labels_from_reviews(turns, known_intents=intents, policy=policy)
    before = labels_from_reviews(others, known_intents=intents, policy=policy)
    given = [(label, source.people[label.trace_id]) for source in (before, reviews) for label in source.labels]
    if not given:
        return JudgedReviews(reviews=reviews, intents=intents, policy=policy)
    learned = corpus_to_compare(corpus)
    vectors = embed([text for _, _, text in learned] + [label.text for label, _ in given])
    labels = [
        GivenLabel(example_id=example_id, intent=intent, vector=vectors[row])
        for row, (example_id, intent, _) in enumerate(learned)
    ] + [
        GivenLabel(example_id=label.trace_id, intent=label.intent, vector=vectors[row], people=people)
        for row, (label, people) in enumerate(given, start=len(learned))
    ]
    people = judge_people(labels, policy)
    if people.held_back:
        keys = {person_key(one) for one in people.held_back}
        reviews = labels_from_reviews(turns, known_intents=intents, policy=policy, held_back=keys)
    return JudgedReviews(reviews=reviews, intents=intents, people=people, policy=policy)
