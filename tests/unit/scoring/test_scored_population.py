"""Files of current customers pass the readers and row rules of intake, without a label; every row is scored or quarantined."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.parts import part_names
from churn.foundation.paths import population_quarantined
from churn.pipeline.workspace import Workspace
from churn.sample.generator import Night, make_night
from churn.scoring.audit import find_list_faults
from churn.scoring.population import (
    Customers,
    PopulationRejected,
    add_file,
    collect_populations,
    judge_customers,
    land_population,
    record_judged,
)
from support.basics import make_workspace

TARGET = BANK_CHURN.target.name


@pytest.fixture
def bench(tmp_path: Path) -> Workspace:
    """A workspace whose MLflow is never asked."""
    return make_workspace(tmp_path / "bench", "http://127.0.0.1:9")


def customers_csv(rows: int = 40, target: str = "without") -> str:
    """Current customers, as CSV: without a label column, with an empty one, or with labels."""
    lines = make_night(BANK_CHURN, Night(rows, first_customer=1, seed=1)).splitlines()
    if target == "with":
        return "\n".join(lines) + "\n"
    place = lines[0].split(",").index(TARGET)
    cells = [line.split(",") for line in lines]
    for number, row in enumerate(cells):
        if target == "without":
            del row[place]
        elif number:
            row[place] = ""
    return "\n".join(map(",".join, cells)) + "\n"


def judged(bench: Workspace, content: str | bytes, folder: Path, name: str = "customers.csv") -> Customers:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    customers = judge_customers(bench, add_file(bench, file), "run", scratch)
    record_judged(bench.ledger, customers, "run")
    return customers


@pytest.mark.parametrize("target", ["without", "empty", "with"])
def test_a_label_is_not_needed_and_not_used(
    bench: Workspace, tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the column is missing, empty or filled, the same customers are scored; the log says that it is ignored."""
    with caplog.at_level(logging.INFO):
        customers = judged(bench, customers_csv(target=target), tmp_path)
    assert (customers.arrived, customers.quarantined, customers.rows) == (40, 0, 40)
    table = pa.concat_tables(pq.read_table(file) for file in customers.files)
    assert TARGET not in table.column_names
    assert sorted(table["CustomerId"].to_pylist()) == list(range(1, 41))
    assert (f"the label column {TARGET} is ignored" in caplog.text) == (target != "without")
    assert "not in the contract" not in caplog.text


def test_gzip_and_parquet_are_read_like_csv(bench: Workspace, tmp_path: Path) -> None:
    text = customers_csv()
    pq.write_table(pa.csv.read_csv(pa.BufferReader(text.encode())), tmp_path / "source.parquet")
    contents = [text.encode(), gzip.compress(text.encode(), mtime=0), (tmp_path / "source.parquet").read_bytes()]
    tables = []
    for number, content in enumerate(contents):
        found = judged(bench, content, tmp_path, f"{number}")
        tables.append(pa.concat_tables(pq.read_table(file) for file in found.files).drop_columns(["_batch", "_line"]))
    assert tables[0].num_rows == 40
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_every_row_that_arrived_is_scored_or_quarantined(bench: Workspace, tmp_path: Path) -> None:
    """Broken cells, broken records and repeated customers; the quarantine has line and rule, and the ledger the counts."""
    lines = customers_csv(100).splitlines()
    lines[3] = lines[3].replace(lines[3].split(",")[6], "seventeen", 1)
    lines[5] = "a,b"
    lines.append(lines[1])
    customers = judged(bench, "\n".join(lines) + "\n", tmp_path)
    assert (customers.arrived, customers.quarantined, customers.rows) == (101, 3, 98)
    record = bench.ledger.population(customers.population)
    assert record is not None
    assert (record.state, record.arrived_rows, record.accepted_rows, record.quarantined_rows) == ("judged", 101, 98, 3)
    rows = pa.concat_tables(
        bench.storage.read_table(name)
        for name in part_names(bench.storage, population_quarantined(customers.population))
    )
    assert rows["_line"].to_pylist() == [4, 6, 102]
    assert {rule for rules in rows["_failed"].to_pylist() for rule in rules} >= {
        "record.field_count",
        "record.duplicate",
    }
    assert find_list_faults(bench.storage, bench.ledger, hashes=True) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"a,b\n1,2\n", "column"),
        (customers_csv(1).splitlines()[0].encode() + b"\n", "a header but no rows"),
        (gzip.compress(customers_csv().encode(), mtime=0)[:-30], "damaged or incomplete"),
    ],
    ids=["empty", "another contract", "no rows", "broken gzip"],
)
def test_a_file_that_cannot_be_read_is_rejected(bench: Workspace, tmp_path: Path, content: bytes, words: str) -> None:
    """One clear message, the original is kept, and the ledger says why."""
    with pytest.raises(PopulationRejected, match=words) as error:
        judged(bench, content, tmp_path)
    assert "the current one is kept" in str(error.value)
    (record,) = bench.ledger.populations()
    assert (record.state, record.reason) == ("rejected", str(error.value))
    assert find_list_faults(bench.storage, bench.ledger, hashes=True) == []


def test_with_too_many_faulty_rows_nobody_is_scored(bench: Workspace, tmp_path: Path) -> None:
    """The same limit as for a batch; with a higher one, the same file is judged again."""
    lines = customers_csv(20).splitlines()
    broken = "\n".join([lines[0], "x", "y", *lines[1:]]) + "\n"
    with pytest.raises(PopulationRejected, match=r"2 of 22 customers broke a rule \(9\.1%, limit 5\.0%\)"):
        judged(bench, broken, tmp_path)
    (record,) = bench.ledger.populations()
    assert (record.arrived_rows, record.accepted_rows, record.quarantined_rows) == (22, 0, 22)
    more = Workspace(bench.settings.model_copy(update={"max_rejected_share": 0.5}), bench.storage, bench.ledger)
    assert judged(more, broken, tmp_path).rows == 20
    assert [row.state for row in bench.ledger.populations()] == ["judged"]
    assert find_list_faults(bench.storage, bench.ledger, hashes=True) == []


def test_a_file_in_which_everybody_is_quarantined_is_rejected(bench: Workspace, tmp_path: Path) -> None:
    permissive = Workspace(bench.settings.model_copy(update={"max_rejected_share": 1.0}), bench.storage, bench.ledger)
    with pytest.raises(PopulationRejected, match="2 of 2 customers broke a rule"):
        judged(permissive, customers_csv(1).splitlines()[0] + "\nx\ny\n", tmp_path)


def test_landed_files_are_collected_once(bench: Workspace, tmp_path: Path) -> None:
    """In the order of arrival; the same bytes under another name are the same file, which waits once more, and batches are not concerned."""
    file = tmp_path / "customers.csv"
    file.write_text(customers_csv())
    assert land_population(bench.storage, file).endswith("populations/landing/customers.csv")
    (population,) = collect_populations(bench.storage, bench.ledger, 0, 1000)
    assert (population.name, population.state) == ("customers.csv", "arrived")
    file.rename(tmp_path / "again.csv")
    land_population(bench.storage, tmp_path / "again.csv")
    (again,) = collect_populations(bench.storage, bench.ledger, 0, 1000)
    assert (again.population, again.name, again.state) == (population.population, "again.csv", "arrived")
    assert bench.storage.landed() == []
    assert bench.ledger.batches() == []
    assert add_file(bench, tmp_path / "again.csv", waits=False) == again


def test_a_file_that_does_not_exist_is_named(bench: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ChurnError, match=r"Cannot read .*nowhere\.csv"):
        add_file(bench, tmp_path / "nowhere.csv")
