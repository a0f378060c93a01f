"""Writes a draft of a contract as YAML or as Python, with its notes and questions as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from churn.intake.drafting import Draft, DraftColumn

_PLAIN = re.compile(r"[A-Za-z][\w/+()-]*( [\w/+()-]+)*")
_TAKEN = {"y", "n", "yes", "no", "true", "false", "on", "off", "null", "open"}
"""Words that YAML, or a contract, reads as something else than a text."""
_WIDTH = 110


def as_yaml(draft: Draft) -> str:
    """Write a draft as YAML."""
    lines = [*_comments(draft), f"name: {_scalar(draft.name)}", f"event: {_scalar(draft.event)}"]
    lines += [f"non_event: {_scalar(draft.non_event)}", "", "columns:"]
    for column in draft.columns:
        lines += [f"  # {line}" for note in column.notes for line in wrap(note, _WIDTH)]
        lines.append(f"  {_scalar(column.name)}:")
        lines += [f"    {name}: {_inline(value)}" for name, value in column.fields.items()]
    if draft.slices:
        lines += ["", "# Groups of customers that no new version may treat worse.", "slices:"]
        lines += [f"  - {_inline(by)}" for by in draft.slices]
    return "\n".join(lines) + "\n"


def as_python(draft: Draft) -> str:
    """Write a draft as a Python module."""
    lines = [
        *_comments(draft),
        "from churn.contract import Column, Contract, Kind, Role" + (", SliceBy" if draft.slices else ""),
        "",
        f"{draft.name.upper()} = Contract(" if draft.name.isidentifier() else "CONTRACT = Contract(",
        f"    name={_text(draft.name)},",
        f"    event={_text(draft.event)},",
        f"    non_event={_text(draft.non_event)},",
        "    columns=(",
    ]
    for column in draft.columns:
        lines += [f"        # {line}" for note in column.notes for line in wrap(note, _WIDTH)]
        lines.append(f"        Column({_text(column.name)}, {', '.join(_arguments(column))}),")
    lines.append("    ),")
    if draft.slices:
        lines += ["    # Groups of customers that no new version may treat worse.", "    slices=("]
        lines += [f"        SliceBy({', '.join(_slice_arguments(by))})," for by in draft.slices]
        lines.append("    ),")
    return "\n".join([*lines, ")"]) + "\n"


def _comments(draft: Draft) -> Iterator[str]:
    yield f"# A contract proposed from a file of {draft.rows:,} rows. Edit it, then run `churn contract check`."
    if draft.missing:
        yield f"# NOT COMPLETE: no {' and no '.join(draft.missing)} could be proposed."
    yield "#"
    yield "# Questions that only the owner of the data can answer:"
    for question in (
        *draft.questions,
        "What do people call the event and its opposite? `event` and `non_event` are in every report.",
    ):
        first, *rest = wrap(question, _WIDTH)
        yield f"# - {first}"
        yield from (f"#   {line}" for line in rest)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return value if value == "open" else _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _digits(value)
    plain = _PLAIN.fullmatch(value) and value.lower() not in _TAKEN and not value.endswith(" ")
    return value if plain else _text(value)


def _digits(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def _text(value: str) -> str:
    """Quote a text as both YAML and Python read it."""
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _arguments(column: DraftColumn) -> Iterator[str]:
    fields: dict[str, Any] = {"role": column.role, **column.fields}
    yield f"Kind.{str(fields.pop('kind')).upper()}"
    yield f"Role.{str(fields.pop('role')).upper()}"
    if fields.get("categories") == "open":
        del fields["categories"]
    yield from (f"{name}={_python(value)}" for name, value in fields.items())


def _slice_arguments(by: Mapping[str, Any]) -> Iterator[str]:
    yield _text(by["column"])
    yield from (f"{name}={_python(value)}" for name, value in by.items() if name != "column")


def _python(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)}: {_python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "(" + ", ".join(map(_python, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, bool):
        return repr(value)
    return _digits(value) if isinstance(value, (int, float)) else _text(value)
