"""Every error that kaptain_magics raises on purpose: one root, a class per cause.

An error says in one line what happened and, in its hint, what to do next. Nothing here is ever raised for a fault of
ours: an unexpected exception stays what it is.
"""

from __future__ import annotations

import os
import sys
import traceback

from kaptain_magics.runtime.job_errors import HintedError
from kaptain_magics.runtime.text_values import is_true


class KaptainError(HintedError):
    """Root of all errors of kaptain_magics; see ``HintedError`` for its message and hint."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the two lines, and the traceback only where ``kaptain.envs.DEBUG`` asks for it."""
        switches = sys.modules.get("kaptain.envs")
        if getattr(switches, "DEBUG", is_true(os.environ.get("KAPTAIN_SDK_DEBUG", ""))):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


class ConfigError(KaptainError):
    """A setting has a value that cannot be used, or a needed one is missing."""


class InstallationError(KaptainError):
    """This package is damaged, or something that is installed beside it takes its place."""


class ScriptError(KaptainError):
    """The cell or file cannot become a training script (empty, does not parse, lacks names, unknown parameter)."""


class DomainError(KaptainError):
    """A hyperparameter's domain is not usable (empty, reversed, of the wrong type)."""


class ObjectiveError(KaptainError):
    """An objective cannot be followed: the script never reports it, or it is not a number."""


class AlgorithmError(KaptainError):
    """A search algorithm, its setting or an early-stopping rule does not exist here."""


class StorageError(KaptainError):
    """The object store refused or lost an operation."""


class ObjectMissingError(StorageError):
    """Nothing is stored at that URI."""


class CredentialsError(StorageError):
    """The store or registry does not accept the credentials."""


class IntegrityError(StorageError):
    """What was read is not what was saved: a checksum differs."""


class StateError(KaptainError):
    """The store of runs cannot be read or written."""


class NotFoundError(StateError):
    """No run, model, study or endpoint of that name."""


class TargetError(KaptainError):
    """A target cannot be used as it is set up (engine away, no permission, missing feature)."""


class WorkloadError(TargetError):
    """The target accepted the work but cannot start or keep it (quota, scheduling, image pull, out of memory)."""


class RunFailedError(KaptainError):
    """A run, trial or study ended without success; the message has the reason."""


class ImageError(KaptainError):
    """An image cannot be built, found or pushed."""


class ServingError(KaptainError):
    """An endpoint cannot be deployed, changed or asked."""


class DeploymentFailedError(RunFailedError, ServingError):
    """A deployment ended without success; what was there before still serves."""


class InferenceError(ServingError):
    """An endpoint answered a request with an error.

    Args:
        message: What happened.
        hint: The next step.
        status: The HTTP status of the answer; 0 where none came over HTTP.
    """

    def __init__(self, message: str, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint)
        self.status = status


class ModelError(KaptainError):
    """A model has no such property or is in the wrong state for the operation."""


class InvalidPropertyError(ModelError):
    """A property of a model is blank or of the wrong type."""


class UndefinedPropertyError(ModelError):
    """A needed property of a model is not set."""


class ModelExistsError(ModelError):
    """Something is saved there already and overwriting was not asked for."""


class MetricsTypeError(ModelError):
    """Metrics have a type other than training, testing, validation or production."""


class FrameworkError(KaptainError):
    """A framework is unknown, or its library is missing."""
