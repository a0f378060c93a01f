"""With more unseen customers than a comparison may use, a draw by customer decides, and it is the same in every snapshot."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from churn.contracts.bank import BANK_CHURN
from churn.decision.evidence_draw import draw_rows, evidence_share
from churn.foundation import columnar

KEYS = np.arange(1, 60_001)


def drawn(share: float, salt: bytes = b"a salt", keys: np.ndarray = KEYS, pieces: int = 3) -> set[int]:
    found: list[int] = []
    with columnar.engine("200MB") as connection:
        for some in np.array_split(keys, pieces):
            batch = pa.record_batch({"CustomerId": pa.array(some)})
            found += draw_rows(connection, batch, BANK_CHURN, salt, share)["CustomerId"].to_pylist()
    assert len(found) == len(set(found))
    return set(found)


def test_few_enough_are_all_used() -> None:
    assert evidence_share(5_000_000, 5_000_000) == 1
    assert evidence_share(5_000_001, 5_000_000) < 1


def test_the_limit_is_not_exceeded() -> None:
    """And nearly reached."""
    share = evidence_share(len(KEYS), 10_000)
    for salt in (b"one", b"two", b"three"):
        assert 9_000 < len(drawn(share, salt)) <= 10_000


def test_the_draw_is_by_customer_and_has_a_key_of_its_own() -> None:
    """Other pieces and more customers change no draw; a smaller share takes some of the same; another salt takes others."""
    share = 0.3
    chosen = drawn(share)
    assert drawn(share, pieces=7) == chosen
    assert drawn(share, keys=KEYS[:30_000]) == {key for key in chosen if key <= 30_000}
    assert drawn(0.1) < chosen
    assert drawn(share, b"another salt") != chosen
