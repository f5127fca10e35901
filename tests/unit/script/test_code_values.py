"""Hyperparameters where people put them: dicts, classes, tuples, defaults, calls, words by their place, overrides."""

from __future__ import annotations

import ast

import pytest

from kaptain_magics.core.domains import Categorical
from kaptain_magics.core.scripts import Binding
from kaptain_magics.errors import ScriptError
from kaptain_magics.runtime.launch import substitute
from kaptain_magics.script import bindings, capture, names_to_set, remarks, typed
from kaptain_magics.script.values import canonical, check_domain
from tests.unit.script.jobs import job

PARAMS = """
import types, argparse
from dataclasses import dataclass, field
params = {"n_estimators": 500, "tree": {"depth": 3, "leaf": -1}, "name": "forest", "more": dict(rate=0.1)}
grid = dict(alpha=0.5)
names = types.SimpleNamespace(beta=1)
opts = argparse.Namespace(**{"delta": 2})
params["late"] = None
names.extra = (64, 64)
lr, (epochs, batch) = 0.1, (5, 32)
class Config:
    width = 64
    class Optim:
        momentum = 0.9
@dataclass
class Args:
    seed: int = 7
    drop: float = field(default=0.5)
class Net:
    def __init__(self, hidden=8, *, act="relu"):
        self.hidden, self.act = hidden, act
def train(steps=10, /, size=20, *, flag=False):
    inside = 3
    return steps, size, flag, inside
net, args = Net(), Args()
result = train()
"""


def run(source: str, **texts: str) -> dict[str, object]:
    """Execute a script as a job does, with these values; ``__`` stands for a dot."""
    spec = job(capture(source), {name.replace("__", "."): text for name, text in texts.items()})
    tree = substitute(ast.parse(source), spec.assignments)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(tree, "cell.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("name", "text", "expression", "value"),
    [
        ("params.n_estimators", "200", "params['n_estimators']", 200),
        ("n_estimators", "200", "params['n_estimators']", 200),
        ("depth", "9", "params['tree']['depth']", 9),
        ("tree.leaf", "-5", "params['tree']['leaf']", -5),
        ("name", "other", "params['name']", "other"),
        ("rate", "1e-3", "params['more']['rate']", 0.001),
        ("alpha", "2", "grid['alpha']", 2),
        ("beta", "3", "names.beta", 3),
        ("delta", "4", "opts.delta", 4),
        ("late", "None", "params['late']", None),
        ("late", "text", "params['late']", "text"),
        ("extra", "(128,)", "names.extra", (128,)),
        ("extra", "[1, 2]", "names.extra", (1, 2)),
        ("lr", "0.5", "lr", 0.5),
        ("epochs", "6", "epochs", 6),
        ("batch", "8", "batch", 8),
        ("Config.width", "1", "Config.width", 1),
        ("momentum", "0", "Config.Optim.momentum", 0),
        ("seed", "1", "args.seed", 1),
        ("drop", "0.1", "args.drop", 0.1),
        ("hidden", "16", "net.hidden", 16),
        ("act", "tanh", "net.act", "tanh"),
        ("steps", "11", "result[0]", 11),
        ("train.size", "21", "result[1]", 21),
        ("flag", "true", "result[2]", True),
        ("inside", "4", "result[3]", 4),
    ],
)
def test_a_value_is_set_where_it_stands(name: str, text: str, expression: str, value: object) -> None:
    namespace = run(PARAMS, **{name.replace(".", "__"): text})
    assert eval(expression, namespace) == value


def test_whole_and_short_names_are_offered_and_every_place_is_said() -> None:
    script = capture(PARAMS)
    names = names_to_set(script)
    assert {"params.n_estimators", "n_estimators", "lr", "Config.width", "train.size", "flag"} <= set(names)
    assert "train.inside" not in names
    assert remarks(script, [canonical(script, "depth"), "lr"]) == ["Set in the script: params.tree.depth in line 4."]


def test_arguments_of_calls_are_set_too() -> None:
    assert run("number = complex(real=2.0, imag=1.0).conjugate()\n", complex__imag="3")["number"] == 2 - 3j
    assert run("number = complex(real=2.0, imag=1.0).conjugate()\n", imag="3")["number"] == 2 - 3j


