"""Reviews with everybody's standing, and what becomes of a bundle that one person floods with wrong answers."""

from __future__ import annotations

import numpy as np

from mangaassist_assets.labelling.gathering import label_bundle
from mangaassist_assets.labelling.judged_reviews import judge_reviews
from mangaassist_assets.labelling.label_report import label_figures
from mangaassist_assets.labelling.people.policy import LabellingPolicy
from mangaassist_assets.labelling.stored_labels import label_files
from tests.support.labelling import Group, make_turn, reviewed_turn, said

INTENTS = [f"intent_{number}" for number in range(6)]
CORPUS = {intent: [f"{intent} corpus {number}" for number in range(8)] for intent in INTENTS}
_CENTRES = dict(zip([*INTENTS, "new"], np.random.default_rng(0).normal(size=(7, 32)), strict=True))


def embed(texts):
    """The vector of a message lies round the centre of the intent that its first word names."""
    vectors = []
    for text in texts:
        own = np.random.default_rng(list(text.encode())).normal(size=32)
        vectors.append(_CENTRES[text.split()[0]] + 0.4 * own)
    stacked = np.array(vectors, dtype=np.float32).reshape(len(texts), 32)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def turn(number, truth, answer=None, by="aki"):
    message = f"{truth} message {number}"
    return (
        reviewed_turn(f"t{number:03}", said(answer, by=by), message=message)
        if answer
        else make_turn(f"t{number:03}", message)
    )


def flooded():
    """Sixty answers of eve that are all alike, seven true ones of aki, and failures that nobody reviewed."""
    of_eve = [turn(number, INTENTS[number % 6], "intent_0", by="eve") for number in range(60)]
    of_aki = [turn(100 + number, INTENTS[number % 6], INTENTS[number % 6]) for number in range(7)]
    return [*of_eve, *of_aki, *(turn(200 + number, "intent_1") for number in range(10))]


def gathered(turns, policy=LabellingPolicy(), earlier=()):  # noqa: B008 - it cannot be changed
    said_of = judge_reviews(turns, earlier, corpus=CORPUS, embed=embed, policy=policy)
    cluster = Group(cluster_id="fc-1", trace_ids=tuple(one.trace_id for one in turns))
    return label_bundle(turns, [cluster], said_of, embed=embed)


def test_sixty_answers_all_alike_make_no_label_and_are_shown_with_who_gave_them():
    found = gathered(flooded())
    assert {one.labeller for one in found.labels if one.kind == "human"} == {"aki"}
    assert found.count("propagated") == 0
    assert found.fates == {"the reviewer's answers are held back": 60, "used": 7}
    figures = label_figures(found)
    assert "of 60 answers do not fit what others say" in str(figures["held_back"])
    assert [row["standing"] for row in figures["people"]] == ["not confirmed yet", "held back"]


def test_the_turns_of_who_is_held_back_are_to_be_asked_about():
    turns = flooded()
    said_of = judge_reviews(turns, (), corpus=CORPUS, embed=embed)
    assert said_of.unheard(turns) == {one.trace_id for one in turns[:60]}
    assert sum(one.expected_intent is not None for one in said_of.heard(turns)) == 7


def test_of_a_trusted_reviewer_no_review_is_lost_though_half_of_the_intents_are_new():
    new = [turn(number, "new", f"new_{number // 2}") for number in range(40)]
    known = [turn(100 + number, INTENTS[number % 6], INTENTS[number % 6]) for number in range(40)]
    listed = gathered([*new, *known], LabellingPolicy(reviewers=("aki",)))
    assert (listed.count("human"), listed.fates) == (80, {"used": 80})
    declared = LabellingPolicy(catalogue=tuple(f"new {number}" for number in range(19)))
    waiting = gathered([*new, *known], declared)
    assert (waiting.count("human"), waiting.fates) == (78, {"the name waits to be accepted": 2, "used": 78})
    (row,) = label_figures(waiting)["waiting_intents"]
    assert (row["intent"], row["answers"], row["by"]) == ("new_19", 2, "aki")
    assert "accept-intent" in str(row["accept_with"])
    accepted = gathered([*new, *known], LabellingPolicy(catalogue=declared.catalogue, accepted_intents=("New 19",)))
    assert accepted.fates == {"used": 80}


def test_a_single_reviewer_works_and_the_report_says_that_nobody_else_looked():
    found = gathered([turn(number, INTENTS[number % 6], INTENTS[number % 6]) for number in range(30)])
    figures = label_figures(found)
    assert figures["one_hand"] == "all 30 labels are of one person: nobody else looked at any of them"
    assert figures["reviewers"] == "everybody: no list of reviewers is configured"
    assert "labels, of people and the corpus beside them, are wrong" in str(figures["label_noise"])
    assert figures["people"][0]["standing"] == "confirmed"


def test_what_is_stored_says_who_is_confirmed_and_who_is_held_back():
    report = gathered(flooded(), LabellingPolicy(reviewers=("aki", "eve"))).report()
    assert (report["reviewers"], report["held_back"]) == (["aki", "eve"], ["eve"])
    assert label_files(gathered(flooded())) == label_files(gathered(flooded()[::-1]))


def test_reviews_of_earlier_bundles_speak_for_somebody():
    now = [turn(number, INTENTS[number % 6], INTENTS[number % 6]) for number in range(6)]
    before = [turn(100 + number, INTENTS[number % 6], INTENTS[number % 6]) for number in range(30)]
    assert label_figures(gathered(now))["people"][0]["standing"] == "not confirmed yet"
    found = gathered(now, earlier=[*before, *now])
    assert label_figures(found)["people"][0]["labels"] == 36
    assert label_figures(found)["people"][0]["standing"] == "confirmed"
    assert found.count("human") == 6
