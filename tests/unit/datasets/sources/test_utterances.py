import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.datasets.sources.json_lines import (
    MAX_LINE_BYTES,
    PREVIEW_CHARACTERS,
    Reject,
    UtteranceFileError,
    write_rejects,
)
from mangaassist_assets.datasets.sources.utterances import MAX_TEXT_BYTES, UtteranceReading, read_utterances
from tests.support.examples import examples


def reading_of(tmp_path: Path, content: bytes, **options) -> UtteranceReading:
    path = tmp_path / "messages.jsonl"
    path.write_bytes(content)
    return read_utterances(path, **options)


def only_reason(tmp_path: Path, line: bytes, **options) -> str:
    reading = reading_of(tmp_path, line + b'\n{"text": "the next line is still read"}\n', **options)
    assert [utterance.text for utterance in reading.utterances] == ["the next line is still read"]
    assert [reject.line_number for reject in reading.rejects] == [1]
    return reading.rejects[0].reason


def test_text_alone_is_enough(tmp_path):
    reading = reading_of(tmp_path, b'{"text": "where is my order"}')
    (utterance,) = reading.utterances
    assert (utterance.text, utterance.intent, utterance.relevant_documents) == ("where is my order", None, ())
    assert (utterance.user_id, utterance.session_id, utterance.timestamp) == (None, None, None)
    assert utterance.line_number == 1


def test_all_fields_are_read_and_unknown_ones_kept_out(tmp_path):
    line = {
        "text": "  返品できますか  ",
        "intent": "return_item",
        "relevant_documents": ["policies/returns.md", "titles.csv#17", "policies/returns.md"],
        "user_id": "shopper-1",
        "session_id": "s-1",
        "timestamp": "2026-03-10T18:30:00+09:00",
        "mood": {"nested": [1, 2]},
    }
    (utterance,) = reading_of(tmp_path, json.dumps(line).encode()).utterances
    assert utterance.text == "返品できますか"
    assert utterance.relevant_documents == ("policies/returns.md", "titles.csv#17")
    assert utterance.timestamp == datetime(2026, 3, 10, 9, 30, tzinfo=UTC)


