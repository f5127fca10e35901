"""From source text to a ``Script``, with every reason why it could not run said before it runs."""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import tokenize
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.core.scripts import Script
from kaptain_magics.errors import ScriptError
from kaptain_magics.runtime.text_values import shorten
from kaptain_magics.script.foreign import foreign_line, without_needless
from kaptain_magics.script.parameters import find_imports, find_parameters
from kaptain_magics.script.paths import expand
from kaptain_magics.script.undefined_names import KNOWN, NOTEBOOK_ONLY, free_names, top_level_names

CELL = "cell.py"
"""File name of a script that is a cell."""

_WIDTH = 100  # characters of an offending line that are shown


def capture(
    source: str,
    name: str = CELL,
    notebook_names: Iterable[str] = (),
    sent: Collection[str] = (),
    folders: Iterable[str | Path] = (),
) -> Script:
    """Make a script of source text.

    Args:
        source: The text of a cell or a file.
        name: Its file name.
        notebook_names: What the notebook has; a mapping of names to values makes the hints more exact.
        sent: Names of the notebook's values that the script will find.
        folders: Where its relative paths and its own modules are looked for, see ``Script.folders``.

    Returns:
        The script with the parameters and imports that it has.

    Raises:
        ScriptError: It is empty, does not parse, has a line of IPython's, or uses names that it never defines.
    """
    tree, source, dropped = _parse(source, name)
    if not tree.body:
        raise ScriptError(
            "there is no code to run", "write the training script below the magic's line, or name a file with --file"
        )
    try:
        imports = find_imports(tree)
        parameters, command_line = find_parameters(tree, source, imports)
        missing = free_names(tree, sent)
    except RecursionError:  # generated code may be nested deeper than it can be looked at
        return Script(
            name=Path(name).name,
            source=source,
            open_options=True,
            cell=name == CELL,
            dropped=dropped,
            folders=_distinct(folders),
        )
    if missing:
        raise _missing(missing, tree, notebook_names, "this cell" if name == CELL else Path(name).name)
    return Script(
        name=Path(name).name,
        source=source,
        parameters=parameters,
        imports=imports,
        open_options=command_line.is_open,
        overrides=command_line.overrides,
        subcommands=command_line.subcommands,
        cell=name == CELL,
        dropped=dropped,
        folders=_distinct(folders),
    )


def _distinct(folders: Iterable[str | Path]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders))


def read_file(path: str | Path) -> str:
    """Read a script's file.

    Raises:
        ScriptError: It is missing, a folder, a notebook, or not text in its encoding.
    """
    path = expand(path)
    if path.suffix == ".ipynb":
        raise ScriptError(f"{path} is a notebook", "name a Python file, or use its cell with %%kaptain_train")
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding not in ("utf-8", "utf-8-sig"):
            raise ScriptError(f"{path} is written in {encoding}", "save it as UTF-8")
        return data.decode(encoding)
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ScriptError(
            f"there is no file {path}", did_you_mean(path.name, beside) or f"paths start at {Path.cwd()}"
        ) from None
    except OSError as error:
        raise ScriptError(f"{path} cannot be read: {error.strerror or error}", "name a Python file") from None
    except (UnicodeDecodeError, SyntaxError, LookupError):
        raise ScriptError(f"{path} is not UTF-8 text", "name a Python file, saved as UTF-8") from None


def check_variables(script: Script, names: Iterable[str], option: str) -> None:
    """Check that a script has the variables that are to be taken from it when it ends.

    Args:
        script: The script.
        names: Variables or dotted paths that start with one.
        option: The option that named them, for the message.

    Raises:
        ScriptError: One of them is never assigned at top level.
    """
    try:
        own = top_level_names(ast.parse(script.source))
    except RecursionError:
        return
    for name in names:
        first = name.partition(".")[0]
        if own is not None and first not in own:
            shown = sorted(n for n in own if not n.startswith("_"))
            hint = did_you_mean(first, shown) or f"it has {', '.join(shown[:12]) or 'none'}"
            raise ScriptError(f"{option} {name}: the script has no top-level variable `{first}`", hint)


def assigns(script: Script, name: str) -> bool:
    """Whether a script certainly has a top-level variable of that name."""
    try:
        return name in (top_level_names(ast.parse(script.source)) or ())
    except RecursionError:
        return False


