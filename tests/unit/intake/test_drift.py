"""Drift is measured against the accepted history, said and shown, and never stops a batch."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from churn.contract import Column, Kind, Role
from churn.contracts.bank import BANK_CHURN
from churn.foundation.records import Drift
from churn.intake import drift
from churn.intake.drift import draw_drift, index_by_chance, stability_index


def compare(column: str, before: list[object], now: list[object]) -> Drift:
    return drift._compare(BANK_CHURN[column], pa.chunked_array([before]), pa.chunked_array([now]), 0.2)


def test_the_index_is_the_sum_of_its_bins() -> None:
    """Two bins of 50/50 and 90/10 among very many rows: (.4) ln(.9/.5) + (-.4) ln(.1/.5)."""
    measured = stability_index(np.array([500_000, 500_000]), np.array([900_000, 100_000]))
    assert measured == pytest.approx(0.4 * np.log(1.8) - 0.4 * np.log(0.2), abs=1e-4)


def test_chance_alone_is_no_drift() -> None:
    """Of 400 samples of one distribution at most a few pass the bound, also when they are small."""
    rng = np.random.default_rng(5)
    before = rng.normal(size=4000)
    for rows in (60, 400, 3000):
        measured = [compare("Balance", before.tolist(), rng.normal(size=rows).tolist()) for _ in range(400)]
        assert sum(drift.psi > index_by_chance(4000, rows, 10) for drift in measured) <= 4
        assert sum(drift.drifted for drift in measured) <= 4


def test_a_shift_is_drift_with_its_distance() -> None:
    """A shift by one standard deviation is found, and the distance is that of Kolmogorov and Smirnov."""
    rng = np.random.default_rng(5)
    before, now = rng.normal(size=4000), rng.normal(1, size=1000)
    measured = compare("Balance", before.tolist(), now.tolist())
    assert measured.drifted
    assert measured.measure == "kolmogorov_smirnov"
    assert measured.value == pytest.approx(stats.ks_2samp(before, now).statistic)


def test_a_new_category_is_named() -> None:
    """A country that the history does not have is drift, by its name."""
    measured = compare("Geography", ["France"] * 900 + ["Spain"] * 100, ["France"] * 500 + ["Germany"] * 500)
    assert (measured.drifted, measured.new_categories, measured.measure) == (True, ["Germany"], "cramers_v")
    assert 0.5 < measured.value < 0.8


def test_of_a_text_of_any_value_only_frequent_ones_are_told_apart_and_none_is_named() -> None:
    """New texts may be persons. Together they are one group, so that their number alone is no drift."""
    city = Column("City", Kind.TEXT, Role.FEATURE, max_levels=2)

    def measure(now: list[str], villages: int = 200) -> Drift:
        before = ["Bern"] * 500 + ["Zug"] * 300 + [f"village {at}" for at in range(villages)]
        return drift._compare(city, pa.chunked_array([before]), pa.chunked_array([now]), 0.2)

    same = measure(["Bern"] * 500 + ["Zug"] * 300 + [f"hamlet {at}" for at in range(200)])
    moved = measure(["Bern"] * 100 + ["Zug"] * 100 + [f"hamlet {at}" for at in range(800)])
    assert (same.drifted, same.new_categories) == (False, [])
    assert (moved.drifted, moved.new_categories) == (True, [])
    assert measure(["Bern"] * 500 + ["Ms Muster"] * 300, villages=0).new_categories == []


def test_a_constant_column_has_not_drifted() -> None:
    """One value before and now is no division by zero."""
    assert not compare("HasCrCard", [1] * 100, [1] * 50).drifted
    assert not compare("Geography", ["France"] * 100, ["France"] * 50).drifted


def test_absent_values_are_a_kind_of_their_own() -> None:
    """A column that becomes absent has drifted."""
    assert compare("Balance", [1.0, 2.0] * 500, [None] * 500 + [1.0, 2.0] * 250).drifted
    assert compare("Geography", ["France"] * 500, [None] * 500).new_categories == ["(absent)"]


def test_every_column_is_drawn_with_its_limit() -> None:
    """A dot and a dashed tick for each column, and another colour for one that has drifted."""
    drift = [compare("Geography", ["France"] * 9, ["Spain"] * 9), compare("HasCrCard", [1] * 9, [1] * 9)]
    root = ET.fromstring(draw_drift(drift))  # noqa: S314 -- our own
    assert [text.text for text in root.iter("text") if text.get("class") == "label"] == ["Geography", "HasCrCard"]
    assert sum(line.get("class") == "margin" for line in root.iter("line")) == len(drift)
    dots = [circle.get("class") for circle in root.iter("circle")]
    assert dots == [f"dot {'worse' if column.drifted else 'better'}" for column in drift]


def test_samples_are_always_the_same_rows(tmp_path: Path) -> None:
    """The rows that are compared are chosen by the customer, not by chance."""
    from churn.foundation import columnar

    rows = pa.table({"CustomerId": list(range(5000)), "Age": list(range(5000))})
    pq.write_table(rows, tmp_path / "rows.parquet")
    with columnar.engine("200MB") as connection:
        first, second = (
            columnar.sample_rows(connection, [tmp_path / "rows.parquet"], ["Age"], BANK_CHURN, 500) for _ in range(2)
        )
    assert first.equals(second)
    assert 350 < first.num_rows < 650
