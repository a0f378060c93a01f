"""What each night leaves behind: memory and handles of processes, rows of databases, files and bytes of the data root, and its limits."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

MOST_ADDED, MOST_MEMORY, MOST_HANDLES = 1.2, 1.05, 5
"""Limits: what an ordinary night adds, memory and handles of a process, each compared with an early night."""
SMALL_BYTES, SMALL_COUNT = 32 * 1024, 3
"""Differences below which a ratio says nothing: a table and each of its indexes grow by pages of 4 KiB, whose
splits come in bursts, and names of runs differ in length."""
PER_COUNTED_ROW = ("snapshots", "decisions")
"""Zones that hold the rows that count, and not those of one night: what a night adds is divided by these rows."""


@dataclass(frozen=True)
class Measured:
    """The state after a night.

    - `memory`, `handles`: bytes and open files by process
    - `rows`: by database and table
    - `sizes`: bytes by database and table, and by zone of the data root
    - `files`: by zone
    - `counted`: rows of the newest snapshot
    """

    memory: dict[str, int]
    handles: dict[str, int]
    rows: dict[str, int]
    sizes: dict[str, int]
    files: dict[str, int]
    counted: int

    def totals(self) -> dict[str, float]:
        """Memory, files and disk in MB or numbers, by what they are of: each process, all databases, all zones."""
        totals: dict[str, float] = {f"{name}, MB": size / 1e6 for name, size in self.memory.items()}
        totals |= {f"{name}, open files": count for name, count in self.handles.items()}
        databases = sum(self.sizes[name] for name in self.sizes if name in self.rows)
        return totals | {
            "databases, MB": databases / 1e6,
            "files, MB": (sum(self.sizes.values()) - databases) / 1e6,
            "files": sum(self.files.values()),
            "rows that count": self.counted,
        }


@dataclass(frozen=True)
class GrowthRow:
    """What one kind of thing grew by in an early and in the last ordinary night; `limit` is empty where there is none."""

    what: str
    early: float
    late: float
    limit: str
    kept: bool


def measure(
    processes: Mapping[str, int], databases: Mapping[str, Path], folders: Mapping[str, Path], counted: int
) -> Measured:
    """Measure everything that may grow.

    Args:
        processes: ids by name.
        databases: SQLite files by name.
        folders: folders by name; that with an empty name is the data root, whose zones are measured one by one.
        counted: rows of the newest snapshot.
    """
    memory, handles = {}, {}
    for name, pid in processes.items():
        process = psutil.Process(pid)
        memory[name], handles[name] = process.memory_info().rss, process.num_fds()
    rows: dict[str, int] = {}
    sizes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, file in databases.items():
        counts, bytes_of = _measure_tables(file)
        rows |= {f"{name}.{table}": count for table, count in counts.items()}
        sizes.update({f"{name}.{table}": size for table, size in bytes_of.items()})
    for name, folder in folders.items():
        for file in folder.rglob("*"):
            if file.is_file():
                zone = name or file.relative_to(folder).parts[0]
                files[zone] += 1
                sizes[zone] += file.stat().st_size
    return Measured(memory, handles, rows, dict(sizes), dict(files), counted)


def compare(before_early: Measured, early: Measured, before_late: Measured, late: Measured) -> list[GrowthRow]:
    """Compare two ordinary nights: what each added, and the processes after each."""
    rows = []
    for kind, small in (("rows", SMALL_COUNT), ("files", SMALL_COUNT), ("sizes", SMALL_BYTES)):
        names = sorted({*getattr(early, kind), *getattr(late, kind)})
        for name in names:
            first = _added(kind, name, before_early, early)
            last = _added(kind, name, before_late, late)
            if name in PER_COUNTED_ROW and kind == "sizes":
                first, last = first / early.counted, last / late.counted
                kept = last <= MOST_ADDED * first
            else:
                kept = last <= max(MOST_ADDED * first, first + small)
            unit = {"rows": "rows", "files": "files", "sizes": "bytes"}[kind]
            per = " per row that counts" if name in PER_COUNTED_ROW and kind == "sizes" else ""
            rows.append(GrowthRow(f"{name}: {unit} added{per}", first, last, f"{MOST_ADDED} times", kept))
    for name in sorted(late.memory.keys() & early.memory.keys()):
        kept = late.memory[name] <= MOST_MEMORY * early.memory[name]
        rows.append(GrowthRow(f"{name}: memory, bytes", early.memory[name], late.memory[name], "5%", kept))
        kept = late.handles[name] <= early.handles[name] + MOST_HANDLES
        rows.append(GrowthRow(f"{name}: open files", early.handles[name], late.handles[name], "5 more", kept))
    return rows


def broken(rows: Iterable[GrowthRow]) -> list[str]:
    """The kinds that grew more than they may, in sentences."""
    return [f"{row.what}: {row.early:,.6g}, then {row.late:,.6g}; limit: {row.limit}." for row in rows if not row.kept]


def _added(kind: str, name: str, before: Measured, after: Measured) -> float:
    return float(getattr(after, kind).get(name, 0) - getattr(before, kind).get(name, 0))


def _measure_tables(file: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Rows and bytes of each table; the bytes of its indexes are among them."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {table: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables}  # noqa: S608 -- names from the database itself
        query = "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) GROUP BY tbl_name"
        return counts, dict(connection.execute(query).fetchall())
