"""Scored rows are read as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from churn.decision.evidence_file import digests_of, read_evidence, write_evidence
from churn.foundation.storage import Storage
from support.evidence_cases import draw_scores, make_evidence


def test_evidence_survives_its_file(tmp_path: Path) -> None:
    """Scores and labels are equal to the last bit, and so are their hashes."""
    labels, scores = draw_scores(500)
    evidence = make_evidence(labels, scores, scores[::-1].copy())
    before = digests_of(evidence, ())
    storage = Storage.open(str(tmp_path))
    write_evidence(evidence, (), before["evidence"], storage)
    again, slicings = read_evidence(before["evidence"], storage)
    assert slicings == ()
    assert np.array_equal(again.challenger, evidence.challenger)
    assert np.array_equal(again.labels, evidence.labels)
    assert digests_of(again, ()) == before


def test_every_changed_score_changes_the_hash() -> None:
    """One score, by the smallest possible amount."""
    labels, scores = draw_scores(500)
    changed = scores.copy()
    changed[17] = np.nextafter(changed[17], 1)
    one, other = (digests_of(make_evidence(labels, values, scores), ()) for values in (scores, changed))
    assert {part for part in one if one[part] != other[part]} == {"evidence", "challenger"}
