"""Run by test_crashes.py: intake in child processes that are killed after the n-th thing they did outside.

The parent imports everything and starts no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import great_expectations.expectations  # noqa: F401 -- before the forks
import scipy.stats  # noqa: F401
import sqlalchemy as sa

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.schema import metadata
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.sample.fault_injection import cell_faults, plant_faults, record_faults
from support.basics import crash_points, small_file, start_fork, wait_for_exit
from support.divisions import limits
from support.panels import PANEL

KILLED_AFTER = ("mv", "add_batch", "judge_batch")
PART_SIZE = 3000
"""Bytes of a part: the good file has three."""
LIMITS = replace(limits(), part_size=PART_SIZE)
TIMES = ("arrived_at", "seen_at", "judged_at", "at")


def rows_of_customers() -> dict[str, bytes]:
    """A good file with faults of three kinds, the same bytes again, and a file that is rejected."""
    faults = [cell_faults(BANK_CHURN)[5], *record_faults(BANK_CHURN)[8:10]]
    data, _ = plant_faults(small_file(120), BANK_CHURN, faults, [3, 30, 100])
    return {"a.csv": data, "b.csv": data, "c.csv": b"no,churn\n1,2\n"}


def labels_that_come_apart() -> dict[str, bytes]:
    """Rows without labels, a file of labels with a fault, a file of leavers, and one of which a part was lost."""
    rows = [f"{who},2023-01-01,{who % 7}.5,a," for who in range(1, 81)]
    labels = [f"{who},2023-01-01,{int(who % 5 == 0)}" for who in range(1, 41)]
    leavers = [f"{who},2023-01-10,2023-01-31,8" for who in range(45, 81, 5)]
    texts = {
        "a.csv": ["Customer,AsOf,Balance,Segment,Left", *rows],
        "b.csv": ["Customer,AsOf,Left", *labels, "x,2023-01-01,1"],
        "c.csv": ["Customer,event_date,complete_through,rows", *leavers],
        "d.csv": ["Customer,event_date,complete_through,rows", *leavers[:5]],
    }
    return {name: ("\n".join(lines) + "\n").encode() for name, lines in texts.items()}


LANDED: dict[str, tuple[Contract, Callable[[], dict[str, bytes]]]] = {
    "rows": (BANK_CHURN, rows_of_customers),
    "labels": (PANEL, labels_that_come_apart),
}
"""What lands, by name: its contract and its files, in the order of their arrival."""


def land(root: Path, what: str) -> None:
    """Put the files into the landing zone."""
    (root / "data/landing").mkdir(parents=True)
    for age, (name, content) in enumerate(reversed(LANDED[what][1]().items()), start=1):
        (root / "data/landing" / name).write_bytes(content)
        os.utime(root / "data/landing" / name, (1_700_000_000 - age, 1_700_000_000 - age))


def take_in(root: Path, contract: Contract, kill_after: int | None = None) -> list[str]:
    """The intake of one run; returns the names of what it did outside."""
    done: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if "docs/" not in str(args):  # the pages' own times differ from run to run
                done.append(name)
                if len(done) == kill_after:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        return effect

    storage, ledger = Storage.open(str(root / "data")), open_ledger(f"sqlite:///{root}/ledger.db")
    for owner, name in (
        (type(storage.fs), "mv"),
        (type(storage.fs), "rm"),
        (Ledger, "add_batch"),
        (Ledger, "judge_batch"),
    ):
        setattr(owner, name, counted(name, getattr(owner, name)))
    for batch in collect_arrivals(storage, ledger, part_size=PART_SIZE).batches:
        with suppress(ChurnError):
            accept_batch(batch.batch, "night", storage, ledger, contract, LIMITS)
    return done


def state(root: Path) -> dict[str, Any]:
    """Every file by the hash of its bytes, and every row of the ledger; times apart."""
    files = {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((root / "data").rglob("*"))
        if file.is_file() and not {"docs", "unfinished"} & set(file.relative_to(root / "data").parts)
    }
    # Without a pool: a connection that is closed later takes its files away while the folder is deleted.
    with sa.create_engine(f"sqlite:///{root}/ledger.db", poolclass=sa.NullPool).connect() as connection:
        rows = {
            table.name: sorted(
                str({name: value for name, value in row.items() if name not in TIMES}).replace(str(root), "")
                for row in connection.execute(sa.select(table)).mappings()
            )
            for table in metadata.sorted_tables
        }
    return {"files": files, "rows": rows}


def main(folder: Path, what: str) -> None:
    """Print, as JSON, the state of an undisturbed run and that of each run that was killed and run again."""
    calm, contract = folder / "calm", LANDED[what][0]
    land(calm, what)
    counts = folder / "effects"
    assert wait_for_exit(start_fork(lambda: counts.write_text("\n".join(take_in(calm, contract))) and None)) == 0
    outcome: dict[str, Any] = {"calm": state(calm), "killed": []}
    for effect in crash_points(counts.read_text().split(), KILLED_AFTER):
        root = folder / f"killed-{effect}"
        land(root, what)
        killed = wait_for_exit(start_fork(lambda root=root, effect=effect: take_in(root, contract, effect) and None))  # type: ignore[misc]
        again = wait_for_exit(start_fork(lambda root=root: take_in(root, contract) and None))  # type: ignore[misc]
        outcome["killed"].append({"killed": killed, "again": again, "state": state(root)})
        shutil.rmtree(root)
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
