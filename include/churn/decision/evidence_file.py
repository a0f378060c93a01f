"""The scored rows behind a decision: keyed hash, label, scores and slice codes of each customer, in parts of a fixed number of rows.

Everything that a replay reads has its own hash in the ledger, so that it is known what was changed.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.decision.comparison import Evidence
from churn.decision.slices import Slicing
from churn.errors import Outage
from churn.foundation.digests import array_digest, json_digest
from churn.foundation.ledger import Ledger
from churn.foundation.parts import (
    DigestOf,
    PartFault,
    WrittenPart,
    file_digest,
    find_part_faults,
    has_table,
    part_name,
    part_names,
    store_parts,
)
from churn.foundation.paths import DECISIONS, decision_rows
from churn.foundation.storage import Storage

SCORES = ("challenger", "champion", "anchor")
FLAGS = ("used", "current", "undisputed")
PART_ROWS = 1_000_000
_SLICE, _WEIGHT = "slice:", "weight"
_SLICINGS = b"churn.slicings"
_RESTORE = "Restore it from a backup of the data root; until then its decision cannot be replayed."

log = logging.getLogger(__name__)


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
    if evidence.weights is not None:
        parts["weights"] = array_digest(evidence.weights)
    return {**parts, "evidence": json_digest(parts)}


def has_evidence(digest: str, storage: Storage) -> bool:
    """Whether the scored rows of a hash are kept, in parts or in the single file of an earlier version."""
    return has_table(storage, decision_rows(digest))


def write_evidence(evidence: Evidence, sliced: tuple[Slicing, ...], digest: str, storage: Storage) -> None:
    """Write the scored rows under the hash of their content. Existing ones are kept."""
    if has_evidence(digest, storage):
        return
    columns: dict[str, pa.Array] = {
        "customer": pa.array(evidence.customers),
        "label": pa.array(evidence.labels.astype(np.int8)),
        "batch": pa.array(evidence.batches),
        **{flag: pa.array(getattr(evidence, flag)) for flag in FLAGS},
        **{f"{_SLICE}{column}": pa.array(codes) for column, codes in evidence.codes.items()},
        **{role: pa.array(scores) for role in SCORES if (scores := getattr(evidence, role)) is not None},
        **({} if evidence.weights is None else {_WEIGHT: pa.array(evidence.weights)}),
    }
    description = json.dumps(_described(sliced)).encode()
    table = pa.table(columns).replace_schema_metadata({_SLICINGS: description})
    with storage.scratch() as folder:
        parts = []
        for number, start in enumerate(range(0, max(table.num_rows, 1), PART_ROWS)):
            file = folder / part_name(number)
            pq.write_table(table.slice(start, PART_ROWS), file, compression="zstd")
            parts.append(WrittenPart.of(file))
        store_parts(storage, decision_rows(digest), parts)


def read_evidence(digest: str, storage: Storage) -> tuple[Evidence, tuple[Slicing, ...]]:
    """Read the scored rows of a hash. Whether they have been changed is not checked here.

    Raises:
        PartFault: a part is missing, or the list of the parts is damaged.
    """
    names = part_names(storage, decision_rows(digest))
    for name in names:
        if not storage.exists(name):
            raise PartFault(f"{name} is missing.")
    table = pa.concat_tables([storage.read_table(name) for name in names])
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
        weights=columns.get(_WEIGHT),
    )
    return evidence, tuple(sliced)


def find_evidence_faults(
    storage: Storage, ledger: Ledger, hashes: bool = False, digest_of: DigestOf = file_digest
) -> list[str]:
    """Describe what is wrong with the stored evidence of every decision, in a sentence each; empty if all is well.

    Evidence that maintenance has deleted is not reported.

    Args:
        storage: the data root.
        ledger: knows the decisions.
        hashes: also read all evidence, and check it against its hash in the ledger.
        digest_of: finds the sha256 of a file.
    """
    there = storage.names(DECISIONS)
    digests = {made.digests["evidence"]: made.night for made in ledger.outlines() if "evidence" in made.digests}
    faults = []
    for digest, night in digests.items():
        folder = decision_rows(digest)
        found = find_part_faults(storage, folder, there, hashes, None, digest_of)
        if hashes and not found and has_evidence(digest, storage) and not _is_content(digest, storage):
            found = [f"{folder} has been changed since it was written."]
        faults += [f"Run {night}: {fault} {_RESTORE}" for fault in found]
    return faults


def _is_content(digest: str, storage: Storage) -> bool:
    try:
        return digests_of(*read_evidence(digest, storage))["evidence"] == digest
    except Outage:
        raise
    except Exception:  # a damaged file fails in any of many ways
        log.exception("The evidence %s cannot be read", digest[:12])
        return False


def _described(sliced: tuple[Slicing, ...]) -> list[list[Any]]:
    return [[slicing.column, list(slicing.names), slicing.parity] for slicing in sliced]
