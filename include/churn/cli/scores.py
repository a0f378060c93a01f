"""The commands for scores: score current customers, and list, show, compare, export and deliver the lists."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.csv
import typer
from rich.table import Table

from churn.cli.terminal import USUAL_LIMIT, AsJson, Limit, console, explained, named_now, newest, print_json, who
from churn.errors import ChurnError, NothingToDo
from churn.foundation.records import Population, ScoreList
from churn.pipeline.workspace import Workspace

scores_app = typer.Typer(no_args_is_help=True, help="Lists of scores: show, compare, export, deliver.")

ListId = Annotated[
    str | None,
    typer.Argument(metavar="[LIST]", help="The id of the list, or its beginning; by default the current one."),
]
Campaign = Annotated[str | None, typer.Option(help="Name of the campaign; by default that of the scoring policy.")]


@explained
def score(
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of current customers: the columns of the contract; a label column is ignored."),
    ] = None,
    from_accepted: Annotated[
        bool, typer.Option("--from-accepted", help="Score the newest accepted row of every customer who has not left.")
    ] = False,
    version: Annotated[int | None, typer.Option(min=1, help="By default the version in production.")] = None,
    campaign: Annotated[
        str | None, typer.Option(help="Name of the campaign, instead of that of the scoring policy.")
    ] = None,
    capacity: Annotated[
        int | None,
        typer.Option(min=0, help="Number of customers who can be contacted, instead of the scoring policy's."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Make the list and show its counts, without publishing it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score current customers, and publish the list of whom to contact."""
    from churn.pipeline.scoring_runs import make_each
    from churn.scoring.delivery import deliver_list, failures_of
    from churn.scoring.population import add_file, collect_populations
    from churn.scoring.score_list import ListRequest

    workspace = Workspace.open()
    if file and from_accepted:
        raise ChurnError("Give either a file or --from-accepted.")
    populations: list[Population | None]
    if file:
        populations = [add_file(workspace, file, waits=not dry_run)]
    elif from_accepted:
        populations = [None]
    else:
        settings = workspace.settings
        populations = [
            *collect_populations(
                workspace.storage, workspace.ledger, settings.settle_seconds, settings.part_size, workspace.spread
            )
        ]
        if not populations:
            raise NothingToDo(
                "No file of current customers has landed. Name one, use --from-accepted, or land one with `churn land --population FILE`."
            )
    landed = not (file or from_accepted)
    requests = [
        ListRequest(named_now("score"), population, version, campaign, capacity, dry_run, who(), landed)
        for population in populations
    ]
    lists, delivered, faults = [], [], []
    for made in make_each(workspace, requests):
        if isinstance(made, ChurnError):
            faults.append(str(made))
            continue
        if not dry_run:
            delivered += deliver_list(workspace, made.row)
        lists.append(asdict(made.row) | {"new": made.new})
        if not as_json:
            _print_made(workspace, made.row, made.new, dry_run)
    if as_json:
        print_json(lists)
    faults += failures_of(delivered)
    if faults:
        raise ChurnError("\n".join(dict.fromkeys(faults)))


@scores_app.command("deliver")
@explained
def deliver(name: ListId = None, campaign: Campaign = None, as_json: AsJson = False) -> None:
    """Deliver the newest list of a campaign to the database and the folder that the settings name. What was delivered stays."""
    from churn.pipeline.scoring_runs import find_list
    from churn.scoring.delivery import deliver_list, require_delivered

    workspace = Workspace.open()
    deliveries = deliver_list(workspace, find_list(workspace, name, campaign))
    if not workspace.settings.score_targets:
        raise NothingToDo("No list is delivered: neither CHURN_SCORES_URL nor CHURN_SCORES_DROP is set.")
    if as_json:
        print_json([asdict(delivery) for delivery in deliveries])
    for delivery in deliveries if not as_json else ():
        if delivery.state == "delivered":
            console.print(f"Delivered {delivery.rows:,} customers to {delivery.place}", markup=False, soft_wrap=True)
    require_delivered(deliveries)


