"""A ledger and data root of release 0.1 are opened, migrated, audited and replayed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from churn.contracts.bank import BANK_CHURN
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.replay import record_digest, replay
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.sampling import Sampling
from churn.foundation.schema import HEAD
from churn.foundation.spread import Here
from churn.foundation.storage import Storage
from churn.intake.audit import find_losses
from churn.learning.snapshot import rebuild_snapshot
from churn.release.lineage import anchor_with, predecessor
from support.basics import ROOT
from support.evidence_cases import TEXT

FIXTURE = ROOT / "tests/fixtures/ledger-0.1"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text())
SALT = b"fixture-of-ledger-0.1-keeps-no-secret"


@pytest.fixture
def old(tmp_path: Path) -> tuple[Ledger, Storage]:
    """The ledger of release 0.1, opened and thereby migrated, and its data root."""
    shutil.copytree(FIXTURE, tmp_path / "old")
    return open_ledger(f"sqlite:///{tmp_path}/old/ledger.db"), Storage.open(str(tmp_path / "old/data"))


ADDED_SINCE = {Reason.CHAMPION_MISSING}
"""The codes that release 0.1 did not have."""


def test_the_ledger_is_migrated_and_loses_no_row(old: tuple[Ledger, Storage], tmp_path: Path) -> None:
    """Every table has the rows that it had, at the present schema."""
    ledger, _ = old
    assert (EXPECTED["schema"], ledger.schema()) == ("0006", HEAD)
    with sqlite3.connect(tmp_path / "old/ledger.db") as database:
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 -- our own names
            for table in EXPECTED["rows"]
        }
    assert counts == EXPECTED["rows"]


def test_every_decision_is_replayed_to_the_same_result(old: tuple[Ledger, Storage]) -> None:
    """The same verdict, reason and numbers, for every reason code that release 0.1 could give."""
    ledger, storage = old
    records = {record.night: record for record in ledger.decisions(limit=None)}
    replays = {night: replay(record, storage) for night, record in records.items()}
    assert {night: replayed.faults for night, replayed in replays.items() if not replayed.same} == {}
    replayed = {(night, str(made.decision.verdict), str(made.decision.code)) for night, made in replays.items()}
    assert replayed == {(row["night"], row["verdict"], row["code"]) for row in EXPECTED["decisions"]}
    assert {record.code for record in records.values()} == set(EXPECTED["codes"]) == set(Reason) - ADDED_SINCE
    assert {record.rules_version for record in records.values()} == {None}


def test_forceability_is_what_it_was(old: tuple[Ledger, Storage]) -> None:
    """The enum of reasons keeps what release 0.1 said of each code."""
    assert {row["code"]: row["forceable"] for row in EXPECTED["decisions"]} == {
        reason.value: reason.forceable for reason in set(Reason) - ADDED_SINCE
    }


def test_a_sentence_may_be_improved_and_a_number_may_not(old: tuple[Ledger, Storage]) -> None:
    """Other wording of a rule is no difference; another value or bound is."""
    ledger, storage = old
    record = next(record for record in ledger.decisions(limit=None) if record.code == "INFERIOR")
    reworded = [rule | {"sentence": "Better words."} for rule in record.rules]
    again = replace(record, rules=reworded)
    again = replace(again, digests=record.digests | {"record": record_digest(again)})
    assert replay(again, storage).faults == []
    for part in ("value", "bound"):
        rules = [rule | ({part: 9.75} if rule["name"] == "inferior_roc_auc" else {}) for rule in record.rules]
        changed = replace(record, rules=rules)
        changed = replace(changed, digests=record.digests | {"record": record_digest(changed)})
        (fault,) = replay(changed, storage).faults
        assert fault.startswith("RULES")
        assert f"the {part} of inferior_roc_auc" in fault


def test_a_field_added_later_does_not_change_an_old_digest(old: tuple[Ledger, Storage]) -> None:
    """A record without the version of the rules is hashed as before; with one, the version is protected too."""
    ledger, storage = old
    record = ledger.decisions(limit=1)[0]
    assert record_digest(record) == record.digests["record"]
    claimed = replace(record, rules_version=1)
    assert any(fault.startswith("RECORD") for fault in replay(claimed, storage).faults)


def test_another_policy_is_applied_to_old_evidence(old: tuple[Ledger, Storage]) -> None:
    """`churn replay --policy` works on the decisions of release 0.1."""
    ledger, storage = old
    record = next(record for record in ledger.decisions(limit=None) if record.code == "NO_CHAMPION")
    strict = TEXT.replace("roc_auc: 0.70", "roc_auc: 0.99").replace("min_rows: 500", "min_rows: 50")
    strict = strict.replace("min_each_class: 100", "min_each_class: 5")
    again = replay(record, storage, strict)
    assert (again.decision.verdict, again.decision.code, again.faults) == ("hold", "BELOW_FLOOR", [])


def test_every_policy_is_still_read(old: tuple[Ledger, Storage]) -> None:
    """A key that was added later has a default, so that old policies stay valid."""
    ledger, _ = old
    texts = {record.policy for record in ledger.decisions(limit=None) if record.code != "POLICY_INVALID"}
    assert len(texts) > 1
    for text in texts:
        assert Policy.read(text, "an old policy")


def test_the_audit_finds_every_row(old: tuple[Ledger, Storage]) -> None:
    """Every row that arrived is accepted or quarantined, and a missing file is noticed."""
    ledger, storage = old
    assert find_losses(storage, ledger, hashes=True) == []
    accepted = next(batch for batch in ledger.batches() if batch.state == "accepted")
    storage.remove(f"accepted/{accepted.batch}.parquet")
    assert len(find_losses(storage, ledger, hashes=True)) == 1


def test_snapshots_keep_their_batches(old: tuple[Ledger, Storage]) -> None:
    """They were hashes, and are ranges of arrivals now."""
    ledger, _ = old
    with sqlite3.connect(FIXTURE / "ledger.db") as database:
        before = dict(database.execute("SELECT snapshot, batches FROM snapshots").fetchall())
    after = {taken.snapshot: taken.batches for taken in ledger.snapshots()}
    assert after == {name: json.loads(hashes) for name, hashes in before.items()}
    with sqlite3.connect(ledger._engine.url.database) as database:
        kept = [json.loads(text) for (text,) in database.execute("SELECT batches FROM snapshots")]
    assert all(isinstance(item, list) for batches in kept for item in batches)


def test_a_snapshot_is_rebuilt_under_its_old_name(old: tuple[Ledger, Storage]) -> None:
    """The contract of today gives the same rows, and so the same name."""
    ledger, storage = old
    snapshot = ledger.snapshots(limit=1)[0]
    storage.remove(f"snapshots/{snapshot.snapshot}.parquet")
    rebuild_snapshot(storage, ledger, BANK_CHURN, Sampling(SALT, Here(2, "1GB")), snapshot)
    assert storage.exists(f"snapshots/{snapshot.snapshot}.parquet")


def test_production_is_what_it_was(old: tuple[Ledger, Storage]) -> None:
    """Every kind of promotion is read, with its predecessor and its baseline version."""
    ledger, _ = old
    rows = ledger.promotions("churn")
    assert [row.kind for row in rows[::-1]] == [row["kind"] for row in EXPECTED["promotions"]]
    assert sorted({row.kind for row in rows}) == EXPECTED["promotion_kinds"]
    assert (rows[0].version, ledger.freeze("churn") is not None) == (EXPECTED["in_production"], EXPECTED["frozen"])
    assert predecessor(rows) is not None
    assert anchor_with(rows[0].version, rows) == rows[0].anchor
