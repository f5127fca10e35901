"""The contract's calls: start, tell the events in the tutorial's words through a logger, wait for the end."""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from kaptain_magics.core.events import (
    AnyEvent,
    EndpointChanged,
    LogWritten,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.states import EndpointState, RunState, TrialState
from kaptain_magics.errors import ServingError
from kaptain_magics.model.contract import envs
from kaptain_magics.model.plan import DeploymentPlan
from kaptain_magics.model.runs import Deployment, Run, Study

_H = TypeVar("_H", bound=Run)
_TABLE = "{:<20} {:<10} {:<25}{:<25} {:<65}"


class _Formatter(logging.Formatter):
    """``2021-12-10 19:29:31,544 kaptain-log[INFO]: message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        pattern = envs.LOG_TIMEFORMAT.replace("%f", f"{int(record.msecs):03d}")
        when = datetime.datetime.fromtimestamp(record.created).strftime(pattern)
        return f"{when} kaptain-log[{record.levelname}]: {record.getMessage()}"


class _Handler(logging.StreamHandler[Any]):
    """Writes to what standard output is at the moment: a notebook changes it with every cell."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        self.stream = sys.stdout  # not setStream(), which would flush the old one
        super().emit(record)


def logger() -> logging.Logger:
    """Return the logger ``kaptain-log``, with its own handler unless the user gave it one."""
    log = logging.getLogger("kaptain-log")
    if not log.handlers:
        handler = _Handler()
        handler.setFormatter(_Formatter())
        log.addHandler(handler)
        log.propagate = False
    log.setLevel(logging.DEBUG if envs.DEBUG else logging.INFO)
    return log


def follow_and_tell(handle: _H, verbose: bool | None = None) -> _H:
    """Tell the run's events until its end; an interrupt ends the run and what belongs to it first.

    Args:
        handle: The run.
        verbose: Show the job's own log; ``envs.VERBOSE`` when not given.

    Returns:
        The handle.

    Raises:
        RunFailedError: It failed or was stopped; the message has the reason.
    """
    diff = _Study(handle) if isinstance(handle, Study) else _Teller(handle, verbose)
    try:
        for event in handle.follow(tick=0.25):
            diff.tell(event)
    except KeyboardInterrupt:
        handle.stop()
        raise
    finally:
        diff.close()
    handle.raise_for_failure()
    return handle


def deploy_and_tell(plan: Callable[[], DeploymentPlan]) -> Deployment:
    """Start a deployment and tell its events; an endpoint in the way is logged too, as the contract has it.

    Raises:
        ServingError: An endpoint is there already, or the deployment failed.
    """
    try:
        made = plan()
    except ServingError as error:
        logger().error("%s %s", error.message, error.hint)
        raise
    return follow_and_tell(made.start())


class _Teller:
    """Tells a training run or a deployment."""

    def __init__(self, handle: Run, verbose: bool | None) -> None:
        self.log = logger()
        self._handle, self._verbose = handle, envs.VERBOSE if verbose is None else verbose
        self._told_log = self._told_table = False

    def tell(self, event: AnyEvent | None) -> None:
        """Tell one event."""
        if isinstance(event, Noted):
            self.log.log(logging.WARNING if event.warning else logging.INFO, " ".join([event.text, event.hint]).strip())
        elif isinstance(event, LogWritten) and self._verbose:
            self._tell_log(event.text)
        elif isinstance(event, EndpointChanged):
            self._tell_endpoint(event)
        elif isinstance(event, StateChanged) and event.state in (RunState.FAILED, RunState.STOPPED):
            self.log.error("%s %s. %s", self._handle.name, f"{event.state}: {event.reason}".rstrip(": "), event.hint)

    def _tell_log(self, text: str) -> None:
        if not self._told_log:
            self._told_log = True
            self.log.info("[%s/%s] logs:", self._handle.name, self._handle.framework)
        lines = [line for line in text.splitlines() if line.strip()]
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    def _tell_endpoint(self, event: EndpointChanged) -> None:
        if not self._told_table:
            self._told_table = True
            sys.stdout.write(_TABLE.format("NAME", "READY", "PREV", "LATEST", "URL").rstrip() + "\n")
        shares: list[int | str] = list(event.traffic.values()) or [""]
        previous = shares[0] if len(shares) > 1 else 0 if event.traffic else ""
        ready = {EndpointState.READY: "True", EndpointState.FAILED: "False"}.get(event.state, "Unknown")
        row = _TABLE.format(
            event.name, ready, previous, shares[-1], (event.url or event.cluster_url).partition("/v")[0]
        )
        sys.stdout.write(row.rstrip() + "\n")

    def close(self) -> None:
        """Nothing is left open."""


class _Study(_Teller):
    """Tells a study: one progress line instead of its trials' logs."""

    def __init__(self, handle: Study) -> None:
        super().__init__(handle, verbose=False)
        spec = handle.record.study
        assert spec is not None
        self._spec, self._counts = spec, dict.fromkeys(TrialState, 0)
        self._states: dict[int, TrialState] = {}
        self._best: float | None = None
        self._begun = time.monotonic()
        self._shown = 0.0
        self._done = 0
        self._bar: Any = None  # from the first trial on

    def tell(self, event: AnyEvent | None) -> None:
        """Tell one event."""
        if isinstance(event, TrialChanged):
            before = self._states.get(event.number)
            if before is not None:
                self._counts[before] -= 1
            self._states[event.number] = event.state
            self._counts[event.state] += 1
            value = event.metrics.get(self._spec.objectives[0])
            if event.state is TrialState.SUCCEEDED and value is not None and self._improves(value.latest):
                self._best = value.latest
            if before is None or not before.terminal:
                self._show(ended=event.state.terminal)
        elif event is None:
            if self._states and time.monotonic() - self._shown > 1.0:
                self._show()
        else:
            if not isinstance(event, LogWritten):
                self.close()
            super().tell(event)

    def _improves(self, value: float) -> bool:
        return self._best is None or self._spec.direction.better(value, self._best)

    def _show(self, ended: bool = False) -> None:
        if self._bar is None:
            from tqdm import tqdm

            bar_format = "Progress: {percentage:3.0f}%|{bar:25}|{n_fmt}/{total_fmt} [{desc}]"
            self._bar = tqdm(
                total=self._spec.trials, initial=self._done, file=sys.stdout, bar_format=bar_format, delay=1e-9
            )
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        best = "" if self._best is None else f" {self._spec.objectives[0]}: {self._best:.4g},"
        count = self._counts
        self._bar.n += ended
        self._bar.set_description_str(
            f"time: {minutes:02d}:{seconds:02d},{best} trials running: {count[TrialState.RUNNING]}, "
            f"pending: {count[TrialState.PENDING]}, failed: {count[TrialState.FAILED]}, "
            f"killed: {count[TrialState.KILLED]}",
            refresh=ended or time.monotonic() - self._shown > 1.0,
        )
        self._shown = time.monotonic()

    def close(self) -> None:
        """End the progress line; another one begins where trials go on."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._done, self._bar = self._bar.n, None
