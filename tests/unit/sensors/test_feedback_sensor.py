"""The feedback sensor on a real instance, with a stream in memory and a store on disk."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import dagster as dg
import pytest

from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.definitions import build_definitions
from mangaassist_assets.partitions import release_bundles
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.erasure import record_erasure
from mangaassist_assets.tracing.feedback.events import FeedbackEvent, StoredIds, feedback_record, parse_feedback
from mangaassist_assets.tracing.feedback.sources import FeedbackBatch
from mangaassist_assets.tracing.ingestion.stored_turns import TURNS_FILE
from mangaassist_assets.triggers.cursors import CursorError
from mangaassist_assets.triggers.ledger import TriggerLedger
from mangaassist_assets.triggers.state_files import TriggerFiles
from resources.aws.clients import AwsResource
from resources.feedback.feedback_stream import KinesisFeedbackResource
from resources.settings.privacy import PrivacyResource
from resources.settings.triggers import TriggersResource
from resources.store import StoreResource
from sensors.feedback_threshold import build_feedback_sensor
from tests.support.stream_events import stream_event
from tests.support.turn_frames import turns_frame

BEFORE, BUNDLE = "2026.03.10-rc1", "2026.03.24-rc2"
SHARD = "shardId-000000000000"
MOMENT = datetime(2026, 3, 24, tzinfo=UTC)
KEY = "00" * 32


class MemoryStream(KinesisFeedbackResource):
    """One shard; positions are indices into it. Dagster copies resources, so what it holds is the class's."""

    events: ClassVar[list[FeedbackEvent]] = []
    missing: ClassVar[list[str]] = []

    def thumbs(self, count: int, *, share: float, bundle: str = BUNDLE, user: str | None = None) -> None:
        for number in range(count):
            place = len(self.events)
            down = int((number + 1) * share) > int(number * share)
            record = feedback_record(
                event_id=f"event-{place}",
                trace_id=f"tr-{place}",
                session_id=f"session-{place}",
                user_key=None,
                release_bundle=bundle,
                feedback="thumbs_down" if down else "thumbs_up",
                timestamp=MOMENT + timedelta(minutes=place),
            )
            self.events.append(replace(stream_event(record), user=user or f"user-{place}"))

    def read_new(self, cursor: Mapping[str, str], limit: int = 10_000) -> FeedbackBatch:
        from botocore.exceptions import ClientError

        if self.missing:
            raise ClientError({"Error": {"Code": self.missing[0], "Message": "no such stream"}}, "ListShards")
        start = int(cursor.get(SHARD, "0"))
        events = self.events[start : start + limit]
        return FeedbackBatch(events=tuple(events), cursor={SHARD: str(start + len(events))}, rejects=())


@pytest.fixture(scope="module")
def sensor():
    definitions = build_definitions("local")
    jobs = [definitions.resolve_job_def(name) for name in ("retraining", "champion_evaluation")]
    return build_feedback_sensor(*jobs)


@pytest.fixture(scope="module")
def shared_instance(tmp_path_factory):
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def instance(shared_instance):
    for bundle in shared_instance.get_dynamic_partitions(release_bundles.name):
        shared_instance.delete_dynamic_partition(release_bundles.name, bundle)
    shared_instance.add_dynamic_partitions(release_bundles.name, [BEFORE, BUNDLE])
    return shared_instance


@pytest.fixture
def store(tmp_path):
    return StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))


@pytest.fixture
def stream():
    MemoryStream.events.clear()
    MemoryStream.missing.clear()
    return MemoryStream(aws=AwsResource())


class Ticker:
    """Ticks the sensor as the daemon does: the stored cursor goes in, that of the result is kept."""

    def __init__(self, sensor, instance, **resources) -> None:
        self.sensor, self.instance, self.resources = sensor, instance, resources
        self.cursor = None

    def killed_tick(self) -> dg.SensorResult:
        """Tick, and lose the result before the cursor is written."""
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, resources=self.resources) as context:
            return self.sensor(context)

    def tick(self) -> dg.SensorResult:
        result = self.killed_tick()
        self.cursor = result.cursor or self.cursor
        return result

    def skip_reason(self) -> str:
        result = self.tick()
        assert not result.run_requests
        return result.skip_reason.skip_message

    def requests(self) -> list[dg.RunRequest]:
        return list(self.tick().run_requests or [])


