"""What a run does about outcomes: it scores what arrived before anything is trained on it, and looks at promotions and lists."""

from __future__ import annotations

import logging
from datetime import datetime

from churn.foundation.records import ArrivalScores, ListResult, OutcomeLook, Promotion, Snapshot
from churn.outcomes.arrivals import score_arrivals
from churn.outcomes.list_results import measure_lists
from churn.outcomes.looks import look_at_promotion
from churn.outcomes.states import State
from churn.pipeline.workspace import Workspace

log = logging.getLogger(__name__)


def score_first(workspace: Workspace, night: str) -> list[ArrivalScores]:
    """Let the living versions score what arrived, before any training can use it; see `outcomes.arrivals.score_arrivals`."""
    return score_arrivals(workspace, night)


def observe(
    workspace: Workspace, night: str, snapshot: Snapshot, at: datetime | None = None
) -> tuple[OutcomeLook | None, list[ListResult]]:
    """Look at the promotion in force, and at every list whose labels have become known. `at` is the time of a run that is replayed.

    Returns:
        What was found of the promotion, if there is one, and the results of lists that have changed.

    Raises:
        PartFault: a part of a snapshot is missing or has been changed.
    """
    look = look_at_promotion(workspace, night, snapshot, at)
    if look:
        log.info(
            "The promotion in force is %s: %d later rows, %d of them with the event.",
            look.state,
            look.rows,
            look.events,
        )
    return look, measure_lists(workspace, night, snapshot)


def refuted_promotion(workspace: Workspace) -> Promotion | None:
    """The promotion in force, if later rows have refuted it."""
    model = workspace.settings.model_name
    change = workspace.ledger.in_production(model)
    look = workspace.ledger.last_look(model, change.sequence) if change else None
    return change if look and look.state == State.REFUTED else None
