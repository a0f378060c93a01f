"""Says what a file is if it is neither a CSV file nor a Parquet file, from its first bytes."""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.intake.batch_file import FileFault, Piece

HEAD = 64 << 10
"""Number of bytes that are looked at."""
EXCEL_EXPORT = "In Excel, choose File, Save As, and the type `CSV UTF-8 (Comma delimited)`, and send that file."
_CSV = "Export it as CSV in UTF-8 and send it again."
_UNPACK = "Unpack it and send the CSV file in it (compressed with gzip, if you like)."

_SIGNATURES = (
    (
        0,
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "spreadsheet",
        "an Excel workbook (.xls, or .xlsx with a password)",
        EXCEL_EXPORT,
    ),
    (0, b"BZh", "archive", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\0", "archive", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "archive", "compressed with Zstandard", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "archive", "compressed with LZ4", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "archive", "a 7-Zip archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "archive", "a RAR archive", _UNPACK),
    (257, b"ustar", "archive", "a tar archive", _UNPACK),
    (0, b"PARE", "other_format", "an encrypted Parquet file", "Export it without encryption and send it again."),
    (0, b"ORC", "other_format", "an ORC file", _CSV),
    (0, b"Obj\x01", "other_format", "an Avro file", _CSV),
    (0, b"ARROW1", "other_format", "an Arrow (Feather) file", "Export it as CSV or Parquet and send it again."),
    (0, b"\x89HDF\r\n\x1a\n", "other_format", "an HDF5 file", _CSV),
    (0, b"SQLite format 3\0", "other_format", "an SQLite database", _CSV),
    (0, b"$FL2", "other_format", "an SPSS file", _CSV),
    (0, b"<stata_dta>", "other_format", "a Stata file", _CSV),
    (0, b"%PDF", "other_format", "a PDF document", _CSV),
    (0, b"{\\rtf", "other_format", "a rich-text document", _CSV),
    (0, b"\x89PNG\r\n\x1a\n", "other_format", "a PNG image", "Send the CSV file instead."),
    (0, b"\xff\xd8\xff", "other_format", "a JPEG image", "Send the CSV file instead."),
    (0, b"GIF8", "other_format", "a GIF image", "Send the CSV file instead."),
    (
        0,
        b"version https://git-lfs",
        "other_format",
        "a pointer of Git LFS and not the data",
        "Fetch the data with `git lfs pull` and send that file.",
    ),
)
"""Offset, bytes, code of the fault, what the file is, and what to do."""
_JSON = re.compile(rb"[\[{]\s*(?:[\"{\[\]}]|-?[0-9]|true\b|false\b|null\b)")
_MARKUP = re.compile(rb"<(?:!doctype|html|head|body|script|!--|\?xml|[a-z])")
_SQL = re.compile(rb"(?:insert\s+into|create\s+table|copy\s+\S+\s+\(|drop\s+table)\s", re.IGNORECASE)
_TEXT_CONTROLS = b"\t\n\r\f"
_UTF16_SHARE = 0.3
"""Text in UTF-16 without a byte order mark has a NUL in about every second byte."""


