"""A file that is no table is named for what it is, and none of its bytes count as rows."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.intake.batch_file import FileFault
from churn.intake.file_kind import recognise
from churn.intake.reading import open_file
from support.basics import small_file
from support.judged_files import judge

TEXT = small_file(30)


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("rows.csv")
        entry.size = len(TEXT)
        archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(TEXT)).to_parquet(buffer)
    return buffer.getvalue()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (a)")
    return (folder / "rows.db").read_bytes()


OTHER = {
    "UTF-16 of Excel": (TEXT.replace(",", "\t").encode("utf-16"), "encoding", "UTF-16"),
    "UTF-16 big endian": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "encoding", "UTF-16"),
    "UTF-16 without a mark": (TEXT.encode("utf-16-le"), "encoding", "UTF-16"),
    "UTF-16 big endian without a mark": (TEXT.encode("utf-16-be"), "encoding", "UTF-16"),
    "UTF-32": (TEXT.encode("utf-32"), "encoding", "UTF-32"),
    "a ZIP archive": (zipped(rows=TEXT), "archive", "ZIP"),
    "a ZIP archive that is cut off": (zipped(rows=TEXT)[:100], "archive", "ZIP"),
    "an Excel workbook": (zipped(xl__workbook="x", xl__sheet1="y"), "spreadsheet", "Excel"),
    "an OpenDocument file": (
        zipped(mimetype="application/vnd.oasis.opendocument.spreadsheet", **{"content.xml": "x"}),
        "spreadsheet",
        "OpenDocument",
    ),
    "an old Excel workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "spreadsheet", "Excel"),
    "an Excel workbook in XML": (
        b'<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"/>',
        "spreadsheet",
        "Excel",
    ),
    "bzip2": (bz2.compress(TEXT.encode()), "archive", "bzip2"),
    "xz": (lzma.compress(TEXT.encode()), "archive", "xz"),
    "tar": (tarred(), "archive", "tar"),
    "a tar archive in gzip": (gzip.compress(tarred()), "archive", "tar archive .in gzip"),
    "gzip twice": (gzip.compress(gzip.compress(TEXT.encode())), "archive", "twice"),
    "Parquet in gzip": (gzip.compress(parquet()), "archive", "Parquet"),
    "UTF-16 in gzip": (gzip.compress(TEXT.encode("utf-16")), "encoding", "UTF-16"),
    "JSON": (b'[{"CustomerId": 1}]', "json", "JSON"),
    "JSON, a row per line": (b'{"CustomerId": 1}\n{"CustomerId": 2}\n', "json", "JSON"),
    "a login page": (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "html", "web page"),
    "a web page behind a byte order mark": (b"\xef\xbb\xbf<html>", "html", "web page"),
    "XML": (b'<?xml version="1.0"?><rows/>', "other_format", "XML"),
    "SQL": (b"INSERT INTO customers VALUES (1);", "other_format", "SQL"),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "other_format",
        "git lfs pull",
    ),
    "PDF": (b"%PDF-1.7\n", "other_format", "PDF"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\xff", "other_format", "PNG"),
    "unknown bytes": (b"\x01\x02\x03\x00\x10\xff" * 20, "not_csv", "not known"),
}


@pytest.mark.parametrize("name", OTHER)
def test_a_file_that_is_no_table_is_named_for_what_it_is(name: str) -> None:
    """The fault has a code, says what the file is and what to do, and the file has no rows."""
    data, code, words = OTHER[name]
    opened = open_file(io.BytesIO(data))
    with pytest.raises(FileFault, match=words) as fault:
        opened.check(BANK_CHURN)
    assert fault.value.code == code
    assert any(step in fault.value.sentence for step in ("Export", "Save", "save", "end ", "Open", "Unpack", "Fetch"))
    assert [*opened.raw(), *opened.pieces(BANK_CHURN)] == []


def test_an_excel_user_is_told_the_menu_entry() -> None:
    """Whoever exported `Unicode Text` finds the type to choose instead."""
    with pytest.raises(FileFault, match=r"Save As.*CSV UTF-8 \(Comma delimited\)"):
        judge(TEXT.encode("utf-16"))


def test_a_database_is_named(tmp_path: Path) -> None:
    """A format that has no text at all is recognised by its signature."""
    with pytest.raises(FileFault, match="SQLite"):
        judge(database(tmp_path))


@pytest.mark.parametrize(
    "data", [TEXT.encode(), b"\xef\xbb\xbf" + TEXT.encode(), parquet()], ids=["CSV", "mark", "Parquet"]
)
def test_a_table_is_read_whatever_its_name(data: bytes) -> None:
    """The first bytes decide: a Parquet file named .csv is read as Parquet."""
    assert judge(data).good.num_rows == 30


@pytest.mark.parametrize("text", [b"", b"\n\n", b"a,b\n", b"{curly},b\n", b"[Customer],b\n", b"caf\xe9,b\n"])
def test_text_is_left_to_the_reader_of_csv(text: bytes) -> None:
    """Names in braces or brackets, another encoding and an empty file are no other format."""
    assert recognise(text, io.BytesIO(text), zipped=False) is None
