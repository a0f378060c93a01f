"""Changes of bytes, cells, records, headers, encodings and compression, each drawn from a generator of random numbers."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence

from support.fuzzing.promises import CANARY

ODD_CELLS = (
    "", " ", "\t", '""', '"', '"a"b', "'", CANARY, f'"{CANARY}, x"', f"{CANARY}\0", "NaN", "nan", "inf", "-inf", "null", "NULL", "None",
    "true", "0", "-0", "1", "-1", "2", "0.0", "1.0", "1.5", "1.00000000000000000001", "1e0", "1E5", "1e308", "1e309", "-1e400", "1e-400",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9" * 40, "0x10", "1_000", "1,5",
    "1 000", "+1", "01", "1.", ".5", "--1", "\uff11\uff12", "\u0661", "\u00b2", "2026-01-31", "2026-02-30", "0000-01-01", "0001-01-01", "0000-00-00",
    "9999-12-31", "9999-12-30", "1582-10-10", "2026-1-5", "2026-01-31T00:00:00", "31.01.2026", "=1+1", "=cmd|' /C calc'!A0", "<b>x</b>", "e\u0301",
    "\U0001f9e8", "\u202egnp", "\u2028", "\u0085", "\ufeff", "\u00a0", "\u200b", "\ud7ff", "\ufffd", "\r", "\x0b", "\x1f", "\x7f", "France ", " france", "FRANCE", "Fran\u00e7e",
    "\u0130", "\u00df", "yes", "Yes", "NO", "never", "A" * 300,
)  # fmt: skip
"""Cells that a reader may trip over."""
ODD_NAMES = (
    "", " ", "_line", "_batch", "_x", "Unnamed: 0", "index", "CustomerID", "customerid", " Age", "Age ", "age", "AGE", "A\u0301ge", "\u0130d", "Exited.1",
    '"', '""', '"a""b"', "'", "a;b", "x" * 300, "\u202ename", "\U0001f9e8", "<script>", "{name}", "%s", "$p0", "cells[1]", "sep=;", "rows", "event_date", "complete_from",
    "complete_through", "Left", "\ufeffAge", "\u2028", "\u0085", "\x7f", "\x1b[31m", "1", "1.5", "key", "target", "Key", "feature", "file", "\ud800", "a\nb",
)  # fmt: skip
ODD_BYTES = (
    b"\0", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x80", b'"', b'""', b'"\n', b",", b",,,,", b"\n", b"\r",
    b"\r\n", b"\n\n", b"\x1a", b"\x1b", b"\t", b";", b"|", b"\x0b", b"\x0c", b"\x85", b"'", b"\\", b"PAR1", b"\x1f\x8b", b"PK\x03\x04", b"sep=;\n", b"<html>", b'{"a":', b"[1",
    b"%PDF", b"BZh", b"#", b"=1+1", b"-", b" ", b"9" * 30,
)  # fmt: skip

Cells = list[list[str]]


def change_bytes(draw: random.Random, data: bytes) -> bytes:
    """Flip, insert, remove, repeat or cut off some bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        at, end = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
        end = min(end, at + draw.choice((1, 4, 40, 10_000)))
        kind = draw.randrange(6)
        if kind == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + draw.choice(ODD_BYTES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[end:]
        elif kind == 3:
            data = data[:end] + data[at:end] * draw.choice((1, 3)) + data[end:]
        elif kind == 4:
            data = data[:at]
        else:
            data = data[:at] + draw.randbytes(min(end - at, 16)) + data[end:]
    return data


def change_cell(draw: random.Random, table: Cells) -> None:
    """Put an odd cell into a row."""
    if len(table) > 1:
        row = draw.choice(table[1:])
        if row:
            row[draw.randrange(len(row))] = draw.choice(ODD_CELLS)


def change_record(draw: random.Random, table: Cells) -> None:
    """Remove, repeat, lengthen, shorten or move a row."""
    if len(table) < 2:
        return
    at = draw.randrange(1, len(table))
    row, kind = table[at], draw.randrange(8)
    if kind == 0:
        del table[at:]
    elif kind == 1:
        table.insert(at, list(row))
    elif kind == 2:
        row.append(draw.choice(ODD_CELLS))
    elif kind == 3 and row:
        row.pop(draw.randrange(len(row)))
    elif kind == 4:
        draw.shuffle(row)
    elif kind == 5:
        table.insert(at, draw.choice(([], [""], [" "], ["\t"], [""] * len(table[0]), ["\0"], ["\u2028"], ["\x85"])))
    elif kind == 6 and row:
        place = draw.randrange(len(row))
        row[place] = f'"{row[place]}\n{draw.choice(("", CANARY, ",".join(row), "a,b"))}{draw.choice(("", chr(34)))}'
    else:
        table.append(table.pop(at))


def change_header(draw: random.Random, table: Cells) -> None:  # noqa: PLR0912 -- a branch for each change
    """Rename, repeat, remove, add or move a column, or put something above the header."""
    header, kind = table[0], draw.randrange(10)
    at = draw.randrange(len(header)) if header else 0
    if kind == 0 and header:
        header[at] = draw.choice(ODD_NAMES)
    elif kind == 1 and header:
        header[at] = draw.choice((str.lower, str.upper, str.title, str.swapcase))(header[at])
    elif kind == 2 and header:
        header[at] = draw.choice((" ", "", "\u00a0", "_")) + header[at] + draw.choice((" ", "  ", "_", "-", "\t"))
    elif kind == 3 and header:
        header[at] = draw.choice(header)
    elif kind == 4 and header:
        for row in table:
            del row[at : at + 1]
    elif kind == 5:
        name = draw.choice(ODD_NAMES)
        for number, row in enumerate(table):
            row.insert(at, name if number == 0 else draw.choice(ODD_CELLS))
    elif kind == 6:
        order = draw.sample(range(len(header)), len(header))
        for number, row in enumerate(table):
            if len(row) == len(order):
                table[number] = [row[place] for place in order]
    elif kind == 7:
        table.insert(
            0, draw.choice(([], [""], ["Report of the bank"], ["sep=;"], ['"sep=\t"'], ["sep="], ["# a", "b"]))
        )
    elif kind == 8:
        del table[0]
        if not table:
            table.append([])
    else:
        table[0] = [draw.choice(ODD_NAMES) for _ in range(draw.choice((1, 3, 40)))]


_CHANGES: Sequence[Callable[[random.Random, Cells], None]] = (
    change_cell,
    change_cell,
    change_cell,
    change_record,
    change_header,
)


def write_text(draw: random.Random, table: Cells) -> bytes:
    """Write a table with a delimiter, line ends, quoting and an encoding, mostly the usual ones."""
    mark = "," if draw.random() < 0.85 else draw.choice((";", "\t", "|", " ", "~"))
    end = "\n" if draw.random() < 0.7 else draw.choice(("\r\n", "\r", "\n\r", "\n\n", "\r\r\n", "\u2028", "\x0b"))
    quoted = draw.random() < 0.1
    lines = [mark.join(f'"{cell}"' if quoted else cell for cell in row) for row in table]
    text = end.join(lines) + (end if draw.random() < 0.8 else "")
    if draw.random() < 0.85:
        return draw.choice((b"", b"", b"", b"\xef\xbb\xbf")) + text.encode(errors="surrogatepass")
    coding = draw.choice(
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp437", "shift-jis", "utf-7", "utf-8-sig")
    )
    return text.encode(coding, errors="replace")


def change_text(draw: random.Random, table: Cells) -> bytes:
    """Change a table of cells in one to four ways, and write it; sometimes its bytes are changed as well."""
    table = [list(row) for row in table]
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        draw.choice(_CHANGES)(draw, table)
    data = write_text(draw, table)
    return change_bytes(draw, data) if draw.random() < 0.35 else data


def compress(draw: random.Random, data: bytes) -> bytes:  # noqa: PLR0911 -- a result for each fault
    """Compress with gzip, with what its format allows and with what it does not."""
    kind = draw.randrange(12)
    whole = gzip.compress(data, compresslevel=draw.choice((0, 1, 9)), mtime=0)
    if kind == 0:
        cut = draw.randrange(len(data) + 1)
        return gzip.compress(data[:cut], mtime=0) + gzip.compress(data[cut:], mtime=0)
    if kind == 1:
        return whole + draw.choice(
            (b"\0" * 20, b"\0", b"trailing", b"\x1f\x8b", b"\x1f", whole[:12], gzip.compress(b""))
        )
    if kind == 2:
        return gzip.compress(whole, mtime=0)
    if kind == 3:
        return gzip.compress(b"" if draw.random() < 0.5 else b"\n" * draw.choice((1, 70_000)), mtime=0)
    if kind == 4:  # a name, a comment, further fields and a checksum of the header
        flags = draw.randrange(32)
        header = b"\x1f\x8b\x08" + bytes([flags]) + b"\0" * 6
        header += struct.pack("<H", 3) + b"abc" if flags & 4 else b""
        header += b"name\0" if flags & 8 else b""
        header += b"comment\0" if flags & 16 else b""
        header += b"\0\0" if flags & 2 else b""
        return header + whole[10:]
    if kind == 5:
        return whole[: draw.randrange(len(whole) + 1)]
    if kind == 6:
        return whole[:-8] + draw.randbytes(8)
    if kind == 7:
        return b"\x1f\x8b" + zlib.compress(data)
    if kind == 8:
        return change_bytes(draw, whole)
    if kind == 9:
        at = draw.randrange(10)
        return whole[:at] + draw.randbytes(1) + whole[at + 1 :]
    return whole


def read_cells(text: str) -> Cells:
    """The cells of a text that the generator wrote, which has no quotes."""
    return [line.split(",") for line in io.StringIO(text).read().splitlines()]
