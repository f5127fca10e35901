"""The hyperparameters that a script takes: options of its command line, or top-level assignments of plain code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from kaptain_magics.core.specs import Binding, Parameter

_PARSING = {"parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"}
_CONSTANTS = {"store_const", "append_const"}
_SWITCHES = {"store_true", "store_false", *_CONSTANTS}
_OTHER_PARSERS = {
    *("absl", "argh", "clize", "configargparse", "cyclopts", "defopt", "docopt", "fire", "getopt", "hydra"),
    *("jsonargparse", "optparse", "plac", "sacred", "simple_parsing", "tap", "typer", "tyro"),
}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_GROUPS = {"add_argument_group", "add_mutually_exclusive_group"}
_OTHER_CALLS = {"HfArgumentParser", "LightningCLI", "from_cli", "add_subparsers", "set_defaults"}


def find_parameters(
    tree: ast.Module, source: str, imports: tuple[str, ...]
) -> tuple[tuple[Parameter, ...], bool, bool]:
    """Find what a script takes.

    Args:
        tree: The script.
        source: Its text.
        imports: The modules that it imports.

    Returns:
        The parameters, whether there may be options that could not be read, and whether there are subcommands.
    """
    visitor = _OptionVisitor(source)
    visitor.visit(tree)
    roots = {name.partition(".")[0] for name in imports}
    parameters = {} if visitor.ignores_command_line else visitor.options
    is_open = visitor.unreadable or bool(roots & _OTHER_PARSERS)
    if visitor.parses and not visitor.builds:
        is_open = True  # the parser was made elsewhere
    for parameter in _assignments(tree, source):
        parameters.setdefault(parameter.name, parameter)
    return tuple(parameters.values()), is_open and not visitor.ignores_command_line, visitor.subcommands


def find_imports(tree: ast.Module) -> tuple[str, ...]:
    """Return the modules that a script imports at top level, also within ``if``, ``try`` and ``with``, in order."""
    modules: dict[str, None] = {}
    for node in _top_level(tree.body):
        match node:
            case ast.Import(names=names):
                modules |= {alias.name: None for alias in names}
            case ast.ImportFrom(module=str(module), level=0) if module != "__future__":
                modules[module] = None
    return tuple(modules)


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
    for index, node in enumerate(tree.body):
        names, value = _assigned(node)
        for name in names:
            if name not in seen and len(names) == 1 and _is_literal(value) and not name.startswith("__"):
                default = ast.get_source_segment(source, value) or "" if value else ""
                again = _reassigned_line(name, tree.body[index + 1 :])
                yield Parameter(name, Binding.ASSIGNMENT, default, node.lineno, again=again)
        seen.update(names)


def _assigned(node: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """Return the names that a statement assigns, and the value; no names where it is no assignment."""
    match node:
        case ast.Assign(targets=targets, value=value):
            return [t.id if isinstance(t, ast.Name) else "" for t in targets], value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return [name], value
    return [], None


def _reassigned_line(name: str, rest: Iterable[ast.stmt]) -> int:
    """Return the line where a literal is assigned to a name again before anything at top level reads it."""
    for node in rest:
        names, value = _assigned(node)
        if name in names and _is_literal(value):
            return node.lineno
        if name in names or (not isinstance(node, _DEFINITIONS) and _reads(node, name)):
            return 0
    return 0


def _reads(node: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load) for n in ast.walk(node))


def _is_literal(node: ast.expr | None) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        return isinstance(node.operand, ast.Constant) and isinstance(node.operand.value, (int, float))
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None)))


class _OptionVisitor(ast.NodeVisitor):
    """Gathers the options that a script declares to argparse and click.

    Attributes:
        options: The options by every name that they may be called by.
        builds: Whether a parser is made here.
        parses: Whether the command line is parsed.
        ignores_command_line: Whether only a list in the script is parsed (``parse_args([])``): no option arrives.
        unreadable: Whether there are options whose names cannot be read from the source.
        subcommands: Whether a parser has parsers below it.
    """

    def __init__(self, source: str) -> None:
        self.options: dict[str, Parameter] = {}
        self.builds = self.parses = self.unreadable = self.subcommands = False
        self._source = source
        self._reads_command_line: list[bool] = []
        self._parsers: set[str] = set()
        self._above = False
        self._functions: set[str] = set()

    @property
    def ignores_command_line(self) -> bool:
        return bool(self._reads_command_line) and not any(self._reads_command_line)

    def visit_Module(self, node: ast.Module) -> None:
        self._functions = {n.name for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.value, ast.Call):
            called = _called(node.value)
            if called == "ArgumentParser" or (called in _GROUPS and _owner(node.value) in self._parsers):
                self._parsers |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        decorators = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
        self._above = any(_last_name(d) == "group" for d in decorators)  # click's
        self.subcommands |= self._above
        self.generic_visit(node)
        self._above = False

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
            self._above = _owner(node) in self._parsers
            self._add_argument(node)
            self._above = False
        elif name in ("option", "Option") and any(_texts(node)):
            self._click_option(node)
        elif name == "ArgumentParser":
            self.builds = True
            self.unreadable |= any(keyword.arg == "parents" for keyword in node.keywords)
        elif name in _OTHER_CALLS:
            self.unreadable = True
            self.subcommands |= name == "add_subparsers"
        elif name not in self._functions and any(isinstance(a, ast.Name) and a.id in self._parsers for a in node.args):
            self.unreadable = True  # a function from elsewhere adds options
        self.generic_visit(node)

    def _parse_call(self, node: ast.Call) -> None:
        arguments = [*node.args, *(k.value for k in node.keywords if k.arg == "args")]
        self.parses = True
        is_own_list = arguments and (isinstance(arguments[0], (ast.List, ast.Tuple)) or _is_text(arguments[0]))
        self._reads_command_line.append(not is_own_list)

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
        dest, default = keywords.get("dest"), keywords.get("default")
        names = [dest.value] if isinstance(dest, ast.Constant) and isinstance(dest.value, str) else []
        if kind == "BooleanOptionalAction":
            self._take_pair(node, flags, [f"--no-{f[2:]}" for f in flags if f.startswith("--")], names, default)
            return
        if kind == "store_false":
            self._take_negated(node, _long(flags), names, default)
        binding = Binding.TRUTH if _last_name(keywords.get("type")) == "bool" else _option(keywords)
        binding = Binding.SWITCH if kind in _SWITCHES else Binding.COUNT if kind == "count" else binding
        self._take(node, flags, [] if kind in _CONSTANTS else names, binding, default)

    def _click_option(self, node: ast.Call) -> None:
        texts = list(_texts(node))
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        names, default = [text for text in texts if text.isidentifier()], keywords.get("default")
        pairs = [text.partition("/") for text in texts if text.startswith("-")]
        flags, opposites = _dashed(on for on, _, _ in pairs), _dashed(off for _, _, off in pairs)
        if flags and opposites:
            self._take_pair(node, flags, opposites, names, default)
        elif flags:
            binding = Binding.SWITCH if _is_true(keywords.get("is_flag")) else _option(keywords)
            self._take(node, flags, names, Binding.COUNT if _is_true(keywords.get("count")) else binding, default)

    def _take_pair(
        self, node: ast.Call, flags: list[str], opposites: list[str], names: list[str], default: ast.expr | None
    ) -> None:
        self._take(node, flags, names, Binding.SWITCH, default, _long(opposites))
        self._take(node, opposites, [], Binding.SWITCH, None, _long(flags))

    def _take_negated(self, node: ast.Call, flag: str, names: list[str], default: ast.expr | None) -> None:
        """Take the variable that a flag makes false; the name of ``--no-x`` alone is the flag's, not a variable's."""
        name = flag.removeprefix("--")
        if names or not name.startswith(("no-", "no_")):
            self._take(node, [], names or [name], Binding.NEGATED, default, flag)

    def _take(
        self,
        node: ast.Call,
        flags: list[str],
        names: list[str],
        binding: Binding,
        default: ast.expr | None,
        off: str = "",
    ) -> None:
        parameter = Parameter("", binding, self._text(default), node.lineno, off=off, above=self._above)
        for name, flag in [(flag.removeprefix("--"), "") for flag in flags] + [(name, _long(flags)) for name in names]:
            self.options.setdefault(name, replace(parameter, name=name, flag=flag))

    def _text(self, node: ast.expr | None) -> str:
        return "" if node is None else ast.get_source_segment(self._source, node) or ""


def _option(keywords: Mapping[str, ast.expr]) -> Binding:
    nargs = keywords.get("nargs")
    many = isinstance(nargs, ast.Constant) and (nargs.value in ("+", "*") or isinstance(nargs.value, int))
    return Binding.WORDS if many else Binding.OPTION


def _long(flags: list[str]) -> str:
    return next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")


def _dashed(flags: Iterable[str]) -> list[str]:
    return [flag if flag.startswith("-") else f"--{flag}" for flag in map(str.strip, flags) if flag]


def _is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def _called(node: ast.Call) -> str:
    return _last_name(node.func)


def _owner(node: ast.Call) -> str:
    return _last_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""


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
