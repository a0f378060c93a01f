"""Reads a contract from YAML. Every error names the line and the column of what is wrong.

Texts are taken as they are written: `No` and `Yes` are texts here, and not truth values as elsewhere in YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from math import isfinite
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from churn.contract import MAX_LEVELS, Column, Contract, Kind, Role, SliceBy
from churn.contracts.yaml_errors import YAML_ERRORS, describe_yaml_error
from churn.errors import shown

OPEN = "open"
"""What is written in place of a list of categories if any text is allowed."""
_LONGEST = 1000
"""Characters of a message, which repeats what is in the file."""
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_CONTRACT_KEYS = (
    "name", "event", "non_event", "lenient_header", "horizon_days", "rows_per_customer", "columns", "slices",
)  # fmt: skip


class InvalidContract(ValueError):  # noqa: N818 -- the name says what is wrong
    """What is wrong with a contract, with the file, the line and the column."""


@dataclass(frozen=True)
class _File:
    """The name of a file, to say where something is."""

    name: str

    def fail(self, node: Node, what: str) -> NoReturn:
        mark = node.start_mark
        raise InvalidContract(f"{self.name}, line {mark.line + 1}, column {mark.column + 1}: {shown(what, _LONGEST)}")

    def pairs(self, node: Node, what: str) -> dict[str, tuple[ScalarNode, Node]]:
        """The keys of a mapping as texts, each with its own node and that of its value."""
        if not isinstance(node, MappingNode):
            self.fail(node, f"{what} must be a mapping of names to values.")
        pairs: dict[str, tuple[ScalarNode, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.fail(key, f"A key of {what} must be a text.")
            if key.value in pairs:
                self.fail(key, f"{key.value} appears twice in {what}.")
            pairs[key.value] = (key, value)
        return pairs

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node, ScalarNode) or _is_null(node):
            self.fail(node, f"{what} must be a text.")
        return str(node.value)

    def number(self, node: Node, what: str) -> float:
        number = _number(node.value) if isinstance(node, ScalarNode) and node.style is None else None
        if number is None:
            self.fail(node, f"{what} must be a number.")
        return number

    def flag(self, node: Node, what: str) -> bool:
        word = node.value.lower() if isinstance(node, ScalarNode) and node.style is None else ""
        if word not in (*_TRUE, *_FALSE):
            self.fail(node, f"{what} must be true or false.")
        return word in _TRUE

    def items(self, node: Node, what: str) -> list[Node]:
        if not isinstance(node, SequenceNode):
            self.fail(node, f"{what} must be a list.")
        return list(node.value)

    def choice(self, node: Node, what: str, kinds: type[StrEnum]) -> StrEnum:
        text = self.text(node, what)
        if text not in list(kinds):
            self.fail(node, f"{what} must be one of {', '.join(kinds)}.{_suggest(text, list(kinds))}")
        return kinds(text)

    def refuse_unknown(self, pairs: Mapping[str, tuple[ScalarNode, Node]], known: tuple[str, ...], what: str) -> None:
        for name, (key, _) in pairs.items():
            if name not in known:
                suggested = _suggest(name, known) or f" The keys are {', '.join(known)}."
                self.fail(key, f"{name} is not a key of {what}.{suggested}")


def read_contract(text: str, name: str) -> Contract:
    """Read a contract.

    Args:
        text: the text of the file.
        name: the name of the file, for errors.

    Raises:
        InvalidContract: the text is not YAML or not a contract; the message names line and column.
    """
    file = _File(name)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except YAML_ERRORS as error:
        raise InvalidContract(f"{name}: This is not valid YAML: {describe_yaml_error(error)}.") from None
    if root is None:
        raise InvalidContract(
            f"{name}: The file is empty. `churn contract draft FILE` writes a contract to start from."
        )
    pairs = file.pairs(root, "a contract")
    file.refuse_unknown(pairs, _CONTRACT_KEYS, "a contract")
    for required in ("name", "columns"):
        if required not in pairs:
            file.fail(root, f"The contract has no {required}.")
    columns = file.pairs(pairs["columns"][1], "columns")
    read = tuple(_column(file, column, key, node) for column, (key, node) in columns.items())
    fields: dict[str, Any] = {
        field: file.text(pairs[field][1], field) for field in ("event", "non_event") if field in pairs
    }
    if "lenient_header" in pairs:
        fields["lenient_header"] = file.flag(pairs["lenient_header"][1], "lenient_header")
    for number in ("horizon_days", "rows_per_customer"):
        if number in pairs:
            fields[number] = _whole_number(file, pairs[number][1], number)
    listed = file.items(pairs["slices"][1], "slices") if "slices" in pairs else []
    slices = [(node, _slice(file, node)) for node in listed]
    contract_name = file.text(pairs["name"][1], "name")
    try:
        return Contract(contract_name, read, tuple(by for _, by in slices), **fields)
    except ValueError as error:
        places = {by.column: node for node, by in slices} if " slices" in str(error) else {}
        places |= {column: key for column, (key, _) in columns.items() if column not in places}
        words = str(error).removeprefix(f"Contract {contract_name}: ")
        named = next((node for column, node in places.items() if re.match(rf"{re.escape(column)}\W", words)), None)
        target = next((node for column, node in places.items() if f" target {column} " in words), None)
        file.fail(named or target or root, words)


def _column(file: _File, name: str, key: ScalarNode, node: Node) -> Column:
    what = f"column {name}"
    pairs = file.pairs(node, what)
    file.refuse_unknown(pairs, tuple(_READERS), what)
    if "kind" not in pairs:
        file.fail(key, f"Column {name} has no kind. It must be one of {', '.join(Kind)}.")
    fields: dict[str, Any] = {"role": Role.FEATURE}
    for field, (_, value) in pairs.items():
        read = _READERS[field](file, value, f"{field} of {what}")
        fields |= read if field == "categories" else {field: read}
    if fields.pop(OPEN, False):
        fields.setdefault("max_levels", MAX_LEVELS)
    try:
        return Column(name, **fields)
    except ValueError as error:
        file.fail(key, str(error))


def _categories(file: _File, node: Node, what: str) -> dict[str, Any]:
    """Read a list of texts, or the word that says that any text is allowed."""
    if isinstance(node, ScalarNode) and node.value == OPEN:
        return {OPEN: True}
    if not isinstance(node, SequenceNode):
        file.fail(node, f"{what} must be a list of texts, or the word {OPEN} if any text is allowed.")
    return {"categories": tuple(file.text(item, f"An item of {what}") for item in node.value)}


def _values(file: _File, node: Node, what: str) -> tuple[tuple[str, float], ...]:
    pairs = file.pairs(node, what)
    return tuple((text, file.number(value, f"The number of {text} in {what}")) for text, (_, value) in pairs.items())


def _slice(file: _File, node: Node) -> SliceBy:
    if isinstance(node, ScalarNode):
        return SliceBy(file.text(node, "a slice"))
    pairs = file.pairs(node, "a slice")
    file.refuse_unknown(pairs, ("column", "edges", "parity"), "a slice")
    if "column" not in pairs:
        file.fail(node, "A slice has no column.")
    edges = file.items(pairs["edges"][1], "edges") if "edges" in pairs else []
    parity = file.flag(pairs["parity"][1], "parity") if "parity" in pairs else False
    try:
        return SliceBy(
            file.text(pairs["column"][1], "column"), tuple(file.number(edge, "An edge") for edge in edges), parity
        )
    except ValueError as error:
        file.fail(node, str(error))


def _whole_number(file: _File, node: Node, what: str) -> int:
    number = file.number(node, what)
    if not float(number).is_integer():
        file.fail(node, f"{what} must be a whole number.")
    return int(number)


_READERS: dict[str, Callable[[_File, Node, str], Any]] = {
    "kind": lambda file, node, what: file.choice(node, what, Kind),
    "role": lambda file, node, what: file.choice(node, what, Role),
    "minimum": _File.number,
    "maximum": _File.number,
    "categories": _categories,
    "max_levels": _whole_number,
    "values": _values,
    "nullable": _File.flag,
    "optional": _File.flag,
    "at_most": _File.text,
    "permanent": _File.flag,
    "trim": _File.flag,
    "ignore_case": _File.flag,
    "protected": _File.flag,
    "feature": _File.flag,
    "description": _File.text,
}
"""How each field of a column is read."""


def _is_null(node: ScalarNode) -> bool:
    return node.style is None and node.value in ("", "~")


def _number(text: str) -> float | None:
    for read in (int, float):
        with suppress(ValueError, OverflowError):
            number = read(text)
            return number if isfinite(number) else None
    return None


def _suggest(text: str, known: list[str] | tuple[str, ...]) -> str:
    close = get_close_matches(text.lower(), known, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
