"""Looks at a promotion: what later rows say of it and of the versions that were held, kept once for each run.

A look that confirms or refutes a promotion keeps its rows, so that it can be replayed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from churn.decision.policy_file import Policy, PolicyInvalid, load_policy_text
from churn.foundation.clients import Clients
from churn.foundation.digests import array_digest, json_digest
from churn.foundation.parts import WrittenPart, has_table, part_name, part_names, store_parts
from churn.foundation.paths import outcome_rows
from churn.foundation.records import OutcomeLook, Promotion, Snapshot
from churn.foundation.storage import Storage
from churn.outcomes.arrivals import SHADOW, living_versions
from churn.outcomes.confirmation import (
    FRESH_NONINFERIOR,
    SUPERIOR,
    Conclusion,
    LaterRows,
    conclude,
)
from churn.outcomes.health import measure_health, measure_shadow
from churn.outcomes.later import Pair, read_later_rows
from churn.outcomes.states import FINAL, PROMOTIONS, State, due_dates
from churn.outcomes.treated import read_treated
from churn.release.lineage import predecessor

log = logging.getLogger(__name__)
_COLUMNS = ("customers", "labels", "first", "second", "weights")


@dataclass(frozen=True)
class Margins:
    """What a promotion as non-inferior may lose, by the policy that decided it."""

    roc_auc: float
    brier: float


def look_at_promotion(clients: Clients, night: str, now: Snapshot, at: datetime | None = None) -> OutcomeLook | None:
    """Look at the promotion in force, once for a run.

    Args:
        clients: data root, ledger and contract.
        night: the id of the run.
        now: the newest snapshot, which has the labels.
        at: the time of a look that is replayed; None: now.

    Returns:
        What was found; None if nothing is in production, or a rollback was the last change.

    Raises:
        PartFault: a part of a snapshot is missing or has been changed.
    """
    ledger, model = clients.ledger, clients.settings.model_name
    rows = ledger.promotions(model)
    if not rows or rows[0].version is None or rows[0].kind not in PROMOTIONS:
        return None
    change, before = rows[0], predecessor(rows)
    last = ledger.last_look(model, change.sequence)
    looked_at = at or datetime.now(UTC)
    treated = read_treated(clients)
    conclusion, evidence = _conclude(clients, change, before, now, last, looked_at, treated)
    figures = conclusion.to_json() | _more(clients, change, now, before, treated)
    if conclusion.state in (State.CONFIRMED, State.REFUTED) and (last is None or last.state not in FINAL):
        log.warning("Promotion of version %s: %s by %d later rows.", change.version, conclusion.state, conclusion.rows)
    look = OutcomeLook(
        model=model,
        sequence=change.sequence,
        night=night,
        state=conclusion.state.value,
        rows=conclusion.rows,
        events=conclusion.events,
        figures=json.loads(json.dumps(figures)),
        evidence=evidence,
        looked_at=looked_at,
    )
    return ledger.add_look(look)


def _conclude(
    clients: Clients,
    change: Promotion,
    before: int | None,
    now: Snapshot,
    last: OutcomeLook | None,
    looked_at: datetime,
    treated: pa.Table,
) -> tuple[Conclusion, str | None]:
    """The conclusion, and the hash of the rows that it rests on, if it is new. What was concluded once is not looked at again."""
    if before is None or change.version is None:
        return Conclusion(State.NOT_COMPARABLE, 0, 0), None
    if last is not None and last.state in FINAL:
        kept = {name: last.figures.get(name) for name in ("measures",)}
        return Concluded(State(last.state), last.rows, last.events, (), kept["measures"] or []), last.evidence
    code, margins = _terms_of(clients, change)
    later = read_later_rows(clients, Pair(change.version, before, change.promoted_at), now, treated)
    days = (looked_at - change.promoted_at) / timedelta(days=1)
    conclusion = conclude(later, code, margins.roc_auc, margins.brier, days, clients.settings.confirmation_days)
    about = {"code": code, "margins": asdict(margins)}
    found = Concluded(
        conclusion.state,
        conclusion.rows,
        conclusion.events,
        conclusion.measures,
        None,
        later.excluded,
        later.contacted,
        about,
    )
    if conclusion.state in (State.CONFIRMED, State.REFUTED):
        return found, _keep_rows(clients.storage, later)
    return found, None


@dataclass(frozen=True)
class Concluded(Conclusion):
    """A conclusion with what a page shows besides. `kept` are the measures of an earlier look, as plain JSON."""

    kept: list[dict[str, Any]] | None = None
    excluded: dict[str, int] | None = None
    contacted: bool = False
    about: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The conclusion as plain JSON."""
        found = super().to_json()
        if self.kept is not None:
            found["measures"] = self.kept
        return found | {"excluded": self.excluded or {}, "contacted": self.contacted, **(self.about or {})}


