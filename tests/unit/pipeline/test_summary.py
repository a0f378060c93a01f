"""The summary of a run: the answer first, and nothing that buries it."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from churn.contracts.bank import BANK_CHURN
from churn.foundation.records import DecisionRecord, ImageRecord
from churn.foundation.wording import not_built
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
    """A hold lists what failed; a promotion names what it did not need; `verbose` lists every rule."""
    held, promoted = (with_rules(decisions[verdict], True, False, True) for verdict in ("hold", "promote"))
    assert "2 rules passed, 1 failed:" in rule_lines(held)
    assert "Sentence 1." in rule_lines(held)
    assert "Sentence 0." not in rule_lines(held)
    assert rule_lines(promoted) == "\n2 rules passed; not needed for this promotion: rule_1."
    assert "Sentence" not in rule_lines(promoted)
    assert all(f"Sentence {number}." in rule_lines(promoted, verbose=True) for number in range(3))


def test_a_forced_promotion_shows_what_a_person_overrode(decisions: dict[str, DecisionRecord]) -> None:
    """The failed rules are listed, because a person answers for them."""
    forced = replace(with_rules(decisions["promote"], True, False), code="FORCED")
    assert "1 rule passed, 1 failed, overridden by a person:" in rule_lines(forced)
    assert "Sentence 1." in rule_lines(forced)


def test_an_image_that_was_not_built_is_one_sentence_each() -> None:
    """Why there is none, and what was verified instead; `verbose` has the stored detail once."""
    detail = not_built("no container engine answers", "500 rows agree.")
    image = ImageRecord("churn", 1, "not_built", None, None, 3325, 0.0, detail, datetime.now(UTC))
    assert image_line(image) == (
        "Image: not built, because no container engine answers. "
        "The same service was verified in its own environment (3,325 answers compared)."
    )
    assert image_line(image, verbose=True).count("no container engine answers") == 1


def test_candidates_that_were_left_out_are_named() -> None:
    """They are why another model was selected."""
    shown = text(RunSummary("night-1", [], None, None, None, {}, [], "mine: every row gets the same score [0.5]."))
    assert "Candidates that were left out: mine: every row gets the same score [0.5]." in " ".join(shown.split())


def test_a_run_without_a_decision_says_so(decisions: dict[str, DecisionRecord]) -> None:
    """Nothing is shown in place of what is missing."""
    shown = text(RunSummary("night-1", [], None, None, None, {}, ["Look at this."]))
    assert "No decision was recorded." in shown
    assert "Look at this." in shown
    assert "left out" not in shown
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
