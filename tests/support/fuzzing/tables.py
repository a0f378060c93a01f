"""The readers of files with rows: CSV, gzip and Parquet, files of current customers, and files of labels and leavers."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Contract, Kind
from churn.contracts.bank import BANK_CHURN
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.parts import remove_table
from churn.foundation.paths import accepted, original, population_original, population_quarantined, quarantined
from churn.foundation.records import BatchVerdict
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake import acceptance, validation
from churn.intake.acceptance import accept_batch, notes_on_columns
from churn.intake.batch_file import FileFault
from churn.intake.csv_reading import CsvBatch
from churn.intake.label_files import kind_of_file
from churn.intake.parquet_reading import ParquetBatch
from churn.intake.reading import open_file
from churn.intake.table_rules import IntakeLimits, TableRule
from churn.sample.generator import Night, make_night
from churn.sample.panels import BANK_PANEL, make_panel
from churn.scoring.population import PopulationRejected, judge_customers
from churn.settings import Settings
from support.basics import SALT
from support.coded_contract import CODED
from support.fuzzing.cases import Defect, Target, choice_of
from support.fuzzing.mutations import Cells, change_text, compress, read_cells
from support.fuzzing.parquet_files import make_parquet
from support.fuzzing.promises import require_plain
from support.judged_files import JudgedRows, judge, judge_whole, shared_engine

LENIENT = replace(
    BANK_CHURN,
    columns=tuple(
        replace(column, trim=True, ignore_case=bool(column.categories), nullable=column.modelled)
        for column in BANK_CHURN.columns
    ),
    lenient_header=True,
)
"""The bank's contract, as lenient as it can be."""
CONTRACTS = (BANK_CHURN, LENIENT, CODED)
_AGAIN, _IN_PARTS = 8, 16
"""One case in this number is read twice, and one in parts."""


@cache
def _night(seed: int) -> Cells:
    """A small file of the generator, every second time with planted faults."""
    contract = CODED if seed % 3 == 2 else BANK_CHURN
    rows = 1 + seed % 7
    text = make_night(contract, Night(rows=rows, first_customer=1, seed=seed, faults=min(rows, seed % 2 * 2)))
    return read_cells(text)


def make_csv(draw: random.Random) -> bytes:
    return change_text(draw, _night(draw.randrange(40)))


def make_gzip(draw: random.Random) -> bytes:
    if draw.random() < 0.05:
        return compress(draw, make_parquet_file(draw))
    return compress(draw, change_text(draw, _night(draw.randrange(40))))


def make_parquet_file(draw: random.Random) -> bytes:
    table = _night(draw.randrange(40))
    return make_parquet(draw, [row for row in table if len(row) == len(table[0])])


def check_file(case: bytes) -> str:
    """A file is judged with every row accounted for, or is refused with a plain sentence."""
    return _check_rows(case, CONTRACTS[choice_of(case, len(CONTRACTS))])


def _check_rows(case: bytes, contract: Contract) -> str:
    file = open_file(BytesIO(case))
    try:
        file.check(contract)
        for note in notes_on_columns(file.header, contract):
            require_plain(note, secret=False)
        in_parts = isinstance(file, CsvBatch) and choice_of(case, _IN_PARTS) == 0
        judged = judge(case, contract) if in_parts else judge_whole(case, contract)
    except FileFault as fault:
        require_plain(fault.sentence)
        _require_raw(case, file.header)
        return f"refused: {fault.code}"
    _require_all_rows(case, judged, contract.of_file(file.header), file.header)
    if choice_of(case, _AGAIN) == 1:
        again = judge_whole(case, contract)
        if not again.good.equals(judged.good) or again.quarantined != judged.quarantined:
            raise Defect("The same bytes give another result: they were judged twice")
    return "judged"


def check_names(case: bytes) -> str:
    """What drafts a contract and knows none reads the names in the header, or refuses the file."""
    try:
        names = open_file(BytesIO(case)).names()
    except FileFault as fault:
        require_plain(fault.sentence)
        return "no names"
    kind_of_file(names, BANK_PANEL)
    return "names"


