"""Checks score lists and populations against the ledger: every customer that arrived was scored or quarantined."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator

from churn.foundation.ledger import Ledger
from churn.foundation.parts import MANIFEST, DigestOf, file_digest, find_part_faults, has_table, read_manifest
from churn.foundation.paths import (
    POPULATIONS,
    SCORES,
    division_note,
    list_rows,
    population_landing,
    population_original,
    population_quarantined,
)
from churn.foundation.records import Population, ScoreList
from churn.foundation.storage import Storage
from churn.intake.division import find_note_fault

_LONGEST_CHECK = 3600.0
"""Seconds that a task may need between the last file of a list and its publication: it scores a sample again."""
_RESTORE = "Restore it from a backup of the data root, or make the list again."


def find_list_faults(
    storage: Storage, ledger: Ledger, hashes: bool = False, digest_of: DigestOf = file_digest
) -> list[str]:
    """Describe what is wrong with the stored lists and populations, in a sentence each; empty if all is well.

    Lists and populations that maintenance has deleted are not reported, nor is a list that a task may be making.

    Args:
        storage: the data root.
        ledger: knows lists and populations.
        hashes: also read every file, and check its hash.
        digest_of: finds the sha256 of a file.
    """
    lists, populations = ledger.score_lists(), ledger.populations()
    there = set(storage.names(SCORES))
    faults = [fault for row in lists for fault in _list_faults(row, there, storage, hashes, digest_of)]
    faults += [
        f"{folder}: the ledger has no such list. It was not published; making it again completes it."
        for folder in _unpublished(lists, there, storage)
    ]
    files = {name for name in storage.names(POPULATIONS) if not name.startswith(f"{population_landing()}/")}
    faults += [fault for row in populations for fault in _population_faults(row, files, storage, hashes, digest_of)]
    expected = {
        name
        for row in populations
        for name in (population_original(row.population), division_note(population_original(row.population)))
    }
    folders = {population_quarantined(row.population) for row in populations}
    unknown = {name for name in files - expected if name.rpartition("/")[0] not in folders}
    return faults + [f"{name}: the ledger has no such population." for name in sorted(unknown)]


def _unpublished(lists: Iterable[ScoreList], there: set[str], storage: Storage) -> list[str]:
    """The folders of no list of the ledger, without those that a task may be making."""
    known = {list_rows(row.list_id) for row in lists}
    folders = {name.rpartition("/")[0] for name in there} - known
    return sorted(folder for folder in folders if not _may_be_in_progress(folder, there, storage))


def _may_be_in_progress(folder: str, there: set[str], storage: Storage) -> bool:
    if not re.fullmatch(list_rows("[0-9a-f]{64}"), folder):
        return False
    files = [storage.look(name) for name in there if name.startswith(f"{folder}/")]
    newest = max((file.arrived for file in files if file), default=time.time())
    return time.time() - newest < _LONGEST_CHECK


def _list_faults(row: ScoreList, there: set[str], storage: Storage, hashes: bool, digest_of: DigestOf) -> Iterator[str]:
    who, folder = f"List {row.list_id[:12]} ({row.campaign})", list_rows(row.list_id)
    if row.arrived_rows != row.rows + row.quarantined_rows:
        yield f"{who}: {row.arrived_rows} customers arrived, but {row.rows} were scored and {row.quarantined_rows} quarantined."
    parts = [name for name in there if name.startswith(f"{folder}/")]
    if not parts:
        return
    if f"{folder}/{MANIFEST}" not in there:
        yield f"{who}: {folder}/{MANIFEST} is missing, so its parts are not read. {_RESTORE}"
        return
    faults = find_part_faults(storage, folder, parts, hashes, row.manifest, digest_of)
    yield from (f"{who}: {fault} {_RESTORE}" for fault in faults)
    manifest = None if faults else read_manifest(storage, folder)
    if manifest and manifest.rows != row.rows:
        yield f"{who}: {folder} has {manifest.rows} rows, but {row.rows} are recorded."


def _population_faults(
    row: Population, files: set[str], storage: Storage, hashes: bool, digest_of: DigestOf
) -> Iterator[str]:
    who, original = f"Population {row.population[:12]} ({row.name})", population_original(row.population)
    if original in files:
        if hashes and digest_of(storage, original) != row.population:
            yield f"{who}: its original has been changed since it arrived."
        if division_note(original) in files and (fault := find_note_fault(storage, original)):
            yield f"{who}: {fault}"
    elif row.state == "arrived":
        yield f"{who}: its original is missing."
    folder = population_quarantined(row.population)
    aside = [name for name in files if name.startswith(f"{folder}/")]
    if not row.quarantined_rows or not aside:
        return
    faults = find_part_faults(storage, folder, aside, hashes, None, digest_of)
    yield from (f"{who}: {fault}" for fault in faults)
    manifest = read_manifest(storage, folder) if not faults and has_table(storage, folder) else None
    if manifest and manifest.rows != row.quarantined_rows:
        yield f"{who}: {folder} has {manifest.rows} rows, but {row.quarantined_rows} are recorded."
