"""Work spreads over cores with the same results in the same order, and a killed worker is one clear error."""

from __future__ import annotations

import os

import pytest

from churn.foundation.spread import Here, Spread, WorkerKilled
from support import spread_work

CORES = [1, 2]


@pytest.mark.parametrize("cores", CORES)
def test_results_are_in_the_order_of_the_parts(cores: int) -> None:
    spread: Spread = Here(cores, "500MB")
    assert list(spread.each(spread_work.square, range(20))) == [n * n for n in range(20)]
    assert list(spread.each(spread_work.square, [])) == []


def test_marked_work_stays_in_this_process_and_other_work_leaves_it() -> None:
    """Work that releases Python's lock runs in threads; few parts, or one core, need no processes either."""
    two = Here(2, "500MB")
    assert set(two.each(spread_work.process_of, range(6))) == {os.getpid()}
    assert os.getpid() not in set(two.each(spread_work.process_id, range(12)))
    assert set(two.each(spread_work.process_id, range(6))) == {os.getpid()}
    assert set(Here(1, "500MB").each(spread_work.process_id, range(12))) == {os.getpid()}


@pytest.mark.parametrize("cores", CORES)
def test_a_fault_of_the_work_reaches_the_caller(cores: int) -> None:
    with pytest.raises(ValueError, match="part 7 fails"):
        list(Here(cores, "500MB").each(spread_work.fail_at_seven, range(12)))


def test_a_killed_worker_is_a_clear_error_with_the_settings() -> None:
    """It does not hang, and the next work finds living workers."""
    two = Here(2, "500MB")
    with pytest.raises(
        WorkerKilled,
        match=r"after \d of 12 parts were done.*CHURN_CORES \(now 2\) or CHURN_DUCKDB_MEMORY_LIMIT \(now 500MB\)",
    ):
        list(two.each(spread_work.die_at_three, range(12)))
    assert list(two.each(spread_work.square, range(5))) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("make", [spread_work.numbers, spread_work.numbers_by_threads])
@pytest.mark.parametrize("cores", CORES)
def test_exchanged_rows_meet_at_their_receiver_in_the_order_of_the_parts(cores: int, make) -> None:  # type: ignore[no-untyped-def]
    received = list(Here(cores, "500MB", few=2).exchange(make, range(4), spread_work.NUMBERS, 4, spread_work.summed))
    assert received == [
        (0, 134, [0, 3, 6, 9, 12]),
        (1, 133, [1, 4, 7, 10, 13]),
        (2, 133, [2, 5, 8, 11, 14]),
        (3, 0, []),
    ]


def test_the_memory_of_the_engine_is_divided_among_the_workers() -> None:
    """A worker has at least what DuckDB needs."""
    assert Here(2, "1GB").engine_memory == "500000KB"
    assert Here(64, "1GB").engine_memory == "100000KB"
    assert Here.of(3, "1GB").cores == 3
    assert Here.of(None, "1GB").cores >= 1
