"""Domains as they are typed: read from the syntax tree, never evaluated."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

from kaptain_magics.core.domains import DOMAINS, AnyDomain, Condition, choices
from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import DomainError
from kaptain_magics.magics.line_errors import usage_error
from kaptain_magics.runtime.places import dotted
from kaptain_magics.runtime.text_values import shorten

_LINE = re.compile(r"\s*(-{0,2}[A-Za-z_][\w.-]*)\s*=\s*(.*)", re.DOTALL)
_LONGEST = 10_000  # characters of a domain: hundreds of values, more than a person writes
_FORMS = {
    "Double": "Double(1e-4, 1e-1, log=True)",
    "Integer": "Integer(1, 10, step=1)",
    "Discrete": "Discrete([16, 32, 64])",
    "Categorical": "Categorical(['rbf', 'linear'])",
}


def read_domain(name: str, text: str) -> AnyDomain:
    """Read the domain of a hyperparameter.

    Args:
        name: The hyperparameter, for messages.
        text: Such as ``Double(1e-4, 1e-3, log=True)``, or ``Double(0.1, 1) if kernel == 'rbf'``.

    Raises:
        DomainError: It is not a domain, or one that cannot be searched.
    """
    call, conditions = _parse(name, text)
    kind = call.func.id if isinstance(call.func, ast.Name) else ast.unparse(call.func)
    if kind not in DOMAINS:
        hint = did_you_mean(kind, DOMAINS) or "one of " + ", ".join(DOMAINS)
        raise DomainError(f"{name}: unknown domain {kind!r}", hint)
    cls = DOMAINS[kind]
    fields = tuple(field for field in cls.__struct_fields__ if field != "conditions")
    if len(call.args) > len(fields) or any(isinstance(a, ast.Starred) for a in call.args):
        raise DomainError(f"{name}: {kind} takes {', '.join(fields)}", f"write for example {_FORMS[kind]}")
    values = {field: _literal(name, node) for field, node in zip(fields, call.args, strict=False)}
    for keyword in call.keywords:
        if keyword.arg not in fields:
            hint = did_you_mean(keyword.arg or "", fields) or f"it takes {', '.join(fields)}"
            raise DomainError(f"{name}: {kind} has no {keyword.arg or '**'}", hint)
        if keyword.arg in values:
            raise DomainError(f"{name}: {kind} has two values for {keyword.arg}", "give it once")
        values[keyword.arg] = _literal(name, keyword.value)
    try:
        if not isinstance(values.get("log", False), bool):
            raise DomainError(f"{kind}: log must be True or False", f"write for example {_FORMS[kind]}")
        return cls(**values, conditions=conditions)  # type: ignore[arg-type]
    except DomainError as error:
        raise DomainError(f"{name}: {error.message}", error.hint) from None
    except (TypeError, ValueError, OverflowError):
        needed = [f for f in fields if f in ("min", "max", "values")]
        raise DomainError(f"{name}: {kind} needs {' and '.join(needed)}", f"write for example {_FORMS[kind]}") from None


def read_cell(cell: str) -> dict[str, AnyDomain]:
    """Read the cell form: one ``name = Domain(...)`` a line, with comments.

    Raises:
        UsageError: A line is no such assignment, or a name is repeated.
        DomainError: A domain is wrong.
    """
    domains: dict[str, AnyDomain] = {}
    for number, text in _statements(cell):
        match = _LINE.fullmatch(text)
        if match is None:
            raise usage_error(
                f"line {number} of the cell: {text.strip()[:60]!r}", "write name = Domain(...), one a line"
            )
        name, domain = match[1], match[2]
        if name in domains:
            raise usage_error(f"line {number} of the cell: {name} is given twice", "give it once")
        domains[name] = read_domain(name, domain.rstrip().removesuffix(",").rstrip())
    if not domains:
        raise usage_error("the cell has no domains", "write name = Domain(...), one a line")
    return domains


def _statements(cell: str) -> list[tuple[int, str]]:
    """Return the statements of a cell with their lines: one a line, longer where a bracket is open; no comments."""
    statements: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, line in enumerate(cell.splitlines(), start=1):
        bare = _without_comment(line)
        start = start or number
        pending = f"{pending}\n{bare}" if pending else bare
        if _open_brackets(pending) <= 0:
            if pending.strip():
                statements.append((start, pending.strip()))
            pending, start = "", 0
    if pending.strip():
        statements.append((start, pending.strip()))
    return statements


_QUOTED = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""


def _without_comment(line: str) -> str:
    return re.sub(rf"({_QUOTED})|#.*", lambda match: match[1] or "", line)


def _open_brackets(text: str) -> int:
    bare = re.sub(_QUOTED, "", text)
    return sum(bare.count(c) for c in "([{") - sum(bare.count(c) for c in ")]}")


def _parse(name: str, text: str) -> tuple[ast.Call, tuple[Condition, ...]]:
    """Return the call that a text is, and the conditions behind it."""
    example = "write for example " + _FORMS["Double"]
    try:
        if len(text) > _LONGEST:
            raise DomainError(f"{name}: the domain is {len(text)} characters long", "name fewer values")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            node, guarded = _expression(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise DomainError(f"{name}: {shorten(text)} cannot be read", example) from None
    conditions: tuple[Condition, ...] = ()
    if isinstance(node, ast.IfExp):
        if not guarded:
            raise DomainError(
                f"{name}: there is no else", "where the condition does not hold, the script's own value is used"
            )
        conditions = tuple(_conditions(name, node.test))
        node = node.body
    if isinstance(node, ast.Call):
        return node, conditions
    if isinstance(node, ast.Name) and node.id in DOMAINS:
        raise DomainError(f"{name}: {node.id} needs its values", f"write for example {_FORMS[node.id]}")
    if isinstance(node, (ast.Constant, ast.UnaryOp)):
        raise DomainError(
            f"{name}: {shorten(text)} is a value, not a domain", f"Discrete([{shorten(text)}]) searches just this value"
        )
    raise DomainError(f"{name}: {shorten(text)} is not a domain", example)


def _expression(text: str) -> tuple[ast.expr, bool]:
    """Return an expression, and whether it is one with an ``if`` and without an ``else``, which is none of Python's."""
    try:
        return ast.parse(text, mode="eval").body, False
    except SyntaxError:
        if not re.search(r"\bif\b", text):
            raise
        return ast.parse(f"{text} else None", mode="eval").body, True


