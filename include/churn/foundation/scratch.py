"""Scratch files: what the steps of one task hand on to one another, on whatever machines they run.

A scratch folder is a folder of this machine. Workers on other machines read and write its files through the data root, if that
is not a folder that all machines see: `given` fetches a file that was written elsewhere, and `writing` passes a file on. A file
appears complete or not at all, so two attempts at the same work may write it at once.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from churn.foundation.storage import Storage


@dataclass(frozen=True)
class SharedFolder:
    """A scratch folder whose files pass through the data root: their place there, and the folder of this machine with copies of them."""

    storage: Storage
    zone: str
    here: Path


_shared: dict[Path, SharedFolder] = {}


@contextmanager
def share_folder(folder: Path, storage: Storage, zone: str) -> Iterator[None]:
    """Pass the files of a scratch folder on through the data root, and delete them there at the end."""
    _shared[folder] = SharedFolder(storage, zone, folder)
    try:
        yield
    finally:
        del _shared[folder]
        storage.remove_folder(zone)


def shared_folders() -> dict[Path, SharedFolder]:
    """The scratch folders that are shared at present, for workers on other machines."""
    return dict(_shared)


@contextmanager
def joining(folders: Mapping[Path, SharedFolder], root: Path) -> Iterator[None]:
    """Let this worker read and write the scratch folders of another process, with its copies below a folder of its own."""
    before = dict(_shared)
    _shared.update({folder: replace(shared, here=root / folder.name) for folder, shared in folders.items()})
    try:
        yield
    finally:
        _shared.clear()
        _shared.update(before)


def given(file: Path) -> Path:
    """A local copy of a scratch file: the file itself, or one that is fetched if another machine wrote it.

    Raises:
        StorageError: it cannot be fetched.
    """
    shared = _shared.get(file.parent)
    if shared is None:
        return file
    local = shared.here / file.name
    if not local.exists():
        name = f"{shared.zone}/{file.name}"
        with shared.storage.reading(name) as source, _private(local) as copy, copy.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    return local


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Write a scratch file under a name of its own, and give it its name when it is complete; yields the path to write to."""
    shared = _shared.get(file.parent)
    with _private(shared.here / file.name if shared else file) as own:
        yield own
        if shared:
            shared.storage.send(own, f"{shared.zone}/{file.name}")


def save_array(file: Path, values: np.ndarray) -> None:
    """Write a one-dimensional array so that `numpy.load` reads it. `numpy.save` reports a full disk as an error without a number.

    Raises:
        OSError: it cannot be written.
    """
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(values))
        stream.write(values.tobytes())


def here(folder: Path) -> Path:
    """The folder of this machine that stands for a scratch folder, for files that no other worker needs."""
    shared = _shared.get(folder)
    return shared.here if shared else folder


def discard(file: Path) -> None:
    """Delete a scratch file that no step needs any more."""
    shared = _shared.get(file.parent)
    (shared.here / file.name if shared else file).unlink(missing_ok=True)
    if shared:
        shared.storage.remove(f"{shared.zone}/{file.name}")


def place_of(file: Path) -> tuple[Storage, str] | None:
    """Where the data root has a scratch file; None if the file is only on this machine, or in a folder that all machines see."""
    shared = _shared.get(file.parent)
    return (shared.storage, f"{shared.zone}/{file.name}") if shared else None


_CHUNK = 4 << 20


@contextmanager
def _private(file: Path) -> Iterator[Path]:
    """A path beside a file that nobody else uses; at the end it is renamed to the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    own = file.with_name(f".{uuid.uuid4().hex}-{file.name}")
    try:
        yield own
        own.replace(file)
    finally:
        own.unlink(missing_ok=True)
