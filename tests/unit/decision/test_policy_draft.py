"""Thresholds follow the data: those of the bank give about the shipped policy, others their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.decision.inference import Estimate
from churn.decision.policy_draft import (
    PolicyFacts,
    Proposal,
    find_snapshot,
    measure_facts,
    present_values,
    propose_thresholds,
    write_policy,
)
from churn.decision.policy_file import Policy, PolicyInvalid
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from support.basics import ROOT, small_file

SHIPPED = (ROOT / "include/churn/promotion_policy.yaml").read_text()
BANK = PolicyFacts("ab" * 32, 10_000, 1965, 385, 0.205, Estimate.of(0.85, 0.0057), 0.107, "Age", 0.73)


def proposed(facts: PolicyFacts) -> dict[str, float]:
    return {f"{proposal.section}.{proposal.key}": proposal.value for proposal in propose_thresholds(facts)}


def test_the_data_of_the_bank_give_about_the_shipped_policy() -> None:
    """The shipped values were fitted to them."""
    shipped = present_values(SHIPPED)
    for name, value in proposed(BANK).items():
        section, key = name.split(".")
        assert value == pytest.approx(shipped[section][key], rel=0.06), name


def test_easier_data_get_a_higher_floor_and_a_higher_limit() -> None:
    """A ROC AUC of .99 is not suspicious where cross-validation reaches it; a guess needs hardly any floor."""
    easy, hard = (
        proposed(replace(BANK, roc_auc=Estimate.of(auc, 0.002), feature_auc=min(auc, 0.6))) for auc in (0.985, 0.55)
    )
    assert easy["floor.roc_auc"] > proposed(BANK)["floor.roc_auc"] > hard["floor.roc_auc"] >= 0.52
    assert 0.985 < easy["sanity.max_model_auc"] < 1


def test_rare_events_need_more_customers_and_small_files_get_smaller_numbers() -> None:
    """The class that has fewer decides; nobody is asked for more than fifty times nothing."""
    rare = proposed(replace(BANK, event_rate=0.02))
    assert rare["first_champion.min_rows"] == 5000
    common = proposed(replace(BANK, event_rate=0.98, unseen_events=1965 - 385))
    assert common["first_champion.min_rows"] == 5000
    small = propose_thresholds(replace(BANK, customers=1500, unseen=300, unseen_events=62))
    named = {f"{proposal.section}.{proposal.key}": proposal for proposal in small}
    assert named["first_champion.min_each_class"].value == 60
    assert "The first snapshot has only 62 unseen customers" in named["first_champion.min_each_class"].why
    tiny = propose_thresholds(replace(BANK, customers=100, unseen=20, unseen_events=4))
    assert tiny[0].value == 50
    assert "about 13 times its data are needed" in tiny[0].why


def test_a_feature_that_ranks_too_well_is_a_question() -> None:
    """Its limit is raised, and the comment asks whether it is known before the event."""
    (limit,) = [
        proposal
        for proposal in propose_thresholds(replace(BANK, feature="Closed", feature_auc=0.95))
        if proposal.key == "max_feature_auc"
    ]
    assert limit.value == pytest.approx(0.967)
    assert "Closed, has 0.950. Is it known before the event?" in limit.why


def test_the_proposal_is_a_policy_with_reasons() -> None:
    """Every other value is the present one, every comment stays, and each proposal says why."""
    proposals = propose_thresholds(replace(BANK, event_rate=0.05))
    text = write_policy(SHIPPED, proposals, BANK)
    policy, shipped = Policy.read(text, "draft"), Policy.read(SHIPPED, "shipped")
    assert policy.first_champion.min_rows == 2000
    assert policy.superiority == shipped.superiority
    assert policy.calibration == shipped.calibration
    assert text.count("  # ") >= SHIPPED.count("  # ") + len(proposals)
    assert "snapshot abababababab: 10,000 customers, 20.5% with the event" in text
    with pytest.raises(PolicyInvalid):
        write_policy("nothing: 1", proposals, BANK)
    with pytest.raises(PolicyInvalid, match="the proposed policy"):
        write_policy(SHIPPED, [Proposal("floor", "roc_auc", 7.0, "because")], BANK)


SAMPLING = Sampling(b"a salt of sixteen bytes or more", Here(2, "500MB"))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "data"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_what_a_model_reaches_is_measured_on_training_customers(storage: Storage, ledger: Ledger) -> None:
    """Across folds; unseen customers are only counted. Without a snapshot there is a next step."""
    with pytest.raises(ChurnError, match=r"no snapshot of accepted rows .* Next: `churn land FILE`, then `churn run`"):
        find_snapshot(ledger, storage, BANK_CHURN)
    with storage.writing("landing/bank.csv") as stream:
        stream.write(small_file(2000).encode())
    for batch in collect_arrivals(storage, ledger).batches:
        accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, IntakeLimits(0.05, Here(2, "500MB")))
    taken = take_snapshot(storage, ledger, BANK_CHURN, SAMPLING)
    assert find_snapshot(ledger, storage, BANK_CHURN).snapshot == taken.snapshot
    facts = measure_facts(taken, storage, BANK_CHURN, SAMPLING, seed=1)
    assert facts == measure_facts(taken, storage, BANK_CHURN, SAMPLING, seed=1)
    assert (facts.customers, facts.unseen) == (2000, taken.holdout_rows)
    assert 0.75 < facts.roc_auc.value < 0.95
    assert 0 < facts.unseen_events < facts.unseen
    assert facts.feature in BANK_CHURN.feature_names
    with pytest.raises(ChurnError, match="no snapshot"):
        find_snapshot(ledger, storage, replace(BANK_CHURN, name="another"))
