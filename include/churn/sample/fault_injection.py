"""Faults to plant into good files, each with the rule that must find it. For samples, trials and tests.

All of them are derived from the contract, so that every contract has its own catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from churn.contract import CONFLICT, DUPLICATE, UNLABELLED, Column, Contract, Kind, Role

Cells = dict[str, str]

NOT_INTEGERS = ("n/a", "1.5", "+1", "01", " 1", "1 ", "1e0", "1,000", "NaN", "inf", "true", "9" * 30)
NOT_NUMBERS = ("n/a", "NaN", "inf", "1,000.50", "€1", " 1", "1.", ".5", "1e999", "--1")
NOT_DATES = ("31.01.2026", "2026-02-30", "2026-1-5", "yesterday")


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    `plant` takes the cells of a good record and returns the bytes of the records that replace it. `rules` has, for each of
    those, the rule that it breaks, or None if it is good.
    """

    name: str
    rules: tuple[str | None, ...]
    plant: Callable[[Cells], list[bytes]]


def cell_faults(contract: Contract) -> list[Fault]:
    """Faulty cells, column by column: missing, of the wrong type, out of range, unknown."""
    return [
        Fault(f"{column.name}: {value!r}", (rule,), _with({column.name: value}))
        for column in contract.columns
        for value, rule in _bad_values(column)
        if not _breaks_another(column, value, contract)
    ]


def record_faults(contract: Contract) -> list[Fault]:
    """Records that cannot be read, or that contradict the others of their customer."""
    names = contract.names
    text = next((column.name for column in contract.columns if column.kind is Kind.TEXT), names[0])

    def marked(*changes: tuple[bytes, bytes]) -> Callable[[Cells], list[bytes]]:
        def plant(cells: Cells) -> list[bytes]:
            line = _line({**cells, text: "MARK"})
            for old, new in changes:
                line = line.replace(old, new)
            return [line]

        return plant

    def cut(cells: Cells) -> list[bytes]:
        return [b",".join(_line(cells).split(b",")[:3])]

    def longer(cells: Cells) -> list[bytes]:
        return [_line(cells) + b",more"]

    def twice(cells: Cells) -> list[bytes]:
        return [_line(cells)] * 2

    def differently(cells: Cells) -> list[bytes]:
        column = next(
            column
            for column in contract.features
            if len(column.texts or column.categories) > 1 or (column.numeric and not column.values)
        )
        return [_line(cells), _line({**cells, column.name: _other(column, cells[column.name])})]

    faults = [
        Fault("too few cells", ("record.field_count",), cut),
        Fault("too many cells", ("record.field_count",), longer),
        Fault("an open quote", ("record.quotes",), marked((b"MARK", b'"MARK'))),
        Fault("text behind a quote", ("record.quotes",), marked((b"MARK", b'"MA"RK'))),
        Fault("not UTF-8", ("record.encoding",), marked((b"MARK", b"M\xfcller"))),
        Fault("a NUL byte", ("record.nul",), marked((b"MARK", b"MA\0RK"))),
        Fault("a line break inside", ("record.line_break",), marked((b"MARK", b"MA\rRK"))),
        Fault("another delimiter", ("record.field_count",), lambda cells: [_line(cells).replace(b",", b";")]),
        Fault("the same record twice", (None, DUPLICATE), twice),
        Fault("two records that differ", (CONFLICT, CONFLICT), differently),
        Fault("no label yet", (UNLABELLED,), _with({contract.target.name: ""})),
    ]
    for relation in contract.relations:
        greater, lesser = contract[relation.greater], contract[relation.lesser]
        if greater.minimum is not None and lesser.maximum is not None and lesser.maximum > greater.minimum:
            values = {relation.greater: str(int(greater.minimum)), relation.lesser: str(int(lesser.maximum))}
            faults.append(Fault(relation.rule, (relation.rule,), _with(values)))
    return faults


def plant_faults(
    text: str, contract: Contract, faults: Sequence[Fault], rows: Sequence[int]
) -> tuple[bytes, dict[int, str]]:
    """Plant faults into a good file.

    Args:
        text: CSV of the contract's columns in their order.
        contract: the data contract.
        faults: one fault per row.
        rows: the rows to plant them in, counted from 0.

    Returns:
        The bytes of the file, and for each line that must be quarantined (1 is the header) the rule that it breaks.
    """
    header, *lines = text.splitlines()
    planted = dict(zip(rows, faults, strict=True))
    out, expected = [header.encode()], {}
    for number, line in enumerate(lines):
        fault = planted.get(number)
        if fault is None:
            out.append(line.encode())
            continue
        for made, rule in zip(
            fault.plant(dict(zip(contract.names, line.split(","), strict=True))), fault.rules, strict=True
        ):
            out.append(made)
            if rule:
                expected[len(out)] = rule
    return b"\n".join(out) + b"\n", expected


def _bad_values(column: Column) -> Iterator[tuple[str, str]]:
    if not column.nullable and column.role is not Role.TARGET:
        yield "", f"{column.name}.missing"
    if column.values:
        for value in ("maybe", "-1", *_misspelt(next(iter(column.numbers)), column)):
            yield value, f"{column.name}.category"
        return
    bad = {Kind.INTEGER: NOT_INTEGERS, Kind.NUMBER: NOT_NUMBERS, Kind.DATE: NOT_DATES, Kind.TEXT: ()}[column.kind]
    for value in bad:
        yield value, f"{column.name}.type"
    if column.minimum is not None:
        yield str(int(column.minimum) - 1), f"{column.name}.range"
    if column.maximum is not None:
        yield str(int(column.maximum) + 1), f"{column.name}.range"
    if column.categories:
        for value in ("Atlantis", *_misspelt(column.categories[0], column)):
            yield value, f"{column.name}.category"


def _misspelt(text: str, column: Column) -> Iterator[str]:
    """Yield a text as the contract does not allow it: with a blank, or in another case."""
    if not column.trim:
        yield f"{text} "
    if not column.ignore_case and text.swapcase() not in (text, *column.categories, *column.numbers):
        yield text.swapcase()


def _breaks_another(column: Column, value: str, contract: Contract) -> bool:
    """Whether a value out of range would also break a rule between two columns."""
    numbers = [relation for relation in contract.relations if column.name in (relation.greater, relation.lesser)]
    return bool(numbers) and value.lstrip("-").isdigit()


def _with(values: Cells) -> Callable[[Cells], list[bytes]]:
    quoted = {name: f'"{value}"' if "," in value else value for name, value in values.items()}
    return lambda cells: [_line(cells | quoted)]


def _line(cells: Cells) -> bytes:
    return ",".join(cells.values()).encode()


def _other(column: Column, cell: str) -> str:
    if column.categories:
        return next(category for category in column.categories if category != cell)
    if column.values:
        return next(text for text in column.texts.values() if text != cell)
    low = column.minimum if column.minimum is not None else 0
    return str(int(low)) if cell != str(int(low)) else str(int(low) + 1)
