"""One question to a language model whose answer is bound to a tool's schema, and how several are asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What the model has to call: its name, what it is for, and the JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPrompt:
    """One question: `system` holds the orders and nothing from outside, `user` holds data."""

    system: str
    user: str
    tool: Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """The tool's arguments as the model gave them, not yet checked, or why there are none.

    `refused` holds nothing of question or answer. `failed` says that the call itself failed, not the answer.
    """

    arguments: object = None
    refused: str | None = None
    failed: bool = False


class ToolModel(Protocol):
    """A language model that can be made to call a tool."""

    @property
    def model_id(self) -> str:
        """The model, for provenance."""

    def ask(self, prompt: ToolPrompt) -> ToolAnswer:
        """Return the model's answer; a failed call is an answer too, nothing is raised."""


def as_data(value: object) -> str:
    """Return a value as JSON between <data> tags; nothing in it can close them or begin another."""
    return f"<data>\n{json.dumps(value, ensure_ascii=False, sort_keys=True).translate(_ESCAPES)}\n</data>"


def ask_all(
    model: ToolModel, prompts: Sequence[ToolPrompt], *, concurrency: int = 1, give_up_after: int = 3
) -> list[ToolAnswer]:
    """Return one answer for each prompt, in order.

    After `give_up_after` failed calls in a row the rest is not asked: each has been retried by then, and a model that
    is down must not hold up what can be done without it.

    Raises:
        ValueError: `concurrency` or `give_up_after` is below one.
    """
    if concurrency < 1 or give_up_after < 1:
        raise ValueError(f"concurrency={concurrency} and give_up_after={give_up_after} must be at least one")
    lock = threading.Lock()
    failures: list[str] = []

    def ask(prompt: ToolPrompt) -> ToolAnswer:
        with lock:
            if len(failures) >= give_up_after:
                return ToolAnswer(
                    refused=f"not asked, {len(failures)} calls in a row failed: {failures[-1]}", failed=True
                )
        answer = model.ask(prompt)
        with lock:
            if answer.failed:
                failures.append(answer.refused or "no reason given")
            elif len(failures) < give_up_after:
                failures.clear()
        return answer

    if concurrency == 1 or len(prompts) < 2:
        return [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(min(concurrency, len(prompts))) as pool:
        return list(pool.map(ask, prompts))
