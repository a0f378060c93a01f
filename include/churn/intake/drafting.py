"""Proposes a contract from a file: kinds, ranges with room, categories, the key, the target and slices, with the questions that remain.

Nothing of a customer is in a draft: of a text only the levels that many rows share are listed, and bounds are rounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from typing import Any

import pyarrow.compute as pc

from churn.contract import MAX_LEVELS, Kind, Role
from churn.intake.file_columns import FileColumns
from churn.intake.profiling import FEWEST_ROWS, MOST_CATEGORIES, ROWS_A_LEVEL, ColumnProfile, profile_column
from churn.intake.telling_columns import telling_columns

_ALMOST_UNIQUE = 0.9
_FREE_TEXT = 40
_BINARY = 2
_SLICE_LEVELS, _MOST_SLICES = range(2, 9), 3
_WORDS = {Kind.INTEGER: "whole numbers", Kind.NUMBER: "numbers"}

_ID = re.compile(
    r"(?i:(^|[_ .-])(id|key|no|nr|number|code|uuid|guid|customer|client|account|user|msisdn)($|[_ .-]))|(Id|ID|Key|Number|Num|No)$"
)
_CUSTOMER = re.compile(r"cust|client|subscr|account|user|member|policy", re.IGNORECASE)
_PERSON = re.compile(r"name|surname|e-?mail|phone|street|address|iban|ssn|zip|postcode", re.IGNORECASE)
_CERTAINLY_PERSON = re.compile(r"(sur|first|last|family|given|full)[ _-]?name|e-?mail|iban|ssn", re.IGNORECASE)
_PROTECTED = re.compile(
    r"^(.*_)?(age|sex|gender|race|ethnic\w*|religion|nationality|marital\w*|disab\w*|birth\w*|senior\w*|pregnan\w*)(_.*)?$",
    re.IGNORECASE,
)
_PERMANENT = re.compile(r"^(sex|gender|birth\w*|date_of_birth)$", re.IGNORECASE)
_TARGET = (
    re.compile(r"churn|attrit|exited", re.IGNORECASE),
    re.compile(r"^(left|leave|cancel\w*|lapsed?|closed|inactive|target|label|outcome|default\w*|y)$", re.IGNORECASE),
    re.compile(r"cancel|target|label|(^|_)left($|_)", re.IGNORECASE),
)
_AS_OF = re.compile(r"as.?of|snapshot|extract|report|valid", re.IGNORECASE)
_BANDS = re.compile(r"^(.*_)?(age|tenure|months.*|seniority)$", re.IGNORECASE)
_YES = {"yes", "y", "true", "t", "ja", "j", "oui", "o", "si", "sí", "s", "sim", "1"}
_NO = {"no", "n", "false", "f", "nein", "non", "não", "nao", "0"}
_HAPPENED = re.compile(r"attrit|churn|left|exit|cancel|inactive|closed|lost|lapsed|gone|default|bad", re.IGNORECASE)
_NAMES = (
    (re.compile("attrit", re.IGNORECASE), "left"),
    (re.compile("cancel", re.IGNORECASE), "cancelled"),
    (re.compile("exit|left|leave", re.IGNORECASE), "left"),
)


@dataclass(frozen=True)
class DraftColumn:
    """A column of a draft: its fields as a YAML contract writes them, and notes for its owner."""

    name: str
    fields: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """The role of the column."""
        return str(self.fields.get("role", Role.FEATURE))


@dataclass(frozen=True)
class Draft:
    """A proposed contract.

    `missing` says which roles no column could be proposed for; a draft without them can be loaded. `questions` are those that only
    the owner of the data can answer.
    """

    name: str
    rows: int
    event: str
    non_event: str
    columns: tuple[DraftColumn, ...]
    slices: tuple[Mapping[str, Any], ...]
    questions: tuple[str, ...]
    missing: tuple[str, ...] = ()


def draft_contract(columns: FileColumns, name: str) -> Draft:
    """Propose a contract.

    Args:
        columns: the columns of a file.
        name: the name of the contract.
    """
    profiles = [profile_column(at, columns.cells[at]) for at in columns.cells.column_names]
    key, target = _find_key(profiles), _find_target(profiles)
    if key is target:
        key = None
    as_of = _find_as_of(profiles)
    drafted = [_column(profile, key, target, as_of) for profile in profiles]
    if target is not None:
        drafted = _with_suspicions(drafted, columns, target.name)
    missing = tuple(str(role) for role, chosen in ((Role.KEY, key), (Role.TARGET, target)) if chosen is None)
    questions = _questions(columns, key, target)
    event = next((word for pattern, word in _NAMES if target and pattern.search(target.name)), "churned")
    slices = _slices(drafted, {profile.name: profile for profile in profiles})
    return Draft(name, columns.cells.num_rows, event, "stayed", tuple(drafted), slices, questions, missing)


def _with_suspicions(drafted: Sequence[DraftColumn], columns: FileColumns, target: str) -> list[DraftColumn]:
    """Add a question to each feature that gives the label away by itself."""
    label = next(column for column in drafted if column.name == target)
    values = {text.lower(): number for text, number in label.fields.get("values", {"0": 0, "1": 1}).items()}
    features = [column.name for column in drafted if column.role == Role.FEATURE]
    telling = telling_columns(columns.cells, target, values, features)
    return [
        replace(
            column,
            notes=(
                *column.notes,
                f"It tells the label almost alone (ROC AUC {telling[column.name]:.2f}). If it is written after the event, "
                "delete it here: a model that relies on it is held as a leak.",
            ),
        )
        if column.name in telling
        else column
        for column in drafted
    ]


def slug(text: str) -> str:
    """The name of a contract from that of a file."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "customers"


