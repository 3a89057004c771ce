"""Aggregated Kinesis records: several user records in one, as the Kinesis Producer Library writes them.

The format is four magic bytes, a Protocol Buffers message and its MD5 (Amazon Kinesis Producer Library, "Aggregated
record format"). Only the data of the user records is read; partition keys and tags are of no use here.
"""

from __future__ import annotations

import hashlib

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_RECORDS_FIELD = 3
_DATA_FIELD = 3


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


def _fields(message: bytes) -> list[tuple[int, object]]:
    """Return number and value of each field of a Protocol Buffers message: all are unknown to one without fields."""
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

    try:
        return [(field.field_number, field.data) for field in UnknownFieldSet(Empty.FromString(message))]
    except DecodeError as error:
        raise AggregationError("an aggregated record that is damaged, though its digest matches") from error
