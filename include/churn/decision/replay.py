"""Replay a decision from what was stored with it: the same verdict, reason and numbers, or what has been changed since.

A replay compares the verdict, its reason, every number of the comparison, and of each rule its name, result, value and
bound. It never compares sentences, so wording may improve. A decision is replayed by the rules that made it
(`rule_forms`); what the rules of today would decide is information and no fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from churn.decision.comparison import Comparison, Evidence, compare
from churn.decision.evidence_file import SCORES, digests_of, has_evidence, read_evidence
from churn.decision.policy import Decision, decide, hold_invalid_policy
from churn.decision.policy_file import Policy, PolicyInvalid
from churn.decision.rule_forms import FIRST_VERSION, RULES_VERSION
from churn.decision.rules import Rule
from churn.decision.slices import Slicing
from churn.errors import ChurnError, Outage
from churn.foundation.digests import json_digest, text_digest
from churn.foundation.parts import RESTORE, PartFault
from churn.foundation.paths import decision_rows
from churn.foundation.records import DecisionRecord
from churn.foundation.storage import Storage

TOLERANCE = 1e-9
ADDED_RECORD_FIELDS = frozenset({"rules_version"})
"""Fields that records did not always have. A record without one is hashed as it was hashed then."""
ADDED_FIGURES = frozenset({"case.contact"})
"""Paths of figures that comparisons did not always have, such as `evidence.lift`. A stored comparison may lack them."""
_POSITION = re.compile(r"\[\d+\]")
_HASH = re.compile(r"[0-9a-f]{64}")
_PARTS = {
    "customers": "the customers",
    "labels": "the labels",
    "batches": "the batches of the rows",
    "slices": "the slices of the customers",
    "flags": "the flags that say which rows count",
    "challenger": "the challenger's scores",
    "champion": "the champion's scores",
    "anchor": "the baseline version's scores",
    "weights": "how many customers a row stands for",
}


@dataclass(frozen=True)
class Replay:
    """A replayed decision.

    `decision` is the result under the rules that made it, `today` under the rules of today. `faults` names everything that
    has changed since; it is empty if nothing has.
    """

    record: DecisionRecord
    decision: Decision
    today: Decision
    comparison: Comparison
    faults: list[str]

    @property
    def same(self) -> bool:
        """Whether unchanged evidence gave the same verdict, reason and numbers."""
        return not self.faults


def replay(record: DecisionRecord, storage: Storage, policy_text: str | None = None) -> Replay:
    """Replay a decision.

    Args:
        record: the decision.
        storage: the data root, which keeps its scored rows.
        policy_text: another policy, to see what it would have decided on the same evidence; by default the decision's own.

    Raises:
        ChurnError: its rows are missing or damaged, it was made before rows were kept, or by a later version of the product.
        Outage: the data root does not answer.
    """
    if "case" not in record.digests:
        raise ChurnError(f"Run {record.night} decided before evidence was kept, so its decision cannot be replayed.")
    version = record.rules_version or FIRST_VERSION
    if version > RULES_VERSION:
        raise ChurnError(
            f"Run {record.night} was decided by version {version} of the rules, and this release knows versions up to {RULES_VERSION}. "
            "Replay it with the release that made it, or a later one."
        )
    stored = Comparison.from_dict(record.comparison)
    evidence: Evidence | None = None
    slicings: tuple[Slicing, ...] = ()
    faults = list(_changed_record(record))
    if "evidence" in record.digests:
        evidence, slicings = _read_rows(record, storage)
        faults += _changed_evidence(evidence, slicings, record.digests)
    try:
        policy = Policy.read(policy_text or record.policy, "the policy")
    except PolicyInvalid:  # the stored sentence names the file, which the text alone does not
        comparison, decision = stored, hold_invalid_policy(record.sentence)
        today = decision
    else:
        comparison = _compare(stored, evidence, slicings, policy)
        today = decide(comparison, policy)
        decision = today if policy_text else decide(comparison, policy, version)
    if policy_text is None:
        faults += _differences(record, comparison, decision)
    return Replay(record, decision, today, comparison, faults)


def record_digest(record: DecisionRecord) -> str:
    """Hash what a decision states besides what a replay computes: who, when, why, and in which words.

    A field that was added later is hashed only if the record has it, so that the digests of earlier records stay valid.
    """
    content = asdict(record)
    # The run id is known only once it is logged, a model may be renamed with its registry, and curves are only shown.
    for excluded in ("comparison", "policy", "digests", "run_id", "model", "curves"):
        del content[excluded]
    for added in ADDED_RECORD_FIELDS:
        if content[added] is None:
            del content[added]
    return json_digest(content | {"decided_at": record.decided_at.isoformat()})


def _compare(
    stored: Comparison, evidence: Evidence | None, slicings: tuple[Slicing, ...], policy: Policy
) -> Comparison:
    try:
        return compare(stored.case, evidence, slicings, policy.slices.min_each_class)
    except (ValueError, IndexError) as error:  # the columns no longer fit together
        raise ChurnError(
            f"The stored rows can no longer be compared ({error}). Restore them from a backup of the data root."
        ) from error


def _read_rows(record: DecisionRecord, storage: Storage) -> tuple[Evidence, tuple[Slicing, ...]]:
    digest = record.digests["evidence"]
    if not _HASH.fullmatch(digest) or not has_evidence(digest, storage):
        raise ChurnError(
            f"The scored rows of run {record.night} are missing, so its decision cannot be replayed. Restore "
            f"{decision_rows(digest) if _HASH.fullmatch(digest) else 'them'} from a backup of the data root."
        )
    try:
        return read_evidence(digest, storage)
    except Outage:
        raise
    except PartFault as fault:
        raise ChurnError(
            f"The scored rows of run {record.night} are damaged: {str(fault).removesuffix(RESTORE).strip()} Its decision cannot be replayed. "
            f"Restore {decision_rows(digest)} from a backup of the data root."
        ) from fault
    except Exception as error:  # a damaged file fails in any of many ways
        raise ChurnError(
            f"The scored rows of run {record.night} are damaged ({type(error).__name__}), so its decision cannot be replayed. Restore "
            f"{decision_rows(digest)} from a backup of the data root."
        ) from error


def _changed_record(record: DecisionRecord) -> Iterator[str]:
    if text_digest(record.policy) != record.digests["policy"]:
        yield "POLICY: the policy in the ledger is not the one that decided."
    if json_digest(record.comparison["case"]) != record.digests["case"]:
        yield "CASE: the versions, window or history in the ledger are not those that decided."
    if record_digest(record) != record.digests["record"]:
        yield "RECORD: the decision, its rules or the person who asked for it have been changed in the ledger."


def _changed_evidence(evidence: Evidence, slicings: tuple[Slicing, ...], recorded: dict[str, str]) -> Iterator[str]:
    """Name what was changed; scores that were swapped between models are distinguished from scores that were edited."""
    actual = digests_of(evidence, slicings)
    scored = {role: scores for role in SCORES if (scores := getattr(evidence, role)) is not None}
    incomplete = [role for role, scores in scored.items() if len(scores) != len(evidence.labels) or _has_nan(scores)]
    if incomplete:
        yield f"ROWS: {_PARTS[incomplete[0]]} are missing for some customers."
        return
    if actual.get("challenger") == recorded.get("champion") != recorded.get("challenger"):
        yield "SWAPPED: challenger and champion have been swapped."
        return
    for name, description in _PARTS.items():
        if actual.get(name) != recorded.get(name):
            yield f"{name.upper()}: {description} are not those that decided."


def _has_nan(scores: Any) -> bool:
    return bool((scores != scores).any())  # noqa: PLR0124 -- only NaN differs from itself


def _differences(record: DecisionRecord, comparison: Comparison, decision: Decision) -> Iterator[str]:
    if (decision.verdict, decision.code) != (record.verdict, record.code):
        yield (
            f"VERDICT: the replay gives {decision.verdict} ({decision.code}), the decision was {record.verdict} ({record.code})."
        )
    for path, stored, replayed in _number_pairs(record.comparison, comparison.as_dict()):
        if not _same_number(stored, replayed):
            yield f"FIGURE: {path} is {replayed:.12g}, and was {stored:.12g}."
    yield from _changed_rules("RULES", record.rules, decision.rules)
    yield from _changed_rules("WATCH", record.watch, decision.watch)


def _changed_rules(what: str, stored: list[dict[str, Any]], replayed: tuple[Rule, ...]) -> Iterator[str]:
    before = [(rule["name"], rule["passed"]) for rule in stored]
    after = [(rule.name, rule.passed) for rule in replayed]
    if before != after:
        names = sorted({name for name, _ in set(before) ^ set(after)})
        yield f"{what}: {', '.join(names) or 'the order of the rules'} gives another result."
        return
    for old, new in zip(stored, replayed, strict=True):
        for part in ("value", "bound"):
            if not _same_number(old[part], getattr(new, part)):
                yield f"{what}: the {part} of {new.name} is {_shown(getattr(new, part))}, and was {_shown(old[part])}."


def _shown(number: float | None) -> str:
    return "absent" if number is None else f"{number:.12g}"


def _same_number(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _number_pairs(stored: Any, replayed: Any, path: str = "") -> Iterator[tuple[str, float, float]]:
    """The numbers of two trees of plain JSON side by side; anything that is in one tree only gives NaN, unless it was added later."""
    if isinstance(stored, dict) and isinstance(replayed, dict):
        for name in {**stored, **replayed}:
            at = f"{path}.{name}".lstrip(".")
            if name in stored or _POSITION.sub("", at) not in ADDED_FIGURES:
                yield from _number_pairs(stored.get(name), replayed.get(name), at)
    elif isinstance(stored, list) and isinstance(replayed, list) and len(stored) == len(replayed):
        for position, (left, right) in enumerate(zip(stored, replayed, strict=True)):
            yield from _number_pairs(left, right, f"{path}[{position}]")
    elif isinstance(stored, int | float) and isinstance(replayed, int | float):
        yield path, float(stored), float(replayed)
    elif stored != replayed:
        yield path, math.nan, math.nan
