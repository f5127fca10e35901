"""Names that a script uses and never defines: found in its syntax tree, in the order in which it runs.

Follows Python's scopes (functions, classes, comprehensions, ``global``, ``del``). Code at top level needs a name before
the line that uses it; code in functions may use every name that the script defines anywhere at top level.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple

_OPAQUE = {"exec", "globals", "__builtins__"}

NOTEBOOK_ONLY = frozenset({"get_ipython"})
"""Names that IPython adds to the builtins and a script's process lacks; ``display`` it has."""

KNOWN = frozenset(
    (set(dir(builtins)) - NOTEBOOK_ONLY - {"__IPYTHON__"})
    | {"copyright", "credits", "display", "exit", "help", "license", "quit", "WindowsError"}
    | {"__annotations__", "__builtins__", "__cached__", "__class__", "__doc__", "__file__", "__loader__", "__name__"}
    | {"__package__", "__spec__"}
)


def free_names(tree: ast.Module, injected: Collection[str] = ()) -> dict[str, int]:
    """Find the names that would be a ``NameError``.

    Args:
        tree: The script.
        injected: Names that are put into the script from outside.

    Returns:
        The line of the first use of every such name, in order; nothing where it cannot be known (star imports,
        ``exec``, ``globals()``).
    """
    if _opaque(tree):
        return {}
    finder = _Finder(tree, injected)
    for statement in tree.body:
        finder.visit(statement)
        if isinstance(statement, ast.Delete):
            finder.defined -= {t.id for t in statement.targets if isinstance(t, ast.Name)}
    return dict(sorted(finder.missing.items(), key=lambda item: item[1]))


def top_level_names(tree: ast.Module) -> set[str] | None:
    """Return the names that the script binds at top level; ``None`` where it cannot be known."""
    return None if _opaque(tree) else _bound(tree.body) | _declared_global(tree)


def _opaque(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=[ast.alias(name="*")]) | ast.Import(names=[ast.alias(name="builtins")]):
                return True
            case ast.Name(id=name) if name in _OPAQUE:
                return True
            case ast.Call(func=ast.Name(id="vars" | "locals"), args=[], keywords=[]):
                return True
    return False


def _declared_global(tree: ast.AST) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that these nodes bind in their own scope."""
    names: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                names |= {n.target.id for n in ast.walk(node) if isinstance(n, ast.NamedExpr)}
                continue
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
        stack.extend(ast.iter_child_nodes(node))
    return names


def _arguments(arguments: ast.arguments) -> Iterator[ast.arg]:
    yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (a for a in (arguments.vararg, arguments.kwarg) if a is not None)


class _Scope(NamedTuple):
    """A scope's own names; those of a class are seen by its own statements only."""

    names: set[str]
    kind: Literal["function", "class", "comprehension"] = "function"


