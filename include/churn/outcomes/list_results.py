"""Lists, looked back upon: what became of their customers, by decile and at the capacity, and what being listed has changed.

Customers count by the group that they were first delivered in. Contacted customers say nothing of what would have happened without the
contact, so realised figures rest on the others, and the control group stands for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from typing import Any

import duckdb
from scipy import stats

from churn.contract import Contract
from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.columnar.names import quoted
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import list_rows
from churn.foundation.records import ListResult, ScoreList, Snapshot
from churn.learning.snapshot import scan_counted
from churn.outcomes.treated import control_share
from churn.scoring.list_parts import key_column
from churn.scoring.treatments import CONTACT, CONTROL, FIRST, GROUP

FEWEST_IN_GROUP = 30
"""Customers with a known label that a group needs before the effect is given."""
_REACH = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class GroupCount:
    """Customers of a group with a known label, and those of them with the event."""

    customers: int
    events: int

    @property
    def rate(self) -> float:
        """The share with the event."""
        return self.events / self.customers if self.customers else 0.0


def measure_lists(clients: Clients, night: str, now: Snapshot) -> list[ListResult]:
    """Measure every list whose rows are kept against the labels that are known now; returns results that have changed.

    Raises:
        PartFault: a part of the snapshot is missing or has been changed.
    """
    ledger, storage, model = clients.ledger, clients.storage, clients.settings.model_name
    lists = [row for row in ledger.score_lists(model) if has_table(storage, list_rows(row.list_id))]
    if not lists:
        return []
    changed = []
    with storage.scratch() as scratch, columnar.engine(clients.settings.duckdb_memory_limit) as connection:
        scan_counted(connection, "labels", storage, now, clients.contract, range(columnar.BUCKETS), scratch)
        for row in lists:
            columnar.scan(connection, "listed", storage, part_names(storage, list_rows(row.list_id)))
            figures = _measure(connection, row, clients.contract)
            if figures is None:
                continue
            rows, events = figures["rows"], figures["events"]
            result = ListResult(row.list_id, 0, rows, events, json.loads(json.dumps(figures)), night, datetime.now(UTC))
            stored = ledger.add_list_result(result)
            changed += [stored] if stored else []
    return changed


def _measure(connection: duckdb.DuckDBPyConnection, row: ScoreList, contract: Contract) -> dict[str, Any] | None:
    """The figures of a list; None if no label of its customers is known."""
    _join(connection, row, contract)
    ((rows, events),) = connection.execute("SELECT count(*), coalesce(sum(y), 0) FROM known").fetchall()
    if not rows:
        return None
    share = control_share(row)
    counts = connection.execute(
        f"SELECT {quoted(GROUP)}, count(*), sum(y) FROM known WHERE {FIRST} = ? GROUP BY ALL",  # noqa: S608 -- our own names
        [row.list_id],
    ).fetchall()
    groups = {group: GroupCount(int(customers), int(left)) for group, customers, left in counts}
    contact, control = groups.get(CONTACT, GroupCount(0, 0)), groups.get(CONTROL, GroupCount(0, 0))
    has_control = control.customers > 0 and share > 0
    return {
        "rows": int(rows),
        "events": int(events),
        "of": row.rows,
        "deciles": _deciles(connection, share if has_control else None),
        "at_capacity": _at_capacity(connection, share if has_control else None),
        "effect": describe_effect(contact, control, row),
        "contacted": bool(contact.customers) and not has_control,
    }


def _join(connection: duckdb.DuckDBPyConnection, row: ScoreList, contract: Contract) -> None:
    """`known`: the customers of the list whose label is known, with it.

    In a panel it is the label of the row that was scored; otherwise the one of a row that arrived after the list was published. What was over
    before that says nothing of the list: a horizon that had passed, or a label that had come with the row.
    """
    key, target = quoted(contract.key.name), quoted(contract.target.name)
    columns = set(connection.view("listed").columns)
    first = FIRST if FIRST in columns else f"CASE WHEN {quoted(GROUP)} <> 'rest' THEN list_id END"
    on = f"CAST(listed.{quoted(key_column(contract))} AS VARCHAR) = CAST(labels.{key} AS VARCHAR)"
    published = row.published_at.astimezone(UTC)
    if contract.as_of is not None and contract.as_of.name in columns:
        as_of = quoted(contract.as_of.name)
        on += f" AND listed.{as_of} = labels.{as_of}"
        if contract.horizon_days is not None:
            on += f" AND labels.{as_of} + {contract.horizon_days} >= DATE '{published.date()}'"
        else:
            on += f" AND labels.{columnar.FIRST_AT} > TIMESTAMPTZ '{published.isoformat()}'"
    else:
        on += f" AND labels._arrived_at > TIMESTAMPTZ '{published.isoformat()}'"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE known AS SELECT probability, decile, {quoted(GROUP)} AS {quoted(GROUP)}, {first} AS {FIRST}, "  # noqa: S608 -- quoted names
        f"CAST(labels.{target} AS INTEGER) AS y FROM listed JOIN labels ON {on}"
    )


def _weighted(share: float | None) -> str:
    """The weight of a customer: those who were contacted are left out where a control group stands for them."""
    if share is None:
        return "CAST(1 AS DOUBLE)"
    return (
        f"CAST(CASE {quoted(GROUP)} WHEN '{CONTACT}' THEN 0 WHEN '{CONTROL}' THEN {1 / share!r} ELSE 1 END AS DOUBLE)"
    )


def _exact(value: str) -> str:
    """The SQL of a sum that does not depend on the order of the rows, so that the same labels make no new revision."""
    return f"CAST(coalesce(sum(CAST({value} AS DECIMAL(38, 12))), 0) AS DOUBLE)"


def _deciles(connection: duckdb.DuckDBPyConnection, share: float | None) -> list[dict[str, float]]:
    """Of each tenth of the ranks: customers with a label, mean score, and share with the event with its interval."""
    weight = _weighted(share)
    found = connection.execute(
        f"""
        SELECT decile, count(*) FILTER (w > 0), {_exact("w * probability")} / {_exact("w")}, {_exact("w * y")} / {_exact("w")},
          {_exact("w")} * {_exact("w")} / {_exact("w * w")}
        FROM (SELECT *, {weight} AS w FROM known) GROUP BY decile HAVING sum(w) > 0 ORDER BY decile
        """  # noqa: S608 -- our own names
    ).fetchall()
    return [
        {"decile": int(decile), "rows": int(rows), "predicted": predicted, **_share(realised, effective)}
        for decile, rows, predicted, realised, effective in found
    ]


def _at_capacity(connection: duckdb.DuckDBPyConnection, share: float | None) -> dict[str, float | None]:
    """Precision, share of leavers caught, and lift of the customers within the capacity."""
    ((inside, caught, every, left),) = connection.execute(
        f"""
        SELECT {_exact("w * inside")}, {_exact("w * y * inside")}, {_exact("w")}, {_exact("w * y")}
        FROM (SELECT *, {_weighted(share)} AS w, CASE WHEN {quoted(GROUP)} <> 'rest' THEN 1 ELSE 0 END AS inside FROM known)
        """  # noqa: S608 -- our own names
    ).fetchall()
    precision = caught / inside if inside else None
    return {
        "precision": precision,
        "recall": caught / left if left else None,
        "lift": precision / (left / every) if precision is not None and left else None,
    }


def describe_effect(contact: GroupCount, control: GroupCount, row: ScoreList) -> dict[str, Any]:
    """The effect of being listed: how many fewer had the event than in the control group, with its 95% interval.

    Args:
        contact: customers whose treatment began with this list, in the contact group.
        control: those in the control group.
        row: the list, for what a contact costs and a kept customer is worth.

    Returns:
        Counts and rates, and `tells`: whether the interval excludes no effect.
    """
    found: dict[str, Any] = {
        "contact": vars(contact) | {"rate": contact.rate},
        "control": vars(control) | {"rate": control.rate},
        "tells": False,
    }
    if min(contact.customers, control.customers) < FEWEST_IN_GROUP:
        return found
    difference = control.rate - contact.rate
    error = sqrt(sum(_variance(group) for group in (contact, control)))
    found |= {"kept_share": difference, "lower": difference - _REACH * error, "upper": difference + _REACH * error}
    found["tells"] = found["lower"] > 0 or found["upper"] < 0
    policy = json.loads(row.policy)
    amount = policy["value"].get("amount")
    if amount is not None:
        cost = contact.customers * policy["contact"]["cost"]
        found["value"] = {
            name: found[name] * contact.customers * amount - cost for name in ("kept_share", "lower", "upper")
        }
    return found


def _variance(group: GroupCount) -> float:
    """Of a rate, with one more of each kind (Agresti and Caffo, The American Statistician 54, 2000): none is zero."""
    customers, rate = group.customers + 2, (group.events + 1) / (group.customers + 2)
    return rate * (1 - rate) / customers


def _share(value: float, rows: float) -> dict[str, float]:
    """A share with its Wilson interval (Wilson, 1927)."""
    z2 = _REACH**2
    middle = (value + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _REACH / (1 + z2 / rows) * sqrt(max(value * (1 - value), 0.0) / rows + z2 / (4 * rows * rows))
    return {"realised": value, "lower": max(0.0, middle - half), "upper": min(1.0, middle + half)}
