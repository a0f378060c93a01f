"""A decision made again from what was kept of it: the same verdict and reasons, or what has been changed since."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from churn.decision.comparison import Comparison, Evidence, compare
from churn.decision.evidence_file import SCORES, digests_of, read_evidence
from churn.decision.policy import Decision, decide, hold_invalid_policy
from churn.decision.policy_file import Policy, PolicyInvalid
from churn.decision.rules import Rule
from churn.decision.slices import Slicing
from churn.errors import ChurnError, Outage
from churn.foundation.digests import json_digest, text_digest
from churn.foundation.paths import decision_rows
from churn.foundation.records import DecisionRecord
from churn.foundation.storage import Storage

TOLERANCE = 1e-9
_HASH = re.compile(r"[0-9a-f]{64}")
_WORDS = {
    "customers": "the customers",
    "labels": "the labels",
    "batches": "the batches of the rows",
    "slices": "the groups of the customers",
    "flags": "which rows count",
    "challenger": "the challenger's scores",
    "champion": "the champion's scores",
    "anchor": "the anchor's scores",
}


@dataclass(frozen=True)
class Replay:
    """A decision made again; `faults` say what is not as it was, empty if all is."""

    record: DecisionRecord
    decision: Decision
    comparison: Comparison
    faults: list[str]

    @property
    def same(self) -> bool:
        """Whether the same verdict, reasons and numbers came out of unchanged evidence."""
        return not self.faults


def replay(record: DecisionRecord, storage: Storage, policy_text: str | None = None) -> Replay:
    """Make a decision again.

    Args:
        record: the decision.
        storage: the data root, which keeps its scored rows.
        policy_text: another policy, to see what it would have said of the same evidence; by default the decision's own.

    Raises:
        ChurnError: its rows are gone, or it was made before rows were kept.
    """
    if "case" not in record.digests:
        raise ChurnError(
            f"The decision of night {record.night} was made before evidence was kept: it cannot be replayed."
        )
    stored = Comparison.from_dict(record.comparison)
    evidence: Evidence | None = None
    sliced: tuple[Slicing, ...] = ()
    faults = list(_changed_record(record))
    if "evidence" in record.digests:
        evidence, sliced = _read(record, storage)
        faults += _changed_evidence(evidence, sliced, record.digests)
    try:
        policy = Policy.read(policy_text or record.policy, "the policy")
    except PolicyInvalid:  # its reason named the file, which the text alone does not know
        comparison, decision = stored, hold_invalid_policy(record.sentence)
    else:
        comparison = _compare(stored, evidence, sliced, policy)
        decision = decide(comparison, policy)
    if policy_text is None:
        faults += _differences(record, stored, comparison, decision)
    return Replay(record, decision, comparison, faults)


def _compare(stored: Comparison, evidence: Evidence | None, sliced: tuple[Slicing, ...], policy: Policy) -> Comparison:
    try:
        return compare(stored.case, evidence, sliced, policy.slices.min_each_class)
    except (ValueError, IndexError) as error:  # rows that do not fit together
        raise ChurnError(f"The kept rows do not make a comparison any more ({error}).") from error


def _read(record: DecisionRecord, storage: Storage) -> tuple[Evidence, tuple[Slicing, ...]]:
    digest = record.digests["evidence"]
    if not _HASH.fullmatch(digest) or not storage.exists(decision_rows(digest)):
        raise ChurnError(
            f"The scored rows of night {record.night} are gone: without them the decision cannot be made again."
        )
    try:
        return read_evidence(digest, storage)
    except Outage:
        raise
    except Exception as error:  # a damaged file fails in any of many ways
        raise ChurnError(
            f"The scored rows of night {record.night} are damaged ({type(error).__name__}): without them the decision cannot be made again."
        ) from error


def record_digest(record: DecisionRecord) -> str:
    """The hash of what a decision says, besides what a replay makes again: who, when, why, in which words."""
    said = asdict(record)
    # The run is known only when it is logged, a model may be given another name with its registry, and curves are only shown.
    for left_out in ("comparison", "policy", "digests", "run_id", "model", "curves"):
        del said[left_out]
    return json_digest(said | {"decided_at": record.decided_at.isoformat()})


def _changed_record(record: DecisionRecord) -> Iterator[str]:
    if text_digest(record.policy) != record.digests["policy"]:
        yield "POLICY: the policy in the ledger is not the one that decided."
    if json_digest(record.comparison["case"]) != record.digests["case"]:
        yield "CASE: what the ledger says of versions, window or history is not what decided."
    if record_digest(record) != record.digests["record"]:
        yield "RECORD: what the ledger says of the decision, its rules or who asked is not what was decided."


def _changed_evidence(evidence: Evidence, sliced: tuple[Slicing, ...], recorded: dict[str, str]) -> Iterator[str]:
    """Name what was changed; two models whose scores changed places are told apart from scores that were edited."""
    found = digests_of(evidence, sliced)
    kept = {role: scores for role in SCORES if (scores := getattr(evidence, role)) is not None}
    short = [role for role, scores in kept.items() if len(scores) != len(evidence.labels) or not _all_there(scores)]
    if short:
        yield f"ROWS: {_WORDS[short[0]]} are missing for some customers."
        return
    if found.get("challenger") == recorded.get("champion") != recorded.get("challenger"):
        yield "SWAPPED: challenger and champion have changed places."
        return
    for name, words in _WORDS.items():
        if found.get(name) != recorded.get(name):
            yield f"{name.upper()}: {words} are not those that decided."


def _all_there(scores: Any) -> bool:
    return bool((scores == scores).all())  # noqa: PLR0124 -- NaN is what is not equal to itself


def _differences(
    record: DecisionRecord, stored: Comparison, comparison: Comparison, decision: Decision
) -> Iterator[str]:
    if (decision.verdict, decision.code) != (record.verdict, record.code):
        yield f"VERDICT: {decision.verdict} ({decision.code}) comes out, and {record.verdict} ({record.code}) was decided."
    for path, one, other in _numbers(stored.as_dict(), comparison.as_dict()):
        if not _same_number(one, other):
            yield f"FIGURE: {path} is {other:.12g}, and it was {one:.12g}."
    yield from _changed_rules("RULES", record.rules, decision.rules)
    yield from _changed_rules("WATCH", record.watch, decision.watch)


def _changed_rules(what: str, then: list[dict[str, Any]], now: tuple[Rule, ...]) -> Iterator[str]:
    told = [(rule["name"], rule["code"], rule["passed"]) for rule in then]
    found = [(rule.name, rule.code, rule.passed) for rule in now]
    if told != found:
        yield f"{what}: {sorted({name for name, _, _ in set(told) ^ set(found)})} come out otherwise."
        return
    for one, other in zip(then, now, strict=True):
        same = _same_number(one["value"], other.value) and _same_number(one["bound"], other.bound)
        if not same or one["sentence"] != other.sentence:
            yield f"{what}: {other.name} comes out as: {other.sentence}"


def _same_number(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _numbers(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, float, float]]:
    """The numbers of two trees of plain JSON, side by side; what is in one only is infinitely far."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {**one, **other}:
            yield from _numbers(one.get(name), other.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _numbers(left, right, f"{path}[{at}]")
    elif isinstance(one, int | float) and isinstance(other, int | float):
        yield path, float(one), float(other)
    elif one != other:
        yield path, math.nan, math.nan
