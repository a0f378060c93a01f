"""What `churn replay` concludes, and whose customers `churn simulate` draws."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from churn.cli import main
from churn.cli.decisions import _differs, _outcome
from churn.decision import simulation
from support.review_ledger import fill_ledger


@pytest.mark.parametrize(
    ("code", "differs"), [("SUPERIOR", False), ("NO_CHAMPION", True)], ids=["the same", "another reason"]
)
def test_another_policy_differs_by_verdict_or_reason(code: str, differs: bool) -> None:
    """Whether the stored rows are unchanged is another question."""
    record, decision = (
        SimpleNamespace(verdict="promote", code=code),
        SimpleNamespace(verdict="promote", code="SUPERIOR"),
    )
    assert _differs(cast("Any", SimpleNamespace(record=record, decision=decision))) is differs


def test_the_conclusion_counts_what_differs() -> None:
    """One decision is not "all", and another policy is named as the cause."""
    assert _outcome(0, 1, other_policy=False) == "the same result"
    assert _outcome(0, 4, other_policy=False) == "all with the same result"
    assert _outcome(2, 4, other_policy=True) == "2 with a different verdict or reason under this policy"


def test_a_simulation_begins_with_what_the_ledger_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ledger, with the bank's numbers; an option counts more than either; the first line says which."""
    monkeypatch.setenv("CHURN_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    drawn: list[simulation.Population] = []
    year = simulation.simulate_year

    def short(*arguments: Any, population: simulation.Population) -> simulation.SimulatedYear:
        drawn.append(population)
        return year(*arguments, nights=2, population=population)

    monkeypatch.setattr(simulation, "simulate_year", short)

    def simulate(*options: str) -> str:
        drawn.clear()
        picture = str(tmp_path / "page.html")
        result = CliRunner().invoke(main.app, ["simulate", "--years", "1", "--picture", picture, *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "(from the public bank file)" in simulate()
    assert set(drawn) == {simulation.BANK}
    assert not (tmp_path / "ledger.db").exists()
    fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 6, until=datetime.now(UTC))
    assert "(from the ledger)" in simulate()
    of_ledger = drawn[0]
    assert of_ledger != simulation.BANK
    assert "(from the options and the ledger)" in simulate("--churn-rate", "0.3", "--customers", "20")
    assert (drawn[0].event_rate, drawn[0].customers, drawn[0].auc) == (0.3, 20, of_ledger.auc)
    assert set(json.loads(simulate("--json"))) == set(simulation.SCENARIOS)
