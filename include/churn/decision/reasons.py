"""The reasons of decisions, and what each of them implies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Implication:
    """What follows from a reason.

    `promotes`: the challenger goes into production. `wins`: it was promoted on its own merit, so it becomes the baseline
    version. `forceable`: a person may promote it all the same. `routine`: an ordinary hold, about which nobody is alerted.
    `tested_noninferiority`: the challenger was tested for non-inferiority and failed. `step` is the next step, and may contain `{night}` and `{policy}`.
    """

    promotes: bool = False
    wins: bool = False
    forceable: bool = True
    routine: bool = False
    tested_noninferiority: bool = False
    step: str = (
        "Open the comparison: the rule that failed is listed first. Fix the data or the features, then trigger "
        "churn_retraining with *Retrain even if nothing arrived*."
    )

    def next_step(self, night: str, policy: str = "promotion_policy.yaml") -> str:
        """What a person does about it.

        Args:
            night: the run that decided, which commands name.
            policy: the name of the policy file.
        """
        return self.step.format(night=night, policy=policy)


_PROMOTES = Implication(promotes=True)
_WINS = Implication(promotes=True, wins=True)
_ROUTINE = Implication(routine=True)
_INTEGRITY = Implication(forceable=False)
_WORSE = "Review the comparison. No action is needed unless this repeats."


class Reason(StrEnum):
    """Why a decision promotes or holds. The values are stored with every decision and never change."""

    # To promote
    NO_CHAMPION = "NO_CHAMPION"
    SUPERIOR = "SUPERIOR"
    FRESH_NONINFERIOR = "FRESH_NONINFERIOR"
    FORCED = "FORCED"
    # To hold, because the evidence cannot be trusted
    POLICY_INVALID = "POLICY_INVALID"
    INPUT_MISMATCH = "INPUT_MISMATCH"
    HOLDOUT_CONTAMINATED = "HOLDOUT_CONTAMINATED"
    ARTIFACT_CHANGED = "ARTIFACT_CHANGED"
    SCORES_INVALID = "SCORES_INVALID"
    # To hold, because something is wrong with the models or the data
    CHAMPION_MISSING = "CHAMPION_MISSING"
    CHAMPION_UNSCORABLE = "CHAMPION_UNSCORABLE"
    HOLDOUT_TOO_SMALL = "HOLDOUT_TOO_SMALL"
    DEGENERATE = "DEGENERATE"
    LEAK_SUSPECTED = "LEAK_SUSPECTED"
    BELOW_FLOOR = "BELOW_FLOOR"
    CALIBRATION = "CALIBRATION"
    BATCH_DISPUTED = "BATCH_DISPUTED"
    SLICE_HARM = "SLICE_HARM"
    ANCHOR_INFERIOR = "ANCHOR_INFERIOR"
    # To hold on an ordinary night
    IDENTICAL_SCORES = "IDENTICAL_SCORES"
    FROZEN = "FROZEN"
    TOO_FRESH = "TOO_FRESH"
    RETRY_WAIT = "RETRY_WAIT"
    INFERIOR = "INFERIOR"

    @classmethod
    def implied_by(cls, code: str) -> Implication:
        """What follows from a stored code. One that only a later release knows is treated as a guardrail that failed."""
        return cls(code).implication if code in cls.__members__ else Implication()

    @property
    def implication(self) -> Implication:
        """What follows from this reason."""
        return _IMPLICATIONS.get(self, Implication())

    @property
    def leaves_challenger(self) -> bool:
        """Whether the challenger can be measured alone, although there is no champion to compare it with."""
        return self in (Reason.CHAMPION_MISSING, Reason.CHAMPION_UNSCORABLE)

    @property
    def forceable(self) -> bool:
        """Whether a person may promote in spite of this reason."""
        return self.implication.forceable

    @property
    def routine(self) -> bool:
        """Whether this is an ordinary hold, about which nobody is alerted."""
        return self.implication.routine

    @property
    def wins(self) -> bool:
        """Whether the promoted version becomes the baseline version."""
        return self.implication.wins

    @property
    def tested_noninferiority(self) -> bool:
        """Whether the challenger was tested for non-inferiority and failed."""
        return self.implication.tested_noninferiority


_IMPLICATIONS = {
    Reason.NO_CHAMPION: _WINS,
    Reason.SUPERIOR: _WINS,
    Reason.FRESH_NONINFERIOR: _PROMOTES,
    Reason.FORCED: _PROMOTES,
    Reason.POLICY_INVALID: Implication(
        forceable=False,
        step="Fix the policy file until `churn policy check` passes. The next run then decides again.",
    ),
    Reason.INPUT_MISMATCH: Implication(
        forceable=False, step="Restore the salt, key or target, or replace the version in production."
    ),
    Reason.HOLDOUT_CONTAMINATED: Implication(
        forceable=False, step="Find out how holdout customers came into the snapshot, then retrain."
    ),
    Reason.ARTIFACT_CHANGED: Implication(
        forceable=False,
        step="Restore the version's files, or roll back to a version whose files are intact.",
    ),
    Reason.SCORES_INVALID: _INTEGRITY,
    Reason.CHAMPION_MISSING: Implication(
        step="Restore the version in MLflow, or return to an earlier one with `churn rollback --reason ...`, or trigger churn_retraining "
        "and fill in *Reason to force the promotion*."
    ),
    Reason.CHAMPION_UNSCORABLE: Implication(
        step="Make the champion's environment available again, or trigger churn_retraining and fill in *Reason to force the promotion*."
    ),
    Reason.HOLDOUT_TOO_SMALL: Implication(
        step="More customers are needed before anything can be decided. Check that the nightly files arrive complete."
    ),
    Reason.LEAK_SUSPECTED: Implication(
        step="Look for a feature that is known only after the event, and remove it from the contract. If the data really allows such "
        "a ROC AUC, run `churn policy confirm --reason ...` once, or fill in *Reason why a very high ROC AUC is plausible* when you trigger "
        "churn_retraining. The limits are sanity.max_model_auc, sanity.max_jump and sanity.max_feature_auc in {policy}."
    ),
    Reason.BATCH_DISPUTED: Implication(
        step='If the batch is right, run `churn approve "{night}" --reason ...`. If it is wrong, run '
        "`churn batches withdraw HASH --reason ...`."
    ),
    Reason.SLICE_HARM: Implication(step=_WORSE),
    Reason.ANCHOR_INFERIOR: Implication(tested_noninferiority=True, step=_WORSE),
    Reason.IDENTICAL_SCORES: _ROUTINE,
    Reason.FROZEN: _ROUTINE,
    Reason.TOO_FRESH: _ROUTINE,
    Reason.RETRY_WAIT: _ROUTINE,
    Reason.INFERIOR: Implication(routine=True, tested_noninferiority=True),
}
