"""### What nobody needs any more goes.

Weekly, and by hand; with *Dry run* it only lists what would go. Never touched: what is in production, the way back, the anchor,
decisions that wait for a person, the newest versions and decisions (`CHURN_KEEP_VERSIONS`, `CHURN_KEEP_DECISIONS`), and every row of the ledger.

| task | does | turns red when | turns pink when |
|---|---|---|---|
| clean | versions, MLflow runs, rows of snapshots, scored rows of decisions, unfinished files | registry, ledger or data root is away: nothing is deleted on a guess | |
| clean_images | serving images on the machine that builds them | the engine is away | there is no engine |
| clean_logs | task logs older than `CHURN_KEEP_DAYS`, on this worker and in the remote folder of Airflow's configuration | the store is away | |

Deleted runs are in MLflow's trash until `mlflow gc` is called beside its server. Airflow's own history (runs, XCom) is cleaned by
`airflow db clean`, where Airflow's database can be reached: a task cannot, and should not.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from churn.settings import Settings
from churn_airflow.steps import IMAGE_QUEUE, TASK_DEFAULTS, core_step, log_folders, report_failed_run

SETTINGS = Settings.load()


@dag(
    schedule=CronTriggerTimetable("0 12 * * 0", timezone=SETTINGS.timezone),  # far from the nights
    catchup=False,
    max_active_runs=1,
    default_args=TASK_DEFAULTS,
    on_failure_callback=report_failed_run,
    dagrun_timeout=timedelta(hours=3),
    doc_md=__doc__,
    tags=["churn"],
    params={
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description_md="Only list what would go: in the log of each task.",
            section="What to do",
        )
    },
)
def churn_maintenance() -> None:
    """Wire the upkeep; the three parts need nothing of each other."""

    @task(execution_timeout=timedelta(hours=1))
    def clean() -> dict[str, int]:
        from churn.pipeline import maintenance

        with core_step() as (workspace, request):
            plan = maintenance.plan_upkeep(workspace)
            went = plan if request.dry_run else maintenance.clean(plan, workspace)
            return maintenance.counted(went, request.dry_run)

    @task(execution_timeout=timedelta(minutes=30), queue=IMAGE_QUEUE)
    def clean_images() -> int:
        from churn.pipeline import maintenance

        with core_step() as (workspace, request):
            return len(maintenance.clean_images(workspace, request.dry_run))

    @task(execution_timeout=timedelta(minutes=30))
    def clean_logs() -> dict[str, int]:
        from churn.pipeline.maintenance import clean_task_logs

        dry_run = bool(get_current_context()["params"]["dry_run"])
        with core_step() as (workspace, _):
            return {
                root: clean_task_logs(fs, root, workspace.settings.keep_days, dry_run) for fs, root in log_folders()
            }

    clean()
    clean_images()
    clean_logs()


churn_maintenance()
