"""Lines are read, explained and refused from the commands' tables."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from kaptain_magics.magics.grammar import Arguments, Command, parse
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.magics.verbs import VERBS, overview_usage

COMMANDS = [TRAIN, TUNE, DEPLOY, *VERBS.values()]


@pytest.mark.parametrize(
    ("command", "line", "expected"),
    [
        (TRAIN, "dev/mnist", Arguments({"NAME": "dev/mnist"})),
        (TRAIN, "a --cpu 0.5 --memory=1G g=1", Arguments({"NAME": "a"}, {"cpu": "0.5", "memory": "1G"}, {"g": "1"})),
        (TRAIN, "g=1 a --detach", Arguments({"NAME": "a"}, {"detach": True}, {"g": "1"})),
        (
            TRAIN,
            "a x='' y='b c' learning-rate=3",
            Arguments({"NAME": "a"}, {}, {"x": "", "y": "b c", "learning-rate": "3"}),
        ),
        (TRAIN, "a params more", Arguments({"NAME": "a"}, bare=("params", "more"))),
        (TRAIN, "a --env A=1 --env B=x=y", Arguments({"NAME": "a"}, {"env": (("A", "1"), ("B", "x=y"))})),
        (TRAIN, "a --files x,y --files z", Arguments({"NAME": "a"}, {"files": ("x", "y", "z")})),
        (TRAIN, 'a --args "--epochs 3" --args --fast', Arguments({"NAME": "a"}, {"args": ("--epochs", "3", "--fast")})),
        (
            TRAIN,
            "a --metric acc=m.acc,loss",
            Arguments({"NAME": "a"}, {"metric": (("acc", "m.acc"), ("loss", "loss"))}),
        ),
        (TRAIN, "a --timeout 5m", Arguments({"NAME": "a"}, {"timeout": 300.0})),
        (TRAIN, "a --gpus=2 --on docker # a comment", Arguments({"NAME": "a"}, {"gpus": 2, "on": "docker"})),
        (TUNE, "a c=Double(0.01, 1) --trials 3", Arguments({"NAME": "a"}, {"trials": 3}, {"c": "Double(0.01, 1)"})),
        (TUNE, "a --goal -0.5 --objective a,b", Arguments({"NAME": "a"}, {"goal": -0.5, "objective": ("a", "b")})),
        (TUNE, "a --minimize c=Double(0, 1)", Arguments({"NAME": "a"}, {"minimize": ()}, {"c": "Double(0, 1)"})),
        (TUNE, "--minimize a", Arguments({"NAME": "a"}, {"minimize": ()})),
        (
            TUNE,
            "a --minimize mse,mae --trials 3 --maximize=acc --minimize",
            Arguments({"NAME": "a"}, {"minimize": ("mse", "mae"), "trials": 3, "maximize": ("acc",)}),
        ),
        (DEPLOY, "a --canary 30% --port 0", Arguments({"NAME": "a"}, {"canary": 30, "port": 0})),
        (VERBS["predict"], "a --proba X['b c'] + 1", Arguments({"NAME": "a"}, {"proba": True}, rest="X['b c'] + 1")),
        (VERBS["predict"], "a [[1, 2]] # --proba", Arguments({"NAME": "a"}, rest="[[1, 2]] # --proba")),
        (VERBS["logs"], "", Arguments()),
        (VERBS["logs"], "a --lines 3", Arguments({"RUN": "a"}, {"lines": 3})),
        (TRAIN, "a --cpu x ?", Arguments(help=True)),
        (TUNE, "--help", Arguments(help=True)),
        (
            TUNE,
            "a g=Double(0, 1) if kernel == 'a b' and n >2 k=Integer(1, 2) if warm --trials 3",
            Arguments(
                {"NAME": "a"},
                {"trials": 3},
                {"g": "Double(0, 1) if kernel == 'a b' and n >2", "k": "Integer(1, 2) if warm"},
            ),
        ),
        (
            TUNE,
            "a g=Double(0, 1) if k in ('x', 'y') --pareto",
            Arguments({"NAME": "a"}, {"pareto": True}, {"g": "Double(0, 1) if k in ('x', 'y')"}),
        ),
    ],
)
def test_lines_are_read(command: Command, line: str, expected: Arguments) -> None:
    assert parse(command, line) == expected._replace(command=command)


def test_a_variable_of_the_environment_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    assert parse(TRAIN, "a --env TOKEN").options == {"env": (("TOKEN", None),)}  # the value stays where it is


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_usage_lists_everything_that_is_taken(command: Command) -> None:
    usage = command.usage()
    assert usage.startswith(command.name)
    assert command.summary in usage
    for option in command.options:
        assert option.shown in usage
        assert option.help in usage
        assert command.option(f"--{option.name}") is option
    for positional in command.positionals:
        assert positional.help in usage
    assert max(map(len, usage.splitlines())) <= 120
    assert len({o.name for o in command.options}) == len(command.options)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_example_is_right(command: Command) -> None:
    for line in command.examples:
        parse(command, line.partition(command.name.lstrip("%").split()[-1])[2])


def test_the_tables_follow_the_rest_of_the_house() -> None:
    assert all(verb in overview_usage() for verb in VERBS)


FRAGMENTS = st.sampled_from(
    [f"--{o.name}" for c in COMMANDS for o in c.options]
    + [f"--{o.name}=" for c in COMMANDS for o in c.options]
    + [
        "NAME",
        "a=1",
        "a=",
        "=",
        "a",
        "dev/mnist",
        "1",
        "-1",
        "'",
        '"',
        "(",
        ")",
        "[",
        "{",
        "}",
        "{x}",
        "#",
        "?",
        "--",
        "-",
    ]
    + [
        "Double(1,2)",
        "gamma=Double(1e-4, 1e-3)",
        "\\",
        ",",
        "a,b",
        ",,",
        "nan",
        "1e999",
        "0",
        "\n",
        "\0",
        "%",
        "$x",
        "ü",
    ]
)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(COMMANDS),
    st.lists(FRAGMENTS | st.text(max_size=8), max_size=8).map(" ".join) | st.lists(FRAGMENTS, max_size=6).map("".join),
)
def test_any_line_is_read_or_refused_in_one_line(command: Command, line: str) -> None:
    try:
        found = parse(command, line, ["x", "params"])
    except UsageError as error:
        said = str(error)
    else:
        assert found.help or all(p.name in found.positionals for p in command.positionals if p.needed)
        return
    assert said.strip()
    assert said.count("\n") == 0
    assert len(said) < 1000
