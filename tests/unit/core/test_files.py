"""Claims about whole-file writes."""

import os
import stat
from pathlib import Path

import pytest
from upath import UPath

from mangaassist_assets.core.files import DamagedFileError, create_whole, read_json, write_whole


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    target = tmp_path / "state.json"
    write_whole(target, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(*((os, "fsync", fail) if stage == "fsync" else (Path, "replace", fail)))
    with pytest.raises(OSError, match="disk full"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_must_last_is_on_the_disk_before_it_replaces_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state.json"
    synced: list[tuple[bool, bool]] = []

    def note(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), target.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_whole(target, b"new")
    target.unlink()
    assert create_whole(target, b"new")
    # The content before there is a name for it, and then the folder that has the name.
    assert synced == [(False, False), (True, True)] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\0" * 40, "is empty"), (b'{"a": ', "is no JSON"), (b"\xff", "is no JSON")],
)
def test_a_damaged_file_is_named_with_what_it_was_and_what_to_do(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "LATEST.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=rf"LATEST\.json, the pointer, {message}.* Write it again\."):
        read_json(path, what="the pointer", mend="Write it again.")


def test_a_reader_finds_one_whole_content_in_any_kind_of_place(tmp_path: Path) -> None:
    for number, place in enumerate((tmp_path / "0", UPath(tmp_path / "1"), UPath(f"file://{tmp_path}/2"))):
        write_whole(place, str(number).encode())
    write_whole(memory := UPath("memory://whole-file-writes/two.json"), b"2")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "0", "1": "1", "2": "2"}
    assert memory.read_bytes() == b"2"
    assert not list(memory.parent.glob(".*"))