def _terms_of(clients: Clients, change: Promotion) -> tuple[str, Margins]:
    """Why a version was promoted, and the margins of the policy that decided."""
    decision = clients.ledger.decision(change.night)
    code = decision.code if decision else change.code
    text = decision.policy if decision else ""
    try:
        text = text or load_policy_text(clients.settings.policy_file)
        freshness = Policy.read(text, "the policy of the decision").freshness
        margins = Margins(freshness.roc_auc_margin, freshness.brier_margin)
    except PolicyInvalid:
        margins = Margins(0.01, 0.002)
    return (code if code == FRESH_NONINFERIOR else SUPERIOR), margins


def _more(clients: Clients, change: Promotion, now: Snapshot, before: int | None, treated: pa.Table) -> dict[str, Any]:
    """Health of the champion, held challengers, the evidence of the decision, and what waits."""
    settings, version = clients.settings, change.version or 0
    alone = read_later_rows(clients, Pair(version, version, change.promoted_at), now, treated)
    shadows = []
    held = [
        number
        for number, role in living_versions(clients.ledger, settings.model_name, settings.shadows).items()
        if role == SHADOW
    ]
    for number in held:
        record = clients.ledger.version(settings.model_name, number)
        since = max(change.promoted_at, record.registered_at) if record else change.promoted_at
        rows = read_later_rows(clients, Pair(number, version, since), now, treated)
        shadows.append(measure_shadow(number, rows, len(held)))
    waiting = due_dates(now, clients.contract)
    return {
        "version": version,
        "before": before,
        "health": measure_health(alone),
        "shadows": shadows,
        "promised": _promised(clients, change),
        "waiting": {day.isoformat(): count for day, count in waiting.items()},
    }


def _promised(clients: Clients, change: Promotion) -> dict[str, Any]:
    """What the evidence of the decision said of the gain: the difference of each measure, and its interval."""
    decision = clients.ledger.decision(change.night)
    evidence = (decision.comparison.get("evidence") or {}) if decision else {}
    deltas = evidence.get("deltas") or {}
    return {name: deltas[name] for name in ("roc_auc", "brier") if name in deltas}


def _keep_rows(storage: Storage, later: LaterRows) -> str:
    """Keep the rows of a look under the hash of their content."""
    arrays = {name: getattr(later, name) for name in _COLUMNS}
    digest = json_digest({name: array_digest(values) for name, values in arrays.items()})
    if not has_table(storage, outcome_rows(digest)):
        with storage.scratch() as folder:
            file = folder / part_name(0)
            pq.write_table(pa.table(arrays), file, compression="zstd")
            store_parts(storage, outcome_rows(digest), [WrittenPart.of(file)])
    return digest


def read_rows(storage: Storage, digest: str) -> LaterRows:
    """The rows of a look that confirmed or refuted a promotion.

    Raises:
        PartFault: a part is missing.
    """
    table = pa.concat_tables([storage.read_table(name) for name in part_names(storage, outcome_rows(digest))])
    columns = {name: table[name].to_numpy() for name in _COLUMNS}
    return LaterRows(
        columns["customers"].astype(np.uint64),
        columns["labels"],
        columns["first"],
        columns["second"],
        columns["weights"],
    )


def replay_look(storage: Storage, look: OutcomeLook) -> bool:
    """Whether the rows of a look, concluded from again, give the same state and the same figures.

    Raises:
        PartFault: its rows are missing.
    """
    if look.evidence is None:
        return True
    margins = look.figures.get("margins") or {"roc_auc": 0.01, "brier": 0.002}
    again = conclude(
        read_rows(storage, look.evidence),
        look.figures.get("code", SUPERIOR),
        margins["roc_auc"],
        margins["brier"],
        0,
        1,
    )
    said: Sequence[dict[str, Any]] = look.figures["measures"]
    return again.state.value == look.state and again.to_json()["measures"] == list(said)
