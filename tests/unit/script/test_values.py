"""Values typed for hyperparameters become what the script expects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.domains import AnyDomain, Categorical, Double, Integer
from kaptain_magics.core.scripts import Binding, Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.script import bindings, capture, typed
from kaptain_magics.script.values import canonical, check_domain, read_value
from tests.unit.script.jobs import job

OPTIONS = capture("""
import argparse
p = argparse.ArgumentParser()
p.add_argument("-g", "--gamma", type=float, default=0.1)
p.add_argument("--learning-rate", dest="rate", default=1)
p.add_argument("--fast", action="store_true")
p.add_argument("--tag", default="a")
p.add_argument("-q")
p.add_argument("--layers", nargs="+", type=int)
p.add_argument("--betas", nargs=2, default=(0.9, 0.999))
p.add_argument("--maybe", nargs="?")
args = p.parse_args()
""")
PLAIN = capture("gamma = 0.1\nepochs = 3\nname = 'x'\nshuffle = True\nseed = None\n")
DEAF = capture("import argparse\np = argparse.ArgumentParser()\np.add_argument('--c')\nargs = p.parse_args([])\n")
OPEN = Script(name="x.py", source="", open_options=True)


@pytest.mark.parametrize(
    ("script", "texts", "values"),
    [
        (OPTIONS, {"gamma": "0.5"}, {"gamma": 0.5}),
        (OPTIONS, {"--gamma": "1e-4"}, {"gamma": 1e-4}),
        (OPTIONS, {"g": "2"}, {"-g": 2}),
        (OPTIONS, {"learning_rate": "2"}, {"learning-rate": 2}),
        (OPTIONS, {"rate": "2"}, {"learning-rate": 2}),
        (OPTIONS, {"fast": "Yes"}, {"fast": "true"}),
        (OPTIONS, {"fast": "off"}, {"fast": "false"}),
        (OPTIONS, {"tag": "1.10"}, {"tag": "1.10"}),
        (OPTIONS, {"q": "x y"}, {"-q": "x y"}),
        (PLAIN, {"gamma": "1", "epochs": "2.5", "name": "7"}, {"gamma": 1, "epochs": 2.5, "name": "7"}),
        (PLAIN, {"shuffle": "no", "seed": "7"}, {"shuffle": 0, "seed": 7}),
        (PLAIN, {"gamma": "None", "seed": "None", "name": "None"}, dict.fromkeys(("gamma", "seed", "name"), "None")),
        (PLAIN, {"seed": "sqrt"}, {"seed": "sqrt"}),
        (OPEN, {"anything": "nan"}, {"anything": "nan"}),
    ],
)
def test_typed(script: Script, texts: dict[str, str], values: dict[str, object]) -> None:
    found = typed(script, texts)
    assert found == values
    assert [type(v) for v in found.values()] == [type(v) for v in values.values()]
    assert set(bindings(script, found)) == set(values)


@pytest.mark.parametrize(
    ("script", "texts", "message"),
    [
        (
            OPTIONS,
            {"gama": "1"},
            "it takes betas, fast, gamma, layers, learning-rate, maybe, rate, tag; did you mean 'gamma'?",
        ),
        (OPTIONS, {"fast": "maybe"}, "this is a flag in the script (line 6)"),
        (OPTIONS, {"rate": "1", "learning-rate": "2"}, "given twice"),
        (PLAIN, {"gamma": "abc"}, "this is a number in the script (gamma = 0.1, line 1)"),
        (PLAIN, {"shuffle": "2"}, "write true or false"),
        (PLAIN, {"shuffle": "None"}, "write true or false"),
        (OPTIONS, {"fast": "None"}, "write true or false"),
        (OPTIONS, {"gamma": "None"}, "a command line has no None, and the option's default is 0.1 (line 4)"),
        (capture("print(1)"), {"c": "1"}, "the script takes no hyperparameters"),
        (DEAF, {"c": "1"}, "it parses a fixed list, not its command line\ncall parse_args() without arguments"),
    ],
)
def test_what_does_not_fit_is_refused(script: Script, texts: dict[str, str], message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        typed(script, texts)
    assert message in str(caught.value)


def test_bindings_take_the_command_lines_own_spelling() -> None:
    assert bindings(OPTIONS, ["--gamma", "gamma", "fast", "-g"]) == {
        "--gamma": Binding.OPTION,
        "gamma": Binding.OPTION,
        "fast": Binding.SWITCH,
        "-g": Binding.OPTION,
    }
    assert bindings(OPEN, ["x"]) == {"x": Binding.OPTION}
    for name in ("rate", "learning_rate", "nothing"):
        with pytest.raises(ScriptError):
            bindings(OPTIONS, [name])
    assert canonical(OPEN, "any_name") == "any_name"


def test_a_job_puts_them_on_its_command_line() -> None:
    texts = {"g": "2", "rate": "0.5", "fast": "true"}
    assert job(OPTIONS, texts, ("x",)).argv == ("-g", "2", "--learning-rate", "0.5", "--fast", "x")
    texts = {"g": "-2", "gamma": "-1e-5", "rate": "-x", "q": "-"}
    assert job(OPTIONS, texts).argv == ("-g-2", "--gamma=-1e-05", "--learning-rate=-x", "-q-")
    assert job(OPEN, {"-lr": "-1"}).argv == ("-lr=-1",)
    assert job(OPTIONS, {"q": "None", "tag": "None"}).argv == ("--tag", "None")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"layers": "[1,2]"}, ("--layers", "1", "2")),
        ({"layers": "1 2"}, ("--layers", "1", "2")),
        ({"layers": "(1, 2,)"}, ("--layers", "1", "2")),
        ({"layers": "1"}, ("--layers", "1")),
        ({"layers": "-1"}, ("--layers=-1",)),
        ({"layers": "[]"}, ("--layers",)),
        ({"layers": "None"}, ()),
        ({"betas": "['a b', \"c\"]"}, ("--betas", "a b", "c")),
        ({"betas": "it's so"}, ("--betas", "it's", "so")),
        ({"maybe": "1 2"}, ("--maybe", "1 2")),
    ],
)
def test_an_option_of_several_words_gets_them(texts: dict[str, str], words: tuple[str, ...]) -> None:
    assert job(OPTIONS, texts).argv == words


FLAGS = capture("""
import argparse
p = argparse.ArgumentParser()
p.add_argument("--no-x", action="store_false", dest="x")
p.add_argument("--shuffle", action="store_false")
p.add_argument("--no-log", action="store_false")
p.add_argument("-p", "--plot", action=argparse.BooleanOptionalAction, dest="draw", default=True)
p.add_argument("--always", action="store_true", default=True)
p.add_argument("--never", action="store_false", default=False)
p.add_argument("-v", "--verbose", action="count")
p.add_argument("--sgd", action="store_const", const="sgd", dest="optimizer")
p.add_argument("--warm", type=bool, default=True)
args = p.parse_args()
""")
CLICK = capture("""
import click
@click.command()
@click.option("--drop/--no-drop", "dropped")
@click.option("--loud/--quiet", default=True)
@click.option("-v", count=True)
def main(dropped, loud, v): pass
main()
""")


@pytest.mark.parametrize(
    ("script", "texts", "words"),
    [
        (FLAGS, {"x": "True"}, ()),
        (FLAGS, {"x": "False"}, ("--no-x",)),
        (FLAGS, {"no_x": "true"}, ("--no-x",)),
        (FLAGS, {"--shuffle": "no"}, ("--shuffle",)),
        (FLAGS, {"shuffle": "yes"}, ()),
        (FLAGS, {"no-log": "yes"}, ("--no-log",)),
        (FLAGS, {"plot": "false"}, ("--no-plot",)),
        (FLAGS, {"draw": "false"}, ("--no-plot",)),
        (FLAGS, {"p": "true"}, ("-p",)),
        (FLAGS, {"p": "false"}, ("--no-plot",)),
        (FLAGS, {"no_plot": "false"}, ("--plot",)),
        (FLAGS, {"always": "true"}, ("--always",)),
        (FLAGS, {"never": "false"}, ("--never",)),
        (FLAGS, {"v": "2"}, ("-v", "-v")),
        (FLAGS, {"verbose": "true"}, ("--verbose",)),
        (FLAGS, {"verbose": "0"}, ()),
        (FLAGS, {"sgd": "true"}, ("--sgd",)),
        (FLAGS, {"warm": "false"}, ("--warm", "")),
        (FLAGS, {"warm": "on"}, ("--warm", "true")),
        (CLICK, {"drop": "false"}, ("--no-drop",)),
        (CLICK, {"dropped": "true"}, ("--drop",)),
        (CLICK, {"loud": "0"}, ("--quiet",)),
        (CLICK, {"quiet": "0"}, ("--loud",)),
        (CLICK, {"v": "3"}, ("-v", "-v", "-v")),
    ],
)
def test_flags_say_what_was_asked_for(script: Script, texts: dict[str, str], words: tuple[str, ...]) -> None:
    assert job(script, texts).argv == words


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"always": "false"}, "can only set True, already its default (line 8)"),
        ({"never": "true"}, "can only set False, already its default (line 9)"),
        ({"warm": "hot"}, "this is a flag in the script (line 12)"),
        ({"v": "-1"}, "the script counts how often this flag is given (line 10)"),
        ({"sgd": "adam"}, "this is a flag in the script (line 11)"),
        ({"optimizer": "sgd"}, "the script takes no `optimizer`"),
    ],
)
def test_flags_refuse_what_they_cannot_say(texts: dict[str, str], message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        typed(FLAGS, texts)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "domain", "fits"),
    [
        ("x", Categorical(["yes", "no"]), True),  # type: ignore[arg-type]
        ("warm", Categorical([True, False]), True),  # type: ignore[arg-type]
        ("warm", Categorical(["hot", "cold"]), False),  # type: ignore[arg-type]
        ("v", Integer(0, 3), True),
        ("draw", Integer(0, 1), True),
        ("draw", Double(0, 1), False),
        ("always", Categorical([True, False]), False),  # type: ignore[arg-type]
        ("v", Integer(-1, 3), False),
        ("sgd", Categorical(["sgd"]), False),  # type: ignore[arg-type]
    ],
)
def test_a_search_of_a_flag_is_one_of_truth_values(name: str, domain: AnyDomain, fits: bool) -> None:
    if fits:
        check_domain(FLAGS, name, domain)
    else:
        with pytest.raises(ScriptError):
            check_domain(FLAGS, name, domain)


def test_a_search_has_no_words_that_the_script_has_no_place_for() -> None:
    check_domain(PLAIN, "shuffle", Categorical(["no", "off"]))
    with pytest.raises(ScriptError, match="write true or false"):
        check_domain(PLAIN, "shuffle", Categorical(["no", "never"]))
    check_domain(PLAIN, "gamma", Categorical([None, "auto"]))  # type: ignore[list-item]
    with pytest.raises(ScriptError, match="a command line has no None"):
        check_domain(OPTIONS, "gamma", Categorical([None, 3]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("lr = 0.1\nlr = 0.3", 2),
        ("lr: float = 0.1\nprint()\nlr: float = -1", 3),
        ("lr = 0.1\ndef f(): return lr\nlr = 0.3\nf()", 3),
        ("lr = 0.1\nx = lr = 0.3", 2),
        ("lr = 0.1\nlr = lr + 1", 0),
        ("lr = 0.1\nprint(lr)\nlr = 0.3", 0),
        ("lr = 0.1\nif lr > 1: print()\nlr = 0.3", 0),
        ("lr = 0.1\nlr = len('x')\nlr = 0.3", 2),
        ("lr = 0.1\nfor lr in (1, 2): print()", 2),
        ("lr = 0.1\nif print(): lr = 0.3", 0),
        ("import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\np.parse_args()\nlr = 1\nlr = 2", 0),
    ],
)
def test_a_value_that_the_script_undoes_is_refused(source: str, line: int) -> None:
    script = capture(source)
    if line:
        with pytest.raises(ScriptError, match=f"after line 1 the script assigns it again in line {line}"):
            bindings(script, ["lr"])
    else:
        assert bindings(script, ["lr"])
    assert bindings(script, []) == {}


SUBCOMMANDS = """
import argparse
p = argparse.ArgumentParser()
p.add_argument("--seed")
group = p.add_argument_group()
group.add_argument("--data")
train = p.add_subparsers().add_parser("train")
train.add_argument("--lr")
args = p.parse_args()
"""
GROUP = """
import click
@click.group()
@click.option("--seed")
@click.option("--data")
def cli(seed, data): pass
@cli.command()
@click.option("--lr")
def train(lr): pass
cli()
"""


@pytest.mark.parametrize("source", [SUBCOMMANDS, GROUP])
def test_a_subcommand_stands_before_its_own_options(source: str) -> None:
    texts = {"lr": "0.5", "seed": "1", "data": "x"}
    words = ("--seed", "1", "--data", "x", "train", "--lr", "0.5")
    assert job(capture(source), texts, ("train",)).argv == words
    assert job(OPTIONS, {"q": "1"}, ("train",)).argv == ("-q", "1", "train")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-3", -3), ("007", 7.0), ("1e400", "1e400"), ("nan", "nan"), ("inf", "inf"), ("", ""), (".5", 0.5)],
)
def test_read_value(text: str, value: object) -> None:
    assert read_value(text) == value


@given(st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(number: float) -> None:
    assert read_value(str(number)) == number
