"""Model artifacts: plain directories that say what is in them and can be checked against it.

An artifact holds safetensors, ONNX, JSON and a tokenizer, and beside them `artifact.json`:
`{"schema": 2, "kind": "intent_classifier", "files": {"model.safetensors": "<sha256>", …}, "settings": {…}}`. Its digest
is the SHA-256 of the canonical JSON of that, so equal content has an equal digest wherever it lies, and one number,
kept in the registry, in the release manifest and in the serving container's environment, is enough to prove what is
served.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole
from mangaassist_assets.models.onnx_network import require_plain_file

if TYPE_CHECKING:
    from mangaassist_assets.training.compute import Compute

MANIFEST_FILE = "artifact.json"
SCHEMA = 2
_FIRST_SCHEMA = 1
_MANIFEST_BYTES = 1_000_000
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ALLOWED_SUFFIXES = frozenset({".safetensors", ".onnx", ".json", ".txt", ".md"})


class ArtifactMismatchError(OperatorError, RuntimeError):
    """An artifact is not what it should be. The message names the directory and the file."""


class ArtifactWriteError(RuntimeError):
    """An artifact could not be written, and nothing of it was left; the message says where and why."""


def seal_artifact(directory: Path, kind: str, settings: Mapping[str, Any] | None = None) -> str:
    """Hash every file of a model directory, write `artifact.json`, and return the artifact's digest (hexadecimal).

    `settings` are JSON values of the model type's own: what its files do not say, such as a threshold.

    Raises:
        ArtifactMismatchError: The directory is empty, or holds a link, a hidden file or a file of a kind that an
            artifact may not have (pickled weights, code).
        OnnxModelError: A `.onnx` file is not a plain model, see `onnx_network`.
    """
    files = {name: _sha256(directory / name) for name in _relative_files(directory)}
    if not files:
        raise ArtifactMismatchError(f"{directory} holds no files: nothing to seal")
    for name in files:
        if PurePosixPath(name).suffix not in _ALLOWED_SUFFIXES:
            raise ArtifactMismatchError(
                f"{directory}: {name} may not be part of an artifact, allowed are {sorted(_ALLOWED_SUFFIXES)}"
            )
        if name.endswith(".onnx"):
            require_plain_file(directory / name)
    manifest = {"schema": SCHEMA, "kind": kind, "files": files, "settings": dict(settings or {})}
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_whole(directory / MANIFEST_FILE, (text + "\n").encode())
    return artifact_digest(manifest)


def verify_artifact(directory: Path, expected_digest: str | None = None, *, only: Collection[str] | None = None) -> str:
    """Check the files of an artifact against its manifest and return the digest.

    Args:
        directory: The artifact.
        expected_digest: What the registry says it should be; None checks the artifact against itself only.
        only: Names of the files that are going to be read, so that a process that starts hashes no others; the names
            of all files are checked all the same. None hashes every file.

    Raises:
        ArtifactMismatchError: A file is missing, extra or changed, a name leaves the directory, the manifest is
            missing or malformed, one of `only` is none of its files, or the digest is not the expected one.
    """
    files = _manifest_files(directory)
    if unknown := sorted(set(only or ()) - files.keys()):
        raise ArtifactMismatchError(f"{directory} has no file {unknown[0]}, which is needed: train the model again")
    present = set(_relative_files(directory))
    if missing := sorted(files.keys() - present):
        raise ArtifactMismatchError(f"{directory}: {missing[0]} is listed in {MANIFEST_FILE} but missing")
    if extra := sorted(present - files.keys()):
        raise ArtifactMismatchError(f"{directory}: {extra[0]} is not listed in {MANIFEST_FILE}")
    for name, expected in sorted(files.items()):
        if only is not None and name not in only:
            continue
        found = _sha256(directory / name)
        if found != expected:
            raise ArtifactMismatchError(f"{directory}: {name} has SHA-256 {found}, {MANIFEST_FILE} says {expected}")
    digest = artifact_digest(_read_manifest(directory))
    if expected_digest is not None and digest != expected_digest.strip().lower():
        raise ArtifactMismatchError(
            f"{directory}: the artifact's digest by {MANIFEST_FILE} is {digest}, expected {expected_digest}: "
            "it is a whole artifact, but not the one that was registered"
        )
    return digest


def verify_kind(
    directory: Path, kind: str, expected_digest: str | None = None, *, only: Collection[str] | None = None
) -> str:
    """Check an artifact, or `only` some files of it, and that it is of a kind; return the digest.

    Raises:
        ArtifactMismatchError: It is damaged, not the expected one, or of another kind.
    """
    digest = verify_artifact(directory, expected_digest, only=only)
    if (found := artifact_kind(directory)) != kind:
        raise ArtifactMismatchError(f"{directory} is of kind {found}, not {kind}")
    return digest


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedArtifact:
    """What was read of an artifact: digest, settings, and some files, the very bytes that were hashed."""

    digest: str
    settings: Mapping[str, Any]
    files: Mapping[str, bytes]


def read_verified(
    directory: Path,
    kind: str,
    expected_digest: str | None,
    names: Callable[[Mapping[str, Any]], Collection[str]],
) -> VerifiedArtifact:
    """Read what a process serves of an artifact, each file once: whoever replaces one meanwhile changes nothing of it.

    Args:
        directory: The artifact.
        kind: What it has to be.
        expected_digest: What the registry says it should be; None checks the artifact against itself only.
        names: Returns which files to read, by the artifact's settings.

    Raises:
        ArtifactMismatchError: It is damaged, not the expected one, or of another kind.
    """
    manifest = _read_manifest(directory)
    digest = artifact_digest(manifest)
    if verify_artifact(directory, expected_digest, only=()) != digest:
        raise ArtifactMismatchError(f"{directory / MANIFEST_FILE} was replaced while it was read: load it again")
    if (found := _kind_of(manifest, directory)) != kind:
        raise ArtifactMismatchError(f"{directory} is of kind {found}, not {kind}")
    settings = _settings_of(manifest, directory)
    contents: dict[str, bytes] = {}
    for name in names(settings):
        expected = manifest["files"].get(name)
        if expected is None:
            raise ArtifactMismatchError(f"{directory} has no file {name}, which is needed: train the model again")
        content = (directory / name).read_bytes()
        if (sha256 := hashlib.sha256(content).hexdigest()) != expected:
            raise ArtifactMismatchError(f"{directory}: {name} has SHA-256 {sha256}, {MANIFEST_FILE} says {expected}")
        contents[name] = content
    return VerifiedArtifact(digest=digest, settings=settings, files=contents)


def artifact_size(directory: Path) -> int:
    """Return the size of all files together, in bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def artifact_kind(directory: Path) -> str:
    """Return the kind that an artifact's manifest names, without checking the files.

    Raises:
        ArtifactMismatchError: The manifest is missing, malformed, or names nothing that could be a kind.
    """
    return _kind_of(_read_manifest(directory), directory)


