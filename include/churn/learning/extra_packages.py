"""The packages that own candidates need in addition to those of the product: pinned and hashed in a lock of their own.

`make lock EXTRA=...` writes the lock under the constraints of the main lock. A version keeps the part of it that its model needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from churn.learning.candidate_checks import CandidateUnusable

SERVING_LOCK = "requirements-serving.lock"
"""File name of the lock with everything that serves a model."""
EXTRA_LOCK = "requirements-extra.lock"
"""File name of the lock, in the project folder and beside the serving lock of a version."""
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")


def pinned_packages(lock: str) -> dict[str, set[str]]:
    """The versions that a lock pins, by normalised name. Several, if they depend on the version of Python."""
    pins: dict[str, set[str]] = {}
    for line in lock.splitlines():
        pin = _PIN.match(line)
        if pin:
            pins.setdefault(canonicalize_name(pin[1]), set()).add(pin[2])
    return pins


def extra_lock(candidate: str, requirements: Iterable[str], serving: str, extra: Path) -> str:
    """The part of the extra lock that packages need and that the serving lock does not contain; empty if that is nothing.

    Args:
        candidate: the name of the candidate, for errors.
        requirements: names of packages, with or without allowed versions.
        serving: content of the serving lock.
        extra: the extra lock, which may not exist.

    Raises:
        CandidateUnusable: a package is in neither lock, or the two locks contradict each other.
    """
    text = extra.read_text() if extra.is_file() else ""
    shipped, offered = pinned_packages(serving), pinned_packages(text)
    asked = sorted({canonicalize_name(Requirement(each).name) for each in requirements})
    command = f'make lock EXTRA="{" ".join(sorted({str(each) for each in requirements}))}"'
    missing = [name for name in asked if name not in shipped and name not in offered]
    if missing:
        raise CandidateUnusable(
            candidate, f"it needs {', '.join(missing)}, which {extra.name} does not contain: {command}, then make run."
        )
    needed = _with_dependencies(asked) - shipped.keys()
    moved = sorted(name for name in shipped.keys() & offered.keys() if not shipped[name] & offered[name])
    if moved:
        raise CandidateUnusable(
            candidate,
            f"{extra.name} was made for other versions of {', '.join(moved)} than the product now has: {command}, then make run.",
        )
    return _only(text, needed)


def _with_dependencies(names: Iterable[str]) -> set[str]:
    """Packages with everything that they need on any platform, by the metadata of those that are installed."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        try:
            wanted = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # of another platform
            continue
        waiting += [canonicalize_name(each.name) for each in wanted if "extra ==" not in str(each.marker)]
    return needed


def _only(lock: str, names: set[str]) -> str:
    """The pins of these packages, with their hashes."""
    kept, keep = [], False
    for line in lock.splitlines():
        pin = _PIN.match(line)
        if pin:
            keep = canonicalize_name(pin[1]) in names
        if keep and (pin or line.startswith(" ")):
            kept.append(line)
    return "\n".join([*kept, ""]) if kept else ""
