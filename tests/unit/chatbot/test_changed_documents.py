"""What a new version of a configuration document changes, on the same turns, queries and questions."""

from __future__ import annotations

import logging

import pytest

from mangaassist_assets.chatbot.changed_documents import compare_guardrails
from mangaassist_assets.chatbot.configuration.documents import (
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
)
from mangaassist_assets.chatbot.evaluated_changes import Material, evaluate_changes
from mangaassist_assets.chatbot.generation import ExtractiveGenerator
from mangaassist_assets.chatbot.parts import Generation, StageError
from mangaassist_assets.retrieval.evaluation import LabelledQuery
from mangaassist_assets.retrieval.types import Chunk
from tests.support.mined_turns import candidate, make_turn
from tests.support.store_chatbot import PASSAGES, HashEmbedder, MemoryIndex

CHUNKS = [
    Chunk(chunk_id=f"{one}::0", document_id=one, text=text, title=one, position=0, metadata={}, content_hash=one)
    for one, text in PASSAGES.items()
]
QUERIES = [
    LabelledQuery(text="gift cards never expire", relevant_documents=("policies/gift-cards.md",)),
    LabelledQuery(text="returns are free", relevant_documents=("policies/returns.md",)),
]


class Obedient:
    """Answers with the prompt's first word and the best passage, or not at all where the prompt says so."""

    def generate(self, request):
        if request.system.startswith("broken"):
            raise StageError("the model is not there")
        text = f"{request.system.split()[0]} {request.passages[0].text}" if request.passages else ""
        return Generation(
            text=text, model_id="obedient", input_tokens=len(request.user.split()), output_tokens=1, stop_reason="end"
        )


def material(**fields):
    return Material(
        **{
            "bundle": "b2",
            "turns": [make_turn(), make_turn()],
            "golden": ["gift cards", "returns are free"],
            "failed": ["shipping costs", "gift cards"],
            "queries": QUERIES,
            "chunks": CHUNKS,
            "index": MemoryIndex(),
            "embedder": HashEmbedder(),
            "generator": ExtractiveGenerator(),
            **fields,
        }
    )


def evaluated(profile, before, after, *, questions=10, others=None, **fields):
    versions = [("2", after)] if before is None else [("2", after), ("1", before)]
    in_force = {**(others or {}), profile: versions}
    changes = evaluate_changes(in_force, material(**fields), questions=questions, logger=logging.getLogger(__name__))
    return next(one for one in changes if one.profile == profile)


def test_a_first_version_has_nothing_to_be_compared_with():
    found = evaluated("routing", None, RoutingDocument(version="1"))
    assert (found.before, found.after, found.measured_on, dict(found.figures)) == (
        None,
        "2",
        "nothing: it is the first version",
        {},
    )


def test_a_ruleset_is_run_on_stored_turns_and_what_it_newly_refuses_is_counted_by_how_shoppers_liked_the_turn():
    turns = [
        make_turn(message="tell me a spoiler", user_feedback="thumbs_up"),
        make_turn(message="a very long message indeed", user_feedback="thumbs_down"),
        make_turn(message="hello", candidates=(candidate("a.md", 1, score=0.3, selected=True),)),
        make_turn(message="hello again", candidates=(candidate("a.md", 1, score=0.9, selected=True),)),
    ]
    before = GuardrailsDocument(version="1", blocked_patterns=("spoiler",), maximum_message_characters=20)
    after = GuardrailsDocument(version="2", blocked_patterns=("spoiler",), minimum_best_relevance=0.5)
    found = evaluated("guardrails", before, after, turns=iter(turns))
    assert found.figures["turns"] == (4, 4)
    assert found.figures["refused"] == (2, 2)
    assert found.figures["refused, with thumbs up"] == (1, 1)
    assert found.figures["refused, with thumbs down"] == (1, 0)
    assert found.figures["because of ungrounded"] == (0, 1)
    assert (found.figures["newly refused"], found.figures["no longer refused"]) == ((None, 1), (None, 1))
    assert found.notes[0] == "fields that differ: maximum_message_characters, minimum_best_relevance"


