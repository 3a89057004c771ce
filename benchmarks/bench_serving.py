"""An endpoint's process against `transformers.pipeline` in the same process form: both are `serving.server`.

One JSON line, for each base model. A classifier is trained on 20 messages an intent of hwu64 and served twice: by the
platform's entry point, and by `pipeline_entry_point`, which is what the folder's users would write.

- `first_answer_seconds`: median from the start of a process to its first answer, the two in turn, and
  `first_answer_cpu_seconds`, which other work on the machine does not lengthen.
- `p50_ms`, `p99_ms`: of one message a request over one connection, each message of `test` to both in turn.
- `resident_mb`, `peak_mb`: of the process when it has answered all.
- `same_label`, `same_decision`: share of the messages of `test` that both answer with the same intent, and that the
  platform decides as the torch model does, its refusals included; `largest_difference` of the best label's score.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
HWU64 = ROOT.parent / "shared" / "data" / "hwu64"
sys.path.insert(0, str(ROOT))

from mangaassist_assets.models.artifacts import artifact_settings, artifact_size  # noqa: E402 - the path comes first
from mangaassist_assets.models.examples import OUT_OF_SCOPE, IntentExample  # noqa: E402
from mangaassist_assets.models.intent.fine_tuning import IntentTrainingConfig  # noqa: E402
from mangaassist_assets.models.intent.training import train_intent_classifier  # noqa: E402
from mangaassist_assets.models.model_types import TrainingRequest  # noqa: E402

BASES = ("packaged-minilm", "packaged-multilingual-e5")
OURS = "mangaassist_assets.serving.inference"
PIPELINE = "benchmarks.pipeline_entry_point"
PATIENCE = 300.0
WARM_UP = 20


class ServingProcess:
    """A server on a model's folder, from its start to its end; `root` is the checkout whose code serves."""

    def __init__(self, model: Path, entry_point: str, *, threads: int, root: Path = ROOT) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(threads)}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-m", "mangaassist_assets.serving.server", "--model-dir", str(model)]
            command += ["--fd", str(listener.fileno()), "--entry-point", entry_point]
            self._started = time.perf_counter()
            self._process = subprocess.Popen(
                command, env=environment, cwd=root, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
            )
            port = listener.getsockname()[1]
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()

    def ask(self, text: str) -> dict[str, Any]:
        """Return the answer to one message."""
        self._connection.request(
            "POST", "/invocations", json.dumps({"inputs": text}), {"Content-Type": "application/json"}
        )
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {body[:500]!r}")
        return dict(json.loads(body))

    def hang_up(self) -> None:
        """End the connection, which the server does too if it is quiet for long; the next message opens another."""
        self._connection.close()

    def timed(self, text: str) -> tuple[float, dict[str, Any]]:
        """Return how long one answer took, in milliseconds, and the answer."""
        began = time.perf_counter()
        answer = self.ask(text)
        return 1000 * (time.perf_counter() - began), answer

    def since_start(self) -> tuple[float, float]:
        """Return seconds since the process was started, and the seconds of a processor that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return time.perf_counter() - self._started, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> dict[str, float]:
        """Return what it holds of memory, and the most it held, in MB."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        found = {
            name: int(rest.split()[0]) * 1024 for name, _, rest in (one.partition(":") for one in lines) if "kB" in rest
        }
        return {"resident_mb": round(found["VmRSS"] / 1e6, 1), "peak_mb": round(found["VmHWM"] / 1e6, 1)}


def first_answers(contestants: Mapping[str, tuple[Path, str, Path]], *, starts: int, threads: int) -> dict[str, Any]:
    """Start each several times, in turn, and return medians until the first answer."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(starts):
        for name, (model, entry_point, root) in contestants.items():
            with ServingProcess(model, entry_point, threads=threads, root=root) as server:
                server.ask("where is my order")
                seconds[name].append(server.since_start())
    return {
        name: {
            "first_answer_seconds": round(median(wall for wall, _ in found), 2),
            "first_answer_cpu_seconds": round(median(cpu for _, cpu in found), 2),
        }
        for name, found in seconds.items()
    }


def requests(
    contestants: Mapping[str, tuple[Path, str, Path]], texts: Sequence[str], *, threads: int
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Ask each message of all in turn, and return latencies and memory, and the answers."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(ServingProcess(model, entry_point, threads=threads, root=root))
            for name, (model, entry_point, root) in contestants.items()
        }
        for server in servers.values():
            for text in texts[:WARM_UP]:
                server.ask(text)
            server.hang_up()
        for number, text in enumerate(texts):
            # Who is first changes: what the other leaves in the processor's caches is shared fairly.
            for name in sorted(servers, reverse=bool(number % 2)):
                took, answer = servers[name].timed(text)
                times[name].append(took)
                answers[name].append(answer)
        figures = {
            name: {
                "p50_ms": round(float(np.percentile(times[name], 50)), 2),
                "p99_ms": round(float(np.percentile(times[name], 99)), 2),
                **server.memory(),
            }
            for name, server in servers.items()
        }
    return figures, answers


def torch_decisions(model: Path, texts: Sequence[str]) -> list[str]:
    """Return what the torch model of an artifact's folder decides: an intent, or that it is none."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()
    threshold = artifact_settings(model)["scope"]["threshold"]
    decisions = []
    with torch.inference_mode():
        for text in texts:
            logits = network(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0]
            refused = threshold is not None and float(logits.max()) < threshold
            decisions.append(OUT_OF_SCOPE if refused else network.config.id2label[int(logits.argmax())])
    return decisions


