"""The review's lists at their edges: other pages, data that only one of two runs has, and lists too long to show whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from churn.decision.formatting import ABSENT
from churn.foundation import schema
from churn.foundation.ledger import Ledger
from churn.foundation.records import Batch, ImageRecord, Snapshot, Withdrawal
from churn.review.changes import find_changes
from churn.review.data import load_batch, load_data, make_heat
from churn.review.images import load_images, make_images
from churn.review.nights import ComparedRuns, load_night
from churn.review.pages import render_compared_runs, render_night
from support.review_ledger import NOW, SETTINGS, SITE, batch_hash, fill_ledger, forty_nights, night_name


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("review"))


@pytest.mark.parametrize("measured_side", ["left", "right"])
def test_a_measured_run_is_compared_with_one_that_was_not_measured(ledger: Ledger, measured_side: str) -> None:
    """Metrics that only one of them has are shown, on either side."""
    measured = load_night(ledger, SETTINGS, night_name(ledger))
    assert measured is not None
    held = replace(measured, night="held", metrics=[], code="POLICY_INVALID")
    both = (measured, held) if measured_side == "left" else (held, measured)
    html = render_compared_runs(ComparedRuns(*both), SITE)
    for metric in measured.metrics:
        assert html.count(f'<th scope="row">{metric.name}</th>') == 1
    assert f"<td>{ABSENT}</td>" in html


def test_an_incomplete_record_is_not_shown_as_no_difference(ledger: Ledger) -> None:
    """If parameters, snapshots or the champion's run are missing, the page says that the record is incomplete."""
    record = ledger.decision(night_name(ledger))
    assert record is not None
    assert record.champion is not None
    versions = ledger.versions_numbered(record.model, [record.challenger, record.champion])
    assert find_changes(record, {}, {}, None) == ([], True)
    assert find_changes(record, versions, {}, record)[1]
    view = load_night(ledger, SETTINGS, record.night)
    assert view is not None
    html = render_night(replace(view, changes=[], unrecorded=True), SITE)
    assert "record is incomplete" in html
    assert "are the same" not in html
    assert "are the same" in render_night(replace(view, changes=[], unrecorded=False), SITE)


def test_the_error_budget_covers_only_its_own_nights(tmp_path: Path) -> None:
    """A champion of 200 nights has not spent twice what a policy allows for 90 nights: older looks do not count."""
    ledger = fill_ledger(f"sqlite:///{tmp_path}/ledger.db", 2)
    looks = []
    for day in range(200):
        at = NOW - timedelta(days=day)
        look = {"model": "churn", "look": f"look {day}", "epoch": 1, "calendar_night": f"{at:%Y-%m-%d}", "position": 0}
        looks.append(look | {"night": "night", "taken_at": at})
    with ledger._transaction() as connection:
        connection.execute(schema.looks.delete())
        connection.execute(schema.looks.insert(), looks)
    assert ledger.looks_by_position("churn", 1, NOW - timedelta(days=90), NOW + timedelta(minutes=1)) == {0: 91}


def test_an_image_in_production_may_be_on_a_later_page(ledger: Ledger) -> None:
    """After a rollback the headline is about the version in production, and its image is not reported as missing."""
    old = ImageRecord("churn", 2, "published", "churn:2", "sha256:a", 500, 0.0, "detail", NOW)
    newer = [replace(old, version=version) for version in range(30, 4, -1)]
    times = {2: [(NOW, None)]}
    view = make_images(newer, 2, old, times, SETTINGS)
    assert "version 2 " in view.headline
    assert "500 rows" in view.detail
    assert [line.version for line in view.lines] == list(range(30, 10, -1))
    unbuilt = make_images([], 2, replace(old, state="not_built"), times, SETTINGS)
    assert "version 2 has not been built, but the same service has been verified" in unbuilt.headline
    missing = make_images(newer, 2, None, times, SETTINGS)
    assert missing.headline == "The image of version 2 is pending."
    assert (missing.lines[0].version, missing.lines[0].answer) == (2, "pending")
    assert missing.lines[0].in_production[0].until is None


def test_times_in_production_go_back_to_the_beginning(tmp_path: Path) -> None:
    """The periods of an old version are read however many changes have followed."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = fill_ledger(url, 1100)  # 220 changes
    oldest = load_images(ledger, SETTINGS, before=3).lines[-1]
    assert oldest.version == 1
    assert oldest.in_production[-1].since.date() == (NOW - timedelta(days=1099)).date()
    assert oldest.in_production[-1].until == oldest.in_production[-1].since + timedelta(days=5)


def test_an_older_page_of_data_does_not_claim_to_show_the_newest_batch(ledger: Ledger) -> None:
    """Its drift verdict is about the newest batch on that page, and says so."""
    older = load_data(ledger, before=30)
    assert older.heat is not None
    assert "on this page, night-29.csv" in older.heat.verdict
    newest = load_data(ledger).heat
    assert newest is not None
    assert "on this page" not in newest.verdict
    assert make_heat([], {}) is None


def test_the_last_snapshot_of_a_withdrawn_batch_is_from_before_its_withdrawal(ledger: Ledger) -> None:
    """It is neither the first snapshot nor the newest one."""
    before = load_batch(ledger, SETTINGS, batch_hash(10))
    assert before is not None
    assert before.first is not None
    withdrawn_at = before.first.made_at + timedelta(days=5, hours=1)
    withdrawn = _Withdrawn(ledger, withdrawn_at)
    after = load_batch(withdrawn, SETTINGS, batch_hash(10))  # type: ignore[arg-type]
    assert after is not None
    assert after.last is not None
    assert before.first.made_at + timedelta(days=4) < after.last.made_at <= withdrawn_at


class _Withdrawn:
    """A ledger in which one batch has been withdrawn since."""

    def __init__(self, ledger: Ledger, at: object) -> None:
        self._ledger, self._at = ledger, at

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    def batch(self, name: str) -> Batch | None:
        batch = self._ledger.batch(name)
        return replace(batch, state="withdrawn") if batch else None

    def withdrawals_of(self, chosen: list[str]) -> list[Withdrawal]:
        return [Withdrawal(chosen[0], 1, "withdrawn", "A wrong file", self._at)]  # type: ignore[arg-type]

    def last_snapshot(self, until: object = None) -> Snapshot | None:
        assert until == self._at
        return self._ledger.last_snapshot(until)  # type: ignore[arg-type]
