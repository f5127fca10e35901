"""Words of the command line that a script takes by their place: ``lr = float(sys.argv[1])``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kaptain_magics.core.scripts import Binding, Parameter
from kaptain_magics.runtime.places import last_name

PARSING = {"parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args"}
"""Methods that parse a command line."""


def find_positions(tree: ast.Module) -> tuple[dict[str, Parameter], bool]:
    """Find the words that a script takes from ``sys.argv`` itself.

    Returns:
        The parameters by name (``argv2`` where the script has no name for it), and whether it reads ``sys.argv`` in
        other ways too, so that not all that it takes is known.
    """
    finder = _Finder(tree)
    finder.visit(tree)
    return finder.parameters, finder.others


class _Finder(ast.NodeVisitor):
    def __init__(self, tree: ast.Module) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.others = False
        self._imported = any(
            isinstance(n, ast.ImportFrom) and n.module == "sys" and any(a.name == "argv" for a in n.names)
            for n in ast.walk(tree)
        )

    def visit_Assign(self, node: ast.Assign) -> None:
        self._bind(node.targets[0] if len(node.targets) == 1 else None, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._bind(node.target, node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        self._bind(ast.Name(node.arg) if node.arg else None, node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        index = self._index(node)
        if index is None:
            self.generic_visit(node)
        elif index:
            self._take("", index, node.lineno)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.others |= self._is_argv(node)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.others |= self._is_argv(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = last_name(node.func)
        if name == "len" or name in PARSING:
            return  # to count the words is not to take them; a parser's are its options
        self.generic_visit(node)

    def _bind(self, target: ast.expr | None, value: ast.expr) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
                for one, its in zip(target.elts, value.elts, strict=True):
                    self._bind(one, its)
                return
            first = self._first(value)
            names = [t.id for t in target.elts if isinstance(t, ast.Name)]
            if first is not None and len(names) == len(target.elts):
                for index, name in enumerate(names, start=first):
                    if index:
                        self._take(name, index, value.lineno)
                return
        indexes = [i for n in ast.walk(value) if isinstance(n, ast.Subscript) and (i := self._index(n))]
        if isinstance(target, ast.Name) and len(indexes) == 1:
            self._take(target.id, indexes[0], value.lineno)
        self.visit(value)

    def _take(self, name: str, index: int, line: int) -> None:
        if any(p.position == index for p in self.parameters.values()):
            return
        name = name if name and name not in self.parameters else f"argv{index}"
        self.parameters[name] = Parameter(name, Binding.POSITION, line=line, position=index)

    def _first(self, node: ast.expr) -> int | None:
        """Return the place of the first word of ``sys.argv``, ``sys.argv[1:]`` or ``map(float, sys.argv[1:])``."""
        match node:
            case ast.Call(func=ast.Name(id="map"), args=[_, inner]):
                return self._first(inner)
            case (
                ast.ListComp(generators=[ast.comprehension(iter=inner)])
                | ast.GeneratorExp(generators=[ast.comprehension(iter=inner)])
            ):
                return self._first(inner)
            case ast.Subscript(value=value, slice=ast.Slice(lower=ast.Constant(value=int(lower)), step=None)):
                return lower if self._is_argv(value) else None
        return 0 if self._is_argv(node) else None

    def _index(self, node: ast.Subscript) -> int | None:
        match node.slice:
            case ast.Constant(value=int(index)) if self._is_argv(node.value):
                return index
        return None

    def _is_argv(self, node: ast.expr) -> bool:
        match node:
            case ast.Attribute(attr="argv", value=value, ctx=ast.Load()):
                return last_name(value) == "sys"
            case ast.Name(id="argv", ctx=ast.Load()):
                return self._imported
        return False


def given_in_order(parameters: list[Parameter], given: set[str]) -> Iterator[tuple[Parameter, Parameter]]:
    """Yield the parameters that are given while one before them is not, each with that one."""
    missing: Parameter | None = None
    for parameter in sorted(parameters, key=lambda p: p.position):
        if parameter.name not in given:
            missing = missing or parameter
        elif missing is not None:
            yield parameter, missing
