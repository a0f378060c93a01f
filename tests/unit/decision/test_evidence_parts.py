"""Unseen customers are read and scored part by part, and come to the same as in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.decision.evidence_parts import CannotScore, DrawnCustomers, read_facts, read_sample, score_customers
from churn.foundation.ledger import Ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.arrival import collect_arrivals
from churn.learning.snapshot import take_snapshot
from churn.learning.unseen import Unseen, holdout_pieces
from support.basics import small_file
from support.divisions import HERE, limits
from support.evidence_cases import ByRows

SALT = b"a salt of sixteen bytes or more"


@pytest.fixture
def unseen(storage: Storage, ledger: Ledger) -> Iterator[tuple[DrawnCustomers, pd.DataFrame]]:
    """The unseen customers of a snapshot, for workers and as one frame."""
    with storage.writing("landing/batch.csv") as stream:
        stream.write(small_file(2000).encode())
    (batch,) = collect_arrivals(storage, ledger).batches
    accept_batch(batch.batch, "night", storage, ledger, BANK_CHURN, limits())
    snapshot = take_snapshot(storage, ledger, BANK_CHURN, Sampling(SALT, HERE))
    whole = pd.concat(holdout_pieces(storage, snapshot, BANK_CHURN, 300), ignore_index=True)
    with storage.scratch() as scratch:
        found = Unseen.of(storage, snapshot, BANK_CHURN, scratch, HERE)
        yield DrawnCustomers(found, SALT, 1.0, "200MB", scratch), whole


def test_parts_come_to_the_whole(unseen: tuple[DrawnCustomers, pd.DataFrame]) -> None:
    """Facts, scores and samples are those of each customer, in one order."""
    customers, whole = unseen
    assert len(customers.parts) == 4
    assert len(whole) > 300
    facts = read_facts(customers, None, HERE)
    rows = pd.concat(facts)
    assert rows["_customer"].tolist() == whole["_customer"].tolist()
    assert rows["_label"].tolist() == whole["Exited"].tolist()
    scores = score_customers(customers, ByRows(), None, HERE, "Scoring")
    assert scores.tolist() == (whole["CustomerId"] / 1e9).tolist()
    only = whole["_customer"].to_numpy()[::7]
    assert score_customers(customers, ByRows(), only, HERE, "Scoring").tolist() == scores[::7].tolist()
    chosen = np.arange(len(whole)) % 5 == 0
    sample = read_sample(customers, [len(part) for part in facts], chosen, HERE)
    pd.testing.assert_frame_equal(sample, whole[chosen].reset_index(drop=True))


def test_a_share_is_drawn_by_customer(unseen: tuple[DrawnCustomers, pd.DataFrame]) -> None:
    """Facts and scores are of the same customers, in the same order."""
    customers, whole = unseen
    drawn = replace(customers, share=0.5)
    rows = pd.concat(read_facts(drawn, None, HERE))
    assert 0.35 * len(whole) < len(rows) < 0.65 * len(whole)
    of_them = whole[whole["_customer"].isin(rows["_customer"])]
    assert rows["_customer"].tolist() == of_them["_customer"].tolist()
    scores = score_customers(drawn, ByRows(), None, HERE, "Scoring")
    assert scores.tolist() == (of_them["CustomerId"] / 1e9).tolist()


def test_a_model_that_fails_is_named_by_its_error(unseen: tuple[DrawnCustomers, pd.DataFrame]) -> None:
    """Not by a traceback, and whatever part the failing row is in."""
    customers, whole = unseen
    with pytest.raises(CannotScore) as failed:
        score_customers(customers, ByRows(int(whole["CustomerId"].max()) - 1), None, HERE, "Scoring")
    assert failed.value.what == "ZeroDivisionError"


def test_no_scratch_file_is_left(unseen: tuple[DrawnCustomers, pd.DataFrame], tmp_path: Path) -> None:
    """Numbers and scores of customers are on disk only while they are handed over."""
    customers, whole = unseen
    here = Here(2, "500MB")
    before = set(customers.scratch.iterdir())
    facts = read_facts(customers, None, here)
    score_customers(customers, ByRows(), None, here, "Scoring")
    read_sample(customers, [len(part) for part in facts], np.ones(len(whole), bool), here)
    assert set(customers.scratch.iterdir()) == before
