"""The review queue and labels of other tools, against a real MLflow server."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import requests

from mangaassist_assets.assets.labels import IntentLabelsConfig, ReviewQueueConfig, intent_labels, review_queue
from mangaassist_assets.assets.mining import failed_traces, failure_clusters
from mangaassist_assets.core.bundles import TURNS_CARD_FILE
from mangaassist_assets.core.codecs import to_parquet
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.labelling.intent_labels import LABELS_FILE, labels_from_parquet
from mangaassist_assets.labelling.judge import IntentJudgement
from mangaassist_assets.labelling.queue.label_import import ImportedLabel
from mangaassist_assets.labelling.queue.stored_queue import QUEUE_FILE
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT
from mangaassist_assets.tracing.contract.turns import ChatTurn
from mangaassist_assets.tracing.ingestion.stored_turns import PRESENCE_FILE, QUARANTINE_FILE, TURNS_FILE
from resources.aws.clients import AwsResource
from resources.aws.judge import JudgeResource
from resources.mlflow.assessments.review_queues import (
    REASON_TAG,
    REVIEW_TAG,
    MlflowReviewQueues,
    ReviewQuestionError,
    intent_instruction,
    queue_name,
)
from resources.mlflow.assessments.reviews import MlflowLabelRecorder
from resources.mlflow.traces.search import infos_by_id
from resources.mlflow.tracking import MlflowResource
from resources.search.embeddings import EmbeddingsResource
from resources.settings.labelling import LabellingResource
from resources.settings.mining import MiningResource
from resources.store import StoreResource
from tests.support.command_line import run_here
from tests.support.feedback_events import BUNDLE, store_traces, trace_id
from tests.support.labelling import make_turn, queue_item
from tests.support.store_chatbot import HashEmbedder
from tests.support.trace_source import chat_trace
from tests.support.turn_frames import quarantine_frame, turns_frame
from tests.support.turn_reading import read_turns

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("stand_ins_environment")]

INTENTS = ["gift_card", "order_status"]


@pytest.fixture
def mlflow() -> MlflowResource:
    return MlflowResource(traces_experiment=f"traces-{uuid4().hex[:8]}")


@pytest.fixture
def traces(mlflow: MlflowResource, request: pytest.FixtureRequest) -> list[str]:
    """Ten traces of the bundle, as they are stored; their ids are the test's own and the same every time."""
    ids = [f"tr-{hashlib.sha256(f'{request.node.name} {number}'.encode()).hexdigest()[:32]}" for number in range(10)]
    store_traces(mlflow, *(chat_trace(key, 1_774_000_000_000, BUNDLE) for key in ids))
    return ids


def queues_of(mlflow: MlflowResource) -> MlflowReviewQueues:
    return MlflowReviewQueues(*mlflow.traces(), traces_url=mlflow.traces_url())


def statuses(mlflow: MlflowResource, release_bundle: str = BUNDLE) -> dict[str, str]:
    from mlflow.genai.review_queues import get_review_queue, list_review_queue_items

    queue = get_review_queue(
        name=queue_name(release_bundle), experiment_id=mlflow.ensure_experiment(mlflow.traces_experiment)
    )
    return {item.item_id: str(item.status) for item in list_review_queue_items(queue.queue_id, max_results=100)}


def queue_id(mlflow: MlflowResource) -> str:
    from mlflow.genai.review_queues import get_review_queue

    experiment_id = mlflow.ensure_experiment(mlflow.traces_experiment)
    return str(get_review_queue(name=queue_name(BUNDLE), experiment_id=experiment_id).queue_id)


