"""Looks whether the target and the storage of the settings in force can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaptain_magics.errors import KaptainError
from kaptain_magics.targets.base import Check

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context


def doctor(context: Context) -> list[Check]:
    """Look whether target and storage can be used; see ``Workspace.doctor``."""
    checks: list[Check] = []
    try:
        checks += context.target().check()
    except KaptainError as error:
        checks.append(Check(f"target {context.settings.target}", False, error.message, error.hint))
    uri = context.settings.models_uri
    try:
        store = context.objects()
        probe = f"{uri}/.kaptain-probe"
        store.write(probe, b"ok")
        store.delete(probe)
        checks.append(Check("storage", True, uri))
    except KaptainError as error:
        checks.append(Check("storage", False, f"{uri}: {error.message}", error.hint))
    return checks
