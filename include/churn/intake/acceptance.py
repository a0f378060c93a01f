"""One batch, from its bytes to its verdict: accepted rows, rows set aside, and a ledger row last.

Files are named by the batch's hash and written before the ledger knows of them: run again after a
kill at any point, the same files and the same row come out.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from churn.contract import Contract, Kind
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.ledger import Batch, Ledger
from churn.foundation.storage import ACCEPTED, DOCS, Storage
from churn.intake import quarantine, reading, validation
from churn.intake.arrival import original

log = logging.getLogger(__name__)
DOCS_SUFFIXES = (".html", ".css", ".svg", ".ico")  # the rest are films that explain GX, 3 MB a batch


class BatchRejected(ChurnError):  # noqa: N818 -- the domain's word for it
    """A whole batch stays out of training; what, how many, the next step."""


@dataclass(frozen=True)
class IntakeLimits:
    """What a batch must keep to, and what the engine may use."""

    max_rejected_share: float
    memory_limit: str


def accepted(batch: str) -> str:
    """Where the accepted rows of a batch are kept."""
    return f"{ACCEPTED}/{batch}.parquet"


def docs_index(batch: str) -> str:
    """The first page of a batch's Data Docs."""
    return f"{DOCS}/{batch}/index.html"


def accept_batch(
    batch: str, night: str, storage: Storage, ledger: Ledger, contract: Contract, limits: IntakeLimits
) -> Batch:
    """Judge a batch, once.

    Returns:
        The batch with its counts; arrived = accepted + quarantined.

    Raises:
        BatchRejected: the batch is not fit; its rows are in quarantine, the original is kept.
        ValidationCrashed: there is no verdict; the batch waits for the next run.
    """
    known = _known(ledger, batch)
    if known.state == "arrived":
        _judge(known, night, storage, ledger, contract, limits)
        known = _known(ledger, batch)
    if known.state == "rejected":
        raise BatchRejected(known.reason)
    return known


def _judge(
    batch: Batch, night: str, storage: Storage, ledger: Ledger, contract: Contract, limits: IntakeLimits
) -> None:
    with storage.reading(original(batch.batch)) as stream:
        found = reading.read_records(stream.read(), contract)
    if found.extra_columns:
        log.info(
            "Batch %s: columns that the contract does not name are ignored: %s.",
            batch.batch[:12],
            ", ".join(found.extra_columns),
        )
    if found.fault:
        _reject(
            batch, night, storage, ledger, _whole(found.records, found.records["_unreadable"]), found.fault.sentence
        )
        return
    with columnar.engine(limits.memory_limit) as connection:
        judged = columnar.apply_row_rules(connection, found.records, contract)
    good = judged.filter(pc.equal(pc.list_value_length(judged["_failed"]), 0)).drop_columns(["_raw", "_failed"])
    verdict = _validate(batch.batch, judged, good, storage, contract, limits)
    if not verdict.passed:
        sentence = _why(judged, good, verdict, contract, limits)
        _reject(batch, night, storage, ledger, _whole(judged, pa.array(["batch.rejected"] * judged.num_rows)), sentence)
        return
    storage.write_table(accepted(batch.batch), good)
    aside = quarantine.set_aside(storage, batch.batch, judged)
    ledger.judge_batch(batch.batch, night, "accepted", (judged.num_rows, good.num_rows, aside))
    log.info(
        "Batch %s: %d rows arrived, %d accepted, %d set aside.", batch.batch[:12], judged.num_rows, good.num_rows, aside
    )


def _validate(
    batch: str, judged: pa.Table, good: pa.Table, storage: Storage, contract: Contract, limits: IntakeLimits
) -> validation.Judgement:
    facts = pd.DataFrame(
        {"arrived_rows": [judged.num_rows], "rejected_share": [1 - good.num_rows / max(judged.num_rows, 1)]}
    )
    # An integer column with absent values would become a float column in pandas.
    absent = {column.name: "Int64" for column in contract.columns if column.nullable and column.kind is Kind.INTEGER}
    frames = {
        validation.ROWS: (
            good.drop_columns(["_line"]).to_pandas().astype(absent),
            validation.row_expectations(contract),
        ),
        validation.FACTS: (facts, validation.batch_expectations(limits.max_rejected_share)),
    }
    with tempfile.TemporaryDirectory(prefix="churn-docs-") as folder:
        verdict = validation.judge(batch, frames, Path(folder))
        storage.upload(Path(folder), f"{DOCS}/{batch}", DOCS_SUFFIXES)
    return verdict


def _why(
    judged: pa.Table, good: pa.Table, verdict: validation.Judgement, contract: Contract, limits: IntakeLimits
) -> str:
    arrived, aside = judged.num_rows, judged.num_rows - good.num_rows
    if aside > limits.max_rejected_share * arrived:
        return (
            f"{aside} of {arrived} rows set aside ({aside / arrived:.1%}, limit {limits.max_rejected_share:.1%}). "
            f"Most frequent: {quarantine.most_frequent(judged)}. "
            "Fix the file and drop it again, or raise CHURN_MAX_REJECTED_SHARE."
        )
    classes = pc.unique(good[contract.target.name]).to_pylist()
    if len(classes) == 1:
        return (
            f"{contract.target.name} is {classes[0]} in all {good.num_rows} rows: there is nothing to learn from one class. "
            "Check the export of the label and drop the file again."
        )
    return (
        f"the accepted rows fail {len(verdict.failures)} of {verdict.expectations} expectations: {'; '.join(verdict.failures)}. "
        "The row rules let through what the suite refuses: this is a defect of the pipeline, not of the file. Report it."
    )


def _whole(records: pa.Table, reason: pa.Array) -> pa.Table:
    """Every row of a rejected batch as a row set aside, with the batch's reason behind its own."""
    own = records["_failed"].to_pylist() if "_failed" in records.column_names else [[]] * records.num_rows
    rules = pa.array(
        [[*mine, whole] for mine, whole in zip(own, reason.to_pylist(), strict=True)], pa.list_(pa.string())
    )
    return pa.table({"_line": records["_line"], "_raw": records["_raw"], "_failed": rules})


def _reject(batch: Batch, night: str, storage: Storage, ledger: Ledger, rows: pa.Table, sentence: str) -> None:
    aside = quarantine.set_aside(storage, batch.batch, rows)
    kept = (
        f"Its {aside} rows are in {quarantine.quarantined(batch.batch)}."
        if aside
        else f"It is kept as {original(batch.batch)}."
    )
    reason = f"Batch {batch.batch[:12]} ({batch.name}) is rejected: {sentence} {kept}"
    ledger.judge_batch(batch.batch, night, "rejected", (aside, 0, aside), reason)


def _known(ledger: Ledger, batch: str) -> Batch:
    known = ledger.batch(batch)
    if known is None:
        raise ChurnError(f"The ledger knows no batch {batch}. `churn batches` lists those that arrived.")
    return known
