"""Takes one batch from its bytes to its verdict: accepted rows, quarantined rows, and the ledger row last.

Files are named by the hash of the batch and written before the ledger row, so that a run that was killed at any point can be
repeated with the same result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date
from pathlib import Path

import duckdb

from churn.contract import CONFLICT, Contract
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, remove_table, store_parts
from churn.foundation.paths import DOCS, accepted, docs_index, original, quarantined
from churn.foundation.records import Batch, BatchVerdict, Drift
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Spread
from churn.foundation.storage import Storage
from churn.foundation.svg import standalone
from churn.foundation.wording import rejection
from churn.intake import validation
from churn.intake.batch_file import FileFault
from churn.intake.batch_page import PICTURE, write_index
from churn.intake.divided_file import DividedFile, divide_original
from churn.intake.drift import SAMPLE, draw_drift, drifting_columns, measure_drift
from churn.intake.header import extra_columns
from churn.intake.history import History, Question, compare_here, find_history
from churn.intake.history_apart import can_compare_apart, compare_apart
from churn.intake.judged_rows import Judged
from churn.intake.judging import REJECTED, judge_rows, reject_rows
from churn.intake.label_files import LEAVERS, ROWS, Completeness, contract_of, kind_of_file
from churn.intake.label_rules import completeness_of, label_rules, leavers_question
from churn.intake.reading import open_file
from churn.intake.rule_words import BrokenRule, most_frequent
from churn.intake.statements import Statements, read_statements
from churn.intake.table_rules import IntakeLimits, TableRule, table_rules

log = logging.getLogger(__name__)
REPEATED_KEY_SHARE = 0.2
"""With more rows than this in conflict with another row of their key, the key does not identify a customer."""
DOCS_SUFFIXES = (
    ".html",
    ".css",
    ".svg",
    ".png",
    ".ico",
    ".json",
)  # the rest are videos that explain GX, 3 MB per batch


class BatchRejected(ChurnError):  # noqa: N818 -- the term of the domain
    """A whole batch is rejected; the message has the reason, the counts and the next step."""


@dataclass(frozen=True)
class _BatchJob:
    """Everything that judging one batch needs. `contract` is the one of its kind of rows, and `whole` the data contract.

    `statements` are those of the rows of a file of leavers, once they are judged.
    """

    batch: Batch
    night: str
    storage: Storage
    ledger: Ledger
    contract: Contract
    whole: Contract
    connection: duckdb.DuckDBPyConnection
    spread: Spread
    scratch: Path
    link: str | None
    kind: str = ROWS
    statements: Statements | None = None

    @property
    def stated(self) -> Completeness | None:
        """What a file of leavers says of itself, beside the batches that are known now."""
        return completeness_of(self.statements, self.ledger.batches()) if self.statements else None

    @property
    def arrived(self) -> date:
        """The date of arrival, in UTC."""
        return self.batch.arrived_at.astimezone(UTC).date()

    @property
    def docs(self) -> Path:
        """The folder in which the pages of the batch are created."""
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
        night: the id of the run that judges it.
        storage: the data root.
        ledger: records the verdict.
        contract: the data contract.
        limits: the limits for a batch as a whole.
        link: the page of the run in Airflow, to which the pages of the batch link.

    Returns:
        The batch with its counts; arrived = accepted + quarantined.

    Raises:
        BatchRejected: the batch is rejected. Its rows are in quarantine, and the original is kept.
        ValidationCrashed: there is no verdict. The batch waits for the next run.
    """
    record = _find_batch(ledger, batch)
    if record.state == "arrived":
        with (
            columnar.engine(limits.spread.memory_limit) as connection,
            storage.scratch() as scratch,
        ):
            job = _BatchJob(
                record, night, storage, ledger, contract, contract, connection, limits.spread, scratch, link
            )
            job.docs.mkdir()
            _judge(job, limits)
        record = _find_batch(ledger, batch)
    if record.state == "rejected":
        raise BatchRejected(record.reason)
    return record


def _judge(job: _BatchJob, limits: IntakeLimits) -> None:
    batch, name = job.batch.batch, original(job.batch.batch)
    with job.storage.reading(name) as stream:
        file = open_file(stream)
        try:
            kind = kind_of_file(file.names(), job.whole)
            job = replace(job, kind=kind, contract=contract_of(kind, job.whole))
            file.check(job.contract)
            notes = notes_on_columns(file.header, job.contract)
            job = replace(job, contract=job.contract.of_file(file.header))
            divided = divide_original(job.storage, name, file, job.scratch, limits.part_size)
            judged = judge_rows(job.spread, divided, batch, job.contract, job.scratch)
            if kind == LEAVERS:
                parts = [part.good.file for part in judged.parts]
                job = replace(job, statements=read_statements(job.spread, parts, job.arrived))
        except FileFault as fault:
            whole = DividedFile(job.storage, name, tuple(file.header))
            _reject(job, whole, None, f"file.{fault.code}", fault.sentence)
            return
    for note in notes:
        log.info("Batch %s: %s", batch[:12], note)
    verdict, rules, drift = _validate(job, judged, limits, notes)
    if verdict.passed:
        _accept(job, judged, describe_outcomes(verdict.warnings, rules), drift)
        return
    sentence = explain_rejection(job.contract, judged, verdict, rules, judged.rules)
    _reject(job, divided, judged, REJECTED, sentence)


