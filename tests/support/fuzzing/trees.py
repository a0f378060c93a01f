"""Trees of mappings, lists and values, as YAML and JSON have them: odd ones, and the files that are read as such."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from churn.contract import Contract, Kind
from churn.contracts.bank import BANK_CHURN
from churn.contracts.loading import load_contract
from churn.contracts.yaml_file import InvalidContract
from churn.decision.policy_file import Policy, PolicyInvalid, load_policy_text
from churn.intake.batch_file import FileFault
from churn.scoring.scoring_policy import ScoringPolicy, load_policy
from churn.serving.rows import BadRows, check_rows, frame_of
from support.basics import ROOT
from support.coded_contract import CODED
from support.fuzzing.cases import Defect, Target, choice_of
from support.fuzzing.mutations import ODD_BYTES, ODD_CELLS, ODD_NAMES, change_bytes
from support.fuzzing.promises import require_plain
from support.judged_files import judge_whole
from support.panels import PANEL

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, "", " ", "yes", "No", 0, 1, -1, 2, 0.5, 1.0, -0.0, 1e308, float("nan"), float("inf"), 10**12, 2**31, 2**63, 2**64, 10**40, 10**400,
    "1", "0.5", "1e5", "1_000", "0x1f", "x" * 6000, "\ud800", "a\0b", "\x85", "\u2028", "\U0001f9e8", [], {}, [[]], [{}], {"": ""}, {"a": {}}, [0.9, 1.1], [1, 2],
    date(2026, 1, 1), b"\xff", "{name}", "%s", "<b>", "*", "&a", "!!x", "~", "null", "open", "text", "integer", "number", "date", "key", "target", "as_of", "feature", "Age", "Exited",
)  # fmt: skip
"""What nobody expects in the place of a value."""
_FRAGMENTS = (
    "!!bool x", "!!bool [1]", "!!int x", "!!int ''", "!!int 0x", "!!int 1:99:99", "!!int 0b2", "!!float x", "!!float ''", "!!float 1:x", "!!timestamp x",
    "2026-13-45", "2026-02-30", "2026-01-31 25:61:61", "2026-01-31T00:00:00+99:99", "!!null x", "!!binary x", "!!binary '*'", "!!set [a]", "!!set {a: b}", "!!omap [a]", "!!pairs [a]", "!!str [a]", "!!seq {}",
    "!!map []", "!!python/object/apply:os.system [x]", "!x y", "! y", "!<x> y", "&a [*a]", "&a {b: *a}", "*nobody", "&a 1", "*a", "{<<: {a: 1}}", "{<<: 1}", "{<<: [1]}", "{? [a] : b}", "{? {a: b} : c}", "{1: 2}",
    "{null: 1}", "{true: 1}", "{2026-01-01: 1}", "{a: 1, a: 2}", "{1.0: 1, 1: 2}", "[", "]", "{", "}", "'", '"', '"\\ud800"', '"\\x00"', '"\\UFFFFFFFF"', '"\\U00110000"', '"\\q"', "|", ">", "|9", ">-+", "- a", "? a", ": a", "@", "`", "%", "\t", "# x", "---", "...",
    "1e999", "-1e999", ".inf", "-.inf", ".nan", "0o17", "017", "0b11", "1__0", "9" * 5000, "1" + "0" * 400, "1.", ".5", "190:20:30", "y", "on", "=", "<<", "[" * 40 + "]" * 40, "[" * 1500, "{a: " * 1500, "&a [&b [*a, *b]]",
)  # fmt: skip
"""Values in YAML's own notation that a writer of YAML would not make."""


