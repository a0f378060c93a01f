"""The data root: landing, accepted, quarantine and the rest, on a folder or on S3, by the same code."""

from __future__ import annotations

import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError

from churn.errors import Outage

LANDING = "landing"
ORIGINALS = "originals"
ACCEPTED = "accepted"
QUARANTINE = "quarantine"
SNAPSHOTS = "snapshots"
DOCS = "docs"
UNFINISHED = ".part"


class StorageError(Outage):
    """The data root cannot be read or written."""


@dataclass(frozen=True)
class Landed:
    """One file in landing. `arrived` is its modification time, seconds since the epoch."""

    name: str
    size: int
    arrived: float


@dataclass(frozen=True)
class Storage:
    """Files below one root, named by relative paths such as `accepted/3fa1.parquet`."""

    fs: Any
    root: str

    @classmethod
    def open(cls, url: str, fs: Any = None) -> Storage:
        """Open a data root.

        Args:
            url: folder or fsspec URL, such as `s3://bucket/prefix`.
            fs: filesystem with credentials of its own, for example from an Airflow connection;
                by default fsspec makes one from the environment.
        """
        try:
            found, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StorageError(
                f"{url} is no place to keep data: {error}. Set CHURN_DATA_ROOT to a folder or s3://..."
            ) from error
        return cls(fs or found, root.rstrip("/"))

    def path(self, name: str) -> str:
        """The path of `name` as the filesystem knows it."""
        return posixpath.join(self.root, name)

    def url(self, name: str) -> str:
        """The URL of `name`, for messages and links."""
        return str(self.fs.unstrip_protocol(self.path(name)))

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        with self._explained("read", name):
            return bool(self.fs.exists(self.path(name)))

    def landed(self) -> list[Landed]:
        """The finished files in landing, in the order of arrival, then name."""
        with self._explained("list", LANDING):
            self.fs.invalidate_cache()
            self.fs.makedirs(self.path(LANDING), exist_ok=True)  # a root that is not there is no empty landing
            if not self.fs.exists(self.path(LANDING)):
                return []
            entries = self.fs.ls(self.path(LANDING), detail=True)
        files = [_landed(entry) for entry in entries if entry["type"] == "file" and not entry["name"].endswith("/")]
        finished = [file for file in files if not file.name.startswith(".") and not file.name.endswith(UNFINISHED)]
        return sorted(finished, key=lambda file: (file.arrived, file.name))

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """The file's bytes, streamed."""
        with self._explained("read", name), self.fs.open(self.path(name), "rb") as stream:
            yield stream

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file that appears under its name complete or not at all."""
        target = self.path(name)
        unfinished = f"{target}.{uuid.uuid4().hex[:8]}{UNFINISHED}"
        with self._explained("write", name):
            self.fs.makedirs(posixpath.dirname(target), exist_ok=True)
            try:
                with self.fs.open(unfinished, "wb") as stream:
                    yield stream
                self.fs.mv(unfinished, target)
            except BaseException:
                if self.fs.exists(unfinished):
                    self.fs.rm(unfinished)
                raise

    def copy(self, source: str, target: str) -> None:
        """Copy a file; the target appears complete or not at all."""
        with self.reading(source) as there, self.writing(target) as here:
            shutil.copyfileobj(there, here)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._explained("write", name):
            if self.fs.exists(self.path(name)):
                self.fs.rm(self.path(name))

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a table as Parquet."""
        with self.writing(name) as stream:
            pq.write_table(table, stream, compression="zstd")

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file."""
        with self.reading(name) as stream:
            return pq.read_table(stream, columns=columns)

    def upload(self, folder: Path, name: str, suffixes: Iterable[str]) -> None:
        """Copy the files of a local folder that have one of the suffixes below `name`."""
        for file in sorted(folder.rglob("*")):
            if file.suffix in suffixes:
                with self.writing(posixpath.join(name, file.relative_to(folder).as_posix())) as stream:
                    stream.write(file.read_bytes())

    @contextmanager
    def _explained(self, act: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, BotoCoreError) as error:  # S3 not reached is no OSError
            raise StorageError(
                f"Cannot {act} {self.url(name)}: {getattr(error, 'strerror', None) or type(error).__name__}. "
                "Check CHURN_DATA_ROOT, its permissions and that the store is up; nothing was lost, run the step again."
            ) from error


def _landed(entry: dict[str, Any]) -> Landed:
    modified = entry.get("mtime", entry.get("LastModified", 0.0))
    arrived = modified if isinstance(modified, int | float) else modified.timestamp()
    return Landed(posixpath.basename(entry["name"]), int(entry["size"]), float(arrived))