class _Finder(ast.NodeVisitor):
    """Walks a script in the order in which it runs.

    ``defined`` grows with the top-level statements; ``anywhere`` is what functions will find when they are called.
    """

    def __init__(self, tree: ast.Module, injected: Collection[str]) -> None:
        self.defined = {*KNOWN, *injected, *_declared_global(tree)}
        self.anywhere = self.defined | _bound(tree.body)
        self.missing: dict[str, int] = {}
        self._scopes: list[_Scope] = []
        self._called_later = False
        self._eager_annotations = sys.version_info < (3, 14) and not any(
            isinstance(n, ast.ImportFrom) and n.module == "__future__" and any(a.name == "annotations" for a in n.names)
            for n in tree.body
        )

    # ---- names ---------------------------------------------------------------------------------------------------

    def _use(self, name: str, line: int) -> None:
        for depth, scope in enumerate(reversed(self._scopes)):
            if name in scope.names and (scope.kind != "class" or depth == 0):
                return
        if name not in (self.anywhere if self._called_later else self.defined):
            self.missing.setdefault(name, line)

    def _bind(self, *names: str) -> None:
        if not self._scopes:
            self.defined.update(names)
        elif self._scopes[-1].kind == "class":
            self._scopes[-1].names.update(names)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._bind(node.id)
        else:
            self._use(node.id, node.lineno)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        if all(scope.kind == "comprehension" for scope in self._scopes):
            self.defined.add(node.target.id)

    # ---- statements whose parts run in another order than they are written ---------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._use(node.target.id, node.lineno)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        in_function = bool(self._scopes) and self._scopes[-1].kind != "class"
        if not in_function:
            self._annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._loop(node)
        for part in (node.target, *node.body, *node.orelse):
            self.visit(part)

    visit_AsyncFor = visit_For  # noqa: N815

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._loop(node)
        for part in (*node.body, *node.orelse):
            self.visit(part)

    def _loop(self, node: ast.AST) -> None:
        """A later round may use what an earlier one bound further down."""
        self._bind(*_bound([node]))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._bind(*_bound([node]))

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        before = dict(self.missing)
        for statement in node.body:
            self.visit(statement)
        if any(_catches_name_error(handler) for handler in node.handlers):
            self.missing = before
        for part in (*node.handlers, *node.orelse, *node.finalbody):
            self.visit(part)

    visit_TryStar = visit_Try  # noqa: N815

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name is not None:
            self._bind(node.name)
        for part in node.body:
            self.visit(part)

    def visit_match_case(self, node: ast.match_case) -> None:
        self._bind(*_bound([node.pattern]))
        self.generic_visit(node)

    # ---- scopes --------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        with_types = self._type_parameters(node)
        for argument in _arguments(node.args):
            self._annotation(argument.annotation)
        self._annotation(node.returns)
        self._function(node.args, node.body)
        del self._scopes[len(self._scopes) - with_types :]
        self._bind(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def _function(self, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        for default in (*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)):
            self.visit(default)
        own = {a.arg for a in _arguments(arguments)} | _bound(body)
        elsewhere = {n for s in body for n in _declared_global(s)}
        self._within(_Scope(own - elsewhere), body, called_later=True)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        with_types = self._type_parameters(node)
        for part in (*node.bases, *node.keywords):
            self.visit(part)
        self._within(_Scope({"__module__", "__qualname__"}, "class"), node.body, self._called_later)
        del self._scopes[len(self._scopes) - with_types :]
        self._bind(node.name)

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self.visit(node.name)  # type: ignore[attr-defined]
        with_types = self._type_parameters(node)
        self._within(_Scope(set()), [node.value], called_later=True)  # type: ignore[attr-defined]
        del self._scopes[len(self._scopes) - with_types :]

    def _type_parameters(self, node: ast.AST) -> int:
        """Open the scope of ``[T]`` where there is one; returns how many scopes were opened."""
        parameters = getattr(node, "type_params", [])
        if parameters:
            self._scopes.append(_Scope({p.name for p in parameters}))
        return 1 if parameters else 0

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        first, *others = node.generators
        self.visit(first.iter)  # this one runs outside
        own = _bound(g.target for g in node.generators)
        parts: list[ast.AST] = [*first.ifs]
        for generator in others:
            parts += [generator.iter, *generator.ifs]
        parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._within(_Scope(own, "comprehension"), parts, self._called_later or isinstance(node, ast.GeneratorExp))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    def _within(self, scope: _Scope, parts: Iterable[ast.AST], called_later: bool) -> None:
        outside = self._called_later
        self._scopes.append(scope)
        self._called_later = called_later
        for part in parts:
            self.visit(part)
        self._scopes.pop()
        self._called_later = outside

    def _annotation(self, node: ast.expr | None) -> None:
        if node is not None and self._eager_annotations:
            self.visit(node)


def _catches_name_error(handler: ast.ExceptHandler) -> bool:
    return handler.type is not None and any(
        isinstance(node, ast.Name) and node.id == "NameError" for node in ast.walk(handler.type)
    )