@pytest.fixture
def feedback(sensor, instance, stream, store):
    return Ticker(
        sensor,
        instance,
        feedback_stream=stream,
        store=store,
        privacy=PrivacyResource(key=KEY),
        triggers=TriggersResource(),
    )


def turn(number: int, **said) -> ChatTurn:
    plain = {
        "trace_id": f"tr-{number}",
        "timestamp_ms": 1,
        "duration_ms": 1,
        "state": "OK",
        "release_bundle": BUNDLE,
        "session_id": f"session-{number}",
        "message": "m",
    }
    return ChatTurn(**{**plain, **said})


def keep_turns(store: StoreResource, bundle: str, turns) -> None:
    turns = list(turns)
    first = min((one.timestamp_ms for one in turns), default=None)
    files = {TURNS_FILE: to_parquet(turns_frame(turns)), "card.json": canonical_json({"first_timestamp_ms": first})}
    store.snapshots().write("tagged_traces", files, partition=bundle)


@pytest.fixture
def mined(store):
    """The bundle before: 500 turns with thumbs, a tenth of them down."""
    keep_turns(
        store,
        BEFORE,
        (
            turn(
                n,
                trace_id=f"tr-old-{n}",
                release_bundle=BEFORE,
                user_feedback="thumbs_up" if n % 10 else "thumbs_down",
            )
            for n in range(500)
        ),
    )


@pytest.mark.usefixtures("mined")
def test_a_quiet_tick_says_why_with_the_numbers(feedback, stream):
    stream.thumbs(100, share=0.1)
    reason = feedback.skip_reason()
    assert reason.startswith(f"100 new events, 100 counted; {BUNDLE}: all: evidence ")
    assert "after 10% of" in reason


@pytest.mark.usefixtures("mined")
def test_a_rise_requests_one_retraining_with_its_numbers(feedback, stream):
    stream.thumbs(300, share=0.4)
    (request,) = feedback.requests()
    assert (request.job_name, request.partition_key) == ("retraining", BUNDLE)
    assert request.run_key.startswith(f"feedback-{BUNDLE}-")
    assert request.run_key.endswith("-1")
    assert request.tags["mangaassist/stream"] == "all"
    assert request.tags["mangaassist/thumbs_down"] == "120"
    assert request.tags["mangaassist/share"].startswith("0.400 after 0.1")
    assert "0 new events" in feedback.skip_reason()


@pytest.mark.usefixtures("mined")
def test_a_tick_that_is_killed_before_its_cursor_is_written_asks_for_the_same_run_again(feedback, stream):
    stream.thumbs(300, share=0.4)
    first = feedback.killed_tick()
    stream.thumbs(50, share=0.4)
    (again,) = feedback.requests()
    assert again.run_key == first.run_requests[0].run_key
    assert not feedback.tick().run_requests


@pytest.mark.usefixtures("mined")
@pytest.mark.parametrize("changed", [False, True])
def test_dagster_takes_what_the_sensor_asks_for(feedback, stream, store, instance, changed):
    if changed:
        change_index(store)
    stream.thumbs(300, share=0.4)
    definitions = build_definitions("local", **feedback.resources)
    repository = definitions.get_repository_def()
    found = repository.get_sensor_def("feedback_threshold")
    with dg.build_sensor_context(
        instance_ref=instance.get_ref(), repository_def=repository, resources=feedback.resources
    ) as context:
        data = found.evaluate_tick(context)
    (request,) = data.run_requests
    job = "configuration_refresh" if changed else "retraining"
    assert (request.job_name, request.partition_key) == (job, None if changed else BUNDLE)
    assert [event.asset_key.path for event in data.asset_events] == [["trigger_ledger"]]


@pytest.mark.usefixtures("mined")
def test_the_cursor_does_not_grow(feedback, stream):
    lengths = []
    for _ in range(4):
        stream.thumbs(1_000, share=0.1)
        feedback.tick()
        lengths.append(len(feedback.cursor))
    assert max(lengths) < 300


@pytest.mark.usefixtures("mined")
def test_states_of_long_ago_are_cleared_and_the_named_one_stays(feedback, stream, store):
    for _ in range(3):
        stream.thumbs(20, share=0.1)
        feedback.tick()
    files = TriggerFiles(store.path())
    named = json.loads(feedback.cursor)["state"]["state"]
    assert files.clear(named, now=datetime.now(UTC)) == 0
    assert files.clear(named, now=datetime.now(UTC) + timedelta(hours=2)) == 2
    assert files.read(named) is not None


