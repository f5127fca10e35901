"""The channel from a job to the process that follows it: one JSON object a line, appended whole.

``KAPTAIN_CHANNEL`` says where it leads: ``file:<path>``, or ``stdout`` for lines that start with ``::kaptain::``.
Without it the script runs outside a job: then metrics are printed.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kaptain_magics.runtime.job_errors import JobError, MetricError
from kaptain_magics.runtime.text_values import shorten

MARK = "::kaptain::"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f=]")
_opened = ("", -1)  # the channel's value and its descriptor, kept open
_opening = threading.Lock()
_sent: set[str] = set()  # kinds of facts


def emit(fact: Mapping[str, Any]) -> bool:
    """Send one fact to the process that follows the job.

    Args:
        fact: A JSON object with a ``kind``; it gets the ``time`` when it has none.

    Returns:
        Whether there is a channel.
    """
    return _send([fact])


def say(text: str, hint: str = "", *, warning: bool = False) -> None:
    """Give the job's followers one line with its next step; outside a job both are printed."""
    if emit({"kind": "note", "text": text, "hint": hint, "warning": warning}):
        return
    lines = [text, *hint.splitlines()]
    (sys.stderr if warning else sys.stdout).write("".join(f"kaptain: {line}\n" for line in lines))


def log_metrics(metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
    """Report metrics: ``log_metrics(accuracy=0.97)`` or ``log_metrics({"val/loss": loss}, step=epoch)``.

    Example:
        A script that reports its loss after every epoch::

            for epoch in range(10):
                loss = train_one_epoch()
                kaptain.log_metrics(loss=loss, step=epoch)

    Args:
        metrics: Values by name, for names that are not Python identifiers.
        step: The step or epoch that they belong to.
        **named: Values by name: numbers, numeric strings, NumPy scalars, tensors of one element.

    Raises:
        MetricError: A value is not a finite number; then none of them is reported.
    """
    values = {_name(name): _number(name, value) for name, value in {**(metrics or {}), **named}.items()}
    number = None if step is None else _step(step)
    now = time.time()
    facts = [{"kind": "metric", "name": k, "value": v, "step": number, "time": now} for k, v in values.items()]
    if not _send(facts) and sys.stdout is not None:
        pairs = [f"{name}={value!r}" for name, value in values.items()]
        sys.stdout.write(" ".join([*pairs, *([f"step={number}"] if number is not None else [])]) + "\n")


def record_metrics(metrics: Mapping[str, Any]) -> None:
    """Report metrics as the SDK does: ``record_metrics({"accuracy": score})``.

    Args:
        metrics: Values by name: numbers or numeric strings.

    Raises:
        MetricError: A value is not a finite number; then none of them is reported.
    """
    if not isinstance(metrics, Mapping):
        raise MetricError("record_metrics takes a dictionary", "write record_metrics({'accuracy': score})")
    _info("Record metrics.")
    log_metrics(metrics)
    _info("Metrics saved.")


def has_sent(kind: str) -> bool:
    """Whether this process has sent a fact of that kind."""
    return kind in _sent


def _send(facts: Sequence[Mapping[str, Any]]) -> bool:
    _sent.update(str(fact.get("kind", "")) for fact in facts)
    channel = os.environ.get("KAPTAIN_CHANNEL", "")
    if not channel:
        return False
    now = time.time()
    lines = [json.dumps({"time": now, **fact}, ensure_ascii=False) for fact in facts]
    if channel.startswith("file:"):
        data = "".join(line + "\n" for line in lines).encode()
        if data:
            _write(_descriptor(channel), data)
    elif channel == "stdout":
        _print(facts, lines)
    else:
        raise JobError(f"invalid KAPTAIN_CHANNEL {channel!r}", "it must be file:<path> or stdout")
    return True


def _print(facts: Sequence[Mapping[str, Any]], lines: list[str]) -> None:
    """Print to the process's own standard output, past any redirection by the script."""
    text = ""
    for fact, line in zip(facts, lines, strict=True):
        text += f"{MARK}{line}\n"
        if fact.get("kind") == "metric":
            text += f"{fact['name']}={fact['value']!r}\n"  # what Katib's collector reads
    if sys.stdout is not None:
        sys.stdout.flush()
    _write(1, text.encode())


def _descriptor(channel: str) -> int:
    global _opened
    opened_path, descriptor = _opened
    if opened_path == channel:
        return descriptor
    with _opening:
        if _opened[0] != channel:
            path = channel.removeprefix("file:")
            if _opened[1] >= 0:
                os.close(_opened[1])
            _opened = ("", -1)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            except OSError as error:
                raise JobError(f"cannot open the job's channel {path}: {error.strerror}") from error
            _opened = (channel, descriptor)
        return _opened[1]


def _write(descriptor: int, data: bytes) -> None:
    """Write everything; one call for a file, so that lines of several processes do not mix."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # standard output was made non-blocking by the script
            time.sleep(0.001)
        except OSError as error:
            raise JobError(f"cannot report to the job's channel: {error.strerror}", "free disk space") from error


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or _UNPRINTABLE.search(name):
        raise MetricError(f"{name!r} is not a valid metric name", "use letters, digits, '_', '-', '.' or '/'")
    return name


def _number(name: str, value: Any) -> float:
    try:
        number = float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        kind = type(value).__name__
        raise MetricError(
            f"metric {name!r} is not a number: {shorten(repr(value), 40)} ({kind})",
            "report one number, such as float(score)",
        ) from None
    if not math.isfinite(number):
        raise MetricError(
            f"metric {name!r} is {number}: only finite numbers can be compared",
            "skip this value, or end the script when training has diverged",
        )
    return number


def _step(step: Any) -> int:
    try:
        number = float(step.item() if hasattr(step, "item") else step)
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass
    raise MetricError(f"invalid step {shorten(repr(step), 40)}", "a step is a whole number, such as the epoch")


def _info(text: str) -> None:
    import logging

    logging.getLogger("kaptain-log").info(text)
