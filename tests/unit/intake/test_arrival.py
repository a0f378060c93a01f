"""A file is taken in once, no row is lost, and validation cannot be swallowed."""

import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError, Outage
from churn.foundation import columnar
from churn.foundation.columnar import row_rules
from churn.foundation.ledger import Ledger
from churn.foundation.parts import has_table
from churn.foundation.paths import accepted, docs_index, original, quarantined
from churn.foundation.records import Batch
from churn.foundation.spread import Here
from churn.foundation.storage import Storage, StorageError
from churn.intake import judging, validation
from churn.intake.acceptance import BatchRejected, accept_batch
from churn.intake.arrival import collect_arrivals, land_file
from churn.intake.audit import find_losses
from churn.intake.csv_reading import CsvBatch, split_lines
from churn.intake.division import PART_SIZE
from churn.intake.table_rules import IntakeLimits
from churn.scoring.population import collect_populations
from support.basics import small_file
from support.divisions import BYTES, CHOSEN, limits
from support.judged_files import table_rows

P, R = TypeVar("P"), TypeVar("R")
LIMITS = limits()
IN_THIS_PROCESS = replace(LIMITS, spread=Here(CHOSEN.cores, "500MB", few=10_000))
"""For tests that plant a fault in the code: other processes would not have it."""


def land(storage: Storage, text: str | bytes, name: str = "batch.csv") -> None:
    with storage.writing(f"landing/{name}") as stream:
        stream.write(text if isinstance(text, bytes) else text.encode())


def take_in(
    storage: Storage, ledger: Ledger, text: str | bytes, name: str = "batch.csv", limits: IntakeLimits = LIMITS
) -> Batch:
    land(storage, text, name)
    (batch,) = collect_arrivals(storage, ledger, part_size=BYTES).batches
    return accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits)


def test_the_same_bytes_are_taken_in_once(storage: Storage, ledger: Ledger) -> None:
    """The same bytes under another name change nothing."""
    first = take_in(storage, ledger, small_file())
    land(storage, small_file(), "again.csv")
    arrivals = collect_arrivals(storage, ledger, part_size=BYTES)
    assert (arrivals.batches, arrivals.seen_before) == ([], ["again.csv"])
    assert ledger.batches() == [first]
    assert [sighting.name for sighting in ledger.sightings(first.batch)] == ["batch.csv", "again.csv"]
    assert storage.landed() == []


def test_the_same_name_with_new_bytes_is_a_new_batch(storage: Storage, ledger: Ledger) -> None:
    """A file is known by its bytes, not by its name."""
    take_in(storage, ledger, small_file())
    take_in(storage, ledger, small_file(first_customer=1000))
    assert [batch.name for batch in ledger.batches()] == ["batch.csv", "batch.csv"]


def test_the_original_is_kept_unchanged(storage: Storage, ledger: Ledger) -> None:
    """The bytes that arrived stay available under their hash."""
    batch = take_in(storage, ledger, small_file(faults=5))
    with storage.reading(original(batch.batch)) as stream:
        assert stream.read() == small_file(faults=5).encode()


def test_a_file_still_being_written_waits(storage: Storage, ledger: Ledger) -> None:
    """A temporary suffix is no file yet."""
    land(storage, small_file(), "night.csv.1234.part")
    assert collect_arrivals(storage, ledger, part_size=BYTES).batches == []


