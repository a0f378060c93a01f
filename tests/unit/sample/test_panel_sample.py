"""The sample of a panel: its files are accepted, and the truth behind its labels is known."""

from __future__ import annotations

from datetime import date

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.acceptance import accept_batch
from churn.intake.label_files import LABELS, LEAVERS, ROWS
from churn.intake.table_rules import IntakeLimits
from churn.learning.snapshot import take_snapshot
from churn.sample.panels import BANK_PANEL, make_panel, true_label
from support.panels import at_noon


@pytest.mark.parametrize("apart", [False, True], ids=["leavers", "labels"])
def test_a_panel_is_accepted_and_its_labels_become_known(storage: Storage, ledger: Ledger, apart: bool) -> None:
    """No row is lost; the rows of the first months count once their horizon has passed, and a fifth of them or so have left."""
    files = make_panel(BANK_PANEL, customers=400, months=5, seed=3, labels_apart=apart)
    assert files == make_panel(BANK_PANEL, customers=400, months=5, seed=3, labels_apart=apart)
    for number, file in enumerate(files):
        name = f"{number:064x}"
        with storage.writing(f"originals/{name}") as stream:
            stream.write(file.text.encode())
        ledger.add_batch(name, file.name, len(file.text), at_noon(file.arrives))
        accept_batch(name, "night", storage, ledger, BANK_PANEL, IntakeLimits(0.05, Here(2, "500MB")))
    batches = ledger.batches()
    assert {batch.state for batch in batches} == {"accepted"}
    assert {batch.kind for batch in batches} == {ROWS, LABELS if apart else LEAVERS}
    assert sum(batch.quarantined_rows or 0 for batch in batches) == 0
    last = files[-1].arrives if apart else date(2026, 6, 1)
    sampling = Sampling(b"a salt of sixteen bytes or more", Here(2, "500MB"))
    snapshot = take_snapshot(storage, ledger, BANK_PANEL, sampling, cutoff=last)
    months = {"2026-01-01", "2026-02-01", "2026-03-01"} if not apart else {f"2026-0{month}-01" for month in range(1, 6)}
    assert set(snapshot.complete or []) <= months
    assert snapshot.rows >= 800


def test_the_truth_behind_a_label() -> None:
    day = date(2026, 1, 1)
    assert [
        true_label(BANK_PANEL, day, event)
        for event in (None, day, date(2026, 1, 2), date(2026, 4, 1), date(2026, 4, 2))
    ] == [0, 0, 1, 1, 0]


def test_a_contract_without_a_horizon_has_no_panel() -> None:
    with pytest.raises(ChurnError, match=r"has no horizon_days.*BANK_PANEL"):
        make_panel(BANK_CHURN, 10, 2, 1)
