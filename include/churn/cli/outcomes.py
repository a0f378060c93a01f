"""The command for outcomes: whether later rows confirmed promotions, and what became of lists."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from rich.table import Table

from churn.cli.terminal import AsJson, console, explained, print_json
from churn.outcomes.states import State
from churn.pipeline.workspace import Workspace


@explained
def outcomes(as_json: AsJson = False) -> None:
    """Show what happened after promotions and lists: confirmed or refuted, realised lift, and the effect of being listed."""
    from churn.review.outcomes import load_outcomes

    workspace = Workspace.open()
    view = load_outcomes(workspace.ledger, workspace.settings, datetime.now(UTC))
    if as_json:
        print_json(asdict(view))
        return
    console.print(f"{view.headline} {view.detail}", markup=False)
    if view.promotions:
        table = Table("version", "promoted", "later rows say", "rows", "gain over the version before", box=None)
        for row in view.promotions:
            gains = "; ".join(
                f"{gain.measure} {gain.later.value:+.4f} ({gain.later.lower:+.4f} to {gain.later.upper:+.4f})"
                for gain in row.gains
            )
            unknown = "no earlier version" if row.state == State.NOT_COMPARABLE else "not known yet"
            table.add_row(str(row.version), f"{row.promoted_at:%Y-%m-%d}", row.words, f"{row.rows:,}", gains or unknown)
        console.print(table)
    if view.lists:
        table = Table("list", "campaign", "labels known", "lift", "effect of being listed", box=None)
        for line in view.lists:
            effect = (
                f"{line.effect.value:+.1%} ({line.effect.lower:+.1%} to {line.effect.upper:+.1%}) fewer left"
                if line.effect and line.tells
                else "cannot tell yet"
            )
            lift = "not known yet" if line.lift is None else f"{line.lift:.2f}"
            table.add_row(line.list_id[:12], line.campaign, f"{line.known:,} of {line.of:,}", lift, effect)
        console.print(table)
