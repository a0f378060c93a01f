"""A column is described by its cells: what almost all of them are, and what is odd about the others."""

from __future__ import annotations

import pyarrow as pa
import pytest

from churn.contract import Kind
from churn.intake.profiling import ColumnProfile, profile_column


def profile(*cells: str | None) -> ColumnProfile:
    return profile_column("column", pa.chunked_array([pa.array(cells, pa.string())]))


@pytest.mark.parametrize(
    ("cells", "kind", "odd"),
    [
        (["1", "2", "-3"], Kind.INTEGER, 0),
        (["1", "2.5"], Kind.NUMBER, 0),
        (["1"] * 99 + ["n/a"], Kind.INTEGER, 1),
        (["1"] * 9 + ["n/a"], Kind.TEXT, 0),
        (["1.5"] * 60 + ["7"] * 40, Kind.NUMBER, 0),
        (["7"] * 99 + ["1.5"], Kind.NUMBER, 0),
        (["2026-01-31", "2025-12-01"], Kind.DATE, 0),
        (["007", "008"], Kind.TEXT, 0),
        (["4000000000000000001", "4000000000000000002"], Kind.TEXT, 0),
        ([None, " "], Kind.TEXT, 0),
    ],
)
def test_the_kind_is_that_of_almost_all_cells(cells: list[str | None], kind: Kind, odd: int) -> None:
    """Digits that are no number, as of a card or with a leading zero, are texts."""
    described = profile(*cells)
    assert (described.kind, described.odd) == (kind, odd)


def test_blanks_and_missing_cells_are_counted() -> None:
    """A blank cell is missing, and a padded one is noted."""
    described = profile(" 5", "7", " ", None, "")
    assert (described.rows, described.missing, described.padded) == (5, 3, True)
    assert (described.lowest, described.highest, described.texts) == (5, 7, ["5", "7"])


def test_positions_are_recognised() -> None:
    """From 0 or 1, by one, without a gap."""
    assert profile("1", "2", "3").counts_up
    assert profile("0", "1", "2").counts_up
    assert not any(profile(*cells).counts_up for cells in (["2", "3"], ["1", "3"], ["3", "2", "1"], ["1", "2", None]))


def test_only_texts_that_many_rows_share_are_listed() -> None:
    """In the spelling of most rows; a text with a value for almost every row has none."""
    assert profile(*["gold"] * 30, *["Gold"] * 10, *["silver"] * 20, "Ms Muster").listed == ["gold", "silver"]
    assert profile(*[f"person {at}" for at in range(40)]).listed == []
    assert profile("a", "b").listed == []
