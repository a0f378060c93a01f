"""Runs one prediction at a time; requests that arrive in the meantime share the next one.

A prediction of scikit-learn costs milliseconds before the first row, and a hundred rows cost hardly more than one.
Concurrent requests share that cost. No request waits for others to arrive (adaptive batching; Crankshaw et al., Clipper,
NSDI 2017, without its delay). Rows do not depend on each other, so batching does not change the answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from churn.serving.rows import Values

MOST_ROWS = 1000
"""Largest number of rows per prediction. Larger requests are split, so that small ones can run in between."""

Predict = Callable[[Values], NDArray[np.float64]]


@dataclass(frozen=True)
class _Waiting:
    values: Values
    rows: int
    answer: asyncio.Future[NDArray[np.float64]]


class RequestBatcher:
    """Scores rows for concurrent requests in one event loop."""

    def __init__(self, predict: Predict) -> None:
        """Args: predict: returns probabilities of shape (rows, 2) for typed columns."""
        self._predict = predict
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._runner: asyncio.Task[None] | None = None

    async def score(self, values: Values) -> NDArray[np.float64]:
        """Return probabilities, shape (rows, 2), in the order of the rows; passes on any error of the model."""
        rows = len(next(iter(values.values())))
        parts = [
            await self._score_part({name: column[at : at + MOST_ROWS] for name, column in values.items()})
            for at in range(0, rows, MOST_ROWS)
        ]
        return np.concatenate(parts)

    async def _score_part(self, values: Values) -> NDArray[np.float64]:
        loop = asyncio.get_running_loop()
        request = _Waiting(values, len(next(iter(values.values()))), loop.create_future())
        self._waiting.append(request)
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        return await request.answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group = self._next()
            values = {name: np.concatenate([request.values[name] for request in group]) for name in group[0].values}
            try:
                answers = await loop.run_in_executor(self._thread, self._predict, values)
            except Exception as error:  # a model may raise anything: pass it to these requests, and serve the next ones
                self._settle(group, error)
            else:
                self._settle(group, answers)

    def _next(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        rows = group[0].rows
        while self._waiting and rows + self._waiting[0].rows <= MOST_ROWS:
            rows += self._waiting[0].rows
            group.append(self._waiting.popleft())
        return group

    @staticmethod
    def _settle(group: list[_Waiting], outcome: NDArray[np.float64] | Exception) -> None:
        at = 0
        for request in group:
            if request.answer.done():  # its client has disconnected
                pass
            elif isinstance(outcome, Exception):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome[at : at + request.rows])
            at += request.rows
