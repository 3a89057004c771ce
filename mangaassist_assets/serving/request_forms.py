"""The forms of a request: by which members an endpoint is asked, and which of them production uses.

A form is known by the members that make it: `text`, `inputs`, or `query` with `passages`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

FORMS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "inputs": ("inputs",),
    "query_passages": ("query", "passages"),
}
"""The members of each form."""


class UnknownFormError(ValueError):
    """A form is configured that the endpoint does not have; the message names those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredForms:
    """The forms that a model version must answer before it is deployed, and where they are known from.

    Attributes:
        forms: Names of forms, sorted.
        known_from: `traces` where requests of production were seen, else `configuration`.
        observed: How many requests were seen of each form.
        unrecognised: How many were seen of other members than any one form's; they require nothing.
    """

    forms: tuple[str, ...]
    known_from: Literal["traces", "configuration"]
    observed: Mapping[str, int]
    unrecognised: Mapping[tuple[str, ...], int]

    def described(self) -> str:
        """Return the forms, where they are known from, and how many requests were seen, in words."""
        seen = [f"{form} {count} times" for form, count in sorted(self.observed.items())]
        if self.unrecognised:
            seen.append(f"members of no form of this endpoint {sum(self.unrecognised.values())} times")
        return f"{', '.join(self.forms)} by {self.known_from}" + (f" (seen: {', '.join(seen)})" if seen else "")


def form_of(keys: Collection[str]) -> str | None:
    """Return the one form whose members a request has, None where it has those of none or of two."""
    asked = {key for members in FORMS.values() for key in members} & set(keys)
    return next((name for name, members in FORMS.items() if asked == set(members)), None)


def required_forms(
    observed: Iterable[tuple[str, ...]], *, configured: Sequence[str], known: Collection[str]
) -> RequiredForms:
    """Return which forms of request a candidate has to answer.

    What requests were seen decides; where none was, configuration does. A request whose members make no form that the
    endpoint has requires nothing: what wrote it may have noted down something else than what it sent.

    Args:
        observed: Of each request of production its members, in any order; an empty tuple where nothing is known.
        configured: Forms that production uses where nothing was seen.
        known: The forms that the endpoint's schema describes.

    Raises:
        UnknownFormError: A configured form is none of them, or none is configured.
    """
    if unknown := sorted(set(configured) - set(known)):
        raise UnknownFormError(f"no form of request is named {unknown[0]!r}; the endpoint has {_listed(known)}")
    if not configured:
        raise UnknownFormError(f"no form of request is configured; the endpoint has {_listed(known)}")
    seen: Counter[str] = Counter()
    unrecognised: Counter[tuple[str, ...]] = Counter()
    for keys in observed:
        form = form_of(keys)
        if form is not None and form in known:
            seen[form] += 1
        elif keys:
            unrecognised[tuple(sorted(keys))] += 1
    return RequiredForms(
        forms=tuple(sorted(seen or set(configured))),
        known_from="traces" if seen else "configuration",
        observed=dict(seen),
        unrecognised=dict(unrecognised),
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
