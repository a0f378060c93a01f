"""All targets, by name. Each is imported when it is used, because some need libraries that take seconds to import."""

from __future__ import annotations

from importlib import import_module

from support.fuzzing.cases import Target

_TARGETS = {
    "csv": "tables:CSV",
    "gzip": "tables:GZIP",
    "parquet": "tables:PARQUET",
    "population": "tables:POPULATION",
    "labels": "tables:LABELS",
    "policy": "trees:POLICY",
    "scoring": "trees:SCORING",
    "contract": "trees:CONTRACT",
    "service": "requests:SERVICE",
    "http": "requests:HTTP",
    "review": "forms:REVIEW",
    "conf": "forms:CONF",
}
NAMES = tuple(_TARGETS)


def find_target(name: str) -> Target:
    """Return the target of a name, or of `module:ATTRIBUTE`, which is a module beside this one."""
    module, _, attribute = _TARGETS.get(name, name).partition(":")
    target: Target = getattr(import_module(f"support.fuzzing.{module}"), attribute)
    return target
