"""Accepted rows are cut into frames, and no row is left out or read twice."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.contract import Column, Kind, Role
from churn.foundation.parts import WrittenPart
from churn.foundation.spread import INTO
from churn.intake import frames
from churn.intake.frames import Frame, Slice, cut_frames, read_frame, spread_by_value
from support.small_tables import SMALL, small_rows, write_parts


def test_small_files_share_a_frame_and_a_large_one_is_sliced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame has at most so many rows; a file without rows is in none."""
    monkeypatch.setattr(frames, "FRAME_ROWS", 4)
    files = write_parts(tmp_path, small_rows(17), [1, 2, 0, 9, 5])
    parts = [WrittenPart.of(file) for file in files]
    one, two, none, large, last = files
    assert cut_frames(parts) == [
        Frame((Slice(one, 0, 1), Slice(two, 0, 2))),
        Frame((Slice(large, 0, 4),)),
        Frame((Slice(large, 4, 4),)),
        Frame((Slice(large, 8, 1),)),
        Frame((Slice(last, 0, 4),)),
        Frame((Slice(last, 4, 1),)),
    ]
    assert cut_frames([WrittenPart.of(none)]) == cut_frames([]) == []


@pytest.mark.parametrize("size", [1, 3, 7, 20])
@pytest.mark.parametrize("row_group", [1, 2, 5, 50])
def test_the_frames_are_the_rows_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, row_group: int
) -> None:
    """Wherever frames and row groups end, every row is read once, in order and with the same types."""
    files = [WrittenPart.of(file) for file in write_parts(tmp_path, small_rows(20), [3, 11, 6], row_group)]
    (whole,) = [read_frame(frame, SMALL.columns) for frame in cut_frames(files)]
    monkeypatch.setattr(frames, "FRAME_ROWS", size)
    cut = cut_frames(files)
    read = [read_frame(frame, SMALL.columns) for frame in cut]
    assert [len(rows) for rows in read] == [frame.rows for frame in cut]
    assert max(frame.rows for frame in cut) <= size
    assert {tuple(map(str, rows.dtypes)) for rows in read} == {tuple(map(str, whole.dtypes))}
    again = pd.concat([rows.astype({"client": "str", "country": "str"}) for rows in read], ignore_index=True)
    pd.testing.assert_frame_equal(again, whole.astype({"client": "str", "country": "str"}))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("key", Kind.TEXT, Role.KEY), pa.array(["a", "b", "a", "ä", "b", "a"])),
        (Column("key", Kind.INTEGER, Role.KEY), pa.array([7, 2**53, 7, -1, 2**53, 7])),
        (Column("key", Kind.NUMBER, Role.KEY), pa.array([0.0, 1.5, -0.0, 2.0, 1.5, 0.0])),
        (Column("key", Kind.DATE, Role.KEY), pa.array([1, 2, 1, 3, 2, 1], pa.date32())),
    ],
    ids=lambda value: value.kind if isinstance(value, Column) else "",
)
def test_equal_values_have_the_same_receiver(tmp_path: Path, column: Column, values: pa.Array) -> None:
    """Also where they are in different files, and where equal numbers differ in their bytes."""
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    for file, some in zip(files, (values[:3], values[3:]), strict=True):
        pq.write_table(pa.table({"key": some}), file)
    sent = [batch for file in files for batch in spread_by_value([column], 1000, Frame((Slice(file, 0, 3),)))]
    receivers = np.concatenate([batch[INTO].to_numpy() for batch in sent])
    assert receivers[0] == receivers[2] == receivers[5]
    assert receivers[1] == receivers[4]
    assert len(set(receivers)) == 3
    assert [value for batch in sent for value in batch["key"].to_pylist()] == values.to_pylist()
