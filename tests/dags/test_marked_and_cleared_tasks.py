"""A person marks or clears tasks: each leads to the right result, or to one message that names the task to clear."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from churn.errors import NothingToDo
from churn.foundation.wording import clear_task
from churn.pipeline import recorded, shipping, steps
from churn.pipeline.workspace import Request, Workspace
from churn.release.image import BuiltImage
from churn.release.publishing import unpublished
from churn.release.service_checks import Verification
from churn.scoring import second_scoring
from churn.settings import Settings
from churn_airflow.steps import open_filesystem
from support.basics import S3, clone_workspace, export, land_text, make_workspace, small_file
from support.dag_runs import attempts, clear_tasks, create_run, finish_run, mark_task, task_states
from support.score_lists import in_this_process

RETRAINING, IMAGE, ROLLBACK, SCORING = "churn_retraining", "churn_image_build", "churn_rollback", "churn_scoring"
TASKS = {
    RETRAINING: ("arrive", "validate", "train", "compare", "promote", "build_image", "close"),
    IMAGE: ("build", "verify", "publish", "score", "score_rollback"),
    ROLLBACK: ("roll_back", "lost_image", "build_image", "score"),
    SCORING: ("collect", "score", "deliver_database", "deliver_drop", "announce", "every_list_made"),
    "churn_landing": ("rest", "landed", "night"),
    "churn_population_landing": ("rest", "landed", "scores"),
    "churn_maintenance": ("clean", "check_snapshot", "clean_images", "clean_logs"),
    "churn_watch": ("watch", "score", "refuted"),
}
WATCHES = ("churn_landing", "churn_population_landing")
CONF: dict[str, dict[str, Any]] = {
    IMAGE: {"version": 2},
    ROLLBACK: {"reason": "customers complain"},
}


@dataclass(frozen=True)
class Case:
    """A task that is marked before it runs, and what follows.

    `ends` has the states of the tasks that matter. `clears` is the task that the message names; None if the run needs no repair.
    """

    dag: str
    task: str
    state: str
    ends: dict[str, str]
    clears: str | None = None
    conf: dict[str, Any] = field(default_factory=dict)
    lands: bool = False

    @property
    def name(self) -> str:
        return f"{self.dag}.{self.task} {self.state}"


FORCED = {"retrain": True, "force_reason": "a test"}
NO_DECISION = {"promote": "upstream_failed", "build_image": "upstream_failed", "close": "failed"}
MARKED = [
    # The files in landing wait. Without a result of `arrive`, Airflow does not run `validate`, and would end the run as a success.
    Case(RETRAINING, "arrive", "success", {"validate": "upstream_failed", "close": "failed"}, "arrive", lands=True),
    Case(RETRAINING, "arrive", "failed", {"validate": "upstream_failed", "close": "failed"}, "arrive", lands=True),
    Case(RETRAINING, "validate", "success", {"train": "skipped", "close": "failed"}, "validate", lands=True),
    Case(RETRAINING, "validate", "failed", {"train": "skipped", "close": "failed"}, "validate", lands=True),
    Case(RETRAINING, "train", "success", {"compare": "failed", **NO_DECISION}, "train", {"retrain": True}),
    Case(RETRAINING, "train", "failed", {"compare": "upstream_failed", **NO_DECISION}, None, {"retrain": True}),
    Case(RETRAINING, "compare", "success", {**NO_DECISION, "promote": "failed"}, "compare", {"retrain": True}),
    Case(RETRAINING, "compare", "failed", NO_DECISION, None, {"retrain": True}),
    Case(RETRAINING, "promote", "success", {"build_image": "skipped", "close": "success"}, None, {"retrain": True}),
    Case(RETRAINING, "promote", "failed", {"build_image": "upstream_failed", "close": "success"}, None, FORCED),
    Case(RETRAINING, "build_image", "success", {"close": "skipped"}),
    Case(RETRAINING, "build_image", "failed", {"close": "skipped"}),
    Case(RETRAINING, "close", "success", {"build_image": "skipped"}),
    Case(RETRAINING, "close", "failed", {"build_image": "skipped"}),
    Case(IMAGE, "build", "success", {"verify": "failed", "publish": "upstream_failed"}, "build"),
    Case(IMAGE, "build", "failed", {"verify": "upstream_failed", "publish": "upstream_failed"}),
    Case(IMAGE, "verify", "success", {"build": "success", "publish": "failed"}, "verify"),
    Case(IMAGE, "verify", "failed", {"build": "success", "publish": "upstream_failed"}),
    Case(IMAGE, "publish", "success", {"verify": "success"}),
    Case(IMAGE, "publish", "failed", {"verify": "success"}),
    *(
        Case(IMAGE, task, state, {"publish": "success"})
        for task in ("score", "score_rollback")
        for state in ("success", "failed")
    ),
    Case(ROLLBACK, "roll_back", "success", {"lost_image": "failed", "build_image": "upstream_failed"}, "roll_back"),
    Case(ROLLBACK, "roll_back", "failed", {"lost_image": "upstream_failed", "build_image": "upstream_failed"}),
    Case(ROLLBACK, "lost_image", "success", {"roll_back": "success", "build_image": "success"}),
    Case(ROLLBACK, "lost_image", "failed", {"roll_back": "success", "build_image": "upstream_failed"}),
    Case(ROLLBACK, "build_image", "success", {"roll_back": "success", "lost_image": "success"}),
    Case(ROLLBACK, "build_image", "failed", {"roll_back": "success", "lost_image": "success"}),
    *(Case(ROLLBACK, "score", state, {"roll_back": "success"}) for state in ("success", "failed")),
    # Without a result of `collect`, `score` chooses whom to score itself.
    Case(SCORING, "collect", "success", {"score": "success"}),
    Case(
        SCORING,
        "collect",
        "failed",
        {"score": "upstream_failed", "announce": "skipped", "every_list_made": "upstream_failed"},
    ),
    Case(SCORING, "score", "success", {"deliver_drop": "skipped", "announce": "skipped"}),
    Case(
        SCORING,
        "score",
        "failed",
        {"deliver_drop": "skipped", "announce": "skipped", "every_list_made": "upstream_failed"},
    ),
    *(
        Case(SCORING, task, "success", {"score": "success", "announce": "skipped"})
        for task in ("deliver_database", "deliver_drop")
    ),
    *(
        Case(SCORING, task, "failed", {"score": "success", "announce": "upstream_failed"})
        for task in ("deliver_database", "deliver_drop")
    ),
    *(Case(SCORING, "announce", state, {"score": "success"}) for state in ("success", "failed")),
    *(Case(SCORING, "every_list_made", state, {"score": "success"}) for state in ("success", "failed")),
    *(
        Case("churn_maintenance", task, state, {})
        for task in TASKS["churn_maintenance"]
        for state in ("success", "failed")
    ),
    *(Case("churn_watch", task, state, {}) for task in TASKS["churn_watch"] for state in ("success", "failed")),
]


@pytest.fixture(autouse=True, scope="module")
def quick_steps(second_champion: Workspace) -> Iterator[None]:
    """Selection of a model and comparison of an image or a list with it are tested elsewhere; here only who may rely on them.

    The champions that all tests of a process share are trained before this, as the other tests expect them.
    """
    assert second_champion
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(shipping, "verify_image", lambda *_: Verification(500, 100, 0.0, 100))
        monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
        yield


@pytest.fixture(scope="module")
def finished_runs(
    dag_bag: object, second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A complete run of each DAG, on one workspace in which two versions have been champion and the first is back."""
    workspace = clone_workspace(second_champion, tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(workspace, monkeypatch, tmp_path_factory.mktemp("logs"))
        land_text(workspace, small_file(seed=1))
        runs = {
            dag: finish_run(dag_bag, create_run(dag_bag, dag, conf))
            for dag, conf in (
                (RETRAINING, FORCED),
                (IMAGE, {"version": 3}),
                (ROLLBACK, {"reason": "customers complain", "version": 1}),
                (SCORING, None),
                ("churn_maintenance", None),
                ("churn_watch", None),
            )
        }
        assert {run.state for run in runs.values()} == {"success"}
        assert workspace.ledger.in_production(workspace.settings.model_name).version == 1
    return runs | {"workspace": workspace}


@pytest.fixture
def finished(finished_runs: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    use(finished_runs["workspace"], monkeypatch, tmp_path)
    return finished_runs


def use(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, logs: Path) -> None:
    """Put the settings of a workspace and a folder of task logs into the environment."""
    export(workspace.settings, monkeypatch)
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(logs))


def facts(workspace: Workspace) -> list[Any]:
    """Everything that a repeated task must not change."""
    ledger, model = workspace.ledger, workspace.settings.model_name
    versions = workspace.tracking.client.search_model_versions(f"name = '{model}'")
    images = [(image.version, image.state) for image in ledger.images(model)]
    return [
        ledger.batches(),
        ledger.decisions(model=model),
        ledger.promotions(model),
        images,
        ledger.score_lists(model),
        sorted(int(version.version) for version in versions),
    ]


def messages(workspace: Workspace, run: Any) -> str:
    """What the alerts about a run and the state of its image say."""
    texts = [alert.text for alert in workspace.ledger.alerts() if run.run_id in alert.key]
    image = workspace.ledger.image(workspace.settings.model_name, 2)
    return "\n".join([*texts, image.detail if image and run.dag_id == IMAGE else ""])


@pytest.fixture(scope="module")
def marked_workspace(second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace for runs with marked tasks: two versions have been champion, and nothing waits."""
    return clone_workspace(second_champion, tmp_path_factory.mktemp("marked"))


@pytest.fixture
def marked(marked_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    use(marked_workspace, monkeypatch, tmp_path)
    return marked_workspace


def test_every_task_is_covered(dag_bag: Any) -> None:
    """A task that is added to a DAG is added to these tables."""
    assert {name: set(dag.task_ids) for name, dag in dag_bag.dags.items()} == {
        name: set(tasks) for name, tasks in TASKS.items()
    }
    marked = {(case.dag, case.task, case.state) for case in MARKED}
    assert marked == {
        (dag, task, state)
        for dag, tasks in TASKS.items()
        if dag not in WATCHES
        for task in tasks
        for state in ("success", "failed")
    }


@pytest.mark.parametrize("case", MARKED, ids=lambda case: case.name)
def test_a_marked_task_leads_to_a_result_or_names_the_task_to_clear(
    dag_bag: object, marked: Workspace, case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is tried twice in vain, a run is green only if it is complete, and the named task repairs it."""
    workspace, conf = marked, case.conf or CONF.get(case.dag, {})
    if case.dag == ROLLBACK:
        workspace = request.getfixturevalue("two_champions")
        export(workspace.settings, monkeypatch)
    if case.lands:
        seed = MARKED.index(case)
        land_text(workspace, small_file(seed=seed, first_customer=900_000 + 1000 * seed), f"{seed}.csv")
    run = create_run(dag_bag, case.dag, conf)
    mark_task(dag_bag, run, case.task, case.state)
    run = finish_run(dag_bag, run)
    states = task_states(run)
    assert {task: states[task] for task in case.ends} == case.ends
    assert run.state == ("failed" if "failed" in (case.state, *case.ends.values()) else "success")
    assert {count for task, state in states.items() if state == "failed" for count in attempts(run, task)} <= {0, 1}
    alert_text = messages(workspace, run)
    assert "Error" not in alert_text
    if case.clears:
        assert clear_task(case.clears) in alert_text
    if run.state == "failed" and case.dag not in ("churn_watch", IMAGE):
        assert "clear" in alert_text
    quick = case.dag != RETRAINING or case.task in ("promote", "build_image", "close")
    if (case.clears and case.state == "success") or (quick and case.state == "failed"):
        clear_tasks(dag_bag, run, case.clears or case.task, downstream=True)
        repaired = finish_run(dag_bag, run)
        assert repaired.state == "success", task_states(repaired)
        assert "upstream_failed" not in task_states(repaired).values()


def test_a_version_that_is_in_the_ledger_is_compared(dag_bag: object, marked: Workspace) -> None:
    """The training ended, but its task was killed before it passed the version on, and was marked as success."""
    run = create_run(dag_bag, RETRAINING, {"retrain": True})
    trained = steps.train(marked, Request(run.run_id, retrain=True))
    mark_task(dag_bag, run, "train", "success")
    run = finish_run(dag_bag, run)
    assert (run.state, task_states(run)["compare"]) == ("success", "success")
    assert marked.ledger.decision(run.run_id).challenger == trained.version
    assert recorded.challenger_of(marked, run.run_id) == trained


def test_an_unpromoted_version_gets_no_image(
    dag_bag: object, two_champions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`promote` is marked although the decision is to promote: the message names it. A promotion in the ledger is built."""
    workspace = two_champions
    export(workspace.settings, monkeypatch)
    run = create_run(dag_bag, RETRAINING, FORCED)
    mark_task(dag_bag, run, "promote", "success")
    run = finish_run(dag_bag, run)
    assert (run.state, task_states(run)["build_image"], list(attempts(run, "build_image"))) == ("failed", "failed", [1])
    assert clear_task("promote") in messages(workspace, run)
    assert steps.promote(workspace, run.run_id) == 3
    clear_tasks(dag_bag, run, "build_image")
    run = finish_run(dag_bag, run)
    assert (run.state, triggered_version("image-of-version-3")) == ("success", 3)


def was_triggered(dag: str, run_id: str) -> bool:
    return find_run(dag, run_id) is not None


def triggered_version(run_id: str) -> int | None:
    run = find_run(IMAGE, run_id)
    return run.conf["version"] if run else None


def find_run(dag: str, run_id: str) -> Any:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalar(select(DagRun).where(DagRun.dag_id == dag, DagRun.run_id == run_id))


def test_a_rollback_that_is_in_the_ledger_gets_its_image(
    dag_bag: object, two_champions: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollback was committed, but its task was killed and marked as success: the build finds out whether the image exists."""
    workspace = two_champions
    export(workspace.settings, monkeypatch)
    run = create_run(dag_bag, ROLLBACK, CONF[ROLLBACK])
    steps.roll_back(workspace, None, "customers complain", "somebody", run.run_id)
    mark_task(dag_bag, run, "roll_back", "success")
    run = finish_run(dag_bag, run)
    assert (run.state, task_states(run)["lost_image"], triggered_version("image-of-version-1")) == (
        "success",
        "success",
        1,
    )


def test_a_published_image_needs_no_repair(marked: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing passed on, the tasks after `build` are skipped if the version has already been published, as after `build`."""
    record = unpublished(BuiltImage(2, None), marked.settings.model_name, "published", "verified")
    monkeypatch.setattr(shipping, "find_published", lambda *_: record)
    with pytest.raises(NothingToDo, match="already been published"):
        shipping.read_built(marked, 2, None)
    with pytest.raises(NothingToDo, match="already been published"):
        shipping.read_verification(marked, 2, None)


EVERY_CHAIN = os.environ.get("TEST_CRASHES") == "all"
REPEATED = [
    (dag, task, downstream)
    for dag, tasks in TASKS.items()
    if dag not in WATCHES
    for task in tasks
    for downstream in ((False, True) if task == tasks[0] or (EVERY_CHAIN and task != tasks[-1]) else (False,))
]
"""Each task by itself, and the first one with all that follow it; `make test-crashes` also clears every task between with what follows."""


@pytest.mark.parametrize(("dag", "task", "downstream"), REPEATED)
def test_a_cleared_task_changes_nothing(
    dag_bag: object, finished: dict[str, Any], dag: str, task: str, downstream: bool
) -> None:
    """Alone or with its downstream tasks: each task ends as before, and the same version, decision and promotion remain."""
    before, states = facts(finished["workspace"]), task_states(finished[dag])
    clear_tasks(dag_bag, finished[dag], task, downstream)
    run = finish_run(dag_bag, finished[dag])
    assert (run.state, triggered_once(task_states(run))) == ("success", triggered_once(states))
    assert facts(finished["workspace"]) == before


def triggered_once(states: dict[str, str]) -> dict[str, str]:
    """The states of tasks, where a scoring run that has been triggered, and is not triggered again, is the same."""
    return states | ({"score": "skipped"} if "collect" not in states and "score" in states else {})


@pytest.mark.parametrize("dag", [dag for dag in TASKS if dag not in WATCHES])
def test_marking_a_finished_task_changes_nothing(dag_bag: object, finished: dict[str, Any], dag: str) -> None:
    """Its result is kept, and no task runs again; a task marked as failed and then as success is as before."""
    before, states = facts(finished["workspace"]), task_states(finished[dag])
    for task in TASKS[dag]:
        for state in ("failed", states[task]):
            mark_task(dag_bag, finished[dag], task, state)
    run = finish_run(dag_bag, finished[dag])
    assert (run.state, task_states(run)) == ("success", states)
    assert facts(finished["workspace"]) == before


def test_a_repeated_rollback_does_not_move_the_image_tag_back(
    finished: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a later promotion, clearing an earlier rollback leaves the tag `production` where it is."""
    from churn.release import rollback

    workspace, moved = finished["workspace"], []
    monkeypatch.setattr(rollback, "point_production", lambda image, _: moved.append(image.version))
    monkeypatch.setattr(rollback, "has_image", lambda *_: True)
    workspace.ledger.record_image(unpublished(BuiltImage(1, None), workspace.settings.model_name, "published", ""))
    workspace.ledger.record_image(unpublished(BuiltImage(2, None), workspace.settings.model_name, "published", ""))
    steps.roll_back(workspace, 2, "the other way", "somebody", "a later rollback")
    steps.roll_back(workspace, 1, "customers complain", "somebody", finished[ROLLBACK].run_id)
    assert moved == [2]
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 2


@pytest.fixture(scope="module")
def quick_triggers() -> Iterator[None]:
    """No pause is waited for, and the run that is started ends at once."""
    from airflow.providers.standard.triggers.external_task import DagStateTrigger
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
    from airflow.triggers.base import TriggerEvent

    from churn_airflow import sensors

    async def ended(trigger: DagStateTrigger) -> AsyncIterator[TriggerEvent]:
        name, data = trigger.serialize()
        yield TriggerEvent((name, data | dict.fromkeys(data["run_ids"], "success")))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sensors, "TimeDeltaTrigger", lambda _: TimeDeltaTrigger(timedelta(0)))
        monkeypatch.setattr(DagStateTrigger, "run", ended)
        yield


@pytest.fixture
def landing(quick_triggers: None, s3: S3, tmp_path: Path, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data root on S3 with a file in landing."""
    extra = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": s3.key, "password": s3.secret, "extra": extra}
    export(make_workspace(tmp_path, mlflow_url).settings, monkeypatch)
    monkeypatch.setenv("AIRFLOW_CONN_CHURN_DATA", json.dumps(connection))
    monkeypatch.setenv("CHURN_DATA_ROOT", f"s3://{s3.bucket}/{tmp_path.name}")
    monkeypatch.setenv("CHURN_AWS_CONN_ID", "churn_data")
    settings = Settings.load()
    land_text(Workspace.open(settings, open_filesystem(settings)), "x")


@pytest.mark.parametrize("state", ["success", "failed"])
@pytest.mark.parametrize("task", TASKS["churn_landing"])
def test_a_marked_task_of_the_watch(dag_bag: object, landing: None, task: str, state: str) -> None:
    """Marked as success, the next task goes on; marked as failed, it waits to be cleared. A watch starts at most one run."""
    run = create_run(dag_bag, "churn_landing")
    mark_task(dag_bag, run, task, state)
    run = finish_run(dag_bag, run)
    started = task != "night" and state == "success"
    assert run.state == state
    assert was_triggered(RETRAINING, f"landed__{run.run_id}") is started
    clear_tasks(dag_bag, run, task, downstream=True)
    run = finish_run(dag_bag, run)
    assert (run.state, task_states(run)["night"]) == ("success", "skipped" if started else "success")
    assert was_triggered(RETRAINING, f"landed__{run.run_id}")


@pytest.mark.parametrize("downstream", [False, True])
@pytest.mark.parametrize("task", TASKS["churn_landing"])
def test_a_cleared_task_of_the_watch_starts_no_second_run(
    dag_bag: object, landing: None, task: str, downstream: bool
) -> None:
    """The run that this watch has started exists, so the task that starts it is skipped if it is repeated."""
    run = finish_run(dag_bag, create_run(dag_bag, "churn_landing"))
    assert (run.state, set(task_states(run).values())) == ("success", {"success"})
    cleared = clear_tasks(dag_bag, run, task, downstream)
    run = finish_run(dag_bag, run)
    assert (run.state, task_states(run)["night"]) == ("success", "skipped" if "night" in cleared else "success")


def test_a_backfill_ingests_once(
    dag_bag: Any, second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three past nights: the first run takes everything in landing, the others find nothing new and are skipped."""
    workspace = clone_workspace(second_champion, tmp_path_factory.mktemp("backfill"))
    export(workspace.settings, monkeypatch)
    land_text(workspace, small_file(seed=2, first_customer=5000))
    runs = [finish_run(dag_bag, run) for run in backfill(dag_bag, RETRAINING)]
    assert [run.state for run in runs] == ["success"] * 3
    assert [task_states(run)["close"] for run in runs] == ["success", "skipped", "skipped"]
    assert {batch.night for batch in workspace.ledger.batches(state="accepted")} >= {runs[0].run_id}
    assert [workspace.ledger.decision(run.run_id) is not None for run in runs] == [True, False, False]


@pytest.mark.parametrize("dag", ["churn_maintenance", "churn_watch"])
def test_a_backfill_of_upkeep_repeats_it(dag_bag: Any, finished: dict[str, Any], dag: str) -> None:
    """These DAGs look at the present, so each run of a backfill does the same."""
    before = facts(finished["workspace"])
    runs = [finish_run(dag_bag, run) for run in backfill(dag_bag, dag, timedelta(days=22))[:3]]
    assert [run.state for run in runs] == ["success"] * 3
    assert facts(finished["workspace"]) == before


def test_the_watch_over_files_of_customers_starts_a_scoring_run(dag_bag: object, landing: None) -> None:
    """It is wired by the same function as the watch over landing."""
    settings = Settings.load()
    workspace = Workspace.open(settings, open_filesystem(settings))
    with workspace.storage.writing("populations/landing/customers.csv") as stream:
        stream.write(b"x")
    run = finish_run(dag_bag, create_run(dag_bag, "churn_population_landing"))
    assert (run.state, task_states(run)) == ("success", {"rest": "success", "landed": "success", "scores": "success"})
    assert was_triggered(SCORING, f"landed__{run.run_id}")
    assert not was_triggered(RETRAINING, f"landed__{run.run_id}")


@pytest.mark.parametrize("dag", [IMAGE, ROLLBACK, SCORING, *WATCHES])
def test_a_dag_without_a_schedule_cannot_be_backfilled(dag_bag: Any, finished: dict[str, Any], dag: str) -> None:
    """Airflow refuses, and says why."""
    from airflow.models.backfill import DagNonPeriodicScheduleException

    assert finished
    with pytest.raises(DagNonPeriodicScheduleException, match=f"{dag} has a non-periodic schedule"):
        backfill(dag_bag, dag)


def backfill(dag_bag: Any, dag: str, span: timedelta = timedelta(days=3)) -> list[Any]:
    """Create a backfill as Airflow's API does; returns its runs in order."""
    from airflow.models.backfill import Backfill, ReprocessBehavior, _create_backfill
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    create_run(dag_bag, dag, CONF.get(dag))  # stores the DAG
    last = datetime(2026, 3, 4, 12, tzinfo=UTC)
    made = _create_backfill(
        dag_id=dag,
        from_date=last - span,
        to_date=last,
        max_active_runs=1,
        reverse=False,
        dag_run_conf={},
        triggering_user_name="ann",
        reprocess_behavior=ReprocessBehavior.NONE,
    )
    with create_session() as session:
        session.get(Backfill, made.id).completed_at = datetime.now(UTC)
        query = select(DagRun).where(DagRun.backfill_id == made.id).order_by(DagRun.logical_date)
        return list(session.scalars(query))
