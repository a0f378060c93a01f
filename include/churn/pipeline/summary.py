"""What a person reads at the end of a night, in a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from churn.contract import Contract
from churn.decision.comparison import Comparison
from churn.foundation.records import Batch, DecisionRecord, ImageRecord, Promotion

GOOD = {"promote": "green", "hold": "yellow"}
PLAIN_WORDS = {
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "brier": "Brier (smaller is better)",
    "log_loss": "log loss (smaller is better)",
}


@dataclass(frozen=True)
class NightSummary:
    """Everything that the ledger knows of one night, and where to look further (title to URL)."""

    night: str
    batches: list[Batch]
    decision: DecisionRecord | None
    promotion: Promotion | None
    image: ImageRecord | None
    links: dict[str, str]
    flags: list[str]


def render_night(summary: NightSummary, contract: Contract) -> RenderableType:
    """The night as a panel."""
    parts: list[RenderableType] = [_batches(summary.batches)]
    decision = summary.decision
    if decision:
        parts += [_metrics(Comparison.from_dict(decision.comparison), contract), _verdict(decision)]
    else:
        parts.append("[red]No verdict was recorded.[/red]")
    parts.append(_production(summary.promotion, summary.image))
    parts += [f"[bold red]{escape(flag)}[/]" for flag in summary.flags]
    return Panel(Group(*parts), title=escape(summary.night), title_align="left")


def render_links(links: dict[str, str]) -> str:
    """Pages to look at, each on a line of its own: a wrapped link cannot be followed."""
    return "\n".join(f"{title}: {url}" for title, url in links.items())


def batch_table(batches: list[Batch]) -> Table:
    """Batches with their counts."""
    table = Table("batch", "file", "state", box=None, pad_edge=False)
    for title in ("arrived", "accepted", "set aside", "of them unlabelled"):
        table.add_column(title, justify="right")
    for batch in batches:
        counts = (batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows, batch.unlabelled_rows)
        numbers = ["-" if count is None else str(count) for count in counts]
        table.add_row(batch.batch[:12], escape(batch.name), batch.state, *numbers)
    return table


def _batches(batches: list[Batch]) -> RenderableType:
    if not batches:
        return "Nothing new arrived; trained on the rows that were there."
    reasons = [f"[red]{escape(batch.reason)}[/red]" for batch in batches if batch.reason]
    warnings = [
        f"[yellow]{escape(f'{batch.name}: {warning}')}[/yellow]"
        for batch in batches
        for warning in batch.warnings or []
    ]
    return Group(batch_table(batches), *reasons, *warnings)


def _metrics(comparison: Comparison, contract: Contract) -> RenderableType:
    figures = comparison.evidence
    if not figures.challenger:
        return "\nNothing was compared."
    champion = f"champion v{comparison.case.champion}" if comparison.case.champion else "no champion"
    table = Table(
        "metric",
        f"challenger v{comparison.case.challenger}",
        champion,
        "difference",
        "95 % interval",
        box=None,
        pad_edge=False,
    )
    for metric, mine in figures.challenger.items():
        theirs, delta = figures.champion.get(metric), figures.deltas.get(metric)
        table.add_row(
            PLAIN_WORDS[metric],
            f"{mine.value:.4f}",
            f"{theirs.value:.4f}" if theirs else "-",
            f"{delta.value:+.4f}" if delta else "-",
            f"{delta.lower:+.4f} to {delta.upper:+.4f}" if delta else f"{mine.lower:.4f} to {mine.upper:.4f}",
        )
    head = f"\nOn {figures.rows} unseen customers, {figures.events} with {contract.target.name} = 1:"
    return Group(head, table)


def _verdict(decision: DecisionRecord) -> RenderableType:
    colour = GOOD[decision.verdict]
    dry = " (dry run: nothing was changed)" if decision.dry_run else ""
    lines = [f"\n[bold {colour}]{decision.verdict.upper()}[/] {decision.code}{dry}: {escape(decision.sentence)}"]
    marks = [
        f"{rule['name']} [{'green' if rule['passed'] else 'red'}]{'pass' if rule['passed'] else 'FAIL'}[/]"
        for rule in decision.rules
    ]
    lines.append(f"Rules: {', '.join(marks)}")
    return Group(*lines)


def _production(promotion: Promotion | None, image: ImageRecord | None) -> str:
    if promotion is None or promotion.version is None:
        return "\nIn production: nothing."
    state = f"{image.state} - {image.detail}" if image else "no state yet"
    since = promotion.promoted_at.isoformat(sep=" ", timespec="seconds")
    state = state.removeprefix("not_built - ")
    return f"\nIn production: [bold]version {promotion.version}[/] since {since}.\nIts image: {escape(state)}"
