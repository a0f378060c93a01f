"""Compares the header of a file with the contract, and says what is wrong with the first lines of a file that does not fit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from churn.contract import WRITTEN, Column, Contract, Kind, Role
from churn.errors import is_storable, shown
from churn.intake.batch_file import FileFault
from churn.intake.file_kind import EXCEL_EXPORT

DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MOST_LISTED = 5
"""More names than this are counted instead of listed."""
TITLE_LINES = 20
"""The header is looked for in this number of lines."""
_FEW = 0.5
"""With a smaller share of its columns, a file probably follows another contract."""
_MOST = 0.5
"""A line with this share of the columns is a header; one with this share of fitting cells is a row."""
_UNNAMED = re.compile(r"\s*|Unnamed: [0-9]+(_level_[0-9]+)?")
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)[",;\s]*', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_LEGACY = "cp1252"
"""Windows-1252: what Excel writes in Western Europe, and almost the same as Latin-1."""


def in_contract_spelling(header: Sequence[str], contract: Contract) -> list[str]:
    """Return the header with the names as the contract writes them, where it is lenient about case and blanks."""
    if not contract.lenient_header:
        return list(header)
    names = {_folded(name): name for name in contract.names}
    return [names.get(_folded(name), name) for name in header]


def require_columns(header: Sequence[str], contract: Contract) -> None:
    """Check that every column that the contract requires appears in the header, and none of its columns twice.

    Raises:
        FileFault: says only what differs.
    """
    repeated = sorted({name for name in contract.names if list(header).count(name) > 1})
    if repeated:
        raise FileFault(
            "repeated_column",
            f"Column {_listed([shown(name) for name in repeated])} appears twice in the header. Send the file again with one of each.",
        )
    missing = _missing(header, contract)
    if missing:
        raise FileFault("missing_column", _difference(header, missing, contract))


def extra_columns(header: Sequence[str], contract: Contract) -> list[str]:
    """Describe the columns that the contract does not have; those without a name are counted."""
    extra = [name for name in header if name not in contract.names]
    named = [shown(name) for name in extra if not _UNNAMED.fullmatch(name)]
    return named + _unnamed(extra)


def explain_first_lines(lines: Sequence[bytes], contract: Contract) -> FileFault:
    """Return what is wrong with a CSV file whose first line is not a header of the contract.

    Args:
        lines: its first lines that are not blank, at least one.
        contract: the data contract.
    """
    texts, legacy = _decoded(lines)
    header = _cells(texts[0], ",")
    separator = _SEPARATOR_LINE.fullmatch(texts[0])
    if separator:
        return _separator_line(separator.group(1), texts[1:], legacy, contract)
    dialect = _dialect(texts, legacy, contract)
    if dialect:
        return dialect
    for number, line in enumerate(texts[1:TITLE_LINES], start=1):
        if _share(_cells(line, _delimiter(line, contract)), contract) >= _MOST:
            above = "a line" if number == 1 else f"{number} lines"
            return FileFault(
                "title_line",
                f"The header has {above} of other text above it. The first line must be the header. "
                "Delete what is above it and send the file again.",
            )
    if _is_row(header, contract):
        return FileFault(
            "no_header",
            "The file has no header: its first line looks like a row. "
            f"Add the names of the columns as the first line ({', '.join(contract.names)}) and send the file again.",
        )
    if len(header) == 1:
        return FileFault(
            "delimiter",
            "The header has only one cell. Export the file with commas between the cells and send it again.",
        )
    missing = _missing(header, contract)
    return FileFault("missing_column", _difference(header, missing, contract))


def explain_header(lines: Sequence[bytes]) -> FileFault | None:
    """Return what is wrong with the first lines of a CSV file if no contract is known; None if the first one may be a header.

    Args:
        lines: its first lines that are not blank, at least one.
    """
    texts, legacy = _decoded(lines)
    delimiter = max((",", *DELIMITERS), key=lambda mark: len(_cells(texts[0], mark)))
    header = _cells(texts[0], delimiter)
    names = [name for name in dict.fromkeys(header) if name.strip() and not name.startswith("_") and is_storable(name)]
    if _SEPARATOR_LINE.fullmatch(texts[0]) or delimiter != "," or legacy:
        numbers = tuple(Column(name, Kind.NUMBER, Role.FEATURE) for name in _unlike(names, "key", "target"))
        ends = (Column("key", Kind.TEXT, Role.KEY), Column("target", Kind.INTEGER, Role.TARGET, 0, 1))
        if _SEPARATOR_LINE.fullmatch(texts[0]) or not numbers:
            return explain_first_lines(lines, Contract("file", (*ends, Column("feature", Kind.NUMBER, Role.FEATURE))))
        return _dialect(texts, legacy, Contract("file", (*ends, *numbers)))
    wider = [
        number for number, line in enumerate(texts[1:TITLE_LINES], start=1) if len(_cells(line, ",")) > len(header)
    ]
    if len(header) == 1 and wider:
        return FileFault(
            "title_line",
            "The first line has one cell, and a later one has more. The first line must be the header. Delete what is above it.",
        )
    if sum(bool(re.fullmatch(r"-?[0-9]+([.][0-9]+)?", cell.strip())) for cell in header) >= _MOST * len(header):
        return FileFault(
            "no_header",
            "The file has no header: its first line looks like a row. Add the names of the columns as the first line.",
        )
    return None


def _unlike(names: Sequence[str], *others: str) -> list[str]:
    """The names without those that differ from an earlier or from another name only in case."""
    folded = {name.lower(): name for name in reversed(names)}
    return [name for key, name in folded.items() if key not in others]


def _missing(header: Sequence[str], contract: Contract) -> list[Column]:
    return [column for column in contract.columns if column.name not in header and not column.may_be_absent]


def _difference(header: Sequence[str], missing: Sequence[Column], contract: Contract) -> str:
    """Say which columns are missing, and which names of the header look like them."""
    others = [name for name in header if name not in contract.names]
    folded = {_folded(name): name for name in others}
    recased = {folded[_folded(column.name)]: column.name for column in missing if _folded(column.name) in folded}
    absent = [column.name for column in missing if column.name not in recased.values()]
    respelled = _respelled(absent, [name for name in others if name not in recased])
    sentences = []
    if absent:
        sentences.append(
            f"{'Columns are' if len(absent) > 1 else 'Column is'} missing: {_listed([shown(name) for name in absent])}."
        )
    if recased:
        pairs = _listed([f"{shown(written.strip())} ({shown(name)})" for written, name in recased.items()])
        how = "differs" if len(recased) == 1 else "differ"
        count = f"{len(recased)} name{'' if len(recased) == 1 else 's'}"
        sentences.append(
            f"{count} in the header {how} only in case or blanks from the contract: {pairs}. "
            "To accept such names, set `lenient_header=True` in the contract."
        )
    if respelled:
        pairs = _listed([f"{shown(written)} may be {shown(name)}" for written, name in respelled.items()])
        sentences.append(f"Another spelling? {pairs}.")
    sentences += [f"The header also has {unnamed}." for unnamed in _unnamed(others)]
    required = [column.name for column in contract.columns if not column.may_be_absent]
    matching = len(required) - len(absent) + len(respelled)
    if matching < _FEW * len(required):
        sentences.append(
            f"Only {matching} of the {len(required)} required columns of the contract {contract.name} are there. "
            "If the file follows another contract, name that contract in CHURN_CONTRACT."
        )
    return " ".join([*sentences, "Fix the header and send the file again."])


def _respelled(absent: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Return the names of the header that look like another spelling of a missing column."""
    letters = {_letters(name): name for name in others if _letters(name)}
    pairs = {}
    for name in absent:
        close = get_close_matches(_letters(name), letters, n=1, cutoff=0.8)
        if close:
            pairs[letters[close[0]]] = name
    return pairs


