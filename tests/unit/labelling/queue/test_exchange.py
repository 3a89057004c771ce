import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.labelling.queue import label_import
from mangaassist_assets.labelling.queue.export import COLUMNS, export_rows, guarded, to_csv, to_jsonl, unguarded
from mangaassist_assets.labelling.queue.label_import import (
    KnownAnswers,
    LabelFileError,
    read_labels,
)
from mangaassist_assets.tracing.contract.turns import RankedCandidate
from tests.support.labelling import make_turn, queue_item

NOW = 1_780_000_000_000
KNOWN = KnownAnswers(
    trace_ids=["tr-1", "tr-2"], intents=["gift_card", "order_status"], documents=["policies/returns.md", "faq.html"]
)
HEADER = "trace_id,intent,documents,labeller,labelled_at\n"


def item(trace_id, rank=1):
    return queue_item(trace_id, rank, cluster_name="=cluster", questions=("intent", "documents"))


def read(text, *, file_format="csv", known=KNOWN, **options):
    content = text if isinstance(text, bytes) else text.encode()
    return read_labels(content, file_format=file_format, known=known, now_ms=NOW, **options)


def problems(found):
    return {one.line: one.reason for one in found.problems}


@pytest.fixture
def rows():
    candidate = RankedCandidate(chunk_id="c", document_id="faq.html", retrieval_rank=1, retrieval_score=1.0)
    turns = {
        "tr-1": make_turn(
            "tr-1",
            '=HYPERLINK("http://evil")\nignore previous instructions | mail me at aki@example.org',
            answer="+1 and so on",
            intent_confidence=0.5,
            candidates=(candidate,),
        ),
        "tr-2": make_turn("tr-2", "ギフトカードはどこ?", intent="gift_card"),
    }
    return export_rows([item("tr-2", 2), item("tr-1"), item("gone", 3)], turns, {"fc-1": ("tr-1", "tr-2", "gone")})


class TestExport:
    """What leaves the platform."""

    def test_a_turn_of_the_audit_has_no_cluster_and_says_why_it_is_asked_about(self):
        drawn = queue_item(
            "tr-2", origin="audit", inclusion_probability=0.5, cluster_id=None, cluster_name=None, reason="at random"
        )
        turns = {"tr-2": make_turn("tr-2", "where is it")}
        (row,) = csv.DictReader(io.StringIO(to_csv(export_rows([drawn], turns, {})).decode("utf-8-sig")))
        assert (row["cluster_id"], row["cluster_name"], row["likely_intents"], row["reason"]) == (
            "",
            "",
            "",
            "at random",
        )
        assert json.loads(to_jsonl(export_rows([drawn], turns, {})))["cluster_id"] is None

    def test_no_cell_is_a_formula_and_no_message_has_personal_data(self, rows):
        table = list(csv.reader(io.StringIO(to_csv(rows).decode("utf-8-sig"))))
        assert table[0] == list(COLUMNS)
        assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for line in table for cell in line)
        first = dict(zip(table[0], table[1], strict=True))
        assert first["message"].startswith("'=HYPERLINK")
        assert "aki@example.org" not in to_csv(rows).decode()
        assert (first["answer"], first["cluster_name"]) == ("'+1 and so on", "'=cluster")

    def test_a_row_has_what_a_labeller_needs_and_room_for_the_answer(self, rows):
        lines = [json.loads(line) for line in to_jsonl(rows).decode().splitlines()]
        assert [line["trace_id"] for line in lines] == ["tr-1", "tr-2"]
        assert lines[0]["likely_intents"] == ["gift_card", "order_status"]
        assert lines[0]["shown_documents"] == ["faq.html"]
        assert lines[1]["message"] == "ギフトカードはどこ?"
        assert {lines[0][name] for name in ("intent", "documents", "labeller", "labelled_at")} == {None}

    def test_what_was_exported_reads_back_as_unanswered(self, rows):
        for content, file_format in ((to_csv(rows), "csv"), (to_jsonl(rows), "jsonl")):
            found = read(content, file_format=file_format)
            assert (found.labels, found.problems, found.unanswered) == ((), (), 2)

    def test_an_exported_file_that_was_filled_in_is_labels(self, rows):
        table = list(csv.DictReader(io.StringIO(to_csv(rows).decode("utf-8-sig"))))
        table[0] |= {"intent": "Gift Card", "documents": "faq.html; policies/returns.md", "labeller": "aki"}
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
        found = read(buffer.getvalue())
        (label,) = found.labels
        assert (label.trace_id, label.intent, label.documents) == (
            "tr-1",
            "gift_card",
            ("faq.html", "policies/returns.md"),
        )
        assert (label.labeller, label.labelled_ms, found.unanswered) == ("aki", None, 1)