def test_what_the_only_call_passes_counts_more_than_the_default() -> None:
    source = "def train(lr=0.1, n=1): return lr, n\nresult = train(lr=0.5)\n"
    assert run(source, lr="0.7", n="3")["result"] == (0.7, 3)
    assert [(p.name, p.default, p.line) for p in capture(source).parameters] == [
        ("train.lr", "0.5", 2),
        ("train.n", "1", 1),
    ]


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (
            "a = {'lr': 1}\nb = {'lr': 2}",
            "lr",
            "could be any of 2 values of the script: a.lr in line 1; b.lr in line 2",
        ),
        ("print(int(x=1), int(x=2))", "x", "`int.x` stands in lines 1 and 1"),
        ("if print():\n    lr = 1\nelse:\n    lr = 2", "lr", "`lr` stands in lines 2 and 4"),
        ("p = {'lr': 1}\np['lr'] = 2\nprint(p)", "lr", "after line 1 the script assigns it again in line 2"),
        ("p = {'lr': 1}\np.update(lr=len('x'))\nprint(p)", "lr", "assigns it again in line 2"),
        ("p = {'lr': 1}\np = dict()", "p.lr", "assigns it again in line 2"),
        ("lr = 1\nlr = int('2')\nprint(lr)", "lr", "assigns it again in line 2"),
        ("def f(lr=1): pass\nf(2)\nf(lr=3)", "lr", "would have no effect: line 2 passes another one: f(2)"),
        ("def f(lr=1): pass", "lr", "would have no effect: nothing calls f"),
        ("class C:\n    lr: int = 1\nc = C(2)", "C.lr", "would have no effect: line 3 passes another one: C(2)"),
        ("class C:\n    lr = 1\nc = C()\nc.lr = int(2)\nprint(c)", "C.lr", "would have no effect: line 4 sets c.lr"),
        ("p = {'a': 1}", "p", "`p` in line 1 is a dict: its keys are set one by one\nwrite p.a=VALUE; it has a"),
        ("lr = 10 ** -3", "lr", "`lr` in line 1 is computed: 10 ** -3"),
        ("n = 3\np = {'lr': n}", "lr", "a key of the dict in line 2, is `n`\nset that one: n=VALUE"),
        ("a = b = 1", "b", "shares its value: a, b are assigned together"),
        ("for lr in [1, 2]: print(lr)", "lr", "`lr` in line 1 is a loop's variable"),
        ("import os\nx = os.environ['LR']", "lr", "is a variable of the environment\nwrite --env LR=VALUE"),
        ("def f(lr): print(lr)\nf(1)", "lr", "`lr` is an argument of f in line 1 without a plain default"),
        ("clf = dict(n_estimators=5)", "n_estimator", "it takes clf.n_estimators; did you mean 'n_estimators'?"),
    ],
)
def test_what_cannot_be_set_is_said_with_its_place(source: str, name: str, message: str) -> None:
    script = capture(source)
    with pytest.raises(ScriptError) as caught:
        bindings(script, [canonical(script, name)])
    assert message in str(caught.value)


def test_a_value_that_the_script_changes_later_is_said() -> None:
    script = capture("p = {'lr': 1}\nprint(p)\np['lr'] = 2\nprint(p)")
    assert bindings(script, ["p.lr"]) == {"p.lr": Binding.ASSIGNMENT}
    assert remarks(script, ["p.lr"])[1] == "p.lr is set in line 1, and line 3 gives it another value later."
    other = capture("lr = 1\np = {'lr': 2}\nprint(p)")
    assert remarks(other, [canonical(other, "lr")]) == ["lr is set in line 1; unchanged: p.lr = 2 in line 2."]


ARGV = """
import sys
lr = float(sys.argv[1])
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
print(sys.argv[3])
"""


@pytest.mark.parametrize(
    ("source", "texts", "argv"),
    [
        (ARGV, {"epochs": "4", "lr": "0.1"}, ("0.1", "4")),
        (ARGV, {"argv3": "x", "lr": "1", "epochs": "2"}, ("1", "2", "x")),
        ("from sys import argv\n_, lr, n = argv\nprint(n)", {"n": "2", "lr": "1"}, ("1", "2")),
        ("import sys\nlr, n = map(float, sys.argv[1:])", {"n": "2", "lr": "-1"}, ("-1", "2")),
        ("import sys\ndef f(lr): print(lr)\nf(lr=float(sys.argv[1]))", {"lr": "1"}, ("1",)),
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.add_argument('lr', nargs='?')\n"
            "p.add_argument('--n')\np.parse_args()",
            {"n": "1", "lr": "2", "data": "d.csv"},
            ("d.csv", "2", "--n", "1"),
        ),
    ],
)
def test_words_are_given_by_their_place(source: str, texts: dict[str, str], argv: tuple[str, ...]) -> None:
    assert job(capture(source), texts).argv == argv


def test_a_word_before_another_must_be_given() -> None:
    with pytest.raises(ScriptError, match="`epochs` is word 2 of the command line"):
        job(capture(ARGV), {"epochs": "3"})


HYDRA = "import hydra\n@hydra.main(config_path=None)\ndef main(cfg): print(cfg.lr)\nmain()\n"
OMEGA = "from omegaconf import OmegaConf\ncfg = OmegaConf.merge(OmegaConf.load('c.yaml'), OmegaConf.from_cli())\n"


@pytest.mark.parametrize("source", [HYDRA, OMEGA, "from hydra import main\n@main()\ndef f(cfg): pass\nf()"])
def test_overrides_reach_hydra_and_omegaconf(source: str) -> None:
    texts = {"lr": "0.01", "optim.name": "adam w", "drop": "None", "sizes": "(64, 64)", "n": "-3"}
    argv = job(capture(source), texts, ("--multirun",)).argv
    assert argv == ("lr=0.01", "optim.name='adam w'", "drop=null", "sizes=[64, 64]", "n=-3", "--multirun")


def test_a_key_that_a_configuration_lacks_is_refused() -> None:
    script = capture(OMEGA.replace("load('c.yaml')", "create({'lr': 1, 'optim': {'name': 'adam'}})"))
    assert bindings(script, ["lr", "optim.name"]) == dict.fromkeys(("lr", "optim.name"), Binding.OVERRIDE)
    with pytest.raises(ScriptError, match="the configuration has no `lrr`") as caught:
        bindings(script, ["lrr"])
    assert "did you mean 'lr'?" in caught.value.hint


def test_tuples_can_be_searched_where_the_script_has_one() -> None:
    script = capture("layers = (32,)\nwidth = 3\n")
    domain = Categorical([(64, 64), (128,)])  # type: ignore[list-item]
    assert domain.values == ("(64, 64)", "(128,)")
    check_domain(script, "layers", domain)
    with pytest.raises(ScriptError, match="this is a number in the script"):
        check_domain(script, "width", domain)
    with pytest.raises(ScriptError, match="this is a tuple in the script"):
        typed(script, {"layers": "wide"})
