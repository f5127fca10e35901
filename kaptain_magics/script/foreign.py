"""Lines that only IPython understands (``!pip``, ``%magic``, ``name?``): left out, or found with what to write instead.

A training script runs in plain Python. Such a line never parses there, so it is looked for only after a syntax error.
What a run does by itself (figures, its time) is left out; what changes the result is refused.
"""

from __future__ import annotations

import io
import re
import shlex
import tokenize

_CANDIDATE = re.compile(r"^\s*(?:[!%?]|[\w.]+(?:\s*,\s*[\w.]+)*\s*=\s*[!%]|[%\w.*]+\?{1,2}\s*(?:#.*)?$)")
_ASSIGNED = re.compile(r"^\s*([\w., ]+?)\s*=\s*([!%].*)$")
_PIP = re.compile(
    r"^[!%]\s*(?:\S*python[\d.]*\s+-m\s+|\{sys\.executable\}\s+-m\s+|uv\s+)?(?:pip3?|conda|mamba)\s+install\s+(.+)$"
)
_ADVICE = {  # magic: what to do instead
    "env": "write --env NAME=value on the magic's line",
    "set_env": "write --env NAME=value on the magic's line",
    "timeit": "remove it, the run's time is shown anyway",
    "cd": "remove it and name what the script reads with --files",
    "run": "import the other file and name it with --files",
    "writefile": "write the file in a cell of its own and name it with --files",
    "load_ext": "remove it, a training script has no extensions",
    "kaptain_train": "start the other run in a cell of its own",
    "kaptain_tune": "tune in a cell of its own",
    "kaptain_deploy": "deploy in a cell of its own",
}


_TIME = "the run's time is shown anyway"
_NEEDLESS = {  # magic: why it is not needed
    "matplotlib": "figures are shown without it",
    "config InlineBackend": "figures are shown as PNG",
    "time": _TIME,
    "load_ext autoreload": "a run imports everything again",
    "autoreload": "a run imports everything again",
}
_DROPPED = re.compile(
    r"^(?P<indent>\s*)%{1,2}(?P<magic>matplotlib|config\s+InlineBackend|time|load_ext\s+autoreload|autoreload)"
    r"(?=[\s.]|$)(?P<rest>.*)$"
)


def without_needless(source: str) -> tuple[str, tuple[str, ...]]:
    """Leave out the lines of IPython's that a run does not need, such as ``%matplotlib inline``.

    Args:
        source: A script that does not parse.

    Returns:
        The script with as many lines as before, and a sentence for each that was left out.
    """
    lines = source.splitlines(keepends=True)
    sentences = []
    for number, line in enumerate(lines):
        match = _DROPPED.match(line)
        if match is None or not _at_statement_start(lines[:number]):
            continue
        magic = " ".join(match["magic"].split())
        is_cell = line.lstrip().startswith("%%")
        if is_cell and magic != "time":
            continue
        kept = match["rest"].strip() if magic == "time" and not is_cell else ""
        end = line[len(line.rstrip("\r\n")) :]
        left = f"# {line.strip()}" if not match["indent"] else f"pass  # {line.strip()}"
        lines[number] = f"{match['indent']}{kept or left}{end}"
        sentences.append(f"Line {number + 1} without {'%%' if is_cell else '%'}{magic}: {_NEEDLESS[magic]}.")
    return "".join(lines), tuple(sentences)


def foreign_line(source: str) -> tuple[int, str, str] | None:
    """Find the first line that is IPython's.

    Args:
        source: A script that does not parse.

    Returns:
        Its number (from 1), the line without its indent, and what to write instead; ``None`` where there is none.
    """
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if _CANDIDATE.match(line) and _at_statement_start(lines[: number - 1]):
            return number, line.strip(), _advice(line.strip())
    return None


def _at_statement_start(before: list[str]) -> bool:
    """Whether the lines before leave no bracket, text or continued line open."""
    if before and before[-1].rstrip("\r\n").endswith("\\"):
        return False
    try:
        for _ in tokenize.generate_tokens(io.StringIO("".join(before)).readline):
            pass
    except (tokenize.TokenError, SyntaxError):
        return False
    return True


def _advice(line: str) -> str:
    installs = _PIP.match(line)
    if installs:
        return _install_advice(installs[1])
    assigned = _ASSIGNED.match(line)
    name, command = (assigned[1], assigned[2]) if assigned else ("", line)
    if command.startswith("!"):
        text = command.lstrip("! ")
        if name:
            return f"write {name} = subprocess.run({text!r}, shell=True, capture_output=True, text=True).stdout"
        return f"write subprocess.run({text!r}, shell=True, check=True)"
    if command.startswith("%"):
        word = re.match(r"%+\s*(\w*)", command)
        magic = word[1] if word else ""
        fallback = "a cell has one %% line, its first" if command.startswith("%%") else "move it to a cell of its own"
        return _ADVICE.get(magic, fallback)
    return "ask for help in a cell of its own"


def _install_advice(words: str) -> str:
    try:
        parts = shlex.split(words, comments=True)
    except ValueError:
        parts = words.split()
    if "-r" in parts[:-1]:
        return f"write --requirements {parts[parts.index('-r') + 1]} on the magic's line"
    packages = ",".join(p for p in parts if not p.startswith("-")) or "NAME"
    quoted = f'"{packages}"' if re.search(r"[<>\s;]", packages) else packages
    return f"write --requirements {quoted} on the magic's line"
