"""Knowledge documents: reading a folder of texts, pages and tables, and what in it could not be read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mangaassist_assets.retrieval.documents.html_text import html_to_text
from mangaassist_assets.retrieval.documents.records import Record, RecordError, read_csv_records, read_json_lines
from mangaassist_assets.retrieval.documents.sidecar_files import is_sidecar, pair_sidecars
from mangaassist_assets.retrieval.documents.sidecars import (
    NO_SIDECAR,
    Sidecar,
    is_attribute,
    parse_sidecar,
    told_tenant,
)
from mangaassist_assets.retrieval.documents.text import clean_text, drop_html_comments
from mangaassist_assets.retrieval.errors import KnowledgeError, SidecarError
from mangaassist_assets.retrieval.tenants import InvalidTenantError

DEFAULT_MAX_FILE_BYTES = 10 * 1024 * 1024
DEFAULT_TENANT_ATTRIBUTE = "tenant"
_PROSE_SUFFIXES = frozenset({".md", ".txt", ".html", ".htm"})
_RECORD_SUFFIXES = frozenset({".csv", ".jsonl"})
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_MATTER_TITLE = re.compile(r"^title:(.*)$", re.MULTILINE | re.IGNORECASE)
_FIRST_HEADING = re.compile(r"^#{1,2}[ \t]+(.*)$", re.MULTILINE)
_MAX_TITLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeDocument:
    """One document of the store's knowledge.

    `document_id` is the path in the knowledge folder with `/` (`policies/returns.md`), for a record that path, `#`
    and its number from 1 (`titles.csv#17`). `kind` is `record` for a row of a table or a line of JSON, which is
    never split, and `content` for the one column of a row that its sidecar calls the content. `text` of prose is plain
    text or Markdown: HTML has become headings and paragraphs. `tenant` is whose document it is, None for everybody's;
    `embedded_metadata` are the keys of metadata that is embedded with the text.
    """

    document_id: str
    title: str
    text: str
    kind: Literal["prose", "record", "content"] = "prose"
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    embedded_metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeReject:
    """Something that could not be read: the file, the place in it (`line 12`, empty for the whole), the reason."""

    file: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{f', {self.place}' if self.place else ''}: {self.reason}"


@dataclass(frozen=True, slots=True)
class KnowledgeReading:
    """What a folder gave: documents in the order of their paths, and what was rejected."""

    documents: tuple[KnowledgeDocument, ...]
    rejects: tuple[KnowledgeReject, ...]


class _FileError(Exception):
    """A whole file cannot be read; the message is the reason."""


def read_knowledge(
    folder: Path,
    *,
    tenant_attribute: str = DEFAULT_TENANT_ATTRIBUTE,
    max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
) -> KnowledgeReading:
    """Read a folder of .md, .txt, .html, .csv and .jsonl files, each with an optional `NAME.metadata.json` beside it.

    Files and folders whose name starts with a dot are left alone. Everything else that is not a document becomes a
    reject with its reason; a document whose metadata cannot be read is rejected too, as its metadata may say who
    must not see it. Personal data is not redacted here.

    Args:
        folder: A local folder.
        tenant_attribute: The attribute or column that says whose a document or a row is.
        max_file_bytes: Files larger than this are rejected.

    Raises:
        KnowledgeError: If there is no such folder, it cannot be listed, or not one document could be read.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise KnowledgeError(f"the knowledge folder {folder} {what}: name a folder of documents")
    root = folder.resolve()
    documents: list[KnowledgeDocument] = []
    rejects: list[KnowledgeReject] = []
    paths: dict[str, Path] = {}
    for path in _walk(root):
        name = path.relative_to(root).as_posix()
        if not name.isprintable() or any(0xDC80 <= ord(character) <= 0xDCFF for character in name):
            printable = name.encode("utf-8", "backslashreplace").decode("utf-8")
            rejects.append(KnowledgeReject(file=repr(printable), place="", reason="its name is not printable UTF-8"))
        else:
            paths[name] = path
    files = pair_sidecars(paths)
    rejects += [KnowledgeReject(file=name, place="", reason=reason) for name, reason in files.rejected.items()]
    for name, sidecar_name in files.documents.items():
        beside = None if sidecar_name is None else paths[sidecar_name]
        try:
            sidecar = _sidecar(root, beside, tenant_attribute, max_file_bytes)
            found = _read_file(root, paths[name], name, sidecar, tenant_attribute, max_file_bytes)
        except _FileError as error:
            rejects.append(KnowledgeReject(file=name, place="", reason=str(error)))
            continue
        for item in found:
            (documents if isinstance(item, KnowledgeDocument) else rejects).append(item)  # type: ignore[arg-type]  # the condition picks the list
    if not documents:
        first = "; ".join(str(reject) for reject in rejects[:3])
        why = f"{len(rejects)} were rejected ({first})" if rejects else "it is empty"
        raise KnowledgeError(
            f"the knowledge folder {folder} holds no readable document: {why}. Put .md, .txt, .html, .csv or .jsonl "
            "files in UTF-8 there"
        )
    return KnowledgeReading(tuple(documents), tuple(rejects))


