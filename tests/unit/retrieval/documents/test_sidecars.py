"""Sidecars and tables of several customers: whose a document is, which columns are read, and what is held back."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.retrieval.chunking import chunk_documents
from mangaassist_assets.retrieval.documents.documents import read_knowledge
from mangaassist_assets.retrieval.documents.sidecar_files import pair_sidecars

STORE_A = {"value": {"type": "STRING", "stringValue": "StoreA"}}
NOTES = "NoteID,Clerk,Shopper,Content\nN1,C7,S3,Prefers the deluxe edition.\nN2,C8,S4,Collects first prints.\n"


def structure(content=("Content",), include=(), exclude=()):
    def fields(names):
        return [{"fieldName": name} for name in names]

    return {
        "type": "RECORD_BASED_STRUCTURE_METADATA",
        "recordBasedStructureMetadata": {
            "contentFields": fields(content),
            "metadataFieldsSpecification": {"fieldsToInclude": fields(include), "fieldsToExclude": fields(exclude)},
        },
    }


def folder(tmp_path, sidecar, *, table=NOTES, name="notes.csv", suffix=".metadata.json"):
    """Return a folder of a table with a sidecar, and a document beside it that is always read."""
    (tmp_path / name).write_text(table)
    content = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
    (tmp_path / f"{name}{suffix}").write_text(content)
    (tmp_path / "ok.md").write_text("# ok\nfine")
    return tmp_path


def read(path):
    reading = read_knowledge(path, tenant_attribute="customer")
    by_id = {document.document_id: document for document in reading.documents}
    assert by_id.pop("ok.md").tenant is None
    return by_id, {(one.file, one.place): one.reason for one in reading.rejects}


def of_customer(name="StoreA", **others):
    return {"metadataAttributes": {"customer": name}, **others}


def test_included_columns_are_metadata_and_excluded_ones_are_nowhere(tmp_path):
    told = structure(include=["NoteID", "Shopper"], exclude=["Clerk"])
    documents, rejects = read(folder(tmp_path, of_customer(documentStructureConfiguration=told)))
    assert rejects == {}
    note = documents["notes.csv#1"]
    assert note.text == "Prefers the deluxe edition."
    assert note.metadata == {"NoteID": "N1", "Shopper": "S3", "customer": "StoreA"}
    assert note.tenant == "StoreA"
    assert "C7" not in repr(note)


@pytest.mark.parametrize(
    ("lists", "metadata"),
    [
        ({}, {"NoteID": "N1", "Clerk": "C7", "Shopper": "S3"}),
        ({"include": ["Shopper"]}, {"Shopper": "S3"}),
        ({"exclude": ["Clerk"]}, {"NoteID": "N1", "Shopper": "S3"}),
        # Both lists: what neither names is no metadata, as with the first list alone.
        ({"include": ["Shopper"], "exclude": ["Clerk"]}, {"Shopper": "S3"}),
    ],
)
def test_without_lists_all_other_columns_are_metadata(tmp_path, lists, metadata):
    documents, _ = read(folder(tmp_path, {"documentStructureConfiguration": structure(**lists)}))
    assert documents["notes.csv#1"].metadata == metadata
    assert documents["notes.csv#1"].text == "Prefers the deluxe edition."


def test_the_lists_may_be_missing(tmp_path):
    told = structure()
    del told["recordBasedStructureMetadata"]["metadataFieldsSpecification"]
    documents, _ = read(folder(tmp_path, {"documentStructureConfiguration": told}))
    assert documents["notes.csv#2"].metadata == {"NoteID": "N2", "Clerk": "C8", "Shopper": "S4"}


def broken(change):
    told = structure(exclude=["Clerk"])
    change(told)
    return told


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (structure(content=["Content", "Shopper"]), "contentFields names 2 columns, and exactly one is supported"),
        (structure(content=["Content", "Content"]), "contentFields names 2 columns"),
        (structure(content=[]), "contentFields names 0 columns"),
        (structure(content=["Nope"]), "names the column 'Nope', and the columns are NoteID, Clerk, Shopper, Content"),
        (structure(content=["content"]), "names the column 'content'"),
        (structure(include=["Nope"]), "names the column 'Nope'"),
        (structure(exclude=["Klerk"]), "names the column 'Klerk'"),
        (structure(include=["Clerk"], exclude=["Clerk"]), "'Clerk' is in fieldsToExclude and also asked for"),
        (structure(exclude=["Content"]), "'Content' is in fieldsToExclude and also asked for"),
        (broken(lambda one: one.update(type="TABLE")), "the type of documentStructureConfiguration"),
        (broken(lambda one: one.update(recordBasedStructureMetadata=[])), "is missing or no object"),
        (broken(lambda one: one["recordBasedStructureMetadata"].pop("contentFields")), "contentFields is missing"),
        (
            broken(
                lambda one: one["recordBasedStructureMetadata"]["metadataFieldsSpecification"].update(
                    fieldsToExlude=[{"fieldName": "Shopper"}]
                )
            ),
            "'fieldsToExlude', which is not known",
        ),
        (
            broken(
                lambda one: one["recordBasedStructureMetadata"]["metadataFieldsSpecification"].update(
                    fieldsToExclude=["Clerk"]
                )
            ),
            "an entry of fieldsToExclude is missing or no object",
        ),
        (None, "documentStructureConfiguration is missing or no object"),
    ],
)
def test_a_structure_that_is_not_as_documented_holds_the_table_back(tmp_path, told, reason):
    documents, rejects = read(folder(tmp_path, of_customer(documentStructureConfiguration=told)))
    assert documents == {}
    assert "held back" in rejects["notes.csv", ""]
    assert reason in rejects["notes.csv", ""]


@pytest.mark.parametrize("name", ["notes.md", "notes.jsonl"])
def test_a_structure_beside_something_else_than_csv_holds_it_back(tmp_path, name):
    documents, rejects = read(
        folder(tmp_path, {"documentStructureConfiguration": structure()}, name=name, table='{"text": "a"}')
    )
    assert documents == {}
    assert "for .csv only" in rejects[name, ""]


def test_a_row_without_content_and_metadata_that_is_too_long_are_rejects(tmp_path):
    table = f"Shopper,Content\nS1,\nS2,fine\n{'x' * 3_000},too\n"
    documents, rejects = read(folder(tmp_path, {"documentStructureConfiguration": structure()}, table=table))
    assert list(documents) == ["notes.csv#2"]
    assert "its content, the column 'Content', is empty" in rejects["notes.csv", "row 1 (line 2)"]
    assert "its metadata 'Shopper' is longer" in rejects["notes.csv", "row 3 (line 4)"]


def test_a_long_content_is_split_and_its_hashes_are_no_headings(tmp_path):
    text = "# 3 copies. " + "One more sentence about the shelf. " * 60
    documents, _ = read(
        folder(tmp_path, {"documentStructureConfiguration": structure()}, table=f'A,Content\nx,"{text}"\n')
    )
    chunks = chunk_documents(list(documents.values()))
    assert len(chunks) > 2
    assert {chunk.title for chunk in chunks} == {"Notes 1"}
    assert chunks[0].text.startswith("# 3 copies.")


@pytest.mark.parametrize("suffix", [".metadata.JSON", ".METADATA.json", ".Metadata.Json"])
@pytest.mark.parametrize("name", ["notes.csv", "notes.md"])
def test_a_sidecar_in_any_letter_case_says_whose_its_document_is(tmp_path, suffix, name):
    documents, rejects = read(folder(tmp_path, of_customer("StoreB"), suffix=suffix, name=name))
    assert rejects == {}
    assert {document.tenant for document in documents.values()} == {"StoreB"}


def test_two_sidecars_that_differ_in_case_hold_their_document_back(tmp_path):
    folder(tmp_path, of_customer("StoreA"))
    (tmp_path / "notes.csv.metadata.JSON").write_text(json.dumps(of_customer("StoreB")))
    documents, rejects = read(tmp_path)
    assert documents == {}
    assert rejects["notes.csv", ""] == (
        "held back, as it has 2 sidecars: notes.csv.metadata.JSON, notes.csv.metadata.json; keep one"
    )


def test_a_sidecar_without_the_suffix_of_its_document_is_told_and_the_document_held_back(tmp_path):
    folder(tmp_path, of_customer())
    (tmp_path / "notes.csv.metadata.json").rename(tmp_path / "notes.metadata.json")
    documents, rejects = read(tmp_path)
    assert documents == {}
    assert "notes.metadata.json may be meant for it" in rejects["notes.csv", ""]
    assert rejects["notes.metadata.json", ""] == "there is no document it describes"


@pytest.mark.parametrize(
    "near",
    ["notes.csv.metadata", "notes.csv.metadata.json.txt", "notes.csv.metadata.JSON~", "NOTES.csv.Metadata (1).json"],
)
def test_a_file_that_is_nearly_called_like_a_sidecar_is_told_and_the_document_held_back(tmp_path, near):
    folder(tmp_path, of_customer())
    (tmp_path / "notes.csv.metadata.json").rename(tmp_path / near)
    documents, rejects = read(tmp_path)
    assert documents == {}
    assert f"{near} may be meant for it" in rejects["notes.csv", ""]
    assert "called like metadata of notes.csv" in rejects[near, ""]
    # With a sidecar of its own it is certain whose the table is.
    (tmp_path / "notes.csv.metadata.json").write_text(json.dumps(of_customer("StoreB")))
    documents, _ = read(tmp_path)
    assert {document.tenant for document in documents.values()} == {"StoreB"}


def test_a_folder_or_a_link_out_in_place_of_a_sidecar_holds_the_document_back(tmp_path):
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(of_customer()))
    inside = tmp_path / "knowledge"
    inside.mkdir()
    folder(inside, of_customer())
    sidecar = inside / "notes.csv.metadata.json"
    sidecar.unlink()
    sidecar.mkdir()
    assert "held back, as its notes.csv.metadata.json cannot be used: a folder" in read(inside)[1]["notes.csv", ""]
    sidecar.rmdir()
    sidecar.symlink_to(outside)
    assert "a link that leads out" in read(inside)[1]["notes.csv", ""]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"metadataAttributes": {"customer": "A"}', "not JSON"),
        ('{"metadataAttributes": {"customer": "A", "customer": "B"}}', "the key 'customer' is given twice"),
        ('{"metadataAttributes": {"customer": "A", "Customer": "B"}}', "both name the tenant"),
        ('{"metadataAttributes": {"customer": ["A", "B"]}}', "must be one name"),
        ('{"metadataAttributes": {"customer": true}}', "must be one name"),
        ('{"metadataAttributes": {"customer": NaN}}', "NaN is no JSON value"),
        ('{"metadataAttributes": {"customer": null}}', "'customer' is neither text"),
        ('{"metadataAttributes": {"customer": ""}}', "the name of the tenant is empty"),
        ('{"metadataAttributes": {"customer": "A\\u0000"}}', "control characters"),
        ('{"metadataAttributes": {"customer": {"value": {"type": "STRING", "stringValue": 5}}}}', "plain value"),
        ('{"metadataAttributes": {"customer": {"value": {"type": ["STRING"], "stringValue": "A"}}}}', "plain value"),
        ('{"metadataAttributes": {"customer": {"value": {"type": "NUMBER", "numberValue": true}}}}', "plain value"),
        (
            '{"metadataAttributes": {"l": {"value": {"type": "STRING_LIST", "stringListValue": [1]}}}}',
            "a list of something else than strings",
        ),
        (
            json.dumps({"metadataAttributes": {"customer": {**STORE_A, "includeForEmbedding": "yes"}}}),
            "neither true nor false",
        ),
        ('{"metadataAttribute": {"customer": "A"}}', "the key 'metadataAttribute' is not known"),
        ('{"metadataAttributes": [{"customer": "A"}]}', 'no object "metadataAttributes"'),
        ("{}", "it has neither"),
        ("", "empty"),
    ],
)
def test_a_sidecar_that_cannot_be_read_holds_its_document_back(tmp_path, content, reason):
    documents, rejects = read(folder(tmp_path, content))
    assert documents == {}
    assert "held back" in rejects["notes.csv", ""]
    assert reason in rejects["notes.csv", ""]


@pytest.mark.parametrize(
    ("value", "tenant"),
    [
        ({**STORE_A, "includeForEmbedding": True}, "StoreA"),
        ({"value": {"type": "NUMBER", "numberValue": 42}}, "42"),
        (42.0, "42"),
        (" Cafe\u0301 ", "Café"),
        ("' OR 1=1 --", "' OR 1=1 --"),
    ],
)
def test_a_tenant_is_a_text_or_a_number_plain_or_typed(tmp_path, value, tenant):
    documents, _ = read(folder(tmp_path, {"metadataAttributes": {"Customer": value}}))
    assert {document.tenant for document in documents.values()} == {tenant}


def test_what_is_included_for_embedding_is_embedded_and_is_no_part_of_the_text(tmp_path):
    attributes = {
        "genre": {"value": {"type": "STRING", "stringValue": "mystery"}, "includeForEmbedding": True},
        "shelf": {"value": {"type": "STRING", "stringValue": "B4"}, "includeForEmbedding": False},
    }
    with_genre, _ = read(folder(tmp_path, {"metadataAttributes": attributes}, name="a.md", table="# A\ntext"))
    (chunk,) = chunk_documents([with_genre["a.md"]])
    attributes["genre"]["includeForEmbedding"] = False
    without, _ = read(folder(tmp_path, {"metadataAttributes": attributes}, name="a.md", table="# A\ntext"))
    (plain,) = chunk_documents([without["a.md"]])
    assert (chunk.context, plain.context) == ("genre: mystery", "")
    assert chunk.text == plain.text
    assert "mystery" not in chunk.text
    # Other vectors, so other contents: the cache of vectors keeps them apart.
    assert chunk.content_hash != plain.content_hash


def test_a_row_that_claims_another_tenant_than_its_file_is_held_back(tmp_path):
    table = "customer,Content\nStoreB,secret row\nStoreA,own row\n,nobody's row\n"
    documents, rejects = read(folder(tmp_path, of_customer("StoreA"), table=table))
    assert {name: document.tenant for name, document in documents.items()} == {
        "notes.csv#2": "StoreA",
        "notes.csv#3": "StoreA",
    }
    assert {document.metadata["customer"] for document in documents.values()} == {"StoreA"}
    assert rejects == {
        ("notes.csv", "row 1 (line 2)"): (
            "held back: its 'customer' says that it is of 'StoreB', the sidecar that the file is of 'StoreA'"
        )
    }


def test_a_line_of_json_that_claims_another_tenant_than_its_file_is_held_back(tmp_path):
    lines = '{"Customer": "StoreB", "text": "secret"}\n{"customer": "StoreA", "text": "own"}\n{"text": "own too"}\n'
    documents, rejects = read(folder(tmp_path, of_customer("StoreA"), table=lines, name="rows.jsonl"))
    assert {name: document.tenant for name, document in documents.items()} == {
        "rows.jsonl#2": "StoreA",
        "rows.jsonl#3": "StoreA",
    }
    assert "says that it is of 'StoreB'" in rejects["rows.jsonl", "line 1"]


def test_a_row_that_claims_another_tenant_is_held_back_though_the_column_is_excluded(tmp_path):
    table = "Customer,Content\nStoreB,secret row\n"
    told = of_customer("StoreA", documentStructureConfiguration=structure(exclude=["Customer"]))
    documents, rejects = read(folder(tmp_path, told, table=table))
    assert documents == {}
    assert "is of 'StoreB'" in rejects["notes.csv", "row 1 (line 2)"]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("rows.csv", "Customer,text\nStoreA,one\n ,two\n"),
        ("rows.jsonl", '{"customer": "StoreA", "text": "one"}\n{"customer": null, "text": "two"}\n'),
        ("rows.jsonl", '{"customer": "StoreA", "text": "one"}\n{"customer": ["StoreA"], "text": "two"}\n'),
        ("rows.jsonl", '{"customer": "StoreA", "text": "one"}\n{"customer": "B", "Customer": "C", "text": "two"}\n'),
    ],
)
def test_rows_of_a_file_of_no_tenant_say_themselves_whose_they_are(tmp_path, name, table):
    (tmp_path / "ok.md").write_text("# ok\nfine")
    (tmp_path / name).write_text(table)
    documents, rejects = read(tmp_path)
    assert {document.document_id: document.tenant for document in documents.values()} == {f"{name}#1": "StoreA"}
    ((place, reason),) = rejects.items()
    assert place[0] == name
    assert reason.startswith("held back:")


def test_the_attribute_is_tenant_unless_another_is_named(tmp_path):
    folder(tmp_path, {"metadataAttributes": {"customer": "StoreA", "tenant": "StoreT"}})
    assert {one.tenant for one in read_knowledge(tmp_path).documents} == {None, "StoreT"}
    assert {one.tenant for one in read_knowledge(tmp_path, tenant_attribute="customer").documents} == {None, "StoreA"}


LETTER_CASES = st.integers(0, 2**32).map(random.Random)


@given(
    st.sets(st.sampled_from(["a.csv", "A.csv", "b.md", "sub/a.csv", "é.md", "e\u0301.md"]), min_size=1), LETTER_CASES
)
def test_a_document_with_a_sidecar_is_never_read_without_it(names, generator):
    def any_case(text):
        return "".join(generator.choice([character.lower(), character.upper()]) for character in text)

    sidecars = {f"{generator.choice([name, any_case(name)])}{any_case('.metadata.json')}" for name in names}
    paired = pair_sidecars(names | sidecars)
    assert not [name for name, sidecar in paired.documents.items() if sidecar is None and name in described(sidecars)]
    assert set(paired.documents) | set(paired.rejected) >= names
    assert not set(paired.documents) & set(paired.rejected)
    used = [sidecar for sidecar in paired.documents.values() if sidecar is not None]
    assert len(used) == len(set(used))


def described(sidecars):
    return {sidecar[: -len(".metadata.json")] for sidecar in sidecars}


@pytest.mark.parametrize(
    ("name", "tenants", "reason"),
    [
        ("1_include_exclude", {"case.csv#1": "CustomerA"}, None),
        ("2_two_content_fields", {}, "exactly one is supported"),
        ("3_unknown_content_field", {}, "names the column 'Nope'"),
        ("4_no_metadataAttributes", {"case.csv#1": None}, None),
        ("5_uppercase_JSON", {"case.csv#1": "CustomerB"}, None),
        ("6_row_column_overrides_tenant", {}, "says that it is of 'CustomerB'"),
        ("7_includeForEmbedding", {"case.csv#1": "CustomerA"}, None),
    ],
)
def test_the_folders_that_failed_are_read_as_they_should(repository_root, name, tenants, reason):
    path = repository_root.parent / "shared" / "faults" / "knowledge" / name
    if not path.is_dir():
        pytest.skip("the inputs beside the repository, ../shared/faults/knowledge, are missing")
    documents, rejects = read(path)
    assert {document.document_id: document.tenant for document in documents.values()} == tenants
    assert [reason is not None and reason in told for told in rejects.values()] == ([True] if reason else [])
    if name in {"1_include_exclude", "4_no_metadataAttributes"}:
        assert "D001" not in repr(documents)


@pytest.mark.parametrize(
    ("sidecar", "table", "tenant", "absent"),
    [
        (
            "case_reports.csv.metadata.json",
            "CaseID,PatientID,DoctorID,Diagnosis,Content\nC1,P1,D1,flu,Three days of fever.\n",
            "CustomerA",
            "D1",
        ),
        (
            "genetic_testings.csv.metadata.JSON",
            "PatientID,SampleID,TestType,Result\nP1,S1,Carrier screening,negative-result\n",
            "CustomerB",
            "negative-result",
        ),
    ],
)
def test_the_sidecars_that_failed_say_whose_a_table_is(repository_root, tmp_path, sidecar, table, tenant, absent):
    source = repository_root.parent / "shared" / "faults" / "knowledge" / sidecar
    if not source.is_file():
        pytest.skip("the inputs beside the repository, ../shared/faults/knowledge, are missing")
    name = sidecar[: -len(".metadata.json")]
    folder(tmp_path, source.read_text(), table=table, name=name, suffix=sidecar[len(name) :])
    documents, rejects = read(tmp_path)
    assert rejects == {}
    assert documents[f"{name}#1"].tenant == tenant
    assert absent not in repr(documents[f"{name}#1"])
