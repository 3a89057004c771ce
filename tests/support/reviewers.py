"""Reviews of failing turns, for tests that need some and have no queue that asks for them."""

from __future__ import annotations

from collections.abc import Mapping

from mangaassist_assets.chatbot.reviewing import ReviewReport, TraceReviewer, answer_queue
from mangaassist_assets.chatbot.shopper import AnswerCheck, true_of
from mangaassist_assets.chatbot.simulation import reply_of
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.queue.audit_sample import random_numbers
from mangaassist_assets.tracing.contract.turns import ChatTurn
from tests.support.labelling import queue_item


def review_failing(
    utterances: Mapping[str, Utterance],
    turns: Mapping[str, ChatTurn],
    reviewer: TraceReviewer,
    *,
    share: float,
    answer_check: AnswerCheck | None = None,
) -> ReviewReport:
    """Let the simulated reviewer answer about a share of the turns that truly failed.

    `utterances` and `turns` are by trace id; the same traces are chosen whatever else there is.
    """
    asked = [
        trace_id
        for trace_id, turn in sorted(turns.items())
        if true_of(utterances[trace_id], reply_of(turn), answer_check=answer_check).failing
        and random_numbers([trace_id])[0] < share
    ]
    items = [queue_item(trace_id, rank) for rank, trace_id in enumerate(asked, start=1)]
    return answer_queue(items, utterances, turns, reviewer, budget=len(turns), answer_check=answer_check)
