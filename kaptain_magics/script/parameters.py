"""The hyperparameters that a script takes: what its command line has, and plain values in its code."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from kaptain_magics.core.scripts import Binding, Parameter
from kaptain_magics.runtime.places import dotted, last_name
from kaptain_magics.script.code_values import outer_parameters
from kaptain_magics.script.positions import PARSING, find_positions

_CONSTANTS = {"store_const", "append_const"}
_SWITCHES = {"store_true", "store_false", *_CONSTANTS}
_OTHER_PARSERS = {
    *("absl", "argh", "clize", "configargparse", "cyclopts", "defopt", "docopt", "fire", "getopt", "hydra"),
    *("jsonargparse", "optparse", "plac", "sacred", "simple_parsing", "tap", "typer", "tyro"),
}
_GROUPS = {"add_argument_group", "add_mutually_exclusive_group"}
_OTHER_CALLS = {"HfArgumentParser", "LightningCLI", "add_subparsers", "set_defaults"}


class CommandLine(NamedTuple):
    """What is known of a script's command line.

    Attributes:
        is_open: Whether there may be options that could not be read.
        overrides: Whether it is ``name=value`` words.
        subcommands: Whether it has subcommands.
    """

    is_open: bool
    overrides: bool
    subcommands: bool


def find_parameters(
    tree: ast.Module, source: str, imports: tuple[str, ...]
) -> tuple[tuple[Parameter, ...], CommandLine]:
    """Find what a script takes.

    Args:
        tree: The script.
        source: Its text.
        imports: The modules that it imports.

    Returns:
        The parameters, and what is known of its command line.
    """
    visitor = _OptionVisitor(source)
    visitor.visit(tree)
    positions, reads_argv = find_positions(tree) if "argv" in source else ({}, False)
    roots = {name.partition(".")[0] for name in imports}
    parameters = {} if visitor.ignores_command_line else visitor.options
    if visitor.overrides:
        roots -= {"hydra"}
    is_open = visitor.unreadable or reads_argv or bool(roots & _OTHER_PARSERS)
    if visitor.parses and not visitor.builds:
        is_open = True  # the parser was made elsewhere
    for parameter in (*positions.values(), *outer_parameters(tree, source)):
        parameters.setdefault(parameter.name, parameter)
    return tuple(parameters.values()), CommandLine(
        is_open and not visitor.ignores_command_line, visitor.overrides, visitor.subcommands
    )


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


class _OptionVisitor(ast.NodeVisitor):
    """Gathers the options that a script declares to argparse and click.

    Attributes:
        options: The options by every name that they may be called by.
        builds: Whether a parser is made here.
        parses: Whether the command line is parsed.
        ignores_command_line: Whether only a list in the script is parsed (``parse_args([])``): no option arrives.
        unreadable: Whether there are options whose names cannot be read from the source.
        overrides: Whether Hydra or OmegaConf reads ``name=value`` words.
        subcommands: Whether a parser has parsers below it.
    """

    def __init__(self, source: str) -> None:
        self.options: dict[str, Parameter] = {}
        self.builds = self.parses = self.unreadable = self.overrides = self.subcommands = False
        self._source = source
        self._reads_command_line: list[bool] = []
        self._parsers: set[str] = set()
        self._above = False
        self._functions: set[str] = set()
        self._hydra: set[str] = set()
        self._places = 0

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
        decorators = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
        self.overrides |= any(dotted(d) in ("hydra.main", *self._hydra) for d in decorators)
        self._above = any(last_name(d) == "group" for d in decorators)  # click's
        self.subcommands |= self._above
        self.generic_visit(node)
        self._above = False

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "hydra":
            self._hydra |= {alias.asname or alias.name for alias in node.names if alias.name == "main"}

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name in PARSING:
            self._parse_call(node)
            self.visit(node.func)  # its arguments may name sys.argv, as the default does
            return
        if name == "add_argument":
            self._above = _owner(node) in self._parsers
            self._add_argument(node)
            self._above = False
        elif name in ("option", "Option") and any(_texts(node)):
            self._click_option(node)
        elif name in ("argument", "Argument") and any(_texts(node)):
            self._take_position(node, next(_texts(node)), {k.arg: k.value for k in node.keywords if k.arg})
        elif name == "ArgumentParser":
            self.builds = True
            self.unreadable |= any(keyword.arg == "parents" for keyword in node.keywords)
        elif name == "from_cli" and not node.args:
            self.overrides = True  # of OmegaConf
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
        texts = list(_texts(node))
        if len(texts) < len(node.args):
            self.unreadable = True
        flags = [flag for flag in texts if flag.startswith("-")]
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        if texts and not flags:
            self._take_position(node, texts[0], keywords)
        action = keywords.get("action")
        kind = action.value if isinstance(action, ast.Constant) else last_name(action)
        if not flags or kind in ("help", "version"):
            return
        dest, default = keywords.get("dest"), keywords.get("default")
        names = [dest.value] if isinstance(dest, ast.Constant) and isinstance(dest.value, str) else []
        if kind == "BooleanOptionalAction":
            self._take_pair(node, flags, [f"--no-{f[2:]}" for f in flags if f.startswith("--")], names, default)
            return
        if kind == "store_false":
            self._take_negated(node, _long(flags), names, default)
        binding = Binding.TRUTH if last_name(keywords.get("type")) == "bool" else _option(keywords)
        binding = Binding.SWITCH if kind in _SWITCHES else Binding.COUNT if kind == "count" else binding
        self._take(node, flags, [] if kind in _CONSTANTS else names, binding, default)

    def _take_position(self, node: ast.Call, name: str, keywords: Mapping[str, ast.expr]) -> None:
        """Take a word by its place; one that stands for several words ends what is known of places."""
        nargs = keywords.get("nargs")
        one = nargs is None or (isinstance(nargs, ast.Constant) and nargs.value in ("?", 1))
        self._places = self._places + 1 if one and self._places >= 0 else -1
        if self._places > 0:
            place = Parameter(name, Binding.POSITION, self._text(keywords.get("default")), node.lineno)
            self.options.setdefault(name, replace(place, position=self._places, above=self._above))

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
    return last_name(node.func)


def _owner(node: ast.Call) -> str:
    return last_name(node.func.value) if isinstance(node.func, ast.Attribute) else ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _texts(node: ast.Call) -> Iterator[str]:
    return (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))
