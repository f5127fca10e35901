"""Why a container has ended: from its log, or from its termination message where there is no log.

The kubelet keeps the termination message with the container's state. Our programs write it (``{"error", "hint"}``, or
the end of a traceback); for others it is the end of the log (``terminationMessagePolicy: FallbackToLogsOnError``).
"""

from __future__ import annotations

from kaptain_magics.core.failures import Failure
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.output import MARK
from kaptain_magics.targets.reading import explain


def exit_reason(state: Manifest, log: str, what: str = "the script") -> tuple[str, str]:
    """Return why a container's program failed, and the next step (may be empty).

    Args:
        state: The container's terminated state; its exit code is not 0.
        log: The end of its log; empty where it is not, or not wholly, known.
        what: What it ran.
    """
    message = str(state.get("message") or "")
    if (failure := Failure.read(message)) is not None:
        return failure.error, failure.hint
    facts = MARK.decode()
    text = "\n".join(line for line in message.splitlines() if not line.startswith(facts))
    return explain(int(state["exitCode"]), log or text, what)
