"""The commands for data contracts: draft one from a file, and judge a file against one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json
from churn.errors import ChurnError
from churn.settings import Settings

contract_app = typer.Typer(
    no_args_is_help=True, help="Data contracts: draft one from a file, check a file against one."
)
DataFile = Annotated[Path, typer.Argument(help="CSV, gzipped CSV or Parquet.")]


@contract_app.command("draft")
@explained
def draft(
    file: DataFile,
    python: Annotated[bool, typer.Option("--python", help="Write Python instead of YAML.")] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the contract. By default from the name of the file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The file to write, for example contracts/mine.yaml. By default it is printed."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Propose a contract from a file, with the questions that only the owner of the data can answer as comments.

    The draft lists no value of a customer: of a text only levels that many rows share, and bounds are rounded.
    """
    from churn.intake.batch_file import FileFault
    from churn.intake.draft_text import as_python, as_yaml
    from churn.intake.drafting import draft_contract, slug
    from churn.intake.file_columns import read_columns

    if as_json and (python or out):
        raise ChurnError("--json prints the draft as data. Leave out --python and --out.")
    if out is not None and out.exists():
        raise ChurnError(f"{out} exists. Nothing was written. Name another file, or delete it first.")
    with file.open("rb") as stream:
        try:
            columns = read_columns(stream)
        except FileFault as fault:
            raise ChurnError(f"No contract can be proposed from {file}: {fault.sentence}") from fault
    proposed = draft_contract(columns, slug(name or file.name.partition(".")[0]))
    if as_json:
        print_json(asdict(proposed))
        return
    text = as_python(proposed) if python else as_yaml(proposed)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        check = f"churn contract check {file} --contract {out}"
        console.print(f"{out}: answer the questions in it, then run: {check}", markup=False, soft_wrap=True)


@contract_app.command("check")
@explained
def check(
    file: DataFile,
    contract: Annotated[
        str | None, typer.Option(help="A YAML or Python file, or module:NAME. By default the contract of the settings.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a file against a contract, and print what would happen to it. Nothing is written.

    Exits with 1 if the batch would be rejected. Rules that compare a batch with earlier ones are not applied.
    """
    from churn.intake.table_rules import IntakeLimits
    from churn.intake.trial import try_file

    settings = Settings.load(**_override(contract))
    with file.open("rb") as stream:
        trial = try_file(stream, settings.contract, IntakeLimits.of(settings))
    if as_json:
        print_json(asdict(trial) | {"rejected": trial.reason is not None})
    else:
        verdict = f"rejected: {trial.reason}" if trial.reason else "accepted."
        console.print(f"Under the contract {trial.contract}, the file would be {verdict}", markup=False, soft_wrap=True)
        if trial.arrived:
            console.print(trial.summary)
            share = f"{trial.rejected_share:.1%} of the labelled rows broke a rule; the limit is {trial.limit:.1%}."
            left = f" Of the accepted customers, {trial.events:,} {settings.contract.event_in_words}."
            console.print(share + ("" if trial.kind == "leavers" else left))
            met = trial.expectations - len(trial.failed) - len(trial.warnings)
            console.print(f"Great Expectations: {met} of {trial.expectations} expectations are met.")
        if trial.arrived and trial.rules:
            table = Table("rule", "rows", "first lines", "", box=None)
            for rule in trial.rules:
                table.add_row(rule.rule, f"{rule.rows:,}", ", ".join(map(str, rule.lines)), rule.meaning)
            console.print(table)
        for line in (*trial.warnings, *trial.notes):
            console.print(line, markup=False, soft_wrap=True)
    if trial.reason:
        raise typer.Exit(1)


def _override(contract: str | None) -> dict[str, str]:
    """The contract that an option names. A file is searched in the present folder first."""
    if contract is None:
        return {}
    place, _, name = contract.partition(".py:")
    file = Path(f"{place}.py" if name else place)
    return {"contract": f"{file.resolve()}{':' + name if name else ''}" if file.is_file() else contract}