def _check_table(case: bytes) -> str:
    check_names(case)
    return check_file(case)


def _require_raw(case: bytes, header: list[str]) -> None:
    """The rows of a file that is refused are quarantined as they are."""
    file = open_file(BytesIO(case))
    file.header = list(header)
    for rows in file.raw():
        if rows.column_names != ["_line", "_raw"]:
            raise Defect(f"The rows of a refused file have other columns: {rows.column_names}")


def _require_all_rows(case: bytes, judged: JudgedRows, contract: Contract, header: list[str]) -> None:
    good, aside = judged.good, judged.quarantined
    lines = [*good["_line"].to_pylist(), *(row["_line"] for row in aside)]
    if judged.counts.arrived != good.num_rows + len(aside):
        raise Defect(
            f"Rows are lost: {judged.counts.arrived} arrived, {good.num_rows} are good, {len(aside)} quarantined"
        )
    if len(set(lines)) != len(lines) or (lines and min(lines) < 1):
        raise Defect(f"Line numbers are not unique or not positive: {sorted(lines)}")
    if any(not row["_failed"] for row in aside):
        raise Defect("A quarantined row has no rule: it broke none")
    _require_arrived(case, judged, lines)
    rows = good.drop_columns(["_line", "_batch"]).to_pylist()
    for row in rows:
        for column in contract.columns:
            _require_cell(row[column.name], column)
        for relation in contract.relations:
            lesser, greater = row[relation.lesser], row[relation.greater]
            if lesser is not None and greater is not None and lesser > greater:
                raise Defect(f"An accepted row breaks a rule: {relation.rule}")
    keys = [tuple(row[column.name] for column in contract.row_key) for row in rows]
    if len(set(keys)) != len(keys):
        raise Defect("A customer was accepted twice: from one file")


def _require_arrived(case: bytes, judged: JudgedRows, lines: list[int]) -> None:
    """Count the records in another way, where that is possible."""
    arrived, file = judged.counts.arrived, open_file(BytesIO(case))
    if isinstance(file, ParquetBatch):
        known = pq.read_metadata(BytesIO(case)).num_rows
    elif isinstance(file, CsvBatch) and not file.zipped and b'"' not in case:
        text = case.removeprefix(b"\xef\xbb\xbf")
        text = text.replace(b"\r", b"\n") if b"\n" not in text else text
        split = text.split(b"\n")
        known = sum(bool(line.strip()) for line in split) - 1
        if lines and max(lines) > len(split):
            raise Defect(f"A line number is behind the end of the file: {max(lines)} of {len(split)}")
    else:
        return
    if arrived != known:
        raise Defect(f"The number of records differs: {arrived} arrived, {known} are in the file")


def _require_cell(value: Any, column: Column) -> None:
    """Check an accepted value against its column, by plain Python."""
    if value is None:
        holds = column.nullable
    elif column.kind is Kind.TEXT:
        holds = type(value) is str and bool(value) and (not column.categories or value in column.categories)
        holds = holds and "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    elif column.kind is Kind.DATE:
        holds = type(value) is date
    else:
        holds = type(value) is (int if column.kind is Kind.INTEGER else float) and math.isfinite(value)
        holds = holds and (column.minimum is None or value >= column.minimum)
        holds = holds and (column.maximum is None or value <= column.maximum)
        holds = holds and (not column.values or value in column.texts)
    if not holds:
        raise Defect(f"An accepted row breaks the contract: {column.name} ({column.kind}) is {value!r}")


# --- Files of current customers


class _Kept:
    """The data root and the ledger that the targets with a workspace share while they run."""

    storage: Storage
    ledger: Ledger
    folder: Path
    populations: Clients