class OtherFile:
    """A file that is not a table. It has no rows, and its check says what it is."""

    def __init__(self, fault: FileFault) -> None:
        self._fault = fault
        self.header: list[str] = []

    def names(self) -> list[str]:
        """Raise what the file is.

        Raises:
            FileFault: always.
        """
        raise self._fault

    def check(self, contract: Contract) -> None:  # noqa: ARG002 -- the file fits no contract
        """Raise what the file is.

        Raises:
            FileFault: always.
        """
        raise self._fault

    def pieces(self, contract: Contract) -> Iterator[Piece]:  # noqa: ARG002
        """Return no records."""
        return iter(())

    def raw(self, only: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:  # noqa: ARG002
        """Return no records, since what is not text has no lines."""
        return iter(())


def recognise(head: bytes, stream: IO[bytes], *, zipped: bool) -> FileFault | None:
    """Return what a file is if it cannot be a table, as the fault to report.

    Args:
        head: the first `HEAD` bytes, unpacked if the file is gzipped.
        stream: the file, seekable; the names in a ZIP archive are at its end.
        zipped: whether the file is gzipped.

    Returns:
        The fault; None if the file may be CSV.
    """
    kind = _binary(head, stream if not zipped else io.BytesIO(head)) or _encoded(head) or _marked_up(head)
    if kind is None:
        return None
    code, what, step = kind
    inside = " (in gzip)" if zipped else ""
    return FileFault(code, f"The file is {what}{inside}, and not a CSV file. {step}")


def _binary(head: bytes, stream: IO[bytes]) -> tuple[str, str, str] | None:
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip(stream)
    if head[:4] == b"PAR1":
        return "archive", "a Parquet file", "Unpack it with gunzip and send the Parquet file."
    if head[:2] == b"\x1f\x8b":
        return "archive", "compressed with gzip twice", "Compress it once and send it again."
    for offset, mark, code, what, step in _SIGNATURES:
        if head[offset : offset + len(mark)] == mark:
            return code, what, step
    return None


def _zip(stream: IO[bytes]) -> tuple[str, str, str]:
    try:
        names = zipfile.ZipFile(stream).namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "archive", "a ZIP archive (damaged or incomplete)", _UNPACK
    if any(name.startswith("xl/") for name in names):
        return "spreadsheet", "an Excel workbook (.xlsx)", EXCEL_EXPORT
    if "mimetype" in names and "content.xml" in names:
        return (
            "spreadsheet",
            "an OpenDocument file",
            "In LibreOffice Calc, save it as `Text CSV` in UTF-8 and send that file.",
        )
    if any(name.startswith("Index/") for name in names):
        return "spreadsheet", "an Apple Numbers document", "Export it as CSV in UTF-8 and send that file."
    return "archive", "a ZIP archive", _UNPACK


def _encoded(head: bytes) -> tuple[str, str, str] | None:
    """Whether the file is text in an encoding of two or four bytes per character, or no text at all."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "encoding", "text in UTF-32", f"Save it in UTF-8 and send it again. {EXCEL_EXPORT}"
    utf16 = "text in UTF-16, which Excel calls `Unicode Text`"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "encoding", utf16, f"Save it in UTF-8. {EXCEL_EXPORT}"
    first = head.lstrip(_TEXT_CONTROLS + b" ").split(b"\n", 1)[0]
    if first.count(b"\0") > _UTF16_SHARE * len(first) and _alternates(first):
        return "encoding", utf16, f"Save it in UTF-8. {EXCEL_EXPORT}"
    if any(byte < 0x20 and byte not in _TEXT_CONTROLS for byte in first):  # noqa: PLR2004 -- the control characters
        return "not_csv", "binary data of a format that is not known here", _CSV
    return None


def _alternates(text: bytes) -> bool:
    """Whether the NUL bytes are all at even or all at odd positions."""
    at = [position % 2 for position, byte in enumerate(text) if not byte]
    return len(set(at)) == 1


def _marked_up(head: bytes) -> tuple[str, str, str] | None:
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    lowered = text[:4096].lower()
    if _MARKUP.match(lowered):
        if b"urn:schemas-microsoft-com:office:spreadsheet" in lowered:
            return "spreadsheet", "an Excel workbook in XML", EXCEL_EXPORT
        if lowered.startswith(b"<?xml") and b"<html" not in lowered:
            return "other_format", "an XML document", _CSV
        step = "It may be a login page or an error page. Open the address in a browser, sign in, and download the file again."
        return "html", "a web page (HTML)", step
    if _JSON.match(text):
        return "json", "JSON", _CSV
    if _SQL.match(text):
        return "other_format", "a script in SQL", "Export the rows as CSV in UTF-8 and send that file."
    return None
