"""Counters of the server, shared by its processes, and their text for Prometheus.

Every process writes a row of its own in memory that all of them map, so that each can answer for all.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator

PROTOCOLS = ("v2", "v1", "grpc")
CODES = (200, 400, 401, 404, 405, 408, 413, 415, 431, 499, 500, 503)  # each has its counter
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds

_LATENCY = len(PROTOCOLS) * len(CODES)
_SECONDS = _LATENCY + len(BUCKETS) + 1
_IN_FLIGHT, _ROWS, _CALLS, _WIDTH = range(_SECONDS + 1, _SECONDS + 5)
_COLUMNS = {(p, c): i * len(CODES) + j for i, p in enumerate(PROTOCOLS) for j, c in enumerate(CODES)}


class Metrics:
    """Requests, their latency, requests in flight, rows and calls of the model.

    Args:
        processes: Server processes that count; made before they fork.
    """

    def __init__(self, processes: int = 1) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * _WIDTH * processes)).cast("d")
        self._processes = processes
        self._base = 0

    def use(self, process: int) -> None:
        """Count in the row of that process, from 0."""
        self._base = process * _WIDTH

    def started(self) -> None:
        """Count a request in flight."""
        self._cells[self._base + _IN_FLIGHT] += 1

    def ended(self, protocol: str, code: int, seconds: float) -> None:
        """Count a request that was answered with an HTTP status after so many seconds."""
        cells, base = self._cells, self._base
        cells[base + _IN_FLIGHT] -= 1
        cells[base + _COLUMNS.get((protocol, code), _COLUMNS[protocol, 500 if code >= 500 else 400])] += 1
        cells[base + _LATENCY + bisect_left(BUCKETS, seconds)] += 1
        cells[base + _SECONDS] += seconds

    def called(self, rows: int) -> None:
        """Count a call of the model."""
        self._cells[self._base + _ROWS] += rows
        self._cells[self._base + _CALLS] += 1

    def forget(self, process: int) -> None:
        """Take back the requests in flight of a process that died."""
        self._cells[process * _WIDTH + _IN_FLIGHT] = 0

    def _sum(self, column: int) -> float:
        return sum(self._cells[column : _WIDTH * self._processes : _WIDTH])

    @property
    def answered(self) -> int:
        """Requests answered so far by all processes, refused ones included."""
        return int(sum(self._sum(column) for column in range(_LATENCY)))

    @property
    def in_flight(self) -> int:
        """Requests in flight in all processes."""
        return int(self._sum(_IN_FLIGHT))

    def text(self, model: str, revision: str) -> str:
        """Return all counters in Prometheus' text format."""
        labels = f'model="{_quoted(model)}",revision="{_quoted(revision)}"'
        return "\n".join(self._lines(labels)) + "\n"

    def _lines(self, labels: str) -> Iterator[str]:
        yield "# HELP kaptain_requests_total Inference requests answered."
        yield "# TYPE kaptain_requests_total counter"
        for (protocol, code), column in _COLUMNS.items():
            if count := self._sum(column):
                yield f'kaptain_requests_total{{{labels},protocol="{protocol}",code="{code}"}} {count:.0f}'
        yield "# HELP kaptain_request_seconds Seconds from the whole request to its answer."
        yield "# TYPE kaptain_request_seconds histogram"
        total = 0.0
        for i, bound in enumerate((*BUCKETS, "+Inf")):
            total += self._sum(_LATENCY + i)
            yield f'kaptain_request_seconds_bucket{{{labels},le="{bound}"}} {total:.0f}'
        yield f"kaptain_request_seconds_sum{{{labels}}} {self._sum(_SECONDS):.6f}"
        yield f"kaptain_request_seconds_count{{{labels}}} {total:.0f}"
        for name, kind, column, meaning in (
            ("kaptain_requests_in_flight", "gauge", _IN_FLIGHT, "Inference requests in flight."),
            ("kaptain_rows_total", "counter", _ROWS, "Rows given to the model."),
            ("kaptain_model_calls_total", "counter", _CALLS, "Calls of the model; less than requests where batched."),
        ):
            yield f"# HELP {name} {meaning}"
            yield f"# TYPE {name} {kind}"
            yield f"{name}{{{labels}}} {self._sum(column):.0f}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
