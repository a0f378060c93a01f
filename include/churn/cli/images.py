"""The commands for serving images: build, verify, list and prune what the image DAG creates."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Column, Table

from churn.cli.terminal import USUAL_LIMIT, AsJson, Limit, console, explained, newest, print_json
from churn.errors import ChurnError
from churn.pipeline.workspace import Workspace

image_app = typer.Typer(no_args_is_help=True, help="Serving images: build, verify, list, prune.")
Version = Annotated[int | None, typer.Option(min=1, help="By default the version in production.")]
_MB = 1_000_000


@image_app.command("build")
@explained
def build(version: Version = None) -> None:
    """Build, verify and publish the image of a version. A published image is left as it is."""
    from churn.pipeline.shipping import ship

    workspace = Workspace.open()
    record = ship(workspace, _number(workspace, version))
    console.print(f"Version {record.version}: {record.state}{f' as {record.tag}' if record.tag else ''}", markup=False)
    console.print(record.detail, markup=False)


@image_app.command("verify")
@explained
def verify(
    version: Version = None,
    url: Annotated[
        str | None, typer.Option(help="Verify the service at this address, instead of the image of the version.")
    ] = None,
) -> None:
    """Compare the image of a version, or a running service, with the registered model. Changes nothing in production."""
    from churn.decision.scoring import open_scorer
    from churn.release.image import BuiltImage
    from churn.release.image_verification import find_extremes, verify_image
    from churn.release.publishing import fetch_image, find_change, has_image
    from churn.release.service_checks import verify as ask

    workspace = Workspace.open()
    number = _number(workspace, version)
    if url and not url.startswith(("http://", "https://")):
        raise ChurnError(
            f"--url {url} is not an address. It must begin with http:// or https://, for example http://127.0.0.1:8080."
        )
    if url:
        with open_scorer(number, workspace.ledger, workspace.tracking, workspace.environments) as scorer:
            extremes = find_extremes(number, scorer, workspace)
            verification = ask(url.rstrip("/"), scorer, workspace.contract, extremes)
    else:
        image = workspace.ledger.image(workspace.settings.model_name, number)
        if image is None or not has_image(image, workspace.image_spec):
            raise ChurnError(
                f"There is no image of version {number}. Build it: `churn image build --version {number}`."
            )
        changed = find_change(image, workspace.image_spec)
        if changed:
            raise ChurnError(
                f"The image of version {number} {changed}. Build it again: `churn image build --version {number}`."
            )
        fetch_image(image, workspace.image_spec)
        verification = verify_image(BuiltImage(number, image.image_id), workspace, workspace.image_spec)
    console.print(f"Version {number}: {verification.sentence}.", markup=False)


@image_app.command("list")
@explained
def list_images(limit: Limit = USUAL_LIMIT, as_json: AsJson = False) -> None:
    """List the image of each version: state, digest, size, build, verification, and since when it has been in production."""
    workspace = Workspace.open()
    model = workspace.settings.model_name
    since = {row.version: row.promoted_at for row in reversed(workspace.ledger.promotions(model)) if row.version}
    now = workspace.ledger.in_production(model)
    rows = [
        {
            **asdict(image),
            "in_production": bool(now and now.version == image.version),
            "promoted_at": since.get(image.version),
        }
        for image in workspace.ledger.images(model)
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        console.print("No image has been built. A promotion builds one, or run `churn image build`.")
        return
    table = Table(
        "version",
        "state",
        Column("tag", overflow="fold"),
        "digest or id",
        "MB",
        "built in s",
        "answers",
        "in production",
        box=None,
    )
    for row in newest(rows, limit):
        since_when = row["promoted_at"].isoformat(sep=" ", timespec="minutes") if row["promoted_at"] else ""
        table.add_row(
            str(row["version"]),
            row["state"],
            row["tag"] or "",
            (row["digest"] or row["image_id"] or "")[:19],
            f"{row['size'] / _MB:.0f}" if row["size"] else "",
            f"{row['build_seconds']:.1f}" if row["build_seconds"] is not None else "",
            str(row["probes"]),
            ("now, since " if row["in_production"] else "last from " if since_when else "") + since_when,
        )
    console.print(table)


@image_app.command("prune")
@explained
def prune(
    keep: Annotated[
        int, typer.Option(min=1, help="Number of most recent production versions whose images are kept.")
    ] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Without it, only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove images from this machine that are no longer needed. The image in production is kept, and those of the versions most recently in production."""
    from churn.release.engine import Engine
    from churn.release.image_retention import list_stored, remove_images

    workspace = Workspace.open()
    model = workspace.settings.model_name
    engine = Engine.find(workspace.settings.container_engine)
    if engine is None:
        raise ChurnError("There is no container engine here, so there is no image to prune.")
    stored = list_stored(keep, workspace.ledger, model, engine)
    expendable = [image for image in stored if image.reason is None]
    removed = remove_images(expendable, workspace.ledger, model, engine) if yes else []
    strays = engine.remove_strays() if yes else []
    if as_json:
        print_json(
            {
                "images": [asdict(image) for image in stored],
                "removed": [image.image_id for image in removed],
                "containers": strays,
            }
        )
        return
    for image in stored:
        name = f"Version {image.version}, {image.tags[0] if image.tags else image.image_id[7:19]} ({image.size / _MB:.0f} MB)"
        if image.reason:
            what = f"is kept: it {image.reason}"
        elif image in removed:
            what = "has been removed"
        else:
            what = "is kept: a container uses it" if yes else "would be removed with --yes"
        console.print(f"{name} {what}.", markup=False)
    for name in strays:
        console.print(f"Removed container {name}, which was left by a verification that was killed.", markup=False)
    if not stored:
        console.print("There is no image of this model on this machine.")


def _number(workspace: Workspace, version: int | None) -> int:
    current = workspace.ledger.in_production(workspace.settings.model_name)
    number = version or (current.version if current else None)
    if number is None:
        raise ChurnError("Nothing is in production. Name a version with --version.")
    return number
