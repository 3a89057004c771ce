"""Aggregated Kinesis records: several user records in one, as the Kinesis Producer Library writes them.

The format is four magic bytes, a Protocol Buffers message and its MD5 (Amazon Kinesis Producer Library, "Aggregated
record format"). Only the data of the user records is read; partition keys and tags are of no use here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_RECORDS_FIELD = 3
_DATA_FIELD = 3
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class AggregationError(ValueError):
    """Bytes that begin like an aggregated record and are none; says what is wrong."""


def user_records(data: bytes) -> list[bytes] | None:
    """Return the user records inside an aggregated record, or None for a plain one.

    Raises:
        AggregationError: The magic bytes are there, but digest or message are damaged, or there is no record in it.
    """
    if not data.startswith(_MAGIC):
        return None
    message, digest = data[len(_MAGIC) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(data) < len(_MAGIC) + _DIGEST_BYTES or hashlib.md5(message, usedforsecurity=False).digest() != digest:
        raise AggregationError("an aggregated record whose digest does not match")
    found: list[bytes] = []
    for number, value in _fields(message):
        if number == _RECORDS_FIELD and isinstance(value, bytes):
            parts = [part for inner, part in _fields(value) if inner == _DATA_FIELD and isinstance(part, bytes)]
            if len(parts) != 1:
                raise AggregationError("an aggregated record with a user record that has no data")
            found += parts
    if not found:
        raise AggregationError("an aggregated record without user records")
    return found


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield number and value of each field of a Protocol Buffers message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        value: bytes | int
        if wire_type == _VARINT:
            value, position = _varint(message, position)
        elif wire_type in (_LENGTH, _FIXED64, _FIXED32):
            if wire_type == _LENGTH:
                length, position = _varint(message, position)
            else:
                length = 8 if wire_type == _FIXED64 else 4
            if position + length > len(message):
                raise AggregationError("an aggregated record that ends inside a field")
            value = message[position : position + length]
            position += length
        else:
            raise AggregationError("an aggregated record with a field of an unknown kind")
        yield number, value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise AggregationError("an aggregated record that ends inside a number")
