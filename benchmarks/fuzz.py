"""`make fuzz`: gives odd input to everything that reads what others wrote, and reports what it did not answer as it must.

    make fuzz                                  100,000 cases of each target
    make fuzz CASES=5000 SEED=2 ONLY="csv gzip"
    make fuzz ONLY=csv ARGS="--from 41 --cases 1"   one case again

Each target runs in a process of its own, on one core. A case that takes more than ten seconds, or that ends the process, is a
defect too. Every case that fails is written to a folder (`var/fuzz`) together with the reason. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from rich.table import Table

from reporting import console, say
from support.fuzzing.cases import SLOWEST, Finding, Tally, make_case, run_cases
from support.fuzzing.targets import NAMES, find_target

BATCH = 500
"""Number of cases after which a process reports."""
_NONE = -1
"""Instead of the number of a case: none has begun."""
ENDED = "the process ended"
_ENOUGH = 200
"""Findings after which a target is given up: there is work to do first."""
_LENIENT = 6
"""A case may take this many times longer before its process is ended; it is a defect before."""


def main() -> int:
    """Run the targets one after the other; returns the exit status."""
    options = _options()
    tallies = {name: _run_target(name, options) for name in options.only}
    _print(tallies, options)
    return int(any(tally.findings for tally in tallies.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end a target after this time")
    parser.add_argument("--folder", type=Path, default=Path("var/fuzz"), help="where failing cases are written")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="TARGET", help=", ".join(NAMES)
    )
    return parser.parse_args()


def _run_target(name: str, options: argparse.Namespace) -> Tally:
    """Run the cases of a target, in a new process after each one that ended or hung."""
    tally, at, end, began = Tally(), options.first, options.first + options.cases, time.monotonic()
    shown, known = began, set[str]()
    context = multiprocessing.get_context("spawn")
    while at < end and len(tally.findings) < _ENOUGH:
        here, there = context.Pipe(duplex=False)
        current: Any = context.Value("q", _NONE)
        process = context.Process(target=_work, args=(name, options.seed, at, end, there, current), daemon=True)
        process.start()
        there.close()
        while True:
            part = _receive(here, current, process)
            if part is None:
                break
            tally.add(part)
            at += part.cases
            for finding in part.findings:
                file = finding.write(options.folder)
                if finding.kind not in known:
                    known.add(finding.kind)
                    say(f"{name}: case {finding.number}: {finding.kind}, {file}")
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                say(
                    f"{name}: {tally.cases:,} cases, {tally.cases / (shown - began):,.0f} per second, {len(tally.findings)} findings"
                )
            if at >= end or len(tally.findings) >= _ENOUGH or time.monotonic() - began > options.seconds:
                break
        process.terminate()
        process.join()
        if time.monotonic() - began > options.seconds:
            break
        if at < end and len(tally.findings) < _ENOUGH:  # it ended in the middle of a case
            number = int(current.value)
            if number == _NONE:
                raise SystemExit(f"The target {name} cannot be opened. The error is above.")
            case = make_case(find_target(name), options.seed, number)
            finding = Finding(name, options.seed, number, ENDED, f"Exit status {process.exitcode}", case)
            say(f"{name}: case {number}: {ENDED}, {finding.write(options.folder)}")
            tally.outcomes["defect"] += 1 + number - at  # those before it of its batch were not reported
            tally.findings.append(finding)
            at = number + 1
    tally.seconds = time.monotonic() - began
    return tally


def _receive(results: Connection, current: Synchronized[int], process: Any) -> Tally | None:
    """Wait for the next part of the results; None if the process ended or hangs."""
    last, since = _NONE, time.monotonic()
    while not results.poll(0.5):
        if current.value != last:
            last, since = current.value, time.monotonic()
        hangs = last != _NONE and time.monotonic() - since > _LENIENT * SLOWEST
        if hangs or not (process.is_alive() or results.poll()):
            return None
    try:
        part: Tally = results.recv()
    except EOFError:
        return None
    return part


def _work(name: str, seed: int, first: int, end: int, results: Connection, current: Synchronized[int]) -> None:
    """Run cases, in a process of its own."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- the service logs there; the process ends with it
    target = find_target(name)

    def began(number: int) -> None:
        current.value = number

    with target.open():
        for at in range(first, end, BATCH):
            results.send(run_cases(target, seed, range(at, min(at + BATCH, end)), began))
        time.sleep(60)  # until the parent has read the last part, and ends this process


def _print(tallies: dict[str, Tally], options: argparse.Namespace) -> None:
    table = Table(title=f"Seed {options.seed}, from case {options.first}")
    for title in ("target", "cases", "per second", "outcomes", "defects", "kinds"):
        table.add_column(title, justify="left" if title in ("target", "outcomes", "kinds") else "right")
    for name, tally in tallies.items():
        common = ", ".join(f"{outcome} {count:,}" for outcome, count in tally.outcomes.most_common(6))
        kinds = sorted({finding.kind for finding in tally.findings})
        rate = f"{tally.cases / max(tally.seconds, 0.001):,.0f}"
        table.add_row(name, f"{tally.cases:,}", rate, common, f"{len(tally.findings):,}", "\n".join(kinds))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
