"""Golden questions and answers in the field's spellings: what each can prove is kept, what it cannot is said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upath import UPath

from mangaassist_assets.datasets.building.intent_dataset import build_intent_dataset
from mangaassist_assets.datasets.sources.golden_file import GoldenMessage, read_golden_file, with_documents
from mangaassist_assets.datasets.sources.golden_set import INPUT_FILE, golden_to_json, keep_golden_set, read_handed_in
from mangaassist_assets.datasets.sources.utterances import Utterance, read_utterances
from mangaassist_assets.privacy import Vocabulary

QUESTION, ANSWER, PASSAGE = (
    "Can I return a volume?",
    "Within thirty days.",
    "Unread volumes come  back within\nthirty days.",
)
KNOWLEDGE = {"policies/returns.md": f"Returns. {PASSAGE} Then money is refunded.", "hours.md": "We open at ten."}


def read(tmp_path, *lines):
    path = tmp_path / "golden.jsonl"
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return read_golden_file(path)


SPELLINGS = {
    "plain": {"question": QUESTION, "answer": ANSWER},
    "ground truth": {"query": QUESTION, "ground_truth": ANSWER, "answer": "what a system said"},
    "ragas": {"user_input": QUESTION, "reference": ANSWER, "response": "what a system said"},
    "ragas of before": {"question": QUESTION, "ground_truths": [ANSWER], "answer": "what a system said"},
    "ragas, several turns": {
        "user_input": [
            {"type": "human", "content": "hi"},
            {"type": "ai", "content": "hello"},
            {"type": "human", "content": QUESTION},
        ],
        "reference": ANSWER,
    },
    "mlflow": {"inputs": {"question": QUESTION}, "expectations": {"expected_response": ANSWER}},
    "mlflow, another name": {"inputs": {"shopper_says": QUESTION}, "expectations": {"expected_response": ANSWER}},
    "mlflow, messages": {
        "inputs": {"messages": [{"role": "system", "content": "sell"}, {"role": "user", "content": QUESTION}]},
        "expectations": {"expected_facts": [ANSWER]},
    },
    "mlflow, plain columns": {"inputs": QUESTION, "expected_response": ANSWER},
    "bedrock models": {"prompt": QUESTION, "referenceResponse": ANSWER, "category": "returns"},
    "bedrock rag": {
        "conversationTurns": [
            {
                "prompt": {"content": [{"text": QUESTION}]},
                "referenceResponses": [{"content": [{"text": ANSWER}]}],
            }
        ]
    },
    "instructions": {"input": QUESTION, "output": ANSWER},
    "our own, with an answer": {"text": QUESTION, "expected_answer": ANSWER},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_question_with_its_answer_is_read_in_every_spelling(tmp_path, spelling):
    reading = read(tmp_path, SPELLINGS[spelling])
    assert (reading.rejects, reading.notes) == ((), ())
    (message,) = reading.messages
    assert (message.text, message.answers, message.intent) == (QUESTION, (ANSWER,), None)
    assert reading.counts()["only_held_out"] == 1


@pytest.mark.parametrize(
    "told",
    [
        {"relevant_documents": ["policies/returns.md"]},
        {"contexts": [PASSAGE]},
        {"contexts": PASSAGE},
        {"retrieved_contexts": ["unread volumes come back within thirty days."]},
        {"reference_contexts": [PASSAGE], "retrieved_contexts": ["We open at ten."]},
        {"sources": ["s3://bucket/knowledge/policies/returns.md"]},
        {"source_documents": [{"page_content": PASSAGE, "metadata": {"source": "policies/returns.md"}}]},
        {"expectations": {"expected_retrieved_context": [{"doc_uri": "policies/returns.md"}]}},
        {"referenceContexts": [{"content": [{"text": PASSAGE}]}]},
    ],
)
def test_documents_are_named_by_id_by_address_or_by_what_they_say(tmp_path, told):
    reading = with_documents(read(tmp_path, {"question": QUESTION, **told}), KNOWLEDGE)
    (message,) = reading.messages
    assert message.relevant_documents == ("policies/returns.md",)
    assert reading.notes == ()
    assert (reading.counts()["with_documents"], reading.counts()["only_held_out"]) == (1, 0)


def test_what_stands_in_no_document_is_kept_and_told(tmp_path):
    given = {"question": QUESTION, "contexts": ["We close at eight.", PASSAGE]}
    reading = with_documents(read(tmp_path, given, {"question": "and?", "sources": ["gone.md"]}), KNOWLEDGE)
    assert reading.messages[0].contexts == ("We close at eight.", PASSAGE.strip())
    assert reading.messages[1].relevant_documents == ("gone.md",)
    assert [(note.line_number, note.note) for note in reading.notes] == [
        (1, "1 of 2 contexts stand in no document of the knowledge"),
        (2, "no document of the knowledge is 'gone.md'"),
    ]


def test_an_intent_makes_a_question_part_of_the_intent_golden_set(tmp_path):
    lines = [
        {"question": QUESTION, "intent": "return"},
        {"inputs": {"query": "when?"}, "expectations": {"expected_intent": "hours"}},
    ]
    assert [one.intent for one in read(tmp_path, *lines).messages] == ["return", "hours"]


def test_every_turn_of_a_conversation_is_a_question(tmp_path):
    turns = [{"prompt": {"content": [{"text": text}]}} for text in ("first?", "second?")]
    assert [one.text for one in read(tmp_path, {"conversationTurns": turns}).messages] == ["first?", "second?"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"answer": ANSWER}, "no question: none of question, query"),
        ({"question": " "}, "the text is empty"),
        ({"question": {"parts": 7}}, '"question" must be a text, or messages with a text of the user, not an object'),
        ({"question": True}, "not a boolean"),
        ({"question": [{"role": "assistant", "content": "hi"}]}, "not a list"),
        ({"conversationTurns": []}, '"conversationTurns" must be a list of objects'),
        ({"conversationTurns": [{"referenceResponses": []}]}, "no question"),
        ({"inputs": {"a": 1, "b": 2}}, "no question"),
        ({"question": QUESTION, "intent": ["x"]}, '"intent" must be a string'),
        ('{"question": "cut', "broken JSON"),
        ("[]", "not a JSON object but a list"),
        ('{"question": "a", "question": "b"}', "given twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_told_with_its_reason_and_stops_no_other(tmp_path, line, why):
    reading = read(tmp_path, line, "", {"question": QUESTION})
    (reject,) = reading.rejects
    assert reject.line_number == 1
    assert why in reject.reason
    assert ([one.line_number for one in reading.messages], reading.blank_lines) == ([3], 1)


def test_a_part_that_cannot_be_used_is_left_out_with_a_note_and_the_question_stays_held_out(tmp_path):
    reading = read(tmp_path, {"question": QUESTION, "answer": {"score": True}, "contexts": [None, PASSAGE]})
    (message,) = reading.messages
    assert (message.answers, message.contexts) == ((), (PASSAGE,))
    assert [note.note for note in reading.notes] == [
        '"answer" has something that is no text and was left out: an object',
        '"contexts" has something that names no document and was left out: null',
    ]


def test_lines_of_our_own_format_are_read_as_they_always_were(tmp_path):
    lines = [
        {"text": " where is it\x07 ", "intent": "track", "relevant_documents": ["a b", "c"], "user_id": "u"},
        {"text": "x"},
    ]
    reading = read(tmp_path, *lines)
    plain = read_utterances(tmp_path / "golden.jsonl")
    assert [
        Utterance(**{name: getattr(one, name) for name in Utterance.__slots__}) for one in reading.messages
    ] == list(plain.utterances)
    assert reading.notes == plain.notes


def test_answers_and_contexts_are_kept_redacted_and_old_files_keep_their_digest(tmp_path):
    folder, words = UPath(tmp_path / "inputs"), Vocabulary(())
    folder.mkdir()
    told = GoldenMessage(text=QUESTION, answers=("Write to a@example.invalid",), contexts=("Call 090-1234-5678",))
    keep_golden_set(folder, [told, GoldenMessage(text="plain")], vocabulary=words, replace_present=False)
    kept = [json.loads(line) for line in (folder / INPUT_FILE).read_text().splitlines()]
    assert kept[0]["answers"] == ["Write to [EMAIL]"]
    assert kept[0]["contexts"] == ["Call [PHONE]"]
    assert set(kept[1]) == {"text", "intent", "relevant_documents"}
    # The very bytes of before there were answers: the set in use is the same one.
    keep_golden_set(folder, [told, GoldenMessage(text="plain")], vocabulary=words, replace_present=False)
    again = read_handed_in(folder).redacted(words)
    assert json.loads(golden_to_json(again)) == kept


def test_a_question_with_only_an_answer_is_never_trained_on(tmp_path):
    (golden,) = read(tmp_path, SPELLINGS["ragas"]).messages
    base = [Utterance(text=QUESTION, intent="return")]
    base += [Utterance(text=f"message number {n} about {n}", intent=("a", "b")[n % 2]) for n in range(40)]
    rows = build_intent_dataset(base, [], golden_texts=[golden.text]).rows
    assert rows.height > 0
    assert QUESTION not in rows["text"].to_list()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "content", "question", "role", "metadata", "id"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = (
    "question",
    "inputs",
    "expectations",
    "answer",
    "contexts",
    "conversationTurns",
    "messages",
    "intent",
    "sources",
)


@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), min_size=1, max_size=4))
def test_whatever_a_line_holds_it_becomes_messages_or_one_reject(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("lines")
    reading = with_documents(read(folder, *lines), KNOWLEDGE)
    known = {one.line_number for one in reading.messages} | {one.line_number for one in reading.rejects}
    assert known == set(range(1, len(lines) + 1))
