"""Where a script has plain values that a job can replace, and by which name each is called.

The one home of that rule: capturing a script lists them, and running it finds the same ones again.

* ``lr``: an assignment at top level, also of a tuple (``lr, epochs = 0.1, 5``);
* ``params.lr``: a key of a dict or namespace that is assigned there, ``params["lr"] = ...``, ``config.lr = ...``;
* ``Config.lr``: an attribute of a class; ``Net.hidden``: a default of its ``__init__``;
* ``train.lr``: a default of a function, or what the only call of it passes in its place;
* ``main.lr``: an assignment in a function; ``SVC.C``: an argument of a call (the two that ``inner_places`` finds).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

_CONTAINERS = frozenset(
    {"dict", "OrderedDict", "SimpleNamespace", "Namespace", "EasyDict", "edict", "Munch", "Box", "AttrDict"}
    | {"ConfigDict", "DictConfig", "DotDict", "create"}  # create: of OmegaConf
)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Place(NamedTuple):
    """A plain value in a script.

    Attributes:
        name: What it is called, such as ``params.lr``.
        kind: ``assignment``, ``key``, ``class``, ``default``, ``local`` or ``argument``.
        node: The value.
        parent: The node that has it,
        field: in this field,
        item: at this place of the field's list, -1 where it has none.
        branch: Whether it stands below an ``if``, a loop or the like, so that it may not be reached.
    """

    name: str
    kind: str
    node: ast.expr
    parent: Any
    field: str
    item: int = -1
    branch: bool = False

    def put(self, value: ast.expr) -> None:
        """Put another value in its place."""
        new = ast.fix_missing_locations(ast.copy_location(value, self.node))
        if self.item < 0:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.item] = new


def outer_places(tree: ast.Module) -> Iterator[Place]:
    """Yield the values at top level, of classes and of functions' defaults, in the order of the script."""
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for node, branch in statements(tree.body):
        match node:
            case ast.ClassDef():
                yield from _of_class(node, node.name, branch)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _defaults(node, node.name, branch)
            case _:
                yield from _assigned(node, "", "assignment", branch, classes)


def in_effect(tree: ast.Module, place: Place) -> Place:
    """Return the place that counts: of a function's default the argument of the only call, where that passes one.

    A class's are keys of what is made of it (``net.hidden`` beside ``Net.hidden``).
    """
    owner, _, argument = place.name.rpartition(".")
    if place.kind != "default" or not any(
        isinstance(n, _FUNCTIONS) and n.name == owner for n, _ in statements(tree.body)
    ):
        return place
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and last_name(n.func) == owner]
    if len(calls) == 1:
        for keyword in calls[0].keywords:
            if keyword.arg == argument and is_plain(keyword.value):
                return Place(place.name, "argument", keyword.value, keyword, "value")
    return place


def inner_places(tree: ast.Module) -> Iterator[Place]:
    """Yield the values in the bodies of functions, and the arguments of calls anywhere."""
    taken: set[int] = {id(place.node) for place in outer_places(tree)}
    for owner, function in functions(tree):
        for node, branch in statements(function.body):
            for place in _assigned(node, f"{owner}.", "local", branch, ()):
                taken.add(id(place.node))
                yield place
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and (name := last_name(call.func)):
            for keyword in call.keywords:
                if keyword.arg and is_plain(keyword.value) and id(keyword.value) not in taken:
                    yield Place(f"{name}.{keyword.arg}", "argument", keyword.value, keyword, "value")


def statements(body: list[ast.stmt], branch: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield statements with those below ``if``, loops, ``try`` and ``with``, and whether they may be skipped."""
    for node in body:
        yield node, branch
        if isinstance(node, _DEFINITIONS):
            continue
        certain = isinstance(node, (ast.With, ast.AsyncWith)) or is_main_guard(node)
        for part in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, part, []), branch or not certain)
        for inner in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from statements(inner.body, True)


def is_main_guard(node: ast.stmt) -> bool:
    """Whether a statement is ``if __name__ == "__main__":``."""
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()])):
            return True
    return False


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield the functions at top level and the methods of classes there, each with the name that its values bear."""
    for node, _ in statements(tree.body):
        if isinstance(node, _FUNCTIONS):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((node.name, inner) for inner in node.body if isinstance(inner, _FUNCTIONS))


def is_plain(node: ast.expr | None) -> bool:
    """Whether a node is a number, text, truth value, ``None``, or a list or tuple of such that is not empty."""
    match node:
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float())):
            return not isinstance(node.operand.value, bool)  # type: ignore[attr-defined]
        case ast.Constant(value=int() | float() | str() | None):
            return True
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return bool(items) and all(map(is_plain, items))
    return False