@scores_app.command("list")
@explained
def list_lists(campaign: Campaign = None, limit: Limit = USUAL_LIMIT, as_json: AsJson = False) -> None:
    """List the published lists, newest first."""
    workspace = Workspace.open()
    rows = workspace.ledger.score_lists(workspace.settings.model_name, campaign)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        console.print("No list has been published yet. Next: `churn score FILE` or `churn score --from-accepted`.")
        return
    table = Table("list", "campaign", "version", "customers", "to contact", "control", "published", box=None)
    for row in newest(rows, limit):
        counts = [f"{count:,}" for count in (row.rows, row.contact, row.control)]
        table.add_row(row.list_id[:12], row.campaign, str(row.version), *counts, f"{row.published_at:%Y-%m-%d %H:%M}")
    console.print(table)


@scores_app.command("show")
@explained
def show_list(name: ListId = None, campaign: Campaign = None, as_json: AsJson = False) -> None:
    """Show a list: counts, groups and expected value, without any customer."""
    from churn.pipeline.scoring_runs import find_list

    workspace = Workspace.open()
    row = find_list(workspace, name, campaign)
    if as_json:
        print_json(asdict(row))
        return
    _print_list(workspace, row)


@scores_app.command("diff")
@explained
def diff(
    before: Annotated[str, typer.Argument(help="The id of the earlier list, or its beginning.")],
    after: ListId = None,
    keys: Annotated[bool, typer.Option("--keys", help="Print the keys of the customers, and not only counts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the contact group of a list differs from that of an earlier one."""
    from churn.pipeline.scoring_runs import find_list
    from churn.scoring.list_parts import key_column
    from churn.scoring.published import compare_lists

    workspace = Workspace.open()
    earlier = workspace.ledger.find_score_list(before)
    later = find_list(workspace, after, earlier.campaign)
    found = compare_lists(workspace.storage, earlier, later, key_column(workspace.contract))
    if as_json:
        counts: dict[str, Any] = {"entered": len(found.entered), "left": len(found.left), "stayed": found.stayed}
        listed = {"entered_keys": found.entered, "left_keys": found.left} if keys else {}
        print_json({"before": earlier.list_id, "after": later.list_id, "because": found.because, **counts, **listed})
        return
    console.print(
        f"{len(found.entered):,} customers entered the contact group, {len(found.left):,} left it, {found.stayed:,} stayed: {found.because}."
    )
    for sign, changed in (("+", found.entered), ("-", found.left)) if keys else ():
        for key in changed:
            console.print(f"{sign} {key}", markup=False)


@scores_app.command("export")
@explained
def export(
    name: ListId = None,
    campaign: Campaign = None,
    group: Annotated[
        Literal["contact", "control", "rest"] | None, typer.Option(help="Only the customers of this group.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first customers by rank.")] = None,
    to: Annotated[Path | None, typer.Option(help="CSV file to write; by default, standard output.")] = None,
) -> None:
    """Write the rows of a list as CSV. Without --first, in the order of the customers."""
    import pyarrow.compute as pc

    from churn.pipeline.scoring_runs import find_list
    from churn.scoring.published import first_rows, read_rows
    from churn.scoring.treatments import GROUP

    workspace = Workspace.open()
    row = find_list(workspace, name, campaign)
    pieces = iter([first_rows(workspace.storage, row, first, group)] if first else read_rows(workspace.storage, row))
    written, begun = 0, False
    target = to.open("wb") if to else sys.stdout.buffer
    try:
        for piece in pieces:
            chosen = piece.filter(pc.equal(piece[GROUP], group)) if group else piece
            pa.csv.write_csv(chosen, target, pa.csv.WriteOptions(include_header=not begun, quoting_style="needed"))
            written, begun = written + chosen.num_rows, True
    finally:
        if to:
            target.close()
    if to:
        console.print(f"{written:,} customers of list {row.list_id[:12]} were written to {to}.", soft_wrap=True)


def _print_made(workspace: Workspace, row: ScoreList, new: bool, dry_run: bool) -> None:
    if dry_run:
        console.print("Dry run: nothing was published.")
    elif not new:
        console.print("The same list has been published already. Nothing was changed.")
    _print_list(workspace, row, stored=not dry_run)


def _print_list(workspace: Workspace, row: ScoreList, stored: bool = True) -> None:
    from churn.pipeline.scoring_runs import describe_list, describe_place

    for line in [*describe_list(row), *(describe_place(workspace, row) if stored else ())]:
        console.print(line, markup=False, soft_wrap=True)