@pytest.mark.usefixtures("mined")
def test_a_cursor_of_version_2_keeps_its_place_and_counts_anew(feedback, stream):
    stream.thumbs(300, share=0.4)
    old = {"positions": {SHARD: "290"}, "history": {}, "counts": {"marks": {}, "remembered": []}}
    feedback.cursor = json.dumps({"kind": "feedback_threshold_sensor", "version": 2, "state": old})
    reason = feedback.skip_reason()
    assert "the cursor is of version 2, this code writes 3: counting begins anew where it stood" in reason
    assert "10 new events" in reason


@pytest.mark.parametrize("state", [None, 7, {"positions": 7}])
@pytest.mark.usefixtures("mined")
def test_a_cursor_of_a_version_that_nobody_knows_is_begun_anew(feedback, stream, store, state):
    store.feedback_ingestion().append(events=[], rejects=[], cursor={SHARD: "3"})
    stream.thumbs(10, share=0.1)
    feedback.cursor = json.dumps({"kind": "feedback_threshold_sensor", "version": 99, "state": state})
    reason = feedback.skip_reason()
    assert "counting begins anew after what was ingested" in reason
    assert "7 new events" in reason


@pytest.mark.parametrize("damage", ["no json", '{"kind": "other"}', "positions", "state"])
def test_a_damaged_cursor_says_how_to_start_afresh(feedback, stream, damage):
    stream.thumbs(1, share=1.0)
    feedback.skip_reason()
    if damage in {"positions", "state"}:
        content = json.loads(feedback.cursor)
        content["state"][damage] = 7
        damage = json.dumps(content)
    feedback.cursor = damage
    with pytest.raises(CursorError, match="reset the sensor's cursor"):
        feedback.tick()


@pytest.mark.parametrize("damage", ["gone", "changed"])
@pytest.mark.usefixtures("mined")
def test_a_state_that_is_lost_is_said_and_the_place_in_the_stream_is_kept(feedback, stream, store, damage):
    stream.thumbs(50, share=0.1)
    feedback.tick()
    (path,) = (store.path() / "triggers" / "feedback" / "states").iterdir()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"{}")
    stream.thumbs(10, share=0.1)
    reason = feedback.skip_reason()
    assert "is gone or damaged: counting begins anew" in reason
    assert "10 new events" in reason


def test_the_first_look_starts_where_the_feedback_asset_has_read_to(feedback, stream, store):
    stream.thumbs(30, share=1.0)
    ids = StoredIds(None)
    store.feedback_ingestion().append(
        events=[ids.row(event) for event in stream.read_new({}).events], rejects=[], cursor={SHARD: "30"}
    )
    assert "0 new events" in feedback.skip_reason()


def test_without_a_stream_it_says_so_and_other_errors_are_errors(feedback, stream):
    stream.missing.append("ResourceNotFoundException")
    assert "no stream mangaassist-feedback" in feedback.skip_reason()
    stream.missing[0] = "AccessDeniedException"
    with pytest.raises(Exception, match="AccessDenied"):
        feedback.tick()


@pytest.mark.usefixtures("mined")
def test_a_bundle_that_is_no_partition_waits(feedback, stream):
    stream.thumbs(300, share=1.0, bundle="never-was")
    assert "300 of bundles that nobody knows" in feedback.skip_reason()


@pytest.mark.usefixtures("mined")
def test_no_name_of_a_shopper_or_session_is_kept(feedback, stream, store):
    stream.events.append(
        parse_feedback(
            json.dumps(
                {
                    "trace_id": "1" * 32,
                    "thumb": "down",
                    "release_bundle": BUNDLE,
                    "user_id": "jane.doe@example.invalid",
                    "session_id": "jane.doe@example.invalid",
                }
            ).encode(),
            arrived=MOMENT,
        )
    )
    feedback.tick()
    kept = [path.read_bytes() for path in (store.path() / "triggers").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"jane" in content or b"u-" in content for content in kept)


