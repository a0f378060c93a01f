"""Rows are judged part by part: in threads or processes, with repeats in any parts, and through faults, with the same result."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import CONFLICT, DUPLICATE, Contract
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.parts import read_manifest
from churn.foundation.paths import accepted, original, quarantined
from churn.foundation.spread import Here, WorkerKilled
from churn.foundation.storage import Storage, StorageError
from churn.intake import judging, repeats
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from churn.intake.divided_file import divide_copy
from churn.intake.judged_rows import Judged
from churn.intake.reading import open_file
from support.basics import small_file
from support.divisions import limits
from support.judged_files import judge, table_rows

TWELFTH = 2300
"""Bytes of a twelfth of a file of 400 rows."""


def judged(text: str, spread: Here, scratch: Path, size: int = TWELFTH, contract: Contract = BANK_CHURN) -> Judged:
    scratch.mkdir()
    copy = scratch / "copy"
    copy.write_text(text)
    with copy.open("rb") as stream:
        file = open_file(stream)
        file.check(contract)
        divided = divide_copy(copy, file, scratch, size)
    return judging.judge_rows(spread, divided, "ab" * 32, contract, scratch)


def rows(files: list[Path]) -> pa.Table:
    return pa.concat_tables(map(pq.read_table, files))


def test_processes_and_threads_judge_alike(tmp_path: Path) -> None:
    """The same files, byte for byte: one core, threads and processes."""
    text = small_file(400, faults=30)
    one = judged(text, Here(1, "500MB"), tmp_path / "one")
    threads = judged(text, Here(2, "500MB", few=99), tmp_path / "threads")
    processes = judged(text, Here(2, "500MB", few=2), tmp_path / "processes")
    assert len(one.parts) >= 10
    for other in (threads, processes):
        for ours, theirs in zip(one.parts, other.parts, strict=True):
            assert (ours.good.sha256, ours.aside.sha256) == (theirs.good.sha256, theirs.aside.sha256)
            assert (ours.arrived, ours.unlabelled, ours.events) == (theirs.arrived, theirs.unlabelled, theirs.events)


@pytest.mark.parametrize("at_once", [4_000_000, 50])
def test_repeats_are_found_in_whatever_parts_they_are(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A customer in the first and the last part: an equal row is a duplicate, a different one conflicts; keys in one range or in many."""
    for limit in ("_KEYS_AT_ONCE", "_ROWS_AT_ONCE"):
        monkeypatch.setattr(repeats, limit, at_once)
    header, *lines = small_file(200).splitlines()
    changed = lines[1].split(",")
    changed[BANK_CHURN.names.index("Age")] = "44" if changed[BANK_CHURN.names.index("Age")] != "44" else "45"
    text = "\n".join([header, *lines, lines[0], ",".join(changed), lines[7], lines[7]])
    result = judged(text, Here(2, "500MB"), tmp_path / "scratch", 1000)
    assert len(result.parts) > 8
    aside = {row["_line"]: row["_failed"] for row in rows(result.aside).to_pylist()}
    assert aside == {202: [DUPLICATE], 3: [CONFLICT], 203: [CONFLICT], 204: [DUPLICATE], 205: [DUPLICATE]}
    assert sorted(rows(result.good)["_line"].to_pylist()) == [n for n in range(2, 202) if n != 3]
    assert result.events == sum(rows(result.good)["Exited"].to_pylist())
    assert [row["_raw"] for row in rows(result.aside).to_pylist() if row["_line"] == 203] == [",".join(changed)]


