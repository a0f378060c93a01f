"""The versions of the rules, so that a decision is replayed by the rules that made it.

When the meaning of a rule changes, `RULES_VERSION` goes up by one, and the rule keeps its earlier form beside the new one:

    FLOOR = Forms({1: floor_rules_before_the_margin, 4: floor_rules})

A decision made under version 3 is then replayed with the first form, and one made under version 4 with the second.
Wording is not meaning: a sentence may change without a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

RULES_VERSION = 2
"""The version of the rules that decide today. It is stored with every decision."""
FIRST_VERSION = 1
"""The version of decisions that were made before versions were stored."""

T = TypeVar("T")


@dataclass(frozen=True)
class Forms(Generic[T]):
    """The forms of a rule, by the first version of the rules in which each was used."""

    by_version: Mapping[int, T]

    def at(self, version: int) -> T:
        """The form that was used in a version of the rules.

        Args:
            version: from `FIRST_VERSION` to `RULES_VERSION`.
        """
        return self.by_version[max(first for first in self.by_version if first <= version)]