def _walk(root: Path) -> Iterator[Path]:
    """Yield everything below `root` that is not a real folder, symbolic links included but not followed.

    A folder that is called like a sidecar is yielded as well: its document must not be read without one.
    """

    def fail(error: OSError) -> None:
        raise KnowledgeError(f"cannot list {error.filename} of the knowledge: {error.strerror}") from error

    for directory, folders, files in os.walk(root, onerror=fail):
        odd = [name for name in folders if is_sidecar(name) or (Path(directory) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in odd)
        for name in (*files, *odd):
            if not name.startswith("."):
                yield Path(directory) / name


def _read_text(root: Path, path: Path, max_file_bytes: int) -> str:
    """Return the cleaned text of a file, which must be a regular one inside `root`, not too large, and UTF-8."""
    try:
        target = path.resolve(strict=True)
        if not target.is_relative_to(root):
            raise _FileError("a link that leads out of the knowledge folder")
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _FileError(
                f"a {'link to a ' * path.is_symlink()}folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            )
        if status.st_size > max_file_bytes:
            raise _FileError(f"too large: {status.st_size:,} bytes, and {max_file_bytes:,} are allowed")
        content = target.read_bytes()
    except (OSError, RuntimeError) as error:
        # resolve() tells a loop of links by RuntimeError.
        raise _FileError(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _FileError(f"not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8") from error
    if not text.strip():
        raise _FileError("empty")
    return text


def _sidecar(root: Path, path: Path | None, tenant_attribute: str, max_file_bytes: int) -> Sidecar:
    if path is None:
        return NO_SIDECAR
    try:
        return parse_sidecar(_read_text(root, path, max_file_bytes), tenant_attribute=tenant_attribute)
    except (_FileError, SidecarError) as error:
        raise _FileError(f"held back, as its {path.name} cannot be used: {error}") from error


def _read_file(
    root: Path, path: Path, name: str, sidecar: Sidecar, tenant_attribute: str, max_file_bytes: int
) -> Iterator[KnowledgeDocument | KnowledgeReject]:
    suffix = path.suffix.lower()
    if sidecar.structure is not None and suffix != ".csv":
        raise _FileError("held back, as its sidecar tells of columns (documentStructureConfiguration): for .csv only")
    if suffix in _PROSE_SUFFIXES:
        return iter([_prose(name, suffix, _read_text(root, path, max_file_bytes), sidecar)])
    if suffix in _RECORD_SUFFIXES:
        text = _read_text(root, path, max_file_bytes)
        try:
            records = read_csv_records(text, sidecar.structure) if suffix == ".csv" else read_json_lines(text)
            return iter([_record(name, record, sidecar, tenant_attribute) for record in records])
        except RecordError as error:
            raise _FileError(str(error)) from error
        except SidecarError as error:
            raise _FileError(f"held back, as its sidecar does not fit it: {error}") from error
    known = ", ".join(sorted(_PROSE_SUFFIXES | _RECORD_SUFFIXES))
    raise _FileError(f"the suffix {suffix or '(none)'} is not known; {known} are")


def _prose(name: str, suffix: str, raw: str, sidecar: Sidecar) -> KnowledgeDocument:
    title: str | None = None
    if suffix in {".html", ".htm"}:
        title, text = html_to_text(clean_text(raw))
    else:
        text = clean_text(raw)
        if suffix == ".md":
            if match := _FRONT_MATTER.match(text):
                text = text[match.end() :]
                named = _FRONT_MATTER_TITLE.search(match.group(1))
                title = named.group(1).strip(" \t\"'") if named else None
            text = drop_html_comments(text)
    text = text.strip()
    if not text:
        raise _FileError("empty: no text is left without markup and comments")
    if not title and suffix != ".txt" and (heading := _FIRST_HEADING.search(text)):
        title = heading.group(1).rstrip(" \t#")
    return KnowledgeDocument(
        document_id=name,
        title=(sidecar.attributes.get("title") or title or _title_of(name))[:_MAX_TITLE].strip(),
        text=text,
        metadata=sidecar.attributes,
        tenant=sidecar.tenant,
        embedded_metadata=sidecar.embedded,
    )


def _record(
    name: str, record: Record | RecordError, sidecar: Sidecar, tenant_attribute: str
) -> KnowledgeDocument | KnowledgeReject:
    if isinstance(record, RecordError):
        return KnowledgeReject(file=name, place=record.place, reason=str(record))
    try:
        tenant = _row_tenant(record.fields, sidecar.tenant, tenant_attribute)
    except InvalidTenantError as error:
        return KnowledgeReject(file=name, place=record.place, reason=f"held back: {error}")
    return KnowledgeDocument(
        document_id=f"{name}#{record.number}",
        title=(record.title or f"{_title_of(name)} {record.number}")[:_MAX_TITLE].strip(),
        text=record.text,
        kind="record" if sidecar.structure is None else "content",
        metadata={**record.attributes, **sidecar.attributes},
        tenant=tenant,
        embedded_metadata=sidecar.embedded,
    )


def _row_tenant(fields: Mapping[str, object], of_file: str | None, tenant_attribute: str) -> str | None:
    """Return whose a row is: what its own column says, unless its file is somebody's, which no row overrules.

    Raises:
        InvalidTenantError: If the two disagree, or the column is there and says nothing that can be used.
    """
    told = [name for name in fields if is_attribute(name, tenant_attribute)]
    if len(told) > 1:
        raise InvalidTenantError(f"{' and '.join(map(repr, told))} both name the tenant")
    if not told:
        return of_file
    value = fields[told[0]]
    if value is None or (isinstance(value, str) and not value.strip()):
        if of_file is None:
            raise InvalidTenantError(f"its {told[0]!r} is empty, so nothing says whose it is")
        return of_file
    own = told_tenant(value)
    if of_file is not None and own != of_file:
        raise InvalidTenantError(
            f"its {told[0]!r} says that it is of {own!r}, the sidecar that the file is of {of_file!r}"
        )
    return own


def _title_of(name: str) -> str:
    return re.sub(r"[-_]+", " ", name.rsplit("/", 1)[-1].rsplit(".", 1)[0]).strip().capitalize() or name