def test_good_rows_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether customers appear more than once or not: such rows are found before."""
    honest, opened = judging.good_writer, []
    monkeypatch.setattr(judging, "good_writer", lambda file, contract: opened.append(file) or honest(file, contract))
    header, *lines = small_file(200).splitlines()
    result = judged("\n".join([header, *lines, *lines[:50]]), Here(2, "500MB"), tmp_path / "scratch", 1000)
    assert result.accepted == 200
    assert sorted(file.name.partition("-")[2] for file in opened) == [
        file.name for file in result.good
    ]  # beside its place
    assert not [*(tmp_path / "scratch").glob("typed-*")]


def land(storage: Storage, text: str) -> None:
    with storage.writing("landing/day.csv") as stream:
        stream.write(text.encode())


def take(storage: Storage, ledger: Ledger, few: int = 99) -> str:
    """Accept the batch that waits, in a dozen parts."""
    (waiting,) = collect_arrivals(storage, ledger, part_size=TWELFTH).batches
    spread = Here(2, "500MB", few)
    accept_batch(
        waiting.batch, "night", storage, ledger, BANK_CHURN, replace(limits(), spread=spread, part_size=TWELFTH)
    )
    return waiting.batch


def state(storage: Storage, batch: str) -> list[Any]:
    return [read_manifest(storage, zone(batch)) for zone in (accepted, quarantined)]


def test_a_disk_that_is_full_at_a_part_loses_nothing(
    storage: Storage, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seventh part of twelve cannot be stored: one clear error, the batch waits, and the retry gives the same files."""
    land(storage, small_file(400, faults=7))
    moved = Storage.move_in
    fail = {7}

    def full(self: Storage, file: Path, name: str) -> None:
        if name.endswith("part-0006.parquet") and fail:
            fail.clear()
            with self._explained("write", name):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        moved(self, file, name)

    monkeypatch.setattr(Storage, "move_in", full)
    with pytest.raises(StorageError, match="is full"):
        take(storage, ledger)
    (waiting,) = ledger.batches()
    assert waiting.state == "arrived"
    assert read_manifest(storage, accepted(waiting.batch)) is None
    batch = take(storage, ledger)
    assert find_losses(storage, ledger, hashes=True) == []
    assert table_rows(storage, accepted(batch)).num_rows == 393


def test_a_killed_worker_loses_nothing(storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a worker process: the error names the settings, the batch waits, and the retry accepts it."""
    from support.spread_work import die_while_judging

    land(storage, small_file(400, faults=7))
    with monkeypatch.context() as killed, pytest.raises(WorkerKilled, match="CHURN_CORES"):
        killed.setattr(judging, "_judge_part", die_while_judging)
        take(storage, ledger, few=2)
    assert ledger.hashes("arrived") != []
    batch = take(storage, ledger, few=2)
    assert find_losses(storage, ledger, hashes=True) == []
    assert storage.names(f"accepted/{batch}") != []


@pytest.mark.parametrize("rejects", [False, True])
def test_a_run_that_was_overtaken_changes_nothing(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rejects: bool
) -> None:
    """Another run with other limits judged the same file meanwhile: its rows and its verdict stay."""
    from churn.intake import acceptance

    land(storage, small_file(400, faults=30))
    (waiting,) = collect_arrivals(storage, ledger, part_size=TWELFTH).batches
    strict, lenient = limits(0.0), limits(0.5)
    honest = acceptance.judge_rows

    def overtaken(*arguments: Any) -> Judged:
        result = honest(*arguments)
        with monkeypatch.context() as other:
            other.setattr(acceptance, "judge_rows", honest)
            accept_batch(waiting.batch, "first", storage, ledger, BANK_CHURN, lenient)
        return result

    monkeypatch.setattr(acceptance, "judge_rows", overtaken)
    done = accept_batch(waiting.batch, "second", storage, ledger, BANK_CHURN, strict if rejects else lenient)
    assert (done.night, done.state) == ("first", "accepted")
    assert find_losses(storage, ledger, hashes=True) == []


def test_a_part_that_is_lost_before_it_is_judged_is_a_clear_error(storage: Storage, ledger: Ledger) -> None:
    """An original that was truncated after it was divided does not become a smaller batch."""
    land(storage, small_file(400))
    (waiting,) = collect_arrivals(storage, ledger, part_size=TWELFTH).batches
    with storage.reading(original(waiting.batch)) as stream:
        half = stream.read()[:9000]
    with storage.writing(original(waiting.batch)) as stream:
        stream.write(half)
    with pytest.raises(ChurnError, match="changed since it arrived"):
        take(storage, ledger)
    assert ledger.hashes("arrived") == [waiting.batch]


def test_a_difference_between_whole_and_parts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test that judges a file also judges it in tiny parts; if repeats were only found within a part, it would fail."""
    header, *lines = small_file(60).splitlines()
    text = "\n".join([header, *lines, lines[0]])
    assert judge(text).counts.accepted == 60
    honest = repeats._repeated_keys
    monkeypatch.setattr(repeats, "_repeated_keys", lambda files, *more: honest(files[:1], *more))
    with pytest.raises(AssertionError):
        judge(text)
