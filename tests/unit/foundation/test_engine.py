"""The columnar engine: its uses share nothing, whatever happened in the one before."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from churn.foundation import columnar
from churn.foundation.columnar.engine import EngineExhausted
from churn.foundation.columnar.instances import INSTANCES

BIG = "CREATE TABLE big AS SELECT range AS a, random() AS b, repeat('x', 200) AS c FROM range(600_000) ORDER BY b"
NAMES = "SELECT table_name FROM information_schema.tables"


def use_it() -> list[tuple[str, ...]]:
    """What an engine holds before its use, which leaves tables, a view and a setting behind."""
    with columnar.engine("100MB", threads=1) as connection:
        found: list[tuple[str, ...]] = connection.execute(NAMES).fetchall()
        connection.register("registered", pa.table({"a": [1]}))
        connection.execute(
            "CREATE TABLE t AS SELECT 1; CREATE TEMP TABLE u AS SELECT 2; CREATE VIEW v AS SELECT * FROM t"
        )
        connection.execute("SET TimeZone = 'Asia/Tokyo'; SET VARIABLE mine = 3")
        return found


def test_each_use_begins_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the instance is the one of the use before."""
    monkeypatch.setattr(INSTANCES, "_idle", type(INSTANCES._idle)(list))
    use_it()
    (waiting,) = INSTANCES._idle["100MB", 1]
    assert use_it() == []
    assert INSTANCES._idle["100MB", 1] == [waiting]
    with columnar.engine("100MB", threads=1) as connection:
        assert connection.execute(
            "SELECT getvariable('mine'), current_setting('TimeZone') <> 'Asia/Tokyo'"
        ).fetchall() == [(None, True)]


def test_nested_and_simultaneous_uses_are_apart() -> None:
    """Each has an instance of its own."""
    with columnar.engine("100MB") as outer, columnar.engine("100MB") as inner:
        outer.execute("CREATE TABLE t AS SELECT 1 AS a")
        assert inner.execute(NAMES).fetchall() == []
        with ThreadPoolExecutor(4) as pool:
            assert [found for found in pool.map(lambda _: use_it(), range(20)) if found] == []
        assert outer.execute("SELECT * FROM t").fetchall() == [(1,)]


def test_an_instance_that_spilled_leaves_nothing_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed, because it would hold deleted files; the next use spills to a folder of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(INSTANCES, "_idle", type(INSTANCES._idle)(list))
    for _ in range(2):
        with columnar.engine("90MB", threads=1) as connection:
            connection.execute(BIG)
            (folder,) = tmp_path.iterdir()
            assert list(folder.iterdir())
            assert connection.execute("SELECT count(*) FROM big").fetchall() == [(600_000,)]
        assert not list(tmp_path.iterdir())
        assert not INSTANCES._idle["90MB", 1]
        assert not [file for file in Path("/proc/self/fd").iterdir() if "duckdb_temp" in str(file.resolve())]


def test_after_too_little_memory_and_an_open_result_the_next_use_works() -> None:
    """A use may end in any way."""
    with (
        pytest.raises(EngineExhausted, match="CHURN_DUCKDB_MEMORY_LIMIT"),
        columnar.engine("20MB", threads=1) as failing,
    ):
        failing.execute("SELECT list(range) FROM range(100_000_000)").fetchall()
    with columnar.engine("20MB", threads=1) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM range(100_000)")
        reading = connection.sql("SELECT * FROM t").to_arrow_reader(10)
        reading.read_next_batch()
    with columnar.engine("20MB", threads=1) as connection:
        assert connection.execute(NAMES).fetchall() == []
    with pytest.raises(duckdb.CatalogException), columnar.engine("20MB", threads=1) as connection:
        connection.execute("SELECT * FROM t")
    assert use_it() == []


def test_a_forked_process_starts_its_own() -> None:
    """The threads of an instance remain with the parent, and a child that used or closed it would wait for them."""
    with columnar.engine("100MB", threads=2):
        pass
    child = os.fork()
    if not child:
        with columnar.engine("100MB", threads=2) as connection:
            rows = connection.execute("SELECT count(*) FROM range(1_000_000)").fetchall()
        os._exit(0 if rows == [(1_000_000,)] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
