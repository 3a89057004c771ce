"""Checkpoints of a training: whole or not there, checked before they are used, without pickle.

A checkpoint is a folder `step-00000120` with `tensors.safetensors`, `state.json`, and `checkpoint.json`, which holds
the hashes of both and the fingerprint of the training it belongs to. It is written beside its place and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
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
_NAME = re.compile(r"step-\d{8,}")
_LONGEST_MANIFEST = 65_536


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
        """Write a checkpoint; remove the oldest ones, and what a killed process left half-written.

        Raises:
            CheckpointError: The disk is full, or the folder cannot be written.
        """
        from safetensors import SafetensorError

        target = self.folder / f"step-{step:08d}"
        beside = self.folder / f".{target.name}.{os.getpid()}"
        try:
            for stale in self.folder.glob(".step-*"):
                shutil.rmtree(stale, ignore_errors=True)
            beside.mkdir(parents=True)
            self._write(beside, step, tensors, state)
            if target.is_dir():
                shutil.rmtree(target)
            beside.replace(target)
            for old in self._stored()[self.keep :]:
                shutil.rmtree(old, ignore_errors=True)
        except (OSError, RuntimeError, SafetensorError) as error:
            # A full disk is a SafetensorError, which is neither; RuntimeError is torch's.
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
        if not self.folder.is_dir():
            return []
        found = [one for one in self.folder.iterdir() if _NAME.fullmatch(one.name) and one.is_dir()]
        return sorted(found, key=lambda one: int(one.name.removeprefix("step-")), reverse=True)

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
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            size = (folder / _MANIFEST).stat().st_size
            if size > _LONGEST_MANIFEST:
                raise CheckpointUnusableError(f"{folder.name} is damaged: {_MANIFEST} has {size} bytes")
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            fingerprint, step, files = manifest["fingerprint"], manifest["step"], manifest["files"]
            if fingerprint != self.fingerprint:
                raise CheckpointUnusableError(f"{folder.name} belongs to a training with other data or settings")
            if step != int(folder.name.removeprefix("step-")):
                raise CheckpointUnusableError(f"{folder.name} is damaged: {_MANIFEST} says another step")
            for name in (_TENSORS, _STATE):
                if _sha256(folder / name) != files[name]:
                    raise CheckpointUnusableError(f"{folder.name} is damaged: {name} has another SHA-256 than it had")
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            if not isinstance(state, dict):
                raise CheckpointUnusableError(f"{folder.name} is damaged: {_STATE} holds no JSON object")
            return SavedState(step, load_file(folder / _TENSORS), state)
        except RecursionError as error:
            raise CheckpointUnusableError(f"{folder.name} is damaged: its JSON is nested too deeply") from error
        except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
            raise CheckpointUnusableError(f"{folder.name} is damaged: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what went wrong, without the folder's place on this machine."""
    if isinstance(error, OSError):
        return f"{Path(str(error.filename or '')).name}: {error.strerror}"
    return f"{type(error).__name__}: {error}"[:200]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
