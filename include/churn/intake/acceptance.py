"""One batch, from its bytes to its verdict: accepted rows, rows set aside, and a ledger row last.

Files are named by the batch's hash and written before the ledger knows of them: run again after a
kill at any point, the same files and the same row come out.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import duckdb

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.paths import DOCS, accepted, docs_index, original, quarantined
from churn.foundation.records import Batch, BatchVerdict, Drift
from churn.foundation.storage import Storage
from churn.intake import quarantine, validation
from churn.intake.drift import draw_drift, measure_drift
from churn.intake.history import open_history
from churn.intake.judging import REJECTED, Judged, judge_rows, reject_rows
from churn.intake.reading import BatchFile, FileFault, open_file
from churn.intake.table_rules import IntakeLimits, TableRule, table_rules

log = logging.getLogger(__name__)
DOCS_SUFFIXES = (".html", ".css", ".svg", ".png", ".ico", ".json")  # the rest are films that explain GX, 3 MB a batch


class BatchRejected(ChurnError):  # noqa: N818 -- the domain's word for it
    """A whole batch stays out of training; what, how many, the next step."""


@dataclass(frozen=True)
class _Desk:
    """What judging one batch needs at hand."""

    batch: Batch
    night: str
    storage: Storage
    ledger: Ledger
    contract: Contract
    connection: duckdb.DuckDBPyConnection
    scratch: Path
    link: str | None

    @property
    def docs(self) -> Path:
        """The folder in which the batch's pages are made."""
        return self.scratch / "docs"


def accept_batch(
    batch: str,
    night: str,
    storage: Storage,
    ledger: Ledger,
    contract: Contract,
    limits: IntakeLimits,
    link: str | None = None,
) -> Batch:
    """Judge a batch, once.

    Args:
        batch: its hash.
        night: the night that judges it.
        storage: the data root.
        ledger: remembers the verdict.
        contract: the data contract.
        limits: what a batch may be like.
        link: the page of the night's run, to which the batch's pages lead back.

    Returns:
        The batch with its counts; arrived = accepted + quarantined.

    Raises:
        BatchRejected: the batch is not fit; its rows are in quarantine, the original is kept.
        ValidationCrashed: there is no verdict; the batch waits for the next run.
    """
    known = _known(ledger, batch)
    if known.state == "arrived":
        with (
            columnar.engine(limits.memory_limit) as connection,
            storage.scratch() as scratch,
        ):
            desk = _Desk(known, night, storage, ledger, contract, connection, scratch, link)
            desk.docs.mkdir()
            _judge(desk, limits)
        known = _known(ledger, batch)
    if known.state == "rejected":
        raise BatchRejected(known.reason)
    return known


def _judge(desk: _Desk, limits: IntakeLimits) -> None:
    with desk.storage.reading(original(desk.batch.batch)) as stream:
        file = open_file(stream)
        try:
            file.check(desk.contract)
            _note_extra_columns(desk, file)
            judged = judge_rows(desk.connection, file, desk.batch.batch, desk.contract, desk.scratch)
        except FileFault as fault:
            _reject(desk, file, None, f"file.{fault.code}", fault.sentence)
            return
        verdict, rules, drift = _validate(desk, judged, limits)
        if not verdict.passed:
            _reject(desk, file, judged, REJECTED, _why(desk, judged, verdict, rules))
            return
    _accept(desk, judged, _sentences(verdict.warnings, rules), drift)


def _validate(
    desk: _Desk, judged: Judged, limits: IntakeLimits
) -> tuple[validation.Judgement, dict[str, TableRule], list[Drift]]:
    """Let GX judge the good rows and the batch's numbers, and publish the pages."""
    contract, connection = desk.contract, desk.connection
    history = open_history(connection, desk.storage, desk.ledger, contract)
    drift = measure_drift(connection, judged.good, history, contract, limits.drift_limit) if history else []
    rules = table_rules(connection, judged, history, drift, contract, limits)
    suites = {
        validation.ROWS: (
            validation.accepted_frame(judged.good, contract),
            validation.row_expectations(contract),
        ),
        validation.FACTS: (validation.facts_frame(rules), validation.batch_expectations(rules)),
    }
    named = {rule.name: rule for rule in rules}
    verdict = validation.judge(desk.batch.batch, suites, [*contract.rules, *named], desk.docs)
    if drift:
        draw_drift(drift).savefig(desk.docs / validation.PICTURE)
    said = [_counts(judged), *_sentences([*verdict.failures, *verdict.warnings], named)]
    _publish(desk, verdict, said)
    return verdict, named, drift


