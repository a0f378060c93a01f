"""The first page of a batch: its counts, the rules that rows broke, and the verdict of each expectation."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from churn.contract import Contract
from churn.intake.rule_words import BrokenRule, example_lines, in_words
from churn.intake.validation import FACTS, RESULT, ROWS, Judgement, Outcome

INDEX, PICTURE = "index.html", "drift.svg"
OF_ARRIVED_ROWS = frozenset({"batch.rejected_share", "batch.accepted_rows", "batch.size"})
"""The rules for a batch that need no accepted row."""
_PAGES = {
    ROWS: "Great Expectations: the accepted rows, checked again",
    FACTS: "Great Expectations: the batch as a whole",
}


def write_index(
    batch: str,
    verdict: Judgement | None,
    sentences: Sequence[str],
    docs: Path,
    contract: Contract,
    broken: Sequence[BrokenRule],
    run_page: str | None = None,
) -> None:
    """Write the first page of a batch, which needs no script. The one of Great Expectations loads scripts from a content network.

    Args:
        batch: hash of the batch.
        verdict: the verdict; None if the file could not be read and there was nothing to judge.
        sentences: what to say about the batch.
        docs: the folder of the Data Docs.
        contract: the data contract.
        broken: the rules that rows of the batch broke.
        run_page: the page of the run that judged it.
    """
    back = f'<p><a href="{escape(run_page)}" target="_top">The run that judged it</a></p>' if run_page else ""
    head, results = _results(verdict, docs, contract, broken) if verdict else ("the file cannot be read", "")
    (docs / INDEX).write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Batch {batch[:12]}</title>'
        "<style>body{font:15px sans-serif;margin:2em;max-width:70em}td,th{padding:.1em 1em .1em 0;text-align:left}</style>"
        f"<h1>Batch {batch[:12]}: {head}</h1><ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
        f"{_broken_rules(broken, contract)}{back}{results}</html>"
    )


def _broken_rules(broken: Sequence[BrokenRule], contract: Contract) -> str:
    """The rules that rows broke, with their number and the first lines."""
    if not broken:
        return ""
    rows = "".join(
        f"<tr><td>{escape(rule)}</td><td>{escape(in_words(rule, contract))}</td><td>{count:,}</td>"
        f"<td>{escape(example_lines(count, lines))}</td></tr>"
        for rule, count, lines in broken
    )
    head = "<tr><th>Rule</th><th>Meaning</th><th>Rows</th><th>Examples</th></tr>"
    return f"<h2>Rules that rows broke</h2><table>{head}{rows}</table>"


def _results(verdict: Judgement, docs: Path, contract: Contract, broken: Sequence[BrokenRule]) -> tuple[str, str]:
    """The verdict in a few words, and the links, the picture and the table of rules."""
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.glob("validations/**/*.html"))
    links = "".join(f'<li><a href="{quote(page)}">{_PAGES[page.split("/")[1]]}</a></li>' for page in pages)
    links += f'<li><a href="{RESULT}">Results as JSON</a></li>'
    failed = len(verdict.failures)
    head = (
        f"rejected, {failed} of {len(verdict.outcomes)} expectations failed"
        if failed
        else "all critical expectations are met"
    )
    quarantined = {rule: count for rule, count, _ in broken}
    judged = bool({rule for outcome in verdict.outcomes for rule in outcome.rules} & set(contract.rules))
    ranked = sorted(
        verdict.outcomes,
        key=lambda outcome: (outcome.holds, not outcome.critical, not quarantined.keys() & set(outcome.rules)),
    )
    rows = "".join(
        f"<tr><td>{_state(outcome, quarantined, judged)}</td>"
        f"<td>{escape(', '.join(outcome.rules) or 'the table')}</td><td>{escape(outcome.description)}</td></tr>"
        for outcome in ranked
    )
    covered = {rule for outcome in verdict.outcomes for rule in outcome.rules}
    rows += "".join(
        f"<tr><td>{'broken' if rule in quarantined else 'not judged'}</td><td>{escape(rule)}</td><td>no row was accepted</td></tr>"
        for rule in contract.rules
        if rule not in covered
    )
    picture = f'<h2>Drift</h2><img src="{PICTURE}" alt="Drift of each column, compared with the accepted history">'
    return head, (
        f"<h2>Validation results</h2><ul>{links}</ul>{picture if (docs / PICTURE).exists() else ''}"
        f"<h2>Rules</h2><table>{rows}</table>"
    )


def _state(outcome: Outcome, quarantined: dict[str, int], judged: bool) -> str:
    """The state of an expectation; of one about accepted rows, if none was judged, that it was not judged either."""
    if not outcome.holds:
        return "FAILED" if outcome.critical else "warning"
    if not judged and not set(outcome.rules) <= OF_ARRIVED_ROWS:
        return "not judged"
    rows = sum(quarantined.get(rule, 0) for rule in outcome.rules)
    return f"{rows:,} row{'' if rows == 1 else 's'} quarantined" if rows else "holds"