def _folded(name: str) -> str:
    return name.strip().casefold()


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _unnamed(names: Sequence[str]) -> list[str]:
    """Describe the columns without a name, including those that pandas names."""
    count = sum(bool(_UNNAMED.fullmatch(name)) for name in names)
    return [f"{count} unnamed column{'' if count == 1 else 's'}"] if count else []


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _decoded(lines: Iterable[bytes]) -> tuple[list[str], bool]:
    """The lines as text, and whether they are not in UTF-8."""
    joined = b"\n".join(lines)
    try:
        return joined.decode().split("\n"), False
    except UnicodeDecodeError:
        return joined.decode(_LEGACY, errors="replace").split("\n"), True


def _separator_line(mark: str, texts: Sequence[str], legacy: bool, contract: Contract) -> FileFault:
    dialect = _dialect(texts, legacy, contract) if texts else None
    more = f" {dialect.sentence}" if dialect else ""
    hint = "TAB" if mark == "\t" else shown(mark)
    return FileFault(
        "separator_line",
        f"The first line is a hint for Excel (`sep={hint}`), and not the header. "
        f"Delete that line and send the file again.{more}",
    )


def _dialect(texts: Sequence[str], legacy: bool, contract: Contract) -> FileFault | None:
    """Name the delimiter, the decimal mark and the encoding together, if one of them is not what intake reads."""
    delimiter = _delimiter(texts[0], contract)
    if delimiter == "," and not legacy:
        return None
    header = _cells(texts[0], delimiter)
    differences = []
    if delimiter != ",":
        differences.append(f"its cells are separated by {DELIMITERS[delimiter]} instead of commas")
        if _has_decimal_comma(header, texts[1:], delimiter, contract):
            differences.append("its numbers have a decimal comma instead of a point")
    if legacy:
        differences.append("its text is not in UTF-8 (perhaps in Windows-1252 or Latin-1)")
    *before, last = differences
    together = f"{', '.join(before)}, and {last}" if before else last
    return FileFault(
        "delimiter" if delimiter != "," else "encoding",
        f"The file is a CSV file of another kind: {together}. Export it with commas, decimal points and in UTF-8, "
        f"and send it again. {EXCEL_EXPORT}",
    )


