"""A part of an arrived file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FilePart:
    """A range of a file that begins and ends between records.

    - `number`: its place among the parts of the file, from 0
    - `begin`, `end`: bytes of a CSV file, or row groups of a Parquet file
    - `first`: the number of its first line, or row
    - `old_mac`: whether the lines of the file end with CR alone
    """

    number: int
    begin: int
    end: int
    first: int
    old_mac: bool = False