def _kind_of(manifest: Mapping[str, Any], directory: Path) -> str:
    kind = manifest.get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ArtifactMismatchError(f"{directory / MANIFEST_FILE}: kind {str(kind)[:80]!r} names no kind of model")
    return kind


def artifact_settings(directory: Path) -> dict[str, Any]:
    """Return the settings in an artifact's manifest, which `verify_artifact` has checked with its digest.

    Raises:
        ArtifactMismatchError: The manifest is missing or malformed.
    """
    return _settings_of(_read_manifest(directory), directory)


def _settings_of(manifest: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    settings = manifest.get("settings")
    if not isinstance(settings, dict):
        raise ArtifactMismatchError(f"{directory / MANIFEST_FILE}: `settings` must be an object")
    return settings


def artifact_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a manifest: of the kind, the settings, and every file's hash."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


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
        FileExistsError: `output` holds files.
        ArtifactWriteError: The disk is full, or the folder cannot be written.
    """
    from safetensors import SafetensorError

    prepare_output(output)
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

    message = torch.zeros(32, dtype=torch.uint8, device=compute.device)
    try:
        if compute.leads:
            message = torch.tensor(list(bytes.fromhex(write())), dtype=torch.uint8, device=compute.device)
    finally:
        compute.follow_lead([message])
    if not bool(message.any()):
        raise ArtifactWriteError("worker 0 could not write the artifact: its own error says why")
    return bytes(message.cpu().tolist()).hex()


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise ArtifactMismatchError(f"{path} is missing: {directory} is not a model artifact")
    if path.stat().st_size > _MANIFEST_BYTES:
        raise ArtifactMismatchError(f"{path} is larger than {_MANIFEST_BYTES} bytes: not a manifest")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactMismatchError(f"{path} is not valid JSON: {error}") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema == _FIRST_SCHEMA:
        raise ArtifactMismatchError(
            f"{path} has schema {_FIRST_SCHEMA}, of models that had no ONNX file: train the model again, on the same "
            "dataset, and deploy what comes of it"
        )
    if schema != SCHEMA:
        raise ArtifactMismatchError(f"{path}: expected an object with schema {SCHEMA}")
    return manifest  # type: ignore[no-any-return]


def _manifest_files(directory: Path) -> dict[str, str]:
    path = directory / MANIFEST_FILE
    files = _read_manifest(directory).get("files")
    if not isinstance(files, dict) or not files:
        raise ArtifactMismatchError(f"{path}: `files` must be an object with at least one file")
    for name, digest in files.items():
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or name.startswith("/") or "\\" in name or "\0" in name:
            raise ArtifactMismatchError(f"{path}: the file name {name!r} leaves the artifact")
        if not isinstance(digest, str):
            raise ArtifactMismatchError(f"{path}: the digest of {name!r} is not a string")
    return files


def _relative_files(directory: Path) -> list[str]:
    if not directory.is_dir():
        raise ArtifactMismatchError(f"{directory} is not a directory")
    names = []
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ArtifactMismatchError(f"{directory}: {name} is a link or a special file, not a plain one")
        if path.is_file() and name != MANIFEST_FILE:
            names.append(name)
    return names


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
