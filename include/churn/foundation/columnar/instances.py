"""DuckDB instances, used one after the other: to start one takes 15 ms of the processor, more than to judge a small file.

Each use has an empty database, a session of its own, and a folder of its own for what does not fit into memory. What DuckDB keeps
for a whole instance, such as the number of threads, is set when it starts and by nobody after that.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb

from churn.foundation.columnar.names import literal

_Limits = tuple[str, int | None]
_MOST_IDLE = 8
"""Instances with the same limits that wait for their next use; each takes some megabytes."""


class Instance:
    """A DuckDB with a memory limit and a number of threads; it serves one caller at a time."""

    def __init__(self, limits: _Limits) -> None:
        memory_limit, threads = limits
        config: dict[str, Any] = {"memory_limit": memory_limit}
        self._database = duckdb.connect(config=config | ({"threads": threads} if threads else {}))

    def open(self, folder: Path) -> duckdb.DuckDBPyConnection:
        """Connect to a new, empty database that spills to this folder."""
        self._database.execute(f"SET temp_directory = {literal(str(folder))}; ATTACH ':memory:' AS work")
        connection = self._database.cursor()
        connection.execute("USE work; SET enable_progress_bar = false")  # it would end up in logs
        return connection

    def empty(self) -> None:
        """Delete the database after its connection was closed.

        Raises:
            duckdb.Error: somebody still reads from it, or it has spilled, and would hold its files on the disk. It must be closed.
        """
        self._database.execute("DETACH work; SET temp_directory = ''")

    def close(self) -> None:
        """End the instance."""
        self._database.close()


class Instances:
    """The instances of this process that wait for their next use."""

    def __init__(self) -> None:
        self._idle: defaultdict[_Limits, list[Instance]] = defaultdict(list)
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """After a fork: the threads of the instances have remained with the parent, and to close them would wait for these."""
        _OF_PARENTS.append(self._idle)
        self._idle, self._lock = defaultdict(list), threading.Lock()

    def take(self, limits: _Limits, folder: Path) -> tuple[Instance, duckdb.DuckDBPyConnection]:
        """Connect to an empty database of an instance that nobody uses; `give_back` it afterwards."""
        with self._lock:
            waiting = self._idle[limits]
            instance = waiting.pop() if waiting else None
        instance = instance or Instance(limits)
        return instance, instance.open(folder)

    def give_back(self, limits: _Limits, instance: Instance) -> None:
        """Keep an instance, whose connection is closed, for its next use."""
        try:
            instance.empty()
        except duckdb.Error:
            instance.close()
            return
        with self._lock:
            keep = len(self._idle[limits]) < _MOST_IDLE
            if keep:
                self._idle[limits].append(instance)
        if not keep:
            instance.close()


_OF_PARENTS: list[object] = []
INSTANCES = Instances()
