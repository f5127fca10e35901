"""What is asked of a model: one struct for a training, a study and a deployment.

Their options are those of the specs (``core.specs``): an option that is added there is one of the request too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kaptain_magics.core.domains import AnyDomain, Value
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.secrets import PASSWORD_HINT, holds_password, is_secret
from kaptain_magics.core.specs import EndpointOptions, EndpointSpec, JobOptions, JobSpec, StudyOptions
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import ConfigError, ScriptError
from kaptain_magics.targets.base import present


class TrainingRequest(JobOptions, frozen=True, kw_only=True):
    """What is asked of a training run, or of the trials of a study.

    Attributes:
        script: The script; the model's ``main_file`` when not given, and for a study else the last one.
        parameters: Values of hyperparameters, by name.
        sent: Values that the script finds as globals, by name.
        env: Environment variables; ``None`` takes the value from the environment of the process that starts the job.
        framework: The model's library; the model's own, else guessed from the imports.
    """

    script: Script | None = None
    parameters: Mapping[str, Value] = {}
    sent: Mapping[str, Any] = {}
    env: Mapping[str, str | None] = {}
    framework: ModelFramework | None = None

    def __repr__(self) -> str:  # without the values of its variables
        return f"TrainingRequest(script={self.script.name if self.script else None!r})"


class TuningRequest(StudyOptions, frozen=True, kw_only=True):
    """What is asked of a study.

    Attributes:
        job: Every trial; its ``timeout`` is the study's, its ``parameters`` are the same in all trials.
        domains: What to search, by name.
        objectives: Metrics to follow, as ``loss``, ``loss:min`` or ``loss:max``; the first one decides, the others are
            reported.
        direction: Whether the first one is to grow or to shrink; taken from its name when not given.
    """

    job: TrainingRequest = TrainingRequest()
    domains: Mapping[str, AnyDomain] = {}
    objectives: Sequence[str] = ()
    direction: Direction | None = None


class DeploymentRequest(EndpointOptions, frozen=True, kw_only=True):
    """What is asked of a deployment.

    Attributes:
        model_uri: A saved model, in the place of a revision.
        revision: A revision's id or its beginning; without either ``revisions.choose_revision`` chooses.
        trust: Whether a model from elsewhere may run code when it is loaded.
        env: Environment variables; as a job's.
        framework: The model's library; the model's own, else the one that it was saved with.
        protocol: ``v2`` or ``v1``; that of the model's ``serving_config`` when empty.
        host: Address to listen on; 127.0.0.1, or where the canary's endpoint listens, when empty.
    """

    model_uri: str = ""
    revision: str = ""
    trust: bool = False
    env: Mapping[str, str | None] = {}
    framework: ModelFramework | None = None
    protocol: str = ""
    host: str = ""

    def __repr__(self) -> str:  # without the values of its variables
        return f"DeploymentRequest(revision={self.revision!r}, model_uri={self.model_uri!r})"


# ---- what may be written down -----------------------------------------------------------------------------------


def literal_values(env: Mapping[str, str | None]) -> dict[str, str]:
    """Return the variables whose values were given, which are written down.

    Raises:
        ConfigError: One is a secret.
    """
    given = {name: value for name, value in env.items() if value is not None}
    for name, value in given.items():
        if is_secret(name, value):
            hint = (
                f'os.environ["{name}"] = getpass.getpass() in the notebook, then --env {name} (env={{"{name}": None}})'
            )
            raise ConfigError(
                f"{name} looks like a secret, and a value given here is written to the run's record", hint
            )
    return given


def passed_on_names(env: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the names of the variables whose values are passed on from this process's environment.

    Raises:
        ConfigError: One is not set there.
    """
    return present(name for name, value in env.items() if value is None)


def variables_of(spec: JobSpec | EndpointSpec) -> dict[str, str | None]:
    """Return the variables of an earlier job or endpoint as a request has them."""
    return {**spec.env, **dict.fromkeys(spec.env_names)}


def without_secrets(requirements: Iterable[str]) -> tuple[str, ...]:
    """Return lines of requirements, which are written down, once they are known to hold no password.

    Raises:
        ScriptError: One does.
    """
    lines = tuple(requirements)
    for number, line in enumerate(lines, start=1):
        if holds_password(line):
            raise ScriptError(f"line {number} of the requirements holds a password", PASSWORD_HINT)
    return lines
