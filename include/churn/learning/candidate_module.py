"""Loads the function that names the candidates."""

from __future__ import annotations

import importlib

from churn.contract import Contract
from churn.learning.candidates import Candidate, Context

STANDARD = "churn.learning.candidates:standard"


def load_candidates(reference: str, contract: Contract, context: Context) -> dict[str, Candidate]:
    """Return the candidates of a function, as `module:function`, by name."""
    module, _, function = reference.partition(":")
    found = getattr(importlib.import_module(module), function)(contract, context)
    return {name: one if isinstance(one, Candidate) else Candidate(one) for name, one in found.items()}