def test_any_name_is_taken_in(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and a link to a file, are names like any other; an unfinished one in capitals waits."""
    landing = tmp_path / "data/landing"
    landing.mkdir(parents=True)
    for seed, name in enumerate((b"caf\xe9.csv", b"line\nbreak.csv", b"half.csv.TMP")):
        (Path(os.fsdecode(bytes(landing))) / os.fsdecode(name)).write_text(small_file(30, seed=seed))
    (tmp_path / "elsewhere.csv").write_text(small_file(30, seed=9))
    (landing / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    arrivals = collect_arrivals(storage, ledger, part_size=BYTES)
    assert {batch.name for batch in arrivals.batches} == {"caf\\xe9.csv", "line\nbreak.csv", "link.csv"}
    assert storage.names("landing") == ["landing/half.csv.TMP"]
    assert (tmp_path / "elsewhere.csv").exists()


def test_a_file_that_another_night_took_a_moment_ago_is_no_error(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and removing, or listing and looking, somebody else may have been faster."""
    land(storage, small_file(30))
    with monkeypatch.context() as slow:
        slow.setattr(type(storage.fs), "exists", lambda *_: True)
        storage.remove("landing/gone.csv")
    with monkeypatch.context() as slow:
        slow.setattr(os, "listdir", lambda *_: ["batch.csv", "gone.csv"])
        assert [file.name for file in storage.landed()] == ["batch.csv"]
    assert storage.names("landing") == ["landing/batch.csv"]


def test_a_data_root_that_is_missing_is_not_an_empty_landing_zone(
    storage: Storage, ledger: Ledger, tmp_path: Path
) -> None:
    """A disk that is not mounted is an outage, for files to train on and for files to score, and nothing is made in its place."""
    land(storage, small_file(rows=60))
    collect_arrivals(storage, ledger)
    root = Path(storage.root)
    root.rename(tmp_path / "not-mounted")
    for collect in (
        lambda: collect_arrivals(storage, ledger),
        lambda: collect_populations(storage, ledger, settle_seconds=0, part_size=PART_SIZE),
    ):
        with pytest.raises(StorageError, match=r"none of the files that the ledger knows.*is mounted"):
            collect()
    assert not root.exists()
    (tmp_path / "not-mounted").rename(root)
    assert len(collect_arrivals(storage, ledger).batches) == 1


def test_a_growing_file_waits(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """A sender that writes under the final name is noticed; what is finished beside it is taken in."""
    land(storage, small_file(30), "finished.csv")
    growing, stop = tmp_path / "data/landing/growing.csv", threading.Event()

    def write() -> None:
        with growing.open("w") as stream:
            for line in small_file(400).splitlines():
                stream.write(f"{line}\n")
                stream.flush()
                if stop.wait(0.05):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not growing.exists():
            stop.wait(0.01)
        arrivals = collect_arrivals(storage, ledger, settle_seconds=0.5)
    finally:
        stop.set()
        writer.join()
    assert [batch.name for batch in arrivals.batches] == ["finished.csv"]
    assert arrivals.unfinished == ["growing.csv"]
    assert [file.name for file in storage.landed()] == ["growing.csv"]


def test_a_file_that_changes_while_it_is_read_waits(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it looked finished before: half of it is never a batch."""
    land(storage, small_file(30))
    honest = Storage.chunks

    def chunks(self: Storage, name: str) -> Iterator[bytes]:
        yield from honest(self, name)
        with Path(self.path(name)).open("a") as stream:
            stream.write("one more line\n")

    with monkeypatch.context() as busy:
        busy.setattr(Storage, "chunks", chunks)
        assert collect_arrivals(storage, ledger, part_size=BYTES).unfinished == ["batch.csv"]
    assert (ledger.batches(), storage.names("originals")) == ([], [])
    assert len(collect_arrivals(storage, ledger, part_size=BYTES).batches) == 1


def test_files_that_are_hashed_at_once_become_batches_in_order(storage: Storage, ledger: Ledger) -> None:
    """Eight files at once, two of them with the same bytes and one that was replaced after it had been hashed."""
    for number in range(8):
        land(storage, small_file(30, seed=number % 7), f"{number}.csv")

    class Replacing(Here):
        def each(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
            results = list(super().each(work, parts))
            land(storage, small_file(31), "3.csv")
            return iter(results)

    arrivals = collect_arrivals(storage, ledger, part_size=BYTES, spread=Replacing(2, "500MB"))
    assert [batch.name for batch in arrivals.batches] == [f"{number}.csv" for number in (0, 1, 2, 4, 5, 6)]
    assert (arrivals.seen_before, arrivals.unfinished) == (["7.csv"], ["3.csv"])
    assert {name.rpartition("/")[2] for name in storage.names("originals") if "parts" not in name} == {
        batch.batch for batch in arrivals.batches
    }
    (replaced,) = collect_arrivals(storage, ledger, part_size=BYTES).batches[6:]
    assert replaced.name == "3.csv"


def test_a_file_keeps_its_original_when_one_of_the_same_bytes_goes_on_growing(storage: Storage, ledger: Ledger) -> None:
    """The original of a growing file is deleted, and a finished file has just been hashed to the same one."""
    land(storage, small_file(30), "a-growing.csv")
    land(storage, small_file(30), "finished.csv")

    class Growing(Here):
        def each(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
            results = list(super().each(work, parts))
            with Path(storage.path("landing/a-growing.csv")).open("a") as stream:
                stream.write("one more line\n")
            return iter(results)

    arrivals = collect_arrivals(storage, ledger, part_size=BYTES, spread=Growing(2, "500MB"))
    (batch,) = arrivals.batches
    assert (batch.name, arrivals.unfinished) == ("finished.csv", ["a-growing.csv"])
    assert accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS).state == "accepted"


def test_files_are_taken_in_the_order_of_arrival_then_name(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """Whoever claims them first."""
    for name, at in (("b.csv", 100), ("c.csv", 50), ("a.csv", 100)):
        land(storage, small_file(30, seed=len(name) + at + ord(name[0])), name)
        os.utime(tmp_path / "data/landing" / name, (at, at))
    assert [batch.name for batch in collect_arrivals(storage, ledger, part_size=BYTES).batches] == [
        "c.csv",
        "a.csv",
        "b.csv",
    ]


def test_what_killed_processes_left_is_swept_away_after_a_day(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unfinished file of today may still be written; no process writes one of yesterday any more. Temporary folders of other programs are kept."""
    temporary = tmp_path / "tmp"
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name, age in (
        ("churn-spill-old", 2 * 86400),
        ("churn-exchange-new", 60),
        ("churn-service-x", 2 * 86400),
        ("other", 2 * 86400),
    ):
        (temporary / name).mkdir(parents=True)
        os.utime(temporary / name, (time.time() - age, time.time() - age))
    for name, age in (("old", 2 * 86400), ("new", 60)):
        file = tmp_path / "data/unfinished" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("half")
        os.utime(file, (time.time() - age, time.time() - age))
    storage.sweep()
    assert storage.names("unfinished") == ["unfinished/new"]
    assert sorted(folder.name for folder in temporary.iterdir()) == ["churn-exchange-new", "churn-service-x", "other"]


def test_arrived_is_accepted_plus_quarantined(storage: Storage, ledger: Ledger) -> None:
    """Every row is accepted or set aside with its raw text, its line and its reason."""
    text = small_file(faults=7)
    batch = take_in(storage, ledger, text)
    assert (batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows) == (400, 393, 7)
    assert table_rows(storage, accepted(batch.batch)).num_rows == 393
    lines = text.splitlines()
    aside = table_rows(storage, quarantined(batch.batch)).to_pylist()
    assert len(aside) == 7
    for row in aside:
        assert row["_raw"] == lines[row["_line"] - 1]
        assert row["_failed"]
        assert row["_batch"] == batch.batch


def test_too_many_rows_set_aside_reject_the_batch(storage: Storage, ledger: Ledger) -> None:
    """Over the limit nothing is accepted; the message has counts and lines, and no customer's value."""
    lines = small_file().splitlines()
    text = "\n".join([lines[0], *(line.replace("France", "Atlantis") for line in lines[1:])])
    with pytest.raises(BatchRejected) as error:
        take_in(storage, ledger, text)
    message = str(error.value)
    assert "limit 5.0%" in message
    assert "Geography.category" in message
    assert "line" in message
    assert "CHURN_MAX_REJECTED_SHARE" in message
    assert f"Report: file://{storage.path('docs')}" in message
    assert "Atlantis" not in message
    (batch,) = ledger.batches()
    assert (batch.state, batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows) == ("rejected", 400, 0, 400)
    assert not has_table(storage, accepted(batch.batch))
    assert table_rows(storage, quarantined(batch.batch)).num_rows == 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (",".join(BANK_CHURN.names), "no rows"),
        (b"\x89PNG\r\n\x1a\n\0", "a PNG image, and not a CSV"),
        (small_file().replace(",", ";"), "separated by semicolons"),
        (small_file().replace("Age", "Years", 1), "missing: Age"),
        (
            "\n".join(small_file().splitlines()[:1] + [line[:-1] + "0" for line in small_file().splitlines()[1:]]),
            "Exited is 0 in all 400 rows",
        ),
    ],
    ids=["empty", "header only", "no csv", "delimiter", "missing column", "one class"],
)
def test_a_bad_file_is_rejected_with_the_next_step(
    storage: Storage, ledger: Ledger, text: str | bytes, said: str
) -> None:
    """One clear error, nothing accepted, the original and its rows kept; judged again, the same error."""
    with pytest.raises(BatchRejected, match=said) as first:
        take_in(storage, ledger, text)
    (batch,) = ledger.batches()
    assert batch.state == "rejected"
    assert batch.arrived_rows == batch.quarantined_rows
    assert storage.exists(original(batch.batch))
    assert storage.exists(docs_index(batch.batch))
    with pytest.raises(BatchRejected) as second:
        accept_batch(batch.batch, "another night", storage, ledger, BANK_CHURN, LIMITS)
    assert str(first.value) == str(second.value)


def page(storage: Storage, ledger: Ledger) -> str:
    """The first page of the Data Docs of the only batch."""
    with storage.reading(docs_index(ledger.batches()[0].batch)) as stream:
        return stream.read().decode()


def test_the_page_of_a_batch_never_says_that_a_broken_rule_holds(storage: Storage, ledger: Ledger) -> None:
    """Broken rules come first, with counts, example lines and words; the rules that no row broke hold."""
    lines = small_file().splitlines()
    text = "\n".join([*lines[:3], lines[3].replace(lines[3].split(",")[6], "old"), *lines[4:]])
    assert take_in(storage, ledger, text).quarantined_rows == 1
    html = page(storage, ledger)
    assert html.index("Rules that rows broke") < html.index("Validation results")
    assert "<td>Age.type</td><td>Age must be a whole number from 18 to 100</td><td>1</td><td>line 4</td>" in html
    assert "<td>1 row quarantined</td><td>Age.type</td>" in html
    assert "<td>holds</td><td>Balance.type</td>" in html


def test_rules_are_not_judged_without_an_accepted_row(storage: Storage, ledger: Ledger) -> None:
    """With every row quarantined no rule is said to hold, and no limit is recommended that would accept nothing."""
    lines = small_file().splitlines()
    text = "\n".join([lines[0], *(line[:-1] + ("Yes" if line[-1] == "1" else "No") for line in lines[1:])])
    with pytest.raises(BatchRejected) as error:
        take_in(storage, ledger, text)
    assert "Exited.type (Exited must be a whole number from 0 to 1): 400 (lines 2, 3, 4, 5, 6, ...)" in str(error.value)
    assert "CHURN_MAX_REJECTED_SHARE" not in str(error.value)
    assert str(error.value).count("Fix the file") == 1
    html = page(storage, ledger)
    rules = html[html.index("<h2>Rules</h2>") :]
    assert "<td>broken</td><td>Exited.type</td>" in rules
    assert rules.count("<td>not judged</td>") == len(BANK_CHURN.rules)  # one rule is broken, one class is not judged
    assert "<td>not judged</td><td>batch.one_class</td>" in rules
    assert "<td>holds</td><td>Age" not in rules
    assert "the accepted rows" not in html


def test_a_key_that_repeats_is_no_key(storage: Storage, ledger: Ledger) -> None:
    """If many rows contradict others of their id, the message says that the id identifies nobody."""
    lines = small_file().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    text = "\n".join([lines[0], *(",".join([*row[:1], str(at % 100 + 1), *row[2:]]) for at, row in enumerate(cells))])
    with pytest.raises(BatchRejected, match="CustomerId does not identify a customer in this file: 400 of 400 rows"):
        take_in(storage, ledger, text)


def test_an_absent_optional_column_is_noted(storage: Storage, ledger: Ledger) -> None:
    """The batch is accepted, and its page says what the file lacks and what was ignored."""
    lines = [line.split(",", 1)[1] for line in small_file().splitlines()]
    text = "\n".join(["id," + lines[0], *(f"{at},{line}" for at, line in enumerate(lines[1:]))])
    assert take_in(storage, ledger, text).accepted_rows == 400
    html = page(storage, ledger)
    assert "Columns that are not in the contract are ignored: id." in html
    assert "Optional columns that the file does not have: RowNumber." in html


def test_a_permanent_attribute_that_is_missing_has_not_changed(storage: Storage, ledger: Ledger) -> None:
    """Known customers in a file without surnames are no mixed-up file."""
    take_in(storage, ledger, small_file())
    surname = BANK_CHURN.names.index("Surname")
    rows = [line.split(",") for line in small_file().splitlines()]
    without = "\n".join(",".join([*row[:surname], *row[surname + 1 :]]) for row in rows)
    assert take_in(storage, ledger, without).accepted_rows == 400


def test_a_batch_is_judged_once(storage: Storage, ledger: Ledger) -> None:
    """Run again, the step returns the same batch and writes nothing."""
    batch = take_in(storage, ledger, small_file())
    assert accept_batch(batch.batch, "later", storage, ledger, BANK_CHURN, LIMITS) == batch


def test_great_expectations_catches_what_the_row_rules_let_through(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug planted in one row rule's SQL is caught by the suite, and nothing is accepted."""
    honest, glance = row_rules._rules, row_rules._plain_condition
    monkeypatch.setattr(
        row_rules,
        "_rules",
        lambda *a: [(name, f"FALSE AND ({sql})" if name == "Age.range" else sql) for name, sql in honest(*a)],
    )
    monkeypatch.setattr(
        row_rules, "_plain_condition", lambda column, p: "TRUE" if column.name == "Age" else glance(column, p)
    )
    lines = small_file().splitlines()
    cells = lines[5].split(",")
    cells[BANK_CHURN.names.index("Age")] = "17"
    lines[5] = ",".join(cells)
    with pytest.raises(BatchRejected, match="Age: column values to be between"):
        take_in(storage, ledger, "\n".join(lines), limits=IN_THIS_PROCESS)
    assert not has_table(storage, accepted(ledger.batches()[0].batch))


def test_a_crashing_suite_accepts_nothing(storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task fails, the batch waits, and the next run judges it."""
    with monkeypatch.context() as broken, pytest.raises(validation.ValidationCrashed, match="RuntimeError"):
        broken.setattr(validation, "run_suite", lambda *a: (_ for _ in ()).throw(RuntimeError("boom")))
        take_in(storage, ledger, small_file())
    (batch,) = ledger.batches(state="arrived")
    assert not has_table(storage, accepted(batch.batch))
    assert accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS).state == "accepted"


@pytest.mark.parametrize("rejected", [False, True])
def test_a_row_that_gets_lost_on_the_way_stops_the_batch(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rejected: bool
) -> None:
    """Rows that arrived are counted apart from what becomes of them: one that is dropped is noticed."""
    honest = CsvBatch.raw
    if rejected:
        monkeypatch.setattr(CsvBatch, "raw", lambda self: (rows.slice(1) for rows in honest(self)))
    else:
        monkeypatch.setattr(judging, "split_lines", lambda lines, *more: split_lines(list(lines)[1:], *more))
    text = small_file(faults=200 if rejected else 3)
    with pytest.raises(judging.RowsLost, match="400 rows arrived"):
        take_in(storage, ledger, text, limits=IN_THIS_PROCESS)
    assert ledger.batches()[0].state == "arrived"


def test_an_empty_suite_is_an_error(storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No expectations is not a pass."""
    monkeypatch.setattr(validation, "row_expectations", lambda contract: [])
    with pytest.raises(validation.ValidationCrashed, match="no expectations"):
        take_in(storage, ledger, small_file())


def test_a_result_that_misses_an_expectation_is_an_error(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that does not cover the suite is no verdict."""
    whole = validation.run_suite

    def forgetful(*arguments: Any) -> Any:
        result = whole(*arguments)
        result.results = result.results[1:]
        return result

    monkeypatch.setattr(validation, "run_suite", forgetful)
    with pytest.raises(validation.ValidationCrashed, match=r"covers \d+ of \d+"):
        take_in(storage, ledger, small_file())


def test_a_rule_that_no_expectation_covers_is_an_error(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite that forgets a rule of the contract is no suite of it."""
    honest = validation.row_expectations
    monkeypatch.setattr(
        validation,
        "row_expectations",
        lambda contract: [
            expectation for expectation in honest(contract) if (expectation.meta or {}).get("rules") != ["Age.range"]
        ],
    )
    with pytest.raises(validation.ValidationCrashed, match=r"No expectation covers Age\.range"):
        take_in(storage, ledger, small_file())
    assert ledger.hashes("accepted") == []


def test_a_warning_that_raises_stops_the_batch(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Severity is for what was measured; what crashed was not."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    honest = validation.batch_expectations
    raising = gxe.ExpectColumnMeanToBeBetween(column="Nowhere", min_value=0, severity=FailureSeverity.WARNING)
    monkeypatch.setattr(validation, "batch_expectations", lambda rules: [*honest(rules), raising])
    with pytest.raises(BatchRejected, match="Nowhere"):
        take_in(storage, ledger, small_file())


def test_an_expectation_that_raises_counts_as_failed(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expectation on a column that does not exist cannot pass."""
    import great_expectations.expectations as gxe

    honest = validation.row_expectations
    raising = gxe.ExpectColumnValuesToBeBetween(column="Nowhere", min_value=0)
    monkeypatch.setattr(validation, "row_expectations", lambda contract: [*honest(contract), raising])
    with pytest.raises(BatchRejected, match="Nowhere"):
        take_in(storage, ledger, small_file())


def test_data_docs_hold_no_value_of_a_customer(storage: Storage, ledger: Ledger, tmp_path: Path) -> None:
    """The pages of a batch are in the data root, and show none of its values."""
    batch = take_in(storage, ledger, small_file(faults=7))
    pages = list((tmp_path / "data" / "docs" / batch.batch).rglob("*.html"))
    text = "".join(page.read_text() for page in pages)
    surnames = {line.split(",")[2] for line in small_file().splitlines()[1:]}
    assert len(pages) >= 4
    assert not [name for name in surnames if name in text]
    assert "Atlantis" not in text


def test_an_unwritable_data_root_is_one_clear_error(tmp_path: Path, ledger: Ledger) -> None:
    """The error names the place and the setting."""
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        land_text_to(tmp_path / "data")


def land_text_to(root: Path) -> None:
    land(Storage.open(str(root)), "x")


def test_a_full_disk_and_too_little_memory_are_outages(storage: Storage) -> None:
    """What is missing, the setting that helps, and that nothing was lost; the step can be run again."""
    with pytest.raises(StorageError, match=r"disk of .* is full.*nothing was lost"), storage.scratch():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rows = "SELECT list(i) FROM range(50_000_000) AS t(i)"
    with pytest.raises(Outage, match="CHURN_DUCKDB_MEMORY_LIMIT"), columnar.engine("20MB") as connection:
        connection.execute(rows)


def test_landing_never_replaces_a_file_that_waits(storage: Storage, tmp_path: Path) -> None:
    """Two files of one name are two files."""
    for seed in (1, 2):
        (tmp_path / "day.csv").write_text(small_file(seed=seed))
        land_file(storage, tmp_path / "day.csv")
    assert len(storage.landed()) == 2


def test_a_data_root_that_cannot_be_is_no_empty_landing(ledger: Ledger) -> None:
    """A mistyped or unmounted root is an error, never "nothing arrived"."""
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        collect_arrivals(Storage.open("/proc/nowhere"), ledger)
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        Storage.open("nonsense://x")


def test_landing_a_missing_file_says_so(storage: Storage, tmp_path: Path) -> None:
    """A path that is no file is an error with the next step."""
    with pytest.raises(ChurnError, match="Cannot read"):
        land_file(storage, tmp_path / "nowhere.csv")


def test_an_interrupted_write_leaves_nothing(storage: Storage) -> None:
    """A file appears complete or not at all."""
    with pytest.raises(KeyboardInterrupt), storage.writing("landing/half.csv") as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert storage.names("landing") == storage.names("unfinished") == []


def test_killed_between_the_files_and_the_ledger_the_next_run_comes_to_the_same(
    storage: Storage, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger row is last: without it the batch is judged again, into the same files; its page leads to the night."""
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Ledger, "judge_batch", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        take_in(storage, ledger, small_file(faults=3))
    (batch,) = collect_arrivals(storage, ledger, part_size=BYTES).batches
    done = accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, LIMITS, "http://airflow/run?a=1&b=2")
    assert (done.accepted_rows, done.quarantined_rows) == (397, 3)
    assert {name.rpartition("/")[0] for name in storage.names("accepted")} == {accepted(batch.batch)}
    assert find_losses(storage, ledger, hashes=True) == []
    with storage.reading(docs_index(batch.batch)) as page:
        assert b'href="http://airflow/run?a=1&amp;b=2"' in page.read()


def names(storage: Storage, zone: str) -> list[str]:
    return [entry.rsplit("/", 1)[-1] for entry in storage.fs.ls(storage.path(zone), detail=False)]
