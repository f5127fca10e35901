"""Values typed for hyperparameters become what the script expects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import Binding, JobSpec, Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.script import bindings, capture, typed
from kaptain_magics.script.values import canonical, read_value

OPTIONS = capture("""
import argparse
p = argparse.ArgumentParser()
p.add_argument("-g", "--gamma", type=float, default=0.1)
p.add_argument("--learning-rate", dest="rate", default=1)
p.add_argument("--fast", action="store_true")
p.add_argument("--tag", default="a")
p.add_argument("-q")
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
        (OPTIONS, {"gama": "1"}, "it takes fast, gamma, learning-rate, rate, tag; did you mean 'gamma'?"),
        (OPTIONS, {"fast": "maybe"}, "the script has a flag there (line 6)"),
        (OPTIONS, {"rate": "1", "learning-rate": "2"}, "given twice"),
        (PLAIN, {"gamma": "abc"}, "the script has a number there (gamma = 0.1, line 1)"),
        (PLAIN, {"shuffle": "2"}, "write true or false"),
        (capture("print(1)"), {"c": "1"}, "the script takes no hyperparameters"),
        (DEAF, {"c": "1"}, "it parses a list of its own, not its command line\nwrite parse_args()"),
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
    values = typed(OPTIONS, {"g": "2", "rate": "0.5", "fast": "true"})
    job = JobSpec(
        name="j",
        run_id="r",
        model_id="m",
        script=OPTIONS,
        framework=ModelFramework.PYTHON,
        parameters=values,
        bindings=bindings(OPTIONS, values),
    )
    assert job.argv == ("-g", "2", "--learning-rate", "0.5", "--fast")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-3", -3), ("007", 7.0), ("1e400", "1e400"), ("nan", "nan"), ("inf", "inf"), ("", ""), (".5", 0.5)],
)
def test_read_value(text: str, value: object) -> None:
    assert read_value(text) == value


@given(st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(number: float) -> None:
    assert read_value(str(number)) == number
