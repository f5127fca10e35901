"""What a test of endpoints needs beside the target: models to serve, and requests in flight."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import Request, urlopen

import numpy as np

from kaptain_magics.core.events import Event, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec, ImageSpec
from kaptain_magics.errors import KaptainError
from kaptain_magics.runtime.threads import THREAD_VARIABLES
from kaptain_magics.serving.client.predict import infer
from kaptain_magics.targets.base import EndpointStatus, ServingTarget
from kaptain_magics.testing.waiting import until

# The sum of every row, marked with the revision that answers.
MARKED = """
batchable = True
def predict(inputs):
    (rows,) = inputs.values()
    return rows.sum(axis=1) + {mark}
"""
SLOW = """
import time
def predict(inputs):
    time.sleep(1.5)
    (rows,) = inputs.values()
    return rows.sum(axis=1)
"""
NAMED = """
import os
seen = len(os.environ["GIVEN"] + os.environ["DEMO_NAME"])
def predict(inputs):
    (rows,) = inputs.values()
    return rows.sum(axis=1) + {mark} * (seen == 32)
"""
THREADS = f"""
import os
def predict(inputs):
    return [int(os.environ[name]) for name in {THREAD_VARIABLES!r}]
"""
STEP = 1000  # between the marks of two revisions; sums stay below


@dataclass
class ServingRig:
    """A target and what the suite needs to use it.

    Attributes:
        open: Opens the target again, as another process would.
        folder: Where artifacts are made.
        publish: Puts a folder where the target's servers find it and returns its URI.
        seamless: Whether a swap under load may not lose a single request.
        counts: Whether the target counts requests by revision, and its servers those in flight (``/metrics``).
        points: Percentage points by which a canary's share may differ from what was asked.
        resources: What a server may use.
        image: The image that it runs in.
        timeout: Seconds for a deployment.
        lasting: Whether the address seen from here lives as long as the endpoint.
    """

    open: Callable[[], ServingTarget]
    folder: Path
    publish: Callable[[Path], str] = field(default=lambda folder: folder.as_uri())
    seamless: bool = True
    counts: bool = True
    points: int = 0
    resources: Resources = field(default_factory=Resources)
    image: ImageSpec = field(default_factory=ImageSpec)
    timeout: float = 120.0
    lasting: bool = True

    def spec(self, name: str, number: int, source: str = MARKED, **more: Any) -> EndpointSpec:
        """Return a deployment of revision ``number``, whose answers carry the mark ``number * STEP``."""
        revision = f"{number:032x}"
        folder = self.folder / f"{name}-{number}-{new_hex(4)}"
        folder.mkdir()
        (folder / "model.py").write_text(source.format(mark=number * STEP))
        files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        given: dict[str, Any] = {
            "files": files,
            "resources": self.resources,
            "image": self.image,
            "timeout": self.timeout,
        }
        return EndpointSpec(
            name=name,
            run_id=f"run-{number}",
            model_id=name.replace("-", "/", 1),
            revision=revision,
            artifact_uri=self.publish(folder),
            framework=ModelFramework.PYTHON,
            **{**given, **more},
        )


def last(events: list[Event]) -> StateChanged:
    """Return the last event, which must be the only terminal state."""
    terminal = [e for e in events if isinstance(e, StateChanged) and e.state.terminal]
    assert len(terminal) == 1, events
    assert events[-1] is terminal[0]
    return terminal[0]


def ask(status: EndpointStatus, rows: Any) -> list[int]:
    """Return the numbers of the revisions that answered, after checking their answers."""
    array = np.asarray(rows, dtype=np.float64)
    sums = array.sum(axis=1)
    answer = infer(status.url, status.headers, {"x": array})["predict"]
    marks = (answer - sums) / STEP
    assert np.array_equal(marks, np.round(marks)), (answer, sums)
    return [int(mark) for mark in marks]


def in_flight(status: EndpointStatus) -> bool:
    """Return whether the server has a request that it has not answered, by its ``/metrics``."""
    request = Request(urljoin(status.url, "/metrics"), headers=dict(status.headers))
    with urlopen(request, timeout=30) as answer:
        return re.search(rb"^kaptain_requests_in_flight\{.*\} [1-9]", answer.read(), re.MULTILINE) is not None


class ConstantRequests:
    """Clients that ask without pause while something is done to an endpoint."""

    def __init__(self, status: EndpointStatus, clients: int = 3) -> None:
        self.answers: Counter[int] = Counter()
        self.lost: list[str] = []
        self._status, self._stop, self._turn = status, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def _ask(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                (mark,) = ask(self._status, [[float(number), float(count % 900)]])
            except (KaptainError, AssertionError) as error:
                with self._turn:
                    self.lost.append(repr(error))
                continue
            with self._turn:
                self.answers[mark] += 1

    def __enter__(self) -> ConstantRequests:
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def more(self, count: int = 30) -> None:
        """Wait for so many further answers."""
        goal = sum(self.answers.values()) + count
        until(lambda: sum(self.answers.values()) >= goal, 120, "answers")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
