"""A real IPython shell with the magics loaded, and a notebook in it for every test."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Notebook:
    """Runs cells as a kernel does.

    Args:
        shell: The shell.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.variables: dict[str, Any] = shell.user_ns

    def run(self, cell: str) -> Any:
        """Run a cell and return its value; what it raises is raised here too."""
        result = self.shell.run_cell(cell, store_history=True)
        result.raise_error()
        return result.result

    def error(self, cell: str) -> BaseException:
        """Run a cell that must end with an error, and return it."""
        result = self.shell.run_cell(cell, store_history=True)
        error = result.error_before_exec or result.error_in_exec
        assert error is not None, f"no error from {cell!r}"
        return error


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    config.IPCompleter.use_jedi = False
    config.InteractiveShell.colors = "nocolor"
    made = InteractiveShell(config=config, ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    made.init_completer()
    made.run_line_magic("load_ext", "kaptain_magics")
    yield made
    made.run_line_magic("unload_ext", "kaptain_magics")
    made.atexit_operations()
    atexit.unregister(made.atexit_operations)
    gc.collect()


@pytest.fixture
def notebook(shell: InteractiveShell, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """A notebook without variables, in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in set(shell.user_ns) - set(shell.user_ns_hidden):  # as %reset does, without its search for garbage
        del shell.user_ns[name]
    return Notebook(shell)
