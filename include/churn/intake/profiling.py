"""Describes a column of a file: its kind, its bounds, its different texts, and what is odd about it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from churn.contract import WRITTEN, Kind

MOST_CATEGORIES = 30
"""A text with more different values is not listed."""
ROWS_A_LEVEL = 10
"""A text whose values have fewer rows on average is not listed, since the values may be persons."""
FEWEST_ROWS = 3
"""A level with fewer rows is not listed either."""
_FITTING = 0.98
"""Share of the cells that must be numbers, if a column is to be one; the others would be quarantined."""
_SAFE_DIGITS = 18


@dataclass(frozen=True)
class ColumnProfile:
    """What a column of a file holds.

    `levels` are its different texts with their number of rows, the most frequent first. `missing` cells are empty or blank, `odd`
    ones are not of the kind that almost all others are of, and `padded` says whether blanks surround any. A number has its
    smallest and largest value and its `numbers`; `counts_up` says whether they are the positions of the rows. `length` is the mean
    length of a text.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    odd: int
    padded: bool
    levels: list[tuple[str, int]] = field(repr=False)
    lowest: float = 0.0
    highest: float = 0.0
    length: float = 0.0
    numbers: pa.Array | None = field(default=None, repr=False)
    counts_up: bool = False

    @property
    def present(self) -> int:
        """Number of cells that are not missing."""
        return self.rows - self.missing

    @property
    def distinct(self) -> int:
        """Number of different texts."""
        return len(self.levels)

    @property
    def texts(self) -> list[str]:
        """The different texts, the most frequent first."""
        return [text for text, _ in self.levels]

    @cached_property
    def folded(self) -> dict[str, int]:
        """The number of rows of each text, whatever its case."""
        counts: dict[str, int] = {}
        for text, count in self.levels:
            counts[text.lower()] = counts.get(text.lower(), 0) + count
        return counts

    @property
    def unique(self) -> bool:
        """Whether every row has a text that no other row has."""
        return not self.missing and self.distinct == self.rows

    @property
    def listed(self) -> list[str]:
        """The texts that many rows share, in the spelling that most rows have; empty if they may be persons."""
        if not self.levels or self.distinct > MOST_CATEGORIES * 2 or self.present < ROWS_A_LEVEL * len(self.folded):
            return []
        frequent = {text for text, count in self.folded.items() if count >= FEWEST_ROWS}
        spelt: dict[str, str] = {}
        for text in self.texts:
            if text.lower() in frequent:
                spelt.setdefault(text.lower(), text)
        return sorted(spelt.values()) if len(spelt) <= MOST_CATEGORIES else []


def profile_column(name: str, cells: pa.ChunkedArray) -> ColumnProfile:
    """Describe a column by its cells, as texts; a missing one is null."""
    texts = cells.combine_chunks() if isinstance(cells, pa.ChunkedArray) else cells
    trimmed = pc.utf8_trim(texts, characters=" ")
    padded = bool(pc.any(pc.not_equal(trimmed, texts)).as_py())
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    present = pc.drop_null(trimmed)
    counted = sorted(present.value_counts().to_pylist(), key=lambda pair: (-pair["counts"], pair["values"]))
    levels = [(pair["values"], pair["counts"]) for pair in counted]
    base = ColumnProfile(name, Kind.TEXT, len(texts), trimmed.null_count, 0, padded, levels)
    if not len(present):
        return base
    for kind in (Kind.INTEGER, Kind.NUMBER, Kind.DATE):
        matching = pc.match_substring_regex(present, f"^(?:{WRITTEN[kind]})$")
        share = pc.sum(matching).as_py() / len(present)
        if share < _FITTING or (kind is Kind.INTEGER and share < 1 and _fitting(present, Kind.NUMBER) > share):
            continue
        fitting = present.filter(matching)
        odd = len(present) - len(fitting)
        if kind is Kind.DATE:
            return replace(base, kind=kind, odd=odd)
        if kind is Kind.INTEGER and pc.max(pc.utf8_length(fitting)).as_py() > _SAFE_DIGITS:
            break  # digits that are no number, such as those of a card
        if pc.any(pc.match_substring_regex(fitting, r"^-?0[0-9]")).as_py():
            break
        numbers = fitting.cast(pa.float64())
        bounds = pc.min_max(numbers).as_py()
        return replace(
            base,
            kind=kind,
            odd=odd,
            lowest=bounds["min"],
            highest=bounds["max"],
            numbers=numbers,
            counts_up=not odd and not base.missing and _counts_up(numbers),
        )
    return replace(base, length=pc.mean(pc.utf8_length(present)).as_py())


def _fitting(present: pa.Array, kind: Kind) -> float:
    return float(pc.sum(pc.match_substring_regex(present, f"^(?:{WRITTEN[kind]})$")).as_py() / len(present))


def _counts_up(numbers: pa.Array) -> bool:
    """Whether the numbers are the positions of the rows."""
    steps = pc.subtract(numbers[1:], numbers[:-1])
    return len(numbers) > 1 and bool(pc.all(pc.equal(steps, 1)).as_py()) and numbers[0].as_py() in (0, 1)