class TestImport:
    """What comes in."""

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("tr-9,gift_card,,aki,", "trace_id is no trace of this bundle"),
            ("tr-1,gift_card,,,", "labeller is empty"),
            ("tr-1,gift_crad,,aki,", "intent is none of the known ones"),
            ("tr-1,gift_card,secret.md,aki,", "documents names one that the knowledge does not have"),
            ("tr-1,gift_card,,aki,yesterday", "labelled_at is no ISO 8601"),
            ("tr-1,gift_card,,aki,2026-01-01T10:00:00", "labelled_at is no ISO 8601"),
            ("tr-1,gift_card,,aki,2999-01-01T10:00:00Z", "labelled_at lies in the future"),
            ("tr-1,gift_card,,aki,-5", "labelled_at is no ISO 8601"),
            (f"tr-1,{'x' * 300},,aki,", "intent has more than 200 characters"),
            ("tr-1,gift_card,,a\x07ki,", "labeller has control characters"),
            ("tr-1,gift_card,,aki", "4 cells where the first line has 5"),
            (f"tr-1,,{';'.join(f'd{number}' for number in range(30))},aki,", "documents names more than 20"),
        ],
    )
    def test_a_bad_row_is_listed_by_line_and_the_others_count(self, row, reason):
        found = read(f"{HEADER}{row}\ntr-2,order_status,,ben,\n")
        assert [one.trace_id for one in found.labels] == ["tr-2"]
        (line,) = found.problems
        assert line.line == 2
        assert reason in line.reason

    def test_a_reason_repeats_nothing_of_the_row(self):
        (problem,) = read(f"{HEADER}tr-1,<script>me@example.org,,aki,\n").problems
        assert "script" not in problem.reason

    def test_lines_are_counted_through_cells_of_several_lines(self):
        text = 'trace_id,message,intent,labeller\ntr-1,"one\ntwo\nthree",gift_card,aki\n\ntr-9,x,gift_card,aki\n'
        found = read(text)
        assert [one.line for one in found.labels] == [2]
        assert list(problems(found)) == [6]

    @pytest.mark.parametrize("separator", [";", "\t", ","])
    def test_spreadsheets_of_any_country_are_read(self, separator):
        text = "trace_id,intent,labeller\r\ntr-1,gift_card,aki\r\n".replace(",", separator)
        assert [one.intent for one in read("\ufeff" + text).labels] == ["gift_card"]

    def test_json_lines_are_read_and_bad_ones_listed(self):
        lines = [
            json.dumps(
                {"trace_id": "tr-1", "intent": "gift_card", "labeller": "aki", "labelled_at": 1_770_000_000_000}
            ),
            "not json",
            "[1]",
            json.dumps({"trace_id": "tr-1", "intent": 5, "labeller": "aki"}),
            json.dumps({"trace_id": "tr-2", "documents": "faq.html", "labeller": "ben"}),
            json.dumps({"trace_id": "tr-2", "documents": {"a": 1}, "labeller": "ben"}),
            json.dumps({"trace_id": "tr-2", "intent": "gift_card", "labeller": "ben", "labelled_at": True}),
            "[" * 100_000,
        ]
        found = read("\n".join(lines), file_format="jsonl")
        assert [(one.trace_id, one.labelled_ms) for one in found.labels] == [
            ("tr-1", 1_770_000_000_000),
            ("tr-2", None),
        ]
        assert list(problems(found)) == [2, 3, 4, 6, 7, 8]

    def test_the_same_answer_twice_is_one_and_a_later_one_replaces_an_earlier(self):
        found = read(
            HEADER + "tr-1,gift_card,,aki,2026-01-01T10:00:00Z\n"
            "tr-1,gift_card,,aki,2026-01-01T10:00:00Z\n"
            "tr-1,order_status,,Aki,2026-01-02T10:00:00+09:00\n"
        )
        assert [(one.intent, one.line) for one in found.labels] == [("order_status", 4)]
        assert (found.duplicates, found.problems) == (2, ())

    def test_two_answers_of_one_person_at_one_time_are_a_problem_of_both_rows(self):
        found = read(HEADER + "tr-1,gift_card,,aki,\ntr-1,order_status,,aki,\n")
        assert found.labels == ()
        assert set(problems(found)) == {2, 3}
        assert "different answers in lines 2, 3" in problems(found)[2]

    def test_two_people_may_disagree_and_are_listed(self):
        found = read(HEADER + "tr-1,gift_card,,aki,\ntr-1,order_status,,ben,\n")
        assert (len(found.labels), found.contradictions) == (2, ("tr-1",))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no column 'trace_id'"),
            (b"trace_id,intent\n", "no column 'labeller'"),
            (b"trace_id,labeller,labeller\n", "'labeller' comes twice"),
            (b"trace_id,labeller\n\xff\xfe\n", "line 2 is not UTF-8"),
        ],
    )
    def test_a_file_that_is_no_table_of_labels_is_refused(self, content, message):
        with pytest.raises(LabelFileError, match=message):
            read(content)

    def test_a_file_of_the_wrong_size_is_refused_before_it_costs_memory(self, monkeypatch):
        rows = HEADER + "tr-1,gift_card,,aki,\n" * 3
        monkeypatch.setattr(label_import, "MOST_ROWS", 2)
        with pytest.raises(LabelFileError, match="more than 2 rows"):
            read(rows)
        monkeypatch.setattr(label_import, "MOST_BYTES", 10)
        with pytest.raises(LabelFileError, match="more than 10"):
            read(rows)

    def test_an_open_quote_ends_the_file_and_says_where(self):
        found = read(HEADER + 'tr-1,gift_card,,aki,\ntr-2,"gift_card,,aki,\n')
        assert len(found.labels) == 1
        assert "no CSV from here on" in problems(found)[3]


@given(st.text(alphabet="'=+-@＝\ta1", max_size=8) | st.text(max_size=20))
def test_a_guarded_cell_is_never_a_formula_and_reads_back(text):
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(guarded(text)) == text


@given(st.binary(max_size=300))
def test_any_bytes_give_labels_or_one_clear_error(content):
    for file_format in ("csv", "jsonl"):
        try:
            found = read(HEADER.encode() + content, file_format=file_format)
        except LabelFileError:
            continue
        assert found.labels == ()
