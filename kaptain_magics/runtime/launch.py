"""Runs a script as ``python script.py`` would, with hyperparameters put in and results taken out.

The same code runs in a warm worker, in a fresh process and in a container
(``python -m kaptain_magics.runtime.launch program.json``). What to run is a JSON object:

* ``script``: path of the script; ``argv``: its command line;
* ``assignments``: values for top-level assignments of plain code, by name;
* ``model``: variable to save when the script ends; ``metrics``: metric name to variable (dotted paths allowed);
* ``find_model``, ``find_metrics``: whether those are to be found where none is named;
* ``sent``: pickle file of a dict of globals that the script finds; ``fetch``: variables to pickle into ``fetched``.

Line numbers in a traceback are the script's: the source is never edited, values are replaced in its syntax tree.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import sys
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaptain_magics.runtime.found_results import ResultFinder
from kaptain_magics.runtime.results import CaptureError, take_results
from kaptain_magics.runtime.text_values import truth_of


def substitute(tree: ast.Module, assignments: Mapping[str, Any]) -> ast.Module:
    """Replace the value of the first top-level assignment of every name in ``assignments``.

    Raises:
        CaptureError: The script has no such assignment.
    """
    missing = dict(assignments)
    for node in tree.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in missing:
                value = ast.Constant(_as_default_type(missing.pop(target.id), node.value))
                node.value = ast.copy_location(value, node.value)
    if missing:
        raise CaptureError(f"the script has no top-level assignment of {', '.join(sorted(missing))}")
    return tree


def _as_default_type(value: Any, default: ast.expr) -> Any:
    """Return what the script means by a word: a truth value where it has one, ``None`` where it has no text."""
    literal = default.value if isinstance(default, ast.Constant) else None
    if isinstance(literal, bool):
        truth = truth_of(str(value))
        return value if truth is None else truth
    return None if value == "None" and not isinstance(literal, str) else value


def run(program: Mapping[str, Any]) -> int:
    """Run the program's script in this process as ``__main__`` and return its exit code."""
    script = str(program["script"])
    source = Path(script).read_bytes()
    module = types.ModuleType("__main__")
    module.__file__ = script
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = module
    sys.argv = [script, *program.get("argv", ())]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        tree = ast.parse(source, script)
        substitute(tree, program.get("assignments", {}))
        finder = ResultFinder(tree, program)
        code = compile(tree, script, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        traceback.print_exception(type(error), error, None)
        return 1
    except CaptureError as error:
        return _fail(str(error))
    namespace = module.__dict__
    try:
        if program.get("sent"):
            namespace.update(pickle.loads(Path(program["sent"]).read_bytes()))  # written by the same user's notebook
        finder.begin(namespace)
        exec(code, namespace)
    except SystemExit as error:
        status = _exit_code(error)
        if status:
            return status
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    try:
        take_results(program, namespace)
        finder.end(namespace)
    except CaptureError as error:
        return _fail(str(error))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _fail(text: str) -> int:
    sys.stderr.write(f"kaptain: {text}\n")
    return 1


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def main(arguments: list[str]) -> int:
    """Run the program in the file that is the one argument."""
    program = json.loads(Path(arguments[0]).read_text("utf-8"))
    if program.get("env"):
        from kaptain_magics.runtime.variables import restart_with

        restart_with(program["env"])  # before anything else: what follows needs them, and may begin this program again
    if os.environ.get("KAPTAIN_CHANNEL") == "stdout":
        os.dup2(1, 2)  # a container's two streams reach their reader in no certain order, one does
        from kaptain_magics.runtime.reach import store_is_ready

        if not store_is_ready():
            return 1
    return run(program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
