"""Reading a knowledge folder: what becomes a document, what a reject, and that hostile input costs no time."""

from __future__ import annotations

import json
import os

import pytest

from mangaassist_assets.retrieval.documents.documents import read_knowledge
from mangaassist_assets.retrieval.errors import KnowledgeError
from tests.support.timing import growth


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def by_id(reading):
    return {document.document_id: document for document in reading.documents}


def rejected(reading):
    return {(reject.file, reject.place): reject.reason for reject in reading.rejects}


def test_every_known_kind_of_file_becomes_documents_in_the_order_of_their_paths(tmp_path):
    put(tmp_path, "policies/returns.md", "# Returns\n\nThirty days.\n")
    put(tmp_path, "guides/start_here.txt", "Begin with volume one.")
    put(tmp_path, "faq.html", "<html><title>Questions</title><h1>FAQ</h1><p>Ask &amp; see</p></html>")
    put(tmp_path, "titles.csv", "title,genre\nMoon Baker,slice of life\nIron Lotus,action\n")
    put(tmp_path, "events.jsonl", '{"name": "Signing", "text": "On Sunday."}\n')

    reading = read_knowledge(tmp_path)

    assert reading.rejects == ()
    assert [document.document_id for document in reading.documents] == [
        "events.jsonl#1",
        "faq.html",
        "guides/start_here.txt",
        "policies/returns.md",
        "titles.csv#1",
        "titles.csv#2",
    ]
    documents = by_id(reading)
    assert [document.title for document in reading.documents] == [
        "Signing",
        "Questions",
        "Start here",
        "Returns",
        "Moon Baker",
        "Iron Lotus",
    ]
    assert documents["titles.csv#2"].text == "Genre: action"
    assert documents["titles.csv#2"].metadata == {"title": "Iron Lotus", "genre": "action"}
    assert documents["titles.csv#2"].kind == "record"
    assert documents["faq.html"].text == "# FAQ\n\nAsk & see"


def test_html_keeps_headings_and_lists_and_drops_scripts_styles_and_comments(tmp_path):
    put(
        tmp_path,
        "a.html",
        "<style>p {color: red}</style><script>var secret = '<p>x</p>'</script><!-- call 555 --><h2>Paying\n now</h2>"
        "<ul><li>by  card<li>by <b>points</b></ul><p>1 < 2</p><template><p>hidden</p></template><svg/>the end",
    )
    text = read_knowledge(tmp_path).documents[0].text
    assert text == "## Paying now\n\n- by card\n- by points\n\n1 < 2\n\nthe end"


def test_markdown_loses_front_matter_and_comments(tmp_path):
    put(tmp_path, "a.md", "---\ntitle: 'Gift cards'\nauthor: x\n---\n# Cards\n<!-- draft: ask Taro -->They expire.\n")
    document = read_knowledge(tmp_path).documents[0]
    assert (document.title, document.text) == ("Gift cards", "# Cards\nThey expire.")