_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}


def _conditions(name: str, test: ast.expr) -> Iterator[Condition]:
    """Yield the conditions that stand behind ``if``, joined by ``and``."""
    match test:
        case ast.BoolOp(op=ast.And(), values=parts):
            for part in parts:
                yield from _conditions(name, part)
            return
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _OPERATORS:
            word, value = _OPERATORS[type(operator)], _literal(name, right)
            other, several = dotted(left), "in" in word
            if other and (isinstance(value, tuple) or not several):
                yield Condition(other, word, choices(value if several else (value,)))
                return
        case ast.Name(id=other):
            yield Condition(other, "==", ("true",))
            return
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id=other)):
            yield Condition(other, "==", ("false",))
            return
    raise DomainError(
        f"{name}: {shorten(ast.unparse(test))} is not a condition",
        "write OTHER == value, OTHER in (value, value), OTHER > number, and join several with and",
    )


def _literal(name: str, node: ast.expr) -> object:
    """Return the number, text, truth value or list that a node spells."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=int() | float() as value)):
            return -value if isinstance(node.op, ast.USub) else value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return tuple(_literal(name, item) for item in items)
        case ast.Name(id=word):
            raise DomainError(f"{name}: {word} is a name", f"write the value itself, or '{word}' for a text")
    shown = shorten(ast.unparse(node))
    raise DomainError(
        f"{name}: {shown} is not a plain value", "write numbers and texts as they are, without arithmetic"
    )
