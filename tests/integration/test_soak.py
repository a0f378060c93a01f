"""Eight nights of the soak's month in a row, with what happens in them; `make soak` takes all thirty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import pytest

from churn.release import probes
from churn.scoring import second_scoring
from support.basics import ROOT
from support.score_lists import in_this_process


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def soak_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_eight_nights_are_as_the_table_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: ExitStack) -> None:
    """Verdicts, alerts, production, lists and counts; then every decision is replayed, and audit and registry agree."""
    from soak.in_process import InProcess
    from soak.month import Result, run_month
    from soak.nights import read_month, short_month

    monkeypatch.setattr(probes, "CONTRACT_ROWS", 50)
    monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
    driver = InProcess(
        tmp_path / "soak", monkeypatch, opened, print, with_database=False, with_small_disk=False, with_processes=False
    )
    nights = short_month(read_month())
    result = Result()
    run_month(driver, nights, print, result)
    assert len(result.nights) == 8
    assert result.problems == []


def test_the_table_has_a_month_of_nights_in_order() -> None:
    """Thirty nights, one after the other, with a clock change and an ordinary night to compare the last one with."""
    from soak.month import EARLY
    from soak.nights import TIMEZONE, read_month

    month = read_month()
    assert [night.number for night in month] == list(range(1, 31))
    days = [night.day.toordinal() for night in month]
    assert days == list(range(days[0], days[0] + 30))
    offsets = {night.moment.astimezone(TIMEZONE).utcoffset() for night in month}
    assert len(offsets) == 2
    ordinary = {night.number for night in month if night.ordinary}
    assert {EARLY, 30} <= ordinary


def test_the_stack_takes_ten_nights_of_one_day() -> None:
    """Its clock stands, so no night of it needs days to pass, and all run with today's code."""
    from soak.nights import EARLIER_CODE, read_month, stack_month

    today = date(2026, 11, 30)
    nights = stack_month(read_month(), today)
    assert len(nights) == 10
    assert {night.day for night in nights} == {today}
    happens = {what for night in nights for what in night.happens}
    assert {
        "MLflow stopped",
        "ledger unreachable",
        "task killed",
        "worker killed",
        "alias moved",
        "maintenance",
    } == happens
    assert EARLIER_CODE not in happens


def test_a_row_that_cannot_be_read_is_named() -> None:
    """A table with a wrong cell ends before the first night."""
    from soak.nights import MONTH, MonthInvalid, read_month

    with pytest.raises(MonthInvalid, match="Row 3 of the table"):
        read_month(MONTH.read_text().replace("2027-03-10", "2027-03-32"))


def test_a_night_that_differs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell that differs is a problem of its own, and what grew too much is one too."""
    from soak.growth import Measured, broken, compare
    from soak.month import _differences
    from soak.nights import read_month

    first, second, *_ = (night.expected for night in read_month())
    assert _differences(first, first) == []
    assert len(_differences(first, second)) == 5

    def measured(rows: int, memory: int, handles: int) -> Measured:
        return Measured({"p": memory}, {"p": handles}, {"ledger.batches": rows}, {"accepted": 10**6 * rows}, {}, 1)

    early = (measured(9, 100, 20), measured(10, 100, 20))
    assert broken(compare(*early, measured(29, 104, 25), measured(30, 104, 25))) == []
    assert len(broken(compare(*early, measured(29, 106, 26), measured(39, 106, 26)))) == 4
