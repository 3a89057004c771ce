"""Claims about whole-file writes."""

import os
from pathlib import Path

import pytest
from upath import UPath

from mangaassist_assets.core.files import write_whole


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, durable: bool
) -> None:
    target = tmp_path / "state.json"
    write_whole(target, b"old", durable=durable)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(*((os, "fsync", fail) if stage == "fsync" and durable else (Path, "replace", fail)))
    with pytest.raises(OSError, match="disk full"):
        write_whole(target, b"new", durable=durable)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_must_last_is_on_the_disk_before_it_replaces_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state.json"
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(target.exists()))
    write_whole(target, b"not yet", durable=False)
    target.unlink()
    write_whole(target, b"new", durable=True)
    assert synced == [False]


def test_a_reader_finds_one_whole_content_in_any_kind_of_place(tmp_path: Path) -> None:
    for number, place in enumerate((tmp_path / "0", UPath(tmp_path / "1"), UPath(f"file://{tmp_path}/2"))):
        write_whole(place, str(number).encode())
    write_whole(memory := UPath("memory://whole-file-writes/two.json"), b"2")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "0", "1": "1", "2": "2"}
    assert memory.read_bytes() == b"2"
    assert not list(memory.parent.glob(".*"))
