"""What differs between a champion and its challenger: parameters, features, data and code, and nothing that is the same."""

from __future__ import annotations

from dataclasses import dataclass

from churn.foundation.records import DecisionRecord, Snapshot, VersionRecord

_HASH, _BEGINNING = 40, 12


@dataclass(frozen=True)
class Change:
    """What differs between champion and challenger."""

    kind: str
    name: str
    champion: str
    challenger: str


def find_changes(
    record: DecisionRecord,
    versions: dict[int, VersionRecord],
    snapshots: dict[str, Snapshot],
    champion_night: DecisionRecord | None,
) -> tuple[list[Change], bool]:
    """What differs between champion and challenger, and whether something of it was never recorded; pure.

    Args:
        record: the decision.
        versions: what was remembered of both, by number.
        snapshots: what both were trained on, by hash.
        champion_night: the decision of the night that trained the champion.
    """
    if record.champion is None:
        return [], False
    mine, theirs = versions.get(record.challenger), versions.get(record.champion)
    found = _data_changes(record, versions, snapshots) + _code_changes(record, champion_night)
    if mine is None or theirs is None or mine.parameters is None or theirs.parameters is None:
        return found, True
    found = _parameter_changes(mine.parameters, theirs.parameters) + found
    return found, champion_night is None or not {record.snapshot, theirs.snapshot} <= snapshots.keys()


def _parameter_changes(mine: dict[str, str], theirs: dict[str, str]) -> list[Change]:
    found = []
    for name in sorted(mine.keys() | theirs.keys()):
        one, other = theirs.get(name), mine.get(name)
        if one == other or name == "training_rows":
            continue
        if name == "features":
            one, other = _only_in(one, other), _only_in(other, one)
        found.append(Change("features" if name == "features" else "parameter", name, one or "none", other or "none"))
    return found


def _only_in(these: str | None, those: str | None) -> str:
    """The features of one list that the other has not."""
    others = set((those or "").split(", "))
    return ", ".join(name for name in (these or "").split(", ") if name not in others)


def _data_changes(
    record: DecisionRecord, versions: dict[int, VersionRecord], snapshots: dict[str, Snapshot]
) -> list[Change]:
    version = versions.get(record.champion or 0)
    mine, theirs = snapshots.get(record.snapshot), snapshots.get(version.snapshot if version else "")
    if mine is None or theirs is None:
        return []
    new, gone = (len(set(one.batches) - set(other.batches)) for one, other in ((mine, theirs), (theirs, mine)))
    pairs = [
        ("snapshot", theirs.snapshot, mine.snapshot),
        ("training customers", f"{theirs.training_rows:,}", f"{mine.training_rows:,}"),
        (
            "batches",
            f"{len(theirs.batches)}, {gone} of them only here",
            f"{len(mine.batches)}, {new} of them only here",
        ),
        ("contract", theirs.contract_fingerprint, mine.contract_fingerprint),
        ("key of the holdout", theirs.salt_fingerprint, mine.salt_fingerprint),
    ]
    return [Change("data", name, _short(one), _short(other)) for name, one, other in pairs if one != other]


def _short(text: str) -> str:
    """A hash by its beginning; anything else as it is."""
    return text if len(text) < _HASH else text[:_BEGINNING]


def _code_changes(record: DecisionRecord, before: DecisionRecord | None) -> list[Change]:
    if before is None or before.code_version == record.code_version:
        return []
    return [Change("code", "version and commit", before.code_version or "unknown", record.code_version or "unknown")]