@contextmanager
def _workspace() -> Iterator[None]:
    with TemporaryDirectory(prefix="churn-fuzz-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        engine = shared_engine()
        patch.setattr(columnar, "engine", lambda *_, **__: nullcontext(engine.cursor()))
        settings = Settings(
            data_root=str(folder / "data"),
            ledger_url=f"sqlite:///{folder}/ledger.db",
            cores=1,
            bucket_salt=SALT,
            mlflow_tracking_uri="http://127.0.0.1:1",
            max_rejected_share=0.6,
        )
        _Kept.storage, _Kept.ledger, _Kept.folder = (
            Storage.open(settings.data_root),
            open_ledger(settings.ledger_url),
            folder,
        )
        _Kept.populations = Clients(settings, _Kept.storage, _Kept.ledger)
        yield


def make_population(draw: random.Random) -> bytes:
    table = [list(row) for row in _night(3 * draw.randrange(12))]  # of the bank's contract
    if draw.random() < 0.7 and "Exited" in table[0]:
        at = table[0].index("Exited")
        for row in table:
            del row[at : at + 1]
    kind = draw.random()
    if kind < 0.15:
        return make_parquet(draw, [row for row in table if len(row) == len(table[0])])
    return compress(draw, change_text(draw, table)) if kind < 0.25 else change_text(draw, table)


def check_population(case: bytes) -> str:
    """Every customer of a file is scored or quarantined, or the file is rejected with a plain sentence, which the ledger keeps."""
    clients, digest = _Kept.populations, hashlib.sha256(case).hexdigest()
    storage, ledger = clients.storage, clients.ledger
    with storage.writing(population_original(digest)) as stream:
        stream.write(case)
    ledger.add_population(digest, "customers.csv", len(case), datetime.now(UTC))
    record = ledger.population(digest)
    try:
        if record is None:
            raise Defect("The ledger has lost a population: it was added")
        with TemporaryDirectory(dir=_Kept.folder) as scratch:
            try:
                customers = judge_customers(clients, record, "run", Path(scratch))
            except PopulationRejected as error:
                require_plain(str(error))
                return "rejected"
            rows = [row for file in customers.files for row in pq.read_table(file).to_pylist()]
        if customers.rows != len(rows) or customers.arrived != customers.rows + customers.quarantined:
            raise Defect(
                f"Customers are lost: {customers.arrived} arrived, {len(rows)} are scored, {customers.quarantined} quarantined"
            )
        header = rows[0].keys() if rows else ()
        for row in rows:
            for column in BANK_CHURN.without_target().of_file(list(header)).columns:
                if not (row[column.name] is None and column.may_be_absent):
                    _require_cell(row[column.name], column)
        return "judged"
    finally:
        storage.remove(population_original(digest))
        remove_table(storage, population_quarantined(digest))


# --- Files of labels and leavers

_DAY = datetime(2026, 7, 2, 12, tzinfo=UTC)


@cache
def _panel() -> tuple[tuple[str, datetime, str], ...]:
    """Files of a panel: its rows, leavers and labels, with the times at which they arrive."""
    apart = make_panel(BANK_PANEL, 60, 2, seed=3, labels_apart=True)
    joined = make_panel(BANK_PANEL, 60, 4, seed=3)
    return tuple(
        (file.name, datetime.combine(file.arrives, _DAY.timetz()), file.text)
        for file in [*joined, *(file for file in apart if file.name.startswith("labels"))]
    )


class _Recording:
    """A ledger that keeps the verdicts instead of writing them, so that no case depends on those before it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.verdict: BatchVerdict | None = None

    def judge_batch(self, _batch: str, _night: str, verdict: BatchVerdict, *_: object) -> None:
        self.verdict = verdict

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


@contextmanager
def _panel_history() -> Iterator[None]:
    """Accept the first files of the panel for good: cases are judged against them."""
    with _workspace(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "judge_batch", _judge_by_rules)
        for number, (name, arrives, text) in enumerate(_panel()[:3]):
            batch = f"{number:064x}"
            with _Kept.storage.writing(original(batch)) as stream:
                stream.write(text.encode())
            _Kept.ledger.add_batch(batch, name, len(text), arrives)
            accept_batch(batch, "night", _Kept.storage, _Kept.ledger, BANK_PANEL, _LIMITS)
        yield


_LIMITS = IntakeLimits(0.5, Here(1, "500MB"))


def _judge_by_rules(batch: str, parts: Any, rules: list[TableRule], *_: object) -> validation.Judgement:
    """Judge the rules of a batch without Great Expectations, which takes half a second and reads only typed rows and these numbers."""
    outcomes = []
    for rule in rules:
        value = float(rule.value)
        require_plain(rule.sentence)
        outcomes.append(
            validation.Outcome((rule.name,), rule.name, rule.minimum <= value <= rule.maximum, rule.critical)
        )
    return validation.Judgement(tuple(outcomes))


def make_labels(draw: random.Random) -> bytes:
    _, _, text = draw.choice(_panel())
    header, *rows = read_cells(text)
    table = [header, *draw.sample(rows, min(len(rows), draw.randrange(1, 7)))]
    if "rows" in header and draw.random() < 0.7:
        for row in table[1:]:
            row[header.index("rows")] = str(len(table) - 1)
    dates = [
        place
        for place, name in enumerate(header)
        if name in ("AsOf", "event_date", "complete_from", "complete_through")
    ]
    if dates and draw.random() < 0.4:
        place, odd = draw.choice(dates), draw.choice(_DATES)
        for row in table[1:]:
            row[place] = odd
    kind = draw.random()
    if kind < 0.1:
        return make_parquet(draw, table)
    return compress(draw, change_text(draw, table)) if kind < 0.15 else change_text(draw, table)


_DATES = (
    "0000-01-01",
    "0001-01-01",
    "0001-01-02",
    "9999-12-31",
    "9999-12-30",
    "2026-02-29",
    "2024-02-29",
    "",
    "1582-10-10",
    "2026-07-02",
    "2026-07-03",
    "2026-07-04",
)


def check_labels(case: bytes) -> str:
    """A file under a contract with a horizon gets a verdict whose counts add up and whose words are plain."""
    digest = hashlib.sha256(case).hexdigest()
    record = replace(
        _Kept.ledger.batches()[0], batch=digest, name="labels.csv", size=len(case), arrived_at=_DAY, state="arrived"
    )
    ledger = _Recording(_Kept.ledger)
    with _Kept.storage.writing(original(digest)) as stream:
        stream.write(case)
    try:
        with TemporaryDirectory(dir=_Kept.folder) as scratch, pytest.MonkeyPatch.context() as patch:
            patch.setattr(acceptance, "_find_batch", lambda *_: record)
            connection = shared_engine().cursor()
            job = acceptance._BatchJob(
                record,
                "night",
                _Kept.storage,
                ledger,
                BANK_PANEL,
                BANK_PANEL,
                connection,
                _LIMITS.spread,
                Path(scratch),
                None,  # type: ignore[arg-type]
            )
            job.docs.mkdir()
            acceptance._judge(job, _LIMITS)
        verdict = ledger.verdict
        if verdict is None:
            raise Defect("A batch has no verdict: it was judged")
        _require_verdict(verdict, digest)
    finally:
        _Kept.storage.remove(original(digest))
        for folder in (accepted(digest), quarantined(digest)):
            remove_table(_Kept.storage, folder)
    return f"{verdict.kind} {verdict.state}"


def _require_verdict(verdict: BatchVerdict, digest: str) -> None:
    if verdict.arrived_rows != verdict.accepted_rows + verdict.quarantined_rows:
        raise Defect(
            f"Rows are lost: {verdict.arrived_rows} arrived, {verdict.accepted_rows} accepted, {verdict.quarantined_rows} quarantined"
        )
    for words in [verdict.reason, *(verdict.warnings or [])]:
        if words:
            require_plain(words.replace(digest, ""))
    for stated in (verdict.complete_from, verdict.complete_through):
        if stated is not None:
            date.fromisoformat(stated)


CSV = Target("csv", make_csv, _check_table)
GZIP = Target("gzip", make_gzip, _check_table)
PARQUET = Target("parquet", make_parquet_file, _check_table)
POPULATION = Target("population", make_population, check_population, _workspace)
LABELS = Target("labels", make_labels, check_labels, _panel_history)
