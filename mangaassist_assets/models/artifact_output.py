"""The folder of a new artifact: empty before, whole afterwards, and nothing in between."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mangaassist_assets.training.compute import Compute

_DIGEST_BYTES = 32


class ArtifactWriteError(RuntimeError):
    """An artifact could not be written, and nothing of it was left; the message says where and why."""


def prepare_output(output: Path) -> None:
    """Create the directory of a new artifact.

    Raises:
        FileExistsError: It already holds files: an artifact is immutable.
    """
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise FileExistsError(f"{output} already holds files: artifacts are immutable, choose a new directory")


@contextmanager
def whole_or_nothing(output: Path) -> Iterator[Path]:
    """Give a folder beside an empty one to write to, and put it in its place when all is written.

    What a killed process left there before is removed.

    Raises:
        ArtifactWriteError: The disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        for stale in output.parent.glob(f".{glob.escape(output.name)}.*"):
            if stale.suffix[1:].isdigit():
                shutil.rmtree(stale, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        beside.replace(output)
    except (OSError, SafetensorError) as error:
        # safetensors reports a full disk as an error of its own, which is no OSError.
        raise ArtifactWriteError(
            f"the artifact could not be written to {output}: {error}; free some space and train again"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def written_by_leader(compute: Compute, write: Callable[[], str]) -> str:
    """Let worker 0 write an artifact, and return its digest to all workers when it is there.

    Raises:
        ArtifactWriteError: Worker 0 could not write it; the other workers raise it too, instead of waiting for ever.
    """
    if compute.workers == 1:
        return write()
    import torch

    message = torch.zeros(_DIGEST_BYTES, dtype=torch.uint8, device=compute.device)
    try:
        if compute.leads:
            message = torch.tensor(list(bytes.fromhex(write())), dtype=torch.uint8, device=compute.device)
    finally:
        compute.follow_lead([message])
    if not bool(message.any()):
        raise ArtifactWriteError("worker 0 could not write the artifact: its own error says why")
    return bytes(message.cpu().tolist()).hex()
