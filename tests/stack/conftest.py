"""One stack for all tests of this folder, from nothing; and three people who log in to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from support.stacks import Stack, running_stack, why_no_stack


@dataclass(frozen=True)
class Person:
    name: str
    password: str


RUNNING = ExitStack()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the stack after its last test: it takes half a core while it waits."""
    if nextitem is None or nextitem.path.parent != item.path.parent:
        RUNNING.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if reason := why_no_stack():
        pytest.skip(reason)
    # Two of them side by side on one engine need names of their own.
    stack = running_stack(tmp_path_factory.mktemp("stack"), os.environ.get("TEST_STACK", "churn-test"))
    yield RUNNING.enter_context(stack)
    RUNNING.close()


@pytest.fixture(scope="session")
def people(stack: Stack) -> dict[str, Person]:
    """A Viewer and an Op, as `make stack DO=user` creates them."""
    people_by_role = {}
    for name, role in (("vera", "Viewer"), ("otto", "Op")):
        output = stack.make("user", NAME=name, ROLE=role)
        password = re.search(r"with the password (\S+)", output)
        assert password, output
        people_by_role[role] = Person(name, password[1])
    return people_by_role
