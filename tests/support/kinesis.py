"""A Kinesis in memory, as far as a consumer sees it: shards that split, merge, are trimmed and expire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError


class ExpiredIteratorError(ClientError):
    """What boto3 raises for an iterator that is older than five minutes."""


@dataclass
class Shard:
    parents: tuple[str, ...] = ()
    records: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False


class MemoryKinesis:
    """The calls of boto3's client that a consumer makes. Sequence numbers grow over all shards."""

    def __init__(self, *, shards: int = 1, page: int = 10_000, retention_hours: int = 24) -> None:
        self.shards: dict[str, Shard] = {}
        self.page = page
        self.retention_hours = retention_hours
        self.expire_iterators = 0
        self.calls: list[str] = []
        self.reads: list[tuple[str, int]] = []
        self._sequence = 0
        self.exceptions = SimpleNamespace(ExpiredIteratorException=ExpiredIteratorError)
        for _ in range(shards):
            self._open()

    @property
    def open_shards(self) -> list[str]:
        return [shard_id for shard_id, shard in self.shards.items() if not shard.closed]

    def put(self, data: bytes, *, shard_id: str | None = None, age: timedelta = timedelta(0)) -> str:
        shard_id = shard_id or self.open_shards[0]
        assert not self.shards[shard_id].closed
        self._sequence += 1
        sequence = f"{self._sequence:020d}"
        moment = datetime.fromtimestamp(time.time(), UTC) - age
        self.shards[shard_id].records.append(
            {"SequenceNumber": sequence, "ApproximateArrivalTimestamp": moment, "Data": data, "PartitionKey": "k"}
        )
        return sequence

    def split(self, shard_id: str) -> list[str]:
        self.shards[shard_id].closed = True
        return [self._open(shard_id), self._open(shard_id)]

    def merge(self, one: str, other: str) -> str:
        self.shards[one].closed = self.shards[other].closed = True
        return self._open(one, other)

    def trim(self, shard_id: str, count: int) -> None:
        del self.shards[shard_id].records[:count]

    def expire(self, shard_id: str) -> None:
        """A closed shard leaves the list when its last record is trimmed."""
        assert self.shards[shard_id].closed
        del self.shards[shard_id]

    # The client's calls, named as boto3 names them
    # ruff: noqa: N803

    def list_shards(self, *, StreamName: str | None = None, NextToken: str | None = None) -> dict[str, Any]:
        assert (StreamName is None) != (NextToken is None)
        start = int(NextToken or 0)
        # The newest first: an order that a reader must not rely on. Two a page.
        ids = sorted(self.shards, reverse=True)
        answer: dict[str, Any] = {"Shards": [self._listed(shard_id) for shard_id in ids[start : start + 2]]}
        if start + 2 < len(ids):
            answer["NextToken"] = str(start + 2)
        return answer

    def describe_stream_summary(self, *, StreamName: str) -> dict[str, Any]:
        self.calls.append("describe_stream_summary")
        return {"StreamDescriptionSummary": {"StreamName": StreamName, "RetentionPeriodHours": self.retention_hours}}

    def get_shard_iterator(
        self, *, StreamName: str, ShardId: str, ShardIteratorType: str, StartingSequenceNumber: str = ""
    ) -> dict[str, str]:
        assert StreamName
        if ShardIteratorType == "AFTER_SEQUENCE_NUMBER" and not StartingSequenceNumber.isdigit():
            error = {"Error": {"Code": "InvalidArgumentException", "Message": "StartingSequenceNumber is invalid"}}
            raise ClientError(error, "GetShardIterator")
        return {"ShardIterator": f"{ShardId}|{StartingSequenceNumber}"}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:
        if self.expire_iterators:
            self.expire_iterators -= 1
            raise ExpiredIteratorError({"Error": {"Code": "ExpiredIteratorException", "Message": ""}}, "GetRecords")
        shard_id, _, after = ShardIterator.partition("|")
        shard = self.shards[shard_id]
        waiting = [record for record in shard.records if record["SequenceNumber"] > after]
        records = waiting[: min(Limit, self.page)]
        self.reads.append((shard_id, len(records)))
        answer: dict[str, Any] = {"Records": records, "MillisBehindLatest": 1 if len(waiting) > len(records) else 0}
        if len(waiting) > len(records) or not shard.closed:
            last = records[-1]["SequenceNumber"] if records else after
            answer["NextShardIterator"] = f"{shard_id}|{last}"
        return answer

    def _open(self, *parents: str) -> str:
        shard_id = f"shardId-{len(self.shards):012d}"
        self.shards[shard_id] = Shard(parents=parents)
        return shard_id

    def _listed(self, shard_id: str) -> dict[str, Any]:
        parents: Sequence[str] = self.shards[shard_id].parents
        listed: dict[str, Any] = {"ShardId": shard_id}
        if parents:
            listed["ParentShardId"] = parents[0]
        if len(parents) > 1:
            listed["AdjacentParentShardId"] = parents[1]
        return listed
