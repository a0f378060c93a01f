"""The file of scored rows behind a decision: keyed hash, label, scores and slice codes of each customer.

Everything that a replay reads has its own hash in the ledger, so that it is known which part of a file was changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.decision.comparison import Evidence
from churn.decision.slices import Slicing
from churn.foundation.digests import array_digest, json_digest
from churn.foundation.paths import decision_rows
from churn.foundation.storage import Storage

SCORES = ("challenger", "champion", "anchor")
FLAGS = ("used", "current", "undisputed")
_SLICE = "slice:"
_SLICINGS = b"churn.slicings"


def digests_of(evidence: Evidence, sliced: tuple[Slicing, ...]) -> dict[str, str]:
    """The hash of each part of the evidence, and of all parts together under `evidence`."""
    parts = {
        "customers": array_digest(evidence.customers),
        "labels": array_digest(evidence.labels),
        "batches": array_digest(evidence.batches),
        "slices": json_digest(
            [[_described(sliced)], {name: array_digest(codes) for name, codes in evidence.codes.items()}]
        ),
        "flags": json_digest({name: array_digest(getattr(evidence, name)) for name in FLAGS}),
    }
    for role in SCORES:
        scores = getattr(evidence, role)
        if scores is not None:
            parts[role] = array_digest(scores)
    return {**parts, "evidence": json_digest(parts)}


def write_evidence(evidence: Evidence, sliced: tuple[Slicing, ...], digest: str, storage: Storage) -> None:
    """Write the scored rows under the hash of their content. An existing file is kept."""
    name = decision_rows(digest)
    if storage.exists(name):
        return
    columns: dict[str, pa.Array] = {
        "customer": pa.array(evidence.customers),
        "label": pa.array(evidence.labels.astype(np.int8)),
        "batch": pa.array(evidence.batches),
        **{flag: pa.array(getattr(evidence, flag)) for flag in FLAGS},
        **{f"{_SLICE}{column}": pa.array(codes) for column, codes in evidence.codes.items()},
        **{role: pa.array(scores) for role in SCORES if (scores := getattr(evidence, role)) is not None},
    }
    description = json.dumps(_described(sliced)).encode()
    with storage.scratch() as folder:
        file = Path(folder) / "evidence.parquet"
        pq.write_table(pa.table(columns).replace_schema_metadata({_SLICINGS: description}), file, compression="zstd")
        storage.move_in(file, name)


def read_evidence(digest: str, storage: Storage) -> tuple[Evidence, tuple[Slicing, ...]]:
    """Read the scored rows of a hash. Whether they have been changed is not checked here."""
    with storage.reading(decision_rows(digest)) as stream:
        table = pq.read_table(stream)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    sliced = [
        Slicing(column, tuple(names), parity) for column, names, parity in json.loads(table.schema.metadata[_SLICINGS])
    ]
    evidence = Evidence(
        customers=columns["customer"],
        labels=columns["label"].astype(np.int64),
        batches=columns["batch"],
        codes={slicing.column: columns[f"{_SLICE}{slicing.column}"] for slicing in sliced},
        used=columns["used"],
        current=columns["current"],
        undisputed=columns["undisputed"],
        challenger=columns["challenger"],
        champion=columns.get("champion"),
        anchor=columns.get("anchor"),
    )
    return evidence, tuple(sliced)


def _described(sliced: tuple[Slicing, ...]) -> list[list[Any]]:
    return [[slicing.column, list(slicing.names), slicing.parity] for slicing in sliced]
