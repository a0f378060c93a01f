"""Rows that neither of two versions knew when it was trained, with the scores that both gave on arrival, and what happened.

A row compares two versions only if neither was trained on the customer and no decision between them used the customer; if it is
later than the promotion; if its batch is neither disputed nor withdrawn; and if it is the customer's only row in the comparison.
Customers who were contacted are left out, and those of a control group stand for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from churn.contract import Contract
from churn.decision.evidence_file import has_evidence
from churn.decision.history import disputed_batches
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.parts import PartFault, part_names
from churn.foundation.paths import decision_rows
from churn.foundation.records import ArrivalScores, Snapshot
from churn.intake.judged_rows import batch_number
from churn.learning.snapshot import HOLDOUT, TRAINING, customer_files, scan_counted
from churn.outcomes.arrivals import AS_OF, BATCH, BUCKET, CUSTOMER, SCORED, TARGET, score_column, scored_files
from churn.outcomes.confirmation import LaterRows
from churn.outcomes.states import REASONS
from churn.outcomes.treated import read_treated

COUNTS = "counts"


@dataclass(frozen=True)
class Pair:
    """Two versions, and since when rows count: after the later of them was put into production, or registered."""

    first: int
    second: int
    since: datetime


def read_later_rows(clients: Clients, pair: Pair, now: Snapshot, treated: pa.Table | None = None) -> LaterRows:
    """Read the rows that compare two versions.

    Args:
        clients: data root, ledger and contract.
        pair: the versions. They may be the same, to measure one of them.
        now: the newest snapshot, which has the labels.
        treated: what `read_treated` returns, if it has been read already.

    Raises:
        PartFault: a part of a snapshot is missing or has been changed.
    """
    scores = _usable_scores(clients, pair)
    with (
        clients.storage.scratch() as scratch,
        columnar.engine(clients.settings.duckdb_memory_limit) as connection,
    ):
        names = scored_files(clients.storage, scores)
        if not names:
            return _none()
        columnar.scan(connection, "scored", clients.storage, names)
        _register_batches(connection, clients, scores)
        _scan_labels(connection, clients, now, scratch)
        _scan_known(connection, clients, pair, scratch)
        connection.register("treated", read_treated(clients) if treated is None else treated)
        connection.execute(f"CREATE TEMP TABLE asked AS {_asking_sql(clients.contract, pair)}")
        return _result(connection)


def _none() -> LaterRows:
    empty = np.zeros(0)
    return LaterRows(empty.astype(np.uint64), empty.astype(np.int64), empty, empty, empty)


def _usable_scores(clients: Clients, pair: Pair) -> list[ArrivalScores]:
    """The scores of batches that both versions have scored, and that are neither withdrawn nor disputed."""
    ledger, model = clients.ledger, clients.settings.model_name
    accepted = set(ledger.hashes(state="accepted"))
    disputed = disputed_batches(ledger, model, pair.first) | disputed_batches(ledger, model, pair.second)
    wanted = [str(pair.first), str(pair.second)]
    return [
        row
        for row in ledger.arrival_scores(model)
        if row.batch in accepted - disputed
        and all(row.versions.get(version, {}).get("state") == SCORED for version in wanted)
    ]


def _register_batches(connection: duckdb.DuckDBPyConnection, clients: Clients, scores: Sequence[ArrivalScores]) -> None:
    """`batches`: number, place in the order of arrival, and date of arrival."""
    known = {batch.batch: (rank, batch.arrived_at) for rank, batch in enumerate(clients.ledger.batches())}
    arrived = [known[row.batch] for row in scores]
    table = pa.table(
        {
            "_batch": pa.array([batch_number(row.batch) for row in scores], pa.int64()),
            "_rank": pa.array([rank for rank, _ in arrived], pa.int64()),
            "_arrived": pa.array([at.astimezone(UTC).date() for _, at in arrived], pa.date32()),
            "_arrived_at": pa.array([at for _, at in arrived], pa.timestamp("us", "UTC")),
        }
    )
    connection.register("batches", table)


def _scan_labels(connection: duckdb.DuckDBPyConnection, clients: Clients, now: Snapshot, scratch: Path) -> None:
    """`labels`: the final label of every row of a panel that counts; without a horizon, the label came with the row."""
    contract = clients.contract
    if contract.horizon_days is None:
        connection.execute(
            f"CREATE TEMP VIEW labels AS SELECT {CUSTOMER}, {AS_OF}, CAST(NULL AS TINYINT) AS y FROM scored WHERE FALSE"  # noqa: S608 -- our own names
        )
        return
    scan_counted(connection, "counted", clients.storage, now, contract, range(columnar.BUCKETS), scratch)
    as_of = contract.row_key[-1].name.replace('"', '""')
    target = contract.target.name.replace('"', '""')
    connection.execute(
        f'CREATE TEMP VIEW labels AS SELECT {CUSTOMER}, "{as_of}" AS {AS_OF}, CAST("{target}" AS TINYINT) AS y FROM counted'  # noqa: S608 -- quoted names
    )


def _scan_known(connection: duckdb.DuckDBPyConnection, clients: Clients, pair: Pair, scratch: Path) -> None:
    """Tables of customers that do not count: `trained` on, `decided` on between the versions, and arrived `earlier`.

    A snapshot, or evidence, whose rows were deleted counts as if it had all customers of its buckets (`gone`).
    """
    ledger, model = clients.ledger, clients.settings.model_name
    trained, earlier, everybody = [], [], False
    for version in {pair.first, pair.second}:
        record = ledger.version(model, version)
        snapshot = ledger.snapshot(record.snapshot) if record else None
        try:
            files = customer_files(clients.storage, snapshot, scratch) if snapshot else []
        except PartFault:
            files = []
        everybody = everybody or not files
        trained += files
        earlier += files if version == pair.first else []
    for view, files, buckets in (("trained", trained, TRAINING), ("earlier", earlier, range(columnar.BUCKETS))):
        listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
        rows = (
            f"read_parquet([{listed}], union_by_name = true)"
            if files
            else "(SELECT NULL::UBIGINT AS _customer, NULL::INTEGER AS _bucket)"
        )
        connection.execute(
            f"CREATE TEMP TABLE {view} AS SELECT DISTINCT {CUSTOMER} FROM {rows} WHERE {BUCKET} BETWEEN {buckets[0]} AND {buckets[-1]}"  # noqa: S608 -- quoted paths
        )
    used, unknown = _decided_customers(clients, pair)
    connection.register("decided", pa.table({CUSTOMER: pa.array(used, pa.uint64())}))
    gone = pa.table({"trained": [everybody], "decided": [unknown]})
    connection.register("gone", gone)


def _decided_customers(clients: Clients, pair: Pair) -> tuple[np.ndarray, bool]:
    """The customers that decisions between two versions used, and whether the evidence of one of them was deleted."""
    found, gone = [np.zeros(0, np.uint64)], False
    for decision in clients.ledger.outlines(clients.settings.model_name):
        if {decision.challenger, decision.champion} != {pair.first, pair.second}:
            continue
        digest = decision.digests.get("evidence", "")
        if not digest or not has_evidence(digest, clients.storage):
            gone = True
            continue
        for name in part_names(clients.storage, decision_rows(digest)):
            part = clients.storage.read_table(name, ["customer", "used"])
            found.append(part.filter(part["used"])["customer"].to_numpy())
    return np.concatenate(found), gone


def _asking_sql(contract: Contract, pair: Pair) -> str:
    """Each row with its label, scores and weight, and the first reason why it does not count."""
    since = pair.since.astimezone(UTC)
    day, moment = since.date().isoformat(), since.isoformat()
    begins, ends, label = "came._arrived", "came._arrived", f"came.{TARGET}"
    late = f"came._arrived_at > TIMESTAMPTZ '{moment}'"
    if contract.horizon_days is not None:
        begins, ends, label = f"came.{AS_OF}", f"came.{AS_OF} + {contract.horizon_days}", "labels.y"
        late = f"came.{AS_OF} > DATE '{day}'"
    elif contract.as_of is None:
        late += f" AND came.{CUSTOMER} NOT IN (SELECT {CUSTOMER} FROM earlier WHERE {CUSTOMER} IS NOT NULL)"  # noqa: S608 -- our own names
    in_training = f"{BUCKET} BETWEEN {TRAINING[0]} AND {TRAINING[-1]}"
    in_holdout = f"{BUCKET} BETWEEN {HOLDOUT[0]} AND {HOLDOUT[-1]}"
    return f"""
        WITH came AS (SELECT * FROM scored JOIN batches USING ({BATCH})),
        rows AS (
          SELECT came.{CUSTOMER}, came.{BUCKET}, came.{AS_OF}, came._rank, {label} AS y,
            came.{score_column(pair.first)} AS first, came.{score_column(pair.second)} AS second,
            {late} AS late, {begins} AS begins, {ends} AS ends
          FROM came LEFT JOIN labels ON labels.{CUSTOMER} = came.{CUSTOMER} AND labels.{AS_OF} = came.{AS_OF}
        ),
        touched AS (
          SELECT rows.{CUSTOMER}, rows._rank, bool_or(contacted) AS contacted, max(weight) AS weight
          FROM rows JOIN treated ON treated.customer = rows.{CUSTOMER} AND treated.since <= rows.ends AND treated.until >= rows.begins
          GROUP BY ALL
        ),
        reasoned AS (
          SELECT rows.*, coalesce(touched.weight, 1.0) AS weight,
            CASE
              WHEN NOT coalesce(late, FALSE) THEN 'earlier'
              WHEN {in_training}
                AND (gone.trained OR rows.{CUSTOMER} IN (SELECT {CUSTOMER} FROM trained WHERE {CUSTOMER} IS NOT NULL)) THEN 'trained'
              WHEN (gone.decided AND {in_holdout}) OR rows.{CUSTOMER} IN (SELECT {CUSTOMER} FROM decided) THEN 'decided'
              WHEN coalesce(touched.contacted, FALSE) THEN 'contacted'
              WHEN y IS NULL THEN 'waiting'
              ELSE '{COUNTS}'
            END AS reason
          FROM rows CROSS JOIN gone LEFT JOIN touched ON touched.{CUSTOMER} = rows.{CUSTOMER} AND touched._rank = rows._rank
        )
        SELECT * REPLACE (
          CASE WHEN reason = '{COUNTS}' AND row_number() OVER (PARTITION BY {CUSTOMER}, reason ORDER BY {AS_OF}, _rank) > 1
            THEN 'repeated' ELSE reason END AS reason
        ) FROM reasoned
        """  # noqa: S608 -- our own names and dates


def _result(connection: duckdb.DuckDBPyConnection) -> LaterRows:
    counts = dict(connection.execute("SELECT reason, count(*) FROM asked GROUP BY reason").fetchall())
    ((stood_for,),) = connection.execute("SELECT coalesce(bool_or(weight > 1), FALSE) FROM asked").fetchall()
    rows = connection.execute(
        f"SELECT {CUSTOMER}, CAST(y AS BIGINT) AS y, first, second, weight FROM asked WHERE reason = '{COUNTS}' ORDER BY {CUSTOMER}"  # noqa: S608 -- our own names
    ).fetchnumpy()
    contacted = counts.get("contacted", 0) > 0
    weights = np.asarray(rows["weight"], np.float64)
    return LaterRows(
        np.asarray(rows[CUSTOMER], np.uint64),
        np.asarray(rows["y"], np.int64),
        np.asarray(rows["first"], np.float64),
        np.asarray(rows["second"], np.float64),
        weights,
        {reason: int(counts[reason]) for reason in REASONS if reason in counts},
        contacted and not stood_for,
    )
