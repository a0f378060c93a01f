"""What all commands share: where they print, how they fail, and JSON on request."""

from __future__ import annotations

import functools
import json
import os
import pwd
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console

from churn.errors import ChurnError, NothingToDo

P = ParamSpec("P")
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """An error of ours is one sentence on standard error and exit status 1; nothing to do is status 0.

    So is a file that a person named and that cannot be read or written.
    """

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except NothingToDo as nothing:
            console.print(str(nothing), markup=False)
        except (ChurnError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:
                raise
            said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            Console(stderr=True, highlight=False).print(f"Error: {said}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(1) from error

    return wrapper


def print_json(found: Any) -> None:
    """Print JSON; times as texts."""
    console.print_json(json.dumps(found, default=str))


def who() -> str:
    """The person at the terminal, as the machine knows them; what LOGNAME or USER says anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without a user of that number
        return f"user {os.getuid()}"


def named_now(what: str) -> str:
    """A name for something that is done now, which nothing else bears."""
    return f"{what}__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
