"""MLflow as the reviewers' desk: the queue of a release bundle that they work through.

Review queues came with MLflow 3.14. A server without them gets a tag on every queued trace instead, by which its page
of traces filters. Publishing may be repeated, after a kill as well: what is there is not added again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from mangaassist_assets.core.figures import Figures
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT, RELEVANT_DOCUMENTS
from resources.mlflow.rest import all_pages
from resources.mlflow.traces.search import infos, infos_by_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.genai.review_queues import ReviewQueue

REVIEW_TAG = "review_queue"
REASON_TAG = "review_reason"
"""Why a trace is asked about again, for whoever opens it."""
DOCUMENTS_INSTRUCTION = (
    "Which documents answer the message? Their ids (policies/returns.md, titles.csv#17), one a line or between commas. "
    "Leave it empty if you do not know."
)

_PAGE = 100
_INSTRUCTION_LIMIT = 1_000
_NAME_LIMIT = 250
_DOCUMENTS_LIMIT = 2_000
_REASON_LIMIT = 500
_NO_QUEUES = frozenset({"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED", "FEATURE_DISABLED", "RESOURCE_DOES_NOT_EXIST"})

Desk = Literal["queue", "tag"]


class ReviewQuestionError(ValueError):
    """MLflow has a question of our name that asks for something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What reviewers did with a bundle's queue so far: traces they handed back, and traces they called done."""

    declined: frozenset[str] = frozenset()
    complete: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedQueue:
    """Where the queue is, and what publishing changed.

    `desk` is `tag` where the server has no review queues. `gone` are items whose trace does not exist any more.
    """

    desk: Desk
    url: str
    added: int
    removed: int
    completed: int
    reopened: int = 0
    gone: tuple[str, ...] = ()

    def figures(self) -> Figures:
        """Return the kind of desk, and counts of traces."""
        return {
            "desk": "review queue" if self.desk == "queue" else "traces with a tag",
            "added_in_mlflow": self.added,
            "completed_in_mlflow": self.completed,
            "removed_in_mlflow": self.removed,
            "reopened_in_mlflow": self.reopened,
            "traces_gone": len(self.gone),
        }


