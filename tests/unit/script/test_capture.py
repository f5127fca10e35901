"""A cell becomes a script, or one sentence says why it cannot."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaptain_magics.core.scripts import Binding
from kaptain_magics.errors import ScriptError
from kaptain_magics.script import capture, check_variables, read_file

ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
{options}
args, _ = parser.parse_known_args()
"""


def with_options(*options: str) -> str:
    return ARGPARSE.format(options="\n".join(f"parser.add_argument({o})" for o in options))


def parameters(source: str) -> dict[str, Binding]:
    return {p.name: p.binding for p in capture(source).parameters}


def test_the_source_is_untouched_and_the_imports_are_in_order() -> None:
    source = textwrap.dedent("""
        from __future__ import annotations
        import os, numpy.linalg as la
        from sklearn import svm
        try:
            import torch
        except ImportError:
            import math
        if True:
            from . import beside
            with open(os.devnull):
                import json
        def later():
            import pandas
    """)
    script = capture(source, "dir/training.py")
    assert script.source == source
    assert script.name == "training.py"
    assert script.imports == ("os", "numpy.linalg", "sklearn", "torch", "math", "json")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (with_options('"--gamma", type=float, default=0.1'), {"gamma": Binding.OPTION}),
        (with_options('"-g", "--gamma"'), {"-g": Binding.OPTION, "gamma": Binding.OPTION}),
        (
            with_options('"--lr", "--learning-rate", dest="rate"'),
            dict.fromkeys(("lr", "learning-rate", "rate"), Binding.OPTION),
        ),
        (with_options('"--fast", action="store_true"'), {"fast": Binding.SWITCH}),
        (with_options('"-v", action="count"'), {"-v": Binding.COUNT}),
        (with_options('"--x", action=argparse.BooleanOptionalAction'), {"x": Binding.SWITCH, "no-x": Binding.SWITCH}),
        (with_options('"data"'), {"data": Binding.POSITION}),
        (with_options('"data", nargs="+"'), {}),
        (with_options('"--version", action="version"'), {}),
        (with_options('"--c"') + "epochs = 3\nc = 1", {"c": Binding.OPTION, "epochs": Binding.ASSIGNMENT}),
        (
            "gamma = 0.1\nname: str = 'x'\nneg = -1\nflag = False\nnone = None",
            dict.fromkeys(("gamma", "name", "neg", "flag", "none"), Binding.ASSIGNMENT),
        ),
        (
            "a = b = 1\nc = [1]\nd = 1 + 1\n__x__ = 1\n(e) = 2\nf, g = 1, 2\nh: int\n_, i = [], ()",
            dict.fromkeys("cefg", Binding.ASSIGNMENT),
        ),
        ("x = load = len\nx = 3", {"x": Binding.ASSIGNMENT}),
        (
            "import click\n@click.option('--gamma', '-g', 'rate', default=0.1)\ndef main(rate): pass",
            dict.fromkeys(("gamma", "-g", "rate"), Binding.OPTION),
        ),
        (
            "import click\n@click.option('--shout/--no-shout', default=False)\ndef main(shout): pass",
            dict.fromkeys(("shout", "no-shout"), Binding.SWITCH),
        ),
        ("import click\n@click.option('--quick', is_flag=True)\ndef main(quick): pass", {"quick": Binding.SWITCH}),
        (with_options('"--c"').replace("parse_known_args()", "parse_args([]), 0"), {}),  # the command line is ignored
        (with_options('"--c"').replace("parse_known_args()", "parse_known_args(args=['--c', '1'])"), {}),
        (with_options('"--c"').replace("parse_known_args()", "parse_known_args('')"), {}),
    ],
)
def test_parameters_are_found(source: str, expected: dict[str, Binding]) -> None:
    assert parameters(source) == expected


def test_defaults_and_lines_are_the_sources() -> None:
    gamma, epochs = capture(with_options('"--gamma", default=1e-3') + "epochs = 1_000").parameters
    assert (gamma.default, gamma.line) == ("1e-3", 4)
    assert (epochs.default, epochs.line) == ("1_000", 6)


