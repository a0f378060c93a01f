"""The rows of a list: one for each customer, with rank, group and expected value; the control group is a draw of its own."""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation import columnar
from churn.foundation.parts import part_name
from churn.foundation.spread import Here
from churn.scoring.list_parts import ListJob, key_column, list_schema, write_parts
from churn.scoring.listed_reasons import REASONS
from churn.scoring.scored_rows import save_by_part

SALT = b"a salt of these tests"
CUSTOMERS = 4000
KEYS = np.arange(1, CUSTOMERS + 1)


def write_list(
    folder: Path,
    parts: int = 3,
    share: float = 0.05,
    campaign: str = "retention",
    listed: np.ndarray | None = None,
    earlier: np.ndarray | None = None,
) -> pa.Table:
    """A list of customers 1, 2, ..., who are ranked as they come; by default, all are within the capacity."""
    folder.mkdir()
    sizes = [len(part) for part in np.array_split(KEYS, parts)]
    arrays = {
        "probability": np.linspace(0.9, 0.1, CUSTOMERS),
        "rank": KEYS,
        "expected_value": np.linspace(100, 1, CUSTOMERS),
        "listed": np.ones(CUSTOMERS, bool) if listed is None else listed,
        "earlier": np.zeros(CUSTOMERS, np.int32) if earlier is None else earlier,
    }
    files = []
    for number, keys in enumerate(np.array_split(KEYS, parts)):
        files.append(folder / f"customers-{number}.parquet")
        pq.write_table(pa.table({"CustomerId": keys}), files[-1])
        reasons = pa.table({name: [f"{name} of {key}" for key in keys] for name in REASONS})
        pq.write_table(reasons, folder / f"reasons-{part_name(number)}")
    for kind, values in arrays.items():
        save_by_part(folder, kind, values, sizes)
    job = ListJob("abc", campaign, share, CUSTOMERS, BANK_CHURN, SALT, folder, "200MB", ("first", "second"))
    written = write_parts(Here(2, "200MB"), files, job)
    table = pa.concat_tables(pq.read_table(part.written.file) for part in written)
    groups = table["group"].to_pylist()
    assert sum(part.contact for part in written) == groups.count("contact")
    assert sum(part.control for part in written) == groups.count("control")
    return table


def control_of(table: pa.Table) -> set[int]:
    return {
        key
        for key, group in zip(table["CustomerId"].to_pylist(), table["group"].to_pylist(), strict=True)
        if group == "control"
    }


def bucket_of(key: int) -> int:
    """The bucket that decides whether a customer is trained on."""
    return int.from_bytes(hmac.new(SALT, str(key).encode(), "sha256").digest()[:4], "big") % columnar.BUCKETS


def test_every_customer_has_one_row(tmp_path: Path) -> None:
    """In the order of the file, whatever the parts; the columns are those of the schema."""
    table = write_list(tmp_path / "a")
    assert table.schema == list_schema(BANK_CHURN)
    assert table["CustomerId"].to_pylist() == KEYS.tolist()
    assert table["rank"].to_pylist() == KEYS.tolist()
    assert table["decile"].to_pylist() == [-(-rank * 10 // CUSTOMERS) for rank in KEYS.tolist()]
    assert set(table["list_id"].to_pylist()) == {"abc"}
    assert table.equals(write_list(tmp_path / "b", parts=1))
    assert table.combine_chunks().equals(write_list(tmp_path / "c", parts=17).combine_chunks())


def test_the_control_group_has_its_share(tmp_path: Path) -> None:
    """Within five standard deviations; with a share of 0 nobody is left alone."""
    assert abs(len(control_of(write_list(tmp_path / "a"))) - 200) < 5 * np.sqrt(CUSTOMERS * 0.05 * 0.95)
    assert abs(len(control_of(write_list(tmp_path / "b", share=0.5))) - 2000) < 5 * np.sqrt(CUSTOMERS * 0.25)
    assert control_of(write_list(tmp_path / "c", share=0.0)) == set()


def test_only_customers_within_the_capacity_are_in_a_group(tmp_path: Path) -> None:
    table = write_list(tmp_path / "a", listed=KEYS <= 100)
    assert set(table["group"].to_pylist()[100:]) == {"rest"}
    assert "rest" not in table["group"].to_pylist()[:100]
    assert control_of(table) == {key for key in control_of(write_list(tmp_path / "b")) if key <= 100}


def test_a_campaign_has_a_draw_of_its_own(tmp_path: Path) -> None:
    """The control groups of two campaigns share as many customers as chance has them share."""
    one = control_of(write_list(tmp_path / "a", share=0.5))
    other = control_of(write_list(tmp_path / "b", share=0.5, campaign="spring"))
    assert abs(len(one & other) - 1000) < 5 * np.sqrt(CUSTOMERS * 0.25 * 0.75)


def test_the_control_group_does_not_depend_on_the_training_buckets(tmp_path: Path) -> None:
    """Each quarter of the buckets has the same share, within five standard deviations."""
    control = control_of(write_list(tmp_path / "a", share=0.5))
    quarters = np.array([bucket_of(key) // 25 for key in KEYS.tolist()])
    chosen = np.array([key in control for key in KEYS.tolist()])
    for quarter in range(4):
        members = chosen[quarters == quarter]
        assert abs(members.mean() - 0.5) < 5 * np.sqrt(0.25 / len(members))


def test_an_earlier_treatment_is_kept(tmp_path: Path) -> None:
    """Whatever the draw says; but only a customer within the capacity is in a group."""
    earlier = np.zeros(CUSTOMERS, np.int32)
    earlier[:1000], earlier[1000:2000], earlier[3000:] = (
        2,
        -1,
        -1,
    )  # contacted since the second list, left alone since the first
    table = write_list(tmp_path / "a", earlier=earlier, listed=KEYS <= 3000)
    groups = table["group"].to_pylist()
    assert set(groups[:1000]) == {"contact"}
    assert set(groups[1000:2000]) == {"control"}
    assert set(groups[2000:3000]) == {"contact", "control"}
    assert set(groups[3000:]) == {"rest"}
    began = table["first_list"].to_pylist()
    assert [set(began[at : at + 1000]) for at in range(0, 4000, 1000)] == [{"second"}, {"first"}, {"abc"}, {None}]


@pytest.mark.parametrize(("name", "listed"), [("CustomerId", "CustomerId"), ("rank", "customer_rank")])
def test_the_key_keeps_its_name_unless_the_list_has_another_column_of_it(name: str, listed: str) -> None:
    columns = tuple(replace(column, name=name) if column is BANK_CHURN.key else column for column in BANK_CHURN.columns)
    assert key_column(replace(BANK_CHURN, columns=columns)) == listed