def last_name(node: ast.expr | None) -> str:
    """Return the name that a name or the end of a dotted path has, such as ``SVC`` of ``svm.SVC``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def dotted(node: ast.expr) -> str:
    """Return ``params.lr`` for ``params["lr"]`` and ``params.lr``; empty for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=key) | ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            before = dotted(value)
            return f"{before}.{key}" if before else ""
    return ""


def _assigned(node: ast.stmt, prefix: str, kind: str, branch: bool, classes: Collection[str]) -> Iterator[Place]:
    match node:
        case ast.Assign(targets=[target], value=value):
            yield from _bound(target, value, node, "value", -1, prefix, kind, branch, classes)
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            yield from _bound(target, value, node, "value", -1, prefix, kind, branch, classes)


def _bound(
    target: ast.expr,
    value: ast.expr,
    parent: Any,
    field: str,
    index: int,
    prefix: str,
    kind: str,
    branch: bool,
    classes: Collection[str],
) -> Iterator[Place]:
    if isinstance(target, (ast.Tuple, ast.List)):
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            for number, (one, its) in enumerate(zip(target.elts, value.elts, strict=True)):
                yield from _bound(one, its, value, "elts", number, prefix, kind, branch, classes)
        return
    name = dotted(target)
    if not name.strip("_") or name.startswith("__"):
        return
    if prefix and name.startswith("self."):
        name = name.removeprefix("self.")
    if is_plain(value):
        own = kind if isinstance(target, ast.Name) or prefix else "key"
        yield Place(f"{prefix}{name}", own, value, parent, field, index, branch)
    else:
        yield from _keys(f"{prefix}{name}", value, kind if prefix else "key", branch, classes)


def _keys(name: str, value: ast.expr, kind: str, branch: bool, classes: Collection[str]) -> Iterator[Place]:
    """Yield the plain values of a dict, or of a call that makes a namespace."""
    match value:
        case ast.Dict(keys=keys, values=values):
            for index, (key, its) in enumerate(zip(keys, values, strict=True)):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield from _item(f"{name}.{key.value}", its, value, "values", index, kind, branch, classes)
        case ast.Call(func=func, args=args, keywords=keywords) if last_name(func) in {*_CONTAINERS, *classes}:
            for argument in args:
                if isinstance(argument, ast.Dict):
                    yield from _keys(name, argument, kind, branch, classes)
            for keyword in keywords:
                if keyword.arg is None:
                    yield from _keys(name, keyword.value, kind, branch, classes)
                else:
                    yield from _item(
                        f"{name}.{keyword.arg}", keyword.value, keyword, "value", -1, kind, branch, classes
                    )


def _item(
    name: str,
    value: ast.expr,
    parent: Any,
    field: str,
    index: int,
    kind: str,
    branch: bool,
    classes: Collection[str],
) -> Iterator[Place]:
    if is_plain(value):
        yield Place(name, kind, value, parent, field, index, branch)
    else:
        yield from _keys(name, value, kind, branch, classes)


def _of_class(node: ast.ClassDef, name: str, branch: bool) -> Iterator[Place]:
    for inner in node.body:
        match inner:
            case ast.ClassDef():
                yield from _of_class(inner, f"{name}.{inner.name}", branch)
            case ast.AnnAssign(target=ast.Name(id=key), value=ast.Call(func=func, keywords=keywords)) if last_name(
                func
            ) in ("field", "Field"):
                for keyword in keywords:
                    if keyword.arg == "default" and is_plain(keyword.value):
                        yield Place(f"{name}.{key}", "class", keyword.value, keyword, "value", -1, branch)
            case ast.FunctionDef(name="__init__"):
                yield from _defaults(inner, name, branch)
            case ast.Assign() | ast.AnnAssign():
                yield from _assigned(inner, f"{name}.", "class", branch, ())


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, branch: bool) -> Iterator[Place]:
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first = len(positional) - len(arguments.defaults)
    for index, value in enumerate(arguments.defaults):
        if is_plain(value):
            yield Place(
                f"{name}.{positional[first + index].arg}", "default", value, arguments, "defaults", index, branch
            )
    for index, default in enumerate(arguments.kw_defaults):
        if default is not None and is_plain(default):
            yield Place(
                f"{name}.{arguments.kwonlyargs[index].arg}", "default", default, arguments, "kw_defaults", index, branch
            )
