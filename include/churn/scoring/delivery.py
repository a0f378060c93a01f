"""Delivers lists to where the settings send them: a database, a folder, or both. Each delivery has a record of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from churn.errors import ChurnError, NothingToDo
from churn.foundation.clients import Clients
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.database_delivery import deliver_to_database, remove_from_database, view_of
from churn.scoring.drop_delivery import deliver_to_drop, remove_from_drop
from churn.scoring.score_list import read_policy
from churn.settings import masked

log = logging.getLogger(__name__)
DATABASE, DROP = "database", "drop"


@dataclass(frozen=True)
class Target:
    """A place that lists are delivered to, how, and how one is removed there."""

    name: str
    place: str
    deliver: Callable[[ScoreList], int]
    remove: Callable[[ScoreList], None]


def find_targets(clients: Clients) -> list[Target]:
    """The places that the settings name; none by default."""
    settings, targets = clients.settings, []
    if settings.scores_url:
        url = settings.scores_url.get_secret_value()

        def to_database(row: ScoreList) -> int:
            view = view_of(row.campaign, read_policy(clients).campaign.name)

            def is_newest() -> bool:
                return _newest_like(clients, row).list_id == row.list_id

            return deliver_to_database(clients.storage, row, url, clients.contract, view, is_newest)

        targets.append(Target(DATABASE, masked(url), to_database, lambda row: remove_from_database(row.list_id, url)))
    if settings.scores_drop:
        place = settings.scores_drop

        def to_drop(row: ScoreList) -> int:
            drop = Storage.open(place)
            return deliver_to_drop(clients.storage, row, drop, settings.scores_csv, lambda: _newest_like(clients, row))

        def from_drop(row: ScoreList) -> None:
            remove_from_drop(row.campaign, row.list_id, Storage.open(place))

        targets.append(Target(DROP, masked(place), to_drop, from_drop))
    return targets


def deliver_list(clients: Clients, row: ScoreList) -> list[Delivery]:
    """Deliver a list to every target, whatever happens at the others. Repeating this changes nothing that was delivered.

    Only the newest list of a campaign is delivered: an older one would replace it. If a newer one is published meanwhile, that is logged.

    Raises:
        ChurnError: the list is not the newest of its campaign.
    """
    newest = _newest_like(clients, row)
    if newest.list_id != row.list_id:
        raise ChurnError(
            f"List {row.list_id[:12]} is not the newest of campaign {row.campaign}, which is {newest.list_id[:12]}. Deliver that one."
        )
    attempts = (_attempt(clients, target, row) for target in find_targets(clients))
    return [delivery for delivery in attempts if delivery]


def deliver_to(clients: Clients, target: Target, row: ScoreList) -> Delivery:
    """Deliver a list to one target; the outcome is recorded either way.

    Raises:
        NothingToDo: a newer list of the campaign was published meanwhile; nothing was delivered or recorded.
        ChurnError: the delivery failed. An `Outage` may succeed when it is tried again.
    """
    before = {
        (known.target, known.place) for known in clients.ledger.deliveries(row.list_id) if known.state == "delivered"
    }
    try:
        rows = target.deliver(row)
    except NothingToDo:
        raise
    except ChurnError as error:
        _record(clients, target, row, "failed", None, str(error))
        raise
    done = "was there already" if (target.name, target.place) in before else "has been delivered"
    log.info("%s: list %s %s, %d customers.", target.place, row.list_id[:12], done, rows)
    return _record(clients, target, row, "delivered", rows)


def find_delivered(clients: Clients, lists: Sequence[ScoreList]) -> list[Delivery]:
    """The deliveries of some lists that are still at one of the places that the settings name."""
    places = {(target.name, target.place) for target in find_targets(clients)}
    found = clients.ledger.deliveries_of([row.list_id for row in lists])
    return [
        delivery
        for row in lists
        for delivery in found.get(row.list_id, ())
        if delivery.rows is not None and delivery.state != "removed" and (delivery.target, delivery.place) in places
    ]


def remove_delivered(clients: Clients, deliveries: Sequence[Delivery]) -> None:
    """Remove what was delivered, and record it.

    Raises:
        ChurnError: a place is unavailable or refuses; what was removed before stays removed.
    """
    targets = {target.name: target for target in find_targets(clients)}
    for delivery in deliveries:
        targets[delivery.target].remove(clients.ledger.find_score_list(delivery.list_id))
        clients.ledger.record_removed(delivery)


def require_delivered(deliveries: list[Delivery]) -> None:
    """Check that every delivery succeeded.

    Raises:
        ChurnError: one failed; the message has the reason and the next step of each.
    """
    failed = failures_of(deliveries)
    if failed:
        raise ChurnError("\n".join(failed))


def failures_of(deliveries: Sequence[Delivery]) -> list[str]:
    """Why deliveries failed, with the next step of each."""
    return [delivery.detail for delivery in deliveries if delivery.state == "failed"]


def _newest_like(clients: Clients, row: ScoreList) -> ScoreList:
    """The newest list of the campaign of a list."""
    return next(iter(clients.ledger.score_lists(row.model, row.campaign, limit=1)), row)


def _attempt(clients: Clients, target: Target, row: ScoreList) -> Delivery | None:
    try:
        return deliver_to(clients, target, row)
    except NothingToDo as reason:
        log.info("%s", reason)
        return None
    except ChurnError as error:  # it is recorded, and `require_delivered` raises it
        return Delivery(row.list_id, target.name, "failed", 1, None, target.place, str(error), datetime.now(UTC))


def _record(
    clients: Clients, target: Target, row: ScoreList, state: str, rows: int | None, detail: str = ""
) -> Delivery:
    now = datetime.now(UTC)
    return clients.ledger.record_delivery(Delivery(row.list_id, target.name, state, 0, rows, target.place, detail, now))
