"""What a script imports at its top level: a warm worker does it ahead."""

from __future__ import annotations

import ast
import sys


def import_statements(source: str) -> list[str]:
    """Return the top-level import statements of a script: what a warm worker does ahead of it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    statements = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            statements += [ast.unparse(ast.Import([name])) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            statements.append(ast.unparse(node))
    return statements


def is_standard(statement: str) -> bool:
    """Whether a statement imports from the standard library: so little that all such scripts share a worker."""
    return statement.split()[1].partition(".")[0] in sys.stdlib_module_names


def imported_packages(source: str) -> list[str]:
    """Return the packages beyond the standard library that a script imports at its top level."""
    statements = [s for s in import_statements(source) if not is_standard(s)]
    return list(dict.fromkeys(statement.split()[1].partition(".")[0] for statement in statements))
