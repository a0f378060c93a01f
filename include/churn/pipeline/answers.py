"""What people answer, for the record: a high ROC AUC is plausible."""

from __future__ import annotations

from datetime import UTC, datetime

from churn.errors import require_reason
from churn.foundation.records import Confirmation
from churn.pipeline.workspace import Workspace


def confirm_plausible(workspace: Workspace, reason: str, by: str) -> Confirmation:
    """Record that a ROC AUC above `sanity.max_model_auc` is plausible for the registered model; the first confirmation counts.

    Raises:
        ChurnError: the reason is empty.
    """
    model = workspace.settings.model_name
    return workspace.ledger.confirm(Confirmation(model, require_reason(reason), by, datetime.now(UTC)))
