"""The forms of a request, and a decoded request as a model takes it, or what is wrong with it, by name.

A form is known by the members that make it: `text`, `inputs`, or `query` with `passages`.
`schemas/*/request.schema.json` say the same for those who ask; a test holds the two together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mangaassist_assets.models.model_types import InputError, checked_text

FORMS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "inputs": ("inputs",),
    "query_passages": ("query", "passages"),
}
"""The members of each form."""
MAX_INPUTS = 256


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


class BadRequestError(ValueError):
    """The request is wrong, not the model: the server answers 400 with this message."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed request: `inputs` as the model takes them, one or more; `parameters` by name.

    `form` is how it was asked; `single` that it asked one thing and no list, and is answered alike.
    """

    inputs: list[Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    form: str = "inputs"
    single: bool = False


def parse_request(envelope: object) -> InferenceRequest:
    """Return a request that was decoded from JSON as the model takes it; members of no form are ignored.

    Raises:
        BadRequestError: It is of no form or of two, or a member is of the wrong type, empty, too long or too many.
    """
    if not isinstance(envelope, dict):
        raise BadRequestError(f"the request must be an object with {named_forms(FORMS)}, got {_type(envelope)}")
    form = form_of(envelope)
    if form is None:
        raise BadRequestError(_no_form(envelope))
    parameters = envelope.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise BadRequestError('"parameters" must be an object')
    try:
        inputs, single = _READERS[form](envelope)
    except InputError as error:
        raise BadRequestError(str(error)) from error
    return InferenceRequest(inputs, parameters, form=form, single=single)


def _text_request(envelope: Mapping[str, Any]) -> tuple[list[Any], bool]:
    value = envelope["text"]
    if not isinstance(value, str | list):
        raise InputError(f'"text" must be a string or a list of strings, got {_type(value)}')
    if isinstance(value, str):
        return [_told_text(value, '"text"')], True
    _check_count(value, "text")
    return [_told_text(one, f"text[{place}]") for place, one in enumerate(value)], False


def _inputs_request(envelope: Mapping[str, Any]) -> tuple[list[Any], bool]:
    """Return the inputs as they came: what a model takes besides texts is its own business."""
    value = envelope["inputs"]
    single = isinstance(value, str | dict)
    inputs = [value] if single else value
    if not isinstance(inputs, list):
        raise InputError(f'"inputs" must be a list, a string or an object, got {_type(value)}')
    _check_count(inputs, "inputs")
    for place, one in enumerate(inputs):
        text, where = (one.get("text"), ".text") if isinstance(one, dict) else (one, "")
        if isinstance(text, str):
            _told_text(text, f"inputs[{place}]{where}")
    return inputs, single


def _ranking_request(envelope: Mapping[str, Any]) -> tuple[list[Any], bool]:
    query, passages = _told_text(envelope["query"], '"query"'), envelope["passages"]
    if not isinstance(passages, list):
        raise InputError(f'"passages" must be a list of strings, got {_type(passages)}')
    _check_count(passages, "passages")
    # An empty passage is answered: one that lost its text must not take the others with it.
    texts = [checked_text(one, f"passages[{place}]") for place, one in enumerate(passages)]
    return [{"text": query, "text_pair": text} for text in texts], False


_READERS = {"text": _text_request, "inputs": _inputs_request, "query_passages": _ranking_request}


def _told_text(value: object, where: str) -> str:
    """Return a text that says something."""
    text = checked_text(value, where)
    if not text.strip():
        raise InputError(f"{where} is empty")
    return text


def _check_count(values: list[Any], name: str) -> None:
    if not values:
        raise InputError(f'"{name}" must be a list with at least one item')
    if len(values) > MAX_INPUTS:
        raise InputError(f'"{name}" has {len(values)} items, at most {MAX_INPUTS} are allowed')


def _no_form(envelope: Mapping[str, Any]) -> str:
    """Say what keeps a request from being of one form."""
    present = [key for members in FORMS.values() for key in members if key in envelope]
    lacking = [
        f'"{key}" without "{other}"'
        for members in FORMS.values()
        for key in members
        for other in members
        if key in envelope and other not in envelope
    ]
    if lacking:
        return f"the request has {lacking[0]}"
    if present:
        return f"the request has {quoted(present)} at once: send {named_forms(FORMS)}"
    return f"the request must be an object with {named_forms(FORMS)}"


def named_forms(forms: Iterable[str]) -> str:
    """Return forms by their members, for a message: `"text", or "query" and "passages"`."""
    return ", or ".join(quoted(FORMS[form]) for form in forms if form in FORMS)


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes."""
    return " and ".join(f'"{name}"' for name in names)


def _type(value: object) -> str:
    return type(value).__name__
