"""Intake killed at any point and run again, and many at once: every batch is taken once, nothing is lost."""

from __future__ import annotations

import io
import multiprocessing
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import open_ledger
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.audit import find_losses
from support.basics import ROOT, compile_templates_once, run_script, small_file
from support.divisions import BYTES, limits

NARROW = Contract(
    "narrow", tuple(column for column in BANK_CHURN.columns if column.name in ("CustomerId", "Age", "Exited"))
)
"""Three columns: most of the time is spent by Great Expectations for each of them, and this is about who takes a batch."""
LIMITS = limits()


@pytest.mark.parametrize(
    ("what", "batches", "sightings", "files"),
    [
        # Two originals and the note of parts; three parts and their manifest, accepted and quarantined; a rejected file of one part.
        ("rows", 2, 3, {"originals": 3, "accepted": 4, "quarantine": 6}),
        # Three accepted files of a part each, one of them with a row in quarantine, and a rejected one.
        ("labels", 4, 4, {"originals": 4, "accepted": 6, "quarantine": 4}),
    ],
)
def test_killed_after_any_write_the_next_run_comes_to_the_same(
    what: str, batches: int, sightings: int, files: dict[str, int], tmp_path: Path
) -> None:
    """SIGKILL after each outside write: the same files, byte for byte, and the same ledger rows, times apart."""
    outcome = run_script("crash_intake.py", tmp_path, what)
    rows = outcome["calm"]["rows"]
    assert (len(rows["batches"]), len(rows["sightings"])) == (batches, sightings)
    assert Counter(Path(name).parts[1] for name in outcome["calm"]["files"]) == files
    assert len(outcome["killed"]) >= 2
    for run in outcome["killed"]:
        assert (run["killed"], run["again"]) == (-9, 0)
        assert run["state"] == outcome["calm"]


def take_in(root: str, url: str, seed: int) -> None:
    """One of many nights on the same landing, in a process of its own; each judges in another order."""
    compile_templates_once(pytest.MonkeyPatch())
    storage, ledger = Storage.open(root), open_ledger(url)
    waiting = collect_arrivals(storage, ledger, part_size=BYTES).batches
    random.Random(seed).shuffle(waiting)  # noqa: S311 -- an order, not a secret
    for batch in waiting:
        with suppress(ChurnError):
            accept_batch(batch.batch, f"night {seed}", storage, ledger, NARROW, LIMITS)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_nights_at_once_take_every_batch_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight processes, twenty-five files, five of them twice: twenty batches, each with one verdict, and all rows accounted for."""
    database: Callable[[str], str] | None = request.getfixturevalue("postgres") if kind == "postgresql" else None
    url = database("many_nights") if database else f"sqlite:///{tmp_path}/ledger.db"
    root = tmp_path / "data"
    (root / "landing").mkdir(parents=True)
    for number in range(25):
        rows = pd.read_csv(io.StringIO(small_file(30, first_customer=1 + 30 * (number % 20), seed=number % 20)))
        rows[[column.name for column in NARROW.columns]].to_csv(root / "landing" / f"{number:02d}.csv", index=False)
    # A model that was loaded in this process has left a copy of the service's code in the path.
    ours = [entry for entry in sys.path if Path(entry).is_relative_to(ROOT) or not Path(entry, "churn").is_dir()]
    monkeypatch.setattr(sys, "path", ours)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(ours))  # the server that imports once for all looks only there
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [__name__, "great_expectations.expectations", "scipy.stats"]
    )  # imported once, not eight times
    processes = [context.Process(target=take_in, args=(str(root), url, seed)) for seed in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 8
    storage, ledger = Storage.open(str(root)), open_ledger(url)
    batches = ledger.batches()
    assert Counter(batch.state for batch in batches) == {"accepted": 20}
    assert sorted(batch.arrival for batch in batches) == list(range(1, 21))
    assert sum(batch.arrived_rows or 0 for batch in batches) == 20 * 30
    assert len(ledger.sightings()) == 25
    assert storage.landed() == []
    assert storage.names("unfinished") == []
    assert find_losses(storage, ledger, hashes=True) == []
