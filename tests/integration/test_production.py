"""What is in production: promoted, mirrored, moved by hand, approved, taken back, rolled back, kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from churn.errors import ChurnError, NothingToDo
from churn.foundation.artifacts import ArtifactChanged
from churn.foundation.ledger import PromotionConflict
from churn.foundation.records import Promotion
from churn.pipeline import answers, disagreements, recorded, steps
from churn.pipeline.answers import SecondPersonNeeded
from churn.pipeline.workspace import Request, Workspace
from churn.release import promotion, rollback
from churn.release.mirror import mirror, read_registry
from churn.release.promotion import ChampionDisagreement
from churn.release.retention import delete_versions, plan_retention
from churn.release.rollback import RollbackRefused
from support.basics import land_night, make_workspace, mlflow_server, run_night, stages


def aliases(workspace: Workspace) -> dict[str, int]:
    return read_registry(workspace.tracking).aliases


def adopting(workspace: Workspace) -> Workspace:
    settings = workspace.settings.model_copy(update={"hand_made_changes": "adopt"})
    return Workspace(settings, workspace.storage, workspace.ledger)


def roll_back(workspace: Workspace, to: int | None = None, name: str = "back") -> rollback.RolledBack:
    return steps.roll_back(workspace, to, "customers complain", "Ann", name)


def test_a_crash_between_commit_and_mirror_is_mended(two_nights: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger has promoted, the registry not yet: the next look mirrors, and finds the new champion."""
    workspace = two_nights
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(promotion, "mirror", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        run_night(workspace, "night 2")
    assert read_registry(workspace.tracking).champion == 1
    assert promotion.settle_champion(workspace.ledger, workspace.tracking) == 2
    assert stages(workspace) == {1: "Archived", 2: "Production"}


def test_a_hand_moved_alias_is_never_overwritten(two_nights: Workspace) -> None:
    """A champion that the ledger does not know stops the night and says how to mend it."""
    workspace = two_nights
    run_night(workspace, "night 2")
    challenger = steps.train(workspace, Request("night 3", retrain=True))
    for moved in ("1", str(challenger.version)):  # back to the previous version, or on to an untried one
        workspace.tracking.client.set_registered_model_alias(workspace.settings.model_name, "champion", moved)
        with pytest.raises(ChampionDisagreement, match="champion in the MLflow registry"):
            steps.compare(workspace, Request("night 3"), challenger)
        assert read_registry(workspace.tracking).champion == int(moved)
        assert disagreements.find_disagreements(workspace)


def test_a_promotion_that_came_too_late_is_a_conflict(two_nights: Workspace) -> None:
    """Somebody else promoted after the comparison: nothing is changed."""
    workspace, request = two_nights, Request("night 2")
    for batch in steps.arrive(workspace, request).batches:
        steps.validate(workspace, request, batch.batch)
    steps.compare(workspace, request, steps.train(workspace, request))
    now = datetime.now(UTC)
    model = workspace.settings.model_name
    workspace.ledger.promote(Promotion(model, 0, 99, None, "promotion", "somebody else", "faster", now, anchor=99), 1)
    with pytest.raises(PromotionConflict, match="version 99 is in production"):
        steps.promote(workspace, "night 2")


def test_mirroring_twice_writes_nothing_the_second_time(two_nights: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that finds everything in place makes no write."""
    workspace = two_nights
    run_night(workspace, "night 2")
    writes = []
    for name in (
        "transition_model_version_stage",
        "set_registered_model_alias",
        "set_model_version_tag",
        "update_model_version",
    ):
        monkeypatch.setattr(type(workspace.tracking.client), name, lambda *a, name=name, **k: writes.append(name))
    mirror(workspace.ledger, workspace.tracking)
    assert writes == []


def test_a_promotion_is_taken_back_to_its_predecessor(two_nights: Workspace) -> None:
    """The predecessor is champion again; repeated, nothing more happens; the first falls back to none."""
    workspace = two_nights
    run_night(workspace, "night 2")
    model = workspace.settings.model_name
    promotion.take_back(2, "answers differ", workspace.ledger, workspace.tracking)
    assert promotion.settle_champion(workspace.ledger, workspace.tracking) == 1
    assert stages(workspace) == {1: "Production", 2: "Archived"}
    promotion.take_back(2, "answers differ", workspace.ledger, workspace.tracking)
    assert [row.kind for row in workspace.ledger.promotions(model)] == ["take_back", "promotion", "promotion"]


def test_a_version_that_was_taken_back_never_comes_back(two_nights: Workspace) -> None:
    """First the second version, then the first: nothing is left, and neither is restored."""
    workspace = two_nights
    run_night(workspace, "night 2")
    promotion.take_back(2, "answers differ", workspace.ledger, workspace.tracking)
    last = promotion.take_back(1, "so does this", workspace.ledger, workspace.tracking)
    assert last is not None
    assert (last.version, last.previous) == (None, 1)
    assert promotion.settle_champion(workspace.ledger, workspace.tracking) is None
    assert workspace.tracking.client.get_registered_model(workspace.settings.model_name).aliases == {}


def test_a_first_champion_that_is_taken_back_leaves_none(workspace: Workspace) -> None:
    """Registry and ledger agree that nothing is in production."""
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    promotion.take_back(1, "answers differ", workspace.ledger, workspace.tracking)
    assert promotion.settle_champion(workspace.ledger, workspace.tracking) is None
    assert stages(workspace) == {1: "Archived"}


def test_a_stage_that_was_moved_by_hand_is_found(two_champions: Workspace) -> None:
    """Two versions in Production, or none: the night stops, and reconcile puts it right and says so."""
    workspace, client = two_champions, two_champions.tracking.client
    client.transition_model_version_stage(workspace.settings.model_name, "1", "Production")
    with pytest.raises(ChampionDisagreement, match="version 1, version 2"):
        promotion.settle_champion(workspace.ledger, workspace.tracking)
    differences = disagreements.reconcile(workspace)
    assert "version 1, version 2" in differences[0]
    assert stages(workspace) == {1: "Archived", 2: "Production"}
    assert disagreements.reconcile(workspace) == []


@pytest.mark.parametrize("alias", ["previous", "anchor"])
def test_no_alias_is_overwritten_in_silence(two_champions: Workspace, alias: str) -> None:
    """Also the aliases that follow from the history: found, and put right with words."""
    workspace, client, model = two_champions, two_champions.tracking.client, two_champions.settings.model_name
    before = aliases(workspace)
    client.set_registered_model_alias(model, alias, "2" if before[alias] == 1 else "1")
    with pytest.raises(ChampionDisagreement, match=f"alias {alias}"):
        promotion.settle_champion(workspace.ledger, workspace.tracking)
    assert f"alias {alias}" in disagreements.reconcile(workspace)[0]
    assert aliases(workspace) == before


def test_a_reason_is_more_than_blanks(two_champions: Workspace) -> None:
    """Rollback and unfreeze without a reason are refused, and nothing is changed."""
    with pytest.raises(ChurnError, match="reason is empty"):
        steps.roll_back(two_champions, None, "  ", "Ann", "back")
    with pytest.raises(ChurnError, match="reason is empty"):
        answers.unfreeze(two_champions, "", "Ann")
    assert aliases(two_champions)["champion"] == 2


def test_a_hand_made_change_is_adopted_where_the_setting_says_so(two_champions: Workspace) -> None:
    """The version that somebody moved becomes the ledger's, by compare-and-set, with who and why; the anchor stays."""
    workspace = two_champions
    workspace.tracking.client.set_registered_model_alias(workspace.settings.model_name, "champion", "1")
    assert promotion.settle_champion(workspace.ledger, workspace.tracking, adopt=True) == 1
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert row is not None
    assert (row.version, row.previous, row.kind, row.actor, row.anchor) == (1, 2, "adopted", "someone in MLflow", 2)
    assert stages(workspace) == {1: "Production", 2: "Archived"}
    assert aliases(workspace)["champion"] == 1


def test_what_no_night_has_trained_is_never_adopted(two_champions: Workspace) -> None:
    """A version of unknown origin, or no version at all: refused also under `adopt`."""
    workspace, client, model = two_champions, two_champions.tracking.client, two_champions.settings.model_name
    source = workspace.tracking.version(1).source
    stranger = client.create_model_version(model, source, model_id=source.removeprefix("models:/"))
    client.set_registered_model_alias(model, "champion", str(stranger.version))
    with pytest.raises(ChampionDisagreement, match="cannot be adopted"):
        promotion.settle_champion(workspace.ledger, workspace.tracking, adopt=True)
    client.delete_registered_model_alias(model, "champion")
    with pytest.raises(ChampionDisagreement, match="no version"):
        promotion.settle_champion(workspace.ledger, workspace.tracking, adopt=True)
    assert workspace.ledger.in_production(model).version == 2  # type: ignore[union-attr]


def test_a_promotion_made_meanwhile_is_mirrored_too(two_champions: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow mirror of an older promotion does not leave the registry behind the ledger."""
    workspace, model = two_champions, two_champions.settings.model_name
    marked, mark = [], type(workspace.ledger).mark_mirrored

    def somebody_else_is_faster(ledger: object, row: Promotion) -> None:
        mark(ledger, row)  # type: ignore[arg-type]
        marked.append(row.sequence)
        if len(marked) == 1:
            now = datetime.now(UTC)
            change = Promotion(model, 0, 1, None, "forced", "meanwhile", "x", now, anchor=1, actor="Bob", code="FORCED")
            workspace.ledger.promote(change, 2)

    monkeypatch.setattr(type(workspace.ledger), "mark_mirrored", somebody_else_is_faster)
    shown = mirror(workspace.ledger, workspace.tracking)
    assert (marked, shown.version if shown else None) == ([2, 3], 1)
    assert aliases(workspace)["champion"] == 1


def test_an_approval_is_waited_for_and_kept(two_nights: Workspace) -> None:
    """Promoted by the policy, but only after a person's yes; who and why are in the history."""
    workspace = two_nights
    assert run_night(workspace, "night 2", approval=True) == "promote SUPERIOR"
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 1  # type: ignore[union-attr]
    assert recorded.needs_approval(workspace, "night 2")
    with pytest.raises(NothingToDo, match="waiting for an approval"):
        steps.promote(workspace, "night 2")
    answers.answer(workspace, "night 2", "approved", "Ann", "looks right")
    assert steps.promote(workspace, "night 2") == 2
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert row is not None
    assert (row.version, row.actor) == (2, "Ann")
    assert "looks right" in row.reason


@pytest.mark.parametrize(
    ("answer", "too_late", "held"),
    [
        ("rejected", "The first answer counts", "rejected by Ann"),
        ("expired", "can no longer be answered", "nobody answered in time"),
    ],
)
def test_without_a_yes_the_challenger_is_held(two_nights: Workspace, answer: str, too_late: str, held: str) -> None:
    """A no, or nobody's answer, is a hold for good; a later yes does not count."""
    workspace = two_nights
    run_night(workspace, "night 2", approval=True)
    answers.answer(workspace, "night 2", answer, "Ann", "no")
    with pytest.raises(ChurnError, match=too_late):
        answers.answer(workspace, "night 2", "approved", "Bob", "yes")
    with pytest.raises(NothingToDo, match=held):
        steps.promote(workspace, "night 2")
    assert aliases(workspace)["champion"] == 1


def needing_two(workspace: Workspace) -> Workspace:
    return replace(workspace, settings=workspace.settings.model_copy(update={"second_person": True}))


def test_nobody_promotes_alone(two_nights: Workspace) -> None:
    """The yes of whoever asked for the night counts for nothing, however the name is written; somebody else's does."""
    workspace = needing_two(two_nights)
    run_night(workspace, "night 2", approval=True, requested_by="ann")
    for same in ("ann", " Ann "):
        with pytest.raises(SecondPersonNeeded, match="CHURN_SECOND_PERSON requires someone else"):
            answers.answer(workspace, "night 2", "approved", same, "mine")
    with pytest.raises(ChurnError, match="the person who approved run night 2 is unknown"):
        answers.answer(workspace, "night 2", "approved", " ", "without a name")
    assert recorded.needs_approval(workspace, "night 2")
    answers.answer(workspace, "night 2", "approved", "bea", "looks right")
    assert steps.promote(workspace, "night 2") == 2


def test_everybody_may_say_no_to_a_night_of_their_own(two_nights: Workspace) -> None:
    """A rejection takes nobody else, and a night of the schedule was asked for by nobody."""
    workspace = needing_two(two_nights)
    run_night(workspace, "night 2", approval=True, requested_by="ann")
    assert answers.answer(workspace, "night 2", "rejected", "ann", "a mistake").answer == "rejected"
    run_night(workspace, "night 3", retrain=True, approval=True)
    assert answers.answer(workspace, "night 3", "approved", "ann", "looks right").by == "ann"


def test_to_force_takes_two(two_champions: Workspace) -> None:
    """A forced promotion waits for another person's yes; forced by nobody known, no yes counts."""
    workspace, model = needing_two(two_champions), two_champions.settings.model_name
    assert run_night(workspace, "night 3", retrain=True, force_reason="a test", requested_by="ann") == "promote FORCED"
    assert workspace.ledger.in_production(model).version == 2  # type: ignore[union-attr]
    with pytest.raises(SecondPersonNeeded):
        answers.answer(workspace, "night 3", "approved", "ann", "mine")
    answers.answer(workspace, "night 3", "approved", "bea", "I agree")
    assert steps.promote(workspace, "night 3") == 3
    assert run_night(workspace, "night 4", retrain=True, force_reason="who am I") == "promote FORCED"
    with pytest.raises(ChurnError, match="the person who forced run night 4 is unknown"):
        answers.answer(workspace, "night 4", "approved", "bea", "I agree")


def test_an_approval_comes_too_late_after_the_next_decision(two_nights: Workspace) -> None:
    """It expires as a hold when a later night has decided."""
    workspace = two_nights
    run_night(workspace, "night 2", approval=True)
    run_night(workspace, "night 3", retrain=True, approval=True)
    with pytest.raises(ChurnError, match="can no longer be approved"):
        answers.answer(workspace, "night 2", "approved", "Ann", "late")


def test_a_hold_cannot_be_approved(two_champions: Workspace) -> None:
    """Approval is for promotions and disputes; what the policy holds is forced or not at all."""
    workspace = two_champions
    run_night(workspace, "night 3", retrain=True)
    with pytest.raises(ChurnError, match="not waiting for an approval"):
        answers.answer(workspace, "night 3", "approved", "Ann", "please")


def test_a_forced_promotion_keeps_who_and_why_and_the_anchor(two_champions: Workspace) -> None:
    """The policy holds, a person forces: promoted, recorded as such, and the yardstick stays where it was."""
    workspace = two_champions
    assert run_night(workspace, "night 3", retrain=True, force_reason="a test", requested_by="Ann") == "promote FORCED"
    row = workspace.ledger.in_production(workspace.settings.model_name)
    assert row is not None
    assert (row.version, row.kind, row.actor, row.anchor, row.code) == (3, "forced", "Ann", 2, "FORCED")
    assert "a test" in row.reason
    assert aliases(workspace) == {"champion": 3, "previous": 2, "anchor": 2}


def test_a_rollback_moves_back_and_freezes(two_champions: Workspace) -> None:
    """The earlier version is champion again with its anchor; nothing is trained; promotion is off until unfrozen."""
    workspace, model = two_champions, two_champions.settings.model_name
    done = roll_back(workspace)
    assert (done.promotion.version, done.promotion.kind, done.promotion.actor) == (1, "rollback", "Ann")
    assert done.promotion.anchor == 1
    assert roll_back(workspace).promotion.sequence == done.promotion.sequence
    assert stages(workspace) == {1: "Production", 2: "Archived"}
    assert aliases(workspace) == {"champion": 1, "anchor": 1}
    land_night(workspace, 3)
    assert run_night(workspace, "night 3").endswith("FROZEN")
    assert answers.unfreeze(workspace, "mended", "Ann")
    assert not answers.unfreeze(workspace, "mended", "Ann")
    assert run_night(workspace, "night 4", retrain=True) == "promote SUPERIOR"
    assert [row.kind for row in workspace.ledger.promotions(model)] == [
        "promotion",
        "rollback",
        "promotion",
        "promotion",
    ]


def test_rolled_back_too_far_one_can_go_forward_again(two_champions: Workspace) -> None:
    """The version that was left can be named, and brings its anchor with it."""
    workspace = two_champions
    roll_back(workspace)
    done = roll_back(workspace, to=2, name="forward")
    assert (done.promotion.version, done.promotion.anchor) == (2, 2)
    assert aliases(workspace) == {"champion": 2, "previous": 1, "anchor": 2}


@pytest.mark.parametrize(("to", "why"), [(2, "already in production"), (99, "never in production")])
def test_a_rollback_to_nowhere_is_refused(two_champions: Workspace, to: int, why: str) -> None:
    """Each with its own reason, and nothing is changed."""
    before = two_champions.ledger.promotions(two_champions.settings.model_name)
    with pytest.raises(RollbackRefused, match=why):
        roll_back(two_champions, to)
    assert two_champions.ledger.promotions(two_champions.settings.model_name) == before


def test_the_first_champion_has_no_way_back(workspace: Workspace) -> None:
    """Neither has an empty history."""
    with pytest.raises(RollbackRefused, match="Nothing has ever been"):
        roll_back(workspace)
    land_night(workspace, 1)
    run_night(workspace, "night 1")
    with pytest.raises(RollbackRefused, match="no version before version 1"):
        roll_back(workspace)


def test_a_version_whose_files_changed_does_not_come_back(tmp_path: Path) -> None:
    """One byte of a stored model: neither rollback nor comparison accepts it, each with its own reason."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        workspace = make_workspace(tmp_path, url)
        for number in (1, 2):
            land_night(workspace, number)
            run_night(workspace, f"night {number}")
        oldest, newest = sorted((folder / "artifacts").rglob("MLmodel"), key=lambda file: file.stat().st_mtime)
        for file in (oldest, newest):
            file.write_text(file.read_text().replace("churn", "chum", 1) + "\n")
        with pytest.raises(RollbackRefused, match="have changed since it was registered"):
            roll_back(workspace)
        assert run_night(workspace, "night 3", retrain=True, force_reason="anyway") == "hold ARTIFACT_CHANGED"
        assert read_registry(workspace.tracking).champion == 2


def test_what_was_compared_is_what_is_promoted(tmp_path: Path) -> None:
    """Files that change between the comparison and the promotion end it, with a reason of their own."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        workspace = make_workspace(tmp_path, url)
        land_night(workspace, 1)
        request = Request("night 1")
        for batch in steps.arrive(workspace, request).batches:
            steps.validate(workspace, request, batch.batch)
        assert steps.compare(workspace, request, steps.train(workspace, request)).verdict == "promote"
        (file,) = (folder / "artifacts").rglob("model.skops")
        whole = file.read_bytes()
        file.write_bytes(whole + b"\0")
        with pytest.raises(ArtifactChanged, match="have changed since it was registered"):
            steps.promote(workspace, "night 1")
        assert workspace.ledger.in_production(workspace.settings.model_name) is None
        file.write_bytes(whole)
        assert steps.promote(workspace, "night 1") == 1


def test_what_was_in_production_at_a_time(two_champions: Workspace) -> None:
    """Before the first nothing, then each version in its time, with who, what, when and why."""
    workspace, model = two_champions, two_champions.settings.model_name
    second, first = workspace.ledger.promotions(model)
    assert workspace.ledger.in_production(model, first.promoted_at - timedelta(microseconds=1)) is None
    assert workspace.ledger.in_production(model, second.promoted_at - timedelta(microseconds=1)) == first
    assert (second.actor, second.code, second.night) == ("the policy", "SUPERIOR", "night 2")
    assert "better than champion 1" in second.reason


def test_retention_never_takes_what_somebody_may_need(two_champions: Workspace) -> None:
    """Champion, previous, anchor and an open decision's versions stay, however few are to be kept."""
    workspace = two_champions
    run_night(workspace, "night 3", retrain=True)
    run_night(workspace, "night 4", retrain=True, approval=True, force_reason="a test")
    plan = plan_retention(1, workspace.ledger, workspace.tracking)
    assert plan.expendable == [3]
    assert set(plan.protected) == {1, 2, 4}
    assert delete_versions([*plan.expendable, *plan.protected], workspace.ledger, workspace.tracking) == [3]
    assert set(stages(workspace)) == {1, 2, 4}
    assert mlflow.pyfunc.load_model(workspace.tracking.model_uri(2))
    with pytest.raises(RollbackRefused):
        steps.roll_back(replace(workspace), 3, "no", "Ann", "gone")
