"""Loading brings the magics and nothing heavy; unloading takes everything away again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from IPython.core import oinspect
from IPython.core.interactiveshell import InteractiveShell

from kaptain_magics.config import Settings
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.magics.verbs import overview_usage
from tests.shell import Notebook

MAGICS = {
    "line": {"kaptain", "kaptain_train", "kaptain_tune", "kaptain_deploy"},
    "cell": {"kaptain_train", "kaptain_tune"},
}

_IMPORTS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "kaptain_magics")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.interpreter
def test_load_ext_imports_nothing_but_the_magics_themselves() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True, timeout=120)
    new = json.loads(done.stdout.splitlines()[-1])
    assert "kaptain_magics.magics.magics" in new
    settings = ("config", "runtime", "runtime.job_errors", "runtime.text_values")
    ours = {"kaptain_magics", *(f"kaptain_magics.{name}" for name in ("core", "core.sdk", "errors", *settings))}
    assert [n for n in new if not n.startswith(("kaptain_magics.magics", "IPython.")) and n not in ours] == []


def names(shell: InteractiveShell) -> dict[str, set[str]]:
    return {kind: {n for n in shell.magics_manager.magics[kind] if n.startswith("kaptain")} for kind in MAGICS}


def test_unload_takes_everything_away(notebook: Notebook) -> None:
    shell = notebook.shell
    before = (len(shell.configurables), len(shell.input_transformers_cleanup), len(shell.Completer.custom_matchers))
    assert names(shell) == MAGICS
    notebook.run("%unload_ext kaptain_magics")
    assert names(shell) == {"line": set(), "cell": set()}
    after = (len(shell.configurables), len(shell.input_transformers_cleanup), len(shell.Completer.custom_matchers))
    assert after == tuple(n - 1 for n in before)
    notebook.run("%load_ext kaptain_magics")
    notebook.run("%reload_ext kaptain_magics")
    assert names(shell) == MAGICS
    assert before == (
        len(shell.configurables),
        len(shell.input_transformers_cleanup),
        len(shell.Completer.custom_matchers),
    )


def test_every_setting_is_a_trait_and_counts(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    magics = notebook.shell.magics_manager.registry["KaptainMagics"]
    assert set(magics.trait_names(config=True)) == set(Settings.names())
    monkeypatch.setenv("KAPTAIN_TARGET", "docker")
    assert magics.workspace().settings.target == "docker"
    notebook.run('%config KaptainMagics.target = "kubernetes"')
    notebook.run("%config KaptainMagics.warm = False")
    try:
        settings = magics.workspace().settings
        assert (settings.target, settings.warm) == ("kubernetes", False)
        notebook.run("%config KaptainMagics.pending_timeout = 'many'")  # refused by a line in the log, as IPython does
        assert magics.pending_timeout is None
    finally:
        magics.target = magics.warm = None


def test_help_question_mark_and_docstring_are_the_same_text(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    usages = {"kaptain_train": TRAIN.usage(), "kaptain_tune": TUNE.usage(), "kaptain_deploy": DEPLOY.usage()}
    for name, usage in usages.items():
        assert oinspect.getdoc(notebook.shell.find_line_magic(name)) == usage.rstrip()
        for line in (f"%{name}", f"%{name} --help", f"%{name} dev/x ?", f"%{name} -h"):
            notebook.run(line)
            assert capsys.readouterr().out == usage
    notebook.run("%kaptain --help")
    assert capsys.readouterr().out == overview_usage()
    notebook.run("%kaptain logs --help")
    assert capsys.readouterr().out.startswith("%kaptain logs [RUN] [options]\n\nShow the log of a run.")