def _find_key(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """The column that identifies a customer: unique, or almost and with such a name."""

    def rank(profile: ColumnProfile) -> tuple[bool, bool, bool, bool]:
        named = bool(_ID.search(profile.name))
        return bool(named and _CUSTOMER.search(profile.name)), named, profile.unique, not profile.counts_up

    candidates = [
        profile
        for profile in profiles
        if profile.kind in (Kind.INTEGER, Kind.TEXT)
        and not profile.missing
        and (
            (profile.unique and (profile.rows >= ROWS_A_LEVEL or _ID.search(profile.name)))
            or (_ID.search(profile.name) and profile.distinct >= _ALMOST_UNIQUE * profile.rows)
        )
    ]
    return max(candidates, key=rank, default=None)


def _find_target(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    """The column with the label: of two values, with a name that says so, or the last of two values."""
    binary = [profile for profile in profiles if len(profile.folded) == _BINARY and profile.kind is not Kind.DATE]
    for pattern in _TARGET:
        named = [profile for profile in binary if pattern.search(profile.name)]
        if named:
            return named[-1]
    return binary[-1] if binary and binary[-1] is profiles[-1] else None


def _find_as_of(profiles: Sequence[ColumnProfile]) -> ColumnProfile | None:
    dates = [profile for profile in profiles if profile.kind is Kind.DATE and not profile.missing]
    return next((profile for profile in dates if _AS_OF.search(profile.name)), None)


def _column(
    profile: ColumnProfile, key: ColumnProfile | None, target: ColumnProfile | None, as_of: ColumnProfile | None
) -> DraftColumn:
    if profile is key:
        return _key(profile)
    if profile is target:
        return _target(profile)
    if profile is as_of:
        return DraftColumn(profile.name, {"kind": "date", "role": "as_of"}, ("Is this when the row was true?",))
    shared: dict[str, Any] = {"nullable": True} if profile.missing else {}
    if profile.padded:
        shared["trim"] = True
    why_hidden = _why_hidden(profile)
    if why_hidden:
        role = Role.POSITION if profile.counts_up else Role.CARRIED
        return DraftColumn(profile.name, {"kind": str(profile.kind), "role": str(role)} | shared, (why_hidden,))
    return _feature(profile, shared)


def _why_hidden(profile: ColumnProfile) -> str:
    """Why no model should see a column; empty if it may."""
    if profile.kind is Kind.DATE:
        return "A date cannot be a feature. Export the days since then, if they matter."
    if profile.counts_up:
        return "It counts the rows."
    if not profile.present:
        return "It is empty in the whole file."
    if profile.distinct == 1:
        return "It has one value in the whole file."
    return (
        "Its values seem to identify persons. It is kept with the row, and no model sees it."
        if _identifies(profile)
        else ""
    )


def _feature(profile: ColumnProfile, shared: dict[str, Any]) -> DraftColumn:
    notes = []
    if profile.odd:
        notes.append(f"{profile.odd:,} cells are not {_WORDS[profile.kind]} and would be quarantined.")
    fields = _number(profile) if profile.kind is not Kind.TEXT else _text(profile, notes)
    fields |= shared
    if _PERMANENT.match(profile.name):
        fields["permanent"] = True
    if _PROTECTED.match(profile.name):
        fields["protected"] = True
        notes.append("Protected: never given as a reason. With `feature: false`, no model sees it.")
    return DraftColumn(profile.name, fields, tuple(notes))


def _identifies(profile: ColumnProfile) -> bool:
    """Whether a column names or numbers customers, so that a model would only remember them."""
    many = profile.distinct > MOST_CATEGORIES
    if profile.kind is Kind.TEXT:
        return bool(_CERTAINLY_PERSON.search(profile.name)) or (
            many
            and bool(
                _PERSON.search(profile.name)
                or profile.distinct >= _ALMOST_UNIQUE * profile.present
                or profile.length > _FREE_TEXT
            )
        )
    return (
        profile.kind is Kind.INTEGER
        and bool(_ID.search(profile.name))
        and (profile.distinct >= _ALMOST_UNIQUE * profile.present)
    )


def _key(profile: ColumnProfile) -> DraftColumn:
    fields: dict[str, Any] = {"kind": str(profile.kind), "role": "key"}
    if profile.kind is Kind.INTEGER:
        fields |= {"minimum": 0 if profile.lowest >= 0 else -(2**53), "maximum": 2**53}
    if profile.padded:
        fields["trim"] = True
    repeated = profile.rows - profile.distinct
    notes = (
        [f"{repeated:,} rows repeat a customer; rows that contradict each other would be quarantined."]
        if repeated
        else []
    )
    return DraftColumn(profile.name, fields, (*notes, "Does this identify a customer?"))


def _target(profile: ColumnProfile) -> DraftColumn:
    fields: dict[str, Any] = {"kind": "integer", "role": "target"}
    if profile.padded:
        fields["trim"] = True
    notes = []
    if profile.missing:
        notes.append(
            f"{profile.missing:,} rows have no label yet; they wait in quarantine until they are sent again with one."
        )
    if set(profile.texts) == {"0", "1"}:
        fields |= {"minimum": 0, "maximum": 1}
    else:
        values = _yes_and_no(profile) or _by_words(profile)
        if values is None:  # the event is the rarer of the two
            common, rare = sorted(profile.folded, key=lambda text: -profile.folded[text])
            values = {_spelt(profile, common): 0, _spelt(profile, rare): 1}
            notes.append("Which of the two is the event? The rarer one is proposed.")
        fields["values"] = values
        if len(profile.folded) < profile.distinct:
            fields["ignore_case"] = True
    return DraftColumn(profile.name, fields, (*notes, "Is 1 the event that is to be predicted?"))


def _yes_and_no(profile: ColumnProfile) -> dict[str, int] | None:
    """The texts for no and yes with 0 and 1; None if the column does not have both."""
    if len(profile.folded) != _BINARY or set(profile.folded) == {"0", "1"}:
        return None
    no = [text for text in profile.folded if text in _NO]
    yes = [text for text in profile.folded if text in _YES]
    return {_spelt(profile, no[0]): 0, _spelt(profile, yes[0]): 1} if no and yes else None


def _by_words(profile: ColumnProfile) -> dict[str, int] | None:
    happened = [text for text in profile.folded if _HAPPENED.search(text)]
    if len(happened) != 1:
        return None
    (other,) = set(profile.folded) - set(happened)
    return {_spelt(profile, other): 0, _spelt(profile, happened[0]): 1}


def _spelt(profile: ColumnProfile, folded: str) -> str:
    return next(text for text in profile.texts if text.lower() == folded)


def _text(profile: ColumnProfile, notes: list[str]) -> dict[str, Any]:
    case = {"ignore_case": True} if len(profile.folded) < profile.distinct else {}
    values = _yes_and_no(profile)
    if values:
        return {"kind": "integer", "values": values} | case
    listed = profile.listed
    if not listed:
        notes.append(
            f"{profile.distinct:,} different texts: any text is allowed, and a model learns the most frequent ones."
        )
        return {"kind": "text", "categories": "open", "max_levels": MAX_LEVELS}
    rare = profile.present - sum(count for text, count in profile.folded.items() if count >= FEWEST_ROWS)
    if rare:
        notes.append(
            f"{rare:,} rows have other texts, too rare to list. They would be quarantined: add what is missing."
        )
    return {"kind": "text", "categories": listed} | case


def _number(profile: ColumnProfile) -> dict[str, Any]:
    low, high = profile.lowest, profile.highest
    if profile.kind is Kind.INTEGER and low >= 0 and high <= 1:
        return {"kind": "integer", "minimum": 0, "maximum": 1}
    return {
        "kind": str(profile.kind),
        "minimum": 0 if low >= 0 else -_room(-low),
        "maximum": _room(high) if high > 0 else 0,
    }


def _room(bound: float) -> float:
    """At least one and a half times a bound, as a round number."""
    wanted = 1.5 * bound
    size = 10 ** floor(log10(wanted))
    rounded = next(step * size for step in (1, 2, 3, 5, 10) if step * size >= wanted)
    return ceil(rounded) if rounded >= 1 else float(f"{rounded:.3g}")


def _slices(columns: Sequence[DraftColumn], profiles: Mapping[str, ColumnProfile]) -> tuple[Mapping[str, Any], ...]:
    """Protected groups, a few other groups, and bands of an age or a tenure."""
    slices: list[dict[str, Any]] = []
    others = 0
    for column in (column for column in columns if column.role == Role.FEATURE):
        levels, protected = _levels(column), "protected" in column.fields
        profile = profiles[column.name]
        parity = {"parity": True} if protected else {}
        if levels in _SLICE_LEVELS and (
            protected or (others < _MOST_SLICES and isinstance(column.fields.get("categories"), list))
        ):
            slices.append({"column": column.name} | parity)
            others += not protected
        elif profile.numbers is not None and not levels and _BANDS.match(column.name):
            edges = sorted({_round(edge) for edge in pc.quantile(profile.numbers, [0.25, 0.5, 0.75]).to_pylist()})
            if len(edges) > 1:
                slices.append({"column": column.name, "edges": edges} | parity)
    return tuple(slices)


def _levels(column: DraftColumn) -> int:
    """Number of groups that a column has by itself; 0 if it has bands or any text."""
    fields = column.fields
    if isinstance(fields.get("categories"), list):
        return len(fields["categories"])
    if "values" in fields:
        return len(fields["values"])
    return _BINARY if fields.get("maximum") == 1 and fields.get("kind") == "integer" else 0


def _round(number: float) -> float:
    return float(f"{number:.2g}")


def _questions(columns: FileColumns, key: ColumnProfile | None, target: ColumnProfile | None) -> tuple[str, ...]:
    questions = [
        "Is every feature known before the event, for every customer? A column that is written afterwards gives the answer away.",
        "Are the ranges right? Values outside are quarantined. They were drawn wider than the file, and rounded.",
        "May each feature be used? Protected attributes are marked by their names only.",
    ]
    if key is None:
        questions.insert(0, "Which column identifies the customer? None is unique in every row. Give one `role: key`.")
    if target is None:
        questions.insert(0, "Which column is the label? None of two values is named like one. Give one `role: target`.")
    if columns.unreadable:
        questions.append(
            f"{columns.unreadable:,} records of the file cannot be split into cells. `churn contract check` lists them."
        )
    if columns.unusable:
        questions.append(f"{len(columns.unusable)} columns have no name, or one that begins with _, and are ignored.")
    if not columns.whole:
        questions.append(f"The draft describes the first {columns.cells.num_rows:,} rows. Does the rest look alike?")
    return tuple(questions)