@pytest.mark.parametrize(
    ("source", "is_open"),
    [
        (with_options('"--c"'), False),
        (with_options("name").replace("parser.add", "for name in ('--a', '--b'): parser.add"), True),
        (with_options('*("--a", "-a")'), True),
        ("import sys\nprint(sys.argv[1])", False),
        ("import sys\nprint(sys.argv[1:])", True),
        ("import sys\nprint(sys.argv[0])", False),
        ("import sys\nsys.argv = ['x']", False),
        ("from sys import argv\nprint(argv)", True),
        (with_options('"--c"').replace("parse_known_args()", "parse_known_args(__import__('sys').argv[1:])"), False),
        ("import typer\ntyper.run(print)", True),
        ("import fire\nfire.Fire(print)", True),
        ("from mine import get_parser\nargs = get_parser().parse_args()", True),
        ("from mine import add\n" + with_options('"--c"') + "add(parser)", True),
        ("def add(parser): parser.add_argument('--d')\n" + with_options('"--c"') + "add(parser)", False),
        ("import argparse\nparser = argparse.ArgumentParser(parents=[])\nparser.parse_args()", True),
        ("from transformers import HfArgumentParser\nHfArgumentParser(int).parse_args_into_dataclasses()", True),
        ("x = 1", False),
    ],
)
def test_options_that_cannot_be_read_leave_the_command_line_open(source: str, is_open: bool) -> None:
    assert capture(source).open_options is is_open


GOOD = [
    "def f(x, *a, k=1, **kw):\n    return [x for x in a if k and kw]",
    "x = 1\ndef f():\n    global y\n    y = x\nf()\nprint(y)",
    "class A:\n    n = 3\n    sizes = list(range(n))\n    def f(self):\n        return __class__, super()\nA()",
    "for i in range(3):\n    if i:\n        print(last)\n    last = i",
    "while True:\n    try:\n        print(n)\n    except NameError:\n        n = 1\n        break",
    "import os.path as p, json\nprint(p, json)",
    "try:\n    import foo\nexcept ImportError as error:\n    print(error)\n    foo = None\nprint(foo)",
    "if (n := 10) > 5:\n    print(n)",
    "print([y := 1, y ** 2])\nprint([z := i for i in range(3)], z)",
    "with open('x') as f, open('y') as (g):\n    print(f, g)",
    "match 3:\n    case {'a': a, **rest}:\n        print(a, rest)\n    case [b, *c] | (b, c):\n        print(b, c)",
    "match 3:\n    case d if d:\n        print(d)",
    "def outer():\n    n = 0\n    def inner():\n        nonlocal n\n        n += later()\ndef later(): pass",
    "from math import *\nprint(sqrt(2), anything)",
    "exec('a = 1')\nprint(a)",
    "globals()['a'] = 1\nprint(a)",
    "print(__name__, __file__, exit, WindowsError)",
    "from __future__ import annotations\ndef f(x: Unknown) -> Later: pass",
    "def f():\n    x: Unknown = 1\n    return x",
    "print(sum(x * y for x in range(3) for y in range(x)))",
    "@staticmethod\ndef f(): pass\nx = lambda a, b=1: a + b",
    "x = 1\ndel x\nx = 2\nprint(x)",
    "async def main():\n    async with a() as b:\n        async for c in b: await c\ndef a(): pass",
    "print(f'{1 + 1!r:>{2 + 2}}')",
    "try:\n    display\nexcept NameError:\n    display = print\ndisplay(1)",
    "args = 1\nprint(vars(args), lambda: later)\nlater = 2",
]


if sys.version_info >= (3, 12):
    GOOD += [
        "def f[T](x: T) -> T: return x",
        "class A[T](list[T]):\n    x: T",
        "type Pair[T] = tuple[T, Late]\nclass Late: pass",
        "print(f'{'a'}')",
    ]


@pytest.mark.parametrize("source", GOOD)
def test_names_that_are_defined_are_not_reported(source: str) -> None:
    capture(source)


