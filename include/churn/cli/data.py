"""The commands for data: batches, quarantine, snapshots, audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from churn.cli.terminal import USUAL_LIMIT, AsJson, Limit, console, explained, newest, print_json
from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.records import Batch, Sighting
from churn.pipeline.workspace import Workspace

batches_app = typer.Typer(
    help="List batches; subcommands inspect, withdraw and restore them.", invoke_without_command=True
)
quarantine_app = typer.Typer(no_args_is_help=True, help="Quarantined rows: show, export, repair, release.")
snapshot_app = typer.Typer(no_args_is_help=True, help="Snapshots: the exact sets of rows that trainings used.")

Hash = Annotated[str, typer.Argument(help="The hash of the batch, or its beginning.")]
Reason = Annotated[
    str, typer.Option(help="The reason, which is kept in the ledger and shown with the versions trained on the batch.")
]


@batches_app.callback()
@explained
def batches(
    context: typer.Context,
    state: Annotated[
        Literal["arrived", "accepted", "rejected", "withdrawn"] | None, typer.Option(help="Only batches in this state.")
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="List every file that was ever seen, including repeated ones.")
    ] = False,
    limit: Limit = USUAL_LIMIT,
    as_json: AsJson = False,
) -> None:
    """List the files that arrived, and what became of them."""
    from churn.pipeline.summary import batch_table

    if context.invoked_subcommand:
        return
    ledger = Workspace.open().ledger
    rows = ledger.batches(state=state)
    if files:
        _print_files(ledger.sightings(), rows, limit, as_json)
        return
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        console.print(
            batch_table(newest(rows, limit, last=True)) if rows else "No file has arrived yet. Next: `churn land FILE`."
        )


@batches_app.command("show")
@explained
def show_batch(batch: Hash, as_json: AsJson = False) -> None:
    """Show a batch: counts, broken rules, warnings, drift, the files that contained it, withdrawals."""
    from churn.intake.table_rules import MEASURES
    from churn.pipeline.summary import batch_table

    workspace = Workspace.open()
    ledger = workspace.ledger
    record = ledger.find_batch(batch)
    drift = ledger.drift(record.batch)
    details = {
        "batch": asdict(record),
        "sightings": [asdict(sighting) for sighting in ledger.sightings(record.batch)],
        "drift": [asdict(column) for column in drift],
        "withdrawals": [asdict(change) for change in ledger.withdrawals(record.batch)],
        "snapshots": [taken.snapshot for taken in ledger.snapshots() if record.batch in taken.batches],
    }
    if as_json:
        print_json(details)
        return
    console.print(batch_table([record]))
    for line in filter(None, [record.reason, *(record.warnings or [])]):
        console.print(line, markup=False)
    if record.rules:
        console.print(_rule_table(record, workspace.contract))
    if drift:
        table = Table("column", "PSI", "limit", "measure", "drifted", box=None)
        for column in drift:
            measure = f"{MEASURES[column.measure]} {column.value:.3f}"
            drifted = "yes" if column.drifted else ""
            table.add_row(column.column, f"{column.psi:.3f}", f"{column.bound:.2f}", measure, drifted)
        console.print(table)
    for sighting in ledger.sightings(record.batch):
        console.print(f"Seen as {sighting.name}, written {sighting.arrived_at:%Y-%m-%d %H:%M:%S}", markup=False)
    for change in ledger.withdrawals(record.batch):
        console.print(f"{change.kind.capitalize()} {change.at:%Y-%m-%d %H:%M:%S}: {change.reason}", markup=False)


@batches_app.command("withdraw")
@explained
def withdraw(batch: Hash, reason: Reason) -> None:
    """Remove a batch from all future snapshots, and flag every version that was trained on it."""
    from churn.release.withdrawal import say_flags, withdraw_batch

    workspace = Workspace.open()
    record = workspace.ledger.find_batch(batch)
    done = withdraw_batch(record, reason, workspace.ledger, workspace.tracking)
    trained = ", ".join(map(str, done.versions)) or "none"
    console.print(
        f"Batch {record.batch[:12]} ({record.name}) has been withdrawn. Versions trained on it: {trained}.",
        markup=False,
    )
    for line in say_flags(done.champion, workspace.ledger, workspace.settings.model_name) if done.champion else []:
        console.print(line, style="bold red", markup=False)


@batches_app.command("restore")
@explained
def restore(batch: Hash, reason: Reason) -> None:
    """Return a withdrawn batch to future snapshots, and remove its flags."""
    from churn.release.withdrawal import restore_batch

    workspace = Workspace.open()
    record = workspace.ledger.find_batch(batch)
    restore_batch(record, reason, workspace.ledger, workspace.tracking)
    console.print(f"Batch {record.batch[:12]} ({record.name}) is accepted again.", markup=False)


@batches_app.command("rejudge")
@explained
def rejudge(batch: Hash) -> None:
    """Let the next run judge a rejected batch again, under the present limits."""
    ledger = Workspace.open().ledger
    record = ledger.find_batch(batch)
    if not ledger.reopen_batch(record.batch):
        raise ChurnError(f"Batch {record.batch[:12]} is {record.state}. Only a rejected batch can be judged again.")
    console.print(f"Batch {record.batch[:12]} ({record.name}) will be judged by the next run.", markup=False)


@quarantine_app.command("show")
@explained
def show_quarantine(
    batch: Hash,
    raw: Annotated[bool, typer.Option(help="Print the rows themselves. This is customer data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the rules that rows of a batch broke, how often, and the first lines. With --raw, print the rows."""
    from churn.intake.quarantine import quarantined_rows

    workspace = Workspace.open()
    record = workspace.ledger.find_batch(batch)
    if not raw:
        rules = [{"rule": rule, "rows": rows, "lines": lines} for rule, rows, lines in record.rules or []]
        if as_json:
            print_json(rules)
        else:
            console.print(
                _rule_table(record, workspace.contract)
                if rules
                else f"{record.quarantined_rows or 0} rows. {record.reason or ''}"
            )
        return
    rows = quarantined_rows(workspace.storage, record)
    if as_json:
        print_json(list(rows))
        return
    for row in rows:
        console.print(
            f"{row['_line']}: {row['_raw']}  [{', '.join(map(str, row['_failed']))}]", markup=False, soft_wrap=True
        )


