"""The ledger on SQLite and PostgreSQL: every write can be repeated, and of two concurrent promotions one succeeds."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import IntegrityError

from churn.decision.history import suspect_batches
from churn.foundation.ledger import Ledger, LedgerError, LedgerOfAnother, PromotionConflict, open_ledger, read_ledger
from churn.foundation.migrations import LedgerTooNew
from churn.foundation.records import (
    Approval,
    BatchVerdict,
    Confirmation,
    DecisionOutline,
    DecisionRecord,
    ImageRecord,
    Look,
    Promotion,
    Snapshot,
    Thaw,
    VersionRecord,
)
from churn.foundation.schema import HEAD, metadata
from churn.review.data import load_batch, load_data
from churn.review.images import load_images
from churn.review.night_list import load_nights
from churn.review.nights import load_night
from churn.review.overview import load_overview
from support.review_ledger import NOW as REVIEWED
from support.review_ledger import SETTINGS, batch_hash, fill_ledger, night_name

NOW = datetime(2026, 1, 2, tzinfo=UTC)
numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
    else:
        database: Callable[[str], str] = request.getfixturevalue("postgres")
        yield database(f"ledger_{next(numbers)}")


def change(version: int | None, night: str, kind: str = "promotion") -> Promotion:
    return Promotion("churn", 0, version, None, kind, night, "because", datetime.now(UTC), anchor=version)


@pytest.fixture
def ledger(url: str) -> Ledger:
    return open_ledger(url)


def test_the_migrations_create_the_tables_of_the_schema(url: str) -> None:
    """schema.py and the migrations agree; opening the ledger twice changes nothing."""
    open_ledger(url)
    open_ledger(url)
    with sa.create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_ledger_of_a_later_release_is_refused_and_left_as_it_is(url: str) -> None:
    """A person who returns to an earlier release after an upgrade reads what to do, and not an error of the migrations."""
    open_ledger(url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerTooNew, match=rf"schema 9999.*up to {HEAD}.*backup"):
        open_ledger(url)
    assert read_ledger(url).schema() == "9999"
    engine.dispose()


def test_many_processes_can_open_a_new_ledger_at_once(url: str) -> None:
    """Eight processes that open an empty database create one schema."""
    with ThreadPoolExecutor(8) as pool:
        assert all(ledger.batches() == [] for ledger in pool.map(open_ledger, [url] * 8))


def test_a_batch_is_stored_once_in_order_of_arrival(ledger: Ledger) -> None:
    """The same hash is one row; arrivals are numbered without gaps."""
    assert ledger.add_batch("a", "one.csv", 1, NOW)
    assert not ledger.add_batch("a", "another.csv", 1, NOW)
    assert ledger.add_batch("b", "two.csv", 1, NOW)
    assert [(batch.batch, batch.arrival, batch.name) for batch in ledger.batches()] == [
        ("a", 1, "one.csv"),
        ("b", 2, "two.csv"),
    ]
    assert ledger.batches()[0].arrived_at == NOW


def test_concurrent_claims_store_each_file_once(url: str) -> None:
    """If eight processes claim the same twenty batches, each batch is stored by one of them."""
    ledgers = [open_ledger(url) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        added = pool.map(
            lambda ledger: sum(ledger.add_batch(f"batch {number}", "x", 1, NOW) for number in range(20)), ledgers
        )
        assert sum(added) == 20
    assert sorted(batch.arrival for batch in ledgers[0].batches()) == list(range(1, 21))


def test_row_counts_that_do_not_add_up_are_rejected(ledger: Ledger) -> None:
    """The database itself checks that arrived = accepted + quarantined."""
    ledger.add_batch("a", "one.csv", 1, NOW)
    with pytest.raises(IntegrityError):
        ledger.judge_batch("a", "night", BatchVerdict("accepted", 10, 8, 1))
    assert ledger.batches()[0].state == "arrived"


def test_a_verdict_is_final(ledger: Ledger) -> None:
    """A batch that has been judged is not judged again."""
    ledger.add_batch("a", "one.csv", 1, NOW)
    ledger.judge_batch("a", "night", BatchVerdict("accepted", 10, 8, 2))
    ledger.judge_batch("a", "later", BatchVerdict("rejected", 10, 0, 10, reason="no"))
    assert (ledger.batches()[0].state, ledger.batches()[0].night) == ("accepted", "night")


def test_a_promotion_is_compare_and_set(ledger: Ledger) -> None:
    """Only a caller that read the current champion can replace it; a repeated call returns the same row."""
    first = ledger.promote(change(1, "night 1"), None)
    assert ledger.promote(change(1, "night 1"), None) == first
    with pytest.raises(PromotionConflict, match="version 1"):
        ledger.promote(change(2, "night 2"), None)
    second = ledger.promote(change(2, "night 2"), 1)
    assert (second.sequence, second.previous) == (2, 1)
    assert ledger.promote(change(1, "night 1"), None) == first
    assert ledger.in_production("churn") == second


def test_of_many_concurrent_promotions_one_succeeds(url: str) -> None:
    """Twenty processes replace the same champion: one promotion, nineteen conflicts."""
    open_ledger(url).promote(change(1, "night 1"), None)
    ledgers = [open_ledger(url) for _ in range(20)]

    def promote(number: int) -> bool:
        try:
            ledgers[number].promote(change(number + 2, f"night {number + 2}"), 1)
        except PromotionConflict:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(promote, range(20))) == 1
    assert len(ledgers[0].promotions("churn")) == 2


def test_what_was_in_production_at_a_time_is_one_query(ledger: Ledger) -> None:
    """Nothing before the first promotion, then the first version, then the second."""
    first = ledger.promote(change(1, "night 1"), None)
    second = ledger.promote(change(2, "night 2"), 1)
    moment = timedelta(microseconds=1)
    assert ledger.in_production("churn", first.promoted_at - moment) is None
    assert ledger.in_production("churn", second.promoted_at - moment) == first
    assert ledger.in_production("churn", second.promoted_at) == second


def test_snapshots_and_images_can_be_stored_repeatedly(ledger: Ledger) -> None:
    """The same snapshot is one row; the latest state of an image counts."""
    snapshot = Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW)
    ledger.add_snapshot(snapshot)
    ledger.add_snapshot(replace(snapshot, batches=["a", "b"], made_at=NOW + timedelta(days=1)))
    assert ledger.snapshot("s") == replace(snapshot, batches=["a", "b"])
    image = ImageRecord("churn", 1, "not_built", None, None, 220, 0.0, "no engine", NOW)
    ledger.record_image(image)
    ledger.record_image(replace(image, state="published", max_difference=None))
    assert ledger.image("churn", 1) == replace(image, state="published", max_difference=None)


def test_a_freeze_lasts_until_a_person_thaws_it(ledger: Ledger) -> None:
    """Each rollback turns automatic promotion off, and each thaw turns it on again."""
    ledger.promote(change(1, "night 1"), None)
    ledger.promote(change(2, "night 2"), 1)
    assert ledger.freeze("churn") is None
    rollback = ledger.promote(change(1, "back", "rollback"), 2)
    assert ledger.freeze("churn") == rollback
    ledger.promote(change(3, "forced", "forced"), 1)
    assert ledger.freeze("churn") == rollback
    for _ in range(2):
        ledger.thaw(Thaw("churn", rollback.sequence, "mended", "Ann", NOW))
    assert ledger.freeze("churn") is None
    second_rollback = ledger.promote(change(1, "back again", "take_back"), 3)
    assert ledger.freeze("churn") == second_rollback


def test_looks_are_counted_by_calendar_night_and_epoch(ledger: Ledger) -> None:
    """The same look is counted once, another one is the next of its night, and a new epoch or night begins at 0."""
    look = Look("churn", "a", 1, "2026-01-02", 0, "night", NOW)
    first = ledger.take_look(look)
    assert ledger.take_look(replace(look, night="retry")) == first
    assert ledger.take_look(replace(look, look="b")).position == 1
    assert ledger.take_look(replace(look, look="c", calendar_night="2026-01-03")).position == 0
    assert ledger.take_look(replace(look, look="d", epoch=2)).position == 0
    assert ledger.take_look(replace(look, look="e")).position == 2


def test_concurrent_looks_get_different_positions(url: str) -> None:
    """Two concurrent runs do not both spend the first share of the error budget."""
    ledgers = [open_ledger(url) for _ in range(8)]

    def look(number: int) -> int:
        return ledgers[number].take_look(Look("churn", f"look {number}", 1, "2026-01-02", 0, "night", NOW)).position

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(look, range(8))) == list(range(8))


def test_the_record_of_a_version_and_the_first_answer_are_final(ledger: Ledger) -> None:
    """A second registration with other files and a second answer change nothing."""
    ledger.add_snapshot(Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW))
    version = VersionRecord("churn", 1, "night", "run", "s", "hash", NOW)
    assert ledger.add_version(version) == version
    assert ledger.add_version(replace(version, artifacts="other")) == version
    ledger.add_decision(decision("night"))
    approval = Approval("night", "rejected", "Ann", "no", NOW)
    assert ledger.answer(approval) == approval
    assert ledger.answer(replace(approval, answer="approved")) == approval


def test_a_decision_is_open_until_it_is_answered_or_followed_by_another(ledger: Ledger) -> None:
    """Only the last decision waits for approval, and dry runs never do."""
    ledger.add_snapshot(Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW))
    ledger.add_decision(decision("night 1", approval=True))
    ledger.add_decision(decision("dry", approval=True, dry_run=True, decided_at=NOW + timedelta(hours=1)))
    assert [decision.night for decision in ledger.open_decisions("churn")] == ["night 1"]
    ledger.add_decision(decision("night 2", approval=True, decided_at=NOW + timedelta(days=1)))
    assert [decision.night for decision in ledger.open_decisions("churn")] == ["night 2"]
    ledger.answer(Approval("night 2", "approved", "Ann", "yes", NOW))
    assert ledger.open_decisions("churn") == []


def decision(night: str, **changes: object) -> DecisionRecord:
    record = DecisionRecord(
        night, "churn", 2, 1, "s", "promote", "SUPERIOR", "better", [], {}, "", False, None, "run", NOW
    )
    return replace(record, **changes)


def test_the_error_about_an_unavailable_ledger_hides_its_password() -> None:
    """The error names the setting to check, and hides the password."""
    with pytest.raises(LedgerError, match="CHURN_LEDGER_URL") as error:
        open_ledger("postgresql+psycopg2://churn:hunter2@127.0.0.1:1/churn")
    assert "hunter2" not in str(error.value)


def test_a_read_only_ledger_serves_the_review_and_rejects_writes(url: str) -> None:
    """Every view of the review works on either database; the connection itself rejects writes."""
    fill_ledger(url, 12)
    reader = read_ledger(url)
    assert reader.schema() == HEAD
    name = night_name(reader, 1)
    night = load_night(reader, SETTINGS, name)
    assert night is not None
    assert {metric.metric for metric in night.metrics} == {"roc_auc", "pr_auc", "brier", "log_loss"}
    assert night.changes
    assert "Version 1" in load_overview(reader, SETTINGS, REVIEWED).headline
    lines = load_nights(reader, SETTINGS, limit=5)
    assert [line.challenger for line in lines.lines] == [12, 11, 10, 9, 8]
    assert lines.lines[0].difference is not None
    older = load_nights(reader, SETTINGS, datetime.fromisoformat(lines.older or ""), limit=5)
    assert [line.challenger for line in older.lines] == [7, 6, 5, 4, 3]
    assert load_data(reader).heat is not None
    batch = load_batch(reader, SETTINGS, batch_hash(3))
    assert batch is not None
    assert batch.first is not None
    assert [image.version for image in load_images(reader, SETTINGS).lines] == [11, 6, 1]
    with pytest.raises(LedgerError):
        reader.add_batch("a", "a.csv", 1, NOW)


def test_snapshots_runs_and_batches_are_found_by_index(url: str) -> None:
    """Neither the first snapshot after a time nor a page of runs or batches needs a scan or a sort of the table."""
    fill_ledger(url, 3)
    with sa.create_engine(url).connect() as connection:
        explain = (
            "EXPLAIN QUERY PLAN"
            if connection.dialect.name == "sqlite"
            else "SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN"
        )
        for query in (
            "SELECT * FROM snapshots WHERE made_at >= '2026-01-01' ORDER BY made_at LIMIT 1",
            "SELECT night FROM decisions WHERE model = 'churn' AND decided_at < '2026-01-01' ORDER BY decided_at DESC LIMIT 9",
            "SELECT * FROM batches WHERE arrival < 9 ORDER BY arrival DESC LIMIT 9",
        ):
            plan = " ".join(str(row) for row in connection.execute(sa.text(f"{explain} {query}")))
            assert "INDEX" in plan.upper()
            assert "B-TREE" not in plan.upper()
            assert "SORT" not in plan.upper()


def test_a_ledger_belongs_to_one_contract_and_one_model(ledger: Ledger) -> None:
    """The first to open it owns it; nobody else may use it, and their attempt changes nothing."""
    ledger.claim("bank", "churn")
    ledger.claim("bank", "churn")
    for contract, model in (("telco", "churn"), ("bank", "other")):
        with pytest.raises(LedgerOfAnother, match=r"belongs to contract bank and model churn.*CHURN_LEDGER_URL"):
            ledger.claim(contract, model)
    owner = ledger.owner()
    assert owner
    assert (owner.contract, owner.model) == ("bank", "churn")


def test_a_ledger_from_before_owners_belongs_to_the_model_that_it_knows(ledger: Ledger) -> None:
    """Another model is refused, and does not become the owner."""
    ledger.promote(change(1, "night 1"), None)
    with pytest.raises(LedgerOfAnother, match="model churn"):
        ledger.claim("bank", "other")
    assert ledger.owner() is None
    ledger.claim("bank", "churn")
    assert ledger.owner()


def test_processes_that_open_a_new_ledger_at_once_agree_on_its_owner(ledger: Ledger) -> None:
    """Of two contracts, one is refused in all its processes."""

    def claim(contract: str) -> bool:
        try:
            ledger.claim(contract, "churn")
        except LedgerOfAnother:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(claim, ["bank", "telco"] * 4))
    assert sorted(results) == [False] * 4 + [True] * 4


def test_the_first_confirmation_counts(ledger: Ledger) -> None:
    """A second one changes nothing; another model has its own."""
    first = Confirmation("churn", "clean data", "Ann", NOW)
    assert ledger.confirmation("churn") is None
    assert ledger.confirm(first) == first
    assert ledger.confirm(replace(first, by="Bob")) == first
    assert ledger.confirmation("another") is None


def test_decisions_of_another_model_do_not_count(ledger: Ledger) -> None:
    """Two models in a ledger of an earlier release have champions of the same number, and a history each."""
    taken = Snapshot("s", 10, 7, 2, ["a"], "salt", "contract", NOW)
    ledger.add_snapshot(taken)
    ledger.add_decision(decision("of another", model="another", champion=1))
    assert [record.night for record in ledger.decisions(champion=1, model="another")] == ["of another"]
    assert ledger.decisions(champion=1, model="churn") == []
    assert suspect_batches(ledger, "another", taken, champion=1) == []
    assert suspect_batches(ledger, "churn", taken, champion=1) == ["a"]


def test_an_outline_says_what_the_decision_says(tmp_path: Path) -> None:
    """All decisions or those on a model or against one champion, in the same order; nothing that a decision does not have."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 12)
    every = ledger.decisions(limit=None)
    champion = every[0].champion
    names = [field.name for field in fields(DecisionOutline)]

    def outlined(rows: list[DecisionRecord]) -> list[DecisionOutline]:
        return [DecisionOutline(**{name: getattr(row, name) for name in names}) for row in rows]

    assert len(every) == 12
    assert ledger.outlines() == ledger.outlines(every[0].model) == outlined(every)
    assert ledger.outlines("another model") == []
    against = ledger.decisions(limit=None, champion=champion)
    assert 0 < len(against) < 12
    assert ledger.outlines(champion=champion) == outlined(against)
