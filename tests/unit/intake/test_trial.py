"""A file is tried as intake would judge it, with the same counts, and nothing of it is kept."""

from __future__ import annotations

import io

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.contracts.loading import load_contract
from churn.intake.trial import Trial, try_file
from churn.sample.fault_injection import cell_faults, plant_faults
from churn.sample.generator import Night, make_night
from support.basics import ROOT, small_file
from support.coded_contract import CODED
from support.divisions import limits
from support.judged_files import judge
from support.panels import PANEL

LIMITS = limits()
FAULTS = cell_faults(BANK_CHURN)


def trial(text: str | bytes, contract=BANK_CHURN) -> Trial:  # type: ignore[no-untyped-def]
    return try_file(io.BytesIO(text if isinstance(text, bytes) else text.encode()), contract, LIMITS)


def test_a_good_file_would_be_accepted() -> None:
    """With every expectation met, and no next step."""
    tried = trial(small_file(200))
    assert (tried.reason, tried.arrived, tried.accepted, tried.quarantined) == (None, 200, 200, 0)
    assert (tried.rules, tried.failed, tried.warnings, tried.notes) == ([], [], [], [])
    assert tried.expectations > 40


def test_the_rules_that_rows_break_are_counted_as_intake_counts_them() -> None:
    """Few faults are quarantined; the same rules and lines as in the ledger."""
    data, expected = plant_faults(small_file(400), BANK_CHURN, FAULTS[:6], range(10, 70, 10))
    tried = trial(data)
    assert (tried.reason, tried.quarantined) == (None, len(expected))
    assert {line: rule.rule for rule in tried.rules for line in rule.lines} == expected
    assert tried.quarantined == judge(data).counts.set_aside
    assert all(rule.meaning for rule in tried.rules)


def test_too_many_faults_would_reject_the_batch() -> None:
    """The reason has the counts and a next step that fits a file that is only tried."""
    data, _ = plant_faults(small_file(100), BANK_CHURN, FAULTS[:10], range(0, 100, 10))
    tried = trial(data)
    assert tried.reason is not None
    assert "10 of 100 rows broke a rule (10.0%, limit 5.0%). Fix the file or the contract" in tried.reason
    assert "rejudge" not in tried.reason


@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1,2\n", "Columns are missing"), ("", "is empty"), (small_file(1).splitlines()[0] + "\n", "no rows")],
)
def test_a_file_that_cannot_be_read_says_why(text: str, words: str) -> None:
    """As the batch would."""
    tried = trial(text)
    assert words in str(tried.reason)
    assert (tried.arrived, len(tried.rules)) == (0, 1)


def test_one_class_would_reject_the_batch() -> None:
    """Rules for the batch as a whole apply."""
    text = make_night(CODED, Night(rows=100, first_customer=1, seed=1)).replace(",Yes\n", ",No\n")
    tried = trial(text, CODED)
    assert "Churn is No in all 100 rows (each customer kept the contract), and nothing" in str(tried.reason)


def test_the_suite_covers_texts_that_stand_for_numbers() -> None:
    """Great Expectations checks the numbers of the accepted rows."""
    tried = trial(make_night(CODED, Night(rows=100, first_customer=1, seed=1)), CODED)
    assert (tried.reason, tried.failed) == (None, [])


@pytest.mark.skipif(
    not (ROOT.parent / "shared/data/Telco-Customer-Churn.csv").exists(),
    reason="the public Telco file is not beside the project",
)
def test_the_telco_file_is_accepted_as_it_is_published() -> None:
    """Every row, under the contract that ships."""
    data = (ROOT.parent / "shared/data/Telco-Customer-Churn.csv").read_bytes()
    tried = trial(data, load_contract("telco.yaml", ROOT))
    assert (tried.reason, tried.accepted, tried.events) == (None, 7043, 1869)


def test_labels_that_come_apart_are_tried_too() -> None:
    """With the rules that need no earlier batch: a file of leavers says that a part of it is lost."""
    labels = trial("Customer,AsOf,Left\n1,2026-01-01,1\n2,2026-01-01,\n", PANEL)
    assert (labels.kind, labels.accepted, labels.quarantined) == ("labels", 1, 1)
    whole = "Customer,event_date,complete_through,rows\n1,2026-01-02,2026-01-31,2\n2,2026-01-05,2026-01-31,2\n"
    leavers = trial(whole, PANEL)
    assert (leavers.kind, leavers.reason) == ("leavers", None)
    assert leavers.summary == "2 rows of leavers: 2 would be accepted, 0 quarantined."
    lost = trial(whole.rsplit("2,2026", 1)[0], PANEL)
    assert lost.reason is not None
    assert "says that it has 2 rows, and 1 arrived" in lost.reason
