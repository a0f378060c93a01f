"""The audit finds every damage to a list or a population, and names the file."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import SCORES, list_rows, population_original
from churn.foundation.storage import Storage
from churn.scoring.audit import find_list_faults
from support.score_lists import published

NAME = "ab" * 32


@pytest.fixture
def listed(storage: Storage, ledger: Ledger, tmp_path: Path) -> str:
    """A published list of two parts; returns the name of its second part."""
    parts = []
    for number in range(2):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"a": [number]}), file)
        parts.append(WrittenPart.of(file))
    manifest = store_parts(storage, list_rows(NAME), parts)
    row = published(NAME, "spring", 1, 0, datetime.now(UTC))
    ledger.publish_list(replace(row, rows=2, arrived_rows=2, manifest=manifest.digest))
    assert find_list_faults(storage, ledger, hashes=True) == []
    return f"{list_rows(NAME)}/part-0001.parquet"


def overwrite(storage: Storage, name: str, content: bytes) -> None:
    with storage.writing(name) as stream:
        stream.write(content)


def test_a_lost_part_is_named(storage: Storage, ledger: Ledger, listed: str) -> None:
    storage.remove(listed)
    (fault,) = find_list_faults(storage, ledger)
    assert f"{listed} is missing" in fault
    assert "make the list again" in fault


def test_a_changed_part_is_named(storage: Storage, ledger: Ledger, listed: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [7]}), tmp_path / "other.parquet")
    storage.put(tmp_path / "other.parquet", listed)
    assert find_list_faults(storage, ledger) == []  # as many rows: only the hash tells
    (fault,) = find_list_faults(storage, ledger, hashes=True)
    assert f"{listed} has been changed" in fault


def test_a_lost_or_changed_manifest_is_named(storage: Storage, ledger: Ledger, listed: str) -> None:
    del listed
    with storage.reading(f"{list_rows(NAME)}/manifest.json") as stream:
        text = stream.read()
    overwrite(storage, f"{list_rows(NAME)}/manifest.json", text.replace(b'"rows": 1', b'"rows": 2', 1))
    assert any("manifest.json has been changed" in fault for fault in find_list_faults(storage, ledger))
    storage.remove(f"{list_rows(NAME)}/manifest.json")
    (fault,) = find_list_faults(storage, ledger)
    assert "manifest.json is missing" in fault


def test_rows_of_no_list_are_named(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [7]}), tmp_path / "other.parquet")
    storage.put(tmp_path / "other.parquet", "scores/unknown/part-0000.parquet")
    overwrite(storage, population_original("cd" * 32), b"x")
    faults = find_list_faults(storage, ledger)
    assert any("scores/unknown: the ledger has no such list" in fault for fault in faults)
    assert any("the ledger has no such population" in fault for fault in faults)


def test_a_list_that_a_task_may_be_making_is_no_fault(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """Its files are there for a while before it is published; nobody makes a list for an hour after its last file."""
    pq.write_table(pa.table({"a": [7]}), tmp_path / "part.parquet")
    manifest = store_parts(storage, list_rows(NAME), [WrittenPart.of(tmp_path / "part.parquet")])
    assert manifest.rows == 1
    assert find_list_faults(storage, ledger, hashes=True) == []
    for name in storage.names(SCORES):
        os.utime(storage.path(name), (time.time() - 3700,) * 2)
    (fault,) = find_list_faults(storage, ledger)
    assert f"{list_rows(NAME)}: the ledger has no such list" in fault


def test_a_population_that_waits_needs_its_original(storage: Storage, ledger: Ledger) -> None:
    ledger.add_population("ef" * 32, "customers.csv", 1, datetime.now(UTC))
    (fault,) = find_list_faults(storage, ledger)
    assert "its original is missing" in fault
    overwrite(storage, population_original("ef" * 32), b"other bytes")
    assert find_list_faults(storage, ledger) == []
    (fault,) = find_list_faults(storage, ledger, hashes=True)
    assert "has been changed since it arrived" in fault


def test_files_that_have_just_landed_are_no_fault(storage: Storage, ledger: Ledger) -> None:
    overwrite(storage, "populations/landing/new.csv", b"x")
    assert find_list_faults(storage, ledger, hashes=True) == []
