"""What is deployed in AppConfig, judged: what this platform does not know, what is wrong, and what serves meanwhile."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

from mangaassist_assets.chatbot.configuration.documents import (
    Document,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    parse_document,
)
from mangaassist_assets.chatbot.configuration.experiments import TurnConfiguration, run_experiments
from mangaassist_assets.chatbot.configuration.fields import (
    ConfigurationDocumentError,
    Problem,
    UnknownField,
    unknown_fields,
)
from mangaassist_assets.chatbot.configuration.profiles import PROFILES
from mangaassist_assets.core.figures import Figures, Row
from mangaassist_assets.core.snapshots import SnapshotStore, canonical_json

PROFILES_FILE = "profiles.json"

StoredReview: TypeAlias = Mapping[str, Any]
"""A `ProfileReview` as plain JSON values.

`description` has profile, version, every problem by its place, and what serves, as a sentence.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileReview:
    """One profile.

    `deployed` is the version number of AppConfig in force, `serving` the one that a chatbot answers with: the newest
    that is valid, None where none is. `document` is that one. Of a profile that is unknown here nothing is judged;
    `resembles` is the known name that it may be a misspelling of.
    """

    profile: str
    deployed: str
    serving: str | None
    known: bool = True
    document: Document | None = None
    unknown_fields: tuple[UnknownField, ...] = ()
    problems: tuple[Problem, ...] = ()
    resembles: str | None = None

    @property
    def document_version(self) -> str | None:
        """The version that the serving document gives itself, which is what traces name."""
        return None if self.document is None else self.document.version

    @property
    def state(self) -> str:
        """`in force`, `unknown to this platform`, or `refused` with what serves instead."""
        if not self.known:
            like = f", like {self.resembles}?" if self.resembles else ""
            return f"unknown to this platform{like}"
        if not self.problems:
            return "in force"
        if self.serving is None:
            return "refused, and no earlier version is valid: a chatbot that starts now has none"
        if self.serving == self.deployed:
            return "in force, but for the experiments named: these do not run"
        return f"refused: version {self.serving} still serves"

    def to_dict(self) -> StoredReview:
        """Return the review as it is stored; the document stays in AppConfig."""
        plain = asdict(replace(self, document=None))
        del plain["document"]
        description = f"{self.profile} version {self.deployed}: {'; '.join(map(str, self.problems))} ({self.state})"
        return {**plain, "document_version": self.document_version, "state": self.state, "description": description}


Versions = Iterable[tuple[str, bytes | None]]
"""Version numbers with their content, the one in force first; None is a content that cannot be read any more."""


def review_configuration(profiles: Mapping[str, Versions]) -> tuple[ProfileReview, ...]:
    """Judge every deployed profile, sorted by name; the experiments also by the documents they lie over."""
    reviews = {name: review_profile(name, versions) for name, versions in sorted(profiles.items())}
    experiments = reviews.get("experiments")
    if experiments is not None and experiments.document is not None:
        found = experiment_problems({name: one.document for name, one in reviews.items()})
        reviews["experiments"] = replace(experiments, problems=experiments.problems + found)
    return tuple(reviews.values())


def review_profile(profile: str, versions: Versions) -> ProfileReview:
    """Judge one profile by its content; earlier versions are read only as far as needed."""
    remaining = iter(versions)
    deployed, content = next(remaining)
    if profile not in PROFILES:
        near = difflib.get_close_matches(profile, PROFILES, n=1, cutoff=0.8)
        return ProfileReview(
            profile=profile, deployed=deployed, serving=deployed, known=False, resembles=near[0] if near else None
        )
    found = _read(profile, content)
    if not isinstance(found, tuple):
        return ProfileReview(
            profile=profile, deployed=deployed, serving=deployed, document=found, unknown_fields=unknown_fields(found)
        )
    for number, earlier in remaining:
        document = _read(profile, earlier)
        if not isinstance(document, tuple):
            return ProfileReview(profile=profile, deployed=deployed, serving=number, document=document, problems=found)
    return ProfileReview(profile=profile, deployed=deployed, serving=None, problems=found)


def experiment_problems(documents: Mapping[str, Document | None]) -> tuple[Problem, ...]:
    """Return why enabled experiments cannot run over the other documents, which are all needed to tell."""
    prompts, routing, guardrails, experiments = (
        documents.get(name) for name in ("prompts", "routing", "guardrails", "experiments")
    )
    if (
        isinstance(prompts, PromptsDocument)
        and isinstance(routing, RoutingDocument)
        and isinstance(guardrails, GuardrailsDocument)
        and isinstance(experiments, ExperimentsDocument)
    ):
        base = TurnConfiguration(prompts=prompts, routing=routing, guardrails=guardrails)
        return run_experiments(experiments, base).problems
    return ()


def valid_documents(profile: str, versions: Versions) -> Iterator[tuple[str, Document]]:
    """Yield the versions of a profile that are valid, the one in force first; each is read when it is asked for."""
    for number, content in versions:
        found = _read(profile, content)
        if not isinstance(found, tuple):
            yield number, found


def _read(profile: str, content: bytes | None) -> Document | tuple[Problem, ...]:
    if content is None:
        return (Problem(field="", reason="its content cannot be read from AppConfig"),)
    try:
        return parse_document(profile, content)
    except ConfigurationDocumentError as error:
        return error.problems


def plain_reviews(reviews: Iterable[ProfileReview]) -> list[StoredReview]:
    """Return reviews as they are stored."""
    return [one.to_dict() for one in reviews]


def review_files(reviews: Sequence[StoredReview]) -> dict[str, bytes]:
    """Return reviews as they are stored."""
    return {PROFILES_FILE: canonical_json(reviews)}


def read_reviews(store: SnapshotStore) -> list[StoredReview]:
    """Return the reviews of the last refresh."""
    reviews: list[StoredReview] = store.read_json(store.latest("runtime_configuration"), PROFILES_FILE)
    return reviews


def describe_broken(reviews: Sequence[StoredReview]) -> list[str]:
    """Return a sentence for each document that cannot be used: profile, version, field, reason, version in use."""
    return [one["description"] for one in reviews if one["problems"]]


def describe_unknown_fields(reviews: Sequence[StoredReview]) -> list[str]:
    """Return each field that this platform does not know, with the field that it may be a misspelling of."""
    return [
        f"{one['profile']} version {one['deployed']} {field['field']}"
        + (f" (like {field['resembles']}?)" if field["resembles"] else "")
        for one in reviews
        for field in one["unknown_fields"]
    ]


def review_figures(reviews: Sequence[StoredReview]) -> Figures:
    """Return tables of the profiles, of the fields that are unknown, and of what is wrong."""
    shown = ("profile", "deployed", "serving", "document_version", "state")
    return {
        "profiles": [
            {
                **{name: one[name] for name in shown},
                "serving": one["serving"] or "none",
                "document_version": one["document_version"] or "",
                "unknown_fields": len(one["unknown_fields"]),
                "problems": len(one["problems"]),
            }
            for one in reviews
        ],
        "unknown_fields": [
            {"profile": one["profile"], "version": one["deployed"], **field, "resembles": field["resembles"] or ""}
            for one in reviews
            for field in one["unknown_fields"]
        ],
        "problems": problem_rows(reviews),
    }


def problem_rows(reviews: Sequence[StoredReview]) -> list[Row]:
    """Return a row a problem of what the refresh found: profile, version, place, reason, and the version in use."""
    return [
        {"profile": one["profile"], "version": one["deployed"], **problem, "serving": one["serving"] or "none"}
        for one in reviews
        for problem in one["problems"]
    ]
