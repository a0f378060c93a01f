"""The summary of a run in a terminal: what a person wants to know first, on one screen."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from churn.contract import Contract
from churn.decision.comparison import Comparison
from churn.decision.formatting import METRIC_NAMES, SMALLER_IS_BETTER
from churn.decision.reasons import Reason
from churn.foundation.records import Batch, DecisionRecord, ImageRecord, Promotion
from churn.foundation.wording import KIND_WORDS, why_not_built
from churn.review.presentation import counted

COLOURS = {"promote": "green", "hold": "yellow"}
IMAGE_STATES = {
    "published": "published",
    "mismatch": "differs from the model",
    "faulty": "not published",
    "failed": "could not be built",
    "pruned": "removed from this machine",
}


@dataclass(frozen=True)
class RunSummary:
    """Everything that the ledger knows of one run, and where to look further (title to URL).

    `left_out` names the candidates that could not be used, each with the reason; empty if there are none.
    """

    night: str
    batches: list[Batch]
    decision: DecisionRecord | None
    promotion: Promotion | None
    image: ImageRecord | None
    links: dict[str, str]
    flags: list[str]
    left_out: str = ""


def render_run(summary: RunSummary, contract: Contract, verbose: bool = False) -> RenderableType:
    """A run as a panel: verdict and reason, metrics, failed rules, production and image.

    Args:
        summary: the run.
        contract: names the target.
        verbose: also every rule, and the full description of the image.
    """
    decision = summary.decision
    parts: list[RenderableType] = [_batches(summary.batches)]
    if decision:
        parts += [
            _verdict(decision),
            metrics_table(decision, contract),
            rule_lines(decision, verbose),
        ]
    else:
        parts.append("[red]No decision was recorded.[/red]")
    parts.append(f"\n{production_line(summary.promotion)}\n{image_line(summary.image, verbose)}")
    if summary.left_out:
        parts.append(f"[yellow]Candidates that were left out: {escape(summary.left_out)}[/]")
    parts += [f"[bold red]{escape(flag)}[/]" for flag in summary.flags]
    return Panel(Group(*parts), title=escape(summary.night), title_align="left")


def render_links(links: dict[str, str]) -> str:
    """Pages to look at, each on a line of its own, since a wrapped link cannot be followed.

    Without an MLflow server (a SQLite store), there is no page to open, and the store is not printed as one.
    """
    return "\n".join(
        f"{title}: {url}" for title, url in links.items() if url.startswith(("http://", "https://", "file://"))
    )


def batch_table(batches: list[Batch]) -> Table:
    """Batches with their counts."""
    table = Table("batch", "file", "state", box=None, pad_edge=False)
    for title in ("arrived", "accepted", "quarantined", "unlabelled"):
        table.add_column(title, justify="right")
    for batch in batches:
        counts = (batch.arrived_rows, batch.accepted_rows, batch.quarantined_rows, batch.unlabelled_rows)
        numbers = ["-" if count is None else f"{count:,}" for count in counts]
        table.add_row(batch.batch[:12], escape(batch.name), batch.state, *numbers)
    return table


def rule_lines(decision: DecisionRecord, verbose: bool = False) -> str:
    """The rules that failed, with their sentences, and how many passed; with `verbose`, every rule.

    Rules that a promotion did not need are only named: they belong to the route into production that was not taken.
    """
    failed = [rule for rule in decision.rules if not rule["passed"]]
    heading = f"\n{counted(len(decision.rules) - len(failed), 'rule')} passed"
    if failed and decision.verdict == "promote" and decision.code != Reason.FORCED:
        heading += f"; not needed for this promotion: {', '.join(rule['name'] for rule in failed)}"
        failed = []
    overridden = ", overridden by a person" if decision.code == Reason.FORCED else ""
    marks = {True: "[green]passed[/]", False: "[red]failed[/]"}
    lines = [
        f"  {marks[bool(rule['passed'])]} {rule['name']}: {escape(rule['sentence'])}"
        for rule in (decision.rules if verbose else failed)
    ]
    return "\n".join([f"{heading}, {len(failed)} failed{overridden}:" if failed else f"{heading}.", *lines])


def production_line(promotion: Promotion | None) -> str:
    """What is in production, in one line."""
    if promotion is None or promotion.version is None:
        return "In production: nothing."
    since = f"{promotion.promoted_at:%Y-%m-%d %H:%M} UTC"
    return f"In production: [bold]version {promotion.version}[/], since {since} ({KIND_WORDS.get(promotion.kind, promotion.kind)})."


def image_line(image: ImageRecord | None, verbose: bool = False) -> str:
    """The state of the image of the version in production, in one line; with `verbose`, its description."""
    if image is None:
        return "Image: none yet."
    compared = f"{image.probes:,} answers compared" if image.probes else ""
    if image.state == "not_built":
        if verbose:
            return f"Image: {escape(image.detail)}"
        probes = f" ({compared})" if compared else ""
        why = escape(why_not_built(image.detail))
        return f"Image: not built, because {why}. The same service was verified in its own environment{probes}."
    state = IMAGE_STATES.get(image.state, image.state)
    tag = f" as {image.tag}" if image.tag else ""
    line = f"Image: {state}{tag}{f', {compared}' if compared else ''}."
    problem = image.state in ("mismatch", "faulty", "failed")
    return f"{line} {escape(image.detail)}" if verbose or problem else line


def _batches(batches: list[Batch]) -> RenderableType:
    if not batches:
        return "Nothing new arrived. The challenger was trained on the rows of earlier batches."
    reasons = [f"[red]{escape(batch.reason)}[/red]" for batch in batches if batch.reason]
    warnings = [
        f"[yellow]{escape(f'{batch.name}: {warning}')}[/yellow]"
        for batch in batches
        for warning in batch.warnings or []
    ]
    return Group(batch_table(batches), *reasons, *warnings)


def _verdict(decision: DecisionRecord) -> str:
    colour = COLOURS[decision.verdict]
    dry_run = " (dry run: nothing was changed)" if decision.dry_run else ""
    return f"\n[bold {colour}]{decision.verdict.upper()}[/] {decision.code}{dry_run}: {escape(decision.sentence)}"


def metrics_table(decision: DecisionRecord, contract: Contract) -> RenderableType:
    """The metrics of both models, with the difference and its interval."""
    comparison = Comparison.from_dict(decision.comparison)
    figures = comparison.evidence
    if not figures.challenger:
        return "\nNothing was compared."
    table = Table(
        "metric",
        f"challenger v{comparison.case.challenger}",
        f"champion v{comparison.case.champion}" if comparison.case.champion else "no champion",
        "difference",
        "95% interval",
        box=None,
        pad_edge=False,
    )
    for metric, challenger in figures.challenger.items():
        champion, delta = figures.champion.get(metric), figures.deltas.get(metric)
        interval = delta or challenger
        sign = "+" if delta else ""
        table.add_row(
            METRIC_NAMES[metric] + (" (smaller is better)" if metric in SMALLER_IS_BETTER else ""),
            f"{challenger.value:.4f}",
            f"{champion.value:.4f}" if champion else "-",
            f"{delta.value:+.4f}" if delta else "-",
            f"{interval.lower:{sign}.4f} to {interval.upper:{sign}.4f}",
        )
    heading = f"\n{figures.rows:,} unseen customers, {figures.events:,} of them {contract.event_in_words}:"
    return Group(heading, table)
