"""Delivers lists to where the settings send them: a database, a folder, or both. Each delivery has a record of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from churn.errors import ChurnError
from churn.foundation.clients import Clients
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.database_delivery import deliver_to_database, view_of
from churn.scoring.drop_delivery import deliver_to_drop
from churn.scoring.score_list import read_policy
from churn.settings import masked

log = logging.getLogger(__name__)
DATABASE, DROP = "database", "drop"


@dataclass(frozen=True)
class Target:
    """A place that lists are delivered to, and how."""

    name: str
    place: str
    deliver: Callable[[ScoreList], int]


def find_targets(clients: Clients) -> list[Target]:
    """The places that the settings name; none by default."""
    settings, targets = clients.settings, []
    if settings.scores_url:
        url = settings.scores_url.get_secret_value()

        def to_database(row: ScoreList) -> int:
            view = view_of(row.campaign, read_policy(clients).campaign.name)
            return deliver_to_database(clients.storage, row, url, clients.contract, view)

        targets.append(Target(DATABASE, masked(url), to_database))
    if settings.scores_drop:
        place = settings.scores_drop

        def to_drop(row: ScoreList) -> int:
            return deliver_to_drop(clients.storage, row, Storage.open(place), settings.scores_csv)

        targets.append(Target(DROP, masked(place), to_drop))
    return targets


def deliver_list(clients: Clients, row: ScoreList) -> list[Delivery]:
    """Deliver a list to every target, whatever happens at the others. Repeating this changes nothing that was delivered.

    Only the newest list of a campaign is delivered: an older one would replace it.

    Raises:
        ChurnError: the list is not the newest of its campaign.
    """
    newest = clients.ledger.score_lists(row.model, row.campaign, limit=1)
    if newest and newest[0].list_id != row.list_id:
        raise ChurnError(
            f"List {row.list_id[:12]} is not the newest of campaign {row.campaign}, which is {newest[0].list_id[:12]}. Deliver that one."
        )
    return [_attempt(clients, target, row) for target in find_targets(clients)]


def deliver_to(clients: Clients, target: Target, row: ScoreList) -> Delivery:
    """Deliver a list to one target; the outcome is recorded either way.

    Raises:
        ChurnError: the delivery failed. An `Outage` may succeed when it is tried again.
    """
    try:
        rows = target.deliver(row)
    except ChurnError as error:
        _record(clients, target, row, "failed", None, str(error))
        raise
    log.info("List %s was delivered to %s: %d customers.", row.list_id[:12], target.place, rows)
    return _record(clients, target, row, "delivered", rows)


def require_delivered(deliveries: list[Delivery]) -> None:
    """Check that every delivery succeeded.

    Raises:
        ChurnError: one failed; the message has the reason and the next step of each.
    """
    failed = [delivery.detail for delivery in deliveries if delivery.state == "failed"]
    if failed:
        raise ChurnError("\n".join(failed))


def _attempt(clients: Clients, target: Target, row: ScoreList) -> Delivery:
    try:
        return deliver_to(clients, target, row)
    except ChurnError as error:
        detail = str(error)
        log.error("%s", detail)  # noqa: TRY400 -- the message says it all, and it is recorded
        return Delivery(row.list_id, target.name, "failed", 1, None, target.place, detail, datetime.now(UTC))


def _record(
    clients: Clients, target: Target, row: ScoreList, state: str, rows: int | None, detail: str = ""
) -> Delivery:
    now = datetime.now(UTC)
    return clients.ledger.record_delivery(Delivery(row.list_id, target.name, state, 0, rows, target.place, detail, now))
