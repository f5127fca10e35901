"""Calls of the model, one at a time: what arrives together is asked together.

A request never waits for others to come: a call takes what is there when the model is free, which is everything that
arrived in one turn of the loop, or during the call before. Fast calls are made in the loop itself, since handing them
to a thread would cost more than they do; slow ones in a thread, so that health checks are still answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np

from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.serving.signature import Array, LoadedModel, Outputs

# Measured with 8 clients of one `Runner` in a loop (medians of 5 to 9 rounds, 2 busy cores; logistic regression, SVC,
# a forest of 40 trees on the digits; calls of a fixed length).
_INLINE = 0.002  # seconds that a call may be expected to take for staying in the loop. Against a thread: 0.3 ms calls
#   0.34 instead of 0.41 ms, 0.7 ms calls 0.8 instead of 0.94 ms; no gain at 3 ms. Health checks wait for the loop
#   (99th percentile) 8 to 14 ms with 0.002, 17 to 24 ms with 0.004.
_SMALL = 32  # rows up to which a request shares a call, half a batch. Requests of 32 rows: 6700/s, 440/s and 360/s,
#   with 16 they were 4400/s, 360/s and 160/s; requests of 60 rows (with 64) do not gain, fewer rows are not affected
_MEMORY = 0.2  # weight of the newest measurement in a mean; no difference between 0.05 and 0.5
_COLD = 3  # measurements before a mean counts; no difference between 1 and 10
_GAIN = 0.8  # part of its time alone that a request must take in a batch for that to pay; 0.65 to 0.95 do the same
_PROBE = 128  # choices after which the other way is tried, less than 1 % of the calls; 16 costs 20 %, 512 gains nothing


class Call:
    """One request to the model.

    Args:
        inputs: The tensors.
        outputs: Names of the outputs that are wanted; empty for the default ones.
        parameters: The request's parameters.
        future: Gets the outputs.
    """

    __slots__ = ("future", "inputs", "key", "outputs", "parameters", "rows")

    def __init__(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        future: asyncio.Future[Outputs],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.parameters = parameters
        self.future = future
        first = next(iter(inputs.values()), None)
        self.rows = len(first) if first is not None and first.ndim else 1
        self.key: object = None

    def batch_key(self) -> object:
        """What must be alike for two requests to share a call; ``None`` when this one cannot."""
        if self.parameters or not 0 < self.rows <= _SMALL:
            return None
        if any(not a.ndim or len(a) != self.rows for a in self.inputs.values()):
            return None
        return (*self.outputs, *((name, a.dtype, a.shape[1:]) for name, a in self.inputs.items()))


class Runner:
    """Gives calls to a model, one at a time.

    Whether a batch pays depends on the model: a matrix product takes rows nearly for free, a loop over trees or a
    predictor in Python does not. So both ways are measured while they are used (a two-armed bandit): the seconds of a
    request alone, and those of a request's part in a batch. The way that is faster by ``_GAIN`` is taken, and the other
    one is tried at every ``_PROBE``-th choice, so that a model that changes (warm caches, another load) is noticed.

    Args:
        model: The model.
        limits: Bounds of queue and batch.
        metrics: Where calls are counted.
    """

    def __init__(self, model: LoadedModel, limits: Limits, metrics: Metrics) -> None:
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._busy = False
        self._thread: ThreadPoolExecutor | None = None
        self._single = _Mean()  # seconds of a call with one small request
        self._shared = _Mean()  # seconds per request of a call with several
        self._row = _Mean()  # seconds per row of a call with many rows
        self._choices = 0

    def submit(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> asyncio.Future[Outputs]:
        """Queue a request.

        Raises:
            RequestError: 503, too many wait already.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise RequestError(503, "too many requests wait for the model: try again", ((b"retry-after", b"1"),))
        call = Call(inputs, outputs, parameters, self._loop.create_future())
        self._waiting.append(call)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next)
        return call.future

    def close(self) -> None:
        """End the thread, after its call."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        while self._waiting and self._waiting[0].future.done():  # the client went away
            self._waiting.popleft()
        if not self._waiting:
            self._busy = False
            return
        batch = self._take()
        if self._is_fast(sum(call.rows for call in batch)):
            self._run(batch)
            self._loop.call_soon(self._next)
        else:
            self._thread = self._thread or ThreadPoolExecutor(1, "model")
            self._loop.run_in_executor(self._thread, self._run_quietly, batch).add_done_callback(lambda _: self._next())

    def _take(self) -> list[Call]:
        first = self._waiting.popleft()
        batch, rows = [first], first.rows
        if not self._waiting or not self._batching_pays() or (key := first.batch_key()) is None:
            return batch
        while self._waiting and rows + self._waiting[0].rows <= self._limits.batch_rows:
            if self._waiting[0].batch_key() != key:
                break
            batch.append(self._waiting.popleft())
            rows += batch[-1].rows
        return batch

    def _is_fast(self, rows: int) -> bool:
        """Whether a call is known to be short."""
        if rows <= _SMALL:
            return 0 < self._single.value < _INLINE
        return 0 < self._row.value * rows < _INLINE

    def _batching_pays(self) -> bool:
        """Whether the model answers several requests faster together; the other way is tried again now and then."""
        if not self._model.batchable or self._limits.batch_rows < 2 or self._single.count < _COLD:
            return False
        self._choices += 1
        pays = not self._shared.count or self._shared.value < _GAIN * self._single.value
        return not pays if self._choices % _PROBE == 0 else pays

    def _run_quietly(self, batch: list[Call]) -> None:
        self._run(batch, self._loop.call_soon_threadsafe)

    def _run(self, batch: list[Call], post: Any = None) -> None:
        started = perf_counter()
        results: Sequence[Outputs | BaseException]
        results = [self._ask(batch[0])] if len(batch) == 1 else self._ask_together(batch)
        took, rows = perf_counter() - started, sum(call.rows for call in batch)
        if rows > _SMALL:
            self._row.add(took / rows)
        if len(batch) > 1:
            self._shared.add(took / len(batch))
        elif rows <= _SMALL:
            self._single.add(took)
        if post is None:
            _settle(batch, results)
        else:
            post(_settle, batch, results)

    def _ask(self, call: Call) -> Outputs | BaseException:
        self._metrics.called(call.rows)
        try:
            return self._model.predict(call.inputs, call.outputs, call.parameters)
        except Exception as error:  # whatever a model raises is the answer to its request
            return error

    def _ask_together(self, batch: list[Call]) -> Sequence[Outputs | BaseException]:
        """Ask once for all; where that fails or the answer cannot be cut, ask for each."""
        first, rows = batch[0], sum(call.rows for call in batch)
        inputs = {name: np.concatenate([call.inputs[name] for call in batch]) for name in first.inputs}
        self._metrics.called(rows)
        try:
            outputs = self._model.predict(inputs, first.outputs, {})
        except Exception:  # one of them is to blame: the others shall not pay for it
            return [self._ask(call) for call in batch]
        if any(not np.ndim(array) or len(array) != rows for array in outputs.values()):
            return [self._ask(call) for call in batch]
        parts, offset = [], 0
        for call in batch:
            parts.append({name: array[offset : offset + call.rows] for name, array in outputs.items()})
            offset += call.rows
        return parts


def _settle(batch: list[Call], results: Sequence[Outputs | BaseException]) -> None:
    for call, result in zip(batch, results, strict=True):
        if call.future.done():
            continue
        if isinstance(result, BaseException):
            call.future.set_exception(result)
        else:
            call.future.set_result(result)


class _Mean:
    """A running mean that forgets; the first value, which a cold model gave, is forgotten at once."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.value = value if self.count < _COLD else self.value + _MEMORY * (value - self.value)
