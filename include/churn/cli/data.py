"""The commands for what arrived: batches, quarantine, snapshots, audit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json
from churn.errors import ChurnError
from churn.foundation.records import Batch, Sighting
from churn.pipeline.workspace import Workspace

batches_app = typer.Typer(help="Every file that ever arrived, and what became of it.", invoke_without_command=True)
quarantine_app = typer.Typer(no_args_is_help=True, help="Rows that were set aside: look, export, repair, release.")
snapshot_app = typer.Typer(no_args_is_help=True, help="The exact sets of rows that trainings used.")

Hash = Annotated[str, typer.Argument(help="The batch: its hash, or the beginning of it.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger and shown with what was trained on it.")]


@batches_app.callback()
@explained
def batches(
    context: typer.Context,
    state: Annotated[
        Literal["arrived", "accepted", "rejected", "withdrawn"] | None, typer.Option(help="Only those in this state.")
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="Every file that was ever seen, also those whose bytes were known already.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every file that ever arrived, and what became of it."""
    from churn.pipeline.summary import batch_table

    if context.invoked_subcommand:
        return
    ledger = Workspace.open().ledger
    rows = ledger.batches(state=state)
    if files:
        _print_files(ledger.sightings(), rows, as_json)
        return
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        console.print(batch_table(rows) if rows else "No file has arrived yet. `churn land FILE` lands one.")


@batches_app.command("show")
@explained
def show_batch(batch: Hash, as_json: AsJson = False) -> None:
    """All that is known of a batch: counts, broken rules, warnings, drift, where its bytes were seen, withdrawals."""
    from churn.intake.table_rules import MEASURES
    from churn.pipeline.summary import batch_table

    ledger = Workspace.open().ledger
    found = ledger.find_batch(batch)
    drift = ledger.drift(found.batch)
    known = {
        "batch": asdict(found),
        "sightings": [asdict(one) for one in ledger.sightings(found.batch)],
        "drift": [asdict(one) for one in drift],
        "withdrawals": [asdict(one) for one in ledger.withdrawals(found.batch)],
        "snapshots": [one.snapshot for one in ledger.snapshots() if found.batch in one.batches],
    }
    if as_json:
        print_json(known)
        return
    console.print(batch_table([found]))
    for line in filter(None, [found.reason, *(found.warnings or [])]):
        console.print(line, markup=False)
    if found.rules:
        console.print(_rule_table(found))
    if drift:
        table = Table("column", "PSI", "limit", "measure", "drifted", box=None)
        for one in drift:
            measure = f"{MEASURES[one.measure]} {one.value:.3f}"
            table.add_row(one.column, f"{one.psi:.3f}", f"{one.bound:.2f}", measure, "yes" if one.drifted else "")
        console.print(table)
    for sighting in ledger.sightings(found.batch):
        console.print(f"Seen as {sighting.name}, written {sighting.arrived_at:%Y-%m-%d %H:%M:%S}", markup=False)
    for moved in ledger.withdrawals(found.batch):
        console.print(f"{moved.kind.capitalize()} {moved.at:%Y-%m-%d %H:%M:%S}: {moved.reason}", markup=False)


@batches_app.command("withdraw")
@explained
def withdraw(batch: Hash, reason: Reason) -> None:
    """Take a batch out of all future snapshots, and flag every version that was trained on it."""
    from churn.release.withdrawal import say_flags, withdraw_batch

    workspace = Workspace.open()
    found = workspace.ledger.find_batch(batch)
    done = withdraw_batch(found, reason, workspace.ledger, workspace.tracking)
    trained = ", ".join(map(str, done.versions)) or "none"
    console.print(
        f"Batch {found.batch[:12]} ({found.name}) is withdrawn. Versions trained on it: {trained}.", markup=False
    )
    for line in say_flags(done.champion, workspace.ledger, workspace.settings.model_name) if done.champion else []:
        console.print(line, style="bold red", markup=False)


@batches_app.command("restore")
@explained
def restore(batch: Hash, reason: Reason) -> None:
    """Take a withdrawn batch back into future snapshots, and its flags off."""
    from churn.release.withdrawal import restore_batch

    workspace = Workspace.open()
    found = workspace.ledger.find_batch(batch)
    restore_batch(found, reason, workspace.ledger, workspace.tracking)
    console.print(f"Batch {found.batch[:12]} ({found.name}) is accepted again.", markup=False)


@batches_app.command("rejudge")
@explained
def rejudge(batch: Hash) -> None:
    """Have a rejected batch judged again by the next night, under the limits of now."""
    ledger = Workspace.open().ledger
    found = ledger.find_batch(batch)
    if not ledger.reopen_batch(found.batch):
        raise ChurnError(f"Batch {found.batch[:12]} is {found.state}: only a rejected batch is judged again.")
    console.print(f"Batch {found.batch[:12]} ({found.name}) waits for the next night's verdict.", markup=False)


