"""Claims about sealed model artifacts."""

import hashlib
import json
from pathlib import Path

import pytest

from mangaassist_assets.models import artifacts
from mangaassist_assets.models.artifacts import (
    MANIFEST_FILE,
    ArtifactMismatchError,
    artifact_kind,
    read_verified,
    seal_artifact,
    verify_artifact,
    verify_kind,
)
from mangaassist_assets.models.onnx_network import OnnxModelError


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "sub" / "model.safetensors").write_bytes(b"weights")
    return directory


def test_the_digest_is_the_hash_of_kind_settings_and_every_files_hash(artifact: Path) -> None:
    digest = seal_artifact(artifact, "reranker", {"threshold": 0.5})
    files = {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "sub/model.safetensors": hashlib.sha256(b"weights").hexdigest(),
    }
    manifest = {"schema": 2, "kind": "reranker", "files": files, "settings": {"threshold": 0.5}}
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert json.loads((artifact / MANIFEST_FILE).read_text()) == manifest


def test_equal_content_has_an_equal_digest_wherever_it_lies(artifact: Path, tmp_path: Path) -> None:
    copy = artifact.rename(tmp_path / "elsewhere")
    first = seal_artifact(copy, "reranker")
    assert seal_artifact(copy, "reranker") == first
    assert verify_artifact(copy, first.upper()) == first


def test_a_changed_file_is_named(artifact: Path) -> None:
    digest = seal_artifact(artifact, "intent_classifier")
    (artifact / "sub" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ArtifactMismatchError, match=r"sub/model\.safetensors has SHA-256"):
        verify_artifact(artifact, digest)


def test_a_missing_file_is_named(artifact: Path) -> None:
    seal_artifact(artifact, "intent_classifier")
    (artifact / "config.json").unlink()
    with pytest.raises(ArtifactMismatchError, match=r"config\.json is listed .* missing"):
        verify_artifact(artifact)


def test_an_extra_file_is_named(artifact: Path) -> None:
    seal_artifact(artifact, "intent_classifier")
    (artifact / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ArtifactMismatchError, match=r"pytorch_model\.bin is not listed"):
        verify_artifact(artifact)


def test_another_whole_artifact_is_not_the_expected_one(artifact: Path) -> None:
    digest = seal_artifact(artifact, "intent_classifier")
    (artifact / "config.json").write_text('{"changed": true}')
    seal_artifact(artifact, "intent_classifier")
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        verify_artifact(artifact, digest)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hosts", "sub/../../outside.json", "a\\b.json"])
def test_a_name_that_leaves_the_directory_is_refused(artifact: Path, name: str) -> None:
    (artifact.parent / "outside.json").write_text("{}")
    files = {name: hashlib.sha256(b"{}").hexdigest()}
    (artifact / MANIFEST_FILE).write_text(json.dumps({"schema": 2, "kind": "reranker", "files": files}))
    with pytest.raises(ArtifactMismatchError, match="leaves the artifact"):
        verify_artifact(artifact)


def test_a_link_is_refused(artifact: Path) -> None:
    seal_artifact(artifact, "reranker")
    (artifact / "config.json").unlink()
    (artifact.parent / "config.json").write_text("{}")
    (artifact / "config.json").symlink_to(artifact.parent / "config.json")
    with pytest.raises(ArtifactMismatchError, match=r"config\.json is a link"):
        verify_artifact(artifact)


