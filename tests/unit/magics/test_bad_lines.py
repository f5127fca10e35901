"""Wrong lines and cells: each ends in one clear message with a next step, and nothing is started."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from kaptain_magics.errors import KaptainError
from tests.shell import Notebook

BODY = "\ngamma = 0.1\nscore = gamma\n"

BAD: list[tuple[str, str]] = [
    # the line
    ("%%kaptain_train\nx = 1", "NAME is missing: write %%kaptain_train NAME"),
    ("%%kaptain_train gamma=1" + BODY, "NAME is missing"),
    ("%%kaptain_train 'dev/mnist" + BODY, "the quote in 'dev/mnist is never closed"),
    ("%%kaptain_train ../escape" + BODY, "NAME '../escape': write letters, digits"),
    ("%%kaptain_train dev//mnist" + BODY, "NAME 'dev//mnist'"),
    ("%%kaptain_train größe!" + BODY, "NAME 'größe!'"),
    ("%%kaptain_train a --cpuu 1" + BODY, "%%kaptain_train has no option --cpuu: did you mean '--cpu'?"),
    ("%%kaptain_train a --req numpy" + BODY, "options are not abbreviated: --requirements"),
    ("%%kaptain_train a --gamma 0.1" + BODY, "a hyperparameter is written gamma=VALUE"),
    ("%%kaptain_train a --gamma=0.1" + BODY, "a hyperparameter is written gamma=0.1"),
    ("%%kaptain_train a -x" + BODY, "has no option -x"),
    ("%%kaptain_train a --" + BODY, "has no option --"),
    ("%%kaptain_train a --cpu" + BODY, "--cpu needs a value: write --cpu CORES"),
    ("%%kaptain_train a --cpu --detach" + BODY, "--cpu needs a value"),
    ("%%kaptain_train a --cpu 1 --cpu 2" + BODY, "--cpu is given twice"),
    ("%%kaptain_train a --cpu lots" + BODY, "write a positive number such as 0.5"),
    ("%%kaptain_train a --memory 1GB" + BODY, "memory '1GB' is not a quantity"),
    ("%%kaptain_train a --cpu ''" + BODY, "write a value"),
    ("%%kaptain_train a --gpus -1" + BODY, "write a whole number from 0 to 1024"),
    ("%%kaptain_train a --gpus 1.5" + BODY, "write a whole number"),
    ("%%kaptain_train a --timeout soon" + BODY, "write seconds above 0, or 90s, 5m, 2h"),
    ("%%kaptain_train a --timeout 0" + BODY, "write seconds above 0"),
    ("%%kaptain_train a --detach=yes" + BODY, "--detach takes no value"),
    ("%%kaptain_train a --on-interrupt wait" + BODY, "--on-interrupt 'wait' is unknown: write stop or detach"),
    ("%%kaptain_train a --on kubernets" + BODY, "did you mean 'kubernetes'?"),
    ("%%kaptain_train a --env 1=s3cret" + BODY, "--env '1=…': write NAME=VALUE"),
    ("%%kaptain_train a --env NO_SUCH_VARIABLE" + BODY, "this environment has no NO_SUCH_VARIABLE"),
    ("%%kaptain_train a --metric 1+1=x.y-z" + BODY, "write METRIC=VARIABLE"),
    ("%%kaptain_train a --into 1x" + BODY, "write the name of a variable"),
    ("%%kaptain_train a --into class" + BODY, "write the name of a variable"),
    ('%%kaptain_train a --args "\'open"' + BODY, "close the quotes"),
    ("%%kaptain_train a --files x,,y" + BODY, "without empty ones"),
    ("%%kaptain_train a --framework sklaern" + BODY, "did you mean 'sklearn'?"),
    ("%%kaptain_train a --workers 0" + BODY, "write a whole number from 1 to 10000"),
    ("%%kaptain_train a gamma=1 gamma=2" + BODY, "gamma is given twice"),
    ("%%kaptain_train a gamma=" + BODY, "gamma= has no value"),
    ("%%kaptain_train a gamma = 1" + BODY, "without spaces around '='"),
    ("%%kaptain_train a gama=1" + BODY, "it takes gamma; did you mean 'gamma'?"),
    ("%%kaptain_train a gamma=high" + BODY, "this is a number in the script (gamma = 0.1, line 2)"),
    ("%%kaptain_train a {gama}" + BODY, "{gama} is not filled in"),
    ("%%kaptain_train a paramz" + BODY, "'paramz' is not expected here: did you mean 'params'?"),
    ("%%kaptain_train a number" + BODY, "`number` is of type int, not a dict of hyperparameters"),
    ("%%kaptain_train a params gamma=1" + BODY, "gamma is given twice, once in `params`"),
    ("%%kaptain_train a lists" + BODY, "this is a number in the script"),
    ("%%kaptain_train a {params}" + BODY, "without braces"),
    ("%%kaptain_train a b/c" + BODY, "'b/c' is not expected here"),
    ("%%kaptain_train a --send nothing" + BODY, "--send nothing: the notebook has no `nothing`"),
    ("%%kaptain_train a --send door" + BODY, "`door` cannot be sent"),
    ("%%kaptain_train a --fetch scores" + BODY, "did you mean 'score'?"),
    ("%%kaptain_train a --model clf" + BODY, "the script has no top-level variable `clf`"),
    ("%%kaptain_train a --metric accuracy=acc.value" + BODY, "no top-level variable `acc`"),
    ("%%kaptain_train a --requirements none.txt" + BODY, "there is no requirements file"),
    ("%%kaptain_train a --requirements '!!'" + BODY, "is not a valid requirement"),
    ("%%kaptain_train a --files none.csv" + BODY, "there is no file or folder"),
    ("%%kaptain_train a --files ~nobody-of-that-name" + BODY, "is not a valid path"),
    ("%%kaptain_train a\0" + BODY, "the line has a null byte"),
    ("%%kaptain_train a --file train.py" + BODY, "--file and a cell exclude each other"),
    ("%kaptain_train a --file none.py", "there is no file none.py"),
    ("%kaptain_train a --file notebook.ipynb", "is a notebook"),
    ("%kaptain_train a", "there is no script"),
    # the cell
    ("%%kaptain_train a", "the cell body is empty"),
    ("%%kaptain_train a\n   \n", "there is no code to run"),
    ("%%kaptain_train a\n# todo", "there is no code to run"),
    ("%%kaptain_train a\nfor x in:\n    pass", "line 2 does not parse: invalid syntax"),
    ("%%kaptain_train a\nx = (1,", "line 2 does not parse: '(' was never closed"),
    ("%%kaptain_train a\nif x:\nprint(1)", "line 3 does not parse: expected an indented block"),
    ("%%kaptain_train a\n!pip install xgboost", "write --requirements xgboost on the magic's line"),
    ("%%kaptain_train a\nimport os\n!ls -l", "line 3 is IPython's, not Python: !ls -l"),
    ("%%kaptain_train a\nprint(number)", "`number` is defined in this notebook, not in this cell (line 2)"),
    ("%%kaptain_train a\nprint(nombre)", "`nombre` in line 2 is not defined anywhere"),
    ("%%kaptain_train a\nawait f()", "use asyncio.run(main())"),
    ("%%kaptain_train a\nx = '\\x00\0'", "null bytes"),
    # the search
    ("%kaptain_tune never/trained c=Double(0, 1) --objective a", "never/trained"),
    ("%kaptain_tune a c=0.1", "c: 0.1 is a value, not a domain"),
    ("%kaptain_tune a c=Doubel(0, 1)", "did you mean 'Double'?"),
    ("%kaptain_tune a c=Double(1, 0)", "write the smaller bound first"),
    ("%kaptain_tune a c=Double(0, 1) c=Double(0, 2)", "c is given twice"),
    ("%kaptain_tune a space c=Double(0, 2)", "c is given twice, once in `space`"),
    ("%kaptain_tune a params", "gamma: 3 is a value, not a domain"),
    ("%kaptain_tune a c=Double(0", "'(' is never closed"),
    ("%%kaptain_tune a c=Double(0, 1)\nc = Double(0, 1)", "c is given twice, in the line and in the cell"),
    ("%%kaptain_tune a\nimport os", "line 1 of the cell: 'import os'"),
    ("%kaptain_tune a --minimize --maximize c=Double(0, 1) --objective x --file train.py", "exclude each other"),
    ("%kaptain_tune a --trials 0", "write a whole number from 1 to 1000000"),
    ("%kaptain_tune a --trials many", "write a whole number"),
    ("%kaptain_tune a --goal high", "write a number"),
    ("%kaptain_tune a --goal nan", "write a number"),
    ("%kaptain_tune a --seed -1", "write a whole number of at least 0"),
    ("%kaptain_tune a --objective ''", "--objective ''"),
    ("%kaptain_tune a --algorithm-setting x", "write NAME=VALUE"),
    ("%kaptain_tune a --resume c=Double(0, 1)", "--resume continues the study as it was, so c cannot be given"),
    (
        "%kaptain_tune a --resume --algorithm grid",
        "as it was, so --algorithm cannot be given",
    ),
    ("%kaptain_tune a --resume", "there is no tune run 'a'"),
    ("%kaptain_tune a gamma=Double(0, 1) --file train.py", "--objective"),
    ("%kaptain_tune a gama=Double(0, 1) --objective x --file train.py", "did you mean 'gamma'?"),
    ("%kaptain_tune a gamma=Double(0, 1) --objective x --algorithm tpee --file train.py", "did you mean"),
    ("%kaptain_tune a gamma=Double(0, 1) --objective x --early-stopping medianstp --file train.py", "medianstop"),
    # what the target has not
    ("%%kaptain_train a --namespace team" + BODY, "--namespace: the local target has no cluster\nleave it out"),
    ("%%kaptain_train a --context c" + BODY, "--context: the local target has no cluster"),
    ("%%kaptain_train a --workers 2" + BODY, "the local target has no distributed training"),
    ("%%kaptain_train a --workers 2 --on docker" + BODY, "the docker target has no distributed training"),
    ("%%kaptain_train a --base-image python:3.12" + BODY, "the local target has no container images"),
    ("%kaptain_tune a gamma=Double(0, 1) --objective x --file train.py --image-name i", "has no container images"),
    ("%kaptain_tune a gamma=Double(0, 1) --objective x --file train.py --tuner katib", "there is no tuner 'katib'"),
    ("%kaptain_deploy a --max-replicas 2", "the local target has no replicas"),
    ("%kaptain_deploy a --image-name i --on docker", "the docker target has no images of its own for servers"),
    ("%kaptain_deploy a --port 8080 --on kubernetes", "the kubernetes target has no address to choose"),
    ("%%kaptain_train a --on" + BODY, "--on needs a value: write --on local|docker|kubernetes"),
    # the endpoint
    ("%kaptain_deploy never/trained", "never/trained has no saved model"),
    ("%kaptain_deploy a b", "'b' is not expected here"),
    ("%kaptain_deploy a gamma=1", "'gamma=1' is not expected here"),
    ("%kaptain_deploy a --protocol v3", "--protocol 'v3' is unknown"),
    ("%kaptain_deploy a --port 70000", "write a whole number from 0 to 65535"),
    ("%kaptain_deploy a --canary 101", "write a whole number from 0 to 100"),
    ("%kaptain_deploy a --min-replicas 3 --max-replicas 2", "--max-replicas is below --min-replicas"),
    ("%kaptain_deploy a --model-uri ~nobody-of-that-name/x", "is not a valid path"),
    ("%kaptain_deploy a --model-uri /nowhere", "nowhere"),
    # the verbs
    ("%kaptain rusn", "%kaptain has no verb 'rusn': did you mean 'runs'?"),
    ("%kaptain stop", "RUN is missing: write %kaptain stop RUN"),
    ("%kaptain stop nothing", "there is no run 'nothing'"),
    ("%kaptain logs nothing", "there is no run 'nothing'"),
    ("%kaptain logs", "there are no runs yet"),
    ("%kaptain attach", "there are no runs yet"),
    ("%kaptain resume nothing", "nothing"),
    ("%kaptain endpoints 3", "'3' is not expected here"),
    ("%kaptain runs --limit x", "write a whole number"),
    ("%kaptain predict", "NAME is missing"),
    ("%kaptain predict a", "EXPRESSION is missing"),
    ("%kaptain predict a nombre", "NameError: name 'nombre' is not defined"),
    ("%kaptain predict a 1 +", "SyntaxError"),
    ("%kaptain predict a [[1]] --proba", "options stand before it"),
    ("%kaptain predict a 1 / 0", "ZeroDivisionError"),
    ("%kaptain predict a [[1]]", "there is no endpoint 'a'"),
    ("%kaptain canary a", "PERCENT is missing"),
    ("%kaptain canary a most", "write a whole number from 0 to 100"),
    ("%kaptain promote a", "there is no endpoint 'a'"),
    ("%kaptain rollback a", "there is no endpoint 'a'"),
    ("%kaptain undeploy a", "there is no endpoint 'a'"),
    ("%kaptain logs -f dev/x", "%kaptain logs has no option -f: a run is followed with %kaptain attach"),
    ("%kaptain logs --tail 5", "%kaptain logs has no option --tail: the last lines are shown with --lines N"),
    ("%kaptain clean -f", "%kaptain clean has no option -f: removing is asked for with --force"),
    ("%kaptain clean --now", "%kaptain clean has no option --now"),
    ("%kaptain show nothing", "there is no run 'nothing'"),
]

BEFORE = """
params = {"gamma": 3}
lists = {"gamma": [1]}
number = 3
space = {"c": "Double(0, 1)"}
"""


def test_there_are_enough() -> None:
    assert len(BAD) >= 60
    assert len({cell for cell, _ in BAD}) == len(BAD)


@pytest.mark.parametrize(("cell", "message"), BAD, ids=[cell.replace("\n", "|")[:60] for cell, _ in BAD])
def test_a_bad_line_is_one_message_and_starts_nothing(
    notebook: Notebook, home: Path, capsys: pytest.CaptureFixture[str], cell: str, message: str
) -> None:
    Path("train.py").write_text("gamma = 0.1\n")
    notebook.run(BEFORE)
    capsys.readouterr()
    with open("train.py") as door:  # a variable that cannot be sent
        notebook.variables["door"] = door
        error = notebook.error(cell)
    shown = "".join(capsys.readouterr())
    assert isinstance(error, (UsageError, KaptainError)), traceback.format_exception(error)
    assert message in str(error)
    assert "Traceback" not in shown
    assert str(error).splitlines()[0] in shown
    assert len(str(error).splitlines()) <= 3
    assert isinstance(error, UsageError) or error.hint
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


def test_debug_shows_the_traceback(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAPTAIN_SDK_DEBUG", "1")
    monkeypatch.delitem(__import__("sys").modules, "kaptain.envs", raising=False)
    notebook.error("%kaptain logs")
    assert "Traceback (most recent call last)" in capsys.readouterr().out


LINES = st.sampled_from(["%kaptain", "%kaptain_deploy", "%kaptain_tune", "%kaptain_train"])
PIECES = """
a dev/x g=1 g=Double(1,2) --file train.py --cpu 1 --on --env A=1 --into x # runs logs show predict clean canary
--model-uri --resume --objective ' ( {q} ?
"""
WORDS = st.sampled_from(PIECES.split()) | st.text(alphabet="ab1=-.,/'\"([ ", max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, st.lists(WORDS, max_size=6))
def test_any_line_ends_well(notebook: Notebook, magic: str, words: list[str]) -> None:
    line = " ".join([magic, *words, *(["--dry-run"] if magic != "%kaptain" else [])])
    result = notebook.shell.run_cell(line)
    error = result.error_before_exec or result.error_in_exec
    if not line.endswith("?"):
        assert error is None or isinstance(error, (UsageError, KaptainError)), (line, error)