@quarantine_app.command("export")
@explained
def export(
    batch: Hash,
    out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file to write. It contains customer data.")],
) -> None:
    """Write the quarantined rows of a batch to a CSV file, to be repaired in an editor and released."""
    from churn.intake.quarantine import export_rows

    workspace = Workspace.open()
    record = workspace.ledger.find_batch(batch)
    rows = export_rows(workspace.storage, record, workspace.contract, out)
    console.print(
        f"{rows} rows in {out}. Repair them or delete them, then run: churn quarantine release {record.batch[:12]} {out}",
        soft_wrap=True,
        markup=False,
    )


@quarantine_app.command("release")
@explained
def release(
    batch: Hash, file: Annotated[Path, typer.Argument(help="CSV file with repaired rows of that batch.")]
) -> None:
    """Land repaired rows as a new batch that remembers its origin. The next run judges it."""
    from churn.intake.quarantine import release_rows

    workspace = Workspace.open()
    record = workspace.ledger.find_batch(batch)
    part_size = workspace.settings.part_size
    new = release_rows(workspace.storage, workspace.ledger, record, workspace.contract, file, part_size)
    console.print(f"Batch {new.batch[:12]} repairs rows of {record.batch[:12]}. The next run judges it.", markup=False)


@snapshot_app.command("list")
@explained
def list_snapshots(limit: Limit = USUAL_LIMIT, as_json: AsJson = False) -> None:
    """List the snapshots, newest first: each with its rows, its batches, and when it was taken."""
    rows = Workspace.open().ledger.snapshots()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("snapshot", "taken", box=None)
    for title in ("rows", "training", "holdout", "batches"):
        table.add_column(title, justify="right")
    for row in newest(rows, limit):
        counts = (row.rows, row.training_rows, row.holdout_rows, len(row.batches))
        table.add_row(row.snapshot[:12], f"{row.made_at:%Y-%m-%d %H:%M:%S}", *map(str, counts))
    console.print(table if rows else "No snapshot has been taken yet. Next: `churn run`.")


