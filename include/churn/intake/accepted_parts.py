"""The files of accepted rows of a batch, and how a worker reads one, with the bucket of each customer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation import columnar
from churn.foundation.parts import RESTORE, PartFault, check_part, read_manifest, single_file
from churn.foundation.paths import accepted
from churn.foundation.records import Batch
from churn.foundation.storage import Storage
from churn.intake.label_files import EVENT_DATE, LEAVERS, ROWS


@dataclass(frozen=True)
class AcceptedPart:
    """A file of accepted rows: its name, its sha256 (None if it is from before hashes were kept), its rows, its batch, and the batch's rank and kind."""

    name: str
    sha256: str | None
    rows: int
    batch: str
    rank: int
    kind: str = ROWS


def accepted_parts(storage: Storage, batch: Batch, rank: int) -> list[AcceptedPart]:
    """The files of a batch, whose place in the order of arrival is its rank.

    Raises:
        PartFault: their manifest has been changed.
    """
    folder, kind = accepted(batch.batch), batch.kind or ROWS
    manifest = read_manifest(storage, folder)
    if manifest is None:
        only = single_file(folder)
        return [AcceptedPart(only, batch.accepted_sha256, batch.accepted_rows or 0, batch.batch, rank, kind)]
    if batch.accepted_sha256 and manifest.digest != batch.accepted_sha256:
        raise PartFault(
            f"The manifest of {storage.url(folder)} has been changed since the batch was accepted. {_restore(batch.batch)}"
        )
    return [
        AcceptedPart(f"{folder}/{part.name}", part.sha256, part.rows, batch.batch, rank, kind)
        for part in manifest.parts
    ]


def read_accepted_part(
    connection: duckdb.DuckDBPyConnection,
    storage: Storage,
    part: AcceptedPart,
    contract: Contract,
    salt: bytes,
    rows: int,
    scratch: Path,
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a part, as `columnar.read_bucketed_rows`; the as-of column of a file of leavers is the date of the event.

    Args:
        connection: the engine.
        storage: the data root.
        part: the part.
        contract: the data contract.
        salt: the secret that assigns customers to buckets.
        rows: at most this number of rows are in a batch.
        scratch: folder for a copy of the part.

    Raises:
        PartFault: the part is missing or has been changed.
        ChurnError: it was accepted under another contract.
    """
    file = check_part(storage, part.name, part.sha256, scratch, _restore(part.batch))
    short = part.batch[:12]
    try:
        if not {contract.key.name, "_line"} <= set(pq.read_schema(file).names):
            raise ChurnError(
                f"The accepted rows of batch {short} have no column {contract.key.name}, because they were accepted under another contract. "
                f"Restore that contract, or run `churn batches withdraw {short} --reason ...`."
            )
        yield from columnar.read_bucketed_rows(
            connection, file, part.rank, contract, salt, rows, columns_of(part.kind, contract)
        )
    except columnar.OtherKind as error:
        raise ChurnError(
            f"The accepted rows of batch {short} have values of another kind than the contract {contract.name} asks for, because they were "
            f"accepted under another one. Restore that contract, or run `churn batches withdraw {short} --reason ...`."
        ) from error
    except (duckdb.InvalidInputException, duckdb.SerializationException, pa.ArrowException) as error:
        raise PartFault(f"{storage.url(part.name)} cannot be read. {_restore(part.batch)}") from error
    finally:
        if not storage.local:
            file.unlink()


def columns_of(kind: str, contract: Contract) -> dict[str, str] | None:
    """Columns of the contract that have another name in files of a kind."""
    return {contract.as_of.name: EVENT_DATE} if contract.as_of and kind == LEAVERS else None


def _restore(batch: str) -> str:
    return f"{RESTORE} Or withdraw its batch: `churn batches withdraw {batch[:12]} --reason ...`."
