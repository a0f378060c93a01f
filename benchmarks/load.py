"""`make bench WHAT=load`: what grows with files, versions, runs and clients. Prints figures and ratios; asserts nothing.

    make bench WHAT=load                                 files, commands, service
    make bench WHAT=load ARGS="--only service --minutes 10"

- files: a run of eight files at once beside 30 and beside 10,000 known files, and one of 1,000 files
- commands: each `churn` command beside 30 runs and few versions, and beside 3,650 runs and 200 versions
- service: 64 clients, with slow and malicious ones among them

The pages of the review over 3,650 runs are measured by `make bench WHAT=review`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from load_commands import measure_commands
from load_files import measure_files
from load_service import measure_service
from reporting import Figure, console, say
from support.basics import mlflow_server


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["files", "commands", "service"])
    parser.add_argument("--minutes", type=float, default=10.0, help="of the service")
    parser.add_argument("--files", type=int, default=1_000, help="files of one run")
    asked = parser.parse_args()
    parts: dict[str, Callable[[Path, str], list[Figure]]] = {
        "files": lambda home, url: measure_files(home, url, asked.files),
        "commands": measure_commands,
        "service": lambda home, url: measure_service(home, url, asked.minutes),
    }
    table = Table("what", "goal", "figure", title=f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(prefix="churn-bench-load-") as folder:
        home = Path(folder)
        with mlflow_server(home, f"sqlite:///{home}/mlflow.db", str(home / "artifacts")) as url:
            for name, measure in parts.items():
                if asked.only in (None, name):
                    say(name)
                    for figure in measure(home, url):
                        table.add_row(figure.what, figure.goal, figure.figure)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