def _parse(source: str, name: str) -> tuple[ast.Module, str, tuple[str, ...]]:
    """Return a script's tree, its source, and what was left out of that because a run does not need it."""
    try:
        return _parsed(source, name), source, ()
    except ScriptError:
        plain, dropped = without_needless(source)
        if not dropped:
            raise
    return _parsed(plain, name), plain, dropped


def _parsed(source: str, name: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful escape is for the job's own output
            tree = ast.parse(source, name)
            compile(source, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        foreign = foreign_line(source)
        if foreign:
            number, line, advice = foreign
            raise ScriptError(f"line {number} is IPython's, not Python: {shorten(line, _WIDTH)}", advice) from None
        raise ScriptError(*_explain(error, source)) from None
    except (ValueError, OverflowError):
        raise ScriptError(
            "the code has characters that Python cannot read", "remove null bytes and broken text"
        ) from None
    except (RecursionError, MemoryError):
        raise ScriptError("the code is nested too deeply", "split its longest expression") from None
    return tree


def _explain(error: SyntaxError, source: str) -> tuple[str, str]:
    """Return the message, and the offending line with a caret below it."""
    message = error.msg or "invalid syntax"
    if "outside function" in message and "await" in message:
        message += "; a script has no running event loop: use asyncio.run(main())"
    lines = source.splitlines()
    if not error.lineno or error.lineno > len(lines):
        return f"the code does not parse: {message}", "fix it and run the cell again"
    text = lines[error.lineno - 1].rstrip().expandtabs(1)
    column = min(max((error.offset or 1) - 1, 0), len(text))
    start = max(0, column - _WIDTH + 20) if len(text) > _WIDTH else len(text) - len(text.lstrip())
    shown = re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", "\ufffd", text[start : start + _WIDTH])
    return f"line {error.lineno} does not parse: {message}", f"    {shown}\n    {' ' * max(0, column - start)}^"


# ---- names that the script lacks -------------------------------------------------------------------------------------


def _missing(missing: Mapping[str, int], tree: ast.Module, notebook_names: Iterable[str], script: str) -> ScriptError:
    values = notebook_names if isinstance(notebook_names, Mapping) else dict.fromkeys(notebook_names)
    only_there = [name for name in missing if name in NOTEBOOK_ONLY]
    in_notebook = [name for name in missing if name in values and name not in only_there]
    if in_notebook:
        verb, noun = ("is", "line") if len(in_notebook) == 1 else ("are", "lines")
        lines = ", ".join(str(missing[name]) for name in in_notebook)
        return ScriptError(
            f"{_quoted(in_notebook)} {verb} defined in this notebook, not in {script} ({noun} {lines})",
            _how_to_bring(in_notebook, values, script),
        )
    if only_there:
        return ScriptError(
            f"{_quoted(only_there)} exists in notebooks only (line {missing[only_there[0]]})",
            "remove it from the script",
        )
    name, line = next(iter(missing.items()))
    own = top_level_names(tree) or set()
    if name in own:
        return ScriptError(f"`{name}` is used in line {line} before {script} defines it", "define it above that line")
    others = f" (and {_quoted(list(missing)[1:])})" if len(missing) > 1 else ""
    near = did_you_mean(name, {*own, *KNOWN, *values})
    return ScriptError(
        f"`{name}` in line {line} is not defined anywhere{others}", near or f"define or import it in {script}"
    )


def _quoted(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _how_to_bring(names: Iterable[str], values: Mapping[str, object], script: str) -> str:
    """Say how to bring the notebook's names into a script: import again, define again, or send."""
    lines: list[str] = []
    here: list[str] = []
    send: list[str] = []
    for name in names:
        value = values[name]
        module = getattr(value, "__module__", None) or ""
        if isinstance(value, ModuleType):
            path = value.__name__
            lines.append(f"import {path}" if path == name else f"import {path} as {name}")
        elif (inspect.isroutine(value) or inspect.isclass(value)) and module not in ("", "__main__"):
            own = value.__name__
            public = ".".join(part for part in module.split(".") if not part.startswith("_")) or module
            lines.append(f"from {public} import {own}" + ("" if own == name else f" as {name}"))
        elif inspect.isroutine(value) or inspect.isclass(value):
            here.append(name)
        else:
            send.append(name)
    steps = [f"add `{line}` to {script}" for line in lines]
    if here:
        steps.append(f"move the definition of {_quoted(here)} into {script}")
    if send:
        it = "it" if len(send) == 1 else "them"
        steps.append(f"move {it} in, or send {it} with --send {','.join(send)}")
    return "; ".join(steps)
