"""What Firehose leaves in a bucket: concatenated JSON, gzip, and whatever else somebody put there."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.feedback.delivered_objects import documents, unpacked
from resources.feedback.firehose_delivery import DeliveredFeedback, DeliveryUrlError
from tests.support.timing import growth

LIMIT = 1_000_000
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def data_of(content: bytes) -> list[bytes]:
    return [one.data for one in documents(content)]


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=10), st.data())
def test_documents_come_apart_with_or_without_newlines(items, data):
    content = b""
    for item in items:
        delimiter = data.draw(st.sampled_from(["", "\n", " \r\n\n"]))
        indent = data.draw(st.sampled_from([None, 1]))
        content += (json.dumps(item, ensure_ascii=False, indent=indent) + delimiter).encode("utf-8", "surrogatepass")
    found = list(documents(content))
    assert [json.loads(one.data.decode("utf-8", "surrogatepass")) for one in found] == items
    assert all(content[one.offset : one.offset + len(one.data)] == one.data for one in found)


@given(st.binary(max_size=300))
def test_any_bytes_come_apart_into_places_that_cover_all_but_blanks(content):
    position = 0
    for one in documents(content):
        assert content[position : one.offset].strip(b" \t\r\n") == b""
        assert content[one.offset : one.offset + len(one.data)] == one.data
        assert one.data
        position = one.offset + len(one.data)
    assert content[position:].strip(b" \t\r\n") == b""


@pytest.mark.parametrize("garbage", [b"<xml/>\n", b"\xff\xfe\n", b'{"a": \n', b'{"a": tru}', b'"open\n'])
def test_a_broken_record_does_not_take_its_neighbours_along(garbage):
    found = data_of(b'{"n":1}' + garbage + b'{"n":2}\n{"n":3}')
    assert found[0] == b'{"n":1}'
    assert found[-2:] == [b'{"n":2}', b'{"n":3}']


@pytest.mark.parametrize("unit", [b"x\n", b'{"a}', b"{", b'"\n', b"1 ", b"[", b'{"a":', b"}{"])
def test_hostile_content_is_not_paid_for_by_its_square(unit):
    def work(size: int) -> None:
        assert sum(1 for _ in documents(unit * (size // len(unit)))) >= 1

    assert growth(work, 50_000, 200_000, enough=8) < 8


@pytest.mark.parametrize("size", [16_300, 16_370, 16_384, 16_400, 70_000])
def test_long_documents_are_not_cut(size):
    long = [
        json.dumps({"text": "\u00e9" * (size // 6), "yes": True}).encode(),
        b"7" * 300,
        b"1." + b"0" * size,
        b"[" + b"1," * size + b"1]",
    ]
    assert data_of(b" ".join([b"{}", *long, b"{}"])) == [b"{}", *long, b"{}"]
    assert data_of(b" " * size + long[0] + b"{") == [long[0], b"{"]


def test_gzip_in_several_members_is_unpacked():
    assert unpacked(gzip.compress(b"one") + gzip.compress(b"two"), LIMIT).data == b"onetwo"
    assert unpacked(gzip.compress(b""), LIMIT) == unpacked(b"", LIMIT)


def test_a_zip_bomb_stops_at_the_limit():
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 60_000
    tracemalloc.start()
    content = unpacked(bomb, LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * LIMIT
    assert len(content.data) == LIMIT
    assert content.defect == "more than 1000000 bytes: the rest was not read"
    assert unpacked(b"0" * (LIMIT + 1), LIMIT).defect is not None
    assert unpacked(gzip.compress(b"0" * LIMIT), LIMIT).defect is None


def test_damaged_gzip_gives_what_could_be_read():
    whole = gzip.compress(b'{"n":1}\n' * 1000, compresslevel=0)
    cut = unpacked(whole[:-600], LIMIT)
    assert cut.data.startswith(b'{"n":1}\n')
    assert cut.defect == "the gzip data ends too early"
    assert unpacked(whole[:200] + b"\xff" * 50 + whole[250:], LIMIT).defect == "the gzip data is damaged"
    assert unpacked(b"\x1f\x8bnonsense", LIMIT).defect == "the gzip data is damaged"


@given(st.binary(max_size=200))
def test_anything_that_begins_like_gzip_is_content_or_a_defect(tail):
    content = unpacked(b"\x1f\x8b" + tail, LIMIT)
    assert content.defect is not None or zlib.decompress(b"\x1f\x8b" + tail, wbits=31) == content.data


@pytest.mark.parametrize("url", ["", "bucket", "https://bucket/x", "s3://", "s3://B_d/x"])
def test_a_place_that_is_no_s3_url_is_refused(url):
    with pytest.raises(DeliveryUrlError, match="s3://bucket/prefix/"):
        DeliveredFeedback(None, url)