@quarantine_app.command("show")
@explained
def show_quarantine(
    batch: Hash,
    raw: Annotated[bool, typer.Option(help="Print the rows themselves: customers' data, for your eyes only.")] = False,
    as_json: AsJson = False,
) -> None:
    """The rules that rows of a batch broke, how often, and on which lines first; with --raw the rows."""
    from churn.intake.quarantine import quarantined_rows

    workspace = Workspace.open()
    found = workspace.ledger.find_batch(batch)
    if not raw:
        rules = [{"rule": rule, "rows": rows, "lines": lines} for rule, rows, lines in found.rules or []]
        if as_json:
            print_json(rules)
        else:
            console.print(_rule_table(found) if rules else f"{found.quarantined_rows or 0} rows. {found.reason or ''}")
        return
    rows = quarantined_rows(workspace.storage, found)
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
    batch: Hash, out: Annotated[Path, typer.Option("--out", "-o", help="The CSV file to write; mind who can read it.")]
) -> None:
    """Write the rows of a batch that were set aside as CSV, to be repaired in an editor and released."""
    from churn.intake.quarantine import export_rows

    workspace = Workspace.open()
    found = workspace.ledger.find_batch(batch)
    rows = export_rows(workspace.storage, found, workspace.contract, out)
    console.print(
        f"{rows} rows in {out}. Repair them, delete the others, then: churn quarantine release {found.batch[:12]} {out}",
        soft_wrap=True,
        markup=False,
    )


@quarantine_app.command("release")
@explained
def release(
    batch: Hash, file: Annotated[Path, typer.Argument(help="CSV file of repaired rows of that batch.")]
) -> None:
    """Land repaired rows as a new batch that remembers where it came from; the next night judges it."""
    from churn.intake.quarantine import release_rows

    workspace = Workspace.open()
    found = workspace.ledger.find_batch(batch)
    new = release_rows(workspace.storage, workspace.ledger, found, workspace.contract, file)
    console.print(f"Batch {new.batch[:12]} repairs rows of {found.batch[:12]}; the next night judges it.", markup=False)


@snapshot_app.command("list")
@explained
def list_snapshots(as_json: AsJson = False) -> None:
    """Every snapshot: how many rows of how many batches, and when it was taken."""
    rows = Workspace.open().ledger.snapshots()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    table = Table("snapshot", "taken", box=None)
    for title in ("rows", "training", "holdout", "batches"):
        table.add_column(title, justify="right")
    for row in rows:
        counts = (row.rows, row.training_rows, row.holdout_rows, len(row.batches))
        table.add_row(row.snapshot[:12], f"{row.made_at:%Y-%m-%d %H:%M:%S}", *map(str, counts))
    console.print(table if rows else "No snapshot has been taken yet. `churn run` runs a night.")


@snapshot_app.command("rebuild")
@explained
def rebuild(snapshot: Annotated[str, typer.Argument(help="The snapshot: its hash, or the beginning of it.")]) -> None:
    """Make a snapshot again from what the ledger knows of it, and check that the same rows come out."""
    from churn.learning.snapshot import rebuild_snapshot, snapshot_url

    workspace = Workspace.open()
    found = [one for one in workspace.ledger.snapshots() if one.snapshot.startswith(snapshot)]
    if len(found) != 1:
        raise ChurnError(f"{len(found)} snapshots begin with {snapshot}. `churn snapshot list` has them.")
    rebuild_snapshot(workspace.storage, workspace.ledger, workspace.contract, workspace.sampling, found[0])
    console.print(
        f"The same {found[0].rows} rows: {snapshot_url(workspace.storage, found[0])}", soft_wrap=True, markup=False
    )


@explained
def audit(
    hashes: Annotated[
        bool, typer.Option(help="Also read every original and every accepted file again, and hold it against its hash.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check over everything that arrived = accepted + set aside, and that every file is where the ledger says."""
    from churn.intake.audit import find_losses

    workspace = Workspace.open()
    losses = find_losses(workspace.storage, workspace.ledger, hashes)
    judged = workspace.ledger.batches()
    if as_json:
        print_json({"batches": len(judged), "losses": losses})
    for loss in losses if not as_json else []:
        console.print(loss, style="red", markup=False, soft_wrap=True)
    if losses:
        raise typer.Exit(1)
    if not as_json:
        arrived, aside = (
            sum(getattr(batch, name) or 0 for batch in judged) for name in ("arrived_rows", "quarantined_rows")
        )
        console.print(
            f"{len(judged)} batches, {arrived} rows arrived: {arrived - aside} accepted, {aside} set aside. All is where it should be."
        )


def _print_files(seen: list[Sighting], batches: list[Batch], as_json: bool) -> None:
    known = {batch.batch: batch for batch in batches}
    rows = [asdict(one) | {"state": known[one.batch].state} for one in seen if one.batch in known]
    if as_json:
        print_json(rows)
        return
    table = Table("written", "file", "batch", "state", box=None)
    for row in rows:
        table.add_row(f"{row['arrived_at']:%Y-%m-%d %H:%M:%S}", escape(row["name"]), row["batch"][:12], row["state"])
    console.print(table if rows else "No file has been seen yet. `churn land FILE` lands one.")


def _rule_table(batch: Batch) -> Table:
    from churn.intake.quarantine import WORDS

    table = Table("rule", "rows", "first lines", "", box=None)
    for rule, rows, lines in batch.rules or []:
        table.add_row(rule, str(rows), ", ".join(map(str, lines)), WORDS.get(rule, ""))
    return table
