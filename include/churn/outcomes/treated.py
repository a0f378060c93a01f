"""Who was contacted, or left alone for comparison, and when: by the keyed hash of the customer, so that labels can be joined."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from churn.foundation import columnar
from churn.foundation.clients import Clients
from churn.foundation.records import ScoreList
from churn.scoring.list_parts import key_column
from churn.scoring.treatments import (
    CONTACT,
    CONTROL,
    FIRST,
    GROUP,
    KEY,
    TreatmentsUnknown,
    horizon_of,
    in_use_since,
    read_members,
)

log = logging.getLogger(__name__)
SCHEMA = pa.schema(
    [
        ("customer", pa.uint64()),
        ("contacted", pa.bool_()),
        ("since", pa.date32()),
        ("until", pa.date32()),
        ("weight", pa.float64()),
    ]
)


def read_treated(clients: Clients) -> pa.Table:
    """Every treatment of a customer, once: from the first delivery of the list that it began with, to the end of its horizon.

    Returns:
        `customer` (the keyed hash), `contacted` (or left alone), `since`, `until`, and `weight`: for a customer of a control group, how
        many customers at the capacity this one stands for.
    """
    ledger, contract = clients.ledger, clients.contract
    deliveries, tables = ledger.deliveries(), [SCHEMA.empty_table()]
    for row in ledger.score_lists(clients.settings.model_name):
        since = in_use_since(row, deliveries)
        if since is None or not row.contact + row.control:
            continue
        try:
            members = read_members(clients.storage, row, key_column(contract), (CONTACT, CONTROL))
        except TreatmentsUnknown:
            log.info("List %s is not looked at: its rows were deleted.", row.list_id[:12])
            continue
        began = members.filter(pc.equal(members[FIRST], row.list_id))
        tables.append(_described(clients, began, row, since))
    return pa.concat_tables(tables)


def control_share(row: ScoreList) -> float:
    """The share of the customers at the capacity of a list that is left alone."""
    return float(json.loads(row.policy)["control"]["share"])


def _described(clients: Clients, members: pa.Table, row: ScoreList, since: datetime) -> pa.Table:
    with columnar.engine(clients.settings.duckdb_memory_limit) as connection:
        customers = columnar.hash_customers(connection, members[KEY].combine_chunks(), clients.sampling.salt)
    first, last = since.astimezone(UTC).date(), (since + timedelta(days=horizon_of(row))).astimezone(UTC).date()
    contacted = pc.equal(members[GROUP], CONTACT)
    share = control_share(row)
    weights = np.where(contacted.to_numpy(), 0.0, 1 / share if share else 0.0)
    return pa.table(
        {
            "customer": pa.array(customers),
            "contacted": contacted,
            "since": pa.repeat(pa.scalar(first, pa.date32()), len(members)),
            "until": pa.repeat(pa.scalar(last, pa.date32()), len(members)),
            "weight": pa.array(weights, pa.float64()),
        }
    ).cast(SCHEMA)
