"""``kaptain-magics``: the lines of the magics as a command, for cron, CI and shells.

Grammar, options and errors are those of the magics; only what needs a notebook's variables is not there. Exit codes: 0,
1 for what failed, 2 for a wrong line, 130 after an interrupt (143 after SIGTERM).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from kaptain_magics.errors import KaptainError
from kaptain_magics.magics.grammar import Arguments, Command, Positional, parse_words
from kaptain_magics.magics.line_errors import Interrupted, suggest, usage_error, usage_errors
from kaptain_magics.magics.options import DEPLOY, NAME, TRAIN, TUNE
from kaptain_magics.magics.session import Session
from kaptain_magics.magics.verbs import VERBS

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace

PROGRAM = "kaptain-magics"
_OF_NOTEBOOKS = ("into", "send", "fetch")  # options that name a notebook's variables
_FILE = Positional("FILE", "the script's file", complete="file")
_OF_DICTS = "; a variable that holds a dict stands for its items"
_HELP = ("--help", "-h", "help")


def _command(command: Command, name: str, **changes: Any) -> Command:
    left_out = (*_OF_NOTEBOOKS, *(("file",) if "positionals" in changes else ()))
    options = tuple(option for option in command.options if option.name not in left_out)
    return command._replace(**{"name": f"{PROGRAM} {name}", "options": options, "examples": (), **changes})


COMMANDS: dict[str, Command] = {
    "train": _command(
        TRAIN,
        "train",
        summary="Train a model with a script's file.",
        positionals=(_FILE, NAME),
        examples=(
            f"{PROGRAM} train train.py dev/mnist gamma=0.001 c=1.0",
            f"{PROGRAM} train train.py dev/mnist --on kubernetes --cpu 2 --detach",
        ),
    ),
    "tune": _command(
        TUNE,
        "tune",
        summary="Search the hyperparameters of the model's last script, or of another one with --file.",
        examples=(f"{PROGRAM} tune dev/mnist 'gamma=Double(1e-4, 1e-3, log=True)' --trials 12 --objective accuracy",),
    ),
    "deploy": _command(DEPLOY, "deploy", examples=(f"{PROGRAM} deploy dev/mnist --replace",)),
    **{verb: _command(command, verb) for verb, command in VERBS.items()},
}
COMMANDS["predict"] = COMMANDS["predict"]._replace(
    summary="Query an endpoint with a Python expression, @FILE (JSON or CSV), or - for JSON from standard input.",
    examples=(f"{PROGRAM} predict dev/mnist '[[5.1, 3.5, 1.4, 0.2]]'", f"{PROGRAM} predict dev/mnist @rows.csv"),
)


def run(words: Sequence[str]) -> int:
    """Carry out a command line.

    Args:
        words: The words behind the program's name.

    Returns:
        The exit code.
    """
    terminated: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        terminated.append(number)
        raise KeyboardInterrupt  # the run is stopped, as after Ctrl-C

    signal.signal(signal.SIGTERM, stop)
    try:
        with redirect_stdout(_Spelled(sys.stdout)):
            _carry_out(words)
        sys.stdout.flush()
        return 0
    except usage_errors() as error:
        return _fail(str(error), 2)
    except KaptainError as error:
        return _fail(f"{type(error).__name__}: {error}", 1)
    except KeyboardInterrupt as error:
        _fail(f"interrupted: {error}" if isinstance(error, Interrupted) else "interrupted", 130)
        return 128 + terminated[0] if terminated else 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _carry_out(words: Sequence[str]) -> None:
    if words and words[0] in _HELP:
        _print(usage())
        return
    if words and words[0] == "--version":
        from kaptain_magics import __version__

        _print(f"{PROGRAM} {__version__}\n")
        return
    session = TerminalSession()
    if not words:
        from kaptain_magics.magics import kaptain

        kaptain.overview(_workspace(Arguments()))
        return
    name = words[0]
    if name not in COMMANDS:
        raise usage_error(
            f"{PROGRAM} has no command {name!r}", suggest(name, COMMANDS, "one of " + ", ".join(COMMANDS))
        )
    command = COMMANDS[name]
    arguments = parse_words(command, words[1:])
    if arguments.help:
        _print(command.usage().replace(_OF_DICTS, ""))
        return
    _RUN.get(name, _verb(name))(session, _workspace(arguments), arguments)


class _Spelled:
    """A stream whose texts name the command where they name a magic: views and notes are written for notebooks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(as_command(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def usage() -> str:
    """Return the text of ``kaptain-magics --help``."""
    rows = (f"  {name:<12}{command.summary}" for name, command in COMMANDS.items())
    head = (f"{PROGRAM} [COMMAND ...]", "", "Everything at a glance; with a command:", "")
    return "\n".join([*head, *rows, "", f"{PROGRAM} COMMAND --help explains a command.", ""])


def as_command(text: str) -> str:
    """Return a text with the magics' lines as a shell would take them."""
    text = re.sub(r"%{1,2}kaptain_train\b", f"{PROGRAM} train FILE", text)
    return re.sub(r"%{1,2}kaptain[_ ](?=[a-z])", f"{PROGRAM} ", text)


# ---- commands ------------------------------------------------------------------------------------------------------


class _Shell(NamedTuple):
    """What ``Session`` uses of a notebook's shell: there are no variables."""

    user_ns: dict[str, Any]
    user_global_ns: dict[str, Any]
    user_ns_hidden: dict[str, Any]


class TerminalSession(Session):
    """A session without a notebook."""

    def __init__(self) -> None:
        super().__init__(_Shell({}, {}, {}))

    def shown(self, result: object) -> Any:
        """Return a result: nothing displays it a second time here."""
        return result


def _workspace(arguments: Arguments) -> Workspace:
    from kaptain_magics.config import Settings
    from kaptain_magics.model import Workspace

    return Workspace(Settings.load(arguments.settings()))


def _train(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics.magics.train import train

    named = {**arguments.options, "file": arguments.positionals["FILE"]}
    train(session, workspace, arguments._replace(options=named), None)


def _tune(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics.magics.tune import tune

    tune(session, workspace, arguments, None)


def _deploy(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics.magics.deploy import deploy

    deploy(session, workspace, arguments)


def _predict(session: Session, workspace: Workspace, arguments: Arguments) -> None:
    from kaptain_magics.magics.kaptain import carry_out

    source = arguments.rest
    if source == "-" or source.startswith("@"):
        session.shell.user_ns["rows"] = _read_rows(source)
        arguments = arguments._replace(rest="rows")
    _print(json.dumps(_plain(carry_out("predict", session, workspace, arguments))) + "\n")


def _read_rows(source: str) -> Any:
    """Return the rows in a file or on standard input."""
    path = Path(source[1:])
    try:
        if path.suffix == ".csv":
            import pandas as pd

            return pd.read_csv(path)
        return json.loads(sys.stdin.read() if source == "-" else path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise usage_error(f"{source} cannot be read: {error}", "write @ and the path of a JSON or CSV file") from None
    except ModuleNotFoundError:
        raise usage_error("a CSV file needs pandas", "pip install pandas, or write the rows as JSON") from None


def _plain(value: Any) -> Any:
    """Return predictions as JSON has them."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.tolist() if hasattr(value, "tolist") else value


def _verb(name: str) -> Callable[[Session, Workspace, Arguments], Any]:
    def carry_out_verb(session: Session, workspace: Workspace, arguments: Arguments) -> None:
        from kaptain_magics.magics.kaptain import carry_out

        carry_out(name, session, workspace, arguments)

    return carry_out_verb


_RUN: dict[str, Callable[[Session, Workspace, Arguments], Any]] = {
    "train": _train,
    "tune": _tune,
    "deploy": _deploy,
    "predict": _predict,
}


def _fail(text: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"{PROGRAM}: {as_command(text)}\n")
    return code


def _print(text: str) -> None:
    sys.stdout.write(text)
