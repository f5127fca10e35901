"""The hyperparameters that a script takes: options of its command line, or top-level assignments of plain code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kaptain_magics.core.specs import Binding, Parameter

_PARSING = {"parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"}
_SWITCHES = {"store_true", "store_false", "store_const", "append_const", "count", "BooleanOptionalAction"}
_OTHER_PARSERS = {
    *("absl", "argh", "clize", "configargparse", "cyclopts", "defopt", "docopt", "fire", "getopt", "hydra"),
    *("jsonargparse", "optparse", "plac", "sacred", "simple_parsing", "tap", "typer", "tyro"),
}
_OTHER_CALLS = {"HfArgumentParser", "LightningCLI", "from_cli", "add_subparsers", "set_defaults"}


def find_parameters(tree: ast.Module, source: str, imports: tuple[str, ...]) -> tuple[tuple[Parameter, ...], bool]:
    """Find what a script takes.

    Args:
        tree: The script.
        source: Its text.
        imports: The modules that it imports.

    Returns:
        The parameters, and whether there may be options that could not be read.
    """
    options = _Options(source)
    options.visit(tree)
    roots = {name.partition(".")[0] for name in imports}
    found = {} if options.deaf else options.found
    is_open = options.unreadable or bool(roots & _OTHER_PARSERS)
    if options.parses and not options.builds:
        is_open = True  # the parser was made elsewhere
    for parameter in _assignments(tree, source):
        found.setdefault(parameter.name, parameter)
    return tuple(found.values()), is_open and not options.deaf


def find_imports(tree: ast.Module) -> tuple[str, ...]:
    """Return the modules that a script imports at top level, also within ``if``, ``try`` and ``with``, in order."""
    found: dict[str, None] = {}
    for node in _top_level(tree.body):
        match node:
            case ast.Import(names=names):
                found |= {alias.name: None for alias in names}
            case ast.ImportFrom(module=str(module), level=0) if module != "__future__":
                found[module] = None
    return tuple(found)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.TryStar, ast.With)):
            for part in ("body", "handlers", "orelse", "finalbody"):
                for inner in getattr(node, part, []):
                    yield from _top_level(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _assignments(tree: ast.Module, source: str) -> Iterator[Parameter]:
    """Yield names whose first top-level assignment is a literal: that one a job replaces."""
    seen: set[str] = set()
    for node in tree.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and target.id not in seen:
                seen.add(target.id)
                value = node.value  # type: ignore[attr-defined]
                if len(targets) == 1 and _is_literal(value) and not target.id.startswith("__"):
                    default = ast.get_source_segment(source, value) or ""
                    yield Parameter(target.id, Binding.ASSIGNMENT, default, node.lineno)


def _is_literal(node: ast.expr | None) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, (int, float))
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None)))


class _Options(ast.NodeVisitor):
    """Gathers the options that argparse and click are told of.

    Attributes:
        found: The options by every name that they may be called by.
        builds: Whether a parser is made here.
        parses: Whether the command line is parsed.
        deaf: Whether it is only parsed from a list in the script (``parse_args([])``), so that no option arrives.
        unreadable: Whether there are options whose names stand nowhere.
    """

    def __init__(self, source: str) -> None:
        self.found: dict[str, Parameter] = {}
        self.builds = self.parses = self.unreadable = False
        self._source = source
        self._heard: list[bool] = []
        self._parsers: set[str] = set()
        self._functions: set[str] = set()

    @property
    def deaf(self) -> bool:
        return bool(self._heard) and not any(self._heard)

    def visit_Module(self, node: ast.Module) -> None:
        self._functions = {n.name for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Call) and _called(node.value) == "ArgumentParser":
            self._parsers |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if _is_argv(node.value) and isinstance(node.slice, ast.Constant) and node.slice.value == 0:
            return  # the program's name is no option
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if _is_argv(node) and isinstance(node.ctx, ast.Load):
            self.unreadable = True
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "sys" and any(alias.name == "argv" for alias in node.names):
            self.unreadable = True

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name in _PARSING:
            self._parse_call(node)
            self.visit(node.func)  # its arguments may name sys.argv, as the default does
            return
        if name == "add_argument":
            self._add_argument(node)
        elif name in ("option", "Option") and any(_texts(node)):
            self._click_option(node)
        elif name == "ArgumentParser":
            self.builds = True
            self.unreadable |= any(keyword.arg == "parents" for keyword in node.keywords)
        elif name in _OTHER_CALLS:
            self.unreadable = True
        elif name not in self._functions and any(isinstance(a, ast.Name) and a.id in self._parsers for a in node.args):
            self.unreadable = True  # a function from elsewhere adds options
        self.generic_visit(node)

    def _parse_call(self, node: ast.Call) -> None:
        given = [*node.args, *(k.value for k in node.keywords if k.arg == "args")]
        self.parses = True
        own = given and (isinstance(given[0], (ast.List, ast.Tuple)) or _is_text(given[0]))
        self._heard.append(not own)

    def _add_argument(self, node: ast.Call) -> None:
        flags = list(_texts(node))
        if len(flags) < len(node.args):
            self.unreadable = True
        flags = [flag for flag in flags if flag.startswith("-")]
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        action = keywords.get("action")
        kind = action.value if isinstance(action, ast.Constant) else _last_name(action)
        if not flags or kind in ("help", "version"):
            return
        binding = Binding.SWITCH if kind in _SWITCHES else Binding.OPTION
        dest = keywords.get("dest")
        names = [dest.value] if isinstance(dest, ast.Constant) and isinstance(dest.value, str) else []
        self._take(node, flags, names, binding, keywords.get("default"))
        if kind == "BooleanOptionalAction":
            self._take(node, [f"--no-{f[2:]}" for f in flags if f.startswith("--")], [], binding, None)

    def _click_option(self, node: ast.Call) -> None:
        texts = list(_texts(node))
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        flags = [part.strip() for text in texts if text.startswith("-") for part in text.split("/")]
        flags = [flag if flag.startswith("-") else f"--{flag}" for flag in flags if flag]
        switch = any("/" in text for text in texts) or any(
            isinstance(keywords.get(k), ast.Constant) and keywords[k].value  # type: ignore[attr-defined]
            for k in ("is_flag", "count")
        )
        if flags:
            names = [text for text in texts if text.isidentifier()]
            both = switch and len(flags) > 1
            binding = Binding.SWITCH if switch else Binding.OPTION
            self._take(node, flags, [] if both else names, binding, keywords.get("default"))

    def _take(
        self, node: ast.Call, flags: list[str], names: list[str], binding: Binding, default: ast.expr | None
    ) -> None:
        text = "" if default is None else ast.get_source_segment(self._source, default) or ""
        long = [flag for flag in flags if flag.startswith("--")]
        for flag in flags:
            name = flag[2:] if flag.startswith("--") else flag
            self.found.setdefault(name, Parameter(name, binding, text, node.lineno))
        for name in names:
            flag = (long or flags)[0]
            if name not in self.found:
                self.found[name] = Parameter(name, binding, text, node.lineno, flag)


def _called(node: ast.Call) -> str:
    return _last_name(node.func)


def _last_name(node: ast.expr | None) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _texts(node: ast.Call) -> Iterator[str]:
    return (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _is_argv(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "argv" and _last_name(node.value) == "sys"
