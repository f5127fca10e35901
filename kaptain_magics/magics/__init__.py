"""The magics: a line's grammar, completion, and thin calls of ``model`` and ``views``."""

from __future__ import annotations

from typing import Any

_LOADED = "KaptainMagics"


def load(shell: Any) -> None:
    """Register the magics, their completion and the line form of ``%kaptain_train``; twice does no harm.

    Raises:
        InstallationError: ``import kaptain`` would not find the SDK.
    """
    from kaptain_magics.core.sdk import check_sdk
    from kaptain_magics.magics.magics import KaptainMagics
    from kaptain_magics.magics.owncell import capture_own_cell

    if _LOADED in shell.magics_manager.registry:
        return
    check_sdk()
    magics = KaptainMagics(shell)
    shell.register_magics(magics)
    shell.input_transformers_cleanup.append(capture_own_cell)
    shell.events.register("pre_run_cell", magics.idle_moments.cell_begins)
    shell.events.register("post_run_cell", magics.idle_moments.cell_ended)
    if getattr(shell, "Completer", None) is not None:
        shell.Completer.custom_matchers.append(magics.completion.complete)


def unload(shell: Any) -> None:
    """Take everything away that ``load`` has put there."""
    from kaptain_magics.magics.owncell import capture_own_cell

    magics = shell.magics_manager.registry.pop(_LOADED, None)
    if magics is None:
        return
    magics.session.close()
    magics.idle_moments.cell_begins()
    for event, callback in (
        ("pre_run_cell", magics.idle_moments.cell_begins),
        ("post_run_cell", magics.idle_moments.cell_ended),
    ):
        if callback in shell.events.callbacks[event]:
            shell.events.unregister(event, callback)
    for kind, table in magics.magics.items():
        for name in table:
            shell.magics_manager.magics[kind].pop(name, None)
    if magics in shell.configurables:
        shell.configurables.remove(magics)
    if capture_own_cell in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(capture_own_cell)
    completer = getattr(shell, "Completer", None)
    if completer is not None and magics.completion.complete in completer.custom_matchers:
        completer.custom_matchers.remove(magics.completion.complete)
