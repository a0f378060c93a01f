"""### Delete what is no longer needed, and check the newest snapshot.

Runs weekly, or manually. With *Dry run*, it only lists what it would delete. It never deletes what is in production, the
versions that a rollback needs, the baseline version, decisions that wait for approval, the newest versions and decisions
(`CHURN_KEEP_VERSIONS`, `CHURN_KEEP_DECISIONS`), score lists in force (`CHURN_KEEP_LISTS`, `CHURN_KEEP_POPULATIONS`), or any row of the ledger.

| task | does | fails (red) when | is skipped (pink) when |
|---|---|---|---|
| clean | deletes versions, MLflow runs, rows of snapshots, scored rows of decisions, score lists with what was delivered of them, files of current customers, and unfinished files | the MLflow registry, the ledger or the data root is unavailable; then it deletes nothing. The place of a delivered list is unavailable; then that list remains there | |
| check_snapshot | computes the newest snapshot again from all accepted rows, and compares | it differs, which is also an alert; accepted rows are missing or damaged | there is no snapshot yet |
| clean_images | deletes serving images on the machine that builds them | the container engine is unavailable | there is no container engine |
| clean_logs | deletes task logs older than `CHURN_KEEP_DAYS`, on this worker and in the remote folder of Airflow's configuration | the store of the logs is unavailable | |

Deleted MLflow runs stay in MLflow's trash until `mlflow gc` is run on its server. Airflow's own history (runs, XCom) is deleted by
`airflow db clean`, which needs access to Airflow's database; tasks do not have that access.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task

from churn.settings import Settings
from churn_airflow.steps import IMAGE_QUEUE, TASK_DEFAULTS, core_step, log_folders, report_failed_run
from churn_airflow.timetables import cron

SETTINGS = Settings.load()


@dag(
    schedule=cron("0 12 * * 0", SETTINGS.timezone),  # far from the nightly run
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
            description_md="Only list what would be deleted, in the log of each task.",
            section="What to do",
        )
    },
)
def churn_maintenance() -> None:
    """Wire the tasks, which do not depend on each other."""

    @task(execution_timeout=timedelta(hours=1))
    def clean() -> dict[str, int]:
        from churn.pipeline import maintenance

        with core_step() as (workspace, request):
            plan = maintenance.plan_maintenance(workspace)
            deleted = plan if request.dry_run else maintenance.clean(plan, workspace)
            return maintenance.log_counts(deleted, request.dry_run)

    @task(execution_timeout=timedelta(hours=2))
    def check_snapshot() -> str:
        from churn.pipeline import maintenance

        with core_step() as (workspace, _):
            return maintenance.check_snapshot(workspace)

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
    check_snapshot()
    clean_images()
    clean_logs()


churn_maintenance()