def test_metadata_beside_a_document_is_read_plain_and_typed(tmp_path):
    put(tmp_path, "a.md", "# A\ntext")
    attributes = {
        "audience": "staff",
        "year": 2026,
        "price": 3.0,
        "new": True,
        "tags": ["x", "y"],
        "typed": {"value": {"type": "STRING", "stringValue": "en"}, "includeForEmbedding": True},
        "list": {"value": {"type": "STRING_LIST", "stringListValue": ["a", "b"]}},
    }
    put(tmp_path, "a.md.metadata.json", json.dumps({"metadataAttributes": attributes}))
    assert read_knowledge(tmp_path).documents[0].metadata == {
        "audience": "staff",
        "year": "2026",
        "price": "3",
        "new": "true",
        "tags": "x, y",
        "typed": "en",
        "list": "a, b",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", 'no object "metadataAttributes"'),
        ('{"metadataAttributes": {"a": {"b": 1}}}', "the attribute 'a' must be a plain value"),
        ('{"metadataAttributes": {"a": null}}', "'a' is neither text"),
        ("[" * 100_000, "not JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_document_whose_metadata_is_broken_is_held_back(tmp_path, content, reason):
    put(tmp_path, "a.md", "# A\ntext")
    put(tmp_path, "b.md", "# B\ntext")
    put(tmp_path, "a.md.metadata.json", content)
    reading = read_knowledge(tmp_path)
    assert list(by_id(reading)) == ["b.md"]
    assert "held back, as its a.md.metadata.json cannot be used" in rejected(reading)["a.md", ""]
    assert reason in rejected(reading)["a.md", ""]


def test_metadata_without_a_document_is_a_reject(tmp_path):
    put(tmp_path, "b.md", "# B")
    put(tmp_path, "a.md.metadata.json", "{}")
    assert rejected(read_knowledge(tmp_path)) == {("a.md.metadata.json", ""): "there is no document it describes"}


def test_what_cannot_be_read_is_a_reject_with_its_reason(tmp_path):
    folder = tmp_path / "knowledge"
    put(folder, "good.md", "text")
    put(folder, "latin.txt", "café".encode("latin-1"))
    put(folder, "empty.md", " \n")
    put(folder, "comment.md", "<!-- nothing else -->")
    put(folder, "large.txt", "x" * 2_000)
    put(folder, "picture.png", b"\x89PNG")
    put(folder, "no_suffix", "x")
    put(folder, ".hidden", "x")
    put(folder, ".git/config.txt", "x")
    put(tmp_path, "secret.md", "secret")
    (folder / "escape.md").symlink_to(tmp_path / "secret.md")
    (folder / "escape").symlink_to(tmp_path)
    (folder / "inside").symlink_to(folder)
    (folder / "alias.md").symlink_to(folder / "good.md")
    (folder / "broken.md").symlink_to(folder / "nowhere.md")
    (folder / "loop.md").symlink_to(folder / "loop.md")
    os.mkfifo(folder / "pipe.md")

    reading = read_knowledge(folder, max_file_bytes=1_000)

    assert list(by_id(reading)) == ["alias.md", "good.md"]
    reasons = {file: reason for (file, _), reason in rejected(reading).items()}
    assert set(reasons) == {
        *("latin.txt", "empty.md", "comment.md", "large.txt", "picture.png", "no_suffix"),
        *("escape.md", "escape", "inside", "broken.md", "loop.md", "pipe.md"),
    }
    assert "not UTF-8" in reasons["latin.txt"]
    assert "byte 3" in reasons["latin.txt"]
    assert "2,000 bytes" in reasons["large.txt"]
    assert "leads out of the knowledge folder" in reasons["escape.md"]
    assert "suffix .png is not known" in reasons["picture.png"]
    assert "not a regular file" in reasons["pipe.md"]


def test_a_name_that_is_not_text_is_a_reject(tmp_path):
    put(tmp_path, "good.md", "text")
    for name in (b"bad\xff.md", b"line\nbreak.md"):
        with open(os.path.join(os.fsencode(tmp_path), name), "w") as file:  # noqa: PTH118, PTH123 - a name in bytes
            file.write("x")
    reading = read_knowledge(tmp_path)
    assert list(by_id(reading)) == ["good.md"]
    assert [reject.reason for reject in reading.rejects] == ["its name is not printable UTF-8"] * 2


def test_a_broken_row_leaves_the_others_alone_and_keeps_their_numbers(tmp_path):
    put(tmp_path, "t.csv", 'title,genre\nA,x\nB\nC,y,z\n\n"D"q,w\nE,"multi\nline"\n,\nF,v\n')
    reading = read_knowledge(tmp_path)
    assert {document.document_id: document.title for document in reading.documents} == {
        "t.csv#1": "A",
        "t.csv#5": "E",
        "t.csv#7": "F",
    }
    assert [(reject.place, reject.reason[:12]) for reject in reading.rejects] == [
        ("row 2 (line 3)", "it has 1 fie"),
        ("row 3 (line 4)", "it has 3 fie"),
        ("row 4 (line 6)", "not a row of"),
        ("row 6 (line 9)", "empty"),
    ]


def test_an_unclosed_quote_is_a_reject_and_not_a_document(tmp_path):
    put(tmp_path, "t.csv", 'title,genre\nA,x\nB,"y\nC,z\n')
    reading = read_knowledge(tmp_path)
    assert list(by_id(reading)) == ["t.csv#1"]
    assert [reject.place for reject in reading.rejects] == ["row 2 (line 3)"]


@pytest.mark.parametrize(
    ("header", "reason"), [("a,a", "name every column once"), ("a,,b", "name every column once"), ("A,a", "once")]
)
def test_a_table_without_a_usable_header_is_rejected_as_a_whole(tmp_path, header, reason):
    put(tmp_path, "t.csv", header + "\n1,2,3\n")
    put(tmp_path, "good.md", "text")
    assert reason in rejected(read_knowledge(tmp_path))["t.csv", ""]


def test_semicolons_and_byte_order_marks_of_spreadsheets_are_understood(tmp_path):
    put(tmp_path, "t.csv", "\ufefftitle;note\nA;one, two\n")
    put(tmp_path, "u.txt", "\ufeff日本語".encode("utf-16-le"))
    documents = by_id(read_knowledge(tmp_path))
    assert documents["t.csv#1"].text == "Note: one, two"
    assert documents["u.txt"].text == "日本語"


def test_a_broken_line_of_json_leaves_the_others_alone(tmp_path):
    lines = [
        '{"title": "A", "text": "x", "n": 1, "deep": {"k": [1]}}',
        "{",
        "[]",
        '"s"',
        "",
        "{}",
        '{"text": "\\ud800b"}',
    ]
    put(tmp_path, "e.jsonl", "\n".join([*lines, "[" * 100_000, '{"a": ' + "9" * 5_000 + "}", '{"t": NaN}']))
    reading = read_knowledge(tmp_path)
    assert {document.document_id: document.text for document in reading.documents} == {
        "e.jsonl#1": 'N: 1\nDeep: {"k": [1]}\nx',
        "e.jsonl#7": "?b",
        "e.jsonl#10": "nan",
    }
    assert [reject.place for reject in reading.rejects] == [f"line {number}" for number in (2, 3, 4, 6, 8, 9)]


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_named(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(KnowledgeError, match=name):
        read_knowledge(tmp_path / name)


def test_an_empty_folder_says_what_to_put_there(tmp_path):
    with pytest.raises(KnowledgeError, match=r"it is empty\. Put \.md"):
        read_knowledge(tmp_path)
    put(tmp_path, "a.png", "x")
    with pytest.raises(KnowledgeError, match=r"1 were rejected \(a\.png: the suffix"):
        read_knowledge(tmp_path)


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<!",
        "<![",
        "</",
        '<a b="',
        "<svg>",
        "<script>",
        "<!--",
        "&#",
        "# ",
        "---\n",
        'title: "',
        "<b>",
        "* [",
        "`",
    ],
)
@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_hostile_markup_takes_linear_time(tmp_path, piece, suffix):
    short, long = 20_000, 80_000
    for size in (short, long):
        text = "text " + piece * (size // len(piece)) + "</script>" * (size // 30)
        put(tmp_path / str(size), f"a{suffix}", text)
    assert growth(lambda size: read_knowledge(tmp_path / str(size)), short, long, enough=8) < 8