def _validate(
    job: _BatchJob, judged: Judged, limits: IntakeLimits, notes: list[str]
) -> tuple[validation.Judgement, dict[str, TableRule], list[Drift]]:
    """Let Great Expectations judge the accepted rows and the numbers of the batch, and publish the pages."""
    contract = job.contract
    stated = job.stated
    history = _compare_with_history(job, judged, limits, stated)
    drift = measure_drift(history, contract, limits.drift_limit) if history and job.kind == ROWS else []
    rules = table_rules(judged, history, drift, contract, limits, job.batch.batch[:12])
    if job.whole.horizon_days is not None:
        rules += label_rules(
            judged, history, job.whole, job.kind, job.arrived, limits, job.statements, stated, job.batch.batch[:12]
        )
    named = {rule.name: rule for rule in rules}
    rows = [part.good for part in judged.parts]
    verdict = validation.judge_batch(job.batch.batch, rows, rules, contract, job.docs, limits.spread)
    if drift:
        (job.docs / PICTURE).write_text(standalone(draw_drift(drift)), encoding="utf-8")
    sentences = [describe_counts(judged), *describe_outcomes([*verdict.failures, *verdict.warnings], named), *notes]
    _publish(job, verdict, sentences, judged.rules)
    return verdict, named, drift


def _compare_with_history(
    job: _BatchJob, judged: Judged, limits: IntakeLimits, stated: Completeness | None
) -> History | None:
    """Compare a batch with the accepted history, on this machine or where its parts are judged; None if there is no history."""
    known = find_history(job.storage, job.ledger, job.whole)
    if known is None:
        return None
    question = Question(
        job.whole,
        job.contract,
        sampled=drifting_columns(job.contract) if job.kind == ROWS else (),
        rates=job.kind != ROWS,
        leavers=leavers_question(stated, known.periods) if job.kind == LEAVERS and judged.accepted else None,
    )
    sampling = Sampling(limits.salt, limits.spread) if limits.salt else None
    if sampling and can_compare_apart(known, judged, sampling):
        return History(known, compare_apart(known, judged, question, job.kind, sampling, job.scratch, SAMPLE))
    return History(known, compare_here(job.connection, known, judged, question, SAMPLE))


def _publish(
    job: _BatchJob,
    verdict: validation.Judgement | None,
    sentences: list[str],
    broken: Sequence[BrokenRule] = (),
) -> None:
    """Upload the pages of the batch to where its task links."""
    write_index(job.batch.batch, verdict, sentences, job.docs, job.contract, broken, job.link)
    job.storage.upload(job.docs, f"{DOCS}/{job.batch.batch}", DOCS_SUFFIXES)


def _accept(job: _BatchJob, judged: Judged, warnings: list[str], drift: list[Drift]) -> None:
    batch = job.batch.batch
    if _overtaken(job):
        return
    stated = job.stated
    manifest = store_parts(job.storage, accepted(batch), [part.good for part in judged.parts])
    _, aside_digest = _quarantine(job, [part.aside for part in judged.parts])
    job.ledger.judge_batch(
        batch,
        job.night,
        BatchVerdict(
            state="accepted",
            arrived_rows=judged.arrived,
            accepted_rows=judged.accepted,
            quarantined_rows=judged.set_aside,
            unlabelled_rows=judged.unlabelled,
            events=judged.events,
            rules=judged.rules,
            warnings=warnings,
            accepted_sha256=manifest.digest,
            quarantined_sha256=aside_digest,
            kind=job.kind,
            complete_from=stated.begin.isoformat() if stated and stated.begin else None,
            complete_through=stated.through.isoformat() if stated else None,
        ),
        drift,
    )
    log.info("Batch %s has been accepted: %s", batch[:12], describe_counts(judged))
    for warning in warnings:
        log.warning("Batch %s: %s", batch[:12], warning)