@snapshot_app.command("rebuild")
@explained
def rebuild(snapshot: Annotated[str, typer.Argument(help="The hash of the snapshot, or its beginning.")]) -> None:
    """Rebuild a snapshot from the ledger, and check that it has the same rows."""
    from churn.learning.snapshot import rebuild_snapshot, snapshot_url

    workspace = Workspace.open()
    matches = [taken for taken in workspace.ledger.snapshots() if taken.snapshot.startswith(snapshot)]
    if len(matches) != 1:
        raise ChurnError(f"{len(matches)} snapshots begin with {snapshot}. `churn snapshot list` shows all.")
    rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, matches[0])
    console.print(
        f"The same {matches[0].rows} rows: {snapshot_url(workspace.storage, matches[0])}", soft_wrap=True, markup=False
    )


@explained
def audit(
    hashes: Annotated[
        bool, typer.Option(help="Also read every original and every part, and check it against its hash.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that arrived = accepted + quarantined for every batch and every file of current customers, and that every file and every part of a table is there."""
    from churn.pipeline.audit import audit_data

    workspace = Workspace.open()
    losses = audit_data(workspace, hashes)
    judged, scored = workspace.ledger.batches(), workspace.ledger.populations()
    if as_json:
        print_json({"batches": len(judged), "populations": len(scored), "losses": losses})
    for loss in losses if not as_json else []:
        console.print(loss, style="red", markup=False, soft_wrap=True)
    if losses:
        if not as_json:
            console.print(
                "Unless a line has its own next step: restore what is missing or changed from a backup of the data root, or "
                "withdraw the batch: `churn batches withdraw HASH --reason ...`.",
                markup=False,
            )
        raise typer.Exit(1)
    if not as_json:
        arrived, quarantined = (
            sum(getattr(batch, name) or 0 for batch in judged) for name in ("arrived_rows", "quarantined_rows")
        )
        console.print(
            f"{len(judged)} batches, {arrived:,} rows arrived: {arrived - quarantined:,} accepted, {quarantined:,} quarantined. "
            f"{len(scored)} files of current customers: {sum(row.arrived_rows or 0 for row in scored):,} arrived, "
            f"{sum(row.quarantined_rows or 0 for row in scored):,} quarantined. Every file is where it should be."
        )


def _print_files(seen: list[Sighting], batches: list[Batch], limit: int, as_json: bool) -> None:
    by_hash = {batch.batch: batch for batch in batches}
    rows = [
        asdict(sighting) | {"state": by_hash[sighting.batch].state} for sighting in seen if sighting.batch in by_hash
    ]
    if as_json:
        print_json(rows)
        return
    table = Table("written", "file", "batch", "state", box=None)
    for row in newest(rows, limit, last=True):
        table.add_row(f"{row['arrived_at']:%Y-%m-%d %H:%M:%S}", escape(row["name"]), row["batch"][:12], row["state"])
    console.print(table if rows else "No file has been seen yet. Next: `churn land FILE`.")


def _rule_table(batch: Batch, contract: Contract) -> Table:
    from churn.intake.rule_words import in_words

    table = Table("rule", "rows", "first lines", "", box=None)
    for rule, rows, lines in batch.rules or []:
        table.add_row(rule, str(rows), ", ".join(map(str, lines)), in_words(rule, contract))
    return table
