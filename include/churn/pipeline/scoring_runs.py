"""A scoring run: which customers are scored, their list, its deliveries, and whether a change of production calls for one.

The scoring DAG wires these steps. A run that fails leaves the current list as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from churn.decision.policy_file import PolicyInvalid
from churn.errors import ChurnError, NothingToDo, Outage, require_storable, shown
from churn.foundation.paths import list_rows, population_original
from churn.foundation.records import Delivery, Population, Promotion, ScoreList
from churn.pipeline.workspace import Workspace
from churn.scoring.delivery import Target, deliver_to, find_targets
from churn.scoring.population import FILE, collect_populations, require_population
from churn.scoring.score_list import ListRequest, MadeList, make_list, read_policy

log = logging.getLogger(__name__)

ACCEPTED = "accepted"
"""Instead of the hash of a file: the customers of all accepted rows."""
_VERIFIED = frozenset({"published", "pruned", "not_built"})
"""States of an image, or of what is verified without one, whose answers are the model's."""


@dataclass(frozen=True)
class ScoringRequest:
    """How a scoring run was requested.

    - `run`: its id
    - `file`: name or hash of the file of customers; None: what landed, else what is scored by default
    - `version`, `campaign`, `capacity`, `dry_run`, `requested_by`: as in `ListRequest`
    """

    run: str
    file: str | None = None
    version: int | None = None
    campaign: str | None = None
    capacity: int | None = None
    dry_run: bool = False
    requested_by: str | None = None

    def __post_init__(self) -> None:
        """Check the texts that a person wrote.

        Raises:
            ChurnError: one has a character that cannot be stored.
        """
        require_storable(self.file, "name of the file")
        require_storable(self.campaign, "campaign")


def collect_customers(workspace: Workspace, request: ScoringRequest) -> list[str]:
    """Choose whom a run scores: the file of the request; else the files that have landed; else those of the current list's file; else all accepted customers.

    Returns:
        Hashes of files, or `accepted`.

    Raises:
        ChurnError: there is no file of that name or hash.
        StorageError: the data root is unavailable.
    """
    settings, ledger = workspace.settings, workspace.ledger
    landed = collect_populations(
        workspace.storage, ledger, settings.settle_seconds, settings.part_size, workspace.spread
    )
    if request.file:
        return [_find_file(workspace, request.file).population]
    if landed:
        return [row.population for row in landed]
    current = current_list(workspace, request.campaign)
    if current and current.source == FILE and workspace.storage.exists(population_original(current.population)):
        return [current.population]
    return [ACCEPTED]


def make_lists(workspace: Workspace, request: ScoringRequest, customers: Sequence[str]) -> list[MadeList]:
    """Make a list of each file of customers, or of all accepted ones. One that fails does not stop the others.

    Raises:
        Outage: something is unavailable; lists that were made stay.
        ChurnError: a list could not be made; the message has the reason of each.
    """
    asked = [
        ListRequest(
            request.run,
            None if name == ACCEPTED else require_population(workspace.ledger, name),
            request.version,
            request.campaign,
            request.capacity,
            request.dry_run,
            request.requested_by,
            landed=True,
        )
        for name in customers
    ]
    made, faults = [], []
    for result in make_each(workspace, asked):
        if isinstance(result, MadeList):
            made.append(result)
        else:
            log.error("%s", result)
            faults.append(str(result))
    if faults:
        raise ChurnError("\n".join(faults))
    return made


def make_each(workspace: Workspace, requests: Iterable[ListRequest]) -> Iterator[MadeList | ChurnError]:
    """Make the list of each request. One that fails does not stop the others.

    Yields:
        The list, or the reason why it was not made.

    Raises:
        Outage: something is unavailable; lists that were made stay.
    """
    for request in requests:
        try:
            yield make_list(workspace, request)
        except Outage:
            raise
        except ChurnError as error:
            yield error


@dataclass(frozen=True)
class Undelivered:
    """A list, and the target that it has not been delivered to."""

    row: ScoreList
    target: Target


def find_undelivered(workspace: Workspace, target: str, request: ScoringRequest) -> Undelivered:
    """The current list of the campaign, if it is to be delivered to a target, `database` or `drop`.

    Raises:
        NothingToDo: it is a dry run, no such target is set, there is no list, or it has been delivered.
    """
    if request.dry_run:
        raise NothingToDo("Dry run: nothing is delivered.")
    chosen = next((place for place in find_targets(workspace) if place.name == target), None)
    if chosen is None:
        raise NothingToDo(f"No list is delivered to a {target}: {_SETTINGS[target]} is not set.")
    current = current_list(workspace, request.campaign)
    if current is None:
        raise NothingToDo("No list has been published yet, so there is nothing to deliver.")
    delivered = {
        (row.target, row.place) for row in workspace.ledger.deliveries(current.list_id) if row.state == "delivered"
    }
    if (target, chosen.place) in delivered:
        raise NothingToDo(f"List {current.list_id[:12]} has been delivered to {chosen.place} already.")
    return Undelivered(current, chosen)


