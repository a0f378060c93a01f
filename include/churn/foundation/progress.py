"""Shows how far a long step is: in the log, or as a bar on a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

R = TypeVar("R")

log = logging.getLogger(__name__)
LOG_EVERY = 10.0
"""Seconds between two messages about a step. A step that takes less is not mentioned."""
_FEW = 4
"""Of more results than these, the first says nothing of the others."""
_bars: ContextVar[Progress | None] = ContextVar("bars", default=None)


@contextmanager
def bars_on() -> Iterator[None]:
    """Show the steps that run meanwhile as bars on standard error, which is a terminal, instead of in the log."""
    bars = _new_bars()
    token = _bars.set(bars)
    try:
        yield
    finally:
        _bars.reset(token)
        bars.stop()


def report_progress(
    results: Iterator[R],
    what: str,
    total: int,
    unit: str = "parts",
    rows: Callable[[R], int] | None = None,
    size: Callable[[R], int] = lambda _: 1,
) -> Iterator[R]:
    """Pass results through as they come, and report how many there are.

    A single result is not reported, nor is a step that takes less than `LOG_EVERY` seconds, except as a bar.

    Args:
        results: of a step, one for each unit of work, such as those of `Spread.each`.
        what: the step, such as `Judging rows`.
        total: the number of results to come, or the sum of their sizes.
        unit: what is counted, in the plural.
        rows: the number of rows that a result is for. With it, rows per second are reported too.
        size: how much of the total a result is; by default, each is one.

    Returns:
        The same results.
    """
    if total <= 1:
        yield from results
        return
    state = _State(what, total, unit, began=_now())
    bars = _bars.get()
    with _as_bar(state, bars) if bars else _in_log(state) as advance:
        for result in results:
            state.add(size(result))
            state.rows += rows(result) if rows else 0
            advance()
            yield result


@dataclass
class _State:
    """How far a step is."""

    what: str
    total: int
    unit: str
    began: float
    done: int = 0
    rows: int = 0
    first: int = 0
    """The size of the first result, which carries the start of the workers."""
    first_at: float = 0.0

    def add(self, size: int) -> None:
        """Count a result."""
        if not self.done:
            self.first, self.first_at = size, _now()
        self.done += size

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return _now() - self.began

    @property
    def rate(self) -> str:
        """The rows per second, if rows are counted."""
        return f"{self.rows / self.seconds:,.0f} rows per second" if self.rows and self.seconds else ""

    @property
    def left(self) -> str:
        """The time that the rest takes at the rate so far, or since the first result, if that is less; nothing after the first of many."""
        if not self.done or (self.done == self.first and self.total > _FEW * self.first):
            return ""
        each = self.seconds / self.done
        if self.done > self.first:
            each = min(each, (_now() - self.first_at) / (self.done - self.first))
        return f"{describe_duration(each * (self.total - self.done))} left"


@contextmanager
def _in_log(state: _State) -> Iterator[Callable[[], None]]:
    logged = state.began

    def advance() -> None:
        nonlocal logged
        if state.done < state.total and _now() - logged >= LOG_EVERY:
            logged = _now()
            facts = [
                f"{state.done:,} of {state.total:,} {state.unit} done",
                state.rate,
                state.left and f"about {state.left}",
            ]
            log.info("%s: %s", state.what, ", ".join(fact for fact in facts if fact))

    yield advance
    if state.done and state.seconds >= LOG_EVERY:
        facts = [f"{state.done:,} {state.unit} in {describe_duration(state.seconds)}", state.rate]
        log.info("%s: %s", state.what, ", ".join(fact for fact in facts if fact))


@contextmanager
def _as_bar(state: _State, bars: Progress) -> Iterator[Callable[[], None]]:
    """Show a bar, below those of the steps that this one is part of. It is removed at the end."""
    task = bars.add_task(state.what, total=state.total, rate="", left="")
    bars.start()
    try:
        yield lambda: bars.update(task, completed=state.done, rate=state.rate, left=state.left)
    finally:
        bars.remove_task(task)
        if not bars.tasks:  # nothing is drawn between two steps, while a command prints or asks
            bars.stop()


def _new_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # which may be a file or another program
    )


def describe_duration(seconds: float) -> str:
    """A duration in words, to the second: `2 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def _now() -> float:
    return time.monotonic()
