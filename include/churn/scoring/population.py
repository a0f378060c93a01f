"""The current customers that are scored: of a file, or of all accepted rows.

A file passes the readers and the row rules of intake under the contract without its target. Its original and its quarantined rows
are kept; its other rows are in the list.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.ledger import Ledger
from churn.foundation.parts import WrittenPart, remove_table, store_parts
from churn.foundation.paths import population_landing, population_original, population_quarantined
from churn.foundation.records import Population, PopulationVerdict, Snapshot
from churn.foundation.scratch import writing
from churn.foundation.spread import ONE_CORE, Spread, by_threads
from churn.foundation.storage import Storage
from churn.intake.acceptance import notes_on_columns
from churn.intake.arrival import Zones, claim_files, keep_original, land_file, require_data_root
from churn.intake.batch_file import FileFault
from churn.intake.divided_file import DividedFile, divide_original
from churn.intake.judged_rows import Judged
from churn.intake.judging import judge_rows, reject_rows
from churn.intake.reading import open_file
from churn.intake.rule_words import BrokenRule, most_frequent
from churn.learning.snapshot import TRAINING, CustomerPart, customer_parts, take_snapshot

log = logging.getLogger(__name__)
REJECTED = "population.rejected"
FILE, ACCEPTED = "file", "accepted"
_ZONES = Zones(population_landing(), population_original("").rstrip("/"), "is scored once more")


class PopulationRejected(ChurnError):  # noqa: N818 -- the term of the domain
    """No customer of a file is scored; the message has the reason and the next step."""


@dataclass(frozen=True)
class Customers:
    """Current customers, ready to be scored.

    - `population`: identifies them: the hash of the file, or the name of the snapshot
    - `source`, `source_name`: `file` and its name, or `accepted` and the snapshot
    - `arrived`, `quarantined`: the rows of the file, and those of them that broke a rule
    - `files`: their rows, in Parquet files with the columns of the contract without its target
    - `verdict`: what became of the rows of a file
    """

    population: str
    source: str
    source_name: str
    arrived: int
    quarantined: int
    files: tuple[Path, ...]
    verdict: PopulationVerdict | None = None

    @property
    def rows(self) -> int:
        """The number of customers that are scored."""
        return self.arrived - self.quarantined


def land_population(storage: Storage, file: Path) -> str:
    """Put a local file of current customers where the next scoring collects it; returns its URL.

    Raises:
        ChurnError: the file cannot be read, or has the name of an unfinished one.
    """
    return land_file(storage, file, _ZONES.landing)


def collect_populations(
    storage: Storage, ledger: Ledger, settle_seconds: float, part_size: int, spread: Spread = ONE_CORE
) -> list[Population]:
    """Collect the files of current customers that have landed.

    Returns:
        Those that wait for a list, in the order of arrival: also those of earlier runs that failed, and those that have landed once more.
    """
    require_data_root(storage, ledger)
    claim_files(storage, _ZONES, ledger.add_population, ledger.population, settle_seconds, part_size, spread)
    return ledger.populations(state="arrived")


def judge_customers(clients: Clients, population: Population, night: str, scratch: Path) -> Customers:
    """Judge the rows of a file, and keep those that are quarantined. The ledger gets a rejection; other counts come with `record_judged`.

    Args:
        clients: data root, ledger and settings.
        population: the file.
        night: the id of the run or command.
        scratch: the folder for the rows.

    Raises:
        PopulationRejected: it cannot be read, or too many of its rows broke a rule.
    """
    storage, settings = clients.storage, clients.settings
    name, contract = population_original(population.population), clients.contract.without_target()
    with storage.reading(name) as stream:
        file = open_file(stream)
        try:
            file.check(contract)
            _log_notes(population, file.header, clients.contract)
            divided = divide_original(storage, name, file, scratch, settings.part_size)
            judged = judge_rows(clients.spread, divided, population.population, contract.of_file(file.header), scratch)
        except FileFault as fault:
            whole = DividedFile(storage, name, tuple(file.header))
            raise _reject(clients, population, night, whole, None, fault.sentence, scratch) from None
    broken = judged.rules
    limit = settings.max_rejected_share
    if not judged.accepted or judged.rejected_share > limit:
        sentence = (
            f"{judged.set_aside:,} of {judged.arrived:,} customers broke a rule ({judged.rejected_share:.1%}, limit {limit:.1%}). "
            f"Most frequent: {most_frequent(broken, contract)}. Fix the file and send it again, or raise CHURN_MAX_REJECTED_SHARE."
        )
        raise _reject(clients, population, night, divided, judged, sentence, scratch, broken)
    _quarantine(storage, population.population, [part.aside for part in judged.parts])
    log.info(
        "%s: %d customers arrived, %d can be scored, %d were quarantined.",
        population.name,
        judged.arrived,
        judged.accepted,
        judged.set_aside,
    )
    verdict = PopulationVerdict("judged", judged.arrived, judged.accepted, judged.set_aside, broken)
    good = tuple(part.good.file for part in judged.parts)
    return Customers(population.population, FILE, population.name, judged.arrived, judged.set_aside, good, verdict)


def record_judged(ledger: Ledger, customers: Customers, night: str) -> None:
    """Record the counts of a file whose list is there: until then it counts as arrived, and the next run scores it."""
    if customers.verdict:
        ledger.judge_population(customers.population, night, customers.verdict)


def accepted_customers(clients: Clients, trained: Snapshot, scratch: Path) -> Customers:
    """The customers of all accepted rows: the newest row of each, unless that row says that the customer has left.

    Args:
        clients: data root, ledger and settings.
        trained: the snapshot that the version was trained on. Customers of it are marked: their scores are optimistic.
        scratch: the folder for the rows.

    Raises:
        NothingToDo: no batch has been accepted yet.
        PopulationRejected: every customer has left.
        PartFault: a part of a snapshot is missing or has been changed.
    """
    now = take_snapshot(clients.storage, clients.ledger, clients.contract, clients.sampling)
    parts, seen = customer_parts(clients.storage, now), customer_parts(clients.storage, trained)
    same_buckets = len(seen) == len(parts)
    work = by_threads(partial(_write_current, clients.storage, clients.contract, clients.spread.engine_memory, scratch))
    pairs = [(number, part, seen[number : number + 1] if same_buckets else seen) for number, part in enumerate(parts)]
    written = list(clients.spread.each(work, pairs))
    files, rows = tuple(file for file, _ in written), sum(count for _, count in written)
    if not rows:
        raise PopulationRejected("Every accepted customer has left, so there is nobody to score. Land a newer file.")
    return Customers(now.snapshot, ACCEPTED, now.snapshot[:12], rows, 0, files)


def add_file(clients: Clients, file: Path, waits: bool = True) -> Population:
    """Keep a local file of current customers, and record it in the ledger, also one that is known. With `waits`, a run that is killed leaves it to the next one.

    Raises:
        ChurnError: the file cannot be read.
    """
    name = f"{_ZONES.landing}/.{file.name}"  # not visible to a run that collects files meanwhile
    storage = clients.storage
    try:
        storage.put(file, name)
    except FileNotFoundError as error:
        raise ChurnError(f"Cannot read {file}: {error.strerror}. Give the path of a file of customers.") from error
    try:
        digest, size = keep_original(storage, name, clients.settings.part_size, _ZONES.originals)
    finally:
        storage.remove(name)
    clients.ledger.add_population(digest, file.name, size, datetime.now(UTC), waits)
    return require_population(clients.ledger, digest)


def require_population(ledger: Ledger, population: str) -> Population:
    """The record of a file of current customers.

    Raises:
        ChurnError: the ledger has none.
    """
    record = ledger.population(population)
    if record is None:
        raise ChurnError(f"The ledger has no population {population[:12]}. Run `churn score FILE` again.")
    return record


def _write_current(
    storage: Storage,
    contract: Contract,
    memory: str,
    scratch: Path,
    numbered: tuple[int, CustomerPart, list[CustomerPart]],
) -> tuple[Path, int]:
    """Write the current customers of a part; returns the file, and how many they are."""
    number, part, trained = numbered
    target = scratch / f"customers-{number:04d}.parquet"
    with (
        part.opened(storage, scratch) as rows,
        ExitStack() as stack,
        columnar.engine(memory, threads=1) as connection,
        writing(target) as own,
    ):
        seen = [rows if other == part else stack.enter_context(other.opened(storage, scratch)) for other in trained]
        columnar.write_current_rows(connection, rows, seen, contract, TRAINING, own)
        return target, pq.read_metadata(own).num_rows


def _log_notes(population: Population, header: list[str], contract: Contract) -> None:
    target = contract.target.name
    if target in header:
        log.info("%s: the label column %s is ignored.", population.name, target)
    known = [name for name in header if name != target]
    for note in notes_on_columns(known, contract.without_target()):
        log.info("%s: %s", population.name, note)


def _reject(
    clients: Clients,
    population: Population,
    night: str,
    file: DividedFile,
    judged: Judged | None,
    sentence: str,
    scratch: Path,
    broken: list[BrokenRule] | None = None,
) -> PopulationRejected:
    parts = reject_rows(clients.spread, file, population.population, scratch, judged, REJECTED)
    rows = _quarantine(clients.storage, population.population, parts)
    reason = f"{population.name} was rejected: {sentence} No list was made, and the current one is kept."
    verdict = PopulationVerdict("rejected", rows, 0, rows, broken or [], reason)
    clients.ledger.judge_population(population.population, night, verdict)
    return PopulationRejected(reason)


def _quarantine(storage: Storage, population: str, parts: list[WrittenPart]) -> int:
    folder, rows = population_quarantined(population), sum(part.rows for part in parts)
    if rows:
        store_parts(storage, folder, parts)
    else:
        remove_table(storage, folder)  # left by an earlier verdict
    return rows
