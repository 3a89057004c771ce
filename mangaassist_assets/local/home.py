"""The home directory: one folder that holds all state of one local installation."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import tempfile
from pathlib import Path

from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.files import DamagedFileError, read_json, write_whole

MARKER = "home.json"
SCHEMA = 1
KEY_FILE = "pseudonym.key"
ACCESS_KEY_FILE = "access.key"
ACCESS_KEY = re.compile(r"[A-Z0-9]{32,128}")
KEY_BYTES = 32
SQLITE_BEGINS = b"SQLite format 3\0"
_KEPT_BY_MLFLOW = frozenset({"mlflow.db"})
_MENDING = {
    True: "It holds traces, runs and the registry: restore it from a backup, for nothing else has them.",
    False: "It holds Dagster's runs, events or schedules and nothing that assets are made of: restore it from a "
    "backup, or move it away; the history is then empty, and every asset still has its snapshots.",
}
PRIVATE = 0o077
"""The permissions of everybody but the owner."""
FOLDERS = (
    *("run", "logs", "mlflow", "ministack", "sagemaker", "dagster"),
    *("store", "search", "warehouse", "knowledge"),
)


class HomeError(OperatorError):
    """The home directory cannot be used; the message says why and what to do."""


class Home:
    """Paths of one local installation. `open` checks and creates it; the constructor touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"  # lock, ports and state of the running services
        self.logs = root / "logs"  # one file for each service and endpoint
        self.mlflow = root / "mlflow"  # the server's database and artifacts
        self.ministack = root / "ministack"  # Kinesis, AppConfig, S3
        self.sagemaker = root / "sagemaker"  # the local SageMaker's state and its cache of downloaded models
        self.dagster = root / "dagster"  # what DAGSTER_HOME points at
        self.store = root / "store"  # snapshots, datasets and models
        self.search = root / "search"  # LanceDB
        self.warehouse = root / "warehouse"  # DuckDB
        self.knowledge = root / "knowledge"  # the copy of the bootstrapped knowledge documents
        self.base_model_file = root / "base_model"  # which pretrained encoder suits the store's languages
        self.pseudonym_key_file = root / KEY_FILE  # where `pseudonym_key` keeps the secret
        self.access_key_file = root / ACCESS_KEY_FILE  # where `access_key` does

    @classmethod
    def open(cls, path: str | Path) -> Home:
        """Create the home directory at `path` where it is missing, check it, and return it.

        No other user may read it: one of before that others may read is closed to them, and whatever this process
        writes afterwards is this user's alone (its umask becomes 077).

        Raises:
            HomeError: it is a file, cannot be written, belongs to something else, or was made by a newer version.
        """
        home = cls(Path(path).expanduser().absolute())
        root = home.root
        if any(char in "?#%" or not char.isprintable() for char in str(root)):
            # It becomes part of a database URL and of file:// URIs, which not every client of theirs quotes alike.
            raise HomeError(
                f"The home {str(root)!r} has one of ? # % or a control character in its path. Name another one."
            )
        if root.exists() and not root.is_dir():
            raise HomeError(f"The home {root} is a file. Name a folder with --home.")
        # What shoppers wrote is the business of this user alone, in whatever file this process writes it from now on.
        os.umask(PRIVATE)
        try:
            root.mkdir(parents=True, exist_ok=True)
            home._check_owner()
            home._check_writable()
            for name in FOLDERS:
                (root / name).mkdir(exist_ok=True)
            home._close_to_others()
        except OSError as error:
            raise HomeError(
                f"The home {root} cannot be used: {error.strerror or error} ({error.filename or root}). "
                "Make it a writable folder, or name another one with --home."
            ) from error
        return home

    def require_readable(self) -> None:
        """Look whether the databases of Dagster and MLflow begin as SQLite's do, and MiniStack's state is JSON.

        MiniStack takes state that it cannot read for none: it would start without stream and configuration, and write
        that over what could still be mended.

        Raises:
            HomeError: one is not: cut off by a power cut, or something else's.
        """
        for path in sorted((self.ministack / "state").glob("*.json")):
            meaning, mend = ministack_loss(path)
            try:
                read_json(path, what="MiniStack's state", mend=f"{meaning} {mend}")
            except DamagedFileError as error:
                raise HomeError(str(error)) from error
        for path in (self.mlflow / "mlflow.db", *sorted(self.dagster.rglob("*.db"))):
            if not path.is_file() or not path.stat().st_size:
                continue  # SQLite makes a database of an empty file
            with path.open("rb") as file:
                begins = file.read(len(SQLITE_BEGINS))
            if begins != SQLITE_BEGINS:
                raise HomeError(f"{path} is no SQLite database any more. {mending_of(path)}")

    def base_model(self) -> str | None:
        """Return the pretrained encoder that the bootstrap chose for the store's languages; None before one."""
        if not self.base_model_file.is_file():
            return None
        return self.base_model_file.read_text(encoding="utf-8").strip() or None

    def choose_base_model(self, name: str) -> None:
        """Keep the name of a pretrained encoder, for every process that works on this home from now on."""
        write_whole(self.base_model_file, f"{name}\n".encode())

    def pseudonym_key(self) -> bytes:
        """Return the secret that turns user ids into keys: 32 random bytes, made at the first call.

        Raises:
            HomeError: others may read the file, or it does not hold 32 bytes in hexadecimal.
        """
        path = self.pseudonym_key_file
        content = self._secret(
            path,
            secrets.token_hex(KEY_BYTES),
            exposed="so the user keys made with it are not secret",
            new="which gives every user a new key",
        )
        try:
            key = bytes.fromhex(content)
        except ValueError as error:
            raise HomeError(f"{path} does not hold a hexadecimal key. Restore it from a backup.") from error
        if len(key) != KEY_BYTES:
            raise HomeError(f"{path} holds {len(key)} bytes instead of {KEY_BYTES}. Restore it from a backup.")
        return key

    def access_key(self) -> str:
        """Return the access key that the stand-ins of AWS take on this home, made at the first call.

        Whoever may read it may deploy models and read the feedback: it is the secret of the user who owns the home.

        Raises:
            HomeError: others may read the file, or it holds no access key.
        """
        key = self._secret(
            self.access_key_file,
            f"MANGAASSIST{secrets.token_hex(20).upper()}",
            exposed="so others may use the services of this home",
            new="which makes a new one at the next start",
        )
        if not ACCESS_KEY.fullmatch(key):
            raise HomeError(f"{self.access_key_file} does not hold an access key. Delete it: the next start makes one.")
        return key

    def _secret(self, path: Path, new_content: str, *, exposed: str, new: str) -> str:
        if not path.exists():
            self._create_key(path, new_content)
        if path.stat().st_mode & PRIVATE:
            raise HomeError(
                f"{path} may be read by other users, {exposed}. "
                f"Run `chmod 600 {path}` if nobody has read it; delete it otherwise, {new}."
            )
        return path.read_text(encoding="utf-8", errors="replace").strip()

    def _create_key(self, path: Path, content: str) -> None:
        # Written aside and linked into place: of two processes that start together, one key wins and both read that.
        descriptor, aside = tempfile.mkstemp(prefix=".key-", dir=self.root)  # mkstemp creates with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(aside, path)
            except FileExistsError:
                return
        finally:
            Path(aside).unlink()

    def _check_owner(self) -> None:
        marker = self.root / MARKER
        if not marker.exists():
            strange = sorted(entry.name for entry in self.root.iterdir() if not _is_ours(entry.name))
            if strange:
                raise HomeError(
                    f"{self.root} is not a MangaAssist home: it has no {MARKER} but holds {', '.join(strange[:3])}. "
                    "Name an empty or new folder with --home."
                )
            write_whole(marker, json.dumps({"kind": "mangaassist-home", "schema": SCHEMA}).encode())
            return
        try:
            content = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HomeError(f"{marker} is not JSON. Restore it, or name another home with --home.") from error
        if not isinstance(content, dict) or content.get("kind") != "mangaassist-home":
            raise HomeError(f"{marker} does not describe a MangaAssist home. Name another folder with --home.")
        if content.get("schema") != SCHEMA:
            raise HomeError(
                f"The home {self.root} has schema {content.get('schema')!r}; this version reads {SCHEMA}. "
                "Use the version that made it, or name another home with --home."
            )

    def _close_to_others(self) -> None:
        if not self.root.stat().st_mode & PRIVATE:
            return
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if mode & PRIVATE and not stat.S_ISLNK(mode):
                    path.chmod(stat.S_IMODE(mode) & ~PRIVATE)
        # Last: where this is cut off, the next start does it again.
        self.root.chmod(stat.S_IMODE(self.root.stat().st_mode) & ~PRIVATE)

    def _check_writable(self) -> None:
        # Permission bits are no proof (root, read-only mounts, quotas): only writing is.
        with tempfile.TemporaryFile(dir=self.root) as probe:
            probe.write(b"x")


def ministack_loss(path: Path) -> tuple[str, str]:
    """Return what it means that a state file of MiniStack is damaged, and what to do."""
    lost = {
        "kinesis.json": "Feedback events that were not ingested yet",
        "appconfig.json": "The deployed configuration",
        "firehose.json": "Deliveries of feedback that were under way",
    }.get(path.name, f"What {path.stem} kept")
    again = " `mangaassist bootstrap` then deploys the first one again." if path.name == "appconfig.json" else ""
    return (
        f"{lost} cannot be read, and MiniStack would start as if there never was any.",
        f"Restore it from a backup, or move it away to go on without.{again}",
    )


def mending_of(database: Path) -> str:
    """Return what a database of the home holds, and what to do where it is damaged."""
    return _MENDING[database.name in _KEPT_BY_MLFLOW]


def _is_ours(name: str) -> bool:
    # The last two are what a crash while the marker or the key was written leaves behind.
    return name in {*FOLDERS, KEY_FILE, ACCESS_KEY_FILE} or name.startswith((f".{MARKER}.", ".key-"))