def _delimiter(line: str, contract: Contract) -> str:
    """The delimiter that splits a header into most columns of the contract; if none does, into most cells."""
    ranked = {mark: _cells(line, mark) for mark in (",", *DELIMITERS)}
    return max(ranked, key=lambda mark: (_share(ranked[mark], contract), len(ranked[mark])))


def _share(header: Sequence[str], contract: Contract) -> float:
    """The share of the contract's columns that a header has, in any spelling."""
    letters = {_letters(name) for name in header}
    return sum(_letters(name) in letters for name in contract.names) / len(contract.names)


def _has_decimal_comma(header: Sequence[str], lines: Sequence[str], delimiter: str, contract: Contract) -> bool:
    numeric = {_folded(column.name) for column in contract.columns if column.numeric}
    at = [position for position, name in enumerate(header) if _folded(name) in numeric]
    rows = [_cells(line, delimiter) for line in lines]
    return any(
        _DECIMAL_COMMA.fullmatch(row[position].strip()) for row in rows for position in at if position < len(row)
    )


def _is_row(cells: Sequence[str], contract: Contract) -> bool:
    """Whether a line has the cells of a row in the place of names."""
    if _share(cells, contract):
        return False
    if len(cells) == len(contract.columns):
        fitting = sum(_fits(cell, column) for cell, column in zip(cells, contract.columns, strict=True))
        return fitting >= _MOST * len(cells)
    numbers = sum(bool(re.fullmatch(r"-?[0-9]+([.][0-9]+)?", cell.strip())) for cell in cells)
    return numbers >= _MOST * len(cells)


def _fits(cell: str, column: Column) -> bool:
    if column.values and cell in column.numbers:
        return True
    if column.kind in WRITTEN:
        return bool(re.fullmatch(WRITTEN[column.kind], cell))
    return not column.categories or cell in column.categories


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except (csv.Error, StopIteration):
        return line.split(delimiter)
