"""Makes, runs, shrinks and keeps cases; knows nothing about what a target reads."""

from __future__ import annotations

import hashlib
import random
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

KEPT = Path(__file__).parents[2] / "fixtures/fuzz"
SLOWEST = 10.0
"""Seconds after which a case counts as a hang."""
MOST_MEMORY = 512
"""MiB by which one case may raise the peak of the process."""
_SHRINKING = 10.0
"""Seconds that are spent on shrinking a case."""

Make = Callable[[random.Random], bytes]
Check = Callable[[bytes], str]


class Defect(Exception):  # noqa: N818 -- it says what was found
    """A promise that does not hold for a case."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    - `make`: makes a case
    - `check`: gives the case to the product; returns in a word or two what became of it, and raises for a defect
    - `open`: what the checks need while they run, such as a server
    """

    name: str
    make: Make
    check: Check
    open: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Finding:
    """A case that the product did not answer as it must. Findings of one `kind` have one cause, as far as can be seen from outside."""

    target: str
    seed: int
    number: int
    kind: str
    reason: str
    case: bytes

    def write(self, folder: Path) -> Path:
        """Write the case and, beside it, its reason; returns the file of the case."""
        folder = folder / self.target
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"seed-{self.seed}-case-{self.number}"
        file.write_bytes(self.case)
        file.with_suffix(".reason.txt").write_text(f"{self.kind}\n\n{self.reason}\n", errors="backslashreplace")
        return file


@dataclass
class Tally:
    """What became of some cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """Number of cases."""
        return sum(self.outcomes.values())

    def add(self, other: Tally) -> None:
        """Count what became of further cases."""
        self.outcomes += other.outcomes
        self.findings += other.findings
        self.seconds += other.seconds


def make_case(target: Target, seed: int, number: int) -> bytes:
    """The case of this number. The same arguments always make the same bytes."""
    return target.make(random.Random(f"{target.name} {seed} {number}"))  # noqa: S311 -- to be repeated, not to be secret


def run_cases(
    target: Target, seed: int, numbers: Iterable[int], began: Callable[[int], None] = lambda _: None
) -> Tally:
    """Run cases; the context of the target must be open.

    Args:
        target: what reads them.
        seed: of all of them.
        numbers: theirs.
        began: is told the number of each case before it runs.
    """
    tally, first = Tally(), time.perf_counter()
    kinds: set[str] = set()
    for number in numbers:
        began(number)
        case = make_case(target, seed, number)
        outcome, fault = answer_to(target, case)
        tally.outcomes[outcome] += 1
        if fault:
            kind, reason = fault
            if kind not in kinds:  # of each kind, the first is shrunk
                kinds.add(kind)
                case = shrink(case, lambda smaller, kind=kind: (answer_to(target, smaller)[1] or ("",))[0] == kind)
            tally.findings.append(Finding(target.name, seed, number, kind, reason, case))
    tally.seconds = time.perf_counter() - first
    return tally


def answer_to(target: Target, case: bytes) -> tuple[str, tuple[str, str] | None]:
    """Run one case; returns what became of it, and the kind and the reason of a defect."""
    memory, began = _peak(), time.process_time()  # of the processor: a busy machine is not a defect
    try:
        outcome = target.check(case)
    except Exception as error:
        return "defect", (_kind_of(error), "".join(traceback.format_exception(error))[-6000:])
    took, more = time.process_time() - began, _peak() - memory
    if took > SLOWEST:
        return "defect", ("hang", f"The case took {took:.1f} s of the processor.")
    if more > MOST_MEMORY:
        return "defect", ("memory", f"The case took {more:.0f} MiB more than any before it.")
    return outcome, None


def shrink(case: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Leave out parts of a case, ever smaller ones, as long as what is left fails in the same way (Zeller and Hildebrandt's ddmin)."""
    until, size = time.perf_counter() + _SHRINKING, max(len(case) // 2, 1)
    while size and time.perf_counter() < until:
        at, shorter = 0, False
        while at < len(case) and time.perf_counter() < until:
            smaller = case[:at] + case[at + size :]
            if fails(smaller):
                case, shorter = smaller, True
            else:
                at += size
        if not shorter or size > len(case):
            size //= 2
    return case


def kept_cases(target: str) -> Iterator[Path]:
    """The cases of a target that were kept, each once a defect."""
    yield from sorted(file for file in (KEPT / target).glob("*") if file.is_file())


def assert_no_defect(target: Target, most: int) -> None:
    """Run the cases of a target that were kept, and this number of a fixed seed; they are neither all refused nor all accepted."""
    with target.open():
        for file in kept_cases(target.name):
            _, fault = answer_to(target, file.read_bytes())
            assert fault is None, f"{file.name}: {fault}"
        tally = run_cases(target, 1, range(most))
    assert [(finding.number, finding.kind, finding.reason) for finding in tally.findings] == []
    assert tally.cases == most
    assert len(tally.outcomes) > 1


def choice_of(case: bytes, among: int) -> int:
    """A number below `among` that depends on the bytes of a case alone: in which of several ways it is checked."""
    return hashlib.sha256(case).digest()[0] % among


def _kind_of(error: BaseException) -> str:
    """The type of an error and where it was raised in our own code, or the first words of what a promise says."""
    if isinstance(error, Defect):
        return f"Defect: {str(error).partition(':')[0][:100]}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "include/churn" in frame.filename]
    place = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, {place.name}"


def _peak() -> float:
    """The highest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
