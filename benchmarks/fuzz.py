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
from collections import Counter
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
_SECONDS_BETWEEN = 30
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
        "--only", nargs="+", type=_target_name, default=list(NAMES), metavar="TARGET", help=", ".join(NAMES)
    )
    return parser.parse_args()


def _target_name(name: str) -> str:
    if name not in NAMES and ":" not in name:
        raise argparse.ArgumentTypeError(f"there is no target {name}. The targets are {', '.join(NAMES)}")
    return name


def _run_target(name: str, options: argparse.Namespace) -> Tally:
    """Run the cases of a target, in a new process after each one that ended or hung."""
    tally, at, end, began = Tally(), options.first, options.first + options.cases, time.monotonic()
    fatal: int | None = None
    while at < end and len(tally.findings) < _ENOUGH and time.monotonic() - began < options.seconds:
        if at == fatal:
            target = find_target(name)
            finding = Finding(target.name, options.seed, at, ENDED, ENDED, make_case(target, options.seed, at))
            say(f"{name}: case {at}: {ENDED}, {finding.write(options.folder)}")
            tally.add(Tally(Counter({"defect": 1}), [finding]))
            at, fatal = at + 1, None
            continue
        at, fatal = _run_process(name, options, range(at, end if fatal is None else fatal), tally, began)
    tally.seconds = time.monotonic() - began
    return tally


def _run_process(
    name: str, options: argparse.Namespace, numbers: range, tally: Tally, began: float
) -> tuple[int, int | None]:
    """Run cases in a process, and count what became of them.

    Returns:
        The number of the next case, and the one that ended the process, if one did. Those before it of its batch were not reported.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    current: Any = context.Value("q", _NONE)
    arguments = (name, options.seed, numbers, there, current)
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    there.close()
    at, shown, known = numbers.start, time.monotonic(), {finding.kind for finding in tally.findings}
    fatal = None if numbers.stop == options.first + options.cases else numbers.stop
    try:
        while at < numbers.stop and len(tally.findings) < _ENOUGH and time.monotonic() - began < options.seconds:
            part = _receive(here, current, process)
            if part is None:
                if current.value == _NONE:
                    raise SystemExit(f"The target {name} cannot be opened. The error is above.")
                return at, int(current.value)
            tally.add(part)
            at += part.cases
            for finding in part.findings:
                file = finding.write(options.folder)
                if finding.kind not in known:
                    known.add(finding.kind)
                    say(f"{name}: case {finding.number}: {finding.kind}, {file}")
            if time.monotonic() - shown > _SECONDS_BETWEEN:
                shown = time.monotonic()
                rate = tally.cases / (shown - began)
                say(f"{name}: {tally.cases:,} cases, {rate:,.0f} per second, {len(tally.findings)} findings")
        return at, fatal
    finally:
        process.terminate()
        process.join()


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


def _work(name: str, seed: int, numbers: range, results: Connection, current: Synchronized[int]) -> None:
    """Run cases, in a process of its own."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- the service logs there; the process ends with it
    target = find_target(name)

    def began(number: int) -> None:
        current.value = number

    with target.open():
        for at in range(0, len(numbers), BATCH):
            results.send(run_cases(target, seed, numbers[at : at + BATCH], began))
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
