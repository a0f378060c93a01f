"""Judges the bytes of a file without workspace or ledger: as a whole, and in parts on two cores, which must give the same."""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.foundation import columnar
from churn.foundation.parts import part_names
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.divided_file import divide_copy
from churn.intake.division import PART_SIZE
from churn.intake.judged_rows import Judged
from churn.intake.judging import judge_rows
from churn.intake.reading import open_file
from support.divisions import CHOSEN, MOST_RECORDS, TINY_PART


@dataclass(frozen=True)
class JudgedRows:
    """The judged rows of a file: the good rows typed, the quarantined rows with their line, text and rules."""

    good: pa.Table
    quarantined: list[dict[str, Any]]
    counts: Judged


def table_rows(storage: Storage, folder: str) -> pa.Table:
    """Read the rows of a table that is kept in parts."""
    return pa.concat_tables(storage.read_table(name) for name in part_names(storage, folder))


def judge(data: str | bytes, contract: Contract = BANK_CHURN) -> JudgedRows:
    """Read and judge the bytes of a file, without workspace or ledger: as a whole, and in parts, which must give the same."""
    content = data if isinstance(data, bytes) else data.encode()
    whole = _judge(content, contract, PART_SIZE, cores=1)
    tiny = CHOSEN.part_size == TINY_PART or len(content) <= FEW_PARTS * TINY_PART
    shortest = min(map(len, content.splitlines(keepends=True)), default=1)
    size = min(TINY_PART, MOST_RECORDS * shortest) if tiny else len(content) // FEW_PARTS
    divided = _judge(content, contract, size, cores=2)
    plain = b'"' not in content and not content.startswith(
        b"\x1f\x8b"
    )  # of a compressed file, the bytes say nothing of its lines
    if tiny and plain:  # behind a quote that is not closed, no record is known to begin
        assert max(part.arrived for part in divided.counts.parts) <= MOST_RECORDS
    assert divided.good.equals(whole.good)
    assert divided.quarantined == whole.quarantined
    for count in ("arrived", "accepted", "set_aside", "unlabelled", "events"):
        assert getattr(divided.counts, count) == getattr(whole.counts, count)
    return whole


def judge_whole(data: str | bytes, contract: Contract = BANK_CHURN) -> JudgedRows:
    """Read and judge the bytes of a file as a whole, for tests of what is in the file and not of how it is read."""
    return _judge(data if isinstance(data, bytes) else data.encode(), contract, PART_SIZE, cores=1)


FEW_PARTS = 20
"""A longer file is judged in this number of parts, a shorter one in parts of at most three records. With tiny parts chosen, every file is."""


@cache
def shared_engine() -> duckdb.DuckDBPyConnection:
    """One engine for all files of this process: to start one takes longer than to judge a small part."""
    opened = ExitStack()
    opened.callback(shared_engine.cache_clear)
    atexit.register(opened.close)
    return opened.enter_context(columnar.engine("500MB"))


def _judge(content: bytes, contract: Contract, part_size: int, cores: int) -> JudgedRows:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        copy.write_bytes(content)
        with copy.open("rb") as stream:
            file = open_file(stream)
            file.check(contract)
            divided = divide_copy(copy, file, Path(scratch), part_size)
        opened = shared_engine()
        with pytest.MonkeyPatch.context() as shared:
            shared.setattr(columnar, "engine", lambda *_, **__: nullcontext(opened.cursor()))
            spread = Here(cores, "500MB", few=10_000)  # threads, which share the engine
            counts = judge_rows(spread, divided, "ab" * 32, contract.of_file(file.header), Path(scratch))
        good, aside = (pa.concat_tables(pq.read_table(file) for file in files) for files in (counts.good, counts.aside))
        return JudgedRows(good, aside.to_pylist(), counts)
