"""Calls of the model: one at a time, together where it pays, apart where one is to blame."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from kaptain_magics.serving.inference import batching
from kaptain_magics.serving.inference.batching import Runner
from kaptain_magics.serving.inference.metrics import Metrics
from kaptain_magics.serving.protocol.limits import Limits
from kaptain_magics.serving.protocol.protocol_errors import RequestError, refusal
from kaptain_magics.serving.signature import Signature


class Model:
    """Counts its calls; a row costs ``row`` seconds and a call ``call`` seconds."""

    platform = "test"
    signature = Signature()

    def __init__(self, batchable: bool = True, call: float = 0.0, row: float = 0.0) -> None:
        self.batchable, self._call, self._row = batchable, call, row
        self.calls: list[int] = []
        self.threads: set[int] = set()
        self._turn = threading.Lock()

    def predict(
        self, inputs: Mapping[str, Any], outputs: Sequence[str], parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        assert self._turn.acquire(blocking=False), "two calls at once"
        try:
            (rows,) = inputs.values()
            self.calls.append(len(rows))
            self.threads.add(threading.get_ident())
            if self._call or self._row:
                time.sleep(self._call + self._row * len(rows))
            if (rows < 0).any():
                raise ValueError("below zero")
            if parameters.get("whole"):
                return {"y": rows.sum()}
            return {"y": rows * 2}
        finally:
            self._turn.release()


async def ask(runner: Runner, value: float, rows: int = 1, **parameters: Any) -> Any:
    answer = await runner.submit({"x": np.full((rows, 1), value)}, (), parameters)
    return answer["y"]


async def warm(runner: Runner) -> None:
    for _ in range(4):
        await ask(runner, 0.0)


def run(model: Model, limits: Limits, work: Any) -> Any:
    async def main() -> Any:
        runner = Runner(model, limits, Metrics())
        try:
            return await work(runner)
        finally:
            runner.close()

    return asyncio.run(main())


def test_what_comes_together_is_asked_together() -> None:
    model = Model(call=0.001)

    async def work(runner: Runner) -> None:
        await warm(runner)
        for _ in range(20):
            answers = await asyncio.gather(*(ask(runner, float(n)) for n in range(8)))
            assert [a.tolist() for a in answers] == [[[2.0 * n]] for n in range(8)]

    run(model, Limits(), work)
    assert max(model.calls) > 1
    assert sum(model.calls) == 164
    assert len(model.calls) < 100


def test_a_single_request_waits_for_nobody() -> None:
    model = Model()

    async def work(runner: Runner) -> float:
        await warm(runner)
        started = time.perf_counter()
        for _ in range(100):
            await ask(runner, 1.0)
        return time.perf_counter() - started

    run(model, Limits(), work)
    assert model.calls == [1] * 104
    assert threading.get_ident() in model.threads  # fast calls are made in the loop


def test_one_bad_request_spoils_no_other() -> None:
    async def work(runner: Runner) -> list[Any]:
        await warm(runner)
        return await asyncio.gather(*(ask(runner, v) for v in (1.0, -1.0, 2.0)), return_exceptions=True)

    for _ in range(3):
        good, bad, other = run(Model(call=0.001), Limits(), work)
        assert (good.tolist(), other.tolist()) == ([[2.0]], [[4.0]])
        assert isinstance(bad, ValueError)


@pytest.mark.parametrize(
    ("model", "limits"), [(Model(batchable=False), Limits()), (Model(), Limits(batch_rows=1))], ids=["model", "limit"]
)
def test_batching_can_be_off(model: Model, limits: Limits) -> None:
    async def work(runner: Runner) -> None:
        await asyncio.gather(*(ask(runner, 1.0) for _ in range(20)))

    run(model, limits, work)
    assert model.calls == [1] * 20


@pytest.mark.parametrize(("call", "row", "gains"), [(0.0, 0.001, False), (0.001, 0.0001, True)])
def test_a_model_is_asked_the_way_that_is_faster(
    call: float, row: float, gains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timed(Model):
        def predict(self, inputs: Any, outputs: Any, parameters: Any) -> dict[str, Any]:
            clock[0] += call + row * len(inputs["x"])
            return super().predict(inputs, outputs, parameters)

    clock = [0.0]
    monkeypatch.setattr(batching, "perf_counter", lambda: clock[0])
    model = Timed()

    async def work(runner: Runner) -> None:
        for _ in range(100):
            await asyncio.gather(*(ask(runner, 1.0) for _ in range(4)))

    run(model, Limits(), work)
    assert (model.calls[40:].count(4) > model.calls[40:].count(1)) is gains


def test_different_requests_are_not_mixed() -> None:
    model = Model(call=0.001)

    async def work(runner: Runner) -> None:
        await warm(runner)
        shapes = [np.ones((1, 1)), np.ones((1, 2)), np.ones((1, 2), dtype=np.float32), np.ones((1, 1))]
        answers = await asyncio.gather(*(runner.submit({"x": a}, (), {}) for a in shapes))
        assert [a["y"].shape for a in answers] == [a.shape for a in shapes]
        assert answers[2]["y"].dtype == np.float32
        mixed = await asyncio.gather(ask(runner, 1.0), ask(runner, 1.0, whole=True), ask(runner, 3.0))
        assert [np.ravel(a).tolist() for a in mixed] == [[2.0], [1.0], [6.0]]

    run(model, Limits(), work)


def test_an_answer_that_cannot_be_cut_is_asked_for_again() -> None:
    class Whole(Model):
        def predict(self, inputs: Any, outputs: Any, parameters: Any) -> dict[str, Any]:
            super().predict(inputs, outputs, parameters)
            return {"y": inputs["x"].sum()}

    async def work(runner: Runner) -> list[Any]:
        await warm(runner)
        return await asyncio.gather(*(ask(runner, v) for v in (1.0, 2.0, 3.0)))

    assert run(Whole(call=0.001), Limits(), work) == [1.0, 2.0, 3.0]


def test_slow_calls_leave_the_loop_free() -> None:
    model = Model(call=0.05)

    async def work(runner: Runner) -> float:
        await warm(runner)
        call = asyncio.ensure_future(ask(runner, 1.0))
        started, longest = time.perf_counter(), 0.0
        while not call.done():
            await asyncio.sleep(0.001)
            longest, started = max(longest, time.perf_counter() - started), time.perf_counter()
        return longest

    run(model, Limits(), work)
    assert threading.get_ident() not in model.threads


def test_the_queue_has_an_end_and_the_gone_are_skipped() -> None:
    model = Model(batchable=False, call=0.05)

    async def work(runner: Runner) -> None:
        first = runner.submit({"x": np.ones((1, 1))}, (), {})
        await asyncio.sleep(0.01)
        waiting = [runner.submit({"x": np.ones((1, 1))}, (), {}) for _ in range(3)]
        with pytest.raises(RequestError) as caught:
            runner.submit({"x": np.ones((1, 1))}, (), {})
        assert caught.value.status == 503
        waiting[0].cancel()
        await asyncio.gather(first, *waiting[1:])

    run(model, Limits(waiting=3), work)
    assert len(model.calls) == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no\nmore"), 400), (TypeError(), 400), (MemoryError(), 503), (ZeroDivisionError("x"), 500)],
)
def test_what_a_model_raises_has_a_status(error: Exception, status: int) -> None:
    refused = refusal(error)
    assert refused.status == status
    assert "\n" not in refused.message
