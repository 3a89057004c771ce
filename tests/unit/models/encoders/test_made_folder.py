"""Claims about folders that are made once: whole or absent, by whomever they are made, killed or disturbed."""

import subprocess
import sys
from pathlib import Path

import pytest

from mangaassist_assets.models.encoders.made_folder import MANIFEST, made_folder

# Makes the folder that its argument names; says when it asks for the lock, and stops in the middle until told to go on.
_WRITER = """
import logging
import sys
from pathlib import Path
from mangaassist_assets.models.encoders.made_folder import made_folder

def make(folder):
    (folder / "first").write_text("first")
    print("in the middle", flush=True)
    sys.stdin.readline()
    (folder / "second").write_text("second")

class Asks(logging.Handler):
    def emit(self, record):
        logging.getLogger("filelock").removeHandler(self)
        print("asks", flush=True)

logging.getLogger("filelock").setLevel(logging.DEBUG)
logging.getLogger("filelock").addHandler(Asks())
made_folder(Path(sys.argv[1]), make, source="the test")
print("has it", flush=True)
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert line(process) == "asks"
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def make(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"weights")
    (folder / "config").write_bytes(b"config")


def never(folder: Path) -> None:
    raise AssertionError(f"{folder} is made a second time")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name != MANIFEST}


MADE = {"inner/weights": b"weights", "config": b"config"}


def test_a_whole_folder_is_made_once(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "place" / "model", make, source="the test")
    assert folder == tmp_path / "place" / "model"
    assert contents(folder) == MADE
    assert made_folder(folder, never, source="the test") == folder


def test_a_folder_made_from_something_else_is_made_anew(tmp_path: Path) -> None:
    made_folder(tmp_path / "model", lambda folder: (folder / "old").touch(), source="before")
    assert contents(made_folder(tmp_path / "model", make, source="now")) == MADE


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "inner" / "weights").write_bytes(b"wEights"),
        lambda folder: (folder / "inner" / "weights").write_bytes(b"weigh"),
        lambda folder: (folder / "config").unlink(),
        lambda folder: (folder / "adapter_config.json").write_bytes(b"{}"),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_bytes(b'{"schema": 1, "fil'),
        lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
        lambda folder: (folder / MANIFEST).write_bytes(b"[]"),
    ],
    ids=["changed", "truncated", "lost", "added", "no manifest", "half a manifest", "no text", "another manifest"],
)
def test_a_damaged_folder_is_made_anew(tmp_path: Path, damage) -> None:
    folder = made_folder(tmp_path / "model", make, source="the test")
    damage(folder)
    assert contents(made_folder(folder, make, source="the test")) == MADE
    made_folder(folder, never, source="the test")


def test_what_lies_in_its_place_gives_way(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("a file")
    assert contents(made_folder(tmp_path / "model", make, source="the test")) == MADE


def test_a_maker_that_fails_leaves_nothing_and_the_next_one_makes_it(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        make(folder)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        made_folder(tmp_path / "model", fail, source="the test")
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert contents(made_folder(tmp_path / "model", make, source="the test")) == MADE


def test_a_killed_maker_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    with writer(tmp_path / "model") as process:
        assert line(process) == "in the middle"
        assert not (tmp_path / "model").exists()
        process.kill()
    assert contents(made_folder(tmp_path / "model", make, source="the test")) == MADE
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["model"]


def test_of_two_processes_one_makes_it_and_both_have_it(tmp_path: Path) -> None:
    with writer(tmp_path / "model") as first:
        assert line(first) == "in the middle"
        with writer(tmp_path / "model") as second:
            first.communicate("go on\n")
            assert first.returncode == 0
            # Had it made the folder as well, it would now be in the middle of that.
            assert line(second) == "has it"
            second.communicate()
    assert contents(tmp_path / "model") == {"first": b"first", "second": b"second"}
