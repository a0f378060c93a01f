"""With more unseen customers than a comparison may use, a draw by customer decides, and it is the same in every snapshot."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.decision import evidence_draw
from churn.decision.evidence_draw import drawn_pieces, evidence_share
from churn.foundation.records import Snapshot

KEYS = np.arange(1, 60_001)


def drawn(
    monkeypatch: pytest.MonkeyPatch, share: float, salt: bytes = b"a salt", keys: np.ndarray = KEYS, pieces: int = 3
) -> set[int]:
    frames = [pd.DataFrame({"CustomerId": some}) for some in np.array_split(keys, pieces)]
    monkeypatch.setattr(evidence_draw, "holdout_pieces", lambda *_: iter(frames))
    clients = SimpleNamespace(
        storage=None,
        contract=BANK_CHURN,
        settings=SimpleNamespace(duckdb_memory_limit="200MB"),
        sampling=SimpleNamespace(salt=salt),
    )
    snapshot = Snapshot("s", 1, 1, 1, [], "", "", datetime.now(UTC))
    found = [int(key) for piece in drawn_pieces(clients, snapshot, 1000, share) for key in piece["CustomerId"]]  # type: ignore[arg-type]
    assert len(found) == len(set(found))
    return set(found)


def test_few_enough_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evidence_share(5_000_000, 5_000_000) == 1
    assert drawn(monkeypatch, 1.0) == set(KEYS.tolist())


def test_the_limit_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nearly reached."""
    share = evidence_share(len(KEYS), 10_000)
    for salt in (b"one", b"two", b"three"):
        assert 9_000 < len(drawn(monkeypatch, share, salt)) <= 10_000


def test_the_draw_is_by_customer_and_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other pieces and more customers change no draw; a smaller share takes some of the same; another salt takes others."""
    share = 0.3
    chosen = drawn(monkeypatch, share)
    assert drawn(monkeypatch, share, pieces=7) == chosen
    assert drawn(monkeypatch, share, keys=KEYS[:30_000]) == {key for key in chosen if key <= 30_000}
    assert drawn(monkeypatch, 0.1) < chosen
    assert drawn(monkeypatch, share, b"another salt") != chosen
