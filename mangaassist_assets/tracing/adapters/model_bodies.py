"""Requests and responses of language models in the forms of their providers.

Converse and Nova, Anthropic (messages and completions), Titan, Llama, Mistral, Cohere, AI21, and the OpenAI form that
several share (Amazon Bedrock User Guide, "Inference request parameters and response fields for foundation models").
The fields decide the form, so a model id that is an inference profile or an ARN does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mangaassist_assets.tracing.contract.values import (
    content_text,
    first_count,
    first_number,
    first_of,
    first_text,
    mapping,
    message_text,
    text,
)

_LAST_INSTRUCTION = re.compile(r"\[INST\](?P<said>[^\[]*+(?:\[(?!/?INST\])[^\[]*+)*+)\[/INST\]")
_LAST_HEADER = re.compile(r"<\|start_header_id\|>user<\|end_header_id\|>(?P<said>[^<]*+(?:<(?!\|)[^<]*+)*+)")
_LONGEST_PROMPT = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked of a model."""

    message: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a model answered; `input_tokens` without those of the prompt cache."""

    answer: str | None = None
    stop_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


def read_request(body: Mapping[str, object]) -> Request:
    """Return the last user text, temperature and limit of a request."""
    settings = mapping(body.get("inferenceConfig")) or mapping(body.get("textGenerationConfig"))
    return Request(
        message=_message(body),
        temperature=first_number(body.get("temperature"), settings.get("temperature")),
        max_tokens=first_count(
            *(body.get(key) for key in ("max_tokens", "max_completion_tokens", "max_tokens_to_sample", "max_gen_len")),
            body.get("maxTokens"),
            *(settings.get(key) for key in ("maxTokens", "max_new_tokens", "maxTokenCount")),
        ),
    )


def read_response(body: Mapping[str, object]) -> Response:
    """Return answer, stop reason and tokens of a response."""
    result, choice, output, generation, completion = (
        mapping(first_of(body.get(key))) for key in ("results", "choices", "outputs", "generations", "completions")
    )
    usage, metrics = mapping(body.get("usage")), mapping(body.get("amazon-bedrock-invocationMetrics"))
    return Response(
        answer=first_text(
            content_text(mapping(mapping(body.get("output")).get("message")).get("content")),
            content_text(body.get("content")),
            content_text(mapping(choice.get("message")).get("content")),
            body.get("completion"),
            result.get("outputText"),
            body.get("outputText"),
            body.get("generation"),
            output.get("text"),
            generation.get("text"),
            body.get("text"),
            mapping(completion.get("data")).get("text"),
            choice.get("text"),
        ),
        stop_reason=first_text(
            body.get("stopReason"),
            body.get("stop_reason"),
            choice.get("finish_reason"),
            choice.get("stop_reason"),
            result.get("completionReason"),
            body.get("completionReason"),
            output.get("stop_reason"),
            generation.get("finish_reason"),
            body.get("finish_reason"),
            mapping(completion.get("finishReason")).get("reason"),
        ),
        input_tokens=first_count(
            *(usage.get(key) for key in ("inputTokens", "input_tokens", "prompt_tokens")),
            body.get("inputTextTokenCount"),
            body.get("prompt_token_count"),
            metrics.get("inputTokenCount"),
        ),
        output_tokens=first_count(
            *(usage.get(key) for key in ("outputTokens", "output_tokens", "completion_tokens")),
            result.get("tokenCount"),
            body.get("totalOutputTextTokenCount"),
            body.get("generation_token_count"),
            metrics.get("outputTokenCount"),
        ),
        cache_read_tokens=first_count(
            usage.get("cacheReadInputTokens"),
            usage.get("cache_read_input_tokens"),
            usage.get("cacheReadInputTokenCount"),
            metrics.get("cacheReadInputTokenCount"),
        ),
        cache_write_tokens=first_count(
            *(
                usage.get(f"cache{key}")
                for key in ("WriteInputTokens", "_creation_input_tokens", "WriteInputTokenCount")
            ),
            metrics.get("cacheWriteInputTokenCount"),
        ),
    )


def _message(body: Mapping[str, object]) -> str | None:
    found = first_text(message_text(body.get("messages"), "user"), body.get("inputText"), body.get("message"))
    return found if found is not None else _of_prompt(text(body.get("prompt")))


def _of_prompt(prompt: str | None) -> str | None:
    """Return the last user text of a prompt with the marks of Claude 2, Mistral or Llama; else the whole prompt."""
    if prompt is None or len(prompt) > _LONGEST_PROMPT:
        return None
    human = prompt.rfind("\n\nHuman:")
    if human >= 0:
        said = prompt[human + len("\n\nHuman:") :]
        return text(said.partition("\n\nAssistant:")[0].strip())
    for pattern in (_LAST_INSTRUCTION, _LAST_HEADER):
        parts = [match.group("said") for match in pattern.finditer(prompt)]
        if parts:
            return text(parts[-1].strip())
    return prompt