def test_only_what_is_going_to_be_read_is_hashed_and_a_change_of_it_is_refused(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = seal_artifact(artifact, "reranker")
    (artifact / "sub" / "model.safetensors").write_bytes(b"other weights")
    hashed: list[str] = []
    monkeypatch.setattr(
        artifacts, "_sha256", lambda path, whole=artifacts._sha256: (hashed.append(path.name), whole(path))[1]
    )
    assert verify_artifact(artifact, digest, only=["config.json"]) == digest
    assert verify_kind(artifact, "reranker", digest, only=["config.json"]) == digest
    assert hashed == ["config.json", "config.json"]
    (artifact / "config.json").write_text('{"changed": true}')
    with pytest.raises(ArtifactMismatchError, match=r"config\.json has SHA-256"):
        verify_artifact(artifact, digest, only=["config.json"])


def test_what_is_read_may_not_be_changed_together_with_the_manifest(artifact: Path) -> None:
    digest = seal_artifact(artifact, "reranker")
    (artifact / "config.json").write_text('{"changed": true}')
    seal_artifact(artifact, "reranker")
    with pytest.raises(ArtifactMismatchError, match="not the one that was registered"):
        verify_artifact(artifact, digest, only=["config.json"])


def test_names_of_files_that_are_not_read_are_checked_too(artifact: Path) -> None:
    digest = seal_artifact(artifact, "reranker")
    with pytest.raises(ArtifactMismatchError, match=r"has no file model\.onnx, which is needed"):
        verify_artifact(artifact, digest, only=["config.json", "model.onnx"])
    (artifact / "code.py").write_text("")
    with pytest.raises(ArtifactMismatchError, match=r"code\.py is not listed"):
        verify_artifact(artifact, digest, only=["config.json"])


def test_an_onnx_file_that_is_not_plain_cannot_be_sealed(artifact: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"no model")
    with pytest.raises(OnnxModelError, match=r"model\.onnx is not an ONNX model"):
        seal_artifact(artifact, "reranker")


def test_pickled_weights_cannot_be_sealed(artifact: Path) -> None:
    (artifact / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ArtifactMismatchError, match=r"pytorch_model\.bin may not be part"):
        seal_artifact(artifact, "reranker")


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "{}", '{"schema": 1, "files": {"config.json": "x"}}', '{"schema": 2, "files": {}}', "NaN"],
)
def test_a_malformed_manifest_is_refused_by_name(artifact: Path, manifest: str) -> None:
    (artifact / MANIFEST_FILE).write_text(manifest)
    with pytest.raises(ArtifactMismatchError, match=r"artifact\.json"):
        verify_artifact(artifact)


def test_an_artifact_of_before_is_refused_with_what_to_do(artifact: Path) -> None:
    (artifact / MANIFEST_FILE).write_text('{"schema": 1, "kind": "reranker", "files": {"config.json": "x"}}')
    with pytest.raises(
        ArtifactMismatchError, match=r"schema 1, of models that had no ONNX file: train the model again"
    ):
        verify_kind(artifact, "reranker")


def test_a_directory_without_manifest_is_no_artifact(artifact: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match="is not a model artifact"):
        verify_artifact(artifact)


@pytest.mark.parametrize("kind", ['"../pickle"', '""', "7", "null", '"Reranker"', '"os:system"'])
def test_a_kind_that_names_no_model_is_refused(artifact: Path, kind: str) -> None:
    (artifact / MANIFEST_FILE).write_text(f'{{"schema": 2, "kind": {kind}, "files": {{"config.json": "x"}}}}')
    with pytest.raises(ArtifactMismatchError, match="names no kind of model"):
        artifact_kind(artifact)


def test_an_empty_directory_cannot_be_sealed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMismatchError, match="no files"):
        seal_artifact(tmp_path, "reranker")


def test_what_is_handed_out_is_what_was_hashed_and_is_read_once(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = seal_artifact(artifact, "reranker", {"weights": "sub/model.safetensors"})
    read = Path.read_bytes
    reads: list[str] = []

    def read_and_replace(path: Path) -> bytes:
        content = read(path)
        reads.append(path.name)
        path.write_bytes(b"weights of somebody else")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_replace)
    found = read_verified(artifact, "reranker", digest, lambda settings: (settings["weights"],))
    assert found.files == {"sub/model.safetensors": b"weights"}
    assert (found.digest, found.settings, reads) == (
        digest,
        {"weights": "sub/model.safetensors"},
        ["model.safetensors"],
    )
    with pytest.raises(ArtifactMismatchError, match=r"model\.safetensors has SHA-256"):
        read_verified(artifact, "reranker", digest, lambda settings: (settings["weights"],))


def test_another_kind_digest_or_file_is_not_handed_out(artifact: Path) -> None:
    digest = seal_artifact(artifact, "reranker")
    for kind, expected, name, message in (
        ("intent_classifier", digest, "config.json", "is of kind reranker"),
        ("reranker", "0" * 64, "config.json", "not the one that was registered"),
        ("reranker", digest, "other.json", "has no file other.json"),
    ):
        with pytest.raises(ArtifactMismatchError, match=message):
            read_verified(artifact, kind, expected, lambda _, name=name: (name,))
