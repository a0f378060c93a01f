"""`make soak`: take the nights of `month.md`, print a row for each with what was expected and what happened, and how things grew."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.table import Column, Table

from reporting import console, say
from soak.in_process import InProcess
from soak.local import Local, clock_folder, run_under_clock
from soak.month import Result, run_month
from soak.nights import Night, Outcome, read_month, short_month, stack_month
from soak.on_stack import OnStack


def main() -> None:
    """Take the nights, print, and end with 1 if anything was not as expected."""
    arguments = argparse.ArgumentParser(prog="make soak", description=__doc__)
    arguments.add_argument("--nights", type=int, default=30, help="number of nights of the table, from the first one")
    arguments.add_argument(
        "--only", help="numbers of nights, divided by commas, instead; `short` for those of make test"
    )
    arguments.add_argument(
        "--local", action="store_true", help="on the local Airflow and MLflow, and not as plain calls"
    )
    arguments.add_argument("--stack", action="store_true", help="the ten nights of the stack, on one with two workers")
    arguments.add_argument("--keep", type=Path, help="a new folder that is kept, instead of a temporary one")
    given = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers end and the disk is taken off
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    logging.basicConfig(level=logging.ERROR)
    with ExitStack() as opened:
        if given.local:
            opened.callback(shutil.rmtree, clock_folder() or run_under_clock())
        folder = given.keep or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="churn-soak-")))
        monkeypatch = opened.enter_context(pytest.MonkeyPatch.context())
        way = OnStack if given.stack else Local if given.local else InProcess
        driver = way(folder.absolute(), monkeypatch, opened, say)
        result = Result()
        try:
            run_month(driver, choose(given.nights, "stack" if given.stack else given.only), say, result)
        finally:
            show(result)
    sys.exit(1 if result.problems else 0)


def choose(nights: int, only: str | None) -> list[Night]:
    """The nights to take."""
    table = read_month()
    if only == "short":
        return short_month(table)
    if only == "stack":
        return stack_month(table, datetime.now(UTC).date())
    if only:
        wanted = {int(number) for number in only.split(",")}
        return [night for night in table if night.number in wanted]
    return table[:nights]


def show(result: Result) -> None:
    """Print the nights, the growth, and what is not as it should be."""
    table = Table(
        "night", "lands", "happens", "fails", "verdict", "alerts", "production", "list", "rows", title="The month"
    )
    for night, outcome in result.nights:
        lands = ", ".join(file.kind for file in night.lands)
        table.add_row(str(night.number), lands, ", ".join(night.happens), *_cells(night.expected, outcome))
    console.print(table)
    if result.measured:
        totals = {night: measured.totals() for night, measured in result.measured.items()}
        titles = max(totals.values(), key=len)  # after a night that was killed, there is no process to look at
        left = Table("night", *(Column(title, justify="right") for title in titles), title="After each night")
        for number, row in totals.items():
            left.add_row(str(number), *(f"{row[title]:,.0f}" if title in row else "-" for title in titles))
        console.print(left)
    if result.growth:
        grown = Table("what", "early night", "last night", "limit", "kept", title="Growth")
        for row in result.growth:
            grown.add_row(row.what, f"{row.early:,.6g}", f"{row.late:,.6g}", row.limit, "yes" if row.kept else "NO")
        console.print(grown)
    for fact in result.facts:
        console.print(fact)
    for problem in result.problems:
        console.print(f"Not as expected: {problem}", style="red", markup=False)
    console.print(f"{len(result.nights)} nights, {len(result.problems)} problems.")


def _cells(expected: Outcome, actual: Outcome) -> Sequence[str]:
    def counts(outcome: Outcome) -> str:
        return f"{outcome.arrived:,} = {outcome.accepted:,} + {outcome.quarantined:,}"

    pairs = [
        (getattr(expected, name), getattr(actual, name))
        for name in ("fails", "verdict", "alerts", "production", "listed")
    ]
    pairs.append((counts(expected), counts(actual)))
    return [_said(want) if want == got else f"expected {_said(want)}, was {_said(got)}" for want, got in pairs]


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "-"
    return "-" if value in (None, "") else str(value)


if __name__ == "__main__":
    main()
