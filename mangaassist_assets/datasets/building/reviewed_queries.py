"""Queries whose relevant documents are known: from bootstrap messages, and from turns that people reviewed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mangaassist_assets.core.text_keys import normalise_text, text_digest
from mangaassist_assets.datasets.building.selection import DatasetCandidate
from mangaassist_assets.datasets.building.splits import SplitShares, assign_split
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.intent_labels import LabelConflict, ReviewOrigin
from mangaassist_assets.labelling.queue.stored_queue import NO_QUEUE, ReviewQueue
from mangaassist_assets.retrieval.tenants import TenantScope
from mangaassist_assets.tracing.contract.names import RELEVANT_DOCUMENTS
from mangaassist_assets.tracing.contract.turns import ChatTurn, Review


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownQuery:
    """One query with its expected documents.

    `shown` is chunk id -> rank of what the retriever put before the reranker in the turn; empty for bootstrap queries.
    `tenant` is whose shopper asked: no passage of another tenant stands beside the query. `origin` says how the turn
    came to be reviewed, None for bootstrap queries.
    """

    candidate: DatasetCandidate
    text: str
    documents: frozenset[str]
    shown: Mapping[str, int] = field(default_factory=dict)
    release_bundle: str | None = None
    trace_id: str | None = None
    tenant: str | None = None
    origin: ReviewOrigin | None = None

    @property
    def scope(self) -> TenantScope:
        """What its shopper may find."""
        return TenantScope.of_trace(self.tenant)


def base_queries(
    base: Sequence[Utterance], excluded: Counter[str], *, clean: Callable[[str], str], shares: SplitShares
) -> Iterator[KnownQuery]:
    """Yield one query for each different message that names documents; `excluded` counts the others."""
    by_key: dict[tuple[str, str | None], tuple[str, set[str]]] = {}
    for utterance in base:
        if not utterance.relevant_documents:
            excluded["bootstrap message without relevant documents"] += 1
            continue
        text = clean(utterance.text)
        asked = normalise_text(text), utterance.tenant
        if asked in by_key:
            # Bootstrap data that names more documents for the same question completes it, it does not contradict it.
            excluded["duplicate message"] += 1
            known, documents = by_key[asked]
            by_key[asked] = (min(known, text), documents | set(utterance.relevant_documents))
        else:
            by_key[asked] = (text, set(utterance.relevant_documents))
    for (key, tenant), (text, documents) in sorted(by_key.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        split = assign_split(text, shares=shares)
        digest = text_digest(text if tenant is None else f"{tenant}\0{text}")
        candidate = DatasetCandidate(example_id=f"base-{digest[:20]}", key=key, split=split, kind="base")
        yield KnownQuery(candidate=candidate, text=text, documents=frozenset(documents), tenant=tenant)


def reviewed_queries(
    turns: Sequence[ChatTurn],
    excluded: Counter[str],
    conflicts: list[LabelConflict],
    *,
    clean: Callable[[str], str],
    shares: SplitShares,
    as_of_ms: int | None = None,
    queues: Mapping[str, ReviewQueue] | None = None,
) -> Iterator[KnownQuery]:
    """Yield the reviewed turns as of a time; reviews of one message that have no document in common are conflicts.

    The same message of two tenants is two messages: each has answers of its own. `queues` are the review queues of
    the turns' bundles, as far as they had one.
    """
    by_key: defaultdict[tuple[str, str | None], list[tuple[ChatTurn, str, tuple[str, ...]]]] = defaultdict(list)
    in_order = sorted(turns, key=lambda one: (one.trace_id, one.timestamp_ms, one.release_bundle))
    for turn in {turn.trace_id: turn for turn in in_order}.values():
        if as_of_ms is not None and turn.timestamp_ms > as_of_ms:
            excluded["turn after the as-of time"] += bool(turn.expected_documents)
            continue
        documents = documents_as_of(turn, as_of_ms)
        if documents:
            text = clean(turn.learnable_text)
            by_key[normalise_text(text), turn.tenant].append((turn, text, documents))
        elif turn.expected_documents:
            excluded["reviewed after the as-of time"] += 1
    for (key, _), same in sorted(by_key.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        if not frozenset.intersection(*(frozenset(documents) for _, _, documents in same)):
            answers = sorted({", ".join(sorted(documents)) for _, _, documents in same})
            conflicts.append(
                LabelConflict(trace_ids=tuple(turn.trace_id for turn, _, _ in same), answers=tuple(answers))
            )
            excluded["reviews contradict each other"] += len(same)
            continue
        expected = frozenset(document for _, _, documents in same for document in documents)
        for turn, text, _ in same:
            queue = (queues or {}).get(turn.release_bundle)
            origin = queue.origin_of(turn.trace_id) if queue else NO_QUEUE
            candidate = DatasetCandidate(
                example_id=f"trace-{turn.trace_id}",
                key=key,
                split=assign_split(text, turn.session_id, turn.user_key, shares=shares),
                kind="human",
                timestamp_ms=turn.timestamp_ms,
                session_id=turn.session_id,
                user_key=turn.user_key,
            )
            yield KnownQuery(
                candidate=candidate,
                text=text,
                documents=expected,
                shown={one.chunk_id: one.retrieval_rank for one in turn.candidates},
                release_bundle=turn.release_bundle,
                trace_id=turn.trace_id,
                tenant=turn.tenant,
                origin=origin,
            )


def documents_as_of(turn: ChatTurn, as_of_ms: int | None) -> tuple[str, ...]:
    """Return the documents that people had named by a time: the latest review until then.

    A turn that was stored before reviews were kept with their times has only the latest one.
    """
    dated = _reviews_of_documents(turn)
    if as_of_ms is None or not dated:
        return turn.expected_documents
    known = [one for one in dated if one.timestamp_ms <= as_of_ms]
    return max(known, key=lambda one: one.timestamp_ms).values if known else ()


def newest_review_ms(turns: Sequence[ChatTurn]) -> int | None:
    """Return when the last review was, or the last reviewed turn if that is later (ms since the epoch).

    Turns that nobody reviewed change nothing and make no new version; None where none is reviewed.
    """
    reviewed = [turn for turn in turns if turn.expected_documents]
    times = [turn.timestamp_ms for turn in reviewed]
    times += [one.timestamp_ms for turn in reviewed for one in _reviews_of_documents(turn)]
    return max(times, default=None)


def _reviews_of_documents(turn: ChatTurn) -> list[Review]:
    return [
        one
        for one in turn.reviews
        if one.source == "human" and one.kind == "expectation" and one.name == RELEVANT_DOCUMENTS
    ]
