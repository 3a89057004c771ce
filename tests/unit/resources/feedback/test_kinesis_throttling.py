"""A throttled stream on the wire: boto3's retries wait it out, and what they cannot wait out loses nothing."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mangaassist_assets.tracing.feedback.events import feedback_record
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from tests.support.stream_events import stream_event

EVENT = feedback_record(
    event_id="fb-1",
    trace_id="tr-1",
    session_id="s",
    user_key=None,
    release_bundle="b1",
    feedback="thumbs_up",
    timestamp=datetime(2026, 3, 20, tzinfo=UTC),
)


class OneShard(ThreadingHTTPServer):
    """Kinesis' JSON protocol for one shard with one record; refuses `throttled` readings first."""

    throttled = 0
    refused = 0


class Handler(BaseHTTPRequestHandler):
    server: OneShard

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        action = self.headers["X-Amz-Target"].rpartition(".")[2]
        status = 200
        if action == "ListShards":
            answer: dict[str, object] = {"Shards": [{"ShardId": "shardId-000000000000"}]}
        elif action == "GetShardIterator":
            answer = {"ShardIterator": request.get("StartingSequenceNumber", "0")}
        elif self.server.throttled:
            self.server.throttled -= 1
            self.server.refused += 1
            status = 400
            answer = {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded for shard"}
        elif request["ShardIterator"] == "0":
            record = {
                "SequenceNumber": "1",
                "ApproximateArrivalTimestamp": 1_774_000_000.0,
                "Data": base64.b64encode(EVENT.to_bytes()).decode(),
                "PartitionKey": "s",
            }
            answer = {"Records": [record], "NextShardIterator": "1", "MillisBehindLatest": 0}
        else:
            answer = {"Records": [], "NextShardIterator": "1", "MillisBehindLatest": 0}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneShard]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with OneShard(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def stream(server: OneShard, attempts: int) -> KinesisFeedbackResource:
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    return KinesisFeedbackResource(
        aws=AwsResource(region_name="us-east-1", endpoint_url=endpoint, max_attempts=attempts)
    )


def test_throttling_is_waited_out_by_the_clients_retries(server):
    server.throttled = 2
    assert stream(server, attempts=4).read_new({}).events == (stream_event(EVENT),)
    assert server.refused == 2


def test_throttling_that_does_not_end_is_an_error_and_the_next_reading_has_everything(server):
    server.throttled = 2
    throttled = stream(server, attempts=2)
    with pytest.raises(Exception, match="ProvisionedThroughputExceeded"):
        throttled.read_new({})
    assert throttled.read_new({}).events == (stream_event(EVENT),)
