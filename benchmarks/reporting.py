"""What the benchmarks print: progress on standard error, and one table on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

console = Console(highlight=False, width=None if sys.stdout.isatty() else 130)


@dataclass(frozen=True)
class Figure:
    """One line of a table; `goal` is empty if none is set."""

    what: str
    goal: str
    figure: str


def say(what: str) -> None:
    """Print progress on standard error, so that the table can be redirected on its own."""
    Console(stderr=True, highlight=False).print(f"bench: {what}", style="dim")


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