@pytest.mark.parametrize(
    ("source", "name", "line"),
    [
        ("x = 1\nprint(df)", "df", 2),
        ("df = df.dropna()", "df", 1),
        ("df += 1", "df", 1),
        ("def f():\n    return df", "df", 2),
        ("f = lambda: df", "df", 1),
        ("print([df for _ in range(3)])", "df", 1),
        ("print([x for x in df])", "df", 1),
        ("class A:\n    n = 3\n    def f(self):\n        return n", "n", 4),
        ("class A:\n    n = 3\n    m = [n for _ in range(3)]", "n", 3),
        ("del df", "df", 1),
        ("x = 1\ndel x\nprint(x)", "x", 3),
        ("@decorate\ndef f(): pass", "decorate", 1),
        ("def f(x=df): pass", "df", 1),
        ("class A(Base): pass", "Base", 1),
        ("print(q)\nq = 1", "q", 1),
        ("while not done:\n    done = True", "done", 1),
        ("for x in xs: pass", "xs", 1),
        ("print(f'{df}')", "df", 1),
        ("try:\n    df\nexcept KeyError:\n    pass", "df", 2),
        ("match df:\n    case 1: pass", "df", 1),
    ],
)
def test_names_that_nobody_defines_are_reported_with_their_line(source: str, name: str, line: int) -> None:
    with pytest.raises(ScriptError) as caught:
        capture(source)
    assert f"`{name}`" in caught.value.message
    assert f"line {line}" in caught.value.message
    if "del x" not in source:  # what is sent can be deleted too
        capture(source, sent=(name,))
    with pytest.raises(ScriptError, match="defined in this notebook"):
        capture(source, notebook_names={name: 1})


def test_an_annotation_is_run_where_it_stands() -> None:
    source = "def f(x: pd.DataFrame): pass"
    if sys.version_info >= (3, 14):  # later there, or never
        capture(source)
        return
    with pytest.raises(ScriptError, match="`pd` in line 1"):
        capture(source)


class Here:
    """A class of the notebook."""


Here.__module__ = "__main__"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("df", [1], "move it in, or send it with --send df"),
        ("np", types.ModuleType("numpy"), "add `import numpy as np` to this cell"),
        ("json", types.ModuleType("json"), "add `import json` to this cell"),
        ("Path", pathlib.Path, "add `from pathlib import Path` to this cell"),
        ("run", subprocess.run, "add `from subprocess import run` to this cell"),
        ("Here", Here, "move the definition of `Here` into this cell"),
    ],
)
def test_the_hint_says_how_to_bring_a_name(name: str, value: object, hint: str) -> None:
    with pytest.raises(ScriptError) as caught:
        capture(f"print({name})", notebook_names={name: value})
    assert caught.value.message == f"`{name}` is defined in this notebook, not in this cell (line 1)"
    assert caught.value.hint == hint


def test_several_names_make_one_sentence() -> None:
    with pytest.raises(ScriptError) as caught:
        capture("print(x)\nprint(y)", notebook_names=("x", "y"))
    assert str(caught.value) == (
        "`x`, `y` are defined in this notebook, not in this cell (lines 1, 2)\n"
        "move them in, or send them with --send x,y"
    )


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("!pip install -q xgboost", "write --requirements xgboost on"),
        ("%pip install 'a>=1' b", 'write --requirements "a>=1,b" on'),
        ("!{sys.executable} -m pip install numpy", "write --requirements numpy on"),
        ("!python3 -m pip install -r requirements.txt", "write --requirements requirements.txt on"),
        ("%conda install -y scipy", "write --requirements scipy on"),
        ("!ls -l", "write subprocess.run('ls -l', shell=True, check=True)"),
        ("files = !ls", "write files = subprocess.run('ls'"),
        ("%env A=1", "--env NAME=value"),
        ("%timeit f()", "time is shown"),
        ("%%bash", "a cell has one %% line"),
        ("x = %who_ls", "a cell of its own"),
        ("numpy.array?", "ask for help"),
        ("?print", "ask for help"),
    ],
)
@pytest.mark.parametrize("before", ["", "import os\n", "text = '''\n!not this\n%nor this\n'''\n"])
def test_lines_of_ipython_are_refused_with_what_to_write(before: str, line: str, advice: str) -> None:
    with pytest.raises(ScriptError) as caught:
        capture(f"{before}{line}\nx = 1\n")
    assert caught.value.message == f"line {before.count(chr(10)) + 1} is IPython's, not Python: {line}"
    assert advice in caught.value.hint


