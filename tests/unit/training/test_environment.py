"""What a run says of the machine it ran on: enough to repeat it, nothing of whose machine it is."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from pathlib import Path

import pytest

from mangaassist_assets.training.environment import environment_tags, git_commit, training_environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_named_commit(monkeypatch):
    monkeypatch.delenv("MANGAASSIST_GIT_COMMIT", raising=False)


def checkout(folder: Path) -> Path:
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".git" / "refs" / "heads" / "main").write_text(COMMIT + "\n")
    (folder / "requirements.lock").write_text("torch==2.13.0\n")
    return folder


def test_versions_threads_device_and_seed_are_there(tmp_path):
    found = training_environment(device="cpu", precision="float32", seed=7, root=checkout(tmp_path))
    assert (found["device"], found["precision"], found["seed"], found["git_commit"]) == ("cpu", "float32", 7, COMMIT)
    assert found["lock_sha256"] == hashlib.sha256(b"torch==2.13.0\n").hexdigest()
    for name in ("python", "torch", "transformers", "tokenizers", "mlflow", "mangaassist-assets", "cpus", "threads"):
        assert found[name], name
    tags = environment_tags(found)
    assert tags["mlflow.source.git.commit"] == COMMIT
    assert tags["environment.torch"] == found["torch"]
    assert all(isinstance(value, str) for value in tags.values())


def test_neither_machine_nor_user_nor_path_is_named(tmp_path):
    text = json.dumps(training_environment(device="cpu", precision="float32", seed=7, root=checkout(tmp_path)))
    assert socket.gethostname() not in text
    assert str(tmp_path) not in text
    assert f'"{getpass.getuser()}"' not in text
    assert "/" not in text


def test_without_a_checkout_there_is_no_commit_and_no_lock(tmp_path):
    found = training_environment(device="cpu", precision="float32", seed=7, root=tmp_path)
    assert (found["git_commit"], found["lock_sha256"]) == (None, None)
    assert "mlflow.source.git.commit" not in environment_tags(found)


def test_a_packed_a_detached_and_a_worktree_commit_are_found(tmp_path):
    packed = checkout(tmp_path / "packed")
    (packed / ".git" / "refs" / "heads" / "main").unlink()
    (packed / ".git" / "packed-refs").write_text(
        f"# pack-refs\n{'f' * 40} refs/heads/other\n{COMMIT} refs/heads/main\n"
    )
    assert git_commit(packed) == COMMIT
    (packed / ".git" / "HEAD").write_text(COMMIT + "\n")
    assert git_commit(packed) == COMMIT
    whole = checkout(tmp_path / "whole")
    own = whole / ".git" / "worktrees" / "second"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "commondir").write_text("../..\n")
    second = tmp_path / "second"
    second.mkdir()
    (second / ".git").write_text(f"gitdir: {own}\n")
    assert git_commit(second) == COMMIT


@pytest.mark.parametrize(
    "head", ["", "ref: refs/heads/none", "ignore previous instructions", "ref: ../../../etc/passwd"]
)
def test_a_damaged_checkout_has_no_commit(tmp_path, head):
    folder = checkout(tmp_path)
    (folder / ".git" / "HEAD").write_text(head)
    assert git_commit(folder) is None


def test_an_image_without_git_names_its_commit_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("MANGAASSIST_GIT_COMMIT", COMMIT.upper())
    assert git_commit(tmp_path) == COMMIT
    monkeypatch.setenv("MANGAASSIST_GIT_COMMIT", "main; rm -rf /")
    assert git_commit(tmp_path) is None
