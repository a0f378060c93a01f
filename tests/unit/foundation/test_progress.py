"""Long steps say how far they are; short ones say nothing."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from churn.foundation import progress
from churn.foundation.progress import bars_on, describe_duration, report_progress


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "_now", clock)
    return clock


def parts(clock: Clock, count: int, seconds: float) -> Iterator[int]:
    """Parts that take some seconds each."""
    for number in range(count):
        clock.now += seconds
        yield number


def thousand(_: int) -> int:
    return 1000


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == progress.__name__]


def test_a_long_step_logs_every_ten_seconds_and_at_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The messages have the parts, the rate, and the time left."""
    caplog.set_level(logging.INFO)
    results = report_progress(parts(clock, 7, 4.0), "Judging rows", 7, rows=thousand)
    assert list(results) == [0, 1, 2, 3, 4, 5, 6]
    assert messages(caplog) == [
        "Judging rows: 3 of 7 parts done, 250 rows per second, about 16 s left",
        "Judging rows: 6 of 7 parts done, 250 rows per second, about 4 s left",
        "Judging rows: 7 parts in 28 s, 250 rows per second",
    ]


def test_without_rows_the_rate_is_left_out(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The unit is the one of the step."""
    caplog.set_level(logging.INFO)
    list(report_progress(parts(clock, 2, 70.0), "Scoring", 2, unit="buckets"))
    assert messages(caplog) == [
        "Scoring: 1 of 2 buckets done, about 1 min 10 s left",
        "Scoring: 2 buckets in 2 min 20 s",
    ]


def test_the_start_of_workers_is_not_taken_for_the_rate(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The first part comes after a minute, in which a session was opened; the others take 5 s each."""
    caplog.set_level(logging.INFO)

    def results() -> Iterator[int]:
        clock.now += 55.0
        yield from parts(clock, 6, 5.0)

    list(report_progress(results(), "Judging rows", 6))
    assert messages(caplog) == [
        "Judging rows: 1 of 6 parts done",
        "Judging rows: 3 of 6 parts done, about 15 s left",
        "Judging rows: 5 of 6 parts done, about 5 s left",
        "Judging rows: 6 parts in 1 min 25 s",
    ]


def test_results_of_different_sizes_add_up_to_the_total(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Where it is not known how many results come, but how many rows."""
    caplog.set_level(logging.INFO)
    results = (list(range(size)) for size in (30, 20, 50) if parts_pass(clock, 6.0))
    assert len(list(report_progress(results, "Scoring", 100, "rows", rows=len, size=len))) == 3
    assert messages(caplog) == [
        "Scoring: 50 of 100 rows done, 4 rows per second, about 12 s left",
        "Scoring: 100 rows in 18 s, 6 rows per second",
    ]


def parts_pass(clock: Clock, seconds: float) -> bool:
    clock.now += seconds
    return True


@pytest.mark.parametrize(("count", "seconds"), [(9, 1.0), (1, 60.0), (0, 0.0)])
def test_a_short_step_and_a_single_part_say_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture, count: int, seconds: float
) -> None:
    """Of a step that is soon over, or that has nothing between its begin and its end, nothing is logged."""
    caplog.set_level(logging.INFO)
    assert list(report_progress(parts(clock, count, seconds), "Judging rows", count)) == list(range(count))
    assert messages(caplog) == []


def test_a_step_that_fails_does_not_report_its_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The error passes through, and nothing after it claims that the step is done."""
    caplog.set_level(logging.INFO)

    def failing() -> Iterator[int]:
        yield from parts(clock, 2, 20.0)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        list(report_progress(failing(), "Judging rows", 3))
    assert [message.split(",")[0] for message in messages(caplog)] == [
        "Judging rows: 1 of 3 parts done",
        "Judging rows: 2 of 3 parts done",
    ]


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest replaces standard error after those."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return terminal


def test_on_a_terminal_a_step_is_a_bar(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It shows the same figures on standard error, is removed at the end, and nothing is logged."""
    terminal = open_terminal(monkeypatch)
    caplog.set_level(logging.INFO)
    stdout = sys.stdout
    with bars_on():
        for number in report_progress(parts(clock, 4, 15.0), "Judging rows", 4, rows=thousand):
            assert sys.stdout is stdout, "what a command prints may go to a file"
            inner = list(report_progress(parts(clock, 2, 0.0), f"Inner {number}", 2))
            assert inner == [0, 1]
    drawn = terminal.getvalue()
    assert "Judging rows" in drawn
    assert "Inner 3" in drawn
    assert sys.stderr is terminal
    assert messages(caplog) == []


def test_nothing_is_drawn_between_two_steps(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command can print and ask there."""
    terminal = open_terminal(monkeypatch)
    with bars_on():
        list(report_progress(parts(clock, 2, 1.0), "First", 2))
        drawn = terminal.getvalue()
        assert sys.stderr is terminal
        list(report_progress(parts(clock, 2, 1.0), "Second", 2))
        assert "Second" not in drawn
        assert "Second" in terminal.getvalue()


def test_an_abandoned_step_leaves_no_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its results are not all taken, the terminal is as before."""
    terminal = open_terminal(monkeypatch)
    with bars_on():
        results = report_progress(parts(clock, 3, 1.0), "First", 3)
        next(results)
        assert sys.stderr is not terminal
        results.close()  # type: ignore[attr-defined]
        assert sys.stderr is terminal


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.6, "1 min"), (125, "2 min 5 s"), (7260, "2 h 1 min"), (7205, "2 h 5 s")]
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    """Units of which there are none are left out."""
    assert describe_duration(seconds) == words
