"""Whom a scoring run scores, when a change of production calls for one, and what is still to be delivered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churn.decision.policy_file import PolicyInvalid
from churn.errors import ChurnError, NothingToDo
from churn.foundation.records import Delivery, ImageRecord, Promotion, ScoreList
from churn.pipeline.scoring_runs import (
    ACCEPTED,
    ScoringRequest,
    announced,
    collect_customers,
    deliver_list,
    describe_list,
    describe_place,
    find_list,
    find_undelivered,
    require_change,
)
from churn.pipeline.workspace import Request, Workspace
from churn.scoring.population import land_population
from churn.scoring.treatments import in_use_since
from support.basics import make_workspace
from support.score_lists import published
from support.stored_lists import store_list

NOW = datetime.now(UTC)
RUN = ScoringRequest("run 1")


@pytest.fixture
def bench(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "bench", "http://127.0.0.1:9")


def land(bench: Workspace, folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(text)
    land_population(bench.storage, file)


def publish(bench: Workspace, **changes: object) -> ScoreList:
    row = replace(published("a" * 64, "retention", 0, 1, NOW), model=bench.settings.model_name)
    return bench.ledger.publish_list(replace(row, **changes))  # type: ignore[arg-type]


def promote(bench: Workspace, version: int, expected: int | None) -> Promotion:
    change = Promotion(
        bench.settings.model_name, 0, version, expected, "promotion", f"n{version}", "because", datetime.now(UTC)
    )
    return bench.ledger.promote(change, expected)


def verify(bench: Workspace, version: int, state: str) -> None:
    model = bench.settings.model_name
    bench.ledger.record_image(ImageRecord(model, version, state, None, None, 500, 0.0, "", NOW))


def test_without_a_file_all_accepted_customers_are_scored(bench: Workspace) -> None:
    assert collect_customers(bench, RUN) == [ACCEPTED]


def test_files_that_landed_are_scored_in_the_order_of_arrival(bench: Workspace, tmp_path: Path) -> None:
    """Until they have been judged, which a run that was killed has not done."""
    land(bench, tmp_path, "a.csv", "x,y\n1,2\n")
    first = collect_customers(bench, RUN)
    land(bench, tmp_path, "b.csv", "x,y\n3,4\n")
    both = collect_customers(bench, RUN)
    assert (len(first), both[:1], len(both)) == (1, first, 2)


def test_the_file_of_the_current_list_is_scored_again(bench: Workspace, tmp_path: Path) -> None:
    """As long as it is kept; a file that maintenance has deleted is not asked for."""
    land(bench, tmp_path, "a.csv", "x,y\n1,2\n")
    (population,) = collect_customers(bench, RUN)
    bench.ledger.judge_population(population, "n", _judged())
    publish(bench, population=population, source="file")
    assert collect_customers(bench, RUN) == [population]
    bench.storage.remove(f"populations/originals/{population}")
    assert collect_customers(bench, RUN) == [ACCEPTED]


def test_the_form_names_a_file_by_name_or_hash(bench: Workspace, tmp_path: Path) -> None:
    """The newest of a name; a name that nobody has is one clear error."""
    land(bench, tmp_path, "a.csv", "x,y\n1,2\n")
    (older,) = collect_customers(bench, RUN)
    land(bench, tmp_path, "a.csv", "x,y\n5,6\n")
    newer = collect_customers(bench, RUN)[-1]
    assert collect_customers(bench, replace(RUN, file="a.csv")) == [newer]
    assert collect_customers(bench, replace(RUN, file=older[:10])) == [older]
    with pytest.raises(ChurnError, match=r"No file of current customers has the name b\.csv.*land --population"):
        collect_customers(bench, replace(RUN, file="b.csv"))


def test_a_change_of_production_calls_for_a_list_once_it_is_verified(bench: Workspace) -> None:
    """Not before, not if its image failed, and not if it has made the current list."""
    with pytest.raises(NothingToDo, match="No version is in production"):
        require_change(bench)
    promote(bench, 2, None)
    with pytest.raises(NothingToDo, match="has not been verified"):
        require_change(bench)
    verify(bench, 2, "failed")
    with pytest.raises(NothingToDo, match="has not been verified"):
        require_change(bench)
    for state in ("not_built", "published", "pruned"):
        verify(bench, 2, state)
        assert require_change(bench).version == 2
    publish(bench, version=2)
    with pytest.raises(NothingToDo, match="was made by version 2 already"):
        require_change(bench)
    promote(bench, 3, 2)
    verify(bench, 3, "not_built")
    assert require_change(bench).version == 3


def test_a_scoring_policy_that_cannot_be_read_is_left_to_the_scoring_run(bench: Workspace, tmp_path: Path) -> None:
    """It fails there with an alert, and not in the image build or the rollback that asks."""
    promote(bench, 2, None)
    verify(bench, 2, "not_built")
    settings = bench.settings.model_copy(update={"scoring_policy_file": tmp_path / "missing.yaml"})
    asking = Workspace(settings, bench.storage, bench.ledger)
    assert require_change(asking).version == 2
    with pytest.raises(PolicyInvalid):
        collect_customers(asking, RUN)


def test_the_current_list_is_delivered_once(bench: Workspace, tmp_path: Path) -> None:
    """Nothing without a target, without a list, or in a dry run; what was delivered is not delivered again."""
    with pytest.raises(NothingToDo, match="CHURN_SCORES_DROP is not set"):
        find_undelivered(bench, "drop", RUN)
    settings = bench.settings.model_copy(update={"scores_drop": str(tmp_path / "drop")})
    sending = Workspace(settings, bench.storage, bench.ledger)
    with pytest.raises(NothingToDo, match="No list has been published"):
        find_undelivered(sending, "drop", RUN)
    row = store_list(bench.storage, bench.ledger, 1, tmp_path)
    bench.ledger.publish_list(replace(row, list_id="b" * 64, model=settings.model_name))
    with pytest.raises(NothingToDo, match="Dry run"):
        find_undelivered(sending, "drop", replace(RUN, dry_run=True))
    own = Workspace(settings.model_copy(update={"model_name": row.model}), bench.storage, bench.ledger)
    assert deliver_list(own, find_undelivered(own, "drop", RUN)).rows == row.rows
    with pytest.raises(NothingToDo, match="has been delivered to"):
        find_undelivered(own, "drop", RUN)


def test_a_new_place_gets_the_current_list(bench: Workspace, tmp_path: Path) -> None:
    """What another place got does not count; customers still count from the first delivery."""
    row = store_list(bench.storage, bench.ledger, 1, tmp_path)
    places = [str(tmp_path / name) for name in ("old", "new")]
    settings = bench.settings.model_copy(update={"model_name": row.model})
    old, new = (
        Workspace(settings.model_copy(update={"scores_drop": place}), bench.storage, bench.ledger) for place in places
    )
    first = deliver_list(old, find_undelivered(old, "drop", RUN))
    second = deliver_list(new, find_undelivered(new, "drop", RUN))
    assert (second.place, second.at, second.attempts) == (places[1], first.at, 2)
    with pytest.raises(NothingToDo, match="has been delivered to"):
        find_undelivered(new, "drop", RUN)


def test_a_list_that_is_made_again_becomes_the_current_one(bench: Workspace, tmp_path: Path) -> None:
    """After a rollback the list of the version before may be the same as its last one. It replaces the other, and is delivered anew.

    Its customers still count from the first publication and the first delivery.
    """
    first = publish(bench, published_at=NOW - timedelta(days=9))
    sent = Delivery(first.list_id, "drop", "delivered", 0, 7, "somewhere", "", NOW - timedelta(days=8))
    bench.ledger.record_delivery(sent)
    publish(bench, list_id="b" * 64)
    again = publish(bench, manifest="of today")
    assert in_use_since(again, []) == first.published_at
    (due,) = bench.ledger.deliveries(first.list_id)
    assert (due.state, due.rows, due.at) == ("due", 7, sent.at)
    bench.ledger.record_delivery(replace(sent, state="failed", rows=None, at=NOW))
    bench.ledger.record_delivery(replace(sent, rows=9, at=NOW))
    (second,) = bench.ledger.deliveries(first.list_id)
    assert (second.state, second.attempts, second.at) == ("delivered", 3, sent.at)
    assert in_use_since(again, [second]) == sent.at
    assert (first.sequence, again.sequence, again.manifest) == (1, 3, "of today")
    assert [row.list_id for row in bench.ledger.score_lists()] == [first.list_id, "b" * 64]
    assert publish(bench, manifest="of a second maker").sequence == 3
    assert bench.ledger.score_lists(limit=1)[0].manifest == "of a second maker"


def test_without_a_name_the_current_list_of_the_campaign_of_the_policy_is_taken(bench: Workspace) -> None:
    """Even if another campaign has a newer one; a beginning of an id names any list."""
    with pytest.raises(ChurnError, match="No list of campaign retention has been published yet"):
        find_list(bench, None)
    mine = publish(bench)
    other = publish(bench, list_id="b" * 64, campaign="spring")
    assert find_list(bench, None) == mine
    assert find_list(bench, None, "spring") == find_list(bench, "bbb") == other


def test_other_dags_hear_of_a_list_that_this_run_published_or_delivered(bench: Workspace) -> None:
    """With its id, its place and its counts; a run that changed nothing starts nobody."""
    with pytest.raises(NothingToDo, match="nothing new"):
        announced(bench, RUN, delivered=True)
    row = publish(bench, night="run 1", rows=9, arrived_rows=9, contact=3, control=1)
    event = announced(bench, RUN, delivered=False)
    assert event | {"uri": ""} == {
        "list": row.list_id, "campaign": "retention", "version": 1, "uri": "", "rows": 9, "contact": 3, "control": 1, "quarantined": 0,
    }  # fmt: skip
    assert event["uri"].endswith(f"/data/scores/{row.list_id}")
    other = replace(RUN, run="run 2")
    assert announced(bench, other, delivered=True)["list"] == row.list_id
    with pytest.raises(NothingToDo, match="nothing new"):
        announced(bench, other, delivered=False)
    with pytest.raises(NothingToDo, match="nothing new"):
        announced(bench, replace(RUN, dry_run=True), delivered=False)


def test_a_terminal_shows_counts_place_and_the_next_command(bench: Workspace) -> None:
    row = publish(
        bench, rows=9, arrived_rows=10, quarantined_rows=1, contact=3, control=1,
        summary={"capacity": 4, "expected_value": 1234.4, "by_probability": 1200.0},
    )  # fmt: skip
    lines = "\n".join([*describe_list(row), *describe_place(bench, row)])
    assert "10 customers arrived: 9 scored, 1 quarantined. To contact: 3. Control group: 1. Capacity: 4." in lines
    assert "1,234, against 1,200" in lines
    assert "churn scores export aaaaaaaaaaaa --first 10" in lines


def _judged() -> object:
    from churn.foundation.records import PopulationVerdict

    return PopulationVerdict("judged", 1, 1, 0, [])


def test_a_request_with_a_text_that_cannot_be_stored_is_refused() -> None:
    """Before anything is done with it."""
    with pytest.raises(ChurnError, match=r"^The name of the file has a character that cannot be stored"):
        ScoringRequest("run 1", file="a\0b")
    with pytest.raises(ChurnError, match=r"^The campaign has a character that cannot be stored"):
        ScoringRequest("run 1", campaign="\ud800")
    for name in ("note", "force_reason", "plausible_reason"):
        with pytest.raises(ChurnError, match="has a character that cannot be stored"):
            Request("run 1", **{name: "a\0b"})  # type: ignore[arg-type]