class TestQueue:
    """What reviewers see in MLflow."""

    def test_items_are_there_once_however_often_they_are_published(self, mlflow, traces):
        queues = queues_of(mlflow)
        first = queues.publish(BUNDLE, traces[:4], intents=INTENTS, reviewed={})
        assert (first.desk, first.added, first.removed) == ("queue", 4, 0)
        assert f"/review-queue?selectedQueueId={queue_id(mlflow)}" in first.url
        again = queues.publish(BUNDLE, traces[:4], intents=INTENTS, reviewed={})
        assert (again.added, again.removed, again.completed) == (0, 0, 0)
        assert statuses(mlflow) == dict.fromkeys(traces[:4], "pending")

    def test_a_publishing_that_was_killed_is_finished_by_the_next(self, mlflow, traces, monkeypatch):
        from mlflow.genai import review_queues as api

        real, calls = api.add_items_to_review_queue, []

        def killed_at_the_second(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        queues = queues_of(mlflow)
        monkeypatch.setattr(api, "add_items_to_review_queue", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            queues.publish(BUNDLE, traces[:3], intents=INTENTS, reviewed={})
        assert queues.publish(BUNDLE, traces[:3], intents=INTENTS, reviewed={}).added == 2
        assert statuses(mlflow) == dict.fromkeys(traces[:3], "pending")

    def test_the_page_shows_the_best_first(self, mlflow, traces):
        order = [traces[number] for number in (2, 0, 3, 1)]
        queues_of(mlflow).publish(BUNDLE, order, intents=INTENTS, reviewed={})
        assert list(statuses(mlflow)) == order

    def test_what_reviewers_did_stays_and_what_is_no_longer_asked_goes(self, mlflow, traces):
        from mlflow.genai.review_queues import set_review_queue_item_status

        queues = queues_of(mlflow)
        queues.publish(BUNDLE, traces[:5], intents=INTENTS, reviewed={})
        set_review_queue_item_status(queue_id(mlflow), item_id=traces[0], status="declined", completed_by="aki")
        set_review_queue_item_status(queue_id(mlflow), item_id=traces[1], status="complete", completed_by="aki")
        state = queues.state(BUNDLE)
        assert (state.declined, state.complete) == ({traces[0]}, {traces[1]})
        done = queues.publish(BUNDLE, [traces[4], traces[5]], intents=INTENTS, reviewed={traces[2]: "Ben"})
        assert (done.added, done.removed, done.completed) == (1, 1, 1)
        assert statuses(mlflow) == {
            traces[0]: "declined",
            traces[1]: "complete",
            traces[2]: "complete",
            traces[4]: "pending",
            traces[5]: "pending",
        }

    def test_what_is_asked_once_more_is_open_again_and_says_why(self, mlflow, traces):
        queues = queues_of(mlflow)
        queues.publish(BUNDLE, traces[:3], intents=INTENTS, reviewed={})
        queues.publish(BUNDLE, traces[:3], intents=INTENTS, reviewed={traces[0]: "aki", traces[1]: "aki"})
        why = "a second look, by somebody else than aki"
        again = queues.publish(
            BUNDLE, [traces[0], traces[2]], intents=INTENTS, reviewed={traces[1]: "aki"}, reopened={traces[0]: why}
        )
        assert (again.reopened, again.added, again.removed) == (1, 0, 0)
        assert statuses(mlflow) == {traces[0]: "pending", traces[1]: "complete", traces[2]: "pending"}
        (shown,) = infos_by_id(*mlflow.traces(), [traces[0]]).values()
        assert shown.tags[REASON_TAG] == why

    def test_traces_that_do_not_exist_are_named_and_stop_nothing(self, mlflow, traces):
        published = queues_of(mlflow).publish(
            BUNDLE, [traces[0], trace_id(399_999), "x' OR '1'='1"], intents=INTENTS, reviewed={}
        )
        assert (published.added, published.gone) == (1, (trace_id(399_999), "x' OR '1'='1"))

    def test_reviewers_are_asked_for_the_intent_with_the_known_ones_in_view(self, mlflow, traces):
        from mlflow.genai.label_schemas import get_label_schema, update_label_schema

        queues = queues_of(mlflow)
        queues.publish(BUNDLE, traces[:1], intents=INTENTS, reviewed={})
        experiment_id = mlflow.ensure_experiment(mlflow.traces_experiment)
        question = get_label_schema(EXPECTED_INTENT, experiment_id=experiment_id)
        assert (str(question.type), question.instruction) == ("expectation", intent_instruction(INTENTS))
        update_label_schema(str(question.schema_id), instruction="something old")
        queues.publish("another", traces[:1], intents=[*INTENTS, "zine"], reviewed={})
        assert "zine" in get_label_schema(EXPECTED_INTENT, experiment_id=experiment_id).instruction

    def test_a_question_of_our_name_that_asks_for_feedback_is_an_error(self, mlflow, traces):
        from mlflow.genai.label_schemas import InputText, create_label_schema

        experiment_id = mlflow.ensure_experiment(mlflow.traces_experiment)
        create_label_schema(EXPECTED_INTENT, type="feedback", input=InputText(), experiment_id=experiment_id)
        with pytest.raises(ReviewQuestionError, match="delete it"):
            queues_of(mlflow).publish(BUNDLE, traces[:1], intents=INTENTS, reviewed={})

    def test_instructions_have_room_for_as_many_intents_as_mlflow_takes(self):
        text = intent_instruction([f"intent_number_{number}" for number in range(200)])
        assert len(text) <= 1_000
        assert text.endswith("more")


class TestServerWithoutQueues:
    """An older server."""

    def test_the_traces_carry_a_tag_instead(self, mlflow, traces, without_queues):
        old = MlflowResource(tracking_uri=without_queues, traces_experiment=mlflow.traces_experiment)
        queues = queues_of(old)
        assert queues.state(BUNDLE).declined == frozenset()
        published = queues.publish(BUNDLE, traces[:3], intents=INTENTS, reviewed={})
        assert (published.desk, published.added) == ("tag", 3)
        assert "tag=review_queue" in published.url
        moved = queues.publish(BUNDLE, traces[2:4], intents=INTENTS, reviewed={})
        assert (moved.added, moved.removed) == (1, 2)
        tagged = {one.trace_id for one in mlflow.read_traces(BUNDLE) if one.tags.get(REVIEW_TAG) == BUNDLE}
        assert tagged == set(traces[2:4])


class TestImportedLabels:
    """Answers of other tools on their traces."""

    def test_they_come_back_as_peoples_reviews_each_once(self, mlflow, traces):
        labels = [
            imported(traces[0], intent="gift_card", documents=("faq.html", "a.md"), labelled_ms=1_774_000_500_000),
            imported(traces[1], documents=("a.md",)),
            imported(trace_id(399_998), intent="gift_card"),
        ]
        recorder = MlflowLabelRecorder(*mlflow.traces())
        first = recorder.record(labels)
        assert (first.added, first.found, first.gone) == (3, 0, (trace_id(399_998),))
        again = recorder.record(labels)
        assert (again.added, again.found) == (0, 3)
        turns = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
        turn = turns[traces[0]]
        assert (turn.expected_intent, turn.expected_documents, turn.reviewer) == (
            "gift_card",
            ("faq.html", "a.md"),
            "aki",
        )
        assert turns[traces[1]].expected_documents == ("a.md",)
        assert {one.source for one in turn.reviews} == {"human"}

    def test_what_a_person_said_since_is_not_overruled_by_an_older_file(self, mlflow, traces):
        recorder = MlflowLabelRecorder(*mlflow.traces())
        mlflow.reviewer().record_review(
            traces[0], expected_intent="order_status", relevant_documents=(), reviewer="Aki"
        )
        outcome = recorder.record([imported(traces[0], intent="gift_card", labelled_ms=1_700_000_000_000)])
        assert (outcome.added, outcome.outdated) == (0, 1)
        same = recorder.record([imported(traces[0], intent="order_status")])
        assert (same.added, same.found) == (0, 1)
        other = recorder.record([imported(traces[0], intent="gift_card", labeller="ben")])
        assert other.added == 1

    def test_a_trace_tells_every_answer_when_a_person_changes_their_mind(self, mlflow, traces):
        recorder = MlflowLabelRecorder(*mlflow.traces())
        recorder.record([imported(traces[0], intent="gift_card", labelled_ms=1_774_000_500_000)])
        recorder.record([imported(traces[0], intent="order_status", labelled_ms=1_774_000_600_000)])
        (turn,) = (one for one in read_turns(mlflow.read_traces(BUNDLE)).turns if one.trace_id == traces[0])
        assert turn.expected_intent == "order_status"
        assert [one.values for one in turn.reviews] == [("gift_card",), ("order_status",)]


class TestAssets:
    """Failures → queue → people → labels, as Dagster runs it."""

    def test_the_queue_fills_mlflow_and_what_people_say_becomes_labels(self, mlflow, traces, tmp_path):
        store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
        messages = [f"where is my parcel from your shop {number}" for number in range(5)]
        messages += [f"a gift card that does not pay at checkout {number}" for number in range(5)]
        write_turns(store, [failed(key, message) for key, message in zip(traces, messages, strict=True)])
        write_corpus(store)
        said = materialize(store, mlflow, review_queue=ReviewQueueConfig(budget=6))
        assert said["review_queue"]["dagster/row_count"] == 6
        assert said["review_queue"]["added_in_mlflow"] == 6
        queued = statuses(mlflow)
        assert set(queued.values()) == {"pending"}
        assert said["intent_labels"]["dagster/row_count"] == 0
        for key in queued:
            parcel = traces.index(key) < 5
            mlflow.reviewer().record_review(
                key, expected_intent="order_status" if parcel else "gift_card", relevant_documents=(), reviewer="aki"
            )
        reviewed = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
        write_turns(
            store,
            [failed(key, message, like=reviewed[key]) for key, message in zip(traces, messages, strict=True)],
        )
        after = materialize(store, mlflow, review_queue=ReviewQueueConfig(budget=6))
        assert after["review_queue"]["completed_in_mlflow"] == 6
        assert set(queued).isdisjoint(key for key, status in statuses(mlflow).items() if status == "pending")
        assert after["intent_labels"]["of_people"] == 6
        assert after["intent_labels"]["propagated"] >= 1
        snapshots = store.snapshots()
        labels = labels_from_parquet(snapshots.read(snapshots.latest("intent_labels", partition=BUNDLE), LABELS_FILE))
        right = {key: "order_status" if number < 5 else "gift_card" for number, key in enumerate(traces)}
        assert {label.trace_id: label.intent for label in labels}.items() <= right.items()
        assert "0 of" in after["intent_labels"]["propagation_error"]
        assert "left out" in after["intent_labels"]["judge"]
        again = materialize(store, mlflow, review_queue=ReviewQueueConfig(budget=6))
        assert again["intent_labels"]["digest"] == after["intent_labels"]["digest"]

    def test_answers_of_somebody_who_is_not_listed_are_shown_and_asked_of_others(self, mlflow, traces, tmp_path):
        store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
        messages = [f"where is my parcel from your shop {number}" for number in range(4)]
        write_turns(store, [failed(key, message) for key, message in zip(traces, messages, strict=False)])
        write_corpus(store)
        queue = ReviewQueueConfig(budget=4, audit_share=0)
        materialize(store, mlflow, review_queue=queue)
        key = next(iter(statuses(mlflow)))
        mlflow.reviewer().record_review(key, expected_intent="gift_card", relevant_documents=(), reviewer="eve")
        reviewed = {turn.trace_id: turn for turn in read_turns(mlflow.read_traces(BUNDLE)).turns}
        write_turns(
            store,
            [failed(one, message, like=reviewed[one]) for one, message in zip(traces, messages, strict=False)],
        )
        listed = materialize(store, mlflow, reviewers=["aki"], review_queue=queue)
        assert listed["intent_labels"]["of_people"] == 0
        assert "eve" in str(listed["intent_labels"]["not_listed"])
        assert statuses(mlflow)[key] == "pending"
        everybody = materialize(store, mlflow, review_queue=queue)
        assert everybody["intent_labels"]["of_people"] == 1
        assert statuses(mlflow)[key] == "complete"


class TestCommandLine:
    """The queue as a file, and its answers back, by `mangaassist labels`."""

    def test_a_filled_in_file_becomes_reviews_of_the_traces(self, stand_ins, tmp_path):
        mlflow = MlflowResource()
        bundle, key = "2026.05.05-rc1", f"tr-{hashlib.sha256(b'command line').hexdigest()[:32]}"
        store_traces(mlflow, chat_trace(key, 1_774_000_000_000, bundle))
        store = StoreResource(root=str(stand_ins.home.store), cache_folder=str(tmp_path / "cache"))
        write_turns(store, [make_turn(key, "where is my parcel", release_bundle=bundle)], bundle=bundle)
        item = queue_item(key)
        store.snapshots().write("review_queue", {QUEUE_FILE: canonical_json([item])}, partition=bundle)
        store.snapshots().write("failure_clusters", {"clusters.json": b"[]"}, partition=bundle)
        out = tmp_path / "queue.csv"
        options = ("--release-bundle", bundle, "--json")
        assert run_here(stand_ins.home.root, "labels", "export", "--out", out, *options).code == 0
        rows = list(csv.DictReader(io.StringIO(out.read_text("utf-8-sig"))))
        rows[0] |= {"intent": "Order Status", "labeller": "aki", "labelled_at": "2026-05-06T10:00:00+09:00"}
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows([*rows, rows[0] | {"trace_id": "tr-unknown"}])
        ran = [
            run_here(stand_ins.home.root, "labels", "import", out, "--new-intent", "order_status", *options)
            for _ in range(2)
        ]
        first, second = (json.loads(one.stdout) for one in ran)
        assert [one.code for one in ran] == [1, 1]
        assert first["problems"] == [{"line": 3, "reason": "trace_id is no trace of this bundle"}]
        assert (first["added"], second["added"], second["found_on_traces"]) == (1, 0, 1)
        (turn,) = read_turns(mlflow.read_traces(bundle)).turns
        assert (turn.expected_intent, turn.reviewer) == ("order_status", "aki")


def imported(key: str, **fields: Any) -> ImportedLabel:
    defaults: dict[str, Any] = {
        "trace_id": key,
        "intent": None,
        "documents": (),
        "labeller": "aki",
        "labelled_ms": None,
        "line": 2,
    }
    return ImportedLabel(**{**defaults, **fields})


def failed(key: str, message: str, *, like: ChatTurn | None = None) -> ChatTurn:
    review = {} if like is None else {name: getattr(like, name) for name in ("expected_intent", "reviewer", "reviews")}
    return make_turn(
        key, message, release_bundle=BUNDLE, timestamp_ms=1_774_000_000_000, intent_confidence=0.4, **review
    )


def write_turns(store: StoreResource, turns: list[ChatTurn], *, bundle: str = BUNDLE) -> None:
    frame = turns_frame(turns)
    card = {
        "schema": 2,
        "release_bundle": bundle,
        "turns": frame.height,
        "quarantined": 0,
        "first_timestamp_ms": frame["timestamp_ms"].min(),
        "last_timestamp_ms": frame["timestamp_ms"].max(),
    }
    files = {
        TURNS_FILE: to_parquet(frame),
        QUARANTINE_FILE: to_parquet(quarantine_frame([])),
        PRESENCE_FILE: b"",
        TURNS_CARD_FILE: canonical_json(card),
    }
    store.snapshots().write("tagged_traces", files, partition=bundle)


def write_corpus(store: StoreResource) -> None:
    rows = [{"text": f"a message of {intent}", "intent": intent, "relevant_documents": []} for intent in INTENTS]
    store.snapshots().write("training_corpus", {"utterances.json": canonical_json(rows)})


class HashedWords(EmbeddingsResource):
    """Messages that share words are near."""

    def embedder(self) -> HashEmbedder:
        return HashEmbedder()


class ScriptedJudge:
    """Always says the same."""

    model_id = "scripted"

    def judge(self, messages, intents):
        assert set(intents) == set(INTENTS)
        return [IntentJudgement(intent="gift_card", confidence=0.9) for _ in messages]


class ScriptedJudgeResource(JudgeResource):
    """Hands out the scripted judge."""

    def intent_judge(self, *, vocabulary=None):
        assert vocabulary is not None
        return ScriptedJudge()


def materialize(
    store: StoreResource, mlflow: MlflowResource, *, reviewers: Sequence[str] = (), **config: dg.Config
) -> dict[str, dict[str, Any]]:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("release_bundles", [BUNDLE])
        result = dg.materialize(
            [failed_traces, failure_clusters, review_queue, intent_labels],
            partition_key=BUNDLE,
            instance=instance,
            resources={
                "store": store,
                "mlflow": mlflow,
                "embeddings": HashedWords(),
                "judge": ScriptedJudgeResource(aws=AwsResource(), model_id="scripted"),
                "labelling": LabellingResource(reviewers=list(reviewers)),
                "mining": MiningResource(),
            },
            run_config=dg.RunConfig({"intent_labels": IntentLabelsConfig(), **config}),
        )
    return {
        one.asset_key.to_user_string(): {name: value.value for name, value in one.metadata.items()}
        for name in ("review_queue", "intent_labels")
        for one in result.asset_materializations_for_node(name)
    }


@pytest.fixture
def without_queues(stand_ins_environment: dict[str, str]) -> Iterator[str]:
    """The server as it would be before review queues: their paths are not found, everything else goes through."""
    target = stand_ins_environment["MLFLOW_TRACKING_URI"].rstrip("/")

    class Proxy(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if "review-queues" in self.path or "label-schemas" in self.path:
                self.send_error(404)
                return
            headers = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
            answer = requests.request(self.command, target + self.path, data=body, headers=headers, timeout=30)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PATCH = do_DELETE = _forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