def test_a_time_without_a_zone_is_utc(tmp_path):
    (utterance,) = reading_of(tmp_path, b'{"text": "hi", "timestamp": "2026-03-10T09:30:00"}').utterances
    assert utterance.timestamp == datetime(2026, 3, 10, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "broken JSON"),
        (b"[1, 2]", "not a JSON object but a list"),
        (b"null", "not a JSON object but null"),
        (b'"text"', "not a JSON object but a string"),
        (b"{}", '"text" is missing'),
        (b'{"text": ""}', "the text is empty"),
        (b'{"text": " \\t\\n "}', "the text is empty"),
        ('{"text": "\u200b\u2060\u3000"}'.encode(), "the text is empty"),
        (b'{"text": "\\u0000\\u0007"}', "the text is empty"),
        (b'{"text": 17}', '"text" must be a string, not a number'),
        (b'{"text": null}', "not null"),
        (b'{"text": true}', "not a boolean"),
        (b'{"text": ["a"]}', "not a list"),
        (b'{"text": "a", "text": "b"}', 'the key "text" is given twice'),
        (b'{"text": "a", "intent": 4}', '"intent" must be a string'),
        (b'{"text": "a", "intent": "a\\u0000b"}', "control characters"),
        (b'{"text": "a", "user_id": 12}', '"user_id" must be a string'),
        (b'{"text": "a", "session_id": {"a": 1}}', '"session_id" must be a string, not an object'),
        (b'{"text": "a", "relevant_documents": "x.md"}', "must be a list of document ids, not a string"),
        (b'{"text": "a", "relevant_documents": ["x.md", 3]}', "must be a string, not a number"),
        (b'{"text": "a", "relevant_documents": [""]}', "empty document id"),
        (b'{"text": "a", "timestamp": "yesterday"}', "ISO-8601"),
        (b'{"text": "a", "timestamp": 1767225600}', '"timestamp" must be a string'),
        (b'{"text": "a", "timestamp": "0001-01-01T00:00:00+14:00"}', "ISO-8601"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "\xff\xfe"}', "not UTF-8: byte 0xff at position 11"),
        (b'{"text": "a", "weight": NaN}', "NaN is no JSON value"),
        (b'{"text": "a", "weight": ' + b"1" * 5000 + b"}", "a number is too long"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"text": "' + b"x" * (MAX_TEXT_BYTES + 1) + b'"}', "100,001 bytes"),
        (b'{"text": "a", "user_id": "' + b"x" * 600 + b'"}', "600 characters"),
        (b'{"text": "' + b"x" * (3 * MAX_LINE_BYTES) + b'"}', "longer than 1,048,576 bytes"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason_and_the_next_is_read(tmp_path, line, reason):
    assert reason in only_reason(tmp_path, line)


def test_text_of_exactly_the_limit_passes_even_when_every_character_is_escaped(tmp_path):
    line = b'{"text": "' + b"\\u0041" * MAX_TEXT_BYTES + b'"}'
    (utterance,) = reading_of(tmp_path, line).utterances
    assert utterance.text == "A" * MAX_TEXT_BYTES


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_of_the_limit_passes_and_one_byte_more_does_not(tmp_path, end):
    start, close = b'{"text": "a", "padding": "', b'"}'
    fitting = start + b"x" * (MAX_LINE_BYTES - len(start) - len(close)) + close
    assert len(reading_of(tmp_path, fitting + end).utterances) == 1
    assert len(reading_of(tmp_path, b" " + fitting + end).rejects) == 1


def test_control_characters_are_taken_out_and_noted(tmp_path):
    reading = reading_of(tmp_path, b'{"text": "vol\\u0000 3\x07\\u001b[31m\\tnew\\r\\nline"}')
    assert reading.utterances[0].text == "vol 3[31m\tnew\nline"
    assert reading.notes[0].note == "3 control characters removed from the text"
    assert reading.notes[0].line_number == 1


def test_byte_order_mark_crlf_blank_lines_and_a_missing_last_newline_are_no_trouble(tmp_path):
    content = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \r\n{"text": "b"}'
    reading = reading_of(tmp_path, content)
    assert [(one.text, one.line_number) for one in reading.utterances] == [("a", 1), ("b", 4)]
    assert (reading.rejects, reading.blank_lines, reading.lines) == ((), 2, 4)


def test_a_utf_16_file_is_named_as_such(tmp_path):
    reading = reading_of(tmp_path, '{"text": "a"}\n'.encode("utf-16"))
    assert "UTF-16" in reading.rejects[0].reason


def test_an_unknown_intent_is_rejected_with_the_nearest_known_one(tmp_path):
    reason = only_reason(
        tmp_path, b'{"text": "a", "intent": "return_itme"}', known_intents=["return_item", "gift_card"]
    )
    assert "return_itme" in reason
    assert 'did you mean "return_item"?' in reason


@pytest.mark.parametrize("prepare", [Path.exists, Path.mkdir])
def test_a_file_that_cannot_be_opened_is_an_error_with_its_name(tmp_path, prepare):
    path = tmp_path / "nothing.jsonl"
    prepare(path)
    with pytest.raises(UtteranceFileError, match=r"nothing\.jsonl"):
        read_utterances(path)


def test_previews_are_short_redacted_and_safe_for_a_terminal(tmp_path):
    hostile = b'{"text": "\x1b[2J mail jane.sample@example.com or jane.sample\\u0040example.com now" ' + b"!" * 500
    preview = reading_of(tmp_path, hostile).rejects[0].preview
    assert "example.com" not in preview
    assert "\x1b" not in preview
    assert len(preview) <= PREVIEW_CHARACTERS


def test_personal_data_across_the_end_of_the_preview_is_not_cut_into_view(tmp_path):
    for padding in range(30, PREVIEW_CHARACTERS + 5):
        line = ("x" * padding + " jane.sample@example.com").encode()
        assert "jane" not in reading_of(tmp_path, line).rejects[0].preview


def test_rejects_are_written_whole_and_none_leaves_an_empty_file(tmp_path):
    path = tmp_path / "out" / "rejects.jsonl"
    rejects = [
        Reject(line_number=3, reason='a "quoted"\nreason', preview="価格"),
        Reject(line_number=9, reason="b", preview=""),
    ]
    assert write_rejects(path, rejects) == 2
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0] == {"line_number": 3, "reason": 'a "quoted"\nreason', "preview": "価格"}
    assert write_rejects(path, []) == 0
    assert path.read_bytes() == b""
    assert [child.name for child in path.parent.iterdir()] == ["rejects.jsonl"]


json_lines = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["text", "intent", "relevant_documents", "user_id", "session_id", "timestamp"])
                | st.text(max_size=5),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@given(st.lists(json_lines, max_size=8).map(b"\n".join))
@settings(max_examples=examples(300), deadline=None)
def test_no_bytes_crash_the_reader_and_every_line_is_accounted_for(tmp_path_factory, content):
    reading = reading_of(tmp_path_factory.getbasetemp(), content)
    lines = content.split(b"\n")
    expected = len(lines) - (lines[-1] == b"")
    assert reading.lines == expected
    numbers = [one.line_number for one in (*reading.utterances, *reading.rejects)]
    assert len(set(numbers)) == len(numbers) == expected - reading.blank_lines
    for utterance in reading.utterances:
        assert utterance.text.strip()
        utterance.text.encode("utf-8")
