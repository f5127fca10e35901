"""Runs a script as ``python script.py`` would, with hyperparameters put in and results taken out.

The same code runs in a warm worker, in a fresh process and in a container
(``python -m kaptain_magics.runtime.launch program.json``). What to run is a JSON object:

* ``script``: path of the script; ``argv``: its command line;
* ``assignments``: values that replace plain ones of the script, by name (see ``places``);
* ``cell``: whether it is a notebook's cell, whose last expression is shown;
* ``model``: variable to save when the script ends; ``metrics``: metric name to variable (dotted paths allowed);
* ``find_model``, ``find_metrics``: whether those are to be found where none is named;
* ``place``: folder below the working folder in which the script stands; ``folders``: folders that it writes into;
* ``beside``: what it finds beside the notebook on the same machine, see ``beside.prepare``;
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
from itertools import chain
from pathlib import Path
from typing import Any

from kaptain_magics.runtime import hooks, written
from kaptain_magics.runtime.beside import prepare
from kaptain_magics.runtime.found_results import ResultFinder
from kaptain_magics.runtime.places import in_effect, inner_places, outer_places
from kaptain_magics.runtime.results import CaptureError, take_results
from kaptain_magics.runtime.text_values import truth_of


def substitute(tree: ast.Module, assignments: Mapping[str, Any]) -> ast.Module:
    """Replace the first plain value of every name in ``assignments``; ``places`` says what the names mean.

    Raises:
        CaptureError: The script has no such value.
    """
    missing = dict(assignments)
    if missing:
        for place in chain(outer_places(tree), inner_places(tree)):  # the second looks at every node: only where due
            if place.name in missing:
                place = in_effect(tree, place)
                place.put(_as_default_type(missing.pop(place.name), place.node))
                if not missing:
                    break
    if missing:
        raise CaptureError(f"the script has no plain value named {', '.join(sorted(missing))}")
    return tree


def _as_default_type(value: Any, default: ast.expr) -> ast.expr:
    """Return what a word means: a truth value where the script has one, ``None`` or a tuple unless it has a text."""
    literal = default.value if isinstance(default, ast.Constant) else None
    if isinstance(literal, bool):
        truth = truth_of(str(value))
        return ast.Constant(value if truth is None else truth)
    if isinstance(value, str) and not isinstance(literal, str):
        if value == "None":
            return ast.Constant(None)
        if value[:1] in ("(", "["):
            return _sequence(value, default)
    return ast.Constant(value)


def _sequence(text: str, default: ast.expr) -> ast.expr:
    """Return the list or tuple that a text spells, of the kind that the script has; the text where it spells none."""
    try:
        node = ast.parse(text, mode="eval").body
        ast.literal_eval(node)
    except (ValueError, SyntaxError):
        return ast.Constant(text)
    if isinstance(node, ast.Tuple | ast.List) and isinstance(default, ast.Tuple | ast.List):
        return type(default)(node.elts, ast.Load())
    return node


def run(program: Mapping[str, Any]) -> int:
    """Run the program's script in this process as ``__main__`` and return its exit code."""
    work = str(Path.cwd())
    try:
        beside = prepare(program)
    except OSError as error:
        return _fail(f"what the script reads beside the notebook cannot be laid into its folder: {error}")
    before = written.snapshot(work)
    try:
        return _run(program)
    finally:
        _send_written(work, before)
        if beside is not None:
            beside.report(beside.leave())


def _run(program: Mapping[str, Any]) -> int:
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
        tree = substitute(tree, program.get("assignments", {}))
        finder = ResultFinder(tree, program)
        is_shown = program.get("cell") and not os.environ.get("KAPTAIN_TRIAL")  # a study shows nothing of its trials
        last = _last_expression(tree, source) if is_shown else None
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
        hooks.install()
        finder.begin(namespace)
        exec(code, namespace)
        if last is not None:
            _show(eval(compile(last, script, "eval", dont_inherit=True), namespace))
    except SystemExit as error:
        status = _exit_code(error)
        if status:
            return status
    except BaseException as error:
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    finally:
        _finish_display()
    try:
        take_results(program, namespace)
        finder.end(namespace)
    except CaptureError as error:
        return _fail(str(error))
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _last_expression(tree: ast.Module, source: bytes) -> ast.Expression | None:
    """Take the expression that ends a cell out of it, unless a semicolon behind it hides its value."""
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or last.end_lineno is None:
        return None
    rest = source.splitlines()[last.end_lineno - 1][last.end_col_offset :]
    if rest.lstrip().startswith(b";"):
        return None
    tree.body.pop()
    return ast.Expression(last.value)


def _show(value: Any) -> None:
    if value is not None:
        from kaptain_magics.runtime.display import show_value

        show_value(value)


def _finish_display() -> None:
    """Show what is still open, also after a failure; a script that shows nothing has not loaded what that takes."""
    if "matplotlib" in sys.modules or "kaptain_magics.runtime.display" in sys.modules:
        from kaptain_magics.runtime.display import finish

        try:
            finish()
        except Exception:  # a figure may not be drawable
            traceback.print_exc()


def _send_written(folder: str, before: written.Snapshot) -> None:
    try:
        written.send_written(folder, before)
    except OSError:  # a file went while it was read
        traceback.print_exc()


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
