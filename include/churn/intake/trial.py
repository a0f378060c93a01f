"""Judges a file as intake would, without ledger or landing zone: what would happen to its rows, and to the batch. Nothing is kept."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from churn.contract import Contract
from churn.intake import validation
from churn.intake.acceptance import describe_outcomes, explain_rejection, notes_on_columns
from churn.intake.batch_file import FileFault
from churn.intake.divided_file import divide_copy
from churn.intake.judging import judge_rows
from churn.intake.label_files import LEAVERS, ROWS, contract_of, kind_of_file
from churn.intake.label_rules import completeness_of, label_rules
from churn.intake.reading import open_file
from churn.intake.rule_words import BrokenRule, in_words
from churn.intake.statements import read_statements
from churn.intake.table_rules import IntakeLimits, table_rules

_NAME = "0" * 64
"""Stands for the hash of a batch, which a file that is only tried does not have."""


@dataclass(frozen=True)
class TriedRule:
    """A rule that rows broke: the number of rows, the first of their lines, and what the rule asks for."""

    rule: str
    rows: int
    lines: list[int]
    meaning: str


@dataclass(frozen=True)
class Trial:
    """What would happen to a file under a contract.

    `kind` is rows, labels or leavers. `reason` says why the batch would be rejected; None if it would be accepted. `expectations` is the number of those of Great
    Expectations, and `failed` describes the ones that are not met.
    """

    contract: str
    kind: str
    reason: str | None
    arrived: int
    accepted: int
    quarantined: int
    unlabelled: int
    events: int
    rejected_share: float
    limit: float
    rules: list[TriedRule]
    expectations: int
    failed: list[str]
    warnings: list[str]
    notes: list[str]

    @property
    def summary(self) -> str:
        """The counts, in a sentence."""
        waiting = f", {self.unlabelled:,} of them waiting for a label" if self.unlabelled else ""
        what = "rows" if self.kind == ROWS else f"rows of {self.kind}"
        return (
            f"{self.arrived:,} {what}: {self.accepted:,} would be accepted, {self.quarantined:,} quarantined{waiting}."
        )


def try_file(stream: IO[bytes], contract: Contract, limits: IntakeLimits) -> Trial:
    """Judge a file with every rule that needs no earlier batch.

    Args:
        stream: the file, seekable.
        contract: the data contract.
        limits: the limits for a batch as a whole.

    Raises:
        ValidationCrashed: the suite reached no verdict.
    """
    file = open_file(stream)
    with tempfile.TemporaryDirectory(prefix="churn-trial-") as folder:
        scratch, kind = Path(folder), ROWS
        try:
            kind = kind_of_file(file.names(), contract)
            expected = contract_of(kind, contract)
            file.check(expected)
            notes = notes_on_columns(file.header, expected)
            judged_by = expected.of_file(file.header)
            divided = divide_copy(_copied(stream, scratch), file, scratch, limits.part_size)
            judged = judge_rows(limits.spread, divided, _NAME, judged_by, scratch)
        except FileFault as fault:
            return _unreadable(contract, kind, fault, limits)
        of_batch = table_rules(judged, None, [], judged_by, limits, None)
        today = datetime.now(UTC).date()
        statements = read_statements(limits.spread, judged.good, today) if kind == LEAVERS else None
        stated = completeness_of(statements, []) if statements else None
        of_batch += label_rules(judged, None, contract, kind, today, limits, statements, stated, "")
        rules = {rule.name: rule for rule in of_batch}
        docs = scratch / "docs"
        docs.mkdir()
        rows = [part.good for part in judged.parts]
        verdict = validation.judge_batch(_NAME, rows, [*rules.values()], judged_by, docs, limits.spread)
        broken = judged.rules
        return Trial(
            contract=contract.name,
            kind=kind,
            reason=None if verdict.passed else explain_rejection(judged_by, judged, verdict, rules, broken),
            arrived=judged.arrived,
            accepted=judged.accepted,
            quarantined=judged.set_aside,
            unlabelled=judged.unlabelled,
            events=judged.events,
            rejected_share=judged.rejected_share,
            limit=limits.max_rejected_share,
            rules=_tried(broken, judged_by),
            expectations=len(verdict.outcomes),
            failed=describe_outcomes(verdict.failures, rules),
            warnings=describe_outcomes(verdict.warnings, rules),
            notes=notes,
        )


def _copied(stream: IO[bytes], scratch: Path) -> Path:
    """A copy of the file that several processes can read."""
    copy = scratch / "tried"
    stream.seek(0)
    with copy.open("wb") as target:
        shutil.copyfileobj(stream, target)
    return copy


def _tried(broken: list[BrokenRule], contract: Contract) -> list[TriedRule]:
    return [TriedRule(rule, rows, lines, in_words(rule, contract)) for rule, rows, lines in broken]


def _unreadable(contract: Contract, kind: str, fault: FileFault, limits: IntakeLimits) -> Trial:
    return Trial(
        contract=contract.name,
        kind=kind,
        reason=fault.sentence,
        arrived=0,
        accepted=0,
        quarantined=0,
        unlabelled=0,
        events=0,
        rejected_share=0.0,
        limit=limits.max_rejected_share,
        rules=[TriedRule(f"file.{fault.code}", 0, [], fault.sentence)],
        expectations=0,
        failed=[],
        warnings=[],
        notes=[],
    )
