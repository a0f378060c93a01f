"""The data contract: what a row of churn data is. Everything that knows a column derives from it.

A contract is a value. It is handed to the code that needs it; no module of the core reads a
particular one (the settings name it, and the pipeline hands it on). `contracts/` has those that ship.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Self


class Kind(StrEnum):
    """How the text of a cell is read."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"  # YYYY-MM-DD


WRITTEN = {
    Kind.INTEGER: r"-?(0|[1-9][0-9]*)(\.0+)?",
    Kind.NUMBER: r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    Kind.DATE: r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
}
"""How a value of a kind is written as text, as a regular expression that the whole cell matches."""


class Role(StrEnum):
    """What a column is for."""

    KEY = "key"
    TARGET = "target"
    FEATURE = "feature"
    CARRIED = "carried"  # kept with the row, never shown to a model
    POSITION = "position"  # where the row stands in its file: carried, and means nothing
    AS_OF = "as_of"  # when the row was true: of two rows of a customer the later one holds


UNLABELLED = "unlabelled"
"""The rule of a row whose label is still missing: set aside, and no fault of the file."""
DUPLICATE, CONFLICT = "record.duplicate", "record.conflict"
"""The rules of a customer's further rows in one file: the same again, or another."""


@dataclass(frozen=True)
class Column:
    """One column. Bounds are inclusive; `categories` lists every allowed value of a text.

    `at_most` names another column of the row that this one does not exceed. Cells are taken as they are written. The owner of the data may say otherwise for a column: `trim`
    drops blanks around a cell, `ignore_case` reads a category in any case. A `permanent` column does
    not change while a customer is one: a file in which it does for many is mixed up.
    """

    name: str
    kind: Kind
    role: Role
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = False
    at_most: str | None = None
    permanent: bool = False
    trim: bool = False
    ignore_case: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if self.categories and self.kind is not Kind.TEXT:
            raise ValueError(f"Column {self.name}: categories are for text, and it is {self.kind}.")
        if not self.numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"Column {self.name}: a range is for numbers, and it is {self.kind}.")
        if self.role is Role.FEATURE and not self.numeric and not self.categories:
            raise ValueError(f"Column {self.name}: a feature is a number, or a text with its categories.")
        if self.role is Role.AS_OF and self.kind not in (Kind.INTEGER, Kind.DATE):
            raise ValueError(f"Column {self.name}: as-of is a date or an integer, and it is {self.kind}.")
        if self.ignore_case and not self.categories:
            raise ValueError(f"Column {self.name}: only categories can be read in any case.")
        if self.nullable and self.role in (Role.KEY, Role.TARGET, Role.AS_OF):
            raise ValueError(f"Column {self.name}: a {self.role} cannot be nullable.")

    @property
    def numeric(self) -> bool:
        """Whether values are numbers."""
        return self.kind in (Kind.INTEGER, Kind.NUMBER)

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that each cell of the column is held against."""
        missing = UNLABELLED if self.role is Role.TARGET else f"{self.name}.missing"
        held = {
            missing: not self.nullable,
            f"{self.name}.type": self.kind is not Kind.TEXT,
            f"{self.name}.range": self.minimum is not None or self.maximum is not None,
            f"{self.name}.category": bool(self.categories),
        }
        return tuple(rule for rule, holds in held.items() if holds)


@dataclass(frozen=True)
class AtLeast:
    """A rule between two numeric columns of a row: `greater` is at least `lesser`."""

    greater: str
    lesser: str

    @property
    def rule(self) -> str:
        """Its name."""
        return f"{self.lesser}.above_{self.greater}"


MOST_GROUPS = 50
"""A column that falls into more groups than this is no slice."""


@dataclass(frozen=True)
class SliceBy:
    """A column by whose values customers fall into groups that no version may harm.

    `edges` cut a number into bands: (30, 45) makes under 30, 30 to 44, 45 and over. `parity` groups are
    also held side by side in the model card.
    """

    column: str
    edges: tuple[float, ...] = ()
    parity: bool = False

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"Slice by {self.column}: the edges {self.edges} must grow.")

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands, from the lowest."""
        if not self.edges:
            return ()
        inner = [f"{low:g} to under {high:g}" for low, high in pairwise(self.edges)]
        return (f"under {self.edges[0]:g}", *inner, f"{self.edges[-1]:g} and over")


