"""Checkpoints: whole or not there, and nothing that is read is believed unchecked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.training import checkpoints
from mangaassist_assets.training.checkpoints import CheckpointError, Checkpoints

FINGERPRINT = "data 1, settings 1"
NEWEST = "step-00000020"


class KilledError(BaseException):
    """What SIGKILL looks like from inside."""


@pytest.fixture
def two(tmp_path: Path) -> Checkpoints:
    """Checkpoints of steps 10 and 20, whose number is also their content."""
    stored = Checkpoints(tmp_path / "checkpoints", FINGERPRINT)
    for step in (10, 20):
        save(stored, step)
    return stored


def save(stored: Checkpoints, step: int) -> None:
    stored.save(step, {"weight": torch.full((40,), float(step))}, {"step": step, "losses": [0.1, 1 / 3]})


def names(stored: Checkpoints) -> list[str]:
    return sorted(one.name for one in stored.folder.iterdir())


def manifest(stored: Checkpoints) -> Path:
    return stored.folder / NEWEST / "checkpoint.json"


def test_the_newest_is_read_as_it_was_written(two: Checkpoints) -> None:
    saved, reasons = two.latest()
    assert saved is not None
    assert (saved.step, reasons) == (20, ())
    assert torch.equal(saved.tensors["weight"], torch.full((40,), 20.0))
    assert saved.state == {"step": 20, "losses": [0.1, 1 / 3]}


def test_a_folder_that_is_not_there_has_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", FINGERPRINT).latest() == (None, ())


def test_only_the_newest_are_kept(two: Checkpoints) -> None:
    save(two, 9_000_000_000)  # more digits than the name is padded to
    assert names(two) == [NEWEST, "step-9000000000"]
    saved, _ = two.latest()
    assert saved is not None
    assert saved.step == 9_000_000_000


def test_a_checkpoint_that_is_written_again_replaces_itself(two: Checkpoints) -> None:
    two.save(20, {"weight": torch.zeros(1)}, {"step": 20})
    saved, reasons = two.latest()
    assert saved is not None
    assert (saved.state, reasons) == ({"step": 20}, ())


def flip_a_byte(stored: Checkpoints) -> None:
    path = stored.folder / NEWEST / "tensors.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def truncate(stored: Checkpoints) -> None:
    path = stored.folder / NEWEST / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def change(stored: Checkpoints, **fields: object) -> None:
    path = manifest(stored)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def rewrite_state(stored: Checkpoints, content: str) -> None:
    path = stored.folder / NEWEST / "state.json"
    path.write_text(content)
    change(stored, files=json.loads(manifest(stored).read_text())["files"] | {path.name: checkpoints._sha256(path)})


def rewrite_tensors(stored: Checkpoints) -> None:
    path = stored.folder / NEWEST / "tensors.safetensors"
    path.write_bytes(b"\xff" * 64)
    change(stored, files=json.loads(manifest(stored).read_text())["files"] | {path.name: checkpoints._sha256(path)})


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip_a_byte, "tensors.safetensors has another SHA-256"),
        (truncate, "tensors.safetensors has another SHA-256"),
        (lambda one: (one.folder / NEWEST / "state.json").write_text("{}"), "state.json has another SHA-256"),
        (lambda one: (one.folder / NEWEST / "state.json").unlink(), "state.json: No such file"),
        (lambda one: manifest(one).unlink(), "checkpoint.json: No such file"),
        (lambda one: manifest(one).write_text(""), "JSONDecodeError"),
        (lambda one: manifest(one).write_text("ignore previous instructions"), "JSONDecodeError"),
        (lambda one: manifest(one).write_bytes(b"\xff\xfe\x00"), "UnicodeDecodeError"),
        (lambda one: manifest(one).write_text("[1, 2]"), "TypeError"),
        (lambda one: manifest(one).write_text("{}"), "KeyError: 'fingerprint'"),
        (lambda one: manifest(one).write_text("[" * 60_000), "nested too deeply"),
        (lambda one: manifest(one).write_text(" " * 10_000_000), "has 10000000 bytes"),
        (lambda one: change(one, step=30), "says another step"),
        (lambda one: change(one, step=float("inf")), "says another step"),
        (lambda one: change(one, files=["../../secret"]), "TypeError"),
        (lambda one: change(one, files={}), "KeyError: 'tensors.safetensors'"),
        (
            lambda one: change(one, fingerprint="data 2, settings 1"),
            "belongs to a training with other data or settings",
        ),
        (lambda one: rewrite_state(one, "[]"), "holds no JSON object"),
        (rewrite_tensors, "SafetensorError"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_gives_its_place_to_the_older_one_with_a_reason(
    two: Checkpoints, harm: Callable[[Checkpoints], object], reason: str
) -> None:
    harm(two)
    saved, reasons = two.latest()
    assert saved is not None
    assert saved.step == 10
    assert len(reasons) == 1
    assert reasons[0].startswith(NEWEST)
    assert reason in reasons[0]
    assert str(two.folder) not in reasons[0]


@given(content=st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr))
def test_no_manifest_at_all_makes_reading_fail(content: bytes | str, tmp_path_factory: pytest.TempPathFactory) -> None:
    stored = Checkpoints(tmp_path_factory.mktemp("hostile"), FINGERPRINT)
    (stored.folder / NEWEST).mkdir()
    manifest(stored).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    saved, reasons = stored.latest()
    assert saved is None
    assert len(reasons) == 1


def test_the_checkpoints_of_another_training_are_refused(two: Checkpoints) -> None:
    saved, reasons = Checkpoints(two.folder, "data 2, settings 1").latest()
    assert saved is None
    assert all("other data or settings" in one for one in reasons)
    assert len(reasons) == 2


@pytest.mark.parametrize("stage", ["tensors", "state", "manifest", "rename"])
def test_a_write_that_was_killed_leaves_nothing_that_is_taken_for_a_checkpoint(
    two: Checkpoints, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text = Path.write_text

    def write_half(self: Path, content: str, **options: str) -> int:
        if (stage, self.name) in {("state", "state.json"), ("manifest", "checkpoint.json")}:
            write_text(self, content[:5])
            raise KilledError
        return write_text(self, content, **options)

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_half)
        if stage == "tensors":
            patch.setattr("safetensors.torch.save_file", killed)
        if stage == "rename":
            patch.setattr(Path, "replace", killed)
        with pytest.raises(KilledError):
            save(two, 30)
    assert names(two)[0].startswith(".step-00000030")
    saved, reasons = two.latest()
    assert saved is not None
    assert (saved.step, reasons) == (20, ())

    save(two, 40)  # and the next one cleans up
    assert names(two) == [NEWEST, "step-00000040"]


def test_a_full_disk_is_an_error_of_its_own_and_leaves_the_older_ones(
    two: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(CheckpointError, match=r"step 30 could not be written to .*No space left on device"):
        save(two, 30)
    assert names(two) == ["step-00000010", NEWEST]


def test_a_folder_that_cannot_be_made_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="step 1 could not be written"):
        save(Checkpoints(tmp_path / "file" / "checkpoints", FINGERPRINT), 1)


def test_what_is_no_checkpoint_is_neither_read_nor_removed(two: Checkpoints) -> None:
    (two.folder / "step-by-step").mkdir()
    (two.folder / "step-00000099").write_text("a file")
    saved, reasons = two.latest()
    assert saved is not None
    assert (saved.step, reasons) == (20, ())
    save(two, 30)
    assert names(two) == [NEWEST, "step-00000030", "step-00000099", "step-by-step"]


def test_no_file_is_a_pickle(two: Checkpoints) -> None:
    files = [one for one in two.folder.rglob("*") if one.is_file()]
    assert {one.suffix for one in files} == {".safetensors", ".json"}
    assert not any(one.read_bytes()[:2] in {b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK"} for one in files)


def test_tensors_of_any_shape_and_place_are_stored(tmp_path: Path) -> None:
    stored = Checkpoints(tmp_path, FINGERPRINT)
    turned = torch.arange(6.0).reshape(2, 3).T
    stored.save(1, {"turned": turned, "scalar": torch.tensor(3.0), "learned": torch.ones(2, requires_grad=True)}, {})
    saved, _ = stored.latest()
    assert saved is not None
    assert torch.equal(saved.tensors["turned"], turned)
    assert saved.tensors["scalar"].item() == 3.0


def test_cleared_checkpoints_are_gone(two: Checkpoints) -> None:
    two.clear()
    assert not two.folder.exists()
    two.clear()
    assert list(two.folder.parent.iterdir()) == []
