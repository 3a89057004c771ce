"""Model artifacts: plain directories that say what is in them and can be checked against it.

An artifact holds safetensors, JSON and a tokenizer, and beside them `artifact.json`:
`{"schema": 1, "kind": "intent_classifier", "files": {"model.safetensors": "<sha256>", …}}`. Its digest is the SHA-256
of the canonical JSON of `files`, so equal content has an equal digest wherever it lies, and one number, kept in the
registry, in the release manifest and in the serving container's environment, is enough to prove what is served.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import write_whole

MANIFEST_FILE = "artifact.json"
SCHEMA = 1
_MANIFEST_BYTES = 1_000_000
_READ_BYTES = 1 << 20
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".md"})


class ArtifactMismatchError(OperatorError, RuntimeError):
    """An artifact is not what it should be. The message names the directory and the file."""


def seal_artifact(directory: Path, kind: str) -> str:
    """Hash every file of a model directory, write `artifact.json`, and return the artifact's digest (hexadecimal).

    Raises:
        ArtifactMismatchError: The directory is empty, or holds a link, a hidden file or a file of a kind that an
            artifact may not have (pickled weights, code).
    """
    files = {name: _sha256(directory / name) for name in _relative_files(directory)}
    if not files:
        raise ArtifactMismatchError(f"{directory} holds no files: nothing to seal")
    for name in files:
        if PurePosixPath(name).suffix not in _ALLOWED_SUFFIXES:
            raise ArtifactMismatchError(
                f"{directory}: {name} may not be part of an artifact, allowed are {sorted(_ALLOWED_SUFFIXES)}"
            )
    manifest = {"schema": SCHEMA, "kind": kind, "files": files}
    write_whole(directory / MANIFEST_FILE, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    return artifact_digest(files)


def verify_artifact(directory: Path, expected_digest: str | None = None) -> str:
    """Check every file of an artifact against its manifest and return the digest.

    Args:
        directory: The artifact.
        expected_digest: What the registry says it should be; None checks the artifact against itself only.

    Raises:
        ArtifactMismatchError: A file is missing, extra or changed, a name leaves the directory, the manifest is
            missing or malformed, or the digest is not the expected one.
    """
    files = _manifest_files(directory)
    present = set(_relative_files(directory))
    if missing := sorted(files.keys() - present):
        raise ArtifactMismatchError(f"{directory}: {missing[0]} is listed in {MANIFEST_FILE} but missing")
    if extra := sorted(present - files.keys()):
        raise ArtifactMismatchError(f"{directory}: {extra[0]} is not listed in {MANIFEST_FILE}")
    for name, expected in sorted(files.items()):
        found = _sha256(directory / name)
        if found != expected:
            raise ArtifactMismatchError(f"{directory}: {name} has SHA-256 {found}, {MANIFEST_FILE} says {expected}")
    digest = artifact_digest(files)
    if expected_digest is not None and digest != expected_digest.strip().lower():
        raise ArtifactMismatchError(
            f"{directory}: the artifact's digest by {MANIFEST_FILE} is {digest}, expected {expected_digest}: "
            "it is a whole artifact, but not the one that was registered"
        )
    return digest


def artifact_kind(directory: Path) -> str:
    """Return the kind that an artifact's manifest names, without checking the files.

    Raises:
        ArtifactMismatchError: The manifest is missing, malformed, or names nothing that could be a kind.
    """
    kind = _read_manifest(directory).get("kind")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ArtifactMismatchError(f"{directory / MANIFEST_FILE}: kind {str(kind)[:80]!r} names no kind of model")
    return kind


def artifact_digest(files: dict[str, str]) -> str:
    """Return the SHA-256 of the canonical JSON of a `files` map."""
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


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
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise ArtifactMismatchError(f"{path}: expected an object with schema {SCHEMA}")
    return manifest


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
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
