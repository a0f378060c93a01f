"""Hashes that detect changes to files, arrays and texts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

_NOT_THE_MODELS = frozenset({"registered_model_meta"})  # written by a download, not by training


def folder_digest(folder: Path) -> str:
    """Return the sha256 over the name and the sha256 of every file below a folder, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _NOT_THE_MODELS):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}\x1f{content}\x1e".encode())
    return digest.hexdigest()


def array_digest(values: np.ndarray[Any, Any]) -> str:
    """Return the sha256 over type, shape and bytes of an array."""
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape} ".encode())
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """Return the sha256 over a value of plain JSON; the order of its keys does not matter."""
    return text_digest(json.dumps(value, sort_keys=True, separators=(",", ":")))


def text_digest(text: str) -> str:
    """Return the sha256 over a text."""
    return hashlib.sha256(text.encode()).hexdigest()
