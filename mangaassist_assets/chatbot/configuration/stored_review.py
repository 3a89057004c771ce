"""The review of the deployed configuration as it is stored, and as rows that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mangaassist_assets.core.figures import Figures, Row

if TYPE_CHECKING:
    from mangaassist_assets.chatbot.configuration.review import ProfileReview
    from mangaassist_assets.core.snapshots import SnapshotStore

PROFILES_FILE = "profiles.json"

StoredReview: TypeAlias = "Mapping[str, Any]"
"""A `ProfileReview` as plain JSON values, with its `description`."""


def plain_reviews(reviews: Iterable[ProfileReview]) -> list[StoredReview]:
    """Return reviews as they are stored."""
    return [{**one.to_dict(), "description": one.describe_problems()} for one in reviews]


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
