"""The contract's console: the logger ``kaptain-log``, and runs that are followed on it until their end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from kaptain_magics.errors import ServingError
from kaptain_magics.model.contract import envs
from kaptain_magics.model.plan import DeploymentPlan
from kaptain_magics.model.runs import Deployment, Run

_R = TypeVar("_R", bound=Run)
_INTERVAL = 0.25  # seconds without an event after which a study's progress is drawn again


class _Formatter(logging.Formatter):
    """``2021-12-10 19:29:31,544 kaptain-log[INFO]: message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line in local time, without a line end."""
        from kaptain_magics.views.formats import log_line

        return log_line(record.created, record.getMessage(), record.levelname, envs.LOG_TIMEFORMAT)


class _Handler(logging.StreamHandler[Any]):
    """Writes to what standard output is at the moment: a notebook changes it with every cell."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to the current ``sys.stdout``; what fails there goes to ``handleError``."""
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


def follow_and_log(run: _R, verbose: bool | None = None) -> _R:
    """Log the run's events until its end; an interrupt ends the run and what belongs to it first.

    Args:
        run: The run.
        verbose: Show the job's own log; ``envs.VERBOSE`` when not given.

    Returns:
        The run.

    Raises:
        RunFailedError: It failed or was stopped; the message has the reason.
    """
    from kaptain_magics.model.contract.reporter import Reporter  # its views are for those who follow only

    reporter = Reporter(run, logger(), envs.VERBOSE if verbose is None else verbose)
    try:
        for event in run.follow(tick=_INTERVAL):
            reporter.report(event)
    except KeyboardInterrupt:
        run.stop()
        raise
    finally:
        reporter.finish()
    run.raise_for_failure()
    return run


def deploy_and_log(plan: Callable[[], DeploymentPlan]) -> Deployment:
    """Start a deployment and log its events; an endpoint of that name is logged too, as the contract has it.

    Raises:
        ServingError: An endpoint is there already, or the deployment failed.
    """
    try:
        planned = plan()
    except ServingError as error:
        logger().error("%s %s", error.message, error.hint)
        raise
    return follow_and_log(planned.start())
