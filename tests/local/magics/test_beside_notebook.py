"""Files, folders and modules beside the notebook: read as they are, never written to, the same for every trial."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from kaptain_magics.model import TrainingRun
from tests.shell import Notebook

ROWS = "a,b\n1,2\n3,4\n"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(notebook: Notebook) -> Path:
    """The folder of a notebook, with data in it and above it."""
    folder = Path.cwd()
    for name in ("rows.csv", "data/train.csv", "data/deep/more.csv", "results/old.csv", "../raw/above.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(ROWS)
    return folder


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Return content and time of change of everything in a folder."""
    return {
        str(path.relative_to(folder)): (path.read_text() if path.is_file() else "", path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def work(run: TrainingRun) -> Path:
    job = run.record.job
    assert job is not None
    return Path(job.folder, "work", job.place)


def written(run: TrainingRun) -> set[str]:
    folder = work(run)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"cell.py", "train.py"}


def test_frames_of_the_notebooks_folder(notebook: Notebook, project: Path) -> None:
    before = state(project)
    run = notebook.run(
        "%%kaptain_train dev/frames\nimport pandas as pd\nfrom pathlib import Path\n"
        "DATA = Path('data')\n"
        "frames = [pd.read_csv(p) for p in ('rows.csv', DATA / 'train.csv', '../raw/above.csv')]\n"
        "frames += [pd.read_csv(p) for p in sorted(DATA.glob('deep/*.csv'))]\n"
        "print('rows', sum(map(len, frames)))\n"
        "frames[0].to_csv('rows.csv')\nframes[0].to_csv('results/new.csv')\n"
    )
    assert "rows 8" in run.log()
    assert state(project) == before
    assert written(run) == {"rows.csv", "results/new.csv"}  # what it wrote, and nothing that it read
    assert (work(run) / "rows.csv").read_text() != ROWS


def test_names_that_only_the_run_knows(notebook: Notebook, project: Path) -> None:
    before = state(project)
    run = notebook.run(
        "%%kaptain_train dev/dynamic\nimport os, sys\n"
        "name = ''.join(['ro', 'ws', '.c', 'sv'])\n"
        "print('first', open(name).read().count(','))\n"
        "print('here', sorted(os.listdir('.')))\n"
        "for folder, folders, names in os.walk('.'):\n"
        "    for name in names:\n"
        "        if name.endswith('.csv'):\n"
        "            print('walked', os.path.join(folder, name), len(open(os.path.join(folder, name)).read()))\n"
        "with open(''.join(['ro', 'ws', '.csv']), 'a') as file:\n    file.write('5,6\\n')\n"
        "os.remove(''.join(['data', '/train.csv']))\n"
    )
    log = run.log()
    assert "first 3" in log
    assert "here ['cell.py', 'data', 'results', 'rows.csv']" in log
    assert log.count("walked") == 4
    assert state(project) == before
    assert written(run) == {"rows.csv"}
    assert (work(run) / "rows.csv").read_text() == ROWS + "5,6\n"


def test_a_database_is_the_runs_own(notebook: Notebook, project: Path) -> None:
    with sqlite3.connect("base.db") as base:
        base.execute("create table t (x)")
        base.execute("insert into t values (1)")
    base.close()
    before = (project / "base.db").read_bytes()
    run = notebook.run(
        "%%kaptain_train dev/base\nimport sqlite3\nbase = sqlite3.connect('base.db')\n"
        "base.execute('insert into t values (2)')\nbase.commit()\n"
        "print('rows', base.execute('select count(*) from t').fetchone())\nbase.close()\n"
    )
    assert "rows (2,)" in run.log()
    assert (project / "base.db").read_bytes() == before


def test_large_files_are_not_written_through(notebook: Notebook, project: Path) -> None:
    with open("large.bin", "wb") as file:
        file.truncate(80 << 20)  # above what is copied
    before = os.stat("large.bin")
    run = notebook.run(
        "%%kaptain_train dev/large\nimport os\nprint('size', os.path.getsize('large.bin'))\n"
        "open('lar' + 'ge.bin', 'w').write('small')\nprint('now', os.path.getsize('large.bin'))\n"
    )
    assert f"size {80 << 20}" in run.log()
    assert "now 5" in run.log()
    after = os.stat("large.bin")
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_helper_is_never_stale(notebook: Notebook, project: Path) -> None:
    cell = "%%kaptain_train dev/helper\nimport helper\nfrom tools import clean\nprint('value', helper.VALUE, clean())\n"
    (project / "tools").mkdir()
    (project / "tools" / "__init__.py").write_text("from .text import clean\n")
    times = None
    for number in range(3):
        (project / "helper.py").write_text(f"VALUE = {number}\n")
        (project / "tools" / "text.py").write_text(f"def clean():\n    return {number}\n")
        times = times or os.stat("helper.py")
        os.utime("helper.py", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert f"value {number} {number}" in notebook.run(cell).log()
    assert not list(project.rglob("__pycache__"))


@pytest.mark.parametrize("how", ["importlib.import_module(name)", "__import__(name)"])
def test_a_module_that_only_the_run_names(notebook: Notebook, project: Path, how: str) -> None:
    for number in range(2):
        (project / "helper.py").write_text(f"VALUE = {number}\n")
        run = notebook.run(
            f"%%kaptain_train dev/late\nimport importlib\nname = 'hel' + 'per'\nprint('is', {how}.VALUE)\n"
        )
        assert f"is {number}" in run.log()
    assert not list(project.rglob("__pycache__"))


def test_a_helper_with_the_name_of_an_installed_module(notebook: Notebook, project: Path) -> None:
    (project / "attr.py").write_text("OWN = 1\n")  # an installed module is named so too
    (project / "queue.py").write_text("raise RuntimeError('the standard library comes first')\n")
    cell = "import os, attr, colorsys, queue\nprint('own', attr.OWN, queue.Queue)\n"
    cell += "print(os.popen('ls *.py').read().split())\n"
    run = notebook.run(f"%%kaptain_train dev/same\n{cell}")
    assert "own 1 <class" in run.log()
    assert "['attr.py', 'cell.py']" in run.log()  # imports look through the folder, and bring nothing else


def test_a_file_that_reads_beside_itself(notebook: Notebook, project: Path) -> None:
    (project / "src").mkdir()
    (project / "src" / "steps.py").write_text("from pathlib import Path\nHERE = Path(__file__).parent\n")
    (project / "src" / "factor.txt").write_text("7")
    (project / "src" / "train.py").write_text(
        "from pathlib import Path\nimport os\nimport steps\n"
        "print('factor', (Path(__file__).resolve().parent / 'factor.txt').read_text())\n"
        "print('again', open(os.path.join(os.path.dirname(__file__), 'factor.txt')).read())\n"
        "print('helper', (steps.HERE / 'factor.txt').read_text())\n"
        "print('above', len(open(Path(__file__).parents[1] / 'rows.csv').read()))\n"
        "print('notebook', len(open('data/train.csv').read()))\n"
    )
    run = notebook.run("run = %kaptain_train dev/own --file src/train.py\nrun")
    for line in ("factor 7", "again 7", "helper 7", f"above {len(ROWS)}", f"notebook {len(ROWS)}"):
        assert line in run.log()


def test_isolated_has_nothing_of_it(notebook: Notebook, project: Path) -> None:
    error = notebook.error("%%kaptain_train dev/alone --isolated\nopen('rows.csv')\n")
    assert error.hint == "rows.csv is beside the notebook, but --isolated keeps it out: add --files rows.csv"
    error = notebook.error("%%kaptain_train dev/alone --isolated\nimport steps_of_mine\n")
    assert "--requirements steps_of_mine" in error.hint
    (project / "steps_of_mine.py").write_text("")
    error = notebook.error("%%kaptain_train dev/alone --isolated\nimport steps_of_mine\n")
    assert "--isolated keeps it out: add --files steps_of_mine.py" in error.hint
    run = notebook.run(
        "%%kaptain_train dev/alone --isolated --files rows.csv,data/*.csv\nimport os\nprint(os.listdir())\n"
    )
    assert "rows.csv" in run.log()
    assert "train.csv" in run.log()


def test_a_file_that_is_nowhere(notebook: Notebook, project: Path) -> None:
    error = notebook.error("%%kaptain_train dev/none\nimport pandas as pd\npd.read_csv('row.csv')\n")
    assert error.hint == f"there is no row.csv in {project}, where the notebook is; did you mean 'rows.csv'?"
    error = notebook.error("%%kaptain_train dev/none --files 'x*.csv'\nprint(1)\n")
    assert "nothing fits x*.csv" in str(error)
    (project / "x").mkdir()
    (project / "x" / "rows.csv").write_text("another")
    error = notebook.error("%%kaptain_train dev/none --files **/rows.csv\nprint(1)\n")
    assert "would both be rows.csv" in str(error)


def test_trials_see_what_the_training_saw(notebook: Notebook, project: Path, capsys: Capture) -> None:
    (project / "helper.py").write_text("FACTOR = 2\n")
    before = state(project)
    notebook.run(
        "%%kaptain_train dev/trials --metric loss=loss\nimport os, helper\nc = 1.0\n"
        "size = len(open('rows.csv').read()) + len(open('data/train.csv').read())\n"
        "loss = c * helper.FACTOR + size\n"
        "print('read', size)\nopen('rows.csv', 'w').write('x')\nopen('data/out.csv', 'w').write('x')\n"
    )
    study = notebook.run("%kaptain_tune dev/trials c=Double(1,2) --trials 6 --parallel 3 --objective loss")
    assert len(study.trials) == 6
    assert {trial.state.value for trial in study.trials} == {"succeeded"}
    assert all(trial.metrics["loss"].latest > 2 * len(ROWS) for trial in study.trials)
    assert state(project) == before
    (project / "rows.csv").write_text(ROWS + "5,6\n")
    capsys.readouterr()
    notebook.run("%kaptain_tune dev/trials c=Double(1,2) --trials 1 --objective loss")
    out = capsys.readouterr().out
    assert "Changed since the last tune run" in out
    assert "rows.csv. The trials read what is there now" in out


def test_a_study_from_another_folder_reads_the_same(
    notebook: Notebook, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notebook.run("%%kaptain_train dev/moved\nc = 1.0\nprint(f'loss={c * len(open(\"rows.csv\").read())}')\n")
    monkeypatch.chdir(tmp_path)
    study = notebook.run("%kaptain_tune dev/moved c=Double(1,2) --trials 2 --objective loss")
    assert {trial.state.value for trial in study.trials} == {"succeeded"}


def test_a_resumed_study_says_what_has_changed(notebook: Notebook, project: Path, capsys: Capture) -> None:
    (project / "stop.txt").write_text("")
    notebook.run(
        "%%kaptain_train dev/resumed\nimport time\nc = 1.0\nopen('rows.csv')\nprint(f'loss={c}', flush=True)\n"
    )
    study = notebook.run("%kaptain_tune dev/resumed c=Double(1,2) --trials 2 --objective loss")
    (project / "rows.csv").write_text("other")
    capsys.readouterr()
    notebook.run("%kaptain_tune dev/resumed --resume --trials 3")
    out = capsys.readouterr().out
    assert f"Changed since study {study.name} began: rows.csv" in out
    assert "start a new study to compare like with like" in out


def test_a_dry_run_shows_what_is_read(notebook: Notebook, project: Path, capsys: Capture) -> None:
    notebook.run("%%kaptain_train dev/dry --dry-run\nopen('rows.csv')\nopen('results/x.csv', 'w')\n")
    out = capsys.readouterr().out
    assert "# beside the notebook: rows.csv (read)" in out
    assert "# beside the notebook: results (folder)" in out
