"""Run by test_races.py: twenty processes promote at once, and one reads the registry all the time.

The parent imports everything and starts no thread, so that each child is a cheap fork of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn  # like the next ones: before the forks
import sklearn.ensemble
import sklearn.linear_model  # noqa: F401
import skops.io  # noqa: F401

from churn.foundation.ledger import PromotionConflict, open_ledger
from churn.foundation.records import DecisionRecord
from churn.release.mirror import read_registry
from churn.release.registry import promote
from churn.workbench import Workbench
from support import ended, forked, make_bench

PROMOTERS = 20
CONFLICT = 2
"""Exit status of a promoter that came too late."""


def register(bench: Workbench, first: int) -> None:
    """Twenty more versions with the files of the first."""
    client, model = bench.tracking.client, bench.settings.model_name
    source = bench.tracking.version(first)
    known = bench.ledger.version(model, first)
    assert known is not None
    for _ in range(PROMOTERS):
        made = client.create_model_version(
            model, source.source, source.run_id, source.tags, model_id=source.source.removeprefix("models:/")
        )
        bench.ledger.add_version(replace(known, version=int(made.version), registered_at=datetime.now(UTC)))


def promote_one(bench: Workbench, decision: DecisionRecord, version: int, start: float) -> None:
    """Promote, or end with the status of a typed conflict. The parent's connections are not used: a fork shares them."""
    mine = replace(decision, night=f"racer {version}", challenger=version, champion=1, code="SUPERIOR")
    ledger = open_ledger(bench.settings.ledger_url)
    time.sleep(max(0, start - time.time()))
    try:
        promote(mine, None, ledger, bench.tracking)
    except PromotionConflict:
        os._exit(CONFLICT)


def read_on(bench: Workbench, found: Path, stop: Path) -> None:
    """Note, until told to stop, which champion the registry names, and that its artifacts load; each is loaded once."""
    seen: dict[str, int] = {}
    loads: dict[int | None, bool] = {None: False}
    while not stop.exists():
        champion = read_registry(bench.tracking).champion
        if champion not in loads:
            loads[champion] = mlflow.pyfunc.load_model(bench.tracking.model_uri(champion)) is not None
        name = f"{champion} {'loads' if loads[champion] else 'does not load'}"
        seen[name] = seen.get(name, 0) + 1
        found.write_text(json.dumps(seen))


def main(folder: Path, mlflow_url: str, ledger_url: str) -> None:
    """Print what came out as JSON."""
    bench = make_bench(folder, mlflow_url)
    bench = Workbench(
        bench.settings.model_copy(update={"ledger_url": ledger_url}), bench.storage, open_ledger(ledger_url)
    )
    register(bench, 1)
    found, stop = folder / "seen.json", folder / "stop"
    reader = forked(lambda: read_on(bench, found, stop))
    while not found.exists():
        time.sleep(0.1)
    decision = bench.ledger.decisions(limit=1)[0]
    start = time.time() + 3
    racers = [
        forked(lambda version=version: promote_one(bench, decision, version, start))
        for version in range(2, PROMOTERS + 2)
    ]
    ends = [ended(pid) for pid in racers]
    time.sleep(1)
    stop.touch()
    reading = ended(reader)
    last = bench.ledger.in_production(bench.settings.model_name)
    state = read_registry(bench.tracking)
    outcome = {
        "ends": ends,
        "reading": reading,
        "seen": json.loads(found.read_text()),
        "ledger": last.version if last else None,
        "promotions": len(bench.ledger.promotions(bench.settings.model_name)),
        "aliases": state.aliases,
        "stage": list(state.in_stage),
    }
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
