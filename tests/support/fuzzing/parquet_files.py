"""Odd Parquet files: types, names, nesting, metadata, row groups and compression of a table, and damage to its bytes."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.fuzzing.mutations import ODD_CELLS, ODD_NAMES, Cells, change_bytes
from support.fuzzing.promises import CANARY

_BIG = 2**63 - 1
_COLUMNS: tuple[tuple[pa.DataType, tuple[Any, ...]], ...] = (
    (pa.int8(), (0, 1, -128, 127, None)),
    (pa.int32(), (0, 42, -1, 2**31 - 1, None)),
    (pa.int64(), (0, 42, _BIG, -_BIG - 1, None)),
    (pa.uint64(), (0, 42, 2**64 - 1, None)),
    (pa.float16(), (0.0, 1.5, float("nan"), float("inf"), None)),
    (pa.float32(), (0.0, 0.1, float("nan"), float("-inf"), 3e38, None)),
    (pa.float64(), (0.0, -0.0, 0.1, 1e308, 2.0**53, 2.0**63, float("nan"), float("inf"), None)),
    (pa.decimal128(38, 10), (Decimal(0), Decimal("42.5"), Decimal(1234567890123456789012345678), None)),
    (pa.decimal256(60, 0), (Decimal(1), Decimal(10) ** 50, None)),
    (pa.bool_(), (True, False, None)),
    (pa.null(), (None,)),
    (pa.string(), (*ODD_CELLS, None)),
    (pa.large_string(), (*ODD_CELLS[:20], None)),
    (pa.string_view(), (*ODD_CELLS[:20], None)),
    (pa.binary(), (b"", b"1", b"\xff", b"a\0b", CANARY.encode() + b"\xff", None)),
    (pa.large_binary(), (b"42", b"\xed\xa0\x80", None)),
    (pa.binary(4), (b"abcd", b"\0\0\0\0", b"\xff\xff\xff\xff", None)),
    (pa.date32(), (date(2026, 1, 31), date(1, 1, 1), date(9999, 12, 31), None)),
    (pa.date64(), (date(2026, 1, 31), date(1, 1, 1), None)),
    (pa.time32("s"), (time(1, 2, 3), None)),
    (pa.time64("ns"), (time(1, 2, 3), None)),
    (pa.timestamp("s"), (datetime(2026, 1, 31, tzinfo=UTC).replace(tzinfo=None), None)),
    (pa.timestamp("us", "UTC"), (datetime(2026, 1, 31, tzinfo=UTC), None)),
    (pa.timestamp("ns", "Europe/Berlin"), (datetime(2026, 1, 31, tzinfo=UTC), None)),
    (pa.timestamp("us", "+25:00"), (datetime(2026, 1, 31, tzinfo=UTC), None)),
    (pa.timestamp("us", "No/Where"), (datetime(2026, 1, 31, tzinfo=UTC), None)),
    (pa.duration("us"), (timedelta(1), timedelta(-1), None)),
    (pa.list_(pa.int64()), ([1], [], [None], None)),
    (pa.list_(pa.int64(), 2), ([1, 2], None)),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), ({"a": 1, "b": CANARY}, None)),
    (pa.map_(pa.string(), pa.int64()), ([("a", 1)], [], None)),
    (pa.dictionary(pa.int32(), pa.string()), ("France", "Spain", None)),
)
"""Types, each with values."""
_EXTREME = (-_BIG - 1, _BIG, 2**62, -(2**40), 10**15)
"""As dates, times and timestamps, these are far outside of what Python can write."""
_WIDE = (
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("s", "UTC"),
    pa.date64(),
    pa.duration("s"),
    pa.time64("us"),
)
_METADATA: tuple[dict[bytes, bytes], ...] = (
    {},
    {b"pandas": b"not json"},
    {b"pandas": b'{"columns": 1}'},
    {b"ARROW:schema": b"AAAA"},
    {b"\xff": b"\xff"},
    {b"": b""},
    {b"key": b"v" * 5000},
)


def make_parquet(draw: random.Random, table: Cells) -> bytes:
    """Write the rows of a table as Parquet, with odd columns or an odd file."""
    header, *rows = table
    columns = [_typed([row[place] for row in rows]) for place in range(len(header))]
    names = list(header)
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        _change_column(draw, names, columns, len(rows))
    try:
        data = _write(draw, names, columns)
    except (pa.ArrowException, OSError, ValueError):  # not every type can be written
        data = _write(draw, list(header), [_typed([row[place] for row in rows]) for place in range(len(header))])
    return _damage(draw, data) if draw.random() < 0.4 else data


def _typed(cells: list[str]) -> pa.Array:
    readers: tuple[Callable[[str], Any], ...] = (int, float, str)
    for reader in readers:
        try:
            return pa.array([reader(cell) if cell else None for cell in cells])
        except (ValueError, OverflowError, pa.ArrowException):
            continue
    return pa.array(cells)


def _change_column(draw: random.Random, names: list[str], columns: list[pa.Array], rows: int) -> None:
    at, kind = draw.randrange(len(names)), draw.randrange(8)
    if kind == 0:
        names[at] = draw.choice((*ODD_NAMES, "a\nb", "a\0b", "a,b", names[0]))
    elif kind == 1 and len(names) > 1:
        del names[at], columns[at]
    elif kind == 2:
        name, column = draw.choice((*ODD_NAMES, *names, "a\nb", "a\0b")), _draw_column(draw, rows)
        names.insert(at, name)
        columns.insert(at, column)
    elif kind == 3:
        columns[at] = _extreme(draw, rows)
    elif kind == 4:
        columns[at] = pa.array([draw.choice(ODD_CELLS) for _ in range(rows)])
    else:
        columns[at] = _draw_column(draw, rows)


def _draw_column(draw: random.Random, rows: int) -> pa.Array:
    kind, values = draw.choice(_COLUMNS)
    return pa.array([draw.choice(values) for _ in range(rows)], kind)


def _extreme(draw: random.Random, rows: int) -> pa.Array:
    if draw.random() < 0.3:  # texts that are not UTF-8, which writers do not check
        odd = (b"\xff", b"Fra\xffnce", b"\xed\xa0\x80", b"\xc3", b"", b"France", CANARY.encode() + b"\xff", None)
        texts = pa.array([draw.choice(odd) for _ in range(rows)], pa.binary()).view(pa.string())
        return (
            texts if draw.random() < 0.7 else pa.DictionaryArray.from_arrays(pa.array(range(rows), pa.int32()), texts)
        )
    numbers = pa.array([draw.choice(_EXTREME) for _ in range(rows)], pa.int64())
    return numbers.view(draw.choice(_WIDE))


def _write(draw: random.Random, names: list[str], columns: list[pa.Array]) -> bytes:
    table = pa.Table.from_arrays(columns, names)
    if draw.random() < 0.2:
        table = table.replace_schema_metadata(draw.choice(_METADATA))
    if draw.random() < 0.1:
        table = table.slice(0, 0)
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression=draw.choice(("none", "snappy", "gzip", "zstd", "lz4", "brotli")),
        row_group_size=draw.choice((1, 2, 1000)),
        version=draw.choice(("1.0", "2.4", "2.6")),
        data_page_version=draw.choice(("1.0", "2.0")),
        use_dictionary=draw.random() < 0.5,
        write_statistics=draw.random() < 0.5,
        store_schema=draw.random() < 0.7,
    )
    return sink.getvalue()


def _damage(draw: random.Random, data: bytes) -> bytes:
    """Change the footer, the pages, the length of the footer or the marks at both ends."""
    kind, footer = draw.randrange(6), int.from_bytes(data[-8:-4], "little")
    if kind == 0:
        return data[: draw.randrange(len(data))]
    if kind == 1:
        return (
            data[:-8]
            + draw.choice((0, 1, footer - 1, footer + 1, len(data), 2**31 - 1, 2**32 - 1)).to_bytes(4, "little")
            + data[-4:]
        )
    if kind == 2:
        begin = len(data) - 8 - footer
        return data[:begin] + change_bytes(draw, data[begin:-8]) + data[-8:]
    if kind == 3:
        return data[:4] + change_bytes(draw, data[4 : len(data) - 8 - footer]) + data[len(data) - 8 - footer :]
    if kind == 4:
        at = len(data) - 8 - draw.randrange(1, footer + 1)  # one byte of the footer, whose length stays
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    return change_bytes(draw, data)
