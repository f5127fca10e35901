"""``%kaptain delete`` shows what goes and asks; a dry run does neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.past_runs import plant
from tests.shell import Notebook


@pytest.mark.parametrize(("answer", "there"), [("y", False), ("", True), ("no", True)])
def test_the_person_is_asked(
    notebook: Notebook,
    home: Path,
    answer: str,
    there: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    notebook.run(f"%kaptain delete run {run}")
    assert asked == ["Delete train run mnist-job-1? [y/N] "]
    assert (home / "runs" / run).exists() is there
    assert f"train run {run} (mnist-job-1)" in capsys.readouterr().out


def test_a_dry_run_and_yes_do_not_ask(notebook: Notebook, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})
    notebook.run("%kaptain delete model dev/mnist --dry-run")
    assert "would be deleted:" in capsys.readouterr().out
    assert (home / "runs" / run).exists()
    notebook.run("%kaptain delete model dev/mnist --yes")
    assert not (home / "runs" / run).exists()


def test_nobody_to_ask_is_an_error(notebook: Notebook, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = plant(home, 1, "a = 1\n", {"accuracy": 0.9})

    def ended(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)
    assert "add --yes" in str(notebook.error(f"%kaptain delete run {run}"))
    assert (home / "runs" / run).exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%kaptain delete revision dev/mnist", "REVISION is missing"),
        ("%kaptain delete run a b", "'b' is not expected here"),
        ("%kaptain delete revison a b", "did you mean 'revision'?"),
    ],
)
def test_bad_lines(notebook: Notebook, line: str, message: str) -> None:
    assert message in str(notebook.error(line))
