"""Targets with planted faults, for the test of `make fuzz` itself."""

from __future__ import annotations

import os
import random

from support.fuzzing.cases import Defect, Target


def _make(draw: random.Random) -> bytes:
    return b"%d" % draw.randrange(10)


def _check(case: bytes) -> str:
    if b"7" in case:
        os._exit(9)  # as after a fault in native code
    if b"3" in case:
        raise Defect("A planted fault: three")
    return "done"


ENDS = Target("ends", _make, _check)
