"""What differs between a champion and its challenger: data, features, kind of model, code and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from churn.foundation.records import DecisionRecord, Snapshot, VersionRecord

ABSENT = "none"
"""Stands for a parameter that one of the versions does not have."""
_PARAMETER, _MODEL_KIND = "parameter", "kind"
_FIRST = ("data", "features", "kind", "code", _PARAMETER)
_HASH_LENGTH, _SHOWN_LENGTH = 40, 12


@dataclass(frozen=True)
class Change:
    """One difference between champion and challenger; `kind` is data, features, parameter or code."""

    kind: str
    name: str
    champion: str
    challenger: str


@dataclass(frozen=True)
class ChangeGroups:
    """The differences as the page of a run lists them.

    `shared` are the data, the features, the kind of model, the code and the parameters that both versions have, in this order.
    The others are parameters that only one of the versions has: another kind of model has other parameters.
    """

    shared: list[Change]
    only_challenger: list[Change]
    only_champion: list[Change]


def find_changes(
    record: DecisionRecord,
    versions: dict[int, VersionRecord],
    snapshots: dict[str, Snapshot],
    champion_night: DecisionRecord | None,
) -> tuple[list[Change], bool]:
    """Find what differs between champion and challenger; pure.

    Args:
        record: the decision.
        versions: what the ledger knows about both versions, by number.
        snapshots: the data that both were trained on, by hash.
        champion_night: the decision of the run that trained the champion.

    Returns:
        The differences, and whether anything that could differ was not recorded.
    """
    if record.champion is None:
        return [], False
    challenger, champion = versions.get(record.challenger), versions.get(record.champion)
    changes = _data_changes(record, versions, snapshots) + _code_changes(record, champion_night)
    if challenger is None or champion is None or challenger.parameters is None or champion.parameters is None:
        return changes, True
    changes = _parameter_changes(challenger.parameters, champion.parameters) + changes
    return changes, champion_night is None or not {record.snapshot, champion.snapshot} <= snapshots.keys()


def group_changes(changes: Sequence[Change]) -> ChangeGroups:
    """Sort the differences by what a reviewer asks first, and separate the parameters that only one version has."""
    shared: list[Change] = []
    only_challenger: list[Change] = []
    only_champion: list[Change] = []
    for change in changes:
        if change.kind != _PARAMETER or ABSENT not in (change.champion, change.challenger):
            shared.append(change)
        elif change.champion == ABSENT:
            only_challenger.append(change)
        else:
            only_champion.append(change)
    return ChangeGroups(sorted(shared, key=_rank), only_challenger, only_champion)


def _rank(change: Change) -> int:
    is_model_kind = change.kind == _PARAMETER and change.name == _MODEL_KIND
    return _FIRST.index("kind" if is_model_kind else change.kind)


def _parameter_changes(challenger: dict[str, str], champion: dict[str, str]) -> list[Change]:
    changes = []
    for name in sorted(challenger.keys() | champion.keys()):
        before, after = champion.get(name), challenger.get(name)
        if before == after or name == "training_rows":
            continue
        if name == "features":
            before, after = _only_in(before, after), _only_in(after, before)
        changes.append(
            Change("features" if name == "features" else _PARAMETER, name, before or ABSENT, after or ABSENT)
        )
    return changes


def _only_in(features: str | None, other_features: str | None) -> str:
    """List the features of one version that the other does not have."""
    others = set((other_features or "").split(", "))
    return ", ".join(name for name in (features or "").split(", ") if name not in others)


def _data_changes(
    record: DecisionRecord, versions: dict[int, VersionRecord], snapshots: dict[str, Snapshot]
) -> list[Change]:
    version = versions.get(record.champion or 0)
    challenger, champion = snapshots.get(record.snapshot), snapshots.get(version.snapshot if version else "")
    if challenger is None or champion is None:
        return []
    added = len(set(challenger.batches) - set(champion.batches))
    removed = len(set(champion.batches) - set(challenger.batches))
    pairs = [
        ("snapshot", champion.snapshot, challenger.snapshot),
        ("training customers", f"{champion.training_rows:,}", f"{challenger.training_rows:,}"),
        (
            "batches",
            _count_batches(len(champion.batches), removed, "no longer used"),
            _count_batches(len(challenger.batches), added, "new"),
        ),
        ("contract", champion.contract_fingerprint, challenger.contract_fingerprint),
        ("holdout key", champion.salt_fingerprint, challenger.salt_fingerprint),
    ]
    return [Change("data", name, _shorten(before), _shorten(after)) for name, before, after in pairs if before != after]


def _count_batches(count: int, differing: int, what: str) -> str:
    return f"{count}, {differing} of them {what}" if differing else str(count)


def _shorten(text: str) -> str:
    """Cut a hash to its first characters; leave anything shorter as it is."""
    return text if len(text) < _HASH_LENGTH else text[:_SHOWN_LENGTH]


def _code_changes(record: DecisionRecord, champion_night: DecisionRecord | None) -> list[Change]:
    if champion_night is None or champion_night.code_version == record.code_version:
        return []
    before, after = champion_night.code_version or "unknown", record.code_version or "unknown"
    return [Change("code", "version and commit", before, after)]
