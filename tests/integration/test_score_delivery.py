"""Lists are delivered whole: a reader of the database sees the list before or the new one, and a folder has its marker last."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import psycopg2
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from churn.contracts.bank import BANK_CHURN
from churn.errors import ChurnError, NothingToDo
from churn.foundation.records import ScoreList
from churn.foundation.storage import Storage, StorageError
from churn.pipeline.workspace import Workspace
from churn.scoring import database_delivery
from churn.scoring.database_delivery import (
    DatabaseRefuses,
    DatabaseUnavailable,
    DeliveryIncomplete,
    deliver_to_database,
    view_of,
)
from churn.scoring.delivery import (
    deliver_list,
    deliver_to,
    find_delivered,
    find_targets,
    remove_delivered,
    require_delivered,
)
from churn.scoring.drop_delivery import deliver_to_drop
from support.basics import ROOT, S3, free_port, make_workspace, start_fork, wait_for_exit
from support.stored_lists import store_list


@pytest.fixture
def bench(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "bench", "http://127.0.0.1:9")


@pytest.fixture
def database(postgres: Callable[[str], str], tmp_path: Path) -> str:
    return postgres(tmp_path.name)


def listed(bench: Workspace, number: int, rows: int = 500, campaign: str = "retention") -> ScoreList:
    folder = Path(bench.settings.data_root).parent
    return store_list(bench.storage, bench.ledger, number, folder, rows, campaign)


def deliver(bench: Workspace, row: ScoreList, url: str, view: str = "churn_scores") -> int:
    return deliver_to_database(bench.storage, row, url, BANK_CHURN, view, lambda: True)


def query(url: str, text: str) -> list[Any]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]
    finally:
        engine.dispose()


def statement(url: str, text: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(text))
    engine.dispose()


def test_the_view_shows_the_list(bench: Workspace, database: str) -> None:
    """Every value as in the files; delivered again, nothing changes."""
    row = listed(bench, 1)
    for _ in range(2):
        assert deliver(bench, row, database) == 500
        found = query(database, "SELECT * FROM churn_scores ORDER BY rank")
        files = [bench.storage.read_table(name) for name in bench.storage.names(f"scores/{row.list_id}")[1:]]
        assert found == [tuple(line.values()) for table in files for line in table.to_pylist()]
    assert query(database, "SELECT count(*) FROM pg_inherits") == [(1,)]


def test_a_list_that_was_superseded_while_it_waited_is_not_shown(bench: Workspace, database: str) -> None:
    """The ledger is asked once no other delivery is at work; nothing of the older list is kept."""
    old, new = listed(bench, 1), listed(bench, 2)
    deliver(bench, new, database)
    waiting = with_targets(bench, database)
    with pytest.raises(NothingToDo, match="A newer list of campaign retention was published"):
        deliver_to(waiting, find_targets(waiting)[0], old)
    assert deliver_list(waiting, new)[0].rows == 500
    assert query(database, "SELECT DISTINCT list_id FROM churn_scores") == [(new.list_id,)]
    assert query(database, "SELECT count(*) FROM pg_inherits") == [(1,)]
    assert bench.ledger.deliveries(old.list_id) == []


def test_the_table_of_an_earlier_version_gets_the_column_that_it_lacks(bench: Workspace, database: str) -> None:
    """And a list of an earlier version, which has no such column, is still delivered."""
    first, second, third = (listed(bench, number) for number in (1, 2, 3))
    deliver(bench, first, database)
    statement(database, "DROP VIEW churn_scores; ALTER TABLE churn_score_rows DROP COLUMN first_list")
    statement(database, f"CREATE VIEW churn_scores AS SELECT * FROM churn_score_rows WHERE list_id = '{first.list_id}'")  # noqa: S608
    assert deliver(bench, second, database) == 500
    counted = "SELECT count(*), count(first_list) FROM churn_scores"
    assert query(database, counted) == [(500, 50)]
    for name in bench.storage.names(f"scores/{third.list_id}"):
        if name.endswith(".parquet"):
            path = bench.storage.path(name)
            pq.write_table(pq.read_table(path).drop_columns(["first_list"]), path)
    assert deliver(bench, third, database) == 500
    assert query(database, counted) == [(500, 0)]


def test_the_effect_of_a_campaign_is_counted_by_the_query_of_the_documentation(bench: Workspace, database: str) -> None:
    """By the first delivery: of 25 customers in the contact group nobody left, of 25 in the control group all, whatever a later list says."""
    page = (ROOT / "docs/pages/using-the-scores.md").read_text()
    (effect,) = re.findall(r"    (SELECT first_group.*?;)\n", page, re.DOTALL)
    deliver(bench, listed(bench, 1), database)
    statement(
        database,
        """UPDATE churn_score_rows SET "group" = 'control' WHERE "group" = 'contact' AND rank % 2 = 0""",
    )
    statement(
        database,
        """CREATE TABLE outcomes AS SELECT "CustomerId", (rank % 2 = 0)::int AS left_within_horizon FROM churn_score_rows""",
    )
    deliver(bench, listed(bench, 2), database)
    statement(
        database,
        """UPDATE churn_score_rows SET "CustomerId" = "CustomerId" - 1000000 WHERE "CustomerId" > 2000000""",
    )
    found = {group: (int(count), float(share)) for group, count, share in query(database, effect)}
    assert found == {"contact": (25, 0.0), "control": (25, 1.0)}
    assert query(database, "SELECT campaign, customers FROM churn_score_lists") == [("retention", 500)] * 2


def test_a_campaign_has_a_view_of_its_own(bench: Workspace, database: str) -> None:
    assert view_of("retention", "retention") == "churn_scores"
    assert view_of("spring_2026", "retention") == "churn_scores_spring_2026"
    deliver(bench, listed(bench, 1), database)
    deliver(bench, listed(bench, 2, 50, "spring"), database, "churn_scores_spring")
    assert query(database, "SELECT count(*) FROM churn_scores") == [(500,)]
    assert query(database, "SELECT count(*) FROM churn_scores_spring") == [(50,)]


def test_a_reader_always_sees_one_whole_list(bench: Workspace, database: str) -> None:
    """Over 50 switches, with a delivery that is killed after a statement between them: never no row, two lists, or a part of one."""
    sizes = {}
    first = listed(bench, 1, 101)
    sizes[first.list_id] = first.rows
    deliver(bench, first, database)
    seen: list[tuple[str, int]] = []
    faults: list[str] = []
    done = threading.Event()

    def read() -> None:
        engine = sa.create_engine(database)
        with engine.connect() as connection:
            while not done.is_set():
                rows = connection.execute(
                    sa.text("SELECT list_id, count(*), max(rank) FROM churn_scores GROUP BY list_id")
                ).all()
                connection.rollback()
                if len(rows) != 1 or rows[0][1] != sizes[rows[0][0]] or rows[0][2] != rows[0][1]:
                    faults.append(repr(rows))
                seen.append((rows[0][0], rows[0][1]) if rows else ("", 0))
        engine.dispose()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(2, 52):
            row = listed(bench, number, 100 + number)
            sizes[row.list_id] = row.rows
            if number % 4 == 0:  # after each of the twelve statements once
                killed = start_fork(lambda row=row, number=number: _die_after(number // 4, bench, row, database))  # type: ignore[misc]
                assert wait_for_exit(killed) == -signal.SIGKILL
            assert deliver(bench, row, database) == row.rows
    finally:
        done.set()
        reader.join()
    assert faults == []
    assert len(dict(seen)) > 10


def _die_after(statements: int, bench: Workspace, row: ScoreList, url: str) -> None:
    """Deliver a list, and be killed after a number of statements."""

    class Dying(psycopg2.extensions.cursor):  # type: ignore[misc]
        count = 0

        def execute(self, *arguments: Any) -> None:
            super().execute(*arguments)
            Dying.count += 1
            if Dying.count == statements:
                os.kill(os.getpid(), signal.SIGKILL)

    connect = psycopg2.connect
    psycopg2.connect = lambda **options: connect(**options, cursor_factory=Dying)
    deliver(bench, row, url)


def test_a_database_that_does_not_answer_is_an_outage(bench: Workspace) -> None:
    """The message names the address without the password, and the next step."""
    row = listed(bench, 1)
    url = f"postgresql+psycopg2://bank:geheim@127.0.0.1:{free_port()}/scores"
    with pytest.raises(DatabaseUnavailable, match="churn scores deliver") as error:
        deliver(bench, row, url)
    assert "geheim" not in str(error.value)


def test_a_locked_table_is_an_outage(bench: Workspace, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(bench, listed(bench, 1), database)
    monkeypatch.setattr(database_delivery, "_LOCK_TIMEOUT", "300ms")
    engine = sa.create_engine(database)
    with engine.connect() as holder:
        holder.execute(sa.text("LOCK TABLE churn_score_rows IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DatabaseUnavailable, match="is locked"):
            deliver(bench, listed(bench, 2), database)
        holder.rollback()
    engine.dispose()
    assert query(database, "SELECT DISTINCT substr(list_id, 1, 1) FROM churn_scores") == [("1",)]
    assert deliver(bench, listed(bench, 2), database) == 500


def test_a_missing_right_and_a_read_only_database_are_refusals(bench: Workspace, database: str) -> None:
    """The message says what the role needs; the list before it is still shown."""
    row = listed(bench, 1)
    statement(database, "CREATE ROLE writer LOGIN PASSWORD 'pw'")
    address = sa.make_url(database)
    writer = address.set(username="writer", password="pw").render_as_string(hide_password=False)
    try:
        with pytest.raises(DatabaseRefuses, match="It needs CREATE on the schema"):
            deliver(bench, row, writer)
        statement(database, "GRANT CREATE ON SCHEMA public TO writer")
        assert deliver(bench, row, writer) == 500
        statement(database, "ALTER ROLE writer SET default_transaction_read_only = on")
        with pytest.raises(DatabaseRefuses, match="is read-only"):
            deliver(bench, listed(bench, 2), writer)
        assert query(writer, "SELECT count(*) FROM churn_scores") == [(500,)]
    finally:
        statement(database, "DROP OWNED BY writer CASCADE")
        statement(database, "DROP ROLE writer")


def test_a_table_with_other_columns_is_a_refusal(bench: Workspace, database: str) -> None:
    for number, table in enumerate(
        ("(list_id text, other int) PARTITION BY LIST (list_id)", "(list_id text)"), start=1
    ):
        statement(database, f"CREATE TABLE churn_score_rows {table}")
        with pytest.raises(DatabaseRefuses, match="such as other columns"):
            deliver(bench, listed(bench, number), database)
        statement(database, "DROP TABLE churn_score_rows")


def test_rows_that_cannot_be_read_are_not_blamed_on_the_database(bench: Workspace, database: str) -> None:
    """A lost part of the list is named; the list before it is still shown."""
    deliver(bench, listed(bench, 1), database)
    second = listed(bench, 2)
    bench.storage.remove(f"scores/{second.list_id}/part-0001.parquet")
    with pytest.raises(StorageError, match=r"part-0001\.parquet"):
        deliver(bench, second, database)
    assert query(database, "SELECT DISTINCT substr(list_id, 1, 1) FROM churn_scores") == [("1",)]


def test_a_partition_with_other_rows_is_not_shown(bench: Workspace, database: str) -> None:
    deliver(bench, listed(bench, 1), database)
    second = listed(bench, 2)
    deliver(bench, second, database)
    deliver(bench, listed(bench, 3), database)
    statement(database, f"DELETE FROM churn_score_rows_{second.list_id[:16]} WHERE rank = 1")  # noqa: S608 -- our own name
    with pytest.raises(DeliveryIncomplete, match="has 500 rows, but 499"):
        deliver(bench, second, database)
    assert query(database, "SELECT DISTINCT substr(list_id, 1, 1) FROM churn_scores") == [("3",)]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_folder_gets_the_files_and_the_marker_last(
    bench: Workspace, tmp_path: Path, s3: S3, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is interrupted has no marker, and is completed; the current list of the campaign is named."""
    row = listed(bench, 1)
    remote = fsspec.filesystem("s3", key=s3.key, secret=s3.secret, endpoint_url=s3.endpoint)
    drop = (
        Storage.open(str(tmp_path / "drop"))
        if kind == "folder"
        else Storage.open(f"s3://{s3.bucket}/{tmp_path.name}", remote)
    )
    wrote = Storage.writing

    def interrupted(self: Storage, name: str) -> Any:
        if name.endswith("part-0001.parquet"):
            raise KeyboardInterrupt
        return wrote(self, name)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Storage, "writing", interrupted)
        deliver_to_drop(bench.storage, row, drop, True, lambda: row)
    assert not drop.exists(f"retention/{row.list_id}/_SUCCESS")
    assert deliver_to_drop(bench.storage, row, drop, True, lambda: row) == 500
    names = {name.rpartition("/")[2] for name in drop.names(f"retention/{row.list_id}")}
    assert names == {"part-0000.parquet", "part-0001.parquet", "manifest.json", "list.csv", "_SUCCESS"}
    with drop.reading(f"retention/{row.list_id}/list.csv") as stream:
        assert pyarrow.csv.read_csv(stream).num_rows == 500
    with drop.reading("retention/current.json") as stream:
        assert json.load(stream)["list_id"] == row.list_id
    with drop.reading(f"retention/{row.list_id}/part-0000.parquet") as stream:
        assert pq.read_table(stream).num_rows == 250


