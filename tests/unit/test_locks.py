"""The locks and pyproject.toml agree: what is declared is pinned, hashed, the same wherever it runs, and used."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from support.basics import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN, DEV, SERVING = "requirements.lock", "requirements-dev.lock", "requirements-serving.lock"
DECLARED = {
    RUN: PROJECT["project"]["dependencies"],
    DEV: PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
    SERVING: PROJECT["dependency-groups"]["serving"],
}
PAIRS = [(lock, text) for lock, texts in DECLARED.items() for text in texts]
PLATFORMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]
ENVIRONMENTS = [
    {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine,
        "extra": "",
    }
    for python, (sys_platform, system, machine) in product(("3.11", "3.12", "3.13"), PLATFORMS)
]
"""What the locks are for: the Pythons of requires-python on Linux and macOS."""

IMPORT_NAMES = {
    "python-dotenv": "dotenv",
    "apache-airflow": "airflow.sdk",
    "apache-airflow-providers-amazon": "airflow.providers.amazon",
    "apache-airflow-providers-standard": "airflow.providers.standard",
    "cyclonedx-python-lib": "cyclonedx",
    "gitpython": "git",
    "packageurl-python": "packageurl",
    "apache-airflow-providers-celery": "airflow.providers.celery",
    "apache-airflow-providers-fab": "airflow.providers.fab",
    "protobuf": "google.protobuf",
    "psycopg2-binary": "psycopg2",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
"""Distributions whose import name is not their own with underscores."""

USED_BY_NAME = {
    "apache-airflow-providers-postgres": "Airflow needs its asyncpg on PostgreSQL",
    "apache-airflow-providers-smtp": "a file of notifications names its notifier",
    "hatchling": "builds this package, by [build-system], in the image of the stack",
    "editables": "hatchling asks for it where a package is installed as editable",
    "uvloop": "uvicorn takes it as its event loop when it is installed",
    "httptools": "uvicorn takes it as its HTTP parser when it is installed",
    "numba": "shap compiles with it, and an old one without wheels would be chosen for some machines",
}
"""Used without an import of ours, and by whom."""


@dataclass(frozen=True)
class Pin:
    """One pinned version, where its marker holds."""

    name: str
    version: Version
    marker: Marker | None
    hashes: int

    def holds_in(self, environment: dict[str, str]) -> bool:
        return self.marker is None or self.marker.evaluate(environment)


@cache
def pins(lock: str) -> tuple[Pin, ...]:
    """The pins of a lock; a line that is neither pin, hash nor comment is an error."""
    read: list[dict[str, Any]] = []
    for number, line in enumerate((ROOT / lock).read_text().splitlines(), start=1):
        text = line.removesuffix("\\").strip()
        if re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text):
            read[-1]["hashes"] += 1
        elif not text.startswith("#"):
            requirement = Requirement(text)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", f"{lock}:{number}: {text}"
            assert requirement.url is None, f"{lock}:{number}: {text}"
            version = Version(specifier.version)
            read.append(
                {
                    "name": canonicalize_name(requirement.name),
                    "version": version,
                    "marker": requirement.marker,
                    "hashes": 0,
                }
            )
    return tuple(Pin(**listed) for listed in read)


def versions(lock: str, name: str, environment: dict[str, str]) -> set[Version]:
    return {pin.version for pin in pins(lock) if pin.name == canonicalize_name(name) and pin.holds_in(environment)}


def wanted(requirement: Requirement) -> Iterator[Requirement]:
    """The requirement itself, and what its extras ask for, as the installed distribution says."""
    yield requirement
    for extra in requirement.extras:
        texts = metadata.requires(requirement.name) or []
        asked = [Requirement(text) for text in texts if "extra ==" in text]
        of_extra = [listed for listed in asked if listed.marker and listed.marker.evaluate({"extra": extra})]
        assert of_extra, f"{requirement.name} has no extra {extra}"
        yield from of_extra


@pytest.mark.parametrize(("lock", "text"), PAIRS, ids=[f"{lock}-{text}" for lock, text in PAIRS])
def test_every_dependency_is_pinned_within_its_specifier(lock: str, text: str) -> None:
    """Exactly one version a platform and Python, one that pyproject.toml allows; extras too."""
    for requirement in wanted(Requirement(text)):
        limited = requirement.marker if "extra" not in str(requirement.marker) else None
        for environment in ENVIRONMENTS:
            if limited and not limited.evaluate(environment):
                continue
            (version,) = versions(lock, requirement.name, environment)
            assert requirement.specifier.contains(version, prereleases=True), (
                f"{lock} pins {requirement.name} {version}"
            )


@pytest.mark.parametrize("lock", [DEV, SERVING])
def test_libraries_have_the_same_version_wherever_they_run(lock: str) -> None:
    """What serves and what tests is what trains: a pin of two locks is one version; serving adds nothing of its own."""
    shared = {pin.name for pin in pins(RUN)} if lock == DEV else {pin.name for pin in pins(SERVING)}
    for environment in ENVIRONMENTS:
        differing = {
            name: (read, versions(RUN, name, environment))
            for name in shared
            if ((read := versions(lock, name, environment)) or lock == DEV) and read != versions(RUN, name, environment)
        }
        assert differing == {}


@pytest.mark.parametrize("lock", DECLARED)
def test_a_lock_holds_nothing_that_nobody_asks_for(lock: str) -> None:
    """A dependency that left pyproject.toml leaves the locks too: every pin of this platform is asked for by another."""
    here = default_environment()
    asked: set[str] = set()
    waiting = [Requirement(text) for text in DECLARED[lock]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked.add(name)
        for extra in {"", *requirement.extras} - {extra for listed, extra in seen if listed == name}:
            seen.add((name, extra))
            texts = [Requirement(text) for text in metadata.requires(name) or []]
            waiting += [
                listed for listed in texts if not listed.marker or listed.marker.evaluate({**here, "extra": extra})
            ]
    assert {pin.name for pin in pins(lock) if pin.holds_in({**here, "extra": ""})} - asked == set()


@pytest.mark.parametrize("lock", DECLARED)
def test_every_pin_is_hashed(lock: str) -> None:
    """No pin without a sha256, so nothing but the file that was locked is installed."""
    assert pins(lock)
    assert [pin.name for pin in pins(lock) if not pin.hashes] == []


@pytest.mark.parametrize("lock", DECLARED)
def test_a_lock_names_no_address(lock: str) -> None:
    """Whoever installs chooses the index; the lock is the same for all."""
    faulty = re.compile(r"://|--(index-url|extra-index-url|find-links|trusted-host)")
    lines = (ROOT / lock).read_text().splitlines()
    assert [number for number, line in enumerate(lines, start=1) if faulty.search(line)] == []


@pytest.mark.parametrize("text", DECLARED[RUN])
def test_every_dependency_is_used(text: str) -> None:
    """A dependency that nothing imports is dead weight, unless its user is named here."""
    name = canonicalize_name(Requirement(text).name)
    module = IMPORT_NAMES.get(name, name.replace("-", "_"))
    used = any(listed == module or listed.startswith(f"{module}.") for listed in imported())
    if name in USED_BY_NAME:
        assert not used, f"{name} is imported: take it off USED_BY_NAME"
    else:
        assert used, f"{name}: nothing imports {module}; drop it, or name its user in USED_BY_NAME"


@cache
def imported() -> frozenset[str]:
    """Every name that our code imports, dotted, functions' own imports included."""
    read: set[str] = set()
    for folder in ("include", "dags", "plugins"):
        for file in Path(ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    read |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    read |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(read)
