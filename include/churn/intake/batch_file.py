"""What a file of either format offers to intake: its columns, and its records in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.intake.lines import Lines


class FileFault(Exception):  # noqa: N818 -- it is turned into the rejection of the batch
    """Why a whole file cannot be read: a short code, and a sentence with the next step."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[FileFault], tuple[str, str]]:
        """Both arguments survive the way from one process to another."""
        return type(self), (self.code, self.sentence)


@dataclass(frozen=True)
class Piece:
    """Some records of a file, in its order.

    `plain` has `_line` and `_text` of all lines (each text ends with an extra comma); the text is null if a line cannot be split
    at every comma. `records` has those lines, as returned by `split_lines`. `arrived` is the number of records: lines that are
    not blank, of which those that one quoted cell spans count once.
    """

    arrived: int
    plain: pa.Table | None
    records: pa.Table
    lines: Lines | None = field(default=None, repr=False)


class BatchFile(Protocol):
    """A file of either format."""

    header: list[str]

    def names(self) -> list[str]:
        """The names in its header, whatever contract it follows.

        Raises:
            FileFault: the file cannot be read.
        """

    def check(self, contract: Contract) -> None:
        """Check the columns against the contract. Their order does not matter, and further ones are ignored.

        Raises:
            FileFault: the file cannot be read.
        """

    def pieces(self, contract: Contract) -> Iterator[Piece]:
        """Its records."""

    def raw(self, only: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:
        """`_line` and `_raw` of every record, or of the records of these lines; of a damaged file, up to the damage."""
