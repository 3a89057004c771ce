"""Who may label, and which names of intents count: the settings that reviews are read under."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.labelling.intent_names import is_name, plain_name, spelling_key
from mangaassist_assets.tracing.contract.names import EXPECTED_INTENT, RELEVANT_DOCUMENTS
from mangaassist_assets.tracing.contract.turns import ChatTurn, Review

if TYPE_CHECKING:
    from upath import UPath

CATALOGUE_FILE = "intents.txt"
UNNAMED = "unknown"
"""Who answered without a name, as on MLflow's page without a login."""


class CatalogueError(OperatorError, ValueError):
    """A file of intents that cannot be used; says which line."""


@dataclass(frozen=True)
class LabellingPolicy:
    """Who may label, and which names of intents count.

    Attributes:
        reviewers: People by the name that their answers carry, in any case; without any, everybody may.
        catalogue: The intents that are declared, None where nobody declared any.
        accepted_intents: Names that a person accepted since.
        vouched_reviewers: People whose answers are used whatever the figures say of them: somebody vouched for them.
    """

    reviewers: tuple[str, ...] = ()
    catalogue: tuple[str, ...] | None = None
    accepted_intents: tuple[str, ...] = ()
    vouched_reviewers: tuple[str, ...] = ()

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(map(person_key, self.reviewers))

    def may_review(self, person: str) -> bool:
        """Whether the answers of somebody of this name count."""
        return not self.reviewers or person_key(person) in self._listed

    def is_vouched_for(self, person: str) -> bool:
        """Whether somebody vouched for a person."""
        return person_key(person) in set(map(person_key, self.vouched_reviewers))

    def describe_reviewers(self) -> str:
        """Return in words whose answers count."""
        return ", ".join(self.reviewers) or "everybody: no list of reviewers is configured"

    def describe_catalogue(self) -> str:
        """Return in words which new intents count from their first review."""
        accepted = f", and {len(self.accepted_intents)} accepted since" if self.accepted_intents else ""
        if self.catalogue is not None:
            return f"{len(self.catalogue)} intents are declared{accepted}; any other new name waits to be accepted"
        of_whom = "a listed reviewer gives it" if self.reviewers else "the messages of two shoppers need it"
        return f"no intents are declared{accepted}: a new name counts once {of_whom}"


EVERYBODY = LabellingPolicy()


def person_key(name: str) -> str:
    """Return what all spellings of a person's name share: MLflow keeps names in lower case in its queues."""
    return plain_name(name).casefold()


def heard(turn: ChatTurn, policy: LabellingPolicy, *, held_back: Collection[str] = ()) -> ChatTurn:
    """Return a turn as it is without the labels of people who are not listed, or held back (by `person_key`)."""

    def counts(person: str | None) -> bool:
        name = person or UNNAMED
        return policy.may_review(name) and person_key(name) not in held_back

    if not any(map(is_label, turn.reviews)):
        # A turn of before reviews were kept one by one knows its latest reviewer alone.
        reviewed = turn.expected_intent is not None or bool(turn.expected_documents)
        return turn if not reviewed or counts(turn.reviewer) else _unreviewed(turn)
    reviews = tuple(one for one in turn.reviews if not is_label(one) or counts(one.source_id))
    if len(reviews) == len(turn.reviews):
        return turn
    latest = {one.name: one for one in sorted(filter(is_label, reviews), key=lambda one: one.timestamp_ms)}
    intent, documents = latest.get(EXPECTED_INTENT), latest.get(RELEVANT_DOCUMENTS)
    last = max(latest.values(), key=lambda one: one.timestamp_ms, default=None)
    return replace(
        turn,
        reviews=reviews,
        expected_intent=intent.values[0] if intent else None,
        expected_documents=documents.values if documents else (),
        reviewer=last.source_id if last else None,
    )


def heard_turns(
    turns: Collection[ChatTurn], policy: LabellingPolicy, *, held_back: Collection[str] = ()
) -> list[ChatTurn]:
    """Return turns as they are without the labels of people who are not listed, or held back; see `heard`."""
    return [heard(turn, policy, held_back=held_back) for turn in turns]


def is_label(review: Review) -> bool:
    """Whether an assessment is a person's word on the intent, or on the documents that answer."""
    return (
        review.source == "human"
        and review.kind == "expectation"
        and review.name in (EXPECTED_INTENT, RELEVANT_DOCUMENTS)
    )


def _unreviewed(turn: ChatTurn) -> ChatTurn:
    return replace(turn, expected_intent=None, expected_documents=(), reviewer=None)


def read_catalogue_file(file: Path | UPath) -> tuple[str, ...]:
    """Return the intents that a file declares; see `read_catalogue`.

    Raises:
        CatalogueError: it cannot be read, or is no list of names.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CatalogueError(f"the file of intents {file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"the file of intents {file} is not UTF-8: save it as UTF-8") from error
    return read_catalogue(text, source=str(file))


def read_catalogue(text: str, *, source: str) -> tuple[str, ...]:
    """Return the intents of a file: one a line, what follows a `#` is a comment.

    Args:
        text: the file.
        source: what to call it in errors.

    Raises:
        CatalogueError: a line is no name, a name comes twice, or there is none.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = plain_name(line.split("#", 1)[0])
        if not name:
            continue
        if not is_name(name):
            raise CatalogueError(
                f"{source}, line {number}: {name[:40]!r} is no name of an intent; letters, digits, spaces, hyphens and "
                "underscores make one, 64 characters at most"
            )
        if (other := found.setdefault(spelling_key(name), name)) is not name:
            raise CatalogueError(f"{source}, line {number}: {name!r} is {other!r} once more: leave one of them out")
    if not found:
        raise CatalogueError(f"{source} declares no intent: write one name a line")
    return tuple(sorted(found.values()))
