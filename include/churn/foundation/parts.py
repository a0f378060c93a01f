"""Tables that are kept as folders of Parquet files, a part each: `accepted/3fa1.../part-0000.parquet` and so on.

Each part is replaced whole, and the manifest, which lists the rows and the hash of each part, is written after them. A table
that an earlier version kept as one file, such as `accepted/3fa1....parquet`, is read like a folder of one part.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from churn.errors import ChurnError
from churn.foundation.digests import json_digest
from churn.foundation.progress import report_progress
from churn.foundation.scratch import given, here
from churn.foundation.spread import Spread, by_threads
from churn.foundation.storage import Storage

DigestOf = Callable[[Storage, str], str]
"""Finds the sha256 of the bytes of a file in the data root."""
MANIFEST = "manifest.json"
_FORMAT = 1


class PartFault(ChurnError):  # noqa: N818 -- it says what is wrong
    """A part of a table is missing, or is not the one that was written."""


@dataclass(frozen=True)
class StoredPart:
    """A file of a table: its name in the folder, its rows, and the sha256 of its bytes.

    `content` is the hash of its rows, whatever file they are in, where the table needs it.
    """

    name: str
    rows: int
    sha256: str
    content: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The parts of a table, in order.

    `made_from` identifies what the rows were computed from, where the table needs it: rows may be the same and have another origin.
    `about` says more of the table to those who read it, as plain JSON.
    """

    parts: tuple[StoredPart, ...]
    made_from: str | None = None
    about: dict[str, Any] | None = None

    @property
    def rows(self) -> int:
        """The rows of all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def digest(self) -> str:
        """The sha256 of the list of parts: if it is the one in the ledger, the list has not been changed."""
        return json_digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON."""
        more = {"made_from": self.made_from, "about": self.about}
        said = {name: value for name, value in more.items() if value}
        return {"format": _FORMAT, **said, "parts": [asdict(part) for part in self.parts]}


@dataclass(frozen=True)
class WrittenPart:
    """A part in a scratch folder, to be kept: the file, its rows, and the hash of its bytes."""

    file: Path
    rows: int
    sha256: str
    content: str | None = None

    @classmethod
    def of(cls, file: Path, content: str | None = None) -> WrittenPart:
        """Describe a Parquet file that has been written to the scratch folder."""
        local = given(file)
        with local.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(file, pq.read_metadata(local).num_rows, digest, content)


def part_name(number: int) -> str:
    """The name of a part in its folder, from its number."""
    return f"part-{number:04d}.parquet"


def store_parts(
    storage: Storage,
    folder: str,
    parts: Sequence[WrittenPart],
    made_from: str | None = None,
    about: dict[str, Any] | None = None,
) -> Manifest:
    """Move parts from a scratch folder to a folder of the data root, and write its manifest after them.

    The same parts may be stored again, by this run or another one. Parts of an earlier, larger division are deleted, and so is
    the file of an earlier version.
    """
    stored = []
    for number, part in enumerate(parts):
        storage.move_in(part.file, f"{folder}/{part_name(number)}")
        stored.append(StoredPart(part_name(number), part.rows, part.sha256, part.content))
    manifest = Manifest(tuple(stored), made_from, about)
    with storage.writing(f"{folder}/{MANIFEST}") as stream:
        stream.write(json.dumps(manifest.to_json(), indent=1).encode())
    kept = {f"{folder}/{part.name}" for part in stored} | {f"{folder}/{MANIFEST}"}
    for name in set(storage.names(folder)) - kept:
        storage.remove(name)
    storage.remove(single_file(folder))
    return manifest


def single_file(folder: str) -> str:
    """The name under which an earlier version kept the table of a folder as one file."""
    return f"{folder}.parquet"


def has_table(storage: Storage, folder: str) -> bool:
    """Whether the table is there, as a folder with its manifest or as one file."""
    return storage.exists(f"{folder}/{MANIFEST}") or storage.exists(single_file(folder))


def read_manifest(storage: Storage, folder: str) -> Manifest | None:
    """The manifest of a folder; None if there is none, because an earlier version kept the table as one file.

    Raises:
        PartFault: it cannot be understood.
    """
    name = f"{folder}/{MANIFEST}"
    if not storage.exists(name):
        return None
    with storage.reading(name) as stream:
        text = stream.read()
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise _damaged(name, f"format {content['format']}")
        return Manifest(
            tuple(StoredPart(**part) for part in content["parts"]), content.get("made_from"), content.get("about")
        )
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(name, type(error).__name__) from error


def _damaged(name: str, what: str) -> PartFault:
    return PartFault(f"{name} is damaged or was written by a later version ({what}). {RESTORE}")


