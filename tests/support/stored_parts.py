"""Changes parts that are stored in a data root, with or without a manifest that says so."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from churn.foundation.parts import WrittenPart, read_manifest, store_parts
from churn.foundation.storage import Storage


def part_file(storage: Storage, folder: str, number: int = 0) -> Path:
    """The file of a part in a local data root."""
    manifest = read_manifest(storage, folder)
    assert manifest is not None
    return Path(storage.path(f"{folder}/{manifest.parts[number].name}"))


def change_part(storage: Storage, folder: str, change: Callable[[pa.Table], pa.Table], number: int = 0) -> None:
    """Change the rows of a part; its manifest stays as it was."""
    file = part_file(storage, folder, number)
    table = pq.read_table(file)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), file)


def change_part_and_manifest(
    storage: Storage, folder: str, change: Callable[[pa.Table], pa.Table], number: int = 0
) -> None:
    """Change the rows of a part, as if they had been written so."""
    change_part(storage, folder, change, number)
    manifest = read_manifest(storage, folder)
    assert manifest is not None
    with tempfile.TemporaryDirectory() as scratch:
        written = []
        for place, part in enumerate(manifest.parts):
            copy = Path(scratch) / part.name
            copy.write_bytes(part_file(storage, folder, place).read_bytes())
            written.append(WrittenPart.of(copy, part.content))
        store_parts(storage, folder, written, manifest.made_from)
