"""Makes a list: the champion scores the current customers, and the list of whom to contact is published at once or not at all.

A list is named by what it was made from, so the same again is the same list. Its parts are stored first, then its manifest, then the row
of the ledger, which makes it the current list of its campaign.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churn.contract import Contract
from churn.decision.scoring import open_scorer
from churn.errors import ChurnError
from churn.foundation.clients import Clients
from churn.foundation.digests import json_digest
from churn.foundation.parts import store_parts
from churn.foundation.paths import list_rows
from churn.foundation.records import Population, ScoreList, Snapshot, VersionRecord
from churn.foundation.scratch import given
from churn.scoring.drift import ListDrift, measure_scored_drift
from churn.scoring.list_parts import (
    EARLIER,
    EXPECTED,
    RANK,
    ListJob,
    ListPart,
    find_treated,
    key_column,
    write_parts,
)
from churn.scoring.listed_reasons import LISTED, find_reasons
from churn.scoring.population import Customers, accepted_customers, judge_customers, record_judged
from churn.scoring.published import count_change
from churn.scoring.ranking import expected_value, rank_customers
from churn.scoring.scored_rows import Scored, save_by_part, score_customers
from churn.scoring.scoring_policy import ScoringPolicy, load_policy
from churn.scoring.second_scoring import compare_scores, draw_sample, other_scorers
from churn.scoring.summary import summarise
from churn.scoring.treatments import EarlierLists, find_earlier_lists, read_treatments

log = logging.getLogger(__name__)
_FORMAT = 2  # of the rows of a list: the second says which list a treatment began with


class DriftTooLarge(ChurnError):  # noqa: N818 -- names the state
    """The customers or their scores differ too much, and the scoring policy refuses to publish the list."""


class NoChampion(ChurnError):  # noqa: N818 -- names the state
    """No version is in production, so there is nothing to score with."""


@dataclass(frozen=True)
class ListRequest:
    """How a list was asked for.

    - `night`: the id of the run or command
    - `population`: the file of customers; None: all accepted customers
    - `version`: the version that scores; None: the champion
    - `campaign`, `capacity`: instead of those of the scoring policy
    - `dry_run`: make the list without publishing it
    - `requested_by`: the person, if one asked
    - `landed`: the file has landed, and waits for a list after a dry run too
    """

    night: str
    population: Population | None = None
    version: int | None = None
    campaign: str | None = None
    capacity: int | None = None
    dry_run: bool = False
    requested_by: str | None = None
    landed: bool = False


@dataclass(frozen=True)
class MadeList:
    """A list, and whether it is new: the same again changes nothing. A dry run has no place in the ledger."""

    row: ScoreList
    new: bool


@dataclass(frozen=True)
class _Basis:
    """What a list is made from: policy, version with the snapshot it was trained on, customers, and lists before it."""

    policy: ScoringPolicy
    version: VersionRecord
    trained: Snapshot
    customers: Customers
    earlier: EarlierLists
    current: ScoreList | None


def make_list(clients: Clients, request: ListRequest) -> MadeList:
    """Score customers and publish the list.

    Raises:
        NoChampion: no version is in production.
        PopulationRejected: the file cannot be read, or too many of its rows broke a rule.
        PolicyInvalid: the scoring policy cannot be used.
        ValueUnusable: a customer has no usable value.
        Unscorable, ModelUnloadable: the version cannot score.
        TreatmentsUnknown: an earlier list that counts has lost its rows.
        DriftTooLarge: the policy refuses to publish a list that has drifted.
        SecondScoringDiffers: the registered model gives other scores in another process, or in its image.
        EngineFailed, ServingUnavailable, ImageFault: its image is on this machine, and does not score.
        TrackingUnreachable: MLflow is unavailable.
    """
    policy = read_policy(clients, request)
    version = _find_version(clients, request.version)
    trained = _snapshot_of(clients, version)
    with clients.storage.scratch() as scratch:
        if request.population:
            customers = judge_customers(clients, request.population, request.night, scratch)
        else:
            customers = accepted_customers(clients, trained, scratch)
        lists = clients.ledger.score_lists(clients.settings.model_name)
        earlier = find_earlier_lists(lists, clients.ledger.deliveries(), policy, datetime.now(UTC))
        current = next((row for row in lists if row.campaign == policy.campaign.name), None)
        if current and _is_the_same(current, version, customers, policy, earlier) and not request.dry_run:
            record_judged(clients.ledger, customers, request.night)
            log.info(
                "The current list %s has been made from the same already. Nothing was changed.", current.list_id[:12]
            )
            return MadeList(current, False)
        name = list_name(version, customers, policy, earlier)
        basis = _Basis(policy, version, trained, customers, earlier, current)
        row, parts = _make(clients, request, basis, name, scratch)
        if request.dry_run:
            if not request.landed:
                record_judged(clients.ledger, customers, request.night)
            return MadeList(row, True)
        manifest = store_parts(
            clients.storage,
            list_rows(name),
            [part.written for part in parts],
            about=_about(row, version, clients.contract),
        )
        published = clients.ledger.publish_list(replace(row, manifest=manifest.digest))
        record_judged(clients.ledger, customers, request.night)
    log.info(
        "List %s has been published: %d customers, %d to contact, %d in the control group.",
        name[:12],
        published.rows,
        published.contact,
        published.control,
    )
    if published.contact and not published.control and policy.control.share:
        log.warning(
            "Nobody was drawn for the control group: with %d customers to contact, the effect of being listed cannot be told.",
            published.contact,
        )
    return MadeList(published, True)


def read_policy(clients: Clients, request: ListRequest | None = None) -> ScoringPolicy:
    """The scoring policy, with the changes that a request asks for.

    Raises:
        PolicyInvalid: it cannot be used.
    """
    path: Path = clients.settings.scoring_policy_file
    policy = load_policy(path).check(clients.contract, path.name)
    return policy.changed(request.campaign, request.capacity) if request else policy


def list_name(version: VersionRecord, customers: Customers, policy: ScoringPolicy, earlier: EarlierLists) -> str:
    """The name of a list: the hash of version, customers, policy, and the earlier lists that count."""
    return json_digest(
        {
            "format": _FORMAT,
            "model": [version.model, version.version, version.artifacts],
            "population": customers.population,
            "policy": policy.model_dump(),
            "excludes": earlier.excludes,
            "continues": [row.list_id for row in earlier.continues],
        }
    )


def _is_the_same(
    current: ScoreList, version: VersionRecord, customers: Customers, policy: ScoringPolicy, earlier: EarlierLists
) -> bool:
    """Whether the current list of the campaign would result once more: it does not count as earlier than itself."""
    before = [row.list_id for row in earlier.continues if row.list_id != current.list_id]
    return (current.version, current.population, current.policy, current.excludes, current.continues) == (
        version.version,
        customers.population,
        policy.model_dump_json(),
        earlier.excludes,
        before,
    )


def _find_version(clients: Clients, wanted: int | None) -> VersionRecord:
    model = clients.settings.model_name
    current = clients.ledger.in_production(model)
    number = wanted or (current.version if current else None)
    if number is None:
        raise NoChampion(
            f"No version of {model} is in production, so there is nothing to score with. Run `churn run` until a version is promoted, or "
            "name a version with --version."
        )
    record = clients.ledger.version(model, number)
    if record is None:
        raise NoChampion(f"The ledger has no version {number} of {model}. `churn history` lists the versions.")
    return record


def _snapshot_of(clients: Clients, version: VersionRecord) -> Snapshot:
    snapshot = clients.ledger.snapshot(version.snapshot)
    if snapshot is None:
        raise ChurnError(f"The ledger has no snapshot {version.snapshot[:12]} of version {version.version}.")
    return snapshot


def _make(
    clients: Clients, request: ListRequest, basis: _Basis, name: str, scratch: Path
) -> tuple[ScoreList, list[ListPart]]:
    """Score, check and rank the customers, and write the parts of the list to the scratch folder."""
    spread, contract = clients.spread, clients.contract
    policy, version, customers, earlier = basis.policy, basis.version, basis.customers, basis.earlier
    # One after the other: while a thread parses Python, CPython 3.11 cannot do so in another one.
    with (
        open_scorer(version.version, clients.ledger, clients.tracking, clients.environments) as scorer,
        other_scorers(version.version, clients) as others,
    ):
        scored = score_customers(spread, customers.files, version.version, scorer, contract, policy.value, scratch)
        here = [given(file) for file in customers.files]
        sample = draw_sample(here, scored, contract, clients.settings.duckdb_memory_limit)
        drift = _require_no_drift(clients, basis, scored)
        treatments = read_treatments(clients.storage, earlier, key_column(contract))
        excluded, treated = find_treated(spread, customers.files, treatments, contract)
        expected = expected_value(scored.probability, scored.value, policy.contact)
        capacity = policy.capacity.of(customers.rows)
        ranking = rank_customers(expected, scored.probability, ~excluded, capacity)
        for kind, values in ((RANK, ranking.ranks), (EXPECTED, expected), (LISTED, ranking.listed), (EARLIER, treated)):
            save_by_part(scratch, kind, values, scored.sizes)
        differences = compare_scores(sample, version.version, others())
        reasons = find_reasons(clients, scorer, basis.trained, customers.files, ranking.listed, scratch)
    salt = clients.settings.bucket_salt.get_secret_value().encode()
    job = ListJob(
        name,
        policy.campaign.name,
        policy.control.share,
        customers.rows,
        contract,
        salt,
        scratch,
        spread.engine_memory,
        treatments.lists,
    )
    parts = write_parts(spread, customers.files, job)
    row = ScoreList(
        list_id=name,
        model=version.model,
        sequence=0,
        version=version.version,
        campaign=policy.campaign.name,
        population=customers.population,
        source=customers.source,
        source_name=customers.source_name,
        policy=policy.model_dump_json(),
        excludes=earlier.excludes,
        continues=[row.list_id for row in earlier.continues],
        arrived_rows=customers.arrived,
        rows=customers.rows,
        quarantined_rows=customers.quarantined,
        contact=sum(part.contact for part in parts),
        control=sum(part.control for part in parts),
        summary=summarise(
            scored, ranking, capacity, int(excluded.sum()), len(sample.positions), differences, drift.to_json()
        )
        | {"reasons": reasons.to_json() if reasons else None, "targets": clients.settings.score_targets},
        manifest="",
        night=request.night,
        requested_by=request.requested_by,
        published_at=datetime.now(UTC),
    )
    if basis.current:
        files = [given(part.written.file) for part in parts]
        change = count_change(clients.storage, basis.current, row, files, key_column(contract))
        row = replace(row, summary=row.summary | {"change": asdict(change) if change else None})
    return row, parts


def _require_no_drift(clients: Clients, basis: _Basis, scored: Scored) -> ListDrift:
    """Measure the drift of customers and scores.

    Raises:
        DriftTooLarge: it is beyond the limit, and the policy refuses to publish such a list.
    """
    drift = measure_scored_drift(
        clients, basis.customers.files, basis.trained, scored.probability, basis.policy.drift, basis.current
    )
    if drift.refuses:
        raise DriftTooLarge(
            f"{drift.sentence} The scoring policy refuses to publish such a list, and the current one is kept."
        )
    if drift.drifted:
        log.warning("%s", drift.sentence)
    return drift


def _about(row: ScoreList, version: VersionRecord, contract: Contract) -> dict[str, Any]:
    """What the manifest says of a list besides its parts."""
    return {
        "list": row.list_id,
        "model": row.model,
        "version": row.version,
        "model_sha256": version.artifacts,
        "contract_fingerprint": contract.fingerprint,
        "campaign": row.campaign,
        "population": row.population,
        "counts": {
            "arrived": row.arrived_rows,
            "scored": row.rows,
            "quarantined": row.quarantined_rows,
            "contact": row.contact,
            "control": row.control,
        },
        "made_at": row.published_at.isoformat(),
        "run": row.night,
    }
