"""Errors inside a job: a message, and a hint with the next step. ``storage`` turns them into errors of the package."""

from __future__ import annotations


class HintedError(Exception):
    """An error with its next step: the root of those inside a job and of those of the package.

    Args:
        message: What happened, in one sentence and without secrets.
        hint: The next step for the reader; empty when there is none.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class JobError(HintedError):
    """Root of what a job's own parts raise on purpose."""


class MetricError(JobError, ValueError):
    """A metric is not a finite number, or has no usable name."""


class ExportError(JobError):
    """A model cannot be exported: outside a job, or the file is not there."""


class TransferError(JobError):
    """The store refused or lost an operation."""


class MissingError(TransferError):
    """Nothing is stored under that URI, so that another try would not help."""


class DeniedError(TransferError):
    """The store does not accept the credentials, or they do not allow the operation."""


class DamagedError(TransferError):
    """What was read is not what was saved."""
