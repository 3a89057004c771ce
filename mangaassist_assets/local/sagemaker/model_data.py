"""Model data of the local SageMaker: a folder on this machine, or objects of S3 copied into one."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from mangaassist_assets.local.sagemaker.errors import DeploymentError

CONNECT_SECONDS = 5
READ_SECONDS = 60


def local_folder(uri: str) -> Path:
    """Return the folder a `file://` URI names.

    Raises:
        ValueError: it names another machine, is not absolute, or has `..` in it.
    """
    parts = urlsplit(uri)
    path = PurePosixPath(unquote(parts.path))
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(f"{uri} names the machine {parts.netloc}: write file:///absolute/folder")
    if parts.query or parts.fragment or "\0" in str(path):
        raise ValueError(f"{uri} is not the plain URI of a folder")
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{uri} is not the absolute path of a folder, free of `..`")
    return Path(path)


def check_uri(uri: str) -> None:
    """Raise `ValueError` unless `uri` is one that `model_folder` could serve."""
    if uri.startswith("file://"):
        if not local_folder(uri).is_dir():
            raise ValueError(f"Could not find model data at {uri}.")
    elif uri.startswith("s3://"):
        parts = urlsplit(uri)
        if not parts.netloc or not parts.path.strip("/"):
            raise ValueError(f"{uri} names no bucket and prefix")
    else:
        raise ValueError(f"model data is read from s3:// or file:// only, not from {uri}")


def model_folder(uri: str, *, cache: Path) -> Path:
    """Return a local folder with the model data at `uri`, downloading it where needed.

    A download is kept under the hash of what S3 lists (names, sizes, ETags): changed objects make a new folder, and an
    interrupted download leaves none.

    Raises:
        DeploymentError: there is nothing, it cannot be read, or an object's name would lead out of the folder.
    """
    if uri.startswith("file://"):
        folder = local_folder(uri)
        if not folder.is_dir():
            raise DeploymentError(f"Failed to find the model data: {folder} is not a folder.")
        return folder
    return _download(uri, cache)


def _download(uri: str, cache: Path) -> Path:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path.strip("/") + "/"
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        s3={"addressing_style": "path"},
        retries={"mode": "standard"},
    )
    try:
        client = boto3.client("s3", config=config)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        objects = [
            (item["Key"].removeprefix(prefix), item["Size"], item["ETag"])
            for page in pages
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")
        ]
        if not objects:
            raise DeploymentError(f"Failed to download model data: there is no object under {uri}.")
        for name, _size, _tag in objects:
            if name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/")):
                raise DeploymentError(
                    f"Failed to download model data: {uri} has an object of the unsafe name {name!r}."
                )
        key = hashlib.sha256(json.dumps([uri, sorted(objects)]).encode()).hexdigest()
        folder = cache / key
        if folder.is_dir():
            return folder
        cache.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".download-", dir=cache))
        try:
            for name, _size, _tag in objects:
                target = aside / name
                target.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, prefix + name, str(target))
            if not folder.is_dir():  # another deployment may have been quicker
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except (BotoCoreError, ClientError, OSError) as error:
        raise DeploymentError(f"Failed to download model data from {uri}: {error}") from error
    return folder
