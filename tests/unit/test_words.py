"""Messages and documents are plain English and names are the field's words: what was retired stays away.

ARCHITECTURE.md has the glossary. A word is retired here when it was found in a message or a name where the library,
Kubernetes or the reader's shell has a better one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kaptain_magics"
DOCUMENTS = ("*.md", ".ci/cluster/README.md", "notebooks/*.ipynb")

MESSAGES = {  # expression: what to write instead
    r"\bmend\w*": "fix",
    r"\banew\b": "again",
    r"\bfor want of\b": "without, out of",
    r"\bcannot be (kept|had)\b": "say which values are allowed",
    r"(?<!there )\bis (no (?!longer)|none\b)": "is not a",
    r"\blast word": "final state, last error",
    r"\bstands? there\b": "duplicate, is already there",
    r"\bthis machine's own\b": "of this machine",
    r"\btold\b": "was asked to, was reported",
    r"(?<!cannot )(?<!ask/)\btells? (?!apart)": "says, lists, shows",
    r"\bis used up\b": "is exceeded",
    r"\bis away\b": "cannot be reached",
    r"\bat hand\b": "cached, available",
    r"\bmakes? it so\b": "does this",
    r"\bbegun\b": "started",
    r"\bhears?\b|\bheard\b": "receives",
    r"\bspeaks?\b|\bspoken\b": "supports, connects to",
    r"\bbears?\b": "has, tolerates",
    r"\bwhoever\b|\bsomebody\b|\bnobody\b": "name who it is",
    r"\bwants?\b": "needs, requires",
    r"\binto use\b": "activated",
    r"\bsay otherwise\b|\bdoes not end where it says\b": "override, malformed",
}
CLASSES = {
    *(
        "Asked",
        "Book",
        "Gate",
        "Gentle",
        "Insides",
        "Inside",
        "Plannable",
        "Screen",
        "Surroundings",
        "Teller",
        "Told",
        "Wish",
    ),
    *("ClusterKeeper", "Housekeeper", "Housekeeping", "Outlet", "Workshop"),
}
NAMES = {
    *("about", "anew", "appearing", "asked", "at_hand", "begun", "deaf", "found", "heard", "last_words"),
    *("look_around", "lose_patience", "made", "mend", "mine", "said", "there", "told", "told_by"),
    *("told_signature", "wanted", "ways", "welcome", "where"),
}


def test_messages_have_no_retired_words() -> None:
    bad = [
        f"{place}: {' '.join(text.split())!r}: not {match[0]!r} but: {better}"
        for place, text in _messages()
        for pattern, better in MESSAGES.items()
        if (match := re.search(pattern, text, re.IGNORECASE))
    ]
    assert not bad, "\n".join(bad)


def test_documents_have_no_retired_words() -> None:
    bad = [
        f"{place}: {text}: not {match[0]!r} but: {better}"
        for place, text in _lines()
        for pattern, better in MESSAGES.items()
        if (match := re.search(pattern, text, re.IGNORECASE))
    ]
    assert not bad, "\n".join(bad)


def test_classes_and_names_are_the_fields_words() -> None:
    bad = [
        f"{place}: {name}" for place, name, is_class in _names() if name.strip("_") in (CLASSES if is_class else NAMES)
    ]
    assert not bad, "\n".join(bad)


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))


def _messages() -> Iterator[tuple[str, str]]:
    """Yield the texts with a blank that are no docstrings, with their places; a value in one counts as ``{}``."""
    for file, tree in _trees():
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        parts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            match node:
                case ast.JoinedStr(values=values):
                    text = "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in values)
                case ast.Constant(value=str(text)) if id(node) not in parts:
                    pass
                case _:
                    continue
            if " " in text.strip():
                yield f"{file}:{node.lineno}", text


def _lines() -> Iterator[tuple[str, str]]:
    """Yield the lines of the documents, without code; what a notebook's cells print is not looked at."""
    for path in (path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))):
        text = path.read_text("utf-8")
        if path.suffix == ".ipynb":
            cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
            text = "\n".join("".join(cell["source"]) for cell in cells)
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)
        for number, line in enumerate(re.sub(r"`[^`\n]*`", "``", text).splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", line


def _names() -> Iterator[tuple[str, str, bool]]:
    """Yield what the package names: classes, functions, parameters, variables and attributes."""
    for file, tree in _trees():
        for node in ast.walk(tree):
            match node:
                case ast.ClassDef(name=name):
                    yield f"{file}:{node.lineno}", name, True
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                    yield f"{file}:{node.lineno}", name, False
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    yield f"{file}:{node.lineno}", name, False