@pytest.mark.usefixtures("mined")
def test_an_erased_shopper_has_no_vote_from_the_next_tick_on(feedback, stream, store):
    stream.thumbs(20, share=0.1)
    feedback.tick()
    user = StoredIds(bytes.fromhex(KEY)).user("user-3")
    record_erasure(store.snapshots(), user, requested_at="2026-03-24T00:00:00Z")
    feedback.tick()
    state = TriggerFiles(store.path()).read(json.loads(feedback.cursor)["state"]["state"])
    assert len(state.bundles[BUNDLE].window.votes) == 19


@pytest.mark.usefixtures("mined")
def test_intents_become_known_when_the_bundle_is_mined(feedback, stream, store):
    stream.thumbs(20, share=0.1)
    feedback.tick()
    keep_turns(store, BUNDLE, (turn(n, intent="returns") for n in range(20)))
    feedback.tick()
    state = TriggerFiles(store.path()).read(json.loads(feedback.cursor)["state"]["state"])
    assert {one.intent for one in state.bundles[BUNDLE].window.votes} == {"returns"}


def change_index(store: StoreResource) -> None:
    for generation in ("g1", "g2"):
        content = canonical_json({"generation": generation, "model_id": "m"})
        store.snapshots().write("live_index", {"generation.json": content})


def change_endpoint(store: StoreResource) -> None:
    for version in ("1", "2"):
        content = canonical_json({"version": version, "artifact_sha256": "0", "endpoint_config": "c"})
        store.snapshots().write("intent_endpoint", {"deployment.json": content})


def change_configuration(store: StoreResource) -> None:
    for version in ("7", "8"):
        rows = [{"component": "configuration prompts", "version": version, "state": "x", "agrees_with_registry": True}]
        store.snapshots().write("active_release", {"components.json": canonical_json(rows)})


@pytest.mark.parametrize(
    ("change", "job", "named"),
    [
        (change_index, "configuration_refresh", "search index g1 → g2"),
        (change_configuration, "configuration_refresh", "configuration prompts 7 → 8"),
        (change_endpoint, "champion_evaluation", "1 → 2"),
    ],
)
@pytest.mark.usefixtures("mined")
def test_after_a_change_of_production_that_is_evaluated_instead(feedback, stream, store, change, job, named):
    change(store)
    stream.thumbs(300, share=0.4)
    result = feedback.tick()
    (request,) = result.run_requests
    assert (request.job_name, request.partition_key) == (job, None)
    assert named in request.tags["mangaassist/changed"]
    assert f"{BUNDLE}-" in request.run_key
    assert "changed around it" in feedback.skip_reason()
    (observed,) = result.asset_events
    assert observed.metadata["outcome"].value == "held"


@pytest.mark.usefixtures("mined")
def test_the_ledger_has_each_evaluation_with_its_numbers(feedback, stream, store):
    stream.thumbs(100, share=0.1)
    feedback.tick()
    feedback.tick()
    stream.thumbs(300, share=0.5)
    (request,) = feedback.requests()
    ledger = TriggerLedger(store.path())
    rows = [row for day in ledger.days() for row in ledger.rows(day)]
    assert [(row.outcome, row.counted, row.run_key) for row in rows] == [
        ("quiet", 100, None),
        ("fired", 300, request.run_key),
    ]
    assert rows[1].streams[0].evidence >= rows[1].streams[0].needed


@pytest.mark.usefixtures("mined")
def test_settings_in_the_store_are_in_force_at_the_next_tick(feedback, stream, store, monkeypatch, tmp_path):
    stream.thumbs(300, share=0.4)
    store.inputs().mkdir(parents=True)
    (store.inputs() / "triggers.toml").write_text("[feedback]\nminimum_shoppers = 500\n")
    assert "120 shoppers complain, needed 500" in feedback.skip_reason()
    own = tmp_path / "own.toml"
    own.write_text("[feedback]\nminimum_shopper = 5\n")
    monkeypatch.setenv("MANGAASSIST_TRIGGERS", str(own))
    with pytest.raises(Exception, match="minimum_shopper"):
        feedback.tick()


def test_the_sign_of_life_says_since_when_the_cursor_has_not_moved(feedback, stream, store):
    feedback.tick()
    stream.thumbs(5, share=0.1)
    feedback.killed_tick()
    first = TriggerFiles(store.path()).alive()
    feedback.tick()
    feedback.tick()
    moved = TriggerFiles(store.path()).alive()
    assert moved.positions == {SHARD: "5"}
    assert moved.moved_ms >= first.moved_ms
    assert "0 new events" in moved.reason