def change_tree(draw: random.Random, tree: Any) -> Any:
    """Change a mapping or a list, or something inside of it."""
    places = list(_places(tree))
    if not places:
        return copy.deepcopy(draw.choice(ODD_VALUES))
    holder, key = draw.choice(places)
    kind = draw.randrange(9)
    if kind <= 2:
        holder[key] = copy.deepcopy(draw.choice(ODD_VALUES))
    elif kind == 3:
        del holder[key]
    elif kind == 4 and isinstance(holder, dict):
        holder[draw.choice((*ODD_NAMES, str(key).upper(), str(key)[:-1], f"{key} ", f"{key}s"))] = holder.pop(key)
    elif kind == 5 and isinstance(holder, dict):
        holder[draw.choice(ODD_NAMES)] = copy.deepcopy(draw.choice(ODD_VALUES))
    elif kind == 5:
        holder.insert(key, copy.deepcopy(draw.choice(ODD_VALUES)))
    elif kind == 6:
        other, place = draw.choice(places)
        if place in other if isinstance(other, dict) else place < len(other):
            holder[key] = copy.deepcopy(other[place])
    elif kind == 7:
        value: Any = holder[key]
        for _ in range(draw.choice((1, 3, 60))):
            value = [value] if draw.random() < 0.5 else {"a": value}
        holder[key] = value
    elif isinstance(holder[key], str):
        holder[key] = draw.choice(
            (holder[key].upper(), f" {holder[key]}", f"{holder[key]} ", holder[key][1:], draw.choice(ODD_CELLS))
        )
    elif isinstance(holder[key], (int, float)):
        holder[key] = draw.choice((-holder[key], holder[key] * 10, str(holder[key]), [holder[key]], f"{holder[key]}.5"))
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Each mapping or list in a tree with each of its keys or positions."""
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def make_yaml(draw: random.Random, tree: Any) -> bytes:
    """Write a changed tree as YAML, and change the text."""
    tree = copy.deepcopy(tree)
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        tree = change_tree(draw, tree)
    style: dict[str, Any] = {
        "sort_keys": False,
        "allow_unicode": draw.random() < 0.5,
        "default_flow_style": draw.choice((None, False, True)),
    }
    try:
        text = yaml.dump(tree, Dumper=yaml.CSafeDumper, **style)
    except UnicodeEncodeError:  # half of a surrogate pair, which the dumper in Python can write
        text = yaml.dump(tree, Dumper=yaml.SafeDumper, **style)
    lines = text.split("\n")
    for _ in range(draw.choice((0, 0, 1, 2))):
        at = draw.randrange(len(lines))
        name, mark, _rest = lines[at].partition(": ")
        kind = draw.randrange(5)
        if kind <= 2 and mark:
            lines[at] = f"{name}: {draw.choice(_FRAGMENTS)}"
        elif kind == 3:
            lines.insert(
                at,
                draw.choice(
                    (
                        lines[at],
                        "\t",
                        "<<: *a",
                        "%YAML 9.9",
                        "---",
                        "- a",
                        f"{draw.choice(_FRAGMENTS)}: 1",
                        f"a: {draw.choice(_FRAGMENTS)}",
                    )
                ),
            )
        else:
            lines[at] = draw.choice((" ", "  ", "\t", "- ", "")) + lines[at].lstrip()
    data = "\n".join(lines).encode(errors="surrogatepass")
    if draw.random() < 0.15:
        data = change_bytes(draw, data)
    return (
        data
        if draw.random() < 0.95
        else draw.choice(
            (b"\xef\xbb\xbf" + data, data.decode(errors="replace").encode("utf-16"), draw.choice(ODD_BYTES), b"")
        )
    )


# --- Policies


@cache
def _shipped(name: str) -> Any:
    return yaml.safe_load((ROOT / "include/churn" / name).read_text())


class _Folder:
    """Where the file of a case is written while it is read."""

    path: Path


@contextmanager
def _folder() -> Iterator[None]:
    with TemporaryDirectory(prefix="churn-fuzz-") as name:
        _Folder.path = Path(name)
        yield


@contextmanager
def _written(case: bytes, name: str) -> Iterator[Path]:
    file = _Folder.path / name
    file.write_bytes(case)
    try:
        yield file
    finally:
        file.unlink()


def _shown(message: str) -> str:
    return message.replace(str(_Folder.path), "")


def make_policy(draw: random.Random) -> bytes:
    return make_yaml(draw, _shipped("promotion_policy.yaml"))


def check_policy(case: bytes) -> str:
    """A policy file gives the rules, which can be written and read again, or a plain error."""
    with _written(case, "policy.yaml") as file:
        try:
            policy = Policy.read(load_policy_text(file), file.name)
        except PolicyInvalid as error:
            require_plain(_shown(str(error)), secret=False)
            return "refused"
    if Policy.model_validate(policy.model_dump()) != policy or not 0 < policy.superiority.level(0) < 1:
        raise Defect("A policy cannot be used: it was read")
    return "read"


def make_scoring(draw: random.Random) -> bytes:
    tree = copy.deepcopy(_shipped("scoring_policy.yaml"))
    if draw.random() < 0.3:
        tree["value"] = draw.choice(
            (
                {"column": "Balance", "rate": 0.1},
                {"column": "Nobody"},
                {"amount": 1, "column": "Age"},
                {"column": "Surname"},
            )
        )
    if draw.random() < 0.3:
        tree["capacity"] = draw.choice(({"share": 0.1}, {"share": 1, "customers": 1}, {"customers": 0}, {"share": 0}))
    return make_yaml(draw, tree)


def check_scoring(case: bytes) -> str:
    """A scoring policy gives the rules for a contract, or a plain error."""
    with _written(case, "scoring.yaml") as file:
        try:
            policy = load_policy(file).check(BANK_CHURN, file.name)
            policy.changed("spring", choice_of(case, 100))
        except PolicyInvalid as error:
            require_plain(_shown(str(error)), secret=False)
            return "refused"
    if (
        ScoringPolicy.model_validate(policy.model_dump(exclude_none=True)) != policy
        or not 0 <= policy.capacity.of(1000) <= 1000
    ):
        raise Defect("A scoring policy cannot be used: it was read")
    return "read"


# --- Contracts


@cache
def _contract_trees() -> tuple[Any, ...]:
    telco = yaml.load((ROOT / "include/churn/contracts/telco.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506 -- texts only
    small = {
        "name": "small",
        "lenient_header": True,
        "columns": {
            "Id": {"kind": "integer", "role": "key", "minimum": 1},
            "Day": {"kind": "date", "role": "as_of"},
            "Age": {"kind": "integer", "minimum": 0, "maximum": 120, "trim": True, "at_most": "Top"},
            "Top": {"kind": "number", "nullable": True, "optional": True},
            "City": {"kind": "text", "categories": "open", "max_levels": 5},
            "Sex": {"kind": "text", "categories": ["f", "m"], "ignore_case": True, "protected": True, "feature": False},
            "Left": {"kind": "integer", "role": "target", "values": {"No": 0, "Yes": 1}},
        },
        "horizon_days": 30,
        "rows_per_customer": 2,
        "slices": ["Sex", {"column": "Age", "edges": [30, 60], "parity": True}],
    }
    return telco, small, small


def make_contract(draw: random.Random) -> bytes:
    if draw.random() < 0.8:
        return make_yaml(draw, draw.choice(_contract_trees()))
    tree = json.loads(draw.choice((BANK_CHURN, CODED, PANEL)).to_json())
    for _ in range(draw.choice((0, 1, 2, 4))):
        tree = change_tree(draw, tree)
    data = json.dumps(tree, default=str).encode()
    return change_bytes(draw, data) if draw.random() < 0.15 else data


def check_contract(case: bytes) -> str:
    """A contract file gives a contract that works, or a plain error. So does the JSON in an image, at the start of the service."""
    outcomes = []
    with _written(case, "fuzzed.yaml") as file:
        try:
            contract = load_contract(str(file), _Folder.path)
        except InvalidContract as error:
            require_plain(_shown(str(error)), secret=False)
            outcomes.append("refused")
        else:
            _require_works(contract, case)
            outcomes.append("read")
    if case[:1] == b"{":
        try:
            contract = Contract.from_json(case.decode(errors="replace"))
        except ValueError as error:
            require_plain(str(error).replace("KeyError", "").replace("TypeError", ""), secret=False)
            outcomes.append("JSON refused")
        else:
            _require_works(contract, case)
            outcomes.append("JSON read")
    return ", ".join(outcomes)


def _require_works(contract: Contract, case: bytes) -> None:
    if Contract.from_json(contract.to_json()).columns != contract.columns:
        raise Defect("A contract is not the same after it was written: to_json and from_json")
    contract.fingerprint.encode()
    contract.without_target().fingerprint.encode()
    cells = {column.name: [_value(column)] for column in contract.features}
    try:
        frame_of(check_rows(cells, contract), contract)
    except BadRows as error:
        require_plain(str(error), secret=False)
    if choice_of(case, 4) == 0:
        _judge_a_row(contract)


def _judge_a_row(contract: Contract) -> None:
    header = ",".join('"' + name.replace('"', '""') + '"' for name in contract.names)
    cells = ",".join(f'"{_value(column)}"'.replace("None", "") for column in contract.columns)
    try:
        judged = judge_whole(f"{header}\n{cells}\n", contract)
    except FileFault as fault:
        require_plain(fault.sentence, secret=False)
        return
    if judged.counts.arrived != judged.good.num_rows + len(judged.quarantined):
        raise Defect("Rows are lost: under an odd contract")


def _value(column: Any) -> Any:
    if column.kind is Kind.TEXT:
        return column.categories[0] if column.categories else "a"
    if column.kind is Kind.DATE:
        return "2026-01-31"
    return 1 if column.minimum is None else column.minimum


POLICY = Target("policy", make_policy, check_policy, _folder)
SCORING = Target("scoring", make_scoring, check_scoring, _folder)
CONTRACT = Target("contract", make_contract, check_contract, _folder)
