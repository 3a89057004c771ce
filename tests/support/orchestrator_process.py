"""The orchestrator of docs/integrate.md in a process of its own, which knows no more than the document says.

Beside the stand-ins it asks a Bedrock of this module: Titan answers with the platform's own sentence encoder, the
model with the first passage that it is given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from mangaassist_assets.chatbot.configuration.profiles import APPLICATION, ENVIRONMENT
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from mangaassist_assets.retrieval.chunking import embedding_text
from mangaassist_assets.retrieval.types import Chunk, Embedder
from tests.support.bedrock_wire import Answer

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "orchestrator.py"
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
STREAM = "mangaassist-feedback"
MODEL_FAILS_ON = "make the model fail"
_OF_THE_SYSTEM = ("PATH", "HOME", "TMPDIR", "LANG", "NO_PROXY", "no_proxy", "OMP_NUM_THREADS")


def bedrock(embedder: Embedder) -> Callable[[str, dict[str, Any]], Answer]:
    """Return what answers for Bedrock: embeddings, and answers out of the prompt; one message makes the model fail."""

    def respond(path: str, body: dict[str, Any]) -> Answer:
        if path.endswith("/invoke"):
            vector = embedder.embed([body["inputText"]])[0].tolist()
            return Answer(body={"embedding": vector, "inputTextTokenCount": len(body["inputText"].split())})
        (content,) = body["messages"][0]["content"]
        if MODEL_FAILS_ON in content["text"]:
            return Answer(status=424, error_type="ModelErrorException", body={"message": "the model did not answer"})
        passage = content["text"].removeprefix("Passages:\n").partition("\n\n")[0]
        return Answer(
            body={
                "output": {"message": {"role": "assistant", "content": [{"text": passage}]}},
                "stopReason": "end_turn",
                "usage": {
                    "inputTokens": len(content["text"].split()),
                    "outputTokens": len(passage.split()),
                    "totalTokens": len(content["text"].split()) + len(passage.split()),
                },
                "metrics": {"latencyMs": 1},
            }
        )

    return respond


def write_passages(folder: Path, generation: str, chunks: Sequence[Chunk], embedder: Embedder) -> Path:
    """Write what the chatbot searches: the platform's chunks under their ids, in a file named as the generation."""
    vectors = embedder.embed([embedding_text(chunk.title, chunk.text) for chunk in chunks])
    lines = [
        {
            "chunk_id": chunk.chunk_id,
            "title": chunk.title,
            "text": chunk.text,
            "tenant": chunk.tenant,
            "vector": vector.tolist(),
        }
        for chunk, vector in zip(chunks, vectors, strict=True)
    ]
    path = folder / f"{generation}.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


class Orchestrator:
    """The running process. `ask` and the thumbs wait for its answer."""

    def __init__(
        self,
        *,
        clients: Mapping[str, str],
        bedrock_url: str,
        bundle: str,
        passages: Path,
        log: Path,
        python: str = sys.executable,
        **more: str,
    ) -> None:
        """Start it. `clients` is the environment of the stand-ins, of which it gets addresses and keys alone."""
        addresses = {name: value for name, value in clients.items() if name.startswith("AWS_")}
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [python, str(SCRIPT)],
            cwd=log.parent,
            env={
                **{name: os.environ[name] for name in _OF_THE_SYSTEM if name in os.environ},
                **addresses,
                "NO_PROXY": clients["NO_PROXY"],
                "no_proxy": clients["no_proxy"],
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock_url,
                "MLFLOW_TRACKING_URI": clients["MLFLOW_TRACKING_URI"],
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "INTENT_ENDPOINT": INTENT.endpoint_name,
                "RERANKER_ENDPOINT": RERANKER.endpoint_name,
                "APPCONFIG_APPLICATION": APPLICATION,
                "APPCONFIG_ENVIRONMENT": ENVIRONMENT,
                "FEEDBACK_STREAM": STREAM,
                "RELEASE_BUNDLE": bundle,
                "PASSAGES": str(passages),
                **more,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        self._process.wait()
        self._log.close()

    def ask(self, message: str, session_id: str, **more: str) -> dict[str, str]:
        """Return answer, response id and trace id."""
        return self._say({"message": message, "session_id": session_id, **more})

    def publish_thumb(self, reply: Mapping[str, str], thumb: str) -> None:
        """Press a thumb that goes to the stream."""
        self._say({"trace_id": reply["trace_id"], "response_id": reply["response_id"], "thumb": thumb})

    def tag_thumb(self, reply: Mapping[str, str], thumb: str) -> None:
        """Press a thumb that is put on the trace alone."""
        self._say({"trace_id": reply["trace_id"], "thumb": thumb})

    def refused(self, line: str) -> str:
        """Send a line that it cannot use; returns the error that it names."""
        return str(self._answer(line)["error"])

    def finish(self) -> None:
        """End its input and wait until all of its traces are stored."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=120) == 0, self._said()

    def _say(self, line: Mapping[str, str]) -> dict[str, str]:
        said = self._answer(json.dumps(line))
        assert "error" not in said, said
        return said

    def _answer(self, line: str) -> dict[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(self._said()) from None
        answer = self._process.stdout.readline()
        assert answer, self._said()
        said: dict[str, str] = json.loads(answer)
        return said

    def _said(self) -> str:
        self._process.wait(timeout=30)
        return f"the orchestrator ended:\n{Path(self._log.name).read_text(errors='replace')[-4_000:]}"