def compare(base: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train on a base, serve it both ways and return the figures."""
    model = folder / Path(base).name
    if not model.is_dir():
        train(base, model)
    texts = [one.text for one in hwu64("test")][: 100 if options.quick else None]
    contestants = {"ours": (model, OURS, ROOT), "pipeline": (model, PIPELINE, ROOT)}
    first = first_answers(contestants, starts=1 if options.quick else options.starts, threads=options.threads)
    figures, answers = requests(contestants, texts, threads=options.threads)
    best = {name: [one["predictions"][0][0] for one in found] for name, found in answers.items()}
    decided = [one["decisions"][0]["intent"] for one in answers["ours"]]
    differences = [
        abs(ours["score"] - theirs["score"])
        for ours, theirs in zip(best["ours"], best["pipeline"], strict=True)
        if ours["label"] == theirs["label"]
    ]
    served = artifact_settings(model)["onnx"]
    return {
        "precision": served["precision"],
        "onnx_mb": round(served["bytes"] / 1e6, 1),
        "artifact_mb": round(artifact_size(model) / 1e6, 1),
        **{name: first[name] | figures[name] for name in contestants},
        "p50_ratio": round(figures["ours"]["p50_ms"] / figures["pipeline"]["p50_ms"], 3),
        "messages": len(texts),
        "same_label": _share([one["label"] for one in best["ours"]], [one["label"] for one in best["pipeline"]]),
        "same_decision": _share(decided, torch_decisions(model, texts)),
        "largest_difference": round(max(differences), 4),
    }


def train(base: str, output: Path) -> None:
    """Fit a head on 20 messages an intent, with 8 to choose by: how good it is does not matter here."""
    train_intent_classifier(
        TrainingRequest(train=_few(hwu64("train"), 20), validation=_few(hwu64("valid"), 8), output=output),
        config=IntentTrainingConfig(fine_tune=False),
        base=base,
    )


def hwu64(part: str) -> list[IntentExample]:
    """Return one side of hwu64."""
    texts = (HWU64 / f"{part}.seq.in").read_text(encoding="utf-8").splitlines()
    intents = (HWU64 / f"{part}.label").read_text(encoding="utf-8").splitlines()
    return [
        IntentExample(example_id=f"{part}-{number}", text=text, intent=intent)
        for number, (text, intent) in enumerate(zip(texts, intents, strict=True))
    ]


def _few(examples: Sequence[IntentExample], count: int) -> list[IntentExample]:
    taken = Counter[str]()
    found = []
    for one in examples:
        taken[one.intent] += 1
        if taken[one.intent] <= count:
            found.append(one)
    return found


def _share(ours: Sequence[str], theirs: Sequence[str]) -> float:
    return round(float(np.mean([one == other for one, other in zip(ours, theirs, strict=True)])), 4)


def main() -> None:
    """Compare for each base."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="One start, 100 messages.")
    parser.add_argument("--starts", type=int, default=5, help="Of each process, for the first answer.")
    parser.add_argument("--threads", type=int, default=1, help="Of each process.")
    parser.add_argument("--bases", nargs="+", default=list(BASES), help="Names or folders.")
    parser.add_argument("--artifacts", type=Path, help="Where trained classifiers are left, and found again.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(
            json.dumps(
                {"benchmark": "serving", "cpus": os.cpu_count(), "load": os.getloadavg()[0], "quick": options.quick}
                | {"threads": options.threads}
                | {base: compare(base, options.artifacts or Path(folder), options) for base in options.bases}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
