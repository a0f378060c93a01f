"""The data contract: the definition of a row of churn data, from which every column rule is derived.

A contract is a value that is passed to the code that needs it. No module of the core imports a particular
one: the settings name it, and the pipeline passes it on. `contracts/` contains the ones that ship.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Self

from churn.errors import is_storable, shown


class Kind(StrEnum):
    """How the text of a cell is read."""

    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"  # YYYY-MM-DD


WRITTEN = {
    Kind.INTEGER: r"-?(0|[1-9][0-9]*)(\.0+)?",
    Kind.NUMBER: r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?",
    Kind.DATE: r"([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}",  # there is no year 0
}
"""The notation of each kind, as a regular expression that must match the whole cell."""
_LONGEST_MESSAGE = 1000
_NUMBER = re.compile(WRITTEN[Kind.NUMBER])


class Role(StrEnum):
    """What a column is for."""

    KEY = "key"
    TARGET = "target"
    FEATURE = "feature"
    CARRIED = "carried"  # kept with the row, but never shown to a model
    POSITION = "position"  # position of the row in its file: carried, but without meaning
    AS_OF = "as_of"  # when the row was true; of two rows of a customer, the later one counts


_UNSEEN = (Role.CARRIED, Role.POSITION)
"""The roles of columns that no model sees and nothing depends on."""

UNLABELLED = "unlabelled"
"""The rule of a row whose label is still missing: quarantined, but not counted as a fault of the file."""
DUPLICATE, CONFLICT = "record.duplicate", "record.conflict"
"""The rules for further rows of the same customer in one file: identical, or different."""
MAX_LEVELS = 50
"""Number of levels that are learned of a text without a list of categories, if the contract does not say."""
_ADDED = {"max_levels": None, "values": (), "protected": False, "feature": True}
"""Fields that later versions added, with their defaults. At its default, a field is not written, as before it existed."""

Coded = tuple[tuple[str, float], ...]
"""The texts of a column with the number that each stands for, in the order of the contract."""


def _is_finite(number: object) -> bool:
    """Whether this is a number that a column of floats can hold; true and false are none."""
    return isinstance(number, int | float) and type(number) is not bool and abs(number) <= sys.float_info.max


def _in_full(bound: float) -> str:
    """Write a bound as people do, with a comma between thousands and without an exponent."""
    return f"{int(bound):,}" if float(bound).is_integer() else f"{bound:,.15g}"


@dataclass(frozen=True)
class Column:
    """One column. Bounds are inclusive; `categories` lists every allowed value of a text.

    `at_most` names another column of the row that this one must not exceed. Cells are read exactly as
    written, unless the contract is more lenient: `trim` strips surrounding blanks, `ignore_case` accepts
    a category in any case. A `permanent` column never changes for a customer. If it does change for many
    customers of a file, the rows of that file are mixed up.

    A file may lack an `optional` column. By default these are the columns that no model sees: the position and
    those that are carried. A nullable feature can be optional too; it is then missing in every row of such a file.

    A text feature without `categories` has `max_levels`: any text is allowed, and a model learns at most this number
    of different ones from its training rows; the rest counts as one further level.

    `values` says which text stands for which number: `{"No": 0, "Yes": 1}` on the target or on a flag. A file and a request
    may have the text or the number; accepted rows and the model have the number. Without bounds, these numbers are the bounds.

    A `protected` feature is never given as a reason for a score. With `feature=False`, a column of that role is checked,
    compared and usable for slices like any feature, but no model sees it.
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
    optional: bool | None = None
    max_levels: int | None = None
    values: Coded | Mapping[str, float] = ()
    protected: bool = False
    feature: bool = True

    def __post_init__(self) -> None:
        self._code_values()
        self._require_types()
        if self.categories and self.kind is not Kind.TEXT:
            raise ValueError(
                f"Column {self.name}: only a text column can have categories, and this one is {self.kind}."
            )
        if not self.numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError(
                f"Column {self.name}: only a numeric column can have a range, and this one is {self.kind}."
            )
        if self.role is Role.FEATURE and self.kind is Kind.DATE and self.feature:
            raise ValueError(f"Column {self.name}: a feature must be a number or a text, and this one is {self.kind}.")
        if self.role is Role.FEATURE and self.kind is Kind.TEXT and self.feature and not (self.categories or self.open):
            raise ValueError(
                f"Column {self.name}: a text that is a feature needs categories. If any text is allowed, set max_levels "
                f"(in YAML: `categories: open`), for example max_levels={MAX_LEVELS}."
            )
        self._require_roles()
        if self.role is Role.AS_OF and self.kind not in (Kind.INTEGER, Kind.DATE):
            raise ValueError(
                f"Column {self.name}: an as-of column must be a date or an integer, and this one is {self.kind}."
            )
        if self.ignore_case and not (self.categories or self.values):
            raise ValueError(f"Column {self.name}: ignore_case needs categories or values.")
        if self.nullable and self.role in (Role.KEY, Role.AS_OF):
            raise ValueError(f"Column {self.name}: a {self.role} cannot be nullable.")
        may_be_missing = self.role in (Role.FEATURE, Role.TARGET) and self.nullable
        if self.optional and self.role not in _UNSEEN and not may_be_missing:
            raise ValueError(f"Column {self.name}: a {self.role} can be optional only if it is a nullable feature.")

    def _code_values(self) -> None:
        """Keep `values` as pairs, so that the column can be hashed, and take the bounds from them if there are none.

        Raises:
            ValueError: they are not a mapping from texts to numbers, or the column cannot have any.
        """
        pairs = tuple(self.values.items()) if isinstance(self.values, Mapping) else self.values
        if not isinstance(pairs, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004
            raise ValueError(f"Column {self.name}: the values must be a mapping from texts to numbers.")
        object.__setattr__(self, "values", pairs)
        if not pairs:
            return
        texts, numbers = [text for text, _ in pairs], [number for _, number in pairs]
        if not all(type(text) is str and text.strip(" ") for text in texts) or not all(map(_is_finite, numbers)):
            raise ValueError(
                f"Column {self.name}: the values must be a mapping from texts that are not empty to numbers, "
                'such as {"No": 0, "Yes": 1}.'
            )
        if not self.numeric or self.role not in (Role.FEATURE, Role.TARGET):
            raise ValueError(
                f"Column {self.name}: only the target and a numeric feature can have values, and this one is a {self.role} and {self.kind}."
            )
        folded = [text.lower() if self.ignore_case else text for text in texts]
        if len(set(folded)) != len(folded):
            raise ValueError(f"Column {self.name}: a text of the values appears twice.")
        if self.kind is Kind.INTEGER and not all(float(number).is_integer() for number in numbers):
            raise ValueError(f"Column {self.name}: the values of an integer must be whole numbers.")
        if self.role is Role.FEATURE and not self.accepts_numbers:
            raise ValueError(
                f"Column {self.name}: one of the values is a number that stands for another number, which only the target can have. "
                "Leave the values out; a model needs no other numbers."
            )
        if self.minimum is None:
            object.__setattr__(self, "minimum", min(numbers))
        if self.maximum is None:
            object.__setattr__(self, "maximum", max(numbers))
        if (self.minimum, self.maximum) != (min(numbers), max(numbers)):
            raise ValueError(
                f"Column {self.name}: the values must reach from the minimum to the maximum. Leave the bounds out."
            )

    def _require_roles(self) -> None:
        """Check the fields that only some columns can have.

        Raises:
            ValueError: this one cannot have such a field.
        """
        if self.max_levels is not None:
            if self.kind is not Kind.TEXT or self.role is not Role.FEATURE or self.categories:
                raise ValueError(f"Column {self.name}: only a text feature without categories can have max_levels.")
            if type(self.max_levels) is not int or self.max_levels < 1:
                raise ValueError(f"Column {self.name}: max_levels must be a whole number of at least 1.")
        if not self.feature and self.role is not Role.FEATURE:
            raise ValueError(
                f"Column {self.name}: a {self.role} is never shown to a model, so feature=False says nothing."
            )
        if self.protected and self.role is not Role.FEATURE:
            raise ValueError(
                f"Column {self.name}: a {self.role} is never a reason for a score, so protected says nothing."
            )

    def _require_types(self) -> None:
        """Check the types, since a text where a flag or a list belongs would be taken for something else.

        Raises:
            ValueError: a field has another type, or the categories or bounds contradict each other.
        """
        if type(self.name) is not str or not self.name.strip() or not is_storable(self.name):
            raise ValueError(
                f"The name of a column must be a text that is not empty and can be stored, and not {shown(self.name)}."
            )
        texts = [self.description, *(text for text in self.categories if type(text) is str), *self.numbers]
        if not all(type(text) is str and is_storable(text) for text in texts):
            raise ValueError(f"Column {self.name}: a text has a character that cannot be stored, or is not a text.")
        if type(self.kind) is not Kind or type(self.role) is not Role:
            raise ValueError(f"Column {self.name}: the kind must be one of Kind, and the role one of Role.")
        flags = [
            name
            for name in ("nullable", "permanent", "trim", "ignore_case", "protected", "feature")
            if type(getattr(self, name)) is not bool
        ]
        if flags or type(self.optional) not in (bool, type(None)):
            raise ValueError(f"Column {self.name}: {', '.join(flags or ['optional'])} must be True or False.")
        if not isinstance(self.categories, tuple) or not all(type(text) is str and text for text in self.categories):
            raise ValueError(f"Column {self.name}: the categories must be a tuple of texts that are not empty.")
        folded = [text.lower() if self.ignore_case else text for text in self.categories]
        if len(set(folded)) != len(folded):
            raise ValueError(f"Column {self.name}: a category appears twice.")
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if not all(map(_is_finite, bounds)):
            raise ValueError(f"Column {self.name}: minimum and maximum must be numbers, and finite.")
        if bounds != sorted(bounds):
            raise ValueError(f"Column {self.name}: the minimum {bounds[0]:g} is above the maximum {bounds[1]:g}.")

    @property
    def numeric(self) -> bool:
        """Whether values are numbers."""
        return self.kind in (Kind.INTEGER, Kind.NUMBER)

    @property
    def open(self) -> bool:
        """Whether any text is allowed, of which a model learns at most `max_levels`."""
        return self.max_levels is not None

    @property
    def modelled(self) -> bool:
        """Whether a model sees the column."""
        return self.role is Role.FEATURE and self.feature

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The number that each text of `values` stands for."""
        return dict(self.values)

    @property
    def texts(self) -> dict[float, str]:
        """The text that is written for each number of `values`: the first one."""
        return {number: text for text, number in reversed(tuple(self.numbers.items()))}

    @property
    def accepts_numbers(self) -> bool:
        """Whether a cell may have a number of `values` instead of its text: unless a text is a number and stands for another."""
        plain = {text.strip(" "): number for text, number in self.numbers.items() if _NUMBER.fullmatch(text.strip(" "))}
        return all(float(text) == number for text, number in plain.items())

    @property
    def may_be_absent(self) -> bool:
        """Whether a file may lack the column."""
        return self.role in _UNSEEN if self.optional is None else self.optional

    @property
    def allowed(self) -> str:
        """What a value may be, in words that follow `must be`."""
        if self.kind is Kind.DATE:
            return "a date in the form YYYY-MM-DD"
        if self.kind is Kind.TEXT:
            return f"one of {', '.join(self.categories)}" if self.categories else "a text"
        if self.values:
            return f"one of {', '.join(self.numbers)}"
        kind = "a whole number" if self.kind is Kind.INTEGER else "a number"
        if self.minimum is not None and self.maximum is not None:
            return f"{kind} from {_in_full(self.minimum)} to {_in_full(self.maximum)}"
        low = f" of at least {_in_full(self.minimum)}" if self.minimum is not None else ""
        high = f" of at most {_in_full(self.maximum)}" if self.maximum is not None else ""
        return kind + low + high

    @property
    def definition(self) -> dict[str, object]:
        """What decides which rows are accepted: the part of the column that the fingerprint of the contract covers.

        A field that is added to this class appears only where it differs from its default, so that the
        fingerprint of an earlier contract stays as it is.
        """
        values = self.written
        for name in ("description", "optional", "protected"):
            values.pop(name, None)
        if self.may_be_absent != (self.role in _UNSEEN):
            values["optional"] = self.may_be_absent
        return values

    @property
    def written(self) -> dict[str, object]:
        """The fields of the column, without those that later versions added and that have their default."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if name not in _ADDED or value != _ADDED[name]}

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that each cell of the column is checked against."""
        missing = UNLABELLED if self.role is Role.TARGET else f"{self.name}.missing"
        applies = {
            missing: not self.nullable,
            f"{self.name}.type": self.kind is not Kind.TEXT and not self.values,
            f"{self.name}.range": (self.minimum is not None or self.maximum is not None) and not self.values,
            f"{self.name}.category": bool(self.categories or self.values),
        }
        return tuple(rule for rule, is_applied in applies.items() if is_applied)


@dataclass(frozen=True)
class AtLeast:
    """A rule between two numeric columns of a row: `greater` is at least `lesser`."""

    greater: str
    lesser: str

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return f"{self.lesser}.above_{self.greater}"


MOST_GROUPS = 50
"""A column with more than this number of groups cannot define slices."""


@dataclass(frozen=True)
class SliceBy:
    """A column whose values divide customers into slices that no version may harm.

    `edges` divide a number into bands: (30, 45) makes under 30, 30 to 44, 45 and over. The model card also
    compares the groups of a `parity` column with one another.
    """

    column: str
    edges: tuple[float, ...] = ()
    parity: bool = False

    def __post_init__(self) -> None:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"Slice by {self.column}: the edges {self.edges} must be in increasing order.")

    @property
    def bands(self) -> tuple[str, ...]:
        """The names of the bands, from the lowest."""
        if not self.edges:
            return ()
        inner = [f"{low:g} to under {high:g}" for low, high in pairwise(self.edges)]
        return (f"under {self.edges[0]:g}", *inner, f"{self.edges[-1]:g} and over")


class EventNames(NamedTuple):
    """What happened to customers whose target is 1, and to the others: verbs in the past tense."""

    event: str = "churned"
    non_event: str = "stayed"


CHURNED = EventNames()
"""What people call the event and its opposite if the contract does not say."""


@dataclass(frozen=True)
class Contract:
    """An ordered set of columns with one key and one target (an integer, 1 = the event).

    `slices` do not define what a row is, so they are not part of the fingerprint. A `lenient_header` may write
    the names of the columns in any case and with blanks around them. `event` and `non_event` say in a word what happened to
    customers whose target is 1 and to the others, such as "left" and "stayed"; people read them, and nothing else depends on them.
    A contract that is not `labelled` has no target: it is the one of current customers, see `without_target`.

    With an as-of column, a row is a customer at a time, and several times of a customer are kept: a panel. With `horizon_days`, the
    label says whether the event happened within these days after the as-of date, and may come later, in a file of its own: a row
    without one is accepted, and waits. A version is trained on the newest `rows_per_customer` rows of each customer, by default on
    all. A contract that is not `featured` is the one of such a file of labels.
    """

    name: str
    columns: tuple[Column, ...]
    slices: tuple[SliceBy, ...] = ()
    lenient_header: bool = False
    event: str = CHURNED.event
    non_event: str = CHURNED.non_event
    labelled: bool = True
    horizon_days: int | None = None
    rows_per_customer: int | None = None
    featured: bool = True

    def __post_init__(self) -> None:
        self._require_times()
        names = [column.name for column in self.columns]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(
                f"Contract {self.name}: a column name appears twice (names that differ only in case count as equal): {names}."
            )
        if any(name.startswith("_") for name in names):
            raise ValueError(f"Contract {self.name}: names that begin with _ are reserved for the pipeline: {names}.")
        for role, count in ((Role.KEY, 1), (Role.TARGET, int(self.labelled))):
            if len(self._columns_with(role)) != count:
                raise ValueError(f"Contract {self.name}: a contract needs exactly one {role} column.")
        if self.labelled and (self.target.kind, self.target.minimum, self.target.maximum) != (Kind.INTEGER, 0, 1):
            raise ValueError(f"Contract {self.name}: the target {self.target.name} must be an integer from 0 to 1.")
        events = [word for word in (self.event, self.non_event) if type(word) is str and word.strip()]
        if len(set(events)) != 2:  # noqa: PLR2004 -- the event and its opposite
            raise ValueError(
                f"Contract {self.name}: event and non_event must be two different words, such as left and stayed."
            )
        if self.featured and not self.features:
            raise ValueError(f"Contract {self.name}: a contract needs at least one feature.")
        if len(self._columns_with(Role.AS_OF)) > 1:
            raise ValueError(f"Contract {self.name}: a contract can have only one as-of column.")
        numbers = {column.name for column in self.columns if column.numeric}
        for slice_by in self.slices:
            if slice_by.column not in names or not self._can_slice(slice_by):
                raise ValueError(
                    f"Contract {self.name}: {slice_by.column} cannot define slices. Use a text with categories, a number "
                    f"with edges, or an integer of at most {MOST_GROUPS} values."
                )
        for relation in self.relations:
            if not {relation.greater, relation.lesser} <= numbers:
                raise ValueError(
                    f"Contract {self.name}: {relation.lesser} must be at most {relation.greater}, "
                    "but they are not both numeric columns of the contract."
                )

    def _require_times(self) -> None:
        """Check what depends on the as-of column, and let the label be missing if there is a horizon.

        Raises:
            ValueError: there is no such column, or a number is not one.
        """
        for name, number in (("horizon_days", self.horizon_days), ("rows_per_customer", self.rows_per_customer)):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"Contract {self.name}: {name} must be a whole number of at least 1.")
            if number is not None and not self._columns_with(Role.AS_OF):
                raise ValueError(f"Contract {self.name}: {name} needs a column with the role as_of.")
        if self.horizon_days is not None and any(
            column.kind is not Kind.DATE for column in self._columns_with(Role.AS_OF)
        ):
            raise ValueError(f"Contract {self.name}: with horizon_days, the as-of column must be a date.")
        if self.horizon_days is None:
            for column in self._columns_with(Role.TARGET):
                if column.nullable:
                    raise ValueError(
                        f"Column {column.name}: a target cannot be nullable, unless the contract has horizon_days."
                    )
            return
        columns = (
            replace(column, nullable=True, optional=True) if column.role is Role.TARGET else column
            for column in self.columns
        )
        object.__setattr__(self, "columns", tuple(columns))

    def _can_slice(self, slice_by: SliceBy) -> bool:
        column = self[slice_by.column]
        if slice_by.edges:
            return column.numeric and len(slice_by.edges) < MOST_GROUPS
        if column.values:
            return len(column.texts) <= MOST_GROUPS
        if column.kind is not Kind.INTEGER or column.minimum is None or column.maximum is None:
            return bool(column.categories)
        return column.maximum - column.minimum < MOST_GROUPS

    def _columns_with(self, role: Role) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role is role)

    @cached_property
    def key(self) -> Column:
        """The column that identifies the customer."""
        return self._columns_with(Role.KEY)[0]

    @cached_property
    def target(self) -> Column:
        """The column that the model predicts."""
        return self._columns_with(Role.TARGET)[0]

    @property
    def event_names(self) -> EventNames:
        """What people call the event and its opposite."""
        return EventNames(self.event, self.non_event)

    @property
    def event_in_words(self) -> str:
        """The event with the value of the target that stands for it, such as `left (Exited = 1)`."""
        return f"{self.event} ({self.target.name} = {self.target.texts.get(1, '1')})"

    @cached_property
    def relations(self) -> tuple[AtLeast, ...]:
        """The rules between two columns of a row."""
        return tuple(AtLeast(column.at_most, column.name) for column in self.columns if column.at_most)

    @cached_property
    def as_of(self) -> Column | None:
        """The column that states when a row was true, if there is one."""
        return next(iter(self._columns_with(Role.AS_OF)), None)

    @property
    def row_key(self) -> tuple[Column, ...]:
        """The columns that identify a row: the customer, and in a panel the time."""
        return (self.key, self.as_of) if self.as_of else (self.key,)

    @cached_property
    def permanent(self) -> tuple[Column, ...]:
        """The columns that never change for a customer."""
        return tuple(column for column in self.columns if column.permanent)

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """The name of every rule that an accepted row satisfies; the suite must cover each of them."""
        cells = tuple(rule for column in self.columns for rule in column.rules)
        return (*cells, *(relation.rule for relation in self.relations), DUPLICATE, CONFLICT)

    @cached_property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model may see, in the order of the contract."""
        return tuple(column for column in self.columns if column.modelled)

    @cached_property
    def attributes(self) -> tuple[Column, ...]:
        """The columns that describe a customer: the features, and those that are kept out of the model."""
        return self._columns_with(Role.FEATURE)

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
        """Hash of what decides which rows are accepted and what a model sees; 16 hex digits."""
        definition: list[object] = [self.name, [column.definition for column in self.columns]]
        if self.lenient_header:
            definition.append({"lenient_header": True})
        if self.horizon_days is not None:
            definition.append({"horizon_days": self.horizon_days})
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:16]

    def without_target(self) -> Self:
        """Return the contract of current customers, whose label is not known: a column with the target is like any further one."""
        columns = tuple(
            replace(column, at_most=None) if column.at_most == self.target.name else column
            for column in self.columns
            if column.role is not Role.TARGET
        )
        slices = tuple(by for by in self.slices if by.column != self.target.name)
        return replace(self, columns=columns, slices=slices, labelled=False, horizon_days=None)

    def of_file(self, header: Sequence[str]) -> Self:
        """Return the contract for a file with this header: a column that the file lacks is missing in every row."""
        absent = {column.name for column in self.columns if column.may_be_absent} - set(header)
        columns = tuple(replace(column, nullable=True) if column.name in absent else column for column in self.columns)
        return replace(self, columns=columns)

    def rule_in_words(self, rule: str) -> str | None:
        """Return what a rule of a column or of two columns asks for, such as `Age must be a whole number from 18 to 100`."""
        for relation in self.relations:
            if relation.rule == rule:
                return f"{relation.lesser} must not exceed {relation.greater}"
        name, _, kind = rule.rpartition(".")
        if name not in self.names:
            return None
        return f"{name} must not be empty" if kind == "missing" else f"{name} must be {self[name].allowed}"

    def to_json(self) -> str:
        """Return the columns of the contract as JSON that `from_json` reads; a request has no header and no slices."""
        definition: dict[str, object] = {"name": self.name, "columns": [column.written for column in self.columns]}
        if self.horizon_days is not None:
            definition["horizon_days"] = self.horizon_days
        return json.dumps(definition, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a contract that `to_json` wrote.

        Raises:
            ValueError: the text is not a contract.
        """
        try:
            definition = json.loads(text)
            columns = tuple(
                Column(
                    **column
                    | {
                        "kind": Kind(column["kind"]),
                        "role": Role(column["role"]),
                        "categories": tuple(column["categories"]),
                        "values": tuple((text, number) for text, number in column.get("values", ())),
                    }
                )
                for column in definition["columns"]
            )
            return cls(definition["name"], columns, horizon_days=definition.get("horizon_days"))
        except (AttributeError, KeyError, RecursionError, TypeError, json.JSONDecodeError) as error:
            lacking = f": {shown(error.args[0])} is missing" if isinstance(error, KeyError) else ""
            raise ValueError(
                f"This text is not a contract written by `to_json`{lacking}. Make it again from the contract."
            ) from error
        except ValueError as error:  # what is wrong with the contract, which repeats texts of it
            raise ValueError(shown(error, _LONGEST_MESSAGE)) from error

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"Contract {self.name} has no column {name}.")
