"""Scores of batches on arrival: before any training can use a batch, the living versions score its rows.

So it is known what each version said of a row before anybody could have learned from it. A batch is scored once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.decision.scoring import Scorer, Unscorable, open_scorer
from churn.errors import ChurnError, Outage
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.ledger import Ledger
from churn.foundation.parts import RESTORE, StoredPart, WrittenPart, check_part, part_name, read_manifest, store_parts
from churn.foundation.paths import accepted, arrival_scores
from churn.foundation.progress import report_progress
from churn.foundation.records import ArrivalScores, Batch
from churn.foundation.scratch import writing
from churn.foundation.spread import by_threads
from churn.foundation.storage import Storage
from churn.intake.judged_rows import batch_number
from churn.intake.label_files import ROWS
from churn.release.lineage import predecessor

log = logging.getLogger(__name__)
CHAMPION, PREVIOUS, BASELINE, SHADOW = "champion", "previous", "baseline", "shadow"
SCORED, UNSCORABLE = "scored", "unscorable"
CUSTOMER, BUCKET, AS_OF, TARGET, BATCH = "_customer", "_bucket", "_as_of", "_label", "_batch"
_ROWS = 65_536


def score_column(version: int | str) -> str:
    """The column with the scores of a version."""
    return f"version_{version}"


def living_versions(ledger: Ledger, model: str, shadows: int) -> dict[int, str]:
    """The versions that score what arrives, each with its role: champion, previous and baseline version, and held challengers.

    Args:
        ledger: knows promotions and decisions.
        model: the registered model.
        shadows: the number of newest held challengers.
    """
    rows = ledger.promotions(model)
    if not rows or rows[0].version is None:
        return {}
    roles: dict[int, str] = {}
    for version, role in ((rows[0].version, CHAMPION), (predecessor(rows), PREVIOUS), (rows[0].anchor, BASELINE)):
        if version is not None:
            roles.setdefault(version, role)
    held = [
        decision.challenger
        for decision in ledger.outlines(model)
        if decision.verdict == "hold" and not decision.dry_run and decision.challenger not in roles
    ]
    for version in list(dict.fromkeys(held))[:shadows]:
        roles[version] = SHADOW
    return roles


def score_arrivals(clients: Clients, night: str) -> list[ArrivalScores]:
    """Let the living versions score every accepted batch of rows that no training has used yet, once.

    A version that cannot score is recorded as such and does not stop the others.

    Raises:
        TrackingUnreachable: MLflow is unavailable.
        PartFault: accepted rows are missing or have been changed.
    """
    ledger, model = clients.ledger, clients.settings.model_name
    versions = living_versions(ledger, model, clients.settings.shadows)
    waiting = _unscored(ledger, model) if versions else []
    if not waiting:
        return []
    with _opened(clients, versions) as opened:
        return [_score_batch(clients, batch, versions, opened, night) for batch in waiting]


def _unscored(ledger: Ledger, model: str) -> list[Batch]:
    """The accepted batches of rows that have no scores and that no training has used."""
    last = ledger.last_decision(model)
    snapshot = ledger.snapshot(last.snapshot) if last else None
    used = set(snapshot.batches if snapshot else ())
    scored = {row.batch for row in ledger.arrival_scores(model)}
    return [
        batch
        for batch in ledger.batches(state="accepted")
        if (batch.kind or ROWS) == ROWS and batch.batch not in used and batch.batch not in scored
    ]


@dataclass
class _Opened:
    """The versions that can score, and why others cannot."""

    scorers: dict[int, Scorer] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)


@contextmanager
def _opened(clients: Clients, versions: Mapping[int, str]) -> Iterator[_Opened]:
    found = _Opened()
    with ExitStack() as stack:
        for version in versions:
            try:
                scorer = open_scorer(version, clients.ledger, clients.tracking, clients.environments)
                found.scorers[version] = stack.enter_context(scorer)
            except Outage:
                raise
            except (Unscorable, ChurnError) as fault:
                log.warning("Version %d does not score what arrives: %s", version, fault)
                found.faults[version] = str(fault)
        yield found


@dataclass(frozen=True)
class _Job:
    storage: Storage
    contract: Contract
    salt: bytes
    scorers: Mapping[int, Scorer]
    batch: Batch
    scratch: Path
    memory: str


def _score_batch(
    clients: Clients, batch: Batch, versions: Mapping[int, str], opened: _Opened, night: str
) -> ArrivalScores:
    storage, model = clients.storage, clients.settings.model_name
    folder = accepted(batch.batch)
    manifest = read_manifest(storage, folder)
    parts = manifest.parts if manifest else (StoredPart(part_name(0), batch.accepted_rows or 0, "", None),)
    with storage.scratch() as scratch:
        job = _Job(
            storage,
            clients.contract,
            clients.sampling.salt,
            opened.scorers,
            batch,
            scratch,
            clients.spread.engine_memory,
        )
        work = by_threads(partial(_score_part, job, manifest is None))
        scoring = clients.spread.each(work, list(enumerate(parts)))
        rows = batch.accepted_rows or 0
        done = list(
            report_progress(
                scoring, f"Scoring batch {batch.batch[:12]} on arrival", rows, "rows", size=lambda part: part[0].rows
            )
        )
        faults = dict(opened.faults)
        for _, of_part in done:
            faults |= of_part
        stored = store_parts(storage, arrival_scores(batch.batch, model), [part for part, _ in done])
    said = {
        str(version): {
            "role": role,
            "state": UNSCORABLE if version in faults else SCORED,
            "detail": faults.get(version, ""),
        }
        for version, role in versions.items()
    }
    written = sum(part.rows for part, _ in done)
    return clients.ledger.add_arrival_scores(
        ArrivalScores(batch.batch, model, said, written, stored.digest, night, datetime.now(UTC))
    )


def _score_part(job: _Job, single: bool, numbered: tuple[int, StoredPart]) -> tuple[WrittenPart, dict[int, str]]:
    """Score a part of the accepted rows; returns the file, and why versions could not."""
    number, part = numbered
    name = f"{accepted(job.batch.batch)}.parquet" if single else f"{accepted(job.batch.batch)}/{part.name}"
    next_step = f"{RESTORE} Or withdraw its batch: `churn batches withdraw {job.batch.batch[:12]} --reason ...`."
    file = check_part(job.storage, name, None if single else part.sha256, job.scratch, next_step)
    target, faults = job.scratch / f"scores-{part_name(number)}", dict[int, str]()
    writer: pq.ParquetWriter | None = None
    with columnar.engine(job.memory, threads=1) as connection, writing(target) as own:
        for batch in columnar.read_bucketed_rows(connection, file, 0, job.contract, job.salt, _ROWS):
            table = _score_rows(job, batch, faults)
            writer = writer or pq.ParquetWriter(own, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is None:
            schema = columnar.bucketed_schema(job.contract)
            nothing = pa.record_batch([pa.array([], column.type) for column in schema], schema=schema)
            pq.write_table(_score_rows(job, nothing, faults), own)
        else:
            writer.close()
    if not job.storage.local:
        file.unlink()
    return WrittenPart.of(target), faults


def _score_rows(job: _Job, batch: pa.RecordBatch, faults: dict[int, str]) -> pa.Table:
    contract, rows = job.contract, batch.num_rows
    features = pa.Table.from_batches([batch.select(contract.feature_names)]).to_pandas(date_as_object=False)
    as_of = batch[contract.as_of.name] if contract.as_of else pa.nulls(rows, pa.date32())
    columns: dict[str, pa.Array] = {
        CUSTOMER: batch[CUSTOMER],
        BUCKET: batch[BUCKET],
        AS_OF: as_of,
        TARGET: batch[contract.target.name].cast(pa.int8()),
        BATCH: pa.array(np.full(rows, batch_number(job.batch.batch))),
    }
    for version, scorer in job.scorers.items():
        scores = np.full(rows, np.nan)
        if rows and version not in faults:
            try:
                scores = np.asarray(scorer(features), np.float64)
            except Exception as error:  # a model can fail in any way; the reason is recorded
                log.exception("Version %d cannot score batch %s.", version, job.batch.batch[:12])
                faults[version] = f"version {version} cannot score these rows ({type(error).__name__})."
            else:
                if not np.isfinite(scores).all():
                    faults[version] = f"version {version} gives scores that are not numbers."
        columns[score_column(version)] = pa.array(scores, pa.float64())
    return pa.table(columns)


def scored_files(storage: Storage, scores: Sequence[ArrivalScores]) -> list[str]:
    """The names of the files with the scores of some batches; maintenance may have deleted those of others."""
    names = []
    for row in scores:
        folder = arrival_scores(row.batch, row.model)
        manifest = read_manifest(storage, folder)
        names += [f"{folder}/{part.name}" for part in manifest.parts] if manifest else []
    return names
