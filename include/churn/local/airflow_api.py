"""A client of Airflow's public REST API that triggers runs and follows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from churn.errors import Outage

FINAL = frozenset({"success", "failed"})
CONFLICT = 409
_POLL = 0.5
_WHILE_BUSY = Retrying(
    retry=retry_if_result(lambda answer: answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR),
    stop=stop_after_attempt(5),
    wait=wait_fixed(2),
    retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
)
"""Airflow answers 500 if its SQLite database has been locked for long, as on a busy machine. No request does anything twice."""


class AirflowUnreachable(Outage):
    """Airflow does not answer, or refuses a request."""


@dataclass(frozen=True)
class TaskState:
    """One task instance; `label` is the mapped task's rendered name, `seconds` how long it has taken."""

    task: str
    label: str | None
    state: str
    seconds: float | None
    map_index: int
    try_number: int


class AirflowApi:
    """A session with one Airflow.

    Args:
        url: base URL.
        username: of a user who may trigger.
        password: the user's.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self._credentials = {"username": username, "password": password}

    def trigger(self, dag: str, run: str, conf: dict[str, Any]) -> None:
        """Trigger a run. If there is already one with this id, it is that run."""
        body = {"dag_run_id": run, "logical_date": None, "conf": conf}
        self._call("POST", f"/api/v2/dags/{dag}/dagRuns", json=body, accept=(CONFLICT,))

    def run_state(self, dag: str, run: str) -> str | None:
        """State of a run, or None if there is no such run."""
        answer = self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}", accept=(404,))
        state: str | None = answer.get("state")
        return state

    def active_runs(self, dag: str) -> list[str]:
        """The runs of a DAG that are queued or running, oldest first."""
        params = {"state": ["queued", "running"], "order_by": "run_after", "limit": 100}
        answer = self._call("GET", f"/api/v2/dags/{dag}/dagRuns", params=params)
        return [run["dag_run_id"] for run in answer["dag_runs"]]

    def task_states(self, dag: str, run: str) -> list[TaskState]:
        """The run's tasks, in the order in which they began."""
        answer = self._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        tasks = sorted(
            answer["task_instances"], key=lambda task: (task["start_date"] or "~", task["task_id"], task["map_index"])
        )
        return [_task_state(task) for task in tasks]

    def follow(self, dag: str, run: str, on_change: Callable[[list[TaskState]], None], timeout: float) -> str:
        """Poll a run until it is final, and report its tasks each time.

        Returns:
            `success` or `failed`.

        Raises:
            AirflowUnreachable: Airflow stopped answering, or the run did not finish in time.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = self.run_state(dag, run)
            on_change(self.task_states(dag, run) if state else [])
            if state in FINAL:
                return str(state)
            time.sleep(_POLL)
        raise AirflowUnreachable(
            f"Run {run} of {dag} has not finished after {timeout:.0f} s. See {str(self._client.base_url).rstrip('/')}/dags/{dag}/runs/{run}."
        )

    def has_dags(self, dags: set[str], since: datetime | None = None) -> bool:
        """Whether Airflow has parsed all of these DAGs; with `since`, after that time, because its database keeps earlier results."""
        answer = self._call("GET", "/api/v2/dags", params={"limit": 100})
        return dags <= {dag["dag_id"] for dag in answer["dags"] if _after(dag["last_parsed_time"], since)}

    def import_errors(self, since: datetime | None = None) -> list[str]:
        """DAG files that cannot be imported, each with the last line of its error; with `since`, only errors after that time."""
        answer = self._call("GET", "/api/v2/importErrors")
        return [
            f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}"
            for error in answer["import_errors"]
            if _after(error["timestamp"], since)
        ]

    def why_failed(self, dag: str, run: str, task: TaskState) -> str:
        """The last error in a task's log."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.task}/logs/{task.try_number}"
        answer = self._call(
            "GET", path, params={"map_index": task.map_index}, headers={"accept": "application/json"}, accept=(404,)
        )
        errors = [
            (line.get("error_detail") or [{}])[0].get("exc_value") or line.get("event", "")
            for line in answer.get("content", [])
            if isinstance(line, dict) and line.get("level") == "error"
        ]
        return errors[-1] if errors else "see the log"

    def _call(self, method: str, path: str, accept: tuple[int, ...] = (), **request: Any) -> Any:
        headers = request.pop("headers", {})
        try:
            if "authorization" not in self._client.headers:
                self._log_in()
            response = _WHILE_BUSY(self._client.request, method, path, headers=headers, **request)
            if response.status_code == httpx.codes.UNAUTHORIZED:
                self._log_in()
                response = _WHILE_BUSY(self._client.request, method, path, headers=headers, **request)
            if response.status_code in accept:
                return {}
            response.raise_for_status()
            return response.json()
        except httpx.HTTPStatusError as error:
            raise AirflowUnreachable(
                f"Airflow answers {error.response.status_code} to {method} {path}: {error.response.text[:300]}"
            ) from error
        except httpx.TransportError as error:
            raise AirflowUnreachable(
                f"Airflow at {self._client.base_url} does not answer ({type(error).__name__}). `make status` shows what is running; `make stop` and `make run` restart it."
            ) from error

    def _log_in(self) -> None:
        response = self._client.post("/auth/token", json=self._credentials)
        response.raise_for_status()
        self._client.headers["authorization"] = f"Bearer {response.json()['access_token']}"


def _after(moment: str | None, since: datetime | None) -> bool:
    return since is None or (moment is not None and datetime.fromisoformat(moment) >= since)


def _task_state(task: dict[str, Any]) -> TaskState:
    seconds = task["duration"]
    if seconds is None and task["start_date"]:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()
    label = task.get("rendered_map_index") or (str(task["map_index"]) if task["map_index"] >= 0 else None)
    return TaskState(task["task_id"], label, task["state"] or "waiting", seconds, task["map_index"], task["try_number"])
