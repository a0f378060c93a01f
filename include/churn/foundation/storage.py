"""The data root with its zones (landing, accepted, quarantine and others): one implementation for folders and S3."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from churn.errors import Outage
from churn.foundation import scratch
from churn.foundation.paths import LANDING, UNFINISHED

TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", "~")
"""Suffixes of files that are still being written by their sender."""
_ABANDONED = 24 * 3600  # seconds after which an unfinished file is deleted
_ROLES = ("iam-role", "container-role", "assume-role-with-web-identity")
_SCRATCH = "churn-work-"
_OF_DATA_WORK = (
    "churn-spill-",
    "churn-exchange-",
    "churn-history-",
    _SCRATCH,
)  # temporary folders that no work needs for a day
# Limits, so that an unavailable store is reported within a minute.
_S3 = {
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 20,
        "retries": {"mode": "standard", "total_max_attempts": 4},
    }
}


class StorageError(Outage):
    """The data root cannot be read or written."""


@dataclass(frozen=True)
class Landed:
    """A file in landing. `arrived` is its modification time, seconds since the epoch."""

    name: str
    size: int
    arrived: float


@dataclass
class Staged:
    """A file being written; `keep_as` gives it its name, under which it appears complete."""

    storage: Storage
    name: str
    target: str | None = None

    def __post_init__(self) -> None:
        self.stream: IO[bytes]

    def keep_as(self, name: str) -> None:
        """Move the file to this name."""
        self.target = name


@dataclass(frozen=True)
class Storage:
    """Files below one root, named by relative paths such as `accepted/3fa1.parquet`.

    With `many_machines`, work on them runs on other machines too, which see a data root that is a folder.
    """

    fs: Any
    root: str
    many_machines: bool = False

    @classmethod
    def open(cls, url: str, fs: Any = None, many_machines: bool = False) -> Storage:
        """Open a data root.

        Args:
            url: folder or fsspec URL, such as `s3://bucket/prefix`.
            fs: filesystem with credentials of its own, for example from an Airflow connection;
                by default, fsspec creates one from the environment.
            many_machines: whether work on the files runs on other machines too.

        Raises:
            StorageError: the URL cannot be a data root.
        """
        try:
            default, root = fsspec.core.url_to_fs(url, **(_S3 if url.startswith(("s3://", "s3a://")) else {}))
        except (ValueError, ImportError) as error:
            raise StorageError(
                f"{url} cannot be a data root: {error}. Set CHURN_DATA_ROOT to a folder or s3://..."
            ) from error
        return cls(fs or default, root.rstrip("/"), many_machines)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the storage with the credentials of its session, which cannot be pickled itself, for workers on other machines."""
        return Storage, (_portable(self.fs), self.root, self.many_machines)

    @property
    def local(self) -> bool:
        """Whether the root is a folder on this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path of `name` on the filesystem."""
        return posixpath.join(self.root, name)

    def url(self, name: str) -> str:
        """Return the URL of `name`, for messages and links."""
        return str(self.fs.unstrip_protocol(self.path(name)))

    def exists(self, name: str) -> bool:
        """Return whether the file exists."""
        with self._explained("read", name):
            return bool(self.fs.exists(self.path(name)))

    def landed(self, landing: str = LANDING) -> list[Landed]:
        """Return the finished files in a landing zone, by arrival, then by name."""
        with self._explained("list", landing):
            self.fs.invalidate_cache()
            # Otherwise a missing root would look like an empty landing zone.
            self.fs.makedirs(self.path(landing), exist_ok=True)
            entries = self._entries(landing)
        files = [
            _landed(entry)
            for entry in entries
            if (entry["type"] == "file" and not entry["name"].endswith("/"))
            or (entry.get("islink") and self.fs.isfile(entry["name"]))
        ]
        finished = (file for file in files if not is_temporary(file.name))
        return sorted(finished, key=lambda file: (file.arrived, file.name))

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading its bytes."""
        with self._explained("read", name), self.fs.open(self.path(name), "rb") as stream:
            yield stream

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file, some megabytes at a time."""
        with self.reading(name) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    @contextmanager
    def staging(self) -> Iterator[Staged]:
        """Write a file that stays invisible until `keep_as` gives it a name; without a name it is deleted."""
        staged = Staged(self, f"{UNFINISHED}/{uuid.uuid4().hex}")
        with self._explained("write", staged.name):
            self.fs.makedirs(self.path(UNFINISHED), exist_ok=True)
            try:
                with self.fs.open(self.path(staged.name), "wb") as staged.stream:
                    yield staged
                if staged.target:
                    self.fs.makedirs(posixpath.dirname(self.path(staged.target)), exist_ok=True)
                    self.fs.mv(self.path(staged.name), self.path(staged.target))
            finally:
                if self.fs.exists(self.path(staged.name)):
                    self.fs.rm(self.path(staged.name))

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Write a file that appears under its name complete or not at all."""
        with self.staging() as staged:
            yield staged.stream
            staged.keep_as(name)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Create a temporary local folder. If the data root is local, it is on the same disk, so that `move_in` copies nothing.

        With many machines, its files pass through the data root, see `foundation.scratch`.
        """
        folder = self.path(UNFINISHED) if self.local else None
        with self._explained("write", UNFINISHED), ExitStack() as stack:
            if folder:
                self.fs.makedirs(folder, exist_ok=True)
            prefix = "work-" if self.local else _SCRATCH
            # With many machines, an attempt that lost a race may still write a file while the folder is being deleted.
            made = tempfile.TemporaryDirectory(prefix=prefix, dir=folder, ignore_cleanup_errors=self.many_machines)
            work_folder = Path(stack.enter_context(made))
            if self.many_machines and not self.local:
                stack.enter_context(scratch.share_folder(work_folder, self, f"{UNFINISHED}/{work_folder.name}"))
            yield work_folder

    def move_in(self, file: Path, name: str) -> None:
        """Move a file from the scratch folder to a name; it appears complete or not at all."""
        shared = scratch.place_of(file)
        if shared and shared[0] == self and not file.exists():
            with self._explained("write", name):
                self.fs.copy(self.path(shared[1]), self.path(name))
            return
        if not self.local:
            self.put(scratch.given(file), name)
            return
        with self._explained("write", name):
            self.fs.makedirs(posixpath.dirname(self.path(name)), exist_ok=True)
            self.fs.mv(str(file), self.path(name))

    def sweep(self) -> None:
        """Delete what killed processes left behind more than a day ago: unfinished files, and temporary folders on this machine."""
        for folder in Path(tempfile.gettempdir()).glob("churn-*"):
            with suppress(FileNotFoundError):  # another process may be cleaning up too
                if folder.name.startswith(_OF_DATA_WORK) and time.time() - folder.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(folder)
        with self._explained("list", UNFINISHED):
            for entry in self._entries(UNFINISHED):
                with suppress(FileNotFoundError):  # another process may be cleaning up too
                    if time.time() - self._last_written(entry) > _ABANDONED:
                        self.fs.rm(entry["name"], recursive=True)

    def put(self, file: Path, name: str) -> None:
        """Copy a local file; the target appears complete or not at all."""
        with file.open("rb") as source, self.writing(name) as target:
            shutil.copyfileobj(source, target, _CHUNK)

    def send(self, file: Path, name: str) -> None:
        """Copy a local file to a store of objects, in which it appears complete or not at all anyway."""
        with self._explained("write", name):
            self.fs.put_file(str(file), self.path(name))

    def look(self, name: str) -> Landed | None:
        """Return the current size and time of a file; None if it no longer exists."""
        with self._explained("read", name):
            self.fs.invalidate_cache()
            try:
                return _landed(self.fs.info(self.path(name)))
            except FileNotFoundError:
                return None

    def names(self, zone: str) -> list[str]:
        """Return the names of all files below a zone."""
        with self._explained("list", zone):
            self.fs.invalidate_cache()
            paths = self.fs.find(self.path(zone)) if self.fs.exists(self.path(zone)) else []
            return sorted(posixpath.relpath(path, self.root) for path in paths)

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        with self._explained("write", name), suppress(FileNotFoundError):  # another process may just have deleted it
            if self.fs.exists(self.path(name)):
                self.fs.rm(self.path(name))

    def remove_folder(self, zone: str) -> None:
        """Delete a folder with all of its files, if it exists."""
        with self._explained("write", zone), suppress(FileNotFoundError):
            self.fs.invalidate_cache()
            if self.fs.exists(self.path(zone)):
                self.fs.rm(self.path(zone), recursive=True)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file."""
        with self.reading(name) as stream:
            return pq.read_table(stream, columns=columns)

    def count_rows(self, name: str) -> int:
        """Return the number of rows of a Parquet file, from its footer."""
        with self.reading(name) as stream:
            return int(pq.read_metadata(stream).num_rows)

    def upload(self, folder: Path, name: str, suffixes: Iterable[str]) -> None:
        """Copy those files of a local folder that have one of the suffixes; `name` is the target folder."""
        for file in sorted(folder.rglob("*")):
            if file.suffix in suffixes:
                self.put(file, posixpath.join(name, file.relative_to(folder).as_posix()))

    def _last_written(self, entry: dict[str, Any]) -> float:
        """When an unfinished file was written, or the newest file of a scratch folder in a store of objects; seconds since the epoch."""
        if self.local or entry["type"] != "directory":
            return _landed(entry).arrived
        files = self.fs.find(entry["name"], detail=True).values()
        return max((_landed(file).arrived for file in files), default=time.time())

    def _entries(self, zone: str) -> list[dict[str, Any]]:
        """List a folder while other processes may be removing files from it."""
        folder = self.path(zone)
        if not self.fs.exists(folder):
            return []
        if not self.local:
            return list(self.fs.ls(folder, detail=True))
        entries = []
        for name in os.listdir(folder):  # noqa: PTH208 -- fsspec's listing fails completely if one file vanishes
            with suppress(FileNotFoundError):
                entries.append(self.fs.info(posixpath.join(folder, name)))
        return entries

    @contextmanager
    def _explained(self, act: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, BotoCoreError) as error:  # an unreachable S3 does not raise OSError
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise StorageError(
                    f"The disk of {self.url('')} is full. Free some space and run the step again; nothing was lost."
                ) from error
            raise StorageError(
                f"Cannot {act} {self.url(name)}: {getattr(error, 'strerror', None) or type(error).__name__}. "
                "Check CHURN_DATA_ROOT, its permissions, and that the store is running. Then run the step again; nothing was lost."
            ) from error


def _portable(fs: Any) -> Any:
    """A filesystem that works on other machines: it has the present credentials of its session, or of this process, and their address.

    A role of this machine is not sent, because other machines have their own.
    """
    options = dict(getattr(fs, "storage_options", {}))
    if "s3" not in fs.protocol or options.get("key"):
        return fs
    sync(fs.loop, fs.set_session)
    session = fs.session
    options.pop("session", None)
    credentials = sync(fs.loop, session.get_credentials)
    if credentials is not None and credentials.method not in _ROLES:
        frozen = sync(fs.loop, credentials.get_frozen_credentials)
        options |= {"key": frozen.access_key, "secret": frozen.secret_key, "token": frozen.token}
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = session.get_config_variable("region")
    client = options.pop("client_kwargs", None) or {}
    own = {"endpoint_url": options.pop("endpoint_url", None) or address, "region_name": region}
    return type(fs)(**options, client_kwargs={name: value for name, value in own.items() if value} | client)


_CHUNK = 4 << 20


def is_temporary(name: str) -> bool:
    """Return whether the name is that of a file still being written."""
    return name.startswith(".") or name.lower().endswith(TEMPORARY)


def _landed(entry: dict[str, Any]) -> Landed:
    modified = entry.get("mtime", entry.get("LastModified", 0.0))
    arrived = modified if isinstance(modified, int | float) else modified.timestamp()
    return Landed(posixpath.basename(entry["name"]), int(entry["size"]), float(arrived))
