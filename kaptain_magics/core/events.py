"""Events: the one stream that every reader of a run follows.

A target and the supervisor append events; the store numbers them (``seq`` from 1, no gaps) and stamps them. Facts
(state, metric, trial, artifact) may be repeated after a reader or a supervisor resumed; taking them twice does no harm.
"""

from __future__ import annotations

from typing import get_args

import msgspec

from kaptain_magics.core.domains import Value
from kaptain_magics.core.states import EndpointState, RunState, TrialState
from kaptain_magics.runtime.mime import PLOTLY


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of all events.

    Attributes:
        seq: Place in the run's stream, from 1; given by the store.
        time: Seconds since 1970 (UTC); given by the store where it is 0.
        cursor: A target's own place to resume at, such as bytes of the log; 0 where there is none.
    """

    seq: int = 0
    time: float = 0.0
    cursor: int = 0


class StateChanged(Event, frozen=True, kw_only=True, tag="state"):
    """The run has a new state.

    Attributes:
        state: The new state; a terminal one is the stream's last state.
        reason: Why, in one sentence; always there for ``FAILED`` and ``STOPPED``.
        hint: The next step for the reader.
        exit_code: The process's exit code, negative for a signal, where there was a process.
        lost: Whether the job ended because what carried it was gone, not by its script: it may be run again.
    """

    state: RunState
    reason: str = ""
    hint: str = ""
    exit_code: int | None = None
    lost: bool = False


class LogWritten(Event, frozen=True, kw_only=True, tag="log"):
    """The run's log has grown.

    The store keeps only the range; a reader gets the text, at most the last 64 KiB of the range.

    Attributes:
        start: First byte in the run's log file.
        end: One past the last byte.
        text: The text (decoded as UTF-8, undecodable bytes replaced).
        source: Where it comes from when not from the run's own job, such as a pod's name.
    """

    start: int = 0
    end: int = 0
    text: str = ""
    source: str = ""


class MetricReported(Event, frozen=True, kw_only=True, tag="metric"):
    """The script reported a metric.

    Attributes:
        name: The metric's name.
        value: Its value.
        step: The step or epoch it belongs to, where the script named one.
    """

    name: str
    value: float
    step: int | None = None


class MetricSummary(msgspec.Struct, frozen=True):
    """A metric over a run or a trial: what Katib keeps of it."""

    min: float
    max: float
    latest: float

    @classmethod
    def of(cls, value: float, before: MetricSummary | None = None) -> MetricSummary:
        """Return the summary of a value, or of those ``before`` and it."""
        return (
            cls(value, value, value) if before is None else cls(min(before.min, value), max(before.max, value), value)
        )


class TrialChanged(Event, frozen=True, kw_only=True, tag="trial"):
    """A trial has a new state; holds the trial whole, so that the last one of a number is all there is to know.

    Attributes:
        number: The trial's number in its study, from 0.
        name: Its name, such as ``mnist-tune-0174088b-sh2xfkbt``.
        state: The new state.
        parameters: Its hyperparameters under the study's names.
        metrics: What it reported, by name.
        started: Seconds since 1970, 0 while it is pending.
        ended: Seconds since 1970, 0 while it runs.
        reason: Why it failed or was stopped.
        artifact_uri: Where its model was saved, empty when none was.
        best: Whether it is the best so far (only on succeeded trials); of several objectives, whether no other trial
            before it is better in all of them.
        steps: The first objective by step, once the trial has ended; an even sample where there are many. Empty where
            it was reported once, or was not seen (Katib).
    """

    number: int
    name: str
    state: TrialState
    parameters: dict[str, Value]
    metrics: dict[str, MetricSummary] = {}
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    artifact_uri: str = ""
    best: bool = False
    steps: dict[int, float] = {}

    def latest(self, metric: str) -> float | None:
        """Return a metric as it was reported last, which is that of the model that the trial saved."""
        summary = self.metrics.get(metric)
        return None if summary is None else summary.latest


class ArtifactSaved(Event, frozen=True, kw_only=True, tag="artifact"):
    """A model was saved.

    Attributes:
        uri: The folder that holds it, such as ``s3://kaptain/models/dev/mnist/trained/<uuid32>``.
        files: sha256 (hex) of every file, by path relative to ``uri``.
        size: Bytes of all files.
        framework: The framework it was saved for, empty when unknown.
        format: The file format, such as ``joblib``.
    """

    uri: str
    files: dict[str, str] = {}
    size: int = 0
    framework: str = ""
    format: str = ""


class EndpointChanged(Event, frozen=True, kw_only=True, tag="endpoint"):
    """An endpoint has a new state.

    Attributes:
        name: The endpoint's name.
        state: The new state.
        url: Where to send requests from here, such as ``http://127.0.0.1:41231/v2/models/dev-mnist/infer``; empty where
            there is no address that lives as long as the endpoint.
        cluster_url: The address inside the cluster, where it is another.
        open_with: Command that opens the endpoint at port 8080 of this machine, where ``url`` is empty.
        traffic: Percent of requests by revision.
        reason: Why it is not ready.
        needs_token: Whether requests need a token.
        curl: The line that asks it with a row of the training data; empty where no row is known.
    """

    name: str
    state: EndpointState
    url: str = ""
    cluster_url: str = ""
    open_with: str = ""
    traffic: dict[str, int] = {}
    reason: str = ""
    needs_token: bool = False
    curl: str = ""


class Noted(Event, frozen=True, kw_only=True, tag="note"):
    """Something worth a line: what was created, deleted, skipped.

    Attributes:
        text: One line.
        warning: Whether the reader should worry.
        hint: The next step, for warnings.
    """

    text: str
    warning: bool = False
    hint: str = ""


class Displayed(Event, frozen=True, kw_only=True, tag="display"):
    """The script showed something: a figure, a table, the value of the cell's last expression.

    The store keeps its content in a file of the run; the event names it.

    Attributes:
        key: Its name among what the script shows; what has the same one takes its place.
        mime: The content's type; ``text/plain`` where ``text`` is all there is.
        text: What a terminal shows, some 4,000 characters at most.
        clears: Whether it replaces everything that was shown before.
        file: The content's file, relative to the run's folder; given by the store.
        size: Bytes of the content.
        data: The content, on its way to the store.
    """

    key: str
    mime: str
    text: str = ""
    clears: bool = False
    file: str = ""
    size: int = 0
    data: bytes = b""

    @property
    def file_name(self) -> str:
        """The name of the content's file; empty where there is no content, or of a type that is not shown."""
        suffix = _SUFFIXES.get(self.mime, "")
        return f"{self.key}{suffix}" if suffix else ""


