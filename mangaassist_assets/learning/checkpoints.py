"""Checkpoints of a training: whole or not there, checked before they are used, without pickle.

A checkpoint is a folder `step-00000120` with `tensors.safetensors`, `state.json`, and `checkpoint.json`, which holds
the hashes of both and the fingerprint of the training it belongs to. It is written beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_MANIFEST = "checkpoint.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written; the message says where and why. Training can go on without it."""


class CheckpointUnusableError(RuntimeError):
    """A stored checkpoint is damaged, or belongs to another training; the message says which and why."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a checkpoint holds: tensors by name, and JSON values."""

    step: int
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one training.

    Attributes:
        folder: Where they lie; made when the first is written. Workers on several machines need a shared one.
        fingerprint: What decides the training's result: data, settings, start. Another's checkpoint is not used.
        keep: So many are kept, the newest; one more than needed, for the newest may turn out damaged.
    """

    folder: Path
    fingerprint: str
    keep: int = 2

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint and remove the oldest ones.

        Raises:
            CheckpointError: The disk is full, or the folder cannot be written.
        """
        target = self.folder / f"step-{step:08d}"
        beside = self.folder / f".{target.name}.{os.getpid()}"
        try:
            beside.mkdir(parents=True, exist_ok=True)
            self._write(beside, step, tensors, state)
            if target.is_dir():
                shutil.rmtree(target)
            beside.replace(target)
            for old in self._stored()[self.keep :]:
                shutil.rmtree(old)
        except (OSError, RuntimeError) as error:
            # safetensors reports a full disk as an error of its own, which is a RuntimeError or an OSError by version.
            shutil.rmtree(beside, ignore_errors=True)
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}"
            ) from error

    def latest(self) -> tuple[SavedState | None, tuple[str, ...]]:
        """Return the newest usable checkpoint, and why newer ones could not be used."""
        reasons: list[str] = []
        for folder in self._stored():
            try:
                return self._read(folder), tuple(reasons)
            except CheckpointUnusableError as error:
                reasons.append(str(error))
        return None, tuple(reasons)

    def clear(self) -> None:
        """Remove all of them: the training has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stored(self) -> list[Path]:
        """Return the folders of whole checkpoints, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def _write(self, folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
        (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")
        manifest = {
            "fingerprint": self.fingerprint,
            "step": step,
            "files": {name: _sha256(folder / name) for name in (_TENSORS, _STATE)},
        }
        (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    def _read(self, folder: Path) -> SavedState:
        from safetensors.torch import load_file

        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            fingerprint, step, files = manifest["fingerprint"], int(manifest["step"]), dict(manifest["files"])
            if fingerprint != self.fingerprint:
                raise CheckpointUnusableError(f"{folder.name} belongs to a training with other data or settings")
            for name in (_TENSORS, _STATE):
                if _sha256(folder / name) != files[name]:
                    raise CheckpointUnusableError(f"{folder.name} is damaged: {name} has another SHA-256 than it had")
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            return SavedState(step, load_file(folder / _TENSORS), state)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointUnusableError(f"{folder.name} is damaged: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
