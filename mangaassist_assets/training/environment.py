"""What a training ran on, as far as it may decide the result: versions, threads, device, precision, seed.

Nothing here names a machine or a person, and no path of one: a run's page may be shown to anybody.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

Value = str | int | None

PACKAGE = "mangaassist-assets"
_PACKAGES = (PACKAGE, "mlflow", "numpy", "safetensors", "tokenizers", "torch", "transformers")
_LOCK = "requirements.lock"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_COMMIT_VARIABLE = "MANGAASSIST_GIT_COMMIT"
_TAGGED = ("python", "torch", "transformers", "tokenizers", "mlflow", PACKAGE, "device", "precision", "threads", "seed")
# MLflow's page shows the run's commit under this name.
_COMMIT_TAG = "mlflow.source.git.commit"


def training_environment(*, device: str, precision: str, seed: int, root: Path | None = None) -> dict[str, Value]:
    """Return what the training of this process runs on, by name.

    `device` and `precision` are torch's names; `root` is the checkout with lock file and commit, this package's by
    default.
    """
    folder = root or Path(__file__).resolve().parents[2]
    found: dict[str, Value] = {"python": platform.python_version(), "implementation": sys.implementation.name}
    found |= {name: _version(name) for name in _PACKAGES}
    found |= {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": _threads(),
        "device": device,
        "device_name": _device_name(device),
        "precision": precision,
        "seed": seed,
        "git_commit": git_commit(folder),
        "lock_sha256": _digest(folder / _LOCK),
    }
    return found


def environment_tags(environment: Mapping[str, Value]) -> dict[str, str]:
    """Return what one searches runs by, as tags: `environment.torch`, …, and the commit where MLflow looks for it."""
    tags = {f"environment.{name}": str(environment[name]) for name in _TAGGED if environment.get(name) is not None}
    if commit := environment.get("git_commit"):
        tags[_COMMIT_TAG] = str(commit)
    return tags


def git_commit(root: Path) -> str | None:
    """Return the commit that is checked out in a folder, or the one that `MANGAASSIST_GIT_COMMIT` names, or None.

    Read from git's files: where training runs there may be no git.
    """
    named = os.environ.get(_COMMIT_VARIABLE, "").strip().lower()
    if _COMMIT.fullmatch(named):
        return named
    git = root / ".git"
    if git.is_file():  # a worktree: the file says where its git folder is
        git = root / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
    head = _line(git / "HEAD")
    if head is None or not head.startswith("ref: "):
        return _commit(head)
    name = head.removeprefix("ref: ")
    common = git / (_line(git / "commondir") or ".")
    return _commit(_line(git / name)) or _commit(_line(common / name)) or _packed(common / "packed-refs", name)


def _packed(file: Path, name: str) -> str | None:
    if not file.is_file():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return _commit(commit)
    return None


def _line(file: Path) -> str | None:
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _commit(text: str | None) -> str | None:
    return text if text is not None and _COMMIT.fullmatch(text) else None


def _version(name: str) -> str | None:
    try:
        return package_version(name)
    except PackageNotFoundError:
        return None


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _device_name(device: str) -> str | None:
    """Return the accelerator's model, which decides the arithmetic; a processor's is left out."""
    if not device.startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(device)


def _digest(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