def test_personal_data_in_a_stored_answer_is_not_judged_again():
    turn = make_turn(answer="Write to [EMAIL] or call [PHONE].")
    rules = GuardrailsDocument(version="1", block_personal_data_in_answer=True)
    assert compare_guardrails(rules, rules, [turn])["refused"] == (0, 0)


def test_a_retrieval_policy_is_measured_on_the_labelled_queries_of_the_live_index():
    before = RoutingDocument(version="1")
    after = RoutingDocument(
        version="2", vector_candidates=1, keyword_candidates=0, rerank_candidates=1, selected_chunks=1
    )
    found = evaluated("routing", before, after)
    assert found.measured_on == "2 labelled queries on kb-test-1"
    assert found.figures["candidates"][1] == 1.0
    assert found.figures["candidates"][0] > 1.0
    assert found.figures["recall_of_candidates"] == (1.0, 1.0)


def test_a_policy_that_searches_as_before_is_not_measured():
    after = RoutingDocument(version="2", bedrock_model_id="another")
    found = evaluated("routing", RoutingDocument(version="1"), after)
    assert (found.measured_on, dict(found.figures)) == ("nothing: no field of retrieval differs", {})
    assert found.notes == ("fields that differ: bedrock_model_id",)


def test_queries_whose_documents_are_gone_are_not_measured():
    gone = [LabelledQuery(text="gone", relevant_documents=("gone.md",))]
    after = RoutingDocument(version="2", vector_candidates=5)
    found = evaluated("routing", RoutingDocument(version="1"), after, queries=gone)
    assert found.measured_on == "nothing: no labelled query can be answered by a live index"


def test_the_same_questions_are_answered_under_both_prompts():
    found = evaluated(
        "prompts",
        PromptsDocument(version="1", system="Sure:"),
        PromptsDocument(version="2", system="Well:"),
        generator=Obedient(),
    )
    # Golden and failed in turns, each once.
    assert found.figures["questions"] == (3, 3)
    assert found.figures["answered"] == (3, 3)
    assert found.figures["answers that changed"] == (None, 3)
    assert 0.5 < found.figures["supported"][0] < 1.0
    assert found.figures["input tokens"][0] == found.figures["input tokens"][1] > 0


def test_the_number_of_questions_is_bounded():
    documents = (PromptsDocument(version="1"), PromptsDocument(version="2", maximum_context_characters=200))
    assert evaluated("prompts", *documents, questions=2).figures["questions"] == (2, 2)
    assert evaluated("prompts", *documents, questions=0).measured_on.startswith("nothing: no question")


def test_the_local_model_says_that_it_obeys_no_prompt():
    found = evaluated("prompts", PromptsDocument(version="1"), PromptsDocument(version="2", system="Sing."))
    assert found.figures["answers that changed"] == (None, 0)
    assert any("obeys no prompt" in note for note in found.notes)


def test_a_model_that_fails_under_one_prompt_is_counted_and_one_that_always_fails_is_an_error():
    broken, sound = PromptsDocument(version="1", system="broken"), PromptsDocument(version="2", system="Sure:")
    assert evaluated("prompts", broken, sound, generator=Obedient()).figures["the model failed"] == (3, 0)
    with pytest.raises(StageError, match="none of 3 questions was answered: the model is not there"):
        evaluated("prompts", broken, broken.model_copy(update={"version": "2"}), generator=Obedient())


def test_the_arms_of_experiments_are_shown_with_their_shares():
    def split(share, version, *, enabled=True):
        arms = {"a": {"share": share}, "b": {"share": 1 - share}}
        experiment = {"control": "a", "arms": arms, "enabled": enabled}
        return ExperimentsDocument.model_validate({"version": version, "experiments": {"tone": experiment}})

    found = evaluated("experiments", split(0.5, "1"), split(0.9, "2"))
    assert found.figures == {"tone:a": (0.5, 0.9), "tone:b": (0.5, pytest.approx(0.1))}
    assert evaluated("experiments", None, split(0.9, "2")).figures["tone:a"] == (None, 0.9)
    assert evaluated("experiments", split(0.5, "1"), split(0.5, "2", enabled=False)).figures["tone:a"] == (0.5, None)
