"""A file of the data root with its parts, each of which can be read by itself, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from churn.foundation.scratch import place_of, writing
from churn.foundation.storage import Storage
from churn.intake.batch_file import BatchFile
from churn.intake.csv_reading import CsvBatch, unpack
from churn.intake.division import Divider, Division, divide_parquet, divide_stream, note_division, noted_division
from churn.intake.file_part import FilePart
from churn.intake.parquet_reading import ParquetBatch
from churn.intake.reading import open_file

WHOLE = FilePart(0, 0, 0, 1)
_UNPACKED = "unpacked"


@dataclass(frozen=True)
class DividedFile:
    """A file with its parts: `(WHOLE,)` if it has one.

    - `storage`, `name`: where it is
    - `header`: its columns in the spelling of the contract
    - `parquet`: whether it is a Parquet file
    """

    storage: Storage
    name: str
    header: tuple[str, ...]
    parquet: bool = False
    parts: tuple[FilePart, ...] = (WHOLE,)

    @contextmanager
    def opened(self, part: FilePart) -> Iterator[BatchFile]:
        """Open one of its parts."""
        with self.storage.reading(self.name) as stream:
            if part == WHOLE:
                file = open_file(stream)
                file.header = list(self.header)
                yield file
            elif self.parquet:
                yield ParquetBatch(stream, part, self.header)
            else:
                yield CsvBatch(stream, zipped=False, part=part, header=self.header)


def divide_original(storage: Storage, name: str, file: BatchFile, scratch: Path, size: int) -> DividedFile:
    """An original with the parts that were noted when it arrived; otherwise it is divided now, and they are noted.

    A compressed file is unpacked into the scratch folder, once.

    Args:
        storage: the data root.
        name: the original.
        file: the opened original, whose columns have been checked.
        scratch: folder for the unpacked text.
        size: bytes of a part of a file that has no note.

    Raises:
        FileFault: the compressed file is damaged.
    """
    noted = noted_division(storage, name)
    divided, division = _divide(storage, name, file, scratch, size, noted)
    if noted is None:
        note_division(storage, name, division)
    return divided


def divide_copy(copy: Path, file: BatchFile, scratch: Path, size: int) -> DividedFile:
    """Divide a local file that is not a batch, such as one that is only tried.

    Raises:
        FileFault: the compressed file is damaged.
    """
    return _divide(Storage.open(str(copy.parent)), copy.name, file, scratch, size, None)[0]


def _divide(
    storage: Storage, name: str, file: BatchFile, scratch: Path, size: int, noted: Division | None
) -> tuple[DividedFile, Division | None]:
    header = tuple(file.header)
    if isinstance(file, ParquetBatch):
        with storage.reading(name) as stream:
            division = noted or divide_parquet(stream, size)
        return DividedFile(storage, name, header, True, division.parts if division else (WHOLE,)), division
    if isinstance(file, CsvBatch) and file.zipped:
        divider, unpacked = Divider(size), scratch / _UNPACKED
        with storage.reading(name) as stream, writing(unpacked) as file_here, file_here.open("wb") as target:
            for chunk in unpack(stream):
                target.write(chunk)
                divider.feed(chunk)
        division = noted or divider.finish()
        storage, name = place_of(unpacked) or (Storage.open(str(scratch)), _UNPACKED)
    else:
        division = noted or divide_stream(storage.chunks(name), size)
    return DividedFile(storage, name, header, False, division.parts if division else (WHOLE,)), division