def test_every_delivery_has_a_record(bench: Workspace, tmp_path: Path, database: str) -> None:
    """One that fails does not stop the other; a retry counts, and what was delivered stays so."""
    row = listed(bench, 1)
    away = f"postgresql+psycopg2://bank:geheim@127.0.0.1:{free_port()}/scores"
    settings = bench.settings.model_copy(update={"scores_url": SecretStr(away), "scores_drop": str(tmp_path / "drop")})
    failing = Workspace(settings, bench.storage, bench.ledger)
    deliveries = {delivery.target: delivery for delivery in deliver_list(failing, row)}
    assert (deliveries["database"].state, deliveries["drop"].state) == ("failed", "delivered")
    assert "geheim" not in repr(deliveries)
    with pytest.raises(ChurnError, match="was not delivered"):
        require_delivered([*deliveries.values()])
    mended = Workspace(settings.model_copy(update={"scores_url": SecretStr(database)}), bench.storage, bench.ledger)
    again = {delivery.target: delivery for delivery in deliver_list(mended, row)}
    assert (again["database"].state, again["database"].attempts, again["database"].rows) == ("delivered", 2, 500)
    first = bench.ledger.deliveries(row.list_id)
    for once_more, state in ((failing, "failed"), (mended, "delivered")):
        outcome = {delivery.target: delivery.state for delivery in deliver_list(once_more, row)}
        assert outcome == {"database": state, "drop": "delivered"}
        assert bench.ledger.deliveries(row.list_id) == first  # customers count from the first delivery