def _publish(desk: _Desk, verdict: validation.Judgement | None, said: list[str]) -> None:
    """Put the batch's pages where its task leads to."""
    validation.write_index(desk.batch.batch, verdict, said, desk.docs, desk.link)
    desk.storage.upload(desk.docs, f"{DOCS}/{desk.batch.batch}", DOCS_SUFFIXES)


def _accept(desk: _Desk, judged: Judged, warnings: list[str], drift: list[Drift]) -> None:
    batch = desk.batch.batch
    rules = _rules(desk, judged)
    with judged.good.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    desk.storage.move_in(judged.good, accepted(batch))
    if judged.set_aside:
        desk.storage.move_in(judged.aside, quarantined(batch))
    else:
        desk.storage.remove(quarantined(batch))  # of an earlier verdict
    desk.ledger.judge_batch(
        batch,
        desk.night,
        BatchVerdict(
            state="accepted",
            arrived_rows=judged.arrived,
            accepted_rows=judged.accepted,
            quarantined_rows=judged.set_aside,
            unlabelled_rows=judged.unlabelled,
            events=judged.events,
            rules=rules,
            warnings=warnings,
            accepted_sha256=digest,
        ),
        drift,
    )
    log.info("Batch %s is accepted: %s", batch[:12], _counts(judged))
    for warning in warnings:
        log.warning("Batch %s: %s", batch[:12], warning)


def _reject(desk: _Desk, file: BatchFile, judged: Judged | None, rule: str, sentence: str) -> None:
    batch = desk.batch.batch
    if judged is None:
        _publish(desk, None, [sentence])
    rows, aside = reject_rows(desk.connection, file, batch, desk.scratch, judged, rule)
    if aside:
        desk.storage.move_in(rows, quarantined(batch))
    kept = f"Its {aside} rows are in {quarantined(batch)}." if aside else f"It is kept as {original(batch)}."
    desk.ledger.judge_batch(
        batch,
        desk.night,
        BatchVerdict(
            state="rejected",
            arrived_rows=aside,
            accepted_rows=0,
            quarantined_rows=aside,
            unlabelled_rows=judged.unlabelled if judged else 0,
            rules=_rules(desk, judged) if judged else [],
            reason=(
                f"Batch {batch[:12]} ({desk.batch.name}) is rejected: {sentence} {kept} "
                f"Report: {desk.storage.url(docs_index(batch))}"
            ),
        ),
    )


def _why(desk: _Desk, judged: Judged, verdict: validation.Judgement, rules: dict[str, TableRule]) -> str:
    """What stops the batch, in words; then the most frequent faults of its rows."""
    of_the_batch = [one for one in verdict.failures if set(one.rules) & set(rules)]
    if not of_the_batch:
        failed = "; ".join(one.said for one in verdict.failures)
        return (
            f"the accepted rows fail {len(verdict.failures)} of {len(verdict.outcomes)} expectations: {failed}. "
            "The row rules let through what the suite refuses: this is a defect of the pipeline, not of the file. Report it."
        )
    frequent = f" Most frequent: {quarantine.most_frequent(_rules(desk, judged))}." if judged.set_aside else ""
    return " ".join(_sentences(of_the_batch, rules)) + frequent


def _counts(judged: Judged) -> str:
    waiting = f", {judged.unlabelled} of them waiting for their label" if judged.unlabelled else ""
    return f"{judged.arrived} rows arrived, {judged.accepted} are good, {judged.set_aside} set aside{waiting}."


def _rules(desk: _Desk, judged: Judged) -> list[tuple[str, int, list[int]]]:
    return columnar.count_rules(desk.connection, judged.aside, quarantine.EXAMPLE_LINES)


def _sentences(outcomes: list[validation.Outcome], rules: dict[str, TableRule]) -> list[str]:
    return [
        rules[rule].sentence if rule in rules else one.said for one in outcomes for rule in one.rules or (one.said,)
    ]


def _note_extra_columns(desk: _Desk, file: BatchFile) -> None:
    extra = [name for name in file.header if name not in desk.contract.names]
    if extra:
        log.info(
            "Batch %s: columns that the contract does not name are ignored: %s.",
            desk.batch.batch[:12],
            ", ".join(extra),
        )


def _known(ledger: Ledger, batch: str) -> Batch:
    known = ledger.batch(batch)
    if known is None:
        raise ChurnError(f"The ledger knows no batch {batch}. `churn batches` lists those that arrived.")
    return known
