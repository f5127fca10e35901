"""A real JupyterLab and a real Chromium, started once for a test session and ended by their ids."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[3]
_CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
_CHROMIUM += ("--disable-component-update", "--disable-sync")
_PATIENCE = 60_000  # milliseconds; the machine may be busy


def missing() -> str:
    """What is not here, in one sentence; empty when all is."""
    for module in ("playwright", "jupyterlab"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    return "" if _browser() else "there is no Chromium"


def _browser() -> str:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


class Lab:
    """A running JupyterLab in a folder of its own, with a page to look at it."""

    def __init__(self, folder: Path, address: str, page: Any) -> None:
        self.folder = folder
        self.page = page
        self._address = address

    def write(self, name: str, *cells: str) -> Path:
        """Write a notebook of code cells."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def open(self, name: str, theme: str = "JupyterLab Light") -> Any:
        """Open a notebook and wait for its kernel; returns the page."""
        token = self._address.partition("?")[2]
        self.page.goto(f"{self._address.partition('?')[0]}lab/tree/{name}?reset&{token}")
        self.page.wait_for_function("window.jupyterapp !== undefined", timeout=_PATIENCE)
        self.page.evaluate("() => window.jupyterapp.restored.then(() => true)")
        self.command("apputils:change-theme", {"theme": theme})
        self.page.wait_for_function(
            "theme => document.body.dataset.jpThemeName === theme", arg=theme, timeout=_PATIENCE
        )
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=_PATIENCE)
        self.idle()
        return self.page

    def command(self, name: str, args: dict[str, str] | None = None) -> None:
        """Start one of JupyterLab's commands without waiting for its end."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, args or {}])

    def run_all(self) -> None:
        """Run all cells; does not wait."""
        self.command("notebook:run-all-cells")

    def idle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(
            """() => {
                const session = window.jupyterapp.shell.currentWidget?.sessionContext;
                return session?.session?.kernel?.status === 'idle' && !document.querySelector('.jp-mod-pending')
                    && ![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.textContent.includes('*'));
            }""",
            timeout=_PATIENCE,
        )

    def save(self, name: str) -> Any:
        """Save the notebook and return what the file holds."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save').then(() => true)")
        return nbformat.read(self.folder / name, 4)


@contextlib.contextmanager
def lab_server(folder: Path, home: Path) -> Iterator[str]:
    """Start JupyterLab in ``folder``; yields its address with the token."""
    token = secrets.token_hex(16)
    settings = folder / ".lab" / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    paths = {
        "JUPYTERLAB_SETTINGS_DIR": folder / ".lab" / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / ".lab" / "workspaces",
        "JUPYTER_RUNTIME_DIR": folder / ".lab" / "runtime",
        "JUPYTER_CONFIG_DIR": folder / ".lab" / "config",
        "JUPYTER_DATA_DIR": folder / ".lab" / "data",
        "IPYTHONDIR": folder / ".lab" / "ipython",
        "KAPTAIN_HOME": home,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/unit/views")]),
    }
    options = ["--no-browser", "--ServerApp.port=0", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}"]
    options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}", "--allow-root"]
    log = folder / ".lab" / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | {name: str(path) for name, path in paths.items()},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"{_address_of(server, folder / '.lab' / 'runtime', log)}?token={token}"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address_of(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):
                found = json.loads(path.read_text())
                address = f"http://127.0.0.1:{found['port']}/"
                urllib.request.urlopen(f"{address}api?token={found['token']}", timeout=10).close()
                return address
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Start Chromium; yields a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=_browser(),
            headless=True,
            args=list(_CHROMIUM),
            viewport={"width": 1150, "height": 1000},
        )
        context.set_default_timeout(_PATIENCE)
        try:
            yield context.pages[0]
        finally:
            context.close()
