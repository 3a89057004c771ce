"""What an endpoint takes and answers, as JSON Schema (draft 2020-12) in two files that anybody can read.

`request.schema.json` has one alternative a form of request, each with `examples`: they show how to ask, and a version
is asked them before it is deployed. `response.schema.json` describes the answer; where it defines `one` and `many`, the
first is the answer to a single thing, the second to a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mangaassist_assets.models.pipelines import ModelPipeline
from mangaassist_assets.serving.request_forms import FORMS

REQUEST_FILE = "request.schema.json"
RESPONSE_FILE = "response.schema.json"
PACKAGED = Path(__file__).with_name("schemas")
GENERAL = "any"
"""The packaged schemas of models that bring none: texts in, predictions out."""

_MAXIMUM_BYTES = 1_000_000
_MESSAGE_CHARACTERS = 200
_DEFINITIONS = "#/$defs/"


class EndpointSchemaError(ValueError):
    """A schema file that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSchemas:
    """Both schemas of an endpoint, and the bytes of their files by name."""

    request: Mapping[str, Any]
    response: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def forms(self) -> tuple[str, ...]:
        """Names of the forms of request."""
        return tuple(one["$ref"].removeprefix(_DEFINITIONS) for one in self.request["oneOf"])

    def examples(self, form: str) -> Sequence[Mapping[str, Any]]:
        """Return the example requests of a form."""
        examples: Sequence[Mapping[str, Any]] = self.request["$defs"][form]["examples"]
        return examples

    def asked(self, form: str, request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Return what a request asks about: the value of its form's last member, one thing or a list."""
        return request[self.request["$defs"][form]["required"][-1]]

    def problems(self, form: str, request: Mapping[str, Any], answer: object) -> list[str]:
        """Return what is wrong with an answer to a request: nothing, or where and what, a sentence each.

        Besides the schema, each list that it requires has to be as long as what was asked.
        """
        asked = self.asked(form, request)
        schema = self._response_to(asked)
        found = [
            f"{error.json_path}: {error.message[:_MESSAGE_CHARACTERS]}"
            for error in sorted(_validator(schema).iter_errors(answer), key=lambda error: error.json_path)
        ]
        if found or not isinstance(answer, Mapping):
            return found
        count = len(asked) if isinstance(asked, list) else 1
        required = self._definition_of(schema).get("required", ())
        return [
            f"$.{name}: {len(answer[name])} items in answer to {count}"
            for name in required
            if isinstance(answer[name], list) and len(answer[name]) != count
        ]

    def _response_to(self, asked: object) -> Mapping[str, Any]:
        definitions = self.response.get("$defs", {})
        name = "many" if isinstance(asked, list) else "one"
        return {"$ref": f"{_DEFINITIONS}{name}", "$defs": definitions} if name in definitions else self.response

    def _definition_of(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = str(schema.get("$ref", ""))
        definition: Mapping[str, Any] = (
            self.response["$defs"][reference.removeprefix(_DEFINITIONS)] if reference else schema
        )
        return definition


def packaged_schemas(kind: str) -> EndpointSchemas:
    """Return the platform's schemas of a kind of model, the general ones where it has none of that kind."""
    folder = PACKAGED / kind
    return read_schemas(folder if folder.is_dir() else PACKAGED / GENERAL)


def pipeline_schemas(pipeline: ModelPipeline) -> EndpointSchemas:
    """Return what a model pipeline's endpoint takes and answers: by its own schemas, or those of its kind.

    Raises:
        EndpointSchemaError: The model pipeline's own schemas cannot be used.
    """
    return packaged_schemas(pipeline.kind) if pipeline.schemas is None else read_schemas(pipeline.schemas)


def read_schemas(folder: Path) -> EndpointSchemas:
    """Return the schemas in a folder.

    Raises:
        EndpointSchemaError: A file is missing, no JSON Schema, or has not the form described above.
    """
    files = {name: _read(folder / name) for name in (REQUEST_FILE, RESPONSE_FILE)}
    request, response = (_parsed(content, folder / name) for name, content in files.items())
    schemas = EndpointSchemas(request=request, response=response, files=files)
    _check_forms(request, folder / REQUEST_FILE)
    return schemas


def _check_forms(request: Mapping[str, Any], path: Path) -> None:
    definitions, forms = request.get("$defs", {}), request.get("oneOf")
    if not isinstance(forms, list) or not forms:
        raise EndpointSchemaError(f"{path}: `oneOf` must list the forms of request")
    for one in forms:
        name = str(one.get("$ref", "") if isinstance(one, dict) else "").removeprefix(_DEFINITIONS)
        if name not in FORMS or name not in definitions:
            raise EndpointSchemaError(
                f"{path}: each of `oneOf` must refer to a definition named {', '.join(FORMS)}, not {str(one)[:80]}"
            )
        form = definitions[name] if isinstance(definitions[name], dict) else {}
        if form.get("required") != list(FORMS[name]):
            raise EndpointSchemaError(f"{path}: {name} must require {list(FORMS[name])}, as that form does")
        if not form.get("examples"):
            raise EndpointSchemaError(f"{path}: {name} has no examples: there would be nothing to ask a version with")
        for example in form["examples"]:
            error = next(_validator({**request, "oneOf": [one]}).iter_errors(example), None)
            if error is not None:
                raise EndpointSchemaError(
                    f"{path}: an example of {name} breaks it at {error.json_path}: "
                    f"{error.message[:_MESSAGE_CHARACTERS]}"
                )


def _validator(schema: Mapping[str, Any]) -> Any:  # noqa: ANN401 - jsonschema's validators have no public type
    from jsonschema import Draft202012Validator
    from jsonschema_specifications import REGISTRY

    # With a registry of its own a reference to another host is an error, and never a request.
    return Draft202012Validator(schema, registry=REGISTRY)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EndpointSchemaError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAXIMUM_BYTES:
        raise EndpointSchemaError(f"{path} is larger than {_MAXIMUM_BYTES} bytes")
    return content


def _parsed(content: bytes, path: Path) -> Mapping[str, Any]:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        schema = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EndpointSchemaError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(schema, dict):
        raise EndpointSchemaError(f"{path} must hold an object")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise EndpointSchemaError(
            f"{path} is no JSON Schema: {error.json_path}: {error.message[:_MESSAGE_CHARACTERS]}"
        ) from error
    return schema
