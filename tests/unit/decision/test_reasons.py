"""Each reason is classified once, and everything that depends on a reason reads it from there."""

import pytest

from churn.decision.reasons import Implication, Reason
from churn.foundation.ledger.decisions import UNJUDGED

PROMOTE = {Reason.NO_CHAMPION, Reason.SUPERIOR, Reason.FRESH_NONINFERIOR, Reason.FORCED}
INTEGRITY = {
    Reason.POLICY_INVALID,
    Reason.INPUT_MISMATCH,
    Reason.HOLDOUT_CONTAMINATED,
    Reason.ARTIFACT_CHANGED,
    Reason.SCORES_INVALID,
}
ROUTINE = {Reason.IDENTICAL_SCORES, Reason.FROZEN, Reason.TOO_FRESH, Reason.RETRY_WAIT, Reason.INFERIOR}
GUARDRAILS = set(Reason) - PROMOTE - INTEGRITY - ROUTINE


def test_each_reason_is_of_one_kind() -> None:
    """Promote, integrity, routine, or a guardrail that alerts: the sets that used to be kept apart."""
    assert {reason for reason in Reason if reason.implication.promotes} == PROMOTE
    assert {reason for reason in Reason if not reason.forceable} == INTEGRITY
    assert {reason for reason in Reason if reason.routine} == ROUTINE
    assert {reason for reason in Reason if reason.wins} == {Reason.NO_CHAMPION, Reason.SUPERIOR}
    assert {reason for reason in Reason if reason.tested_noninferiority} == {Reason.INFERIOR, Reason.ANCHOR_INFERIOR}
    assert {
        "CHAMPION_MISSING",
        "CHAMPION_UNSCORABLE",
        "HOLDOUT_TOO_SMALL",
        "DEGENERATE",
        "LEAK_SUSPECTED",
        "BELOW_FLOOR",
        "CALIBRATION",
        "BATCH_DISPUTED",
        "SLICE_HARM",
        "ANCHOR_INFERIOR",
    } == GUARDRAILS


@pytest.mark.parametrize("reason", list(Reason))
def test_a_next_step_names_the_run_only_where_a_command_needs_it(reason: Reason) -> None:
    """Every reason has a next step without open placeholders."""
    step = reason.implication.next_step("night 7")
    assert step
    assert "{" not in step
    assert ("night 7" in step) is (reason is Reason.BATCH_DISPUTED)


def test_a_code_of_a_later_release_is_no_error() -> None:
    """A ledger may hold codes that this release does not know."""
    assert Reason.implied_by("SUPERIOR").wins
    assert Reason.implied_by("COSMIC_RAYS") == Implication()
    assert not Reason.implied_by("COSMIC_RAYS").routine


def test_the_ledger_knows_the_one_code_that_judged_nothing() -> None:
    """The ledger cannot import reasons, so its constant is compared here."""
    assert UNJUDGED == Reason.POLICY_INVALID