_SUFFIXES = {  # of the content types that are shown
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/svg+xml": ".svg",
    "text/html": ".html",
    PLOTLY: ".plotly.json",
    "application/vnd.vegalite.v5+json": ".vegalite.json",
    "application/vnd.vegalite.v6+json": ".vegalite.json",
}


class FileWritten(Event, frozen=True, kw_only=True, tag="file"):
    """The script has written a file, on a machine whose disk does not outlive the job; the store keeps it.

    Attributes:
        path: Its place in the job's working folder, with ``/``.
        size: Its bytes.
        data: The content, on its way to the store.
    """

    path: str
    size: int = 0
    data: bytes = b""


AnyEvent = (
    StateChanged
    | LogWritten
    | MetricReported
    | TrialChanged
    | ArtifactSaved
    | EndpointChanged
    | Noted
    | Displayed
    | FileWritten
)
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_KINDS = frozenset(event.__struct_config__.tag for event in get_args(AnyEvent))


class _Kind(msgspec.Struct):
    """What all lines have, also those of kinds that a newer version adds."""

    kind: str


def decode_event(line: bytes) -> AnyEvent | None:
    """Return the event that a line of ``events.jsonl`` holds; ``None`` for a kind that only a newer version knows.

    Raises:
        msgspec.DecodeError: The line is no JSON, or no event.
    """
    try:
        return _decoder.decode(line)
    except msgspec.ValidationError:
        if msgspec.json.decode(line, type=_Kind).kind in _KINDS:
            raise
        return None
