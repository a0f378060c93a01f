"""Delivers a list as files: its parts and manifest, one CSV if that is wished, and the marker `_SUCCESS` last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pyarrow as pa
import pyarrow.csv

from churn.foundation.parts import MANIFEST, part_names, read_manifest, remove_table
from churn.foundation.paths import list_rows
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage
from churn.scoring.published import read_rows

SUCCESS, CSV = "_SUCCESS", "list.csv"
_CHUNK = 4 << 20


def deliver_to_drop(
    storage: Storage, row: ScoreList, drop: Storage, as_csv: bool, find_newest: Callable[[], ScoreList]
) -> int:
    """Copy a list to `CAMPAIGN/LIST/`, and name it in `CAMPAIGN/current.json`; a list that is there is only named.

    Args:
        storage: the data root.
        row: the list.
        drop: the folder or bucket that lists are delivered to.
        as_csv: whether one CSV file is written besides.
        find_newest: finds the newest list of the campaign in the ledger.

    Returns:
        The number of rows.

    Raises:
        StorageError: a folder or bucket cannot be read or written.
        ChurnError: the rows of the list were deleted.
    """
    folder, source = f"{row.campaign}/{row.list_id}", list_rows(row.list_id)
    if not drop.exists(f"{folder}/{SUCCESS}"):
        manifest = read_manifest(storage, source)
        for name in part_names(storage, source):
            with storage.reading(name) as stream, drop.writing(f"{folder}/{name.rpartition('/')[2]}") as target:
                shutil.copyfileobj(stream, target, _CHUNK)
        if as_csv:
            with drop.writing(f"{folder}/{CSV}") as target:
                for number, piece in enumerate(read_rows(storage, row)):
                    options = pa.csv.WriteOptions(include_header=not number, quoting_style="needed")
                    pa.csv.write_csv(piece, target, options)
        with drop.writing(f"{folder}/{MANIFEST}") as target:
            target.write(json.dumps(manifest.to_json() if manifest else {}, indent=1).encode())
        with drop.writing(f"{folder}/{SUCCESS}"):
            pass
    _name_current(drop, row, find_newest)
    return row.rows


def remove_from_drop(campaign: str, list_id: str, drop: Storage) -> None:
    """Delete the files of a list, the marker first; a list that is not there is no error.

    Raises:
        StorageError: the folder or bucket is unavailable.
    """
    drop.remove(f"{campaign}/{list_id}/{SUCCESS}")
    remove_table(drop, f"{campaign}/{list_id}")


def _name_current(drop: Storage, row: ScoreList, find_newest: Callable[[], ScoreList]) -> None:
    """Name a list as the current one. If a newer one was delivered meanwhile, that one is named again."""
    while True:
        about = {"list_id": row.list_id, "rows": row.rows, "version": row.version}
        with drop.writing(f"{row.campaign}/current.json") as target:
            target.write(json.dumps(about, indent=1).encode())
        newest = find_newest()
        if newest.list_id == row.list_id or not drop.exists(f"{row.campaign}/{newest.list_id}/{SUCCESS}"):
            return
        row = newest
