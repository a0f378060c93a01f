"""Scored rows are read as they were written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from churn.decision import evidence_file
from churn.decision.evidence_file import (
    digests_of,
    find_evidence_faults,
    has_evidence,
    read_evidence,
    write_evidence,
)
from churn.foundation.ledger import Ledger
from churn.foundation.parts import MANIFEST, read_manifest, remove_table
from churn.foundation.paths import decision_rows
from churn.foundation.records import DecisionRecord, Snapshot
from churn.foundation.storage import Storage
from support.evidence_cases import draw_scores, make_evidence
from support.stored_parts import change_part, change_part_and_manifest, part_file


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


def test_evidence_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than fit into a part: three parts, read in their order, with the same hashes."""
    monkeypatch.setattr(evidence_file, "PART_ROWS", 200)
    labels, scores = draw_scores(500)
    evidence = make_evidence(labels, scores, scores[::-1].copy())
    digest = digests_of(evidence, ())["evidence"]
    storage = Storage.open(str(tmp_path))
    assert not has_evidence(digest, storage)
    write_evidence(evidence, (), digest, storage)
    assert has_evidence(digest, storage)
    manifest = read_manifest(storage, decision_rows(digest))
    assert manifest is not None
    assert [part.rows for part in manifest.parts] == [200, 200, 100]
    assert digests_of(*read_evidence(digest, storage)) == digests_of(evidence, ())


def test_the_single_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """And is not written again."""
    labels, scores = draw_scores(500)
    evidence = make_evidence(labels, scores, scores[::-1].copy())
    digest = digests_of(evidence, ())["evidence"]
    storage = Storage.open(str(tmp_path))
    write_evidence(evidence, (), digest, storage)
    single = tmp_path / f"decisions/{digest}.parquet"
    part_file(storage, decision_rows(digest)).rename(single)
    storage.remove(f"{decision_rows(digest)}/{MANIFEST}")
    write_evidence(evidence, (), digest, storage)
    assert storage.names("decisions") == [f"decisions/{digest}.parquet"]
    assert digests_of(*read_evidence(digest, storage)) == digests_of(evidence, ())


def test_the_audit_names_damaged_evidence(tmp_path: Path, ledger: Ledger) -> None:
    """A changed part by its name; rows that are not those of the hash even if the manifest agrees; deleted evidence is no fault."""
    labels, scores = draw_scores(500)
    evidence = make_evidence(labels, scores, scores[::-1].copy())
    digest = digests_of(evidence, ())["evidence"]
    storage, folder = Storage.open(str(tmp_path)), decision_rows(digest)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ledger.add_snapshot(Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", now))
    decision = DecisionRecord("night 1", "churn", 2, 1, "s", "hold", "c", "s", [], {}, "", False, None, "run", now)
    ledger.add_decision(replace(decision, digests={"evidence": digest}))
    assert find_evidence_faults(storage, ledger, hashes=True) == []
    for change, place in ((change_part, f"{folder}/part-0000.parquet"), (change_part_and_manifest, folder)):
        write_evidence(evidence, (), digest, storage)
        assert find_evidence_faults(storage, ledger, hashes=True) == []
        change(storage, folder, lambda rows: rows.take(pa.array([1, 0, *range(2, 500)])))
        (fault,) = find_evidence_faults(storage, ledger, hashes=True)
        assert fault.startswith(f"Run night 1: {place} has been changed")
        remove_table(storage, folder)


def test_every_changed_score_changes_the_hash() -> None:
    """One score, by the smallest possible amount."""
    labels, scores = draw_scores(500)
    changed = scores.copy()
    changed[17] = np.nextafter(changed[17], 1)
    one, other = (digests_of(make_evidence(labels, values, scores), ()) for values in (scores, changed))
    assert {part for part in one if one[part] != other[part]} == {"evidence", "challenger"}
