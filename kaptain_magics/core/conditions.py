"""Conditions on named values, such as ``accuracy > 0.9 and gamma < 0.01``, read from the syntax tree, not evaluated."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
_LITERALS = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.UnaryOp)
_QUOTED = re.compile(r"`([^`]+)`")
_HOW = "write for example accuracy > 0.9 and gamma < 0.01; a name with other characters between backquotes"


class Condition:
    """A condition: comparisons of names with numbers and texts, joined by ``and``, ``or`` and ``not``.

    Args:
        text: The condition; a name that Python cannot spell, such as ``val-loss``, stands between backquotes.

    Raises:
        ValueError: It is something else; the text says what to write.
    """

    def __init__(self, text: str) -> None:
        quoted: list[str] = []

        def stand_in(match: re.Match[str]) -> str:
            quoted.append(match[1])
            return f"_quoted_{len(quoted) - 1}"

        try:
            self._tree = ast.parse(_QUOTED.sub(stand_in, text).strip(), mode="eval").body
        except (SyntaxError, ValueError):
            raise ValueError(_HOW) from None
        self._quoted = {f"_quoted_{i}": name for i, name in enumerate(quoted)}
        self.text = text
        self.names = frozenset(self._names(self._tree))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values; a comparison with a value that is missing, or of another kind, is not."""
        return self._test(self._tree, values)

    def _names(self, node: ast.expr) -> Iterator[str]:
        """Yield the names that it speaks of, and refuse what is no condition."""
        match node:
            case ast.BoolOp(values=parts):
                for part in parts:
                    yield from self._names(part)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield from self._names(operand)
            case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
                for side in (left, *comparators):
                    name = self._name(side)
                    if name:
                        yield name
                    else:
                        _literal(side)
            case _:
                raise ValueError(_HOW)

    def _name(self, node: ast.expr) -> str:
        """Return the name that a side of a comparison is, such as ``params.depth``; empty where it is none."""
        if isinstance(node, ast.Name):
            return self._quoted.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (before := self._name(node.value)):
            return f"{before}.{node.attr}"
        return ""

    def _test(self, node: ast.expr, values: Mapping[str, Any]) -> bool:
        match node:
            case ast.BoolOp(op=op, values=parts):
                tests = (self._test(part, values) for part in parts)
                return all(tests) if isinstance(op, ast.And) else any(tests)
            case ast.UnaryOp(operand=operand):
                return not self._test(operand, values)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [self._value(side, values) for side in (left, *comparators)]
                return all(_compare(op, *pair) for op, *pair in zip(ops, sides, sides[1:], strict=False))
        return False

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        name = self._name(node)
        return values.get(name) if name else _literal(node)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, _LITERALS):
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            pass
    raise ValueError(_HOW)


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, str) != isinstance(right, str) and isinstance(op, ast.Eq | ast.NotEq):
        left, right = str(left), str(right)  # True and 'True', 3 and '3' are the same words on a line
    try:
        return bool(_COMPARE[type(op)](left, right))
    except TypeError:
        return False
