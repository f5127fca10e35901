"""What a script uses beside the notebook is found in its text: files, folders, patterns, modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.scripts import Input, InputRole
from kaptain_magics.errors import ScriptError
from kaptain_magics.script import capture
from kaptain_magics.script.inputs import Inputs, find_inputs

FILES = (
    "data.csv", "out.csv", "log.txt", "base.db", "data/a.csv", "data/b.csv", "data/deep/c.npy", "results/old.txt",
    "part_1.csv", "part_2.csv", "train/cat.png", "test/dog.png", ".env",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "notebooks"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (tmp_path / "project" / "raw").mkdir()
    (tmp_path / "project" / "raw" / "rows.csv").write_text("rows")
    return folder


def inputs(source: str, folder: Path) -> Inputs:
    return find_inputs(capture(source, folders=[folder], notebook_names=()))


def paths(source: str, folder: Path) -> dict[str, str]:
    head = "import glob, os, joblib, sqlite3, pickle\nimport pandas as pd, numpy as np\nfrom pathlib import Path\n"
    return {item.path: item.role.value for item in inputs(head + source, folder).items}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("pd.read_csv('data.csv')", {"data.csv"}),
        ("pd.read_csv(filepath_or_buffer='./data.csv')", {"data.csv"}),
        ("pd.read_csv(Path('data') / 'a.csv')", {"data/a.csv"}),
        ("pd.read_csv(Path('data', 'deep') / 'c.npy')", {"data/deep/c.npy"}),
        ("pd.read_csv(Path('data').joinpath('a.csv'))", {"data/a.csv"}),
        ("pd.read_csv(os.path.join('data', 'a.csv'))", {"data/a.csv"}),
        ("pd.read_csv('data/' + 'a.csv')", {"data/a.csv"}),
        ("pd.read_csv(os.path.join(os.getcwd(), 'data.csv'))", {"data.csv"}),
        ("pd.read_csv(Path.cwd() / 'data.csv')", {"data.csv"}),
        ("DATA = Path('data')\nNAME = 'a'\npd.read_csv(DATA / f'{NAME}.csv')", {"data/a.csv"}),
        ("def load(path='data.csv'):\n    return pd.read_csv(path)\nload()", {"data.csv"}),
        ("class C:\n    path = 'data.csv'\npd.read_csv(C.path)", {"data.csv"}),
        ("cfg = {'path': 'data.csv'}\npd.read_csv(cfg['path'])", {"data.csv"}),
        ("for name in ['a', 'b']:\n    pd.read_csv(f'data/{name}.csv')", {"data/a.csv", "data/b.csv"}),
        ("for i in range(2):\n    pd.read_csv(f'part_{i}.csv')", {"part_1.csv", "part_2.csv"}),
        ("for i in range(2):\n    pd.read_csv('part_%d.csv' % i)", {"part_1.csv", "part_2.csv"}),
        ("for i in range(2):\n    pd.read_csv('part_{}.csv'.format(i))", {"part_1.csv", "part_2.csv"}),
        ("name = input()\npd.read_csv(f'data/{name}')", {"data/a.csv", "data/b.csv", "data/deep"}),
        ("glob.glob('data/*.csv')", {"data/a.csv", "data/b.csv"}),
        ("sorted(Path('data').glob('*.csv'))", {"data/a.csv", "data/b.csv"}),
        ("list(Path('data').rglob('*.npy'))", {"data/deep/c.npy"}),
        ("list(Path().glob('part_*'))", {"part_1.csv", "part_2.csv"}),
        ("os.listdir('data')", {"data"}),
        ("def load(x): pass\nload('train')", {"train"}),
        ("files = ['data.csv', 'data/a.csv']\n[open(f) for f in files]", {"data.csv", "data/a.csv"}),
        ("open('data.csv' if 1 else 'log.txt')", {"data.csv", "log.txt"}),
        ("if not os.path.exists('data.csv'):\n    open('data.csv', 'w').write('x')", {"data.csv"}),
        ("import argparse\np = argparse.ArgumentParser()\np.add_argument('--d', default='data.csv')", {"data.csv"}),
        ("with open('data/a.csv') as f:\n    pass", {"data/a.csv"}),
        ("Path('data.csv').read_text()", {"data.csv"}),
        ("from dotenv import load_dotenv\nload_dotenv('.env')", {".env"}),
    ],
)
def test_what_is_read(source: str, expected: set[str], project: Path) -> None:
    read = paths(source, project)
    assert {path for path, role in read.items() if role != "folder"} == expected


@pytest.mark.parametrize(
    "source",
    [
        "pd.DataFrame().to_csv('out.csv')",
        "open('out.csv', 'w').write('x')",
        "Path('out.csv').write_text('x')",
        "with Path('out.csv').open('w') as f:\n    f.write('x')",
        "np.save('data.csv', [1])",
        "joblib.dump({}, 'out.csv')\njoblib.load('out.csv')",  # what it has surely written itself
        "OUT = 'out.csv'\npd.DataFrame().to_csv(OUT)",
        "def save(path='out.csv'):\n    pd.DataFrame().to_csv(path)",
        "pickle.dump({}, open('out.csv', 'wb'))",
        "df = {}\ndf['data.csv']\n'data.csv' == 3\n{'data.csv': 1}",
        "'data.csv'",
        "df = {'train': 1}\ndf['train']\ndf.get('train')",
        "print('train')",
        "open('/etc/hosts')\nopen('~/x')\nopen('http://data.csv')\nopen('nothing.csv')",
        "x = 'a' * 3\nopen(f'{x}')",
    ],
)
def test_what_is_not_read(source: str, project: Path) -> None:
    assert {path: role for path, role in paths(source, project).items() if role != "folder"} == {}


@pytest.mark.parametrize(
    ("source", "path", "role"),
    [
        ("open('log.txt', 'a').write('x')", "log.txt", "change"),
        ("open('data.csv')\nopen('data.csv', 'w')", "data.csv", "change"),
        ("sqlite3.connect('base.db')", "base.db", "change"),
        ("pd.DataFrame().to_csv('results/new.csv')", "results", "folder"),
        ("for i in range(3):\n    pd.DataFrame().to_csv(f'results/{i}.csv')", "results", "folder"),
        ("open('results/none.csv')", "results", "folder"),
    ],
)
def test_what_is_written(source: str, path: str, role: str, project: Path) -> None:
    assert paths(source, project) == {path: role}


def test_paths_above_the_notebook(project: Path) -> None:
    result = inputs("import pandas as pd\npd.read_csv('../raw/rows.csv')\npd.read_csv('data.csv')", project)
    assert result.place == "notebooks"
    assert {item.path for item in result.items} == {"raw/rows.csv", "notebooks/data.csv"}


def test_a_file_of_its_own_folder(project: Path) -> None:
    source = "from pathlib import Path\nHERE = Path(__file__).resolve().parent\nopen(HERE / 'data.csv')\n"
    source += "open(Path(__file__).parents[1] / 'raw' / 'rows.csv')"
    script = capture(source, "train.py", folders=(project, project.parent))
    result = find_inputs(script)
    assert result.place == "notebooks"
    assert {item.path for item in result.items} == {"raw/rows.csv", "notebooks/data.csv"}


def test_two_files_of_one_name_are_refused(project: Path) -> None:
    (project.parent / "data.csv").write_text("another")
    script = capture("open('data.csv')", "train.py", folders=(project, project.parent))
    with pytest.raises(ScriptError) as caught:
        find_inputs(script)
    assert str(project / "data.csv") in caught.value.message
    assert str(project.parent / "data.csv") in caught.value.message
    (project.parent / "data.csv").write_text("data.csv")
    assert [item.path for item in find_inputs(script).items] == ["data.csv"]


def test_sizes(project: Path) -> None:
    (folder,) = inputs("import os\nos.listdir('data')", project).items
    assert (folder.size, folder.count) == (len("data/a.csvdata/b.csvdata/deep/c.npy"), 3)
    assert folder.modified == max(p.stat().st_mtime_ns for p in (project / "data").rglob("*.*"))
    assert folder == Input(
        path="data", source=str(project / "data"), size=folder.size, count=3, modified=folder.modified
    )


def test_listing_the_folder_itself_is_noticed(project: Path) -> None:
    assert inputs("import os\nos.listdir('.')", project).lists_folder
    assert not inputs("import os\nos.listdir('data')", project).lists_folder


# ---- modules --------------------------------------------------------------------------------------------------------


def test_modules_are_followed(project: Path) -> None:
    (project / "helper.py").write_text("import steps\nopen('data.csv')\n")
    (project / "steps.py").write_text("def f():\n    from tools.text import clean\n")
    (project / "tools").mkdir()
    (project / "tools" / "__init__.py").write_text("")
    (project / "tools" / "text.py").write_text("from . import more\nimport unused_name, other\nclean = 1\n")
    (project / "tools" / "more.py").write_text(
        "from pathlib import Path\nopen(Path(__file__).parents[1] / 'log.txt')\n"
    )
    (project / "other.py").write_text("import helper\n")  # in a circle
    roles = paths("import helper", project)
    modules = dict.fromkeys(("helper.py", "steps.py", "tools", "other.py"), "module")
    assert roles == {**modules, "data.csv": "read", "log.txt": "read"}


@pytest.mark.parametrize("name", ["json", "pytest", "kaptain", "nothing_of_the_kind"])
def test_other_modules_are_not_taken(name: str, project: Path) -> None:
    (project / "json.py").write_text("")  # the standard library comes first, as in the notebook
    (project / "pytest").mkdir()  # a folder of data, while a package of that name is installed
    (project / "pytest" / "x.py").write_text("")
    (project / "kaptain.py").write_text("")
    assert paths(f"import {name}", project) == {}


def test_modules_of_a_folder_that_the_script_adds(project: Path) -> None:
    (project.parent / "src").mkdir()
    (project.parent / "src" / "mylib.py").write_text("x = 1")
    result = inputs("import sys\nsys.path.append('../src')\nimport mylib", project)
    assert {item.path: item.role for item in result.items} == {"src": InputRole.READ, "src/mylib.py": InputRole.MODULE}
    assert result.place == "notebooks"


def test_a_script_without_folders_has_nothing_beside_it() -> None:
    assert find_inputs(capture("open('data.csv')")) == Inputs()


def test_code_that_adds_much_up_is_looked_at_in_time(project: Path) -> None:
    lines = [
        f"x{i} = x{i - 1} + x{i - 1} + y{i % 7} / x{i - 1}\ny{i % 7} = x{i} + y{(i + 1) % 7}" for i in range(1, 200)
    ]
    source = "x0 = y0 = y1 = y2 = y3 = y4 = y5 = y6 = 'data.csv'\n" + "\n".join([*lines, "open(x0)", "open(x199)"])
    assert [item.path for item in inputs(source, project).items] == ["data.csv"]