def test_an_older_list_does_not_replace_a_newer_one(bench: Workspace, tmp_path: Path) -> None:
    """A newer list that was delivered while an older one was copied is named again."""
    old, new = listed(bench, 1), listed(bench, 2)
    drop = Storage.open(str(tmp_path / "drop"))
    deliver_to_drop(bench.storage, new, drop, False, lambda: new)
    deliver_to_drop(bench.storage, old, drop, False, lambda: new)
    with drop.reading("retention/current.json") as stream:
        assert json.load(stream)["list_id"] == new.list_id


def test_maintenance_removes_what_was_delivered(bench: Workspace, tmp_path: Path, database: str) -> None:
    """The partition and the folder of a list whose time has passed, each once; the current list is still shown."""
    both = with_targets(bench, database, tmp_path / "drop")
    old = listed(bench, 1)
    deliver_list(both, old)
    new = listed(bench, 2)
    deliver_list(both, new)
    delivered = find_delivered(both, [old])
    assert [row.target for row in delivered] == ["database", "drop"]
    remove_delivered(both, delivered)
    assert query(database, "SELECT DISTINCT list_id FROM churn_score_rows") == [(new.list_id,)]
    assert query(database, "SELECT count(*) FROM churn_score_lists") == [(2,)]
    assert {name.split("/")[1] for name in Storage.open(str(tmp_path / "drop")).names("retention")} == {
        new.list_id,
        "current.json",
    }
    assert find_delivered(both, [old]) == []
    assert {row.state for row in bench.ledger.deliveries(old.list_id)} == {"removed"}
    away = with_targets(bench, f"postgresql+psycopg2://bank:geheim@127.0.0.1:{free_port()}/scores")
    with pytest.raises(DatabaseUnavailable, match=r"not removed.*churn maintain") as error:
        remove_delivered(away, [replace(delivered[0], list_id=new.list_id)])
    assert "geheim" not in str(error.value)


def with_targets(bench: Workspace, url: str, drop: Path | None = None) -> Workspace:
    targets = {"scores_url": SecretStr(url), "scores_drop": str(drop) if drop else None, "model_name": "m"}
    return Workspace(bench.settings.model_copy(update=targets), bench.storage, bench.ledger)


def test_only_the_newest_list_of_a_campaign_is_delivered(bench: Workspace, tmp_path: Path) -> None:
    """An older one would replace it."""
    old, _ = listed(bench, 1), listed(bench, 2)
    settings = bench.settings.model_copy(update={"scores_drop": str(tmp_path / "drop")})
    with pytest.raises(ChurnError, match="is not the newest of campaign retention"):
        deliver_list(Workspace(settings, bench.storage, bench.ledger), old)
