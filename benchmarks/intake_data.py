"""What `make bench WHAT=intake` measures on: files with and without faults, accepted rows, and a ledger of many nights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from churn.contracts.bank import BANK_CHURN as CONTRACT
from churn.foundation.ledger import open_ledger
from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import accepted
from churn.foundation.records import Batch, BatchVerdict
from churn.foundation.storage import Storage
from churn.intake.judged_rows import batch_number
from churn.sample.fault_injection import cell_faults, plant_faults, record_faults
from churn.sample.generator import Night, make_night

FILES, CUSTOMERS = 30, 0.7
"""Files of accepted rows, and the share of different customers among their rows."""
BATCHES = 10_000
_CHUNK = 200_000


def write_file(file: Path, rows: int, faulty: float) -> None:
    """A file of the contract, a piece at a time; faults of all kinds, each as often."""
    faults = [*cell_faults(CONTRACT), *record_faults(CONTRACT)]
    with file.open("wb") as stream:
        for first in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - first)
            text = make_night(CONTRACT, Night(count, first_customer=first + 1, seed=first // _CHUNK))
            chosen = np.linspace(0, count - 1, int(count * faulty)).astype(int).tolist()
            data, _ = plant_faults(text, CONTRACT, [faults[at % len(faults)] for at in range(len(chosen))], chosen)
            stream.write(data if not first else data.split(b"\n", 1)[1])


def write_accepted_files(root: Path, ledger_url: str, rows: int) -> None:
    """Files of accepted rows in which customers come again."""
    (root / "accepted").mkdir(parents=True)
    for number in range(FILES):
        accept_more(root, [ledger_url], number, rows // FILES, rows)


def accept_more(root: Path, ledger_urls: Sequence[str], number: int, count: int, rows: int) -> None:
    """One more file of accepted rows, which the ledgers know. Its customers are distinct, in a stretch of its own that overlaps with those of others."""
    customers, batch = int(rows * CUSTOMERS), f"{number + 1:064x}"[::-1]
    first = min(number, FILES - 1) * (customers - rows // FILES) // (FILES - 1)
    sample = min(count, _CHUNK)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        source, written = Path(folder, "part.csv"), Path(folder, "part.parquet")
        source.write_text(make_night(CONTRACT, Night(sample, first_customer=1, seed=number)))
        duckdb.sql(
            f"""COPY (SELECT * REPLACE (((r * {sample} + CustomerId + {first}) % {customers} + 1)::BIGINT AS CustomerId),
            (r * {sample} + row_number() OVER (PARTITION BY r))::BIGINT AS _line, {batch_number(batch)}::BIGINT AS _batch
            FROM read_csv('{source}'), range({-(-count // sample)}) AS t(r) QUALIFY _line <= {count})
            TO '{written}' (COMPRESSION snappy)"""  # noqa: S608
        )
        manifest = store_parts(Storage.open(str(root)), accepted(batch), [WrittenPart.of(written)])
    verdict = BatchVerdict("accepted", manifest.rows, manifest.rows, 0, accepted_sha256=manifest.digest)
    for url in ledger_urls:
        ledger = open_ledger(url)
        ledger.add_batch(batch, f"{number}.csv", 1, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number))
        ledger.judge_batch(batch, "night", verdict)


def write_known_batches(ledger_url: str) -> None:
    """A ledger that has seen many nights, and trained on all of them."""
    import sqlalchemy as sa

    from churn.foundation.records import DecisionRecord, Snapshot
    from churn.foundation.schema import batches

    ledger, now = open_ledger(ledger_url), datetime(2026, 1, 1, tzinfo=UTC)
    hashes = [f"{number:064x}" for number in range(BATCHES)]
    empty = dict.fromkeys(Batch.__dataclass_fields__, None)
    rows = [
        empty
        | {"batch": name, "arrival": at, "name": f"{at}.csv", "size": 1, "state": "accepted", "arrived_at": now}
        | {"arrived_rows": 10, "accepted_rows": 10, "quarantined_rows": 0, "events": 2, "rules": [], "warnings": []}
        for at, name in enumerate(hashes)
    ]
    with sa.create_engine(ledger_url).begin() as connection:
        connection.execute(batches.insert(), rows)
    ledger.add_snapshot(Snapshot("s" * 64, 1, 1, 1, hashes, "salt", CONTRACT.fingerprint, now))
    ledger.add_decision(
        DecisionRecord("n", "churn", 1, None, "s" * 64, "hold", "X", "x", [], {}, "", False, None, "r", now)
    )
