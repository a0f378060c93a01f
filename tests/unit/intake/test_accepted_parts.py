"""A worker reads accepted rows with their buckets, or says what is wrong with the file."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.ledger import Ledger
from churn.foundation.parts import MANIFEST, PartFault
from churn.foundation.paths import accepted
from churn.foundation.storage import Storage
from churn.intake.accepted_parts import accepted_parts, read_accepted_part
from churn.intake.label_files import LEAVERS
from support.divisions import SALT
from support.panels import PANEL, PanelBatches

DAY = date(2026, 1, 5)


@pytest.fixture
def batches(storage: Storage, ledger: Ledger, tmp_path: Path) -> PanelBatches:
    return PanelBatches(storage, ledger, tmp_path)


def test_the_date_of_an_event_is_read_as_the_as_of_column(batches: PanelBatches, tmp_path: Path) -> None:
    """In two parts, with the lines and the rank of the batch."""
    lines = [{"Customer": who, "event_date": DAY} for who in range(1, 6)]
    batches.accept(lines, DAY, LEAVERS, parts=2)
    (batch,) = batches.ledger.batches()
    parts = accepted_parts(batches.storage, batch, 3)
    assert [(part.rows, part.rank, part.kind) for part in parts] == [(3, 3, LEAVERS), (2, 3, LEAVERS)]
    with columnar.engine("200MB") as connection:
        found = pa.Table.from_batches(
            rows
            for part in parts
            for rows in read_accepted_part(connection, batches.storage, part, PANEL, SALT, 100, tmp_path)
        )
    assert found["AsOf"].to_pylist() == [DAY] * 5
    assert columnar.line_of(found["_order"]).to_pylist() == [2, 3, 4, 5, 6]
    assert columnar.rank_of(found["_order"]).to_pylist() == [3] * 5
    assert found["Balance"].null_count == 5


def test_what_is_wrong_with_a_file_is_said(batches: PanelBatches, tmp_path: Path) -> None:
    """A changed manifest, a missing part, and another contract are three errors, and each has a next step."""
    batches.accept([{"Customer": 1, "AsOf": DAY, "Balance": 1.5, "Segment": "a", "Left": 0}], DAY)
    (batch,) = batches.ledger.batches()
    (part,) = accepted_parts(batches.storage, batch, 0)
    other = replace(PANEL, columns=tuple(replace(column, name=f"My{column.name}") for column in PANEL.columns))
    with columnar.engine("200MB") as connection:
        with pytest.raises(ChurnError, match=r"no column MyCustomer, .*`churn batches withdraw"):
            list(read_accepted_part(connection, batches.storage, part, other, SALT, 100, tmp_path))
        batches.storage.remove(part.name)
        with pytest.raises(PartFault, match=r"is missing\. .*Restore it from a backup"):
            list(read_accepted_part(connection, batches.storage, part, PANEL, SALT, 100, tmp_path))
    with batches.storage.writing(f"{accepted(batch.batch)}/{MANIFEST}") as stream:
        stream.write(b'{"format": 1, "parts": []}')
    with pytest.raises(PartFault, match="has been changed since the batch was accepted"):
        accepted_parts(batches.storage, batch, 0)