def _overtaken(job: _BatchJob) -> bool:
    """Whether another run has judged the batch meanwhile. Its rows and its verdict are left alone."""
    if _find_batch(job.ledger, job.batch.batch).state == "arrived":
        return False
    log.info("Batch %s was judged by another run meanwhile, so this run changes nothing.", job.batch.batch[:12])
    return True


def _quarantine(job: _BatchJob, parts: Sequence[WrittenPart]) -> tuple[int, str | None]:
    """Keep the quarantined rows, if there are any; returns their number, and the hash of their manifest."""
    folder, rows = quarantined(job.batch.batch), sum(part.rows for part in parts)
    if rows:
        return rows, store_parts(job.storage, folder, parts).digest
    remove_table(job.storage, folder)  # left by an earlier verdict
    return 0, None


def _reject(job: _BatchJob, file: DividedFile, judged: Judged | None, rule: str, sentence: str) -> None:
    batch = job.batch.batch
    if _overtaken(job):
        return
    if judged is None:
        _publish(job, None, [sentence])
    # If the file is refused, its events are missing until then, whatever its other rows say.
    through = job.statements.complete_through.greatest if job.statements else None
    quarantined_rows, aside_digest = _quarantine(job, reject_rows(job.spread, file, batch, job.scratch, judged, rule))
    kept = (
        f"Its {quarantined_rows:,} rows are in {quarantined(batch)}."
        if quarantined_rows
        else f"It is kept as {original(batch)}."
    )
    job.ledger.judge_batch(
        batch,
        job.night,
        BatchVerdict(
            state="rejected",
            arrived_rows=quarantined_rows,
            accepted_rows=0,
            quarantined_rows=quarantined_rows,
            unlabelled_rows=judged.unlabelled if judged else 0,
            rules=judged.rules if judged else [],
            quarantined_sha256=aside_digest,
            kind=job.kind,
            complete_through=through.isoformat() if through else None,
            reason=rejection(
                batch[:12], job.batch.name, f"{sentence} {kept} Report: {job.storage.url(docs_index(batch))}"
            ),
        ),
    )


def explain_rejection(
    contract: Contract,
    judged: Judged,
    verdict: validation.Judgement,
    rules: dict[str, TableRule],
    broken: Sequence[BrokenRule],
) -> str:
    """Explain why the batch is rejected, and name the most frequent faults of its rows."""
    of_the_batch = [outcome for outcome in verdict.failures if set(outcome.rules) & set(rules)]
    if not of_the_batch:
        failed = "; ".join(outcome.description for outcome in verdict.failures)
        return (
            f"the accepted rows fail {len(verdict.failures)} of {len(verdict.outcomes)} expectations: {failed}. "
            "The row rules accept what the suite refuses, which is a defect of the pipeline and not of the file. Please report it."
        )
    sentences = describe_outcomes(of_the_batch, rules)
    conflicts = sum(count for rule, count, _ in broken if rule == CONFLICT)
    if conflicts > REPEATED_KEY_SHARE * judged.arrived:
        key = contract.key.name
        sentences.insert(
            0,
            f"{key} does not identify a customer in this file: {conflicts:,} of {judged.arrived:,} rows contradict another row "
            f"with the same {key}. Send one row per customer, or name the column that identifies the customer as the key of the contract.",
        )
    if judged.set_aside:
        sentences.append(f"Most frequent: {most_frequent(broken, contract)}.")
    return " ".join(sentences)


def describe_counts(judged: Judged) -> str:
    """Say how many rows arrived, and what became of them."""
    waiting = f", {judged.unlabelled} of them waiting for a label" if judged.unlabelled else ""
    return f"{judged.arrived:,} rows arrived: {judged.accepted:,} accepted, {judged.set_aside:,} quarantined{waiting}."


def describe_outcomes(outcomes: list[validation.Outcome], rules: dict[str, TableRule]) -> list[str]:
    """Say what each expectation that was not met means."""
    return [
        rules[rule].sentence if rule in rules else outcome.description
        for outcome in outcomes
        for rule in outcome.rules or (outcome.description,)
    ]


def notes_on_columns(header: Sequence[str], contract: Contract) -> list[str]:
    """Sentences on the columns that the file has and the contract does not, and on those that it may lack and lacks."""
    notes = []
    extra = extra_columns(header, contract)
    if extra:
        notes.append(f"Columns that are not in the contract are ignored: {', '.join(extra)}.")
    absent = [column.name for column in contract.columns if column.name not in header]
    if absent:
        notes.append(f"Optional columns that the file does not have: {', '.join(absent)}.")
    return notes


def _find_batch(ledger: Ledger, batch: str) -> Batch:
    record = ledger.batch(batch)
    if record is None:
        raise ChurnError(f"The ledger has no batch {batch}. `churn batches` lists the batches that arrived.")
    return record
