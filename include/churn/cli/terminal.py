"""What all commands share: output, errors, and JSON."""

from __future__ import annotations

import functools
import json
import os
import pwd
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console

from churn.errors import ChurnError, NothingToDo
from churn.foundation.progress import bars_on

P = ParamSpec("P")
T = TypeVar("T")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, help="Number of rows of the table, the newest. JSON has all.")]
USUAL_LIMIT = 50


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Print a `ChurnError` as one message on standard error and exit with 1; exit with 0 if there is nothing to do.

    The same holds for a file that a person named and that cannot be read or written. On a terminal, long steps are bars.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with bars_on() if sys.stderr.isatty() else nullcontext():
                command(*args, **kwargs)
        except NothingToDo as nothing:
            console.print(str(nothing), markup=False)
        except (ChurnError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:
                raise
            message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            Console(stderr=True, highlight=False).print(f"Error: {message}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from error

    return wrapper


def newest(rows: list[T], limit: int, last: bool = False) -> list[T]:
    """The newest rows, which come first, or last; prints how many there are if these are not all."""
    if len(rows) <= limit:
        return rows
    console.print(f"The newest {limit:,} of {len(rows):,}; `--limit {len(rows)}` shows all.", style="dim", markup=False)
    return rows[-limit:] if last else rows[:limit]


def print_json(value: Any) -> None:
    """Print JSON, with times as text."""
    console.print_json(json.dumps(value, default=str))


def who() -> str:
    """The person at the terminal, by the account of the process. LOGNAME and USER could be set by anyone."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without a user of this id
        return f"user {os.getuid()}"


def named_now(what: str) -> str:
    """A unique name for something that is done now."""
    return f"{what}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
