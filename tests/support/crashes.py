"""Work on a workspace that is killed after each thing it does outside, and begun again; the scripts `crash_...py` use it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from churn.foundation.ledger import Ledger
from churn.foundation.storage import Storage
from churn.pipeline.workspace import Workspace
from support.basics import crash_points, start_fork, wait_for_exit


def note_effects(
    storage: Storage, writes: Sequence[str], plain: Callable[[str], str], log: Path, kill_after: int | None
) -> None:
    """From now on write to log each file that this process puts in place and each call of these methods of the ledger.

    The process is killed after the effect number kill_after, counted from 1.
    """
    done: list[str] = []

    def noted(method: Callable[..., Any], name: Callable[[Sequence[Any]], str]) -> Callable[..., Any]:
        def effect(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            done.append(name(args))
            log.write_text("\n".join(done))
            if len(done) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return effect

    files: Any = type(storage.fs)
    files.mv = noted(files.mv, lambda args: f"mv {plain(str(args[-1]))}")
    for write in writes:
        setattr(Ledger, write, noted(getattr(Ledger, write), lambda _, write=write: write))  # type: ignore[misc]


def print_outcomes(
    make: Callable[[str], Workspace],
    work: Callable[[Workspace, int | None], object],
    state: Callable[[Workspace], dict[str, Any]],
    log: Path,
    killed_after: Sequence[str],
) -> None:
    """Print, as JSON, what an undisturbed run leaves, and what each killed and repeated one leaves.

    Args:
        make: Makes a workspace of this name.
        work: Is run in a fork; it is killed after this effect.
        state: What is left in a workspace.
        log: Where work writes its effects, a line each.
        killed_after: Parts of the names of effects.
    """
    calm = make("calm")
    assert wait_for_exit(start_fork(lambda: work(calm, None))) == 0
    effects = log.read_text().splitlines()
    outcome: dict[str, Any] = {"calm": state(calm), "effects": effects, "killed": []}
    for effect in crash_points(effects, killed_after):
        here = make(f"killed-{effect}")
        killed = wait_for_exit(start_fork(lambda here=here, effect=effect: work(here, effect)))  # type: ignore[misc]
        again = wait_for_exit(start_fork(lambda here=here: work(here, None)))  # type: ignore[misc]
        outcome["killed"].append({"after": effects[effect - 1], "killed": killed, "again": again, "state": state(here)})
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it