class MlflowReviewQueues:
    """The review queue of each release bundle, in the experiment of traces."""

    def __init__(self, client: MlflowClient, experiment_id: str, *, traces_url: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._experiment_url = traces_url.removesuffix("/traces")

    def state(self, release_bundle: str) -> QueueState:
        """Return what reviewers said of the items of a bundle's queue."""
        queue = self._find(queue_name(release_bundle)) if self._has_queues() else None
        items = self._items(queue.queue_id) if queue else {}
        declined, complete = (
            frozenset(trace_id for trace_id, status in items.items() if status == wanted)
            for wanted in ("declined", "complete")
        )
        return QueueState(declined=declined, complete=complete)

    def publish(
        self,
        release_bundle: str,
        trace_ids: Sequence[str],
        *,
        intents: Sequence[str],
        reviewed: Mapping[str, str],
        reopened: Mapping[str, str] | None = None,
    ) -> PublishedQueue:
        """Let the bundle's queue hold these traces, and nothing else that waits.

        Items that reviewers finished or declined stay as they are. A waiting item that was reviewed elsewhere is
        completed in its reviewer's name; another one that is not asked about any more is taken out.

        Args:
            release_bundle: Names the queue.
            trace_ids: The traces to review, best first.
            intents: The known intents, for the reviewers' instruction.
            reviewed: Reviewer by trace id, for traces that have an answer.
            reopened: Those of the traces that are asked about although somebody was done with them, and why.
        """
        reopened = reopened or {}
        there = infos_by_id(self._client, self._experiment_id, trace_ids).keys()
        wanted = [trace_id for trace_id in trace_ids if trace_id in there]
        gone = tuple(sorted(set(trace_ids) - there))
        for trace_id in sorted(there & reopened.keys()):
            self._client.set_trace_tag(trace_id, REASON_TAG, reopened[trace_id][:_REASON_LIMIT])
        if not self._has_queues():
            added, removed = self._tag(release_bundle, wanted)
            return PublishedQueue(
                desk="tag", url=self._tagged_url(release_bundle), added=added, removed=removed, completed=0, gone=gone
            )
        questions = [
            self._question(EXPECTED_INTENT, intent_instruction(intents), max_length=_NAME_LIMIT),
            self._question(RELEVANT_DOCUMENTS, DOCUMENTS_INSTRUCTION, max_length=_DOCUMENTS_LIMIT),
        ]
        queue = self._ensure(queue_name(release_bundle), questions)
        items = self._items(queue.queue_id)
        new = [trace_id for trace_id in wanted if trace_id not in items]
        self._add(queue.queue_id, new)
        again = [trace_id for trace_id in wanted if trace_id in reopened and items.get(trace_id) == "complete"]
        for trace_id in again:
            self._reopen(queue.queue_id, trace_id)
        waiting = sorted(trace_id for trace_id, status in items.items() if status == "pending")
        answered = [trace_id for trace_id in waiting if trace_id in reviewed]
        for trace_id in answered:
            self._complete(queue.queue_id, trace_id, reviewed[trace_id])
        stale = [trace_id for trace_id in waiting if trace_id not in reviewed and trace_id not in set(wanted)]
        self._remove(queue.queue_id, stale)
        return PublishedQueue(
            desk="queue",
            url=f"{self._experiment_url}/review-queue?selectedQueueId={quote(queue.queue_id)}",
            added=len(new),
            removed=len(stale),
            completed=len(answered),
            reopened=len(again),
            gone=gone,
        )

    def _has_queues(self) -> bool:
        from mlflow.exceptions import MlflowException
        from mlflow.genai.review_queues import list_review_queues

        try:
            list_review_queues(experiment_id=self._experiment_id, max_results=1)
        except MlflowException as error:
            # The experiment exists, so what is not found is the interface.
            if error.error_code in _NO_QUEUES:
                return False
            raise
        return True

    def _find(self, name: str) -> ReviewQueue | None:
        from mlflow.exceptions import MlflowException
        from mlflow.genai.review_queues import get_review_queue

        try:
            queue: ReviewQueue = get_review_queue(name=name, experiment_id=self._experiment_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return queue

    def _ensure(self, name: str, schema_ids: Sequence[str]) -> ReviewQueue:
        from mlflow.exceptions import MlflowException
        from mlflow.genai.review_queues import create_review_queue, update_review_queue

        queue = self._find(name)
        if queue is None:
            try:
                queue = create_review_queue(
                    name, queue_type="custom", schema_ids=list(schema_ids), experiment_id=self._experiment_id
                )
            except MlflowException as error:
                # Another process may have made it in between.
                queue = self._find(name) if error.error_code == "RESOURCE_ALREADY_EXISTS" else None
                if queue is None:
                    raise
        missing = [schema_id for schema_id in schema_ids if schema_id not in queue.schema_ids]
        if missing:
            # People may have put further questions on the queue: they stay.
            queue = update_review_queue(queue.queue_id, schema_ids=[*queue.schema_ids, *missing])
        return queue

    def _question(self, name: str, instruction: str, *, max_length: int) -> str:
        """Return the id of a question, made or brought up to date.

        A free text, for MLflow offers ten options at most and never lets a question change its form.
        """
        from mlflow.exceptions import MlflowException
        from mlflow.genai.label_schemas import InputText, create_label_schema, get_label_schema, update_label_schema

        try:
            question = create_label_schema(
                name,
                type="expectation",
                input=InputText(max_length=max_length),
                instruction=instruction,
                experiment_id=self._experiment_id,
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            question = get_label_schema(name, experiment_id=self._experiment_id)
        schema_id = str(question.schema_id)
        if str(question.type) != "expectation":
            msg = (
                f"MLflow has a question {name!r} whose answers are feedback, not expectations: delete it "
                "under Review, Manage questions"
            )
            raise ReviewQuestionError(msg)
        if question.instruction != instruction:
            update_label_schema(schema_id, instruction=instruction)
        return schema_id

    def _items(self, queue_id: str) -> dict[str, str]:
        """Return the status of every item by trace id."""
        from mlflow.genai.review_queues import list_review_queue_items

        items = all_pages(lambda token: list_review_queue_items(queue_id, max_results=_PAGE, page_token=token))
        return {item.item_id: str(item.status) for item in items}

    def _add(self, queue_id: str, trace_ids: Sequence[str]) -> None:
        """Add items, the best last: the page shows the newest first."""
        from mlflow.genai.review_queues import add_items_to_review_queue

        for trace_id in reversed(trace_ids):
            add_items_to_review_queue(queue_id, item_ids=[trace_id])

    def _remove(self, queue_id: str, trace_ids: Sequence[str]) -> None:
        from mlflow.genai.review_queues import remove_items_from_review_queue

        for start in range(0, len(trace_ids), _PAGE):
            remove_items_from_review_queue(queue_id, item_ids=list(trace_ids[start : start + _PAGE]))

    def _complete(self, queue_id: str, trace_id: str, reviewer: str) -> None:
        from mlflow.genai.review_queues import set_review_queue_item_status

        set_review_queue_item_status(queue_id, item_id=trace_id, status="complete", completed_by=reviewer[:_NAME_LIMIT])

    def _reopen(self, queue_id: str, trace_id: str) -> None:
        from mlflow.genai.review_queues import set_review_queue_item_status

        set_review_queue_item_status(queue_id, item_id=trace_id, status="pending")

    def _tag(self, release_bundle: str, trace_ids: Sequence[str]) -> tuple[int, int]:
        """Let exactly these traces carry the tag; returns how many got it and how many lost it."""
        condition = f"tags.{REVIEW_TAG} = '{release_bundle}'"
        tagged = {info.trace_id for info in infos(self._client, self._experiment_id, condition)}
        new = [trace_id for trace_id in trace_ids if trace_id not in tagged]
        for trace_id in new:
            self._client.set_trace_tag(trace_id, REVIEW_TAG, release_bundle)
        stale = sorted(tagged - set(trace_ids))
        for trace_id in stale:
            self._client.delete_trace_tag(trace_id, REVIEW_TAG)
        return len(new), len(stale)

    def _tagged_url(self, release_bundle: str) -> str:
        tag = quote(f"{REVIEW_TAG}={quote(release_bundle, safe='')}", safe="")
        return f"{self._experiment_url}/traces?tag={tag}&startTimeLabel=ALL"


def queue_name(release_bundle: str) -> str:
    """Return the name of a bundle's queue."""
    return f"Reviews of {release_bundle}"[:_NAME_LIMIT]


def intent_instruction(intents: Sequence[str]) -> str:
    """Return what reviewers read above the answer: the known intents, as many as MLflow has room for."""
    text = "What did the shopper want? One of the known intents, or a new name: "
    names = sorted(intents)
    for count in range(len(names), -1, -1):
        more = "" if count == len(names) else f", and {len(names) - count} more"
        full = text + ", ".join(names[:count]) + more
        if len(full) <= _INSTRUCTION_LIMIT:
            return full
    return text.strip()
