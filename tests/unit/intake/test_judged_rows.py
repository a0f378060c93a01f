"""The parts of a judged batch add up."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from churn.foundation.parts import WrittenPart
from churn.intake.file_part import FilePart
from churn.intake.judged_rows import Judged, JudgedPart, find_broken_rules


def part(folder: Path, number: int, broken: dict[int, list[str]]) -> JudgedPart:
    file = folder / f"aside-{number}.parquet"
    rows = {"_line": list(broken), "_failed": pa.array(list(broken.values()), pa.list_(pa.string()))}
    pq.write_table(pa.table(rows), file)
    written = WrittenPart.of(file)
    return JudgedPart(FilePart(number, 0, 1, 1), written, written, len(broken), 0, 0, find_broken_rules(file))


def test_broken_rules_are_counted_over_all_parts(tmp_path: Path) -> None:
    """By frequency, then by name, with the first lines."""
    late = part(tmp_path, 1, {line: ["b", "a"] if line == 14 else ["b"] for line in range(20, 12, -1)})
    early = part(tmp_path, 0, {1: ["a"], 2: ["b"]})
    assert Judged((early, late)).rules == [("b", 9, [2, 13, 14, 15, 16]), ("a", 2, [1, 14])]
    assert Judged((late, early)).rules == Judged((early, late)).rules
