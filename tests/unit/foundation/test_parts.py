"""Tables are folders of parts; the manifest comes last, and what an earlier version kept in one file is still read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.foundation.parts import (
    PartFault,
    WrittenPart,
    find_part_faults,
    has_table,
    part_names,
    read_manifest,
    remove_table,
    single_file,
    store_parts,
)
from churn.foundation.storage import Storage

FOLDER = "accepted/abc"


def written(folder: Path, *sizes: int) -> list[WrittenPart]:
    parts = []
    for number, rows in enumerate(sizes):
        file = folder / f"{number}-{rows}.parquet"
        pq.write_table(pa.table({"a": list(range(rows))}), file)
        parts.append(WrittenPart.of(file))
    return parts


def test_a_table_is_stored_in_parts_with_a_manifest(storage: Storage, tmp_path: Path) -> None:
    manifest = store_parts(storage, FOLDER, written(tmp_path, 3, 0, 5))
    assert manifest.rows == 8
    assert read_manifest(storage, FOLDER) == manifest
    assert part_names(storage, FOLDER) == [f"{FOLDER}/part-000{number}.parquet" for number in range(3)]
    assert find_part_faults(storage, FOLDER, storage.names("accepted"), True, manifest.digest) == []
    assert has_table(storage, FOLDER)


def test_a_table_that_is_stored_again_replaces_a_larger_one_and_a_single_file(storage: Storage, tmp_path: Path) -> None:
    """Nothing of the earlier one is left."""
    pq.write_table(pa.table({"a": [1]}), tmp_path / "single.parquet")
    storage.put(tmp_path / "single.parquet", single_file(FOLDER))
    assert part_names(storage, FOLDER) == [single_file(FOLDER)]
    assert has_table(storage, FOLDER)
    store_parts(storage, FOLDER, written(tmp_path, 1, 2, 3))
    store_parts(storage, FOLDER, written(tmp_path, 4))
    assert storage.names("accepted") == [f"{FOLDER}/manifest.json", f"{FOLDER}/part-0000.parquet"]
    remove_table(storage, FOLDER)
    assert storage.names("accepted") == []
    assert not has_table(storage, FOLDER)


def test_without_its_manifest_a_folder_is_not_a_table(storage: Storage, tmp_path: Path) -> None:
    """It was not completed, and the audit names what is missing; of a table that was deleted there is nothing to name."""
    assert find_part_faults(storage, FOLDER, [], True, None) == []
    store_parts(storage, FOLDER, written(tmp_path, 1))
    storage.remove(f"{FOLDER}/manifest.json")
    assert not has_table(storage, FOLDER)
    assert read_manifest(storage, FOLDER) is None
    faults = find_part_faults(storage, FOLDER, storage.names("accepted"), True, None)
    assert faults == [f"{FOLDER}/manifest.json is missing, so its parts are not read."]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "parts": []}', '{"format": 1, "parts": [{"name": "x"}]}'])
def test_a_damaged_manifest_is_named(storage: Storage, text: str) -> None:
    with storage.writing(f"{FOLDER}/manifest.json") as stream:
        stream.write(text.encode())
    with pytest.raises(PartFault, match="is damaged or was written by a later version"):
        read_manifest(storage, FOLDER)