def part_names(storage: Storage, folder: str) -> list[str]:
    """The names of the Parquet files of a table, in order."""
    manifest = read_manifest(storage, folder)
    return [f"{folder}/{part.name}" for part in manifest.parts] if manifest else [single_file(folder)]


def check_part(storage: Storage, name: str, sha256: str | None, folder: Path, next_step: str) -> Path:
    """Check the bytes of a part, and return a local file with them: the part itself, or a copy if the data root is elsewhere.

    Args:
        storage: the data root.
        name: the file of the part.
        sha256: of its bytes; None if it was written before hashes were kept, so that nothing is checked.
        folder: a scratch folder for the copy.
        next_step: ends the error, and says how the part can be restored.

    Raises:
        PartFault: it is missing, or has been changed since it was written.
    """
    if not storage.exists(name):
        raise PartFault(f"{storage.url(name)} is missing. {next_step}")
    digest = hashlib.sha256()
    if storage.local:
        file = Path(storage.path(name))
        for chunk in storage.chunks(name) if sha256 else ():
            digest.update(chunk)
    else:
        file = here(folder) / f"{uuid.uuid4().hex}-{name.replace('/', '-')}"  # another attempt may copy the same part
        file.parent.mkdir(parents=True, exist_ok=True)  # this machine may not have written a scratch file yet
        with file.open("wb") as stream:
            for chunk in storage.chunks(name):
                digest.update(chunk)
                stream.write(chunk)
    if sha256 and digest.hexdigest() != sha256:
        raise PartFault(f"{storage.url(name)} has been changed since it was written. {next_step}")
    return file


def remove_table(storage: Storage, folder: str) -> None:
    """Delete a table, in whatever form it is kept; the manifest first, so that what is left of it is not read."""
    storage.remove(f"{folder}/{MANIFEST}")
    for name in storage.names(folder):
        storage.remove(name)
    storage.remove(single_file(folder))


def file_digest(storage: Storage, name: str) -> str:
    """The sha256 of the bytes of a file."""
    digest = hashlib.sha256()
    for chunk in storage.chunks(name):
        digest.update(chunk)
    return digest.hexdigest()


def digest_files(storage: Storage, names: Sequence[str], spread: Spread) -> DigestOf:
    """Read files over all cores or machines, for a look-up of their sha256; a file that is not among them is read when it is looked up."""
    digesting = spread.each(by_threads(partial(file_digest, storage)), names)
    known = dict(zip(names, report_progress(digesting, "Reading files", len(names), "files"), strict=True))

    def digest_of(storage: Storage, name: str) -> str:
        return known.get(name) or file_digest(storage, name)

    return digest_of


def find_part_faults(
    storage: Storage,
    folder: str,
    there: Iterable[str],
    hashes: bool,
    digest: str | None,
    digest_of: DigestOf = file_digest,
) -> list[str]:
    """Describe what is wrong with the parts of a folder, in a sentence each.

    Args:
        storage: the data root.
        folder: the folder, which has a manifest.
        there: the names of all files of its zone.
        hashes: also read every part, and check its hash.
        digest: of its manifest, as the ledger knows it; None if it does not.
        digest_of: finds the sha256 of a file.
    """
    try:
        manifest = read_manifest(storage, folder)
    except PartFault as fault:
        return [str(fault).removesuffix(RESTORE).strip()]
    here = {name for name in there if name.startswith(f"{folder}/")}
    if manifest is None:
        return [f"{folder}/{MANIFEST} is missing, so its parts are not read."] if here else []
    faults = []
    if digest and manifest.digest != digest:
        faults.append(f"{folder}/{MANIFEST} has been changed since it was written.")
    for part in manifest.parts:
        name = f"{folder}/{part.name}"
        if name not in here:
            faults.append(f"{name} is missing.")
        elif hashes and digest_of(storage, name) != part.sha256:
            faults.append(f"{name} has been changed since it was written.")
        else:
            faults += _count_faults(storage, name, part.rows)
    unknown = here - {f"{folder}/{part.name}" for part in manifest.parts} - {f"{folder}/{MANIFEST}"}
    return faults + [f"{name} is not in the manifest of its folder." for name in sorted(unknown)]


def _count_faults(storage: Storage, name: str, expected: int) -> list[str]:
    try:
        rows = storage.count_rows(name)
    except (ChurnError, OSError, ValueError):  # Arrow's errors are ValueErrors
        return [f"{name} cannot be read."]
    return [] if rows == expected else [f"{name} has {rows} rows, but its manifest lists {expected}."]


RESTORE = "`churn audit --hashes` names every damaged part. Restore it from a backup of the data root, then run the step again."
