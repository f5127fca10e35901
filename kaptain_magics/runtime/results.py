"""Takes the results of a script that has ended out of its variables: metrics, the model, values for the notebook.

The training is done by then, so what goes wrong here with one of them is a warning and no failure of the run.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.channel import emit, record_metrics, say
from kaptain_magics.runtime.job_errors import ExportError, MetricError


class CaptureError(Exception):
    """A variable that was asked for is not there when the script has ended."""


def take_results(program: Mapping[str, Any], namespace: Mapping[str, Any]) -> None:
    """Report the metrics, save the model, and pickle the values that the program names.

    Args:
        program: What was asked for; see ``launch``.
        namespace: The script's variables.

    Raises:
        CaptureError: One of them is not there.
        MetricError: A metric of a trial is not a number.
        TransferError: The store does not take the model.
    """
    metrics = {metric: _lookup(namespace, path) for metric, path in (program.get("metrics") or {}).items()}
    model = _lookup(namespace, program["model"]) if program.get("model") else None
    for name, value in metrics.items():
        try:
            record_metrics({name: value})
        except MetricError as error:
            if os.environ.get("MODEL_LIFECYCLE_PHASE") == "tune":
                raise  # a trial is there for its metrics
            say(error.message, error.hint, warning=True)
    if program.get("model"):
        save(program["model"], model)
    if program.get("fetch"):
        _send_back(program["fetch"], namespace, Path(program["fetched"]))


def save(name: str, model: Any) -> bool:
    """Save a variable as the job's model; returns whether it could be saved at all, and warns where not.

    Raises:
        ExportError: It is a plain value, and no model.
        TransferError: The store does not take it.
    """
    from kaptain_magics.runtime.savers import save_model
    from kaptain_magics.runtime.savers.kept import is_plain

    try:
        save_model(model, framework=os.environ.get("KAPTAIN_FRAMEWORK") or None)
    except ExportError as error:
        if is_plain(model):
            raise
        say(f"`{name}` was not saved: {error.message}", error.hint, warning=True)
        return False
    return True


def _send_back(names: Iterable[str], namespace: Mapping[str, Any], target: Path) -> None:
    """Pickle variables for the notebook; the script's own classes and functions, which it does not have, by value."""
    values = {name: _lookup(namespace, name) for name in names}
    try:
        data = _pickled(values)
    except Exception:  # a class may raise anything when it refuses
        data = _pickled({name: value for name, value in values.items() if _can_be_sent(name, value)})
    temporary = target.with_suffix(".part")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    temporary.replace(target)
    emit({"kind": "fetched", "sha256": hashlib.sha256(data).hexdigest()})


def _can_be_sent(name: str, value: Any) -> bool:
    try:
        _pickled(value)
    except Exception as error:  # as above
        hint = "bring plain data back: numbers, texts, arrays, frames, models"
        say(f"`{name}` cannot be sent back to the notebook: {error}", hint, warning=True)
        return False
    return True


def _pickled(value: Any) -> bytes:
    from kaptain_magics.runtime.savers.pickled import cloudpickle

    try:
        dumps = cloudpickle().dumps
    except ModuleNotFoundError:
        dumps = pickle.dumps
    return bytes(dumps(value))


def _lookup(namespace: Mapping[str, Any], path: str) -> Any:
    """Find ``name`` or ``name.part.part``; parts are keys of mappings or attributes."""
    first, *rest = path.split(".")
    if first not in namespace:
        names = sorted(n for n in namespace if not n.startswith("_"))
        raise CaptureError(f"the script ended without a variable `{first}`; it has: {', '.join(names) or 'none'}")
    value = namespace[first]
    for part in rest:
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        except (KeyError, AttributeError):
            raise CaptureError(f"`{path}`: there is no `{part}`") from None
    return value