def deliver_list(workspace: Workspace, undelivered: Undelivered) -> Delivery:
    """Deliver a list to a target.

    Raises:
        NothingToDo: a newer list was published meanwhile.
        ChurnError: the delivery failed. The ledger has the reason.
    """
    return deliver_to(workspace, undelivered.target, undelivered.row)


def current_list(workspace: Workspace, campaign: str | None = None) -> ScoreList | None:
    """The newest list of a campaign; by default, of that of the scoring policy."""
    name = campaign or read_policy(workspace).campaign.name
    lists = workspace.ledger.score_lists(workspace.settings.model_name, name, limit=1)
    return lists[0] if lists else None


def find_list(workspace: Workspace, prefix: str | None, campaign: str | None = None) -> ScoreList:
    """The list whose id begins with a prefix; without one, the current list of a campaign, by default of that of the scoring policy.

    Raises:
        ChurnError: there is none, or more than one.
    """
    if prefix:
        return workspace.ledger.find_score_list(prefix)
    current = current_list(workspace, campaign)
    if current is None:
        name = campaign or read_policy(workspace).campaign.name
        raise ChurnError(
            f"No list of campaign {name} has been published yet. Next: `churn score FILE` or `churn score --from-accepted`; "
            "`churn scores list` shows the lists of all campaigns."
        )
    return current


def require_change(workspace: Workspace) -> Promotion:
    """The change of production that calls for a new list: its version is verified, and the current list is by another one.

    Raises:
        NothingToDo: nothing is in production, its image has not been verified, or it has made the current list.
    """
    model = workspace.settings.model_name
    change = workspace.ledger.in_production(model)
    if change is None or change.version is None:
        raise NothingToDo("No version is in production, so no customers are scored.")
    image = workspace.ledger.image(model, change.version)
    if image is None or image.state not in _VERIFIED:
        raise NothingToDo(
            f"The image of version {change.version} has not been verified, so no customers are scored yet. They will be once it has been."
        )
    try:
        current = current_list(workspace)
    except PolicyInvalid:
        return change  # the scoring run says what is wrong; the run that asks has done its work
    if current and current.version == change.version:
        raise NothingToDo(f"The current list {current.list_id[:12]} was made by version {change.version} already.")
    return change


def announced(workspace: Workspace, request: ScoringRequest, delivered: bool) -> dict[str, Any]:
    """The event for other DAGs about the current list of the campaign.

    Args:
        workspace: the clients of the steps.
        request: how the run was requested.
        delivered: whether this run has delivered a list.

    Raises:
        NothingToDo: this run has neither published nor delivered a list.
    """
    current = current_list(workspace, request.campaign)
    if current is None or request.dry_run or not (delivered or current.night == request.run):
        raise NothingToDo("This run has published and delivered nothing new, so no DAG is started.")
    return event_of(workspace, current)


def describe_list(row: ScoreList) -> list[str]:
    """A list in lines for a terminal: counts, groups and expected value."""
    summary = row.summary
    return [
        f"List {row.list_id[:12]}: campaign {row.campaign}, version {row.version}, {row.source} {row.source_name}",
        f"{row.arrived_rows:,} customers arrived: {row.rows:,} scored, {row.quarantined_rows:,} quarantined. "
        f"To contact: {row.contact:,}. Control group: {row.control:,}. Capacity: {summary['capacity']:,}.",
        f"Expected value of all within the capacity, control group included: {summary['expected_value']:,.0f}, against "
        f"{summary['by_probability']:,.0f} for as many of the likeliest customers.",
    ]


def describe_place(workspace: Workspace, row: ScoreList) -> list[str]:
    """Where a published list was delivered, where its rows are, and how its first rows are shown, in lines for a terminal."""
    return [
        *(f"Delivery to {delivery.place}: {delivery.state}" for delivery in workspace.ledger.deliveries(row.list_id)),
        f"Rows: {workspace.storage.url(list_rows(row.list_id))}",
        f"First rows: churn scores export {row.list_id[:12]} --first 10",
    ]


def event_of(workspace: Workspace, row: ScoreList) -> dict[str, Any]:
    """The event for other DAGs about a list: its id, where its rows are, and counts."""
    counts = {name: value for name, value in asdict(row).items() if name in ("rows", "contact", "control")}
    return {
        "list": row.list_id,
        "campaign": row.campaign,
        "version": row.version,
        "uri": workspace.storage.url(list_rows(row.list_id)),
        **counts,
        "quarantined": row.quarantined_rows,
    }


def _find_file(workspace: Workspace, wanted: str) -> Population:
    known = workspace.ledger.populations()
    by_name = [row for row in known if row.name == wanted]
    by_hash = [row for row in known if row.population.startswith(wanted.lower())]
    found = by_name[-1:] or by_hash
    if len(found) != 1:
        raise ChurnError(
            f"{'More than one file' if found else 'No file'} of current customers has the name {shown(wanted)}, or a hash that begins with it. "
            "`churn land --population FILE` lands one; leave the field empty to score what has landed, or all accepted customers."
        )
    return found[0]


_SETTINGS = {"database": "CHURN_SCORES_URL", "drop": "CHURN_SCORES_DROP"}