def test_lines_that_a_run_does_not_need_are_left_out_and_named() -> None:
    cell = "%%time\n%matplotlib inline\nif True:\n    %matplotlib\n%time x = 7\ntext = '''\n%matplotlib inline\n'''\n"
    script = capture(cell)
    lines = script.source.splitlines()
    assert lines[:5] == ["# %%time", "# %matplotlib inline", "if True:", "    pass  # %matplotlib", "x = 7"]
    assert lines[5:] == cell.splitlines()[5:]
    assert script.dropped[0] == "Line 1 without %%time: the run's time is shown anyway."
    assert [sentence.partition(":")[0] for sentence in script.dropped[1:]] == [
        "Line 2 without %matplotlib", "Line 4 without %matplotlib", "Line 5 without %time"
    ]  # fmt: skip
    assert capture("%config InlineBackend.figure_format = 'retina'\n%load_ext autoreload\n%autoreload 2\nx = 1").dropped
    with pytest.raises(ScriptError, match="line 3 is IPython's, not Python: !ls"):
        capture("%matplotlib inline\nx = 1\n!ls")
    assert capture("x = 1").dropped == ()


def test_a_percent_sign_within_an_expression_is_pythons() -> None:
    capture("x = (7\n% 2)\ny = '''\n!pip install x\n'''\n")
    with pytest.raises(ScriptError, match="line 3 does not parse"):
        capture("x = (7\n% 2)\nfor (")


@pytest.mark.parametrize(
    ("source", "message", "shown"),
    [
        ("x = 1\nfor x in\n", "line 2 does not parse: invalid syntax", "    for x in\n            ^"),
        ("x = (1,\ny = 2", "line 1 does not parse: '(' was never closed", "    x = (1,\n        ^"),
        ("if True:\nx = 1", "line 2 does not parse: expected an indented block", "    x = 1\n    ^"),
        ("return 3", "line 1 does not parse: 'return' outside function", "    return 3\n    ^"),
        ("await f()", "use asyncio.run(main())", "    await f()\n    ^"),
        ("x = '" + "a" * 300, "line 1 does not parse: unterminated string", "^"),
    ],
)
def test_a_syntax_error_shows_the_line_and_a_caret(source: str, message: str, shown: str) -> None:
    with pytest.raises(ScriptError) as caught:
        capture(source)
    assert message in caught.value.message
    assert shown in caught.value.hint
    assert len(caught.value.hint.splitlines()) == 2


@pytest.mark.parametrize("source", ["", "   \n\n", "# only\n# comments\n"])
def test_an_empty_cell_is_refused(source: str) -> None:
    with pytest.raises(ScriptError, match="no code to run"):
        capture(source)


@pytest.mark.parametrize("source", ["x\0 = 1", "'\ud800'", "(" * 300 + ")" * 300, "-" * 100_000 + "1", "x = 1\u200b"])
def test_broken_text_is_refused(source: str) -> None:
    with pytest.raises(ScriptError):
        capture(source)


def test_code_that_is_too_deep_to_look_at_is_let_through() -> None:
    source = "x = " + " + ".join(["1"] * 900)
    assert capture(source).source == source


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab=:()[]{}'\"\\\n !%?.,#1+-@f", max_size=60))
def test_any_text_becomes_a_script_or_an_error(source: str) -> None:
    try:
        capture(source)
    except ScriptError as error:
        said = error
    else:
        return
    assert said.message
    assert said.hint


def test_files_are_read_or_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("x = 1")
    assert read_file(tmp_path / "train.py") == "x = 1"
    (tmp_path / "bom.py").write_bytes(b"\xef\xbb\xbfx = 1")
    assert read_file(tmp_path / "bom.py") == "x = 1"
    (tmp_path / "binary.py").write_bytes(b"\x93\xff\x00")
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe4'")
    (tmp_path / "odd.py").write_bytes(b"# coding: nonsense\n")
    for name, message in [
        ("tain.py", "did you mean 'train.py'"),
        ("missing/x.py", "paths start at"),
        (".", "Is a directory"),
        ("binary.py", "not UTF-8 text"),
        ("latin.py", "written in iso-8859-1"),
        ("odd.py", "not UTF-8 text"),
        ("book.ipynb", "is a notebook"),
    ]:
        with pytest.raises(ScriptError) as caught:
            read_file(tmp_path / name)
        assert message in str(caught.value)


def test_variables_to_take_must_be_assigned_at_top_level() -> None:
    script = capture("clf = 1\nscores = {}\ndef main():\n    inner = 1\n")
    check_variables(script, ["clf", "scores.accuracy"], "--metric")
    with pytest.raises(ScriptError, match="--model inner: the script has no top-level variable `inner`"):
        check_variables(script, ["inner"], "--model")
    with pytest.raises(ScriptError, match="did you mean 'clf'"):
        check_variables(script, ["clff"], "--model")
    check_variables(capture("from os import *"), ["anything"], "--model")
