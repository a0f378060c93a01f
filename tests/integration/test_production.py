"""What is in production: promoted, mirrored, moved by hand, approved, taken back, rolled back, kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from churn import night
from churn.errors import ChurnError, NothingToDo
from churn.foundation.artifacts import ArtifactChanged
from churn.foundation.ledger import PromotionConflict
from churn.foundation.records import Promotion
from churn.night import SecondPersonNeeded
from churn.release import registry, rollback
from churn.release.mirror import mirror, read_registry
from churn.release.registry import ChampionDisagreement
from churn.release.retention import delete_versions, plan_retention
from churn.release.rollback import RollbackRefused
from churn.workbench import Request, Workbench
from support import land_night, make_bench, mlflow_server, run_night, stages


def aliases(bench: Workbench) -> dict[str, int]:
    return read_registry(bench.tracking).aliases


def adopting(bench: Workbench) -> Workbench:
    settings = bench.settings.model_copy(update={"hand_made_changes": "adopt"})
    return Workbench(settings, bench.storage, bench.ledger)


def roll_back(bench: Workbench, to: int | None = None, name: str = "back") -> rollback.RolledBack:
    return night.roll_back(bench, to, "customers complain", "Ann", name)


def test_a_crash_between_commit_and_mirror_is_mended(two_nights: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has promoted, the registry not yet: the next look mirrors, and finds the new champion."""
    bench = two_nights
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(registry, "mirror", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        run_night(bench, "night 2")
    assert read_registry(bench.tracking).champion == 1
    assert registry.find_champion(bench.ledger, bench.tracking) == 2
    assert stages(bench) == {1: "Archived", 2: "Production"}


def test_a_hand_moved_alias_is_never_overwritten(two_nights: Workbench) -> None:
    """A champion that the ledger does not know stops the night and says how to mend it."""
    bench = two_nights
    run_night(bench, "night 2")
    challenger = night.train(bench, Request("night 3", retrain=True))
    for moved in ("1", str(challenger.version)):  # back to the previous version, or on to an untried one
        bench.tracking.client.set_registered_model_alias(bench.settings.model_name, "champion", moved)
        with pytest.raises(ChampionDisagreement, match="registry's champion"):
            night.compare(bench, Request("night 3"), challenger)
        assert read_registry(bench.tracking).champion == int(moved)
        assert night.find_disagreements(bench)


def test_a_promotion_that_came_too_late_is_a_conflict(two_nights: Workbench) -> None:
    """Somebody else promoted after the comparison: nothing is changed."""
    bench, request = two_nights, Request("night 2")
    for batch in night.arrive(bench, request).batches:
        night.validate(bench, request, batch.batch)
    night.compare(bench, request, night.train(bench, request))
    now = datetime.now(UTC)
    model = bench.settings.model_name
    bench.ledger.promote(Promotion(model, 0, 99, None, "promotion", "somebody else", "faster", now, anchor=99), 1)
    with pytest.raises(PromotionConflict, match="production is version 99"):
        night.promote(bench, "night 2")


def test_mirroring_twice_writes_nothing_the_second_time(two_nights: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that finds everything in place makes no write."""
    bench = two_nights
    run_night(bench, "night 2")
    writes = []
    for name in (
        "transition_model_version_stage",
        "set_registered_model_alias",
        "set_model_version_tag",
        "update_model_version",
    ):
        monkeypatch.setattr(type(bench.tracking.client), name, lambda *a, name=name, **k: writes.append(name))
    mirror(bench.ledger, bench.tracking)
    assert writes == []


def test_a_promotion_is_taken_back_to_its_predecessor(two_nights: Workbench) -> None:
    """The predecessor is champion again; repeated, nothing more happens; the first falls back to none."""
    bench = two_nights
    run_night(bench, "night 2")
    model = bench.settings.model_name
    registry.take_back(2, "answers differ", bench.ledger, bench.tracking)
    assert registry.find_champion(bench.ledger, bench.tracking) == 1
    assert stages(bench) == {1: "Production", 2: "Archived"}
    registry.take_back(2, "answers differ", bench.ledger, bench.tracking)
    assert [row.kind for row in bench.ledger.promotions(model)] == ["take_back", "promotion", "promotion"]


def test_a_version_that_was_taken_back_never_comes_back(two_nights: Workbench) -> None:
    """First the second version, then the first: nothing is left, and neither is restored."""
    bench = two_nights
    run_night(bench, "night 2")
    registry.take_back(2, "answers differ", bench.ledger, bench.tracking)
    last = registry.take_back(1, "so does this", bench.ledger, bench.tracking)
    assert last is not None
    assert (last.version, last.previous) == (None, 1)
    assert registry.find_champion(bench.ledger, bench.tracking) is None
    assert bench.tracking.client.get_registered_model(bench.settings.model_name).aliases == {}


def test_a_first_champion_that_is_taken_back_leaves_none(bench: Workbench) -> None:
    """Registry and ledger agree that nothing is in production."""
    land_night(bench, 1)
    run_night(bench, "night 1")
    registry.take_back(1, "answers differ", bench.ledger, bench.tracking)
    assert registry.find_champion(bench.ledger, bench.tracking) is None
    assert stages(bench) == {1: "Archived"}


def test_a_stage_that_was_moved_by_hand_is_found(two_champions: Workbench) -> None:
    """Two versions in Production, or none: the night stops, and reconcile puts it right and says so."""
    bench, client = two_champions, two_champions.tracking.client
    client.transition_model_version_stage(bench.settings.model_name, "1", "Production")
    with pytest.raises(ChampionDisagreement, match="version 1, version 2"):
        registry.find_champion(bench.ledger, bench.tracking)
    said = night.reconcile(bench)
    assert "version 1, version 2" in said[0]
    assert stages(bench) == {1: "Archived", 2: "Production"}
    assert night.reconcile(bench) == []


@pytest.mark.parametrize("alias", ["previous", "anchor"])
def test_no_alias_is_overwritten_in_silence(two_champions: Workbench, alias: str) -> None:
    """Also the aliases that follow from the history: found, and put right with words."""
    bench, client, model = two_champions, two_champions.tracking.client, two_champions.settings.model_name
    before = aliases(bench)
    client.set_registered_model_alias(model, alias, "2" if before[alias] == 1 else "1")
    with pytest.raises(ChampionDisagreement, match=f"alias {alias}"):
        registry.find_champion(bench.ledger, bench.tracking)
    assert f"alias {alias}" in night.reconcile(bench)[0]
    assert aliases(bench) == before


def test_a_reason_is_more_than_blanks(two_champions: Workbench) -> None:
    """Rollback and unfreeze without a reason are refused, and nothing is changed."""
    with pytest.raises(ChurnError, match="reason is needed"):
        night.roll_back(two_champions, None, "  ", "Ann", "back")
    with pytest.raises(ChurnError, match="reason is needed"):
        night.unfreeze(two_champions, "", "Ann")
    assert aliases(two_champions)["champion"] == 2


def test_a_hand_made_change_is_adopted_where_the_setting_says_so(two_champions: Workbench) -> None:
    """The version that somebody moved becomes the ledger's, by compare-and-set, with who and why; the anchor stays."""
    bench = two_champions
    bench.tracking.client.set_registered_model_alias(bench.settings.model_name, "champion", "1")
    assert registry.find_champion(bench.ledger, bench.tracking, adopt=True) == 1
    row = bench.ledger.in_production(bench.settings.model_name)
    assert row is not None
    assert (row.version, row.previous, row.kind, row.actor, row.anchor) == (1, 2, "adopted", "somebody in MLflow", 2)
    assert stages(bench) == {1: "Production", 2: "Archived"}
    assert aliases(bench)["champion"] == 1


def test_what_no_night_has_trained_is_never_adopted(two_champions: Workbench) -> None:
    """A version of unknown origin, or no version at all: refused also under `adopt`."""
    bench, client, model = two_champions, two_champions.tracking.client, two_champions.settings.model_name
    source = bench.tracking.version(1).source
    stranger = client.create_model_version(model, source, model_id=source.removeprefix("models:/"))
    client.set_registered_model_alias(model, "champion", str(stranger.version))
    with pytest.raises(ChampionDisagreement, match="cannot be adopted"):
        registry.find_champion(bench.ledger, bench.tracking, adopt=True)
    client.delete_registered_model_alias(model, "champion")
    with pytest.raises(ChampionDisagreement, match="no version"):
        registry.find_champion(bench.ledger, bench.tracking, adopt=True)
    assert bench.ledger.in_production(model).version == 2  # type: ignore[union-attr]


def test_a_promotion_made_meanwhile_is_mirrored_too(two_champions: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow mirror of an older promotion does not leave the registry behind the ledger."""
    bench, model = two_champions, two_champions.settings.model_name
    marked, mark = [], type(bench.ledger).mark_mirrored

    def somebody_else_is_faster(ledger: object, row: Promotion) -> None:
        mark(ledger, row)  # type: ignore[arg-type]
        marked.append(row.sequence)
        if len(marked) == 1:
            now = datetime.now(UTC)
            change = Promotion(model, 0, 1, None, "forced", "meanwhile", "x", now, anchor=1, actor="Bob", code="FORCED")
            bench.ledger.promote(change, 2)

    monkeypatch.setattr(type(bench.ledger), "mark_mirrored", somebody_else_is_faster)
    shown = mirror(bench.ledger, bench.tracking)
    assert (marked, shown.version if shown else None) == ([2, 3], 1)
    assert aliases(bench)["champion"] == 1


def test_an_approval_is_waited_for_and_kept(two_nights: Workbench) -> None:
    """Promoted by the policy, but only after a person's yes; who and why are in the history."""
    bench = two_nights
    assert run_night(bench, "night 2", approval=True) == "promote SUPERIOR"
    assert bench.ledger.in_production(bench.settings.model_name).version == 1  # type: ignore[union-attr]
    assert night.needs_approval(bench, "night 2")
    with pytest.raises(NothingToDo, match="waits for an approval"):
        night.promote(bench, "night 2")
    night.answer(bench, "night 2", "approved", "Ann", "looks right")
    assert night.promote(bench, "night 2") == 2
    row = bench.ledger.in_production(bench.settings.model_name)
    assert row is not None
    assert (row.version, row.actor) == (2, "Ann")
    assert "looks right" in row.reason


@pytest.mark.parametrize("answer", ["rejected", "expired"])
def test_without_a_yes_the_challenger_is_held(two_nights: Workbench, answer: str) -> None:
    """A no, or nobody's answer, is a hold for good; a later yes does not count."""
    bench = two_nights
    run_night(bench, "night 2", approval=True)
    night.answer(bench, "night 2", answer, "Ann", "no")
    with pytest.raises(ChurnError, match="The first answer counts"):
        night.answer(bench, "night 2", "approved", "Bob", "yes")
    with pytest.raises(NothingToDo, match=answer):
        night.promote(bench, "night 2")
    assert aliases(bench)["champion"] == 1


def needing_two(bench: Workbench) -> Workbench:
    return replace(bench, settings=bench.settings.model_copy(update={"second_person": True}))


def test_nobody_promotes_alone(two_nights: Workbench) -> None:
    """The yes of whoever asked for the night counts for nothing, however the name is written; somebody else's does."""
    bench = needing_two(two_nights)
    run_night(bench, "night 2", approval=True, requested_by="ann")
    for same in ("ann", " Ann "):
        with pytest.raises(SecondPersonNeeded, match="asked for by ann: by CHURN_SECOND_PERSON somebody else"):
            night.answer(bench, "night 2", "approved", same, "mine")
    with pytest.raises(ChurnError, match="not known who says yes"):
        night.answer(bench, "night 2", "approved", " ", "nobody's")
    assert night.needs_approval(bench, "night 2")
    night.answer(bench, "night 2", "approved", "bea", "looks right")
    assert night.promote(bench, "night 2") == 2


def test_everybody_may_say_no_to_a_night_of_their_own(two_nights: Workbench) -> None:
    """A rejection takes nobody else, and a night of the schedule was asked for by nobody."""
    bench = needing_two(two_nights)
    run_night(bench, "night 2", approval=True, requested_by="ann")
    assert night.answer(bench, "night 2", "rejected", "ann", "a mistake").answer == "rejected"
    run_night(bench, "night 3", retrain=True, approval=True)
    assert night.answer(bench, "night 3", "approved", "ann", "looks right").by == "ann"


def test_to_force_takes_two(two_champions: Workbench) -> None:
    """A forced promotion waits for another person's yes; forced by nobody known, no yes counts."""
    bench, model = needing_two(two_champions), two_champions.settings.model_name
    assert run_night(bench, "night 3", retrain=True, force_reason="a test", requested_by="ann") == "promote FORCED"
    assert bench.ledger.in_production(model).version == 2  # type: ignore[union-attr]
    with pytest.raises(SecondPersonNeeded):
        night.answer(bench, "night 3", "approved", "ann", "mine")
    night.answer(bench, "night 3", "approved", "bea", "I agree")
    assert night.promote(bench, "night 3") == 3
    assert run_night(bench, "night 4", retrain=True, force_reason="who am I") == "promote FORCED"
    with pytest.raises(ChurnError, match="not known who forced it"):
        night.answer(bench, "night 4", "approved", "bea", "I agree")


def test_an_approval_comes_too_late_after_the_next_decision(two_nights: Workbench) -> None:
    """It expires as a hold when a later night has decided."""
    bench = two_nights
    run_night(bench, "night 2", approval=True)
    run_night(bench, "night 3", retrain=True, approval=True)
    with pytest.raises(ChurnError, match="is history"):
        night.answer(bench, "night 2", "approved", "Ann", "late")


def test_a_hold_cannot_be_approved(two_champions: Workbench) -> None:
    """Approval is for promotions and disputes; what the policy holds is forced or not at all."""
    bench = two_champions
    run_night(bench, "night 3", retrain=True)
    with pytest.raises(ChurnError, match="asks for no approval"):
        night.answer(bench, "night 3", "approved", "Ann", "please")


def test_a_forced_promotion_keeps_who_and_why_and_the_anchor(two_champions: Workbench) -> None:
    """The policy holds, a person forces: promoted, recorded as such, and the yardstick stays where it was."""
    bench = two_champions
    assert run_night(bench, "night 3", retrain=True, force_reason="a test", requested_by="Ann") == "promote FORCED"
    row = bench.ledger.in_production(bench.settings.model_name)
    assert row is not None
    assert (row.version, row.kind, row.actor, row.anchor, row.code) == (3, "forced", "Ann", 2, "FORCED")
    assert "a test" in row.reason
    assert aliases(bench) == {"champion": 3, "previous": 2, "anchor": 2}


def test_a_rollback_moves_back_and_freezes(two_champions: Workbench) -> None:
    """The earlier version is champion again with its anchor; nothing is trained; promotion is off until unfrozen."""
    bench, model = two_champions, two_champions.settings.model_name
    done = roll_back(bench)
    assert (done.promotion.version, done.promotion.kind, done.promotion.actor) == (1, "rollback", "Ann")
    assert done.promotion.anchor == 1
    assert roll_back(bench).promotion.sequence == done.promotion.sequence
    assert stages(bench) == {1: "Production", 2: "Archived"}
    assert aliases(bench) == {"champion": 1, "anchor": 1}
    land_night(bench, 3)
    assert run_night(bench, "night 3").endswith("FROZEN")
    assert night.unfreeze(bench, "mended", "Ann")
    assert not night.unfreeze(bench, "mended", "Ann")
    assert run_night(bench, "night 4", retrain=True) == "promote SUPERIOR"
    assert [row.kind for row in bench.ledger.promotions(model)] == ["promotion", "rollback", "promotion", "promotion"]


def test_rolled_back_too_far_one_can_go_forward_again(two_champions: Workbench) -> None:
    """The version that was left can be named, and brings its anchor with it."""
    bench = two_champions
    roll_back(bench)
    done = roll_back(bench, to=2, name="forward")
    assert (done.promotion.version, done.promotion.anchor) == (2, 2)
    assert aliases(bench) == {"champion": 2, "previous": 1, "anchor": 2}


@pytest.mark.parametrize(("to", "why"), [(2, "in production already"), (99, "never was in production")])
def test_a_rollback_to_nowhere_is_refused(two_champions: Workbench, to: int, why: str) -> None:
    """Each with its own reason, and nothing is changed."""
    before = two_champions.ledger.promotions(two_champions.settings.model_name)
    with pytest.raises(RollbackRefused, match=why):
        roll_back(two_champions, to)
    assert two_champions.ledger.promotions(two_champions.settings.model_name) == before


def test_the_first_champion_has_no_way_back(bench: Workbench) -> None:
    """Neither has an empty history."""
    with pytest.raises(RollbackRefused, match="Nothing has ever been"):
        roll_back(bench)
    land_night(bench, 1)
    run_night(bench, "night 1")
    with pytest.raises(RollbackRefused, match="nothing was in production that could come back"):
        roll_back(bench)


def test_a_version_whose_files_changed_does_not_come_back(tmp_path: Path) -> None:
    """One byte of a stored model: neither rollback nor comparison accepts it, each with its own reason."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        bench = make_bench(tmp_path, url)
        for number in (1, 2):
            land_night(bench, number)
            run_night(bench, f"night {number}")
        oldest, newest = sorted((folder / "artifacts").rglob("MLmodel"), key=lambda file: file.stat().st_mtime)
        for file in (oldest, newest):
            file.write_text(file.read_text().replace("churn", "chum", 1) + "\n")
        with pytest.raises(RollbackRefused, match="not those that were registered"):
            roll_back(bench)
        assert run_night(bench, "night 3", retrain=True, force_reason="anyway") == "hold ARTIFACT_CHANGED"
        assert read_registry(bench.tracking).champion == 2


def test_what_was_compared_is_what_is_promoted(tmp_path: Path) -> None:
    """Files that change between the comparison and the promotion end it, with a reason of their own."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        bench = make_bench(tmp_path, url)
        land_night(bench, 1)
        request = Request("night 1")
        for batch in night.arrive(bench, request).batches:
            night.validate(bench, request, batch.batch)
        assert night.compare(bench, request, night.train(bench, request)).verdict == "promote"
        (file,) = (folder / "artifacts").rglob("model.skops")
        whole = file.read_bytes()
        file.write_bytes(whole + b"\0")
        with pytest.raises(ArtifactChanged, match="not those that were registered"):
            night.promote(bench, "night 1")
        assert bench.ledger.in_production(bench.settings.model_name) is None
        file.write_bytes(whole)
        assert night.promote(bench, "night 1") == 1


def test_what_was_in_production_at_a_time(two_champions: Workbench) -> None:
    """Before the first nothing, then each version in its time, with who, what, when and why."""
    bench, model = two_champions, two_champions.settings.model_name
    second, first = bench.ledger.promotions(model)
    assert bench.ledger.in_production(model, first.promoted_at - timedelta(microseconds=1)) is None
    assert bench.ledger.in_production(model, second.promoted_at - timedelta(microseconds=1)) == first
    assert (second.actor, second.code, second.night) == ("the policy", "SUPERIOR", "night 2")
    assert "beats champion 1" in second.reason


def test_retention_never_takes_what_somebody_may_need(two_champions: Workbench) -> None:
    """Champion, previous, anchor and an open decision's versions stay, however few are to be kept."""
    bench = two_champions
    run_night(bench, "night 3", retrain=True)
    run_night(bench, "night 4", retrain=True, approval=True, force_reason="a test")
    plan = plan_retention(1, bench.ledger, bench.tracking)
    assert plan.expendable == [3]
    assert set(plan.protected) == {1, 2, 4}
    assert delete_versions([*plan.expendable, *plan.protected], bench.ledger, bench.tracking) == [3]
    assert set(stages(bench)) == {1, 2, 4}
    assert mlflow.pyfunc.load_model(bench.tracking.model_uri(2))
    with pytest.raises(RollbackRefused):
        night.roll_back(replace(bench), 3, "no", "Ann", "gone")
