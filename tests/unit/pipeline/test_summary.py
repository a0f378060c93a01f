"""The summary of a run: the answer first, and nothing that buries it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from churn.contracts.bank import BANK_CHURN
from churn.foundation.records import DecisionRecord
from churn.pipeline.summary import RunSummary, image_line, production_line, render_links, render_run, rule_lines
from support.review_ledger import forty_nights


@pytest.fixture(scope="module")
def decisions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DecisionRecord]:
    """A decision of each verdict."""
    ledger = forty_nights(Path(tmp_path_factory.mktemp("summary")))
    return {decision.verdict: decision for decision in ledger.decisions(limit=None)}


def text(summary: RunSummary, verbose: bool = False) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(render_run(summary, BANK_CHURN, verbose))
    return console.export_text()


def with_rules(decision: DecisionRecord, *passed: bool) -> DecisionRecord:
    rules = [
        {
            "name": f"rule_{number}",
            "code": "X",
            "passed": ok,
            "value": 1.0,
            "bound": 2.0,
            "sentence": f"Sentence {number}.",
        }
        for number, ok in enumerate(passed)
    ]
    return replace(decision, rules=rules)


def test_a_run_fits_one_screen(decisions: dict[str, DecisionRecord]) -> None:
    """Verdict, reason, metrics, production and image, in at most 40 lines."""
    for verdict, decision in decisions.items():
        shown = text(RunSummary(decision.night, [], decision, None, None, {}, []))
        assert f"{verdict.upper()} {decision.code}" in shown
        assert "unseen customers" in shown
        assert "In production: nothing." in shown
        assert len(shown.splitlines()) <= 40


def test_only_failed_rules_are_listed(decisions: dict[str, DecisionRecord]) -> None:
    """A hold lists what failed; a promotion counts it; `verbose` lists every rule."""
    held, promoted = (with_rules(decisions[verdict], True, False, True) for verdict in ("hold", "promote"))
    assert "2 rules passed, 1 failed:" in rule_lines(held)
    assert "Sentence 1." in rule_lines(held)
    assert "Sentence 0." not in rule_lines(held)
    assert "1 failed, but was not needed for this promotion" in rule_lines(promoted)
    assert "Sentence" not in rule_lines(promoted)
    assert all(f"Sentence {number}." in rule_lines(promoted, verbose=True) for number in range(3))


def test_a_run_without_a_decision_says_so(decisions: dict[str, DecisionRecord]) -> None:
    """Nothing is shown in place of what is missing."""
    shown = text(RunSummary("night-1", [], None, None, None, {}, ["Look at this."]))
    assert "No decision was recorded." in shown
    assert "Look at this." in shown
    assert image_line(None) == "Image: none yet."
    assert production_line(None) == "In production: nothing."


def test_only_links_that_can_be_opened_are_printed() -> None:
    """A SQLite store has no page in MLflow."""
    links = {
        "Review": "http://airflow/night",
        "Comparison": "sqlite:////var/mlflow.db/#/runs/1",
        "Data Docs": "file:///docs",
    }
    assert render_links(links) == "Review: http://airflow/night\nData Docs: file:///docs"
