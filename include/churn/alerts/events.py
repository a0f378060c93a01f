"""Turns what the ledger says into alerts: one for each event, identified by a key that does not depend on attempts.

No alert contains customer data. The ledger's sentences are free of it, and of a foreign error only the type is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from churn.decision.policy import UNMET
from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.links import (
    ROLLBACK,
    comparison_page,
    docs_page,
    outcomes_page,
    run_page,
    scores_page,
    trigger_page,
    version_page,
)
from churn.foundation.records import (
    Alert,
    Batch,
    DecisionRecord,
    ImageRecord,
    OutcomeLook,
    Promotion,
    ScoreList,
    Snapshot,
)
from churn.foundation.schedule import NEWS
from churn.foundation.wording import KIND_WORDS, cause_of_rejection
from churn.outcomes.states import State
from churn.settings import Settings

PROMOTION, HOLD, BATCH, IMAGE = "promotion", "hold", "batch_rejected", "image_failed"
TASK, CHAMPION, SILENCE, TEST = "task_failed", "champion_below_floor", "silence", "test"
SNAPSHOT, LIST, DELIVERY, SCORED = "snapshot_differs", "list_failed", "delivery_failed", "scores_drifted"
REFUTED = "promotion_refuted"
KINDS = (PROMOTION, HOLD, BATCH, IMAGE, TASK, CHAMPION, SILENCE, SNAPSHOT, LIST, DELIVERY, SCORED, REFUTED)

SILENT_CHANGES = frozenset({"take_back"})
"""Changes of production without an alert of their own: an automatic rollback is reported by the image that caused it."""
FAILED_IMAGES = frozenset({"mismatch", "faulty", "failed"})

_SHOWN = 5
_SUBJECT, _TEXT = 100, 6000  # Amazon SNS accepts subjects of up to 100 ASCII characters


def find_events(ledger: Ledger, settings: Settings, now: datetime) -> list[Alert]:
    """Find every event of the last `NEWS` days that people are notified of."""
    model, since = settings.model_name, now - NEWS
    decisions = ledger.decisions_since(model, since)
    rejected = [batch for batch in ledger.batches(state="rejected") if batch.judged_at and batch.judged_at >= since]
    changes = [
        change
        for change in ledger.promotions(model)
        if change.promoted_at >= since and change.kind not in SILENT_CHANGES
    ]
    drifted = [row for row in ledger.score_lists(model, since=since) if row.summary["drift"]["drifted"]]
    current = ledger.in_production(model)
    look = ledger.last_look(model, current.sequence) if current else None
    images = [image for image in ledger.images(model) if image.state in FAILED_IMAGES and image.recorded_at >= since]
    return [
        *(batch_rejected(batch, settings, now) for batch in rejected),
        *(challenger_held(decision, settings, now) for decision in decisions if _guardrail_failed(decision)),
        *(champion_below_floor(decision, settings, now) for decision in decisions if _champion_fell(decision, ledger)),
        *(promoted_below_floor(decision, settings, now) for decision in decisions if _below_floor(decision)),
        *(promoted(change, settings, now) for change in reversed(changes)),
        *(image_failed(image, settings, now) for image in images),
        *(scores_drifted(row, settings, now) for row in drifted),
        *([promotion_refuted(look, settings, now)] if look and look.state == State.REFUTED else []),
    ]


def batch_rejected(batch: Batch, settings: Settings, now: datetime) -> Alert:
    """Alert about a rejected batch. If another run validates it again, that is another event."""
    short_hash = batch.batch[:12]
    return make_alert(
        f"{BATCH}:{batch.batch}:{batch.night}",
        f"Batch {short_hash} ({batch.name}) was rejected",
        cause_of_rejection(batch.reason or "No reason was recorded."),
        f"Fix the file and land it again; `churn batches show {short_hash}` has the details. If a limit was too strict, raise it and "
        f"run `churn batches rejudge {short_hash}`.",
        docs_page(settings, batch.batch),
        now,
    )


def challenger_held(decision: DecisionRecord, settings: Settings, now: datetime) -> Alert:
    """Alert about a challenger that is held because a guardrail failed."""
    return make_alert(
        f"{HOLD}:{decision.model}:{decision.night}",
        f"Version {decision.challenger} of {decision.model} is held: {decision.code}",
        f"{decision.sentence} Run {decision.night}; nothing was promoted.",
        Reason.implied_by(decision.code).next_step(decision.night, settings.policy_file.name),
        comparison_page(settings.mlflow_ui, decision.run_id),
        now,
    )


def champion_below_floor(decision: DecisionRecord, settings: Settings, now: datetime) -> Alert:
    """Alert about a champion that fails floor or calibration on the newest unseen customers."""
    return make_alert(
        f"{CHAMPION}:{decision.model}:{decision.champion}:{decision.night}",
        f"Champion {decision.champion} of {decision.model} fails floor or calibration",
        " ".join(rule["sentence"] for rule in decision.watch if not rule["passed"]),
        f"No action is needed: version {decision.challenger} replaces it."
        if decision.verdict == "promote" and not (decision.dry_run or decision.approval)
        else f"Open the comparison of run {decision.night}. If the new data is correct, a better challenger will be promoted once one passes "
        "the policy. If a batch is wrong, run `churn batches withdraw HASH --reason ...`. To restore an earlier version, run `churn rollback --reason ...`.",
        comparison_page(settings.mlflow_ui, decision.run_id),
        now,
    )


def promoted_below_floor(decision: DecisionRecord, settings: Settings, now: datetime) -> Alert:
    """Alert about a version that was promoted as superior although it does not meet floor and calibration."""
    return make_alert(
        f"{CHAMPION}:{decision.model}:{decision.challenger}:{decision.night}",
        f"Version {decision.challenger} of {decision.model} is better than the champion, but fails floor or calibration",
        decision.sentence,
        f"Find out why both versions are weak: the data, or limits that do not fit it (floor and calibration in {settings.policy_file.name}).",
        comparison_page(settings.mlflow_ui, decision.run_id),
        now,
    )


def promoted(change: Promotion, settings: Settings, now: datetime) -> Alert:
    """Alert about another version in production."""
    replaced = f"; it replaced version {change.previous}" if change.previous else ""
    happened = KIND_WORDS.get(change.kind, change.kind)
    return make_alert(
        f"{PROMOTION}:{change.model}:{change.sequence}",
        f"Version {change.version} of {change.model} has been {happened} ({change.code})",
        f"Version {change.version} is now in production{replaced}. It was {happened} by {change.actor} in run {change.night}: {change.reason}",
        "No action is needed. To restore an earlier version, trigger the DAG churn_rollback or run `churn rollback --reason ...`.",
        version_page(settings.mlflow_ui, change.model, change.version),
        now,
    )


def image_failed(image: ImageRecord, settings: Settings, now: datetime) -> Alert:
    """Alert about a version without a usable image. The same state of the same version is one event."""
    fault = {
        "mismatch": "differs from the model",
        "faulty": "is not usable",
        "failed": "could not be built or verified",
    }
    return make_alert(
        f"{IMAGE}:{image.model}:{image.version}:{image.state}",
        f"The image of version {image.version} of {image.model} {fault[image.state]}",
        image.detail,
        _AFTER_IMAGE[image.state].format(version=image.version),
        version_page(settings.mlflow_ui, image.model, image.version),
        now,
    )


def snapshot_differs(snapshot: Snapshot, differences: Sequence[str], settings: Settings, now: datetime) -> Alert:
    """Alert about a snapshot that is not what a full computation gives.

    Args:
        snapshot: the snapshot.
        differences: a sentence for each part that differs.
        settings: where Airflow is.
        now: the time of the alert.
    """
    short_hash = snapshot.snapshot[:12]
    return make_alert(
        f"{SNAPSHOT}:{snapshot.snapshot}",
        f"Snapshot {short_hash} differs from a full computation",
        f"The weekly check of the newest snapshot found {'a difference' if len(differences) == 1 else f'{len(differences)} differences'}: "
        f"{' '.join(differences[:_SHOWN])}",
        f"Run `churn audit --hashes` to see whether an accepted file has been changed, then `churn snapshot rebuild {short_hash}`. If it "
        "cannot be rebuilt, the versions trained on it cannot be reproduced: delete its folder, and run the retraining again.",
        run_page(settings, "churn_maintenance"),
        now,
    )


def list_failed(run: str, current: ScoreList | None, error: object, settings: Settings, now: datetime) -> Alert:
    """Alert about a list that could not be made.

    Args:
        run: the id of the scoring run.
        current: the list that is still the current one, if there is one.
        error: what was raised.
        settings: where Airflow is.
        now: the time of the alert.
    """
    stays = (
        f"List {current.list_id[:12]} of {current.published_at:%Y-%m-%d %H:%M}, made by version {current.version}, is still the current one."
        if current
        else "No list has been published yet."
    )
    return make_alert(
        f"{LIST}:{run}",
        f"No new list of customers of {settings.model_name} was published",
        f"Scoring run {run} failed: {explain_failure(error)} {stays}",
        "Fix the cause, then clear the failed task of the run. The same customers give the same list.",
        run_page(settings, "churn_scoring", run),
        now,
    )


def delivery_failed(run: str, row: ScoreList, target: str, error: object, settings: Settings, now: datetime) -> Alert:
    """Alert about a list that was not delivered to a target; readers there still see the one before."""
    return make_alert(
        f"{DELIVERY}:{run}:{row.list_id}:{target}",
        f"List {row.list_id[:12]} was not delivered to the {target}",
        f"The last attempt to deliver list {row.list_id[:12]} of campaign {row.campaign} failed, in run {run}: {explain_failure(error)} "
        "Readers there still see the list before.",
        f"Fix the cause, then clear the task, or run `churn scores deliver {row.list_id[:12]}`.",
        run_page(settings, "churn_scoring", run),
        now,
    )


def scores_drifted(row: ScoreList, settings: Settings, now: datetime) -> Alert:
    """Alert about a list whose customers or scores differ from the training rows or from the list before."""
    return make_alert(
        f"{SCORED}:{row.list_id}",
        f"Customers or scores of list {row.list_id[:12]} have drifted",
        f"List {row.list_id[:12]} of campaign {row.campaign}, made by version {row.version}: these differ more than the scoring policy allows: "
        f"{', '.join(row.summary['drift']['drifted'])}. The list was published.",
        "Check the file of customers, and whether a retraining is due. `churn scores show` has the figures.",
        scores_page(settings, row.list_id),
        now,
    )


def promotion_refuted(look: OutcomeLook, settings: Settings, now: datetime) -> Alert:
    """Alert about a promotion that later rows have refuted; what follows depends on `CHURN_ON_REFUTED`."""
    version, before = look.figures.get("version"), look.figures.get("before")
    failing = ", ".join(
        f"{measure['name']} {measure['gain']:+.4f} (at most {measure['upper']:+.4f})"
        for measure in look.figures.get("measures", [])
        if measure["upper"] < -measure["margin"]
    )
    step = {
        "alert": "Roll back (`churn rollback --reason ...`), or leave it and watch the page Outcomes.",
        "ask": f"To roll back, trigger churn_rollback: {trigger_page(settings, ROLLBACK)}",
        "rollback": "The rollback follows within an hour, and turns automatic promotion off. `churn unfreeze --reason ...` turns it on again.",
    }[settings.on_refuted]
    return make_alert(
        f"{REFUTED}:{look.model}:{look.sequence}",
        f"The promotion of version {version} of {look.model} is refuted",
        f"{look.rows:,} rows that came after the promotion, {look.events:,} of them with the event, say that version {version} does worse "
        f"than version {before}: {failing}.",
        step,
        outcomes_page(settings),
        now,
    )


def task_failed(
    dag: str, run: str, task: str, map_index: int, error: object, settings: Settings, now: datetime
) -> Alert:
    """Alert about a task whose last attempt failed.

    Args:
        dag: the id of the DAG.
        run: the id of the run.
        task: the id of the task.
        map_index: the number of a mapped task; negative for any other.
        error: what was raised, if that is known.
        settings: where Airflow is.
        now: the time of the alert.
    """
    name = f"{task}[{map_index}]" if map_index >= 0 else task
    return make_alert(
        f"{TASK}:{dag}:{run}:{name}",
        f"Task {name} of {dag} failed",
        f"The last attempt of task {name} of {dag} failed, in run {run}: {explain_failure(error)}",
        "Open the task's log, fix the cause, then clear the task. Every task can be repeated.",
        run_page(settings, dag, run),
        now,
    )


def run_failed(dag: str, run: str, reason: str, settings: Settings, now: datetime) -> Alert:
    """Alert about a run that failed without an alert from any of its tasks."""
    why = "it exceeded its time limit." if reason == "timed_out" else explain_failure(None)
    return make_alert(
        f"{TASK}:{dag}:{run}:",
        f"A run of {dag} failed",
        f"Run {run} of {dag} failed: {why}",
        "Open the run: the red task is where it stopped. Check its log and the worker's memory, then clear the task.",
        run_page(settings, dag, run),
        now,
    )


def explain_failure(error: object) -> str:
    """Return the message of our own error; of any other error only its type, because its message may quote data."""
    cause = getattr(error, "__cause__", None)
    for candidate in (cause, error):
        if isinstance(candidate, ChurnError):
            return str(candidate)
    if isinstance(error, BaseException):
        return f"{type(error).__name__}; see the task's log."
    return "no error was recorded; it was killed, or its worker was lost."


def make_test_alert(settings: Settings, now: datetime) -> Alert:
    """Make an alert that only tests whether alerts arrive."""
    text = f"This is a test of the alerts of {settings.model_name}. If you read it, you will receive its alerts."
    return make_alert(
        f"{TEST}:{now.isoformat()}",
        "Test alert",
        text,
        "No action is needed.",
        run_page(settings, "churn_watch"),
        now,
    )


def make_alert(key: str, subject: str, text: str, next_step: str, link: str, now: datetime) -> Alert:
    """Make an alert that every channel accepts.

    Args:
        key: identifies the event; begins with the kind of the alert.
        subject: becomes one line of at most 100 ASCII characters.
        text: what happened; at most 6,000 characters are kept.
        next_step: what a person does about it.
        link: the page to open.
        now: the time of the alert.
    """
    one_line = " ".join(subject.split()).encode("ascii", "replace").decode()
    return Alert(key, key.split(":", 1)[0], one_line[:_SUBJECT], f"{text[:_TEXT]}\n\nNext: {next_step}", link, now)


def _guardrail_failed(decision: DecisionRecord) -> bool:
    return decision.verdict == "hold" and not decision.dry_run and not Reason.implied_by(decision.code).routine


def _below_floor(decision: DecisionRecord) -> bool:
    unmet = any(not rule["passed"] and rule.get("code") in UNMET for rule in decision.rules)
    return decision.code == Reason.SUPERIOR and not decision.dry_run and unmet


def _champion_fell(decision: DecisionRecord, ledger: Ledger) -> bool:
    """Whether the champion fails a rule that it met in the run before: the fall is the event, not every run below the floor."""
    failing = _failing_rules(decision)
    before = ledger.decision_before(decision) if failing else None
    return bool(failing - (_failing_rules(before) if before else set()))


def _failing_rules(decision: DecisionRecord) -> set[str]:
    return {rule["name"] for rule in decision.watch if not rule["passed"]}


_AFTER_IMAGE = {
    "mismatch": "If the version was in production, it has been rolled back automatically, and automatic promotion is off. Find out why "
    "they differ, then run `churn unfreeze --reason ...`.",
    "faulty": "Production has not changed, and nothing was published. Fix the build, then run `churn image build --version {version}`.",
    "failed": "Production has not changed. When the container engine and the image registry are available, run "
    "`churn image build --version {version}`, or clear the run of churn_image_build.",
}