@dataclass(frozen=True)
class Contract:
    """An ordered set of columns with one key and one target (an integer, 1 = the event).

    `slices` say nothing of what a row is, so that they are no part of the fingerprint.
    """

    name: str
    columns: tuple[Column, ...]
    slices: tuple[SliceBy, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(
                f"Contract {self.name}: a column name stands twice (case is not enough to tell two apart): {names}."
            )
        if any(name.startswith("_") for name in names):
            raise ValueError(f"Contract {self.name}: names that begin with _ are the pipeline's own: {names}.")
        for role in (Role.KEY, Role.TARGET):
            if len(self._having(role)) != 1:
                raise ValueError(f"Contract {self.name}: needs exactly one {role} column.")
        if (self.target.kind, self.target.minimum, self.target.maximum) != (Kind.INTEGER, 0, 1):
            raise ValueError(f"Contract {self.name}: the target {self.target.name} must be an integer from 0 to 1.")
        if not self.features:
            raise ValueError(f"Contract {self.name}: needs at least one feature.")
        if len(self._having(Role.AS_OF)) > 1:
            raise ValueError(f"Contract {self.name}: only one column can say when a row was true.")
        numbers = {column.name for column in self.columns if column.numeric}
        for one in self.slices:
            if one.column not in names or not self._can_slice(one):
                raise ValueError(
                    f"Contract {self.name}: it cannot be sliced by {one.column}: that takes a text with categories, a number "
                    f"with edges, or an integer of at most {MOST_GROUPS} values."
                )
        for relation in self.relations:
            if not {relation.greater, relation.lesser} <= numbers:
                raise ValueError(
                    f"Contract {self.name}: {relation.lesser} is to be at most {relation.greater}, "
                    "and they are not both numeric columns of the contract."
                )

    def _can_slice(self, by: SliceBy) -> bool:
        column = self[by.column]
        if by.edges:
            return column.numeric and len(by.edges) < MOST_GROUPS
        if column.kind is not Kind.INTEGER or column.minimum is None or column.maximum is None:
            return bool(column.categories)
        return column.maximum - column.minimum < MOST_GROUPS

    def _having(self, role: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role is role)

    @cached_property
    def key(self) -> Column:
        """The column that names the customer."""
        return self._having(Role.KEY)[0]

    @cached_property
    def target(self) -> Column:
        """The column that the model predicts."""
        return self._having(Role.TARGET)[0]

    @cached_property
    def relations(self) -> tuple[AtLeast, ...]:
        """The rules between two columns of a row."""
        return tuple(AtLeast(column.at_most, column.name) for column in self.columns if column.at_most)

    @cached_property
    def as_of(self) -> Column | None:
        """The column that says when a row was true, if there is one."""
        return next(iter(self._having(Role.AS_OF)), None)

    @cached_property
    def permanent(self) -> tuple[Column, ...]:
        """The columns that do not change while a customer is one."""
        return tuple(column for column in self.columns if column.permanent)

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """The name of every rule that an accepted row keeps; the suite must cover each of them."""
        cells = tuple(rule for column in self.columns for rule in column.rules)
        return (*cells, *(relation.rule for relation in self.relations), DUPLICATE, CONFLICT)

    @cached_property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model may see, in the order of the contract."""
        return self._having(Role.FEATURE)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All column names in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def feature_names(self) -> list[str]:
        """Names of the features in order."""
        return [column.name for column in self.features]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything the contract says, descriptions apart; 16 hex digits."""
        said = [{k: v for k, v in asdict(column).items() if k != "description"} for column in self.columns]
        return hashlib.sha256(json.dumps([self.name, said], sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """What a row is, as a text that `from_json` reads; slices apart."""
        return json.dumps({"name": self.name, "columns": [asdict(column) for column in self.columns]}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The contract that `to_json` wrote.

        Raises:
            ValueError: the text is none.
        """
        try:
            said = json.loads(text)
            columns = tuple(
                Column(
                    **column
                    | {
                        "kind": Kind(column["kind"]),
                        "role": Role(column["role"]),
                        "categories": tuple(column["categories"]),
                    }
                )
                for column in said["columns"]
            )
            return cls(said["name"], columns)
        except (KeyError, TypeError) as error:
            raise ValueError(f"This is no contract as `to_json` writes it: {error!r}") from error

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"Contract {self.name} has no column {name}.")
