"""Tab in a line: options, verbs, models, runs, endpoints, variables, files, domains, from the commands' tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from kaptain_magics.magics.grammar import Command, Option
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.magics.verbs import VERBS

if TYPE_CHECKING:
    from kaptain_magics.magics.session import Session
    from kaptain_magics.model import Workspace

_LINE = r"(?s)\s*(?:[\w.]+\s*=\s*)?%%?(kaptain\w*)\s+(.*)"
_TUNE_CELL = r"\s*%%kaptain_tune\b"
_COMMANDS = {"kaptain_train": TRAIN, "kaptain_tune": TUNE, "kaptain_deploy": DEPLOY}
_DOMAINS = ("Double(", "Integer(", "Discrete([", "Categorical([")
_RUNS = 50  # runs that are offered, the newest ones; a longer list helps nobody


class Completion:
    """Completes the lines of the magics.

    Args:
        session: The notebook's variables.
        workspace: Opens the workspace under the settings of the moment.
    """

    def __init__(self, session: Session, workspace: Callable[[], Workspace]) -> None:
        self._session, self._workspace = session, workspace

    @context_matcher(identifier="kaptain_magics")  # type: ignore[untyped-decorator]
    def complete(self, context: CompletionContext) -> Any:
        """Return what fits at the cursor; other cells and lines are left to IPython."""
        try:
            offers, fragment = self._complete(context)
        except Exception:  # Tab must never raise: an unreadable store simply offers nothing
            offers, fragment = [], ""
        fitting = [
            SimpleCompletion(text, type="kaptain") for text in dict.fromkeys(offers) if text.startswith(fragment)
        ]
        return {"completions": fitting, "matched_fragment": fragment, "suppress": bool(fitting), "ordered": True}

    def _complete(self, context: CompletionContext) -> tuple[list[str], str]:
        """Return what could stand at the cursor, and the part of it that is there."""
        lines = context.full_text.split("\n")
        typed = lines[context.cursor_line][: context.cursor_position]
        if context.cursor_line and re.match(_TUNE_CELL, lines[0]):
            return self._in_tune_cell(lines[0], typed)
        match = re.fullmatch(_LINE, typed)
        if match is None:
            return [], ""
        name, rest = match[1], match[2]
        *words, current = re.split(r"\s+", rest)
        command = _COMMANDS.get(name)
        if name == "kaptain":
            if not words:
                return list(VERBS), current
            command, words = VERBS.get(words[0]), words[1:]
        if command is None:
            return [], ""
        return self._complete_word(command, words, current, "\n".join(lines[1:]))

    def _in_tune_cell(self, first: str, before: str) -> tuple[list[str], str]:
        name, equals, value = before.partition("=")
        if equals:
            return list(_DOMAINS), value.lstrip()
        words = first.split()
        return [f"{p} = " for p in self._parameters(words[1] if len(words) > 1 else "")], name.lstrip()

    def _complete_word(self, command: Command, words: list[str], current: str, cell: str) -> tuple[list[str], str]:
        option = command.option(words[-1]) if words else None
        takes_value = option is not None and bool(option.metavar or option.choices)
        if current.startswith("--") and "=" in current:
            name, _, value = current.partition("=")
            option, current = command.option(name), value
            takes_value = option is not None
        if takes_value and option is not None and not (option.bare and current.startswith("-")):
            return self._values(option, words, current, cell)
        if current.startswith("-"):
            return [f"--{o.name}" for o in command.options if o.many or f"--{o.name}" not in words], current
        if "=" in current:
            return (list(_DOMAINS) if command is TUNE else []), current.partition("=")[2]
        positionals = _positionals(command, words)
        if len(positionals) < len(command.positionals):
            positional = command.positionals[len(positionals)]
            before = positionals[-1] if positionals else ""
            return list(positional.choices or self._kind(positional.complete, before, cell)), current
        offers = (
            [f"{name}=" for name in self._parameters(positionals[0], cell)] if command.values and positionals else []
        )
        if command.values or command.rest:
            offers += self._session.variables
        return offers, current

    def _values(self, option: Option, words: list[str], current: str, cell: str) -> tuple[list[str], str]:
        if option.choices or option.names is not None:
            return list(option.choices if option.names is None else option.names()), current
        if option.complete == "file":
            current = current.rpartition(",")[2]
            return list(_files(current)), current
        if option.complete == "tuner":
            return self._tuners(words), current
        last = re.split(r"[,=]", current)[-1]
        model_id = next((w for w in words if not w.startswith("-") and "=" not in w), "")
        return list(self._kind(option.complete, model_id, cell)), last

    def _kind(self, kind: str, model_id: str, cell: str) -> Iterable[str]:
        if kind == "variable":
            return self._session.variables
        if kind == "own":
            return _top_level_names(cell)
        if kind == "framework":
            from kaptain_magics.core.frameworks import ModelFramework

            return ModelFramework.names()
        if kind in ("algorithm", "stopping"):
            from kaptain_magics.tuning.algorithms import STOPPING_RULES, algorithm_names

            return algorithm_names() if kind == "algorithm" else list(STOPPING_RULES)
        return self._stored(kind, model_id)

    def _tuners(self, words: list[str]) -> list[str]:
        """Return the tuners of the target that the line names, else of the settings'."""
        from kaptain_magics.targets.study_runners import runner_of
        from kaptain_magics.tuning.checks import tuner_names

        line = " ".join(words).replace("--on=", "--on ").split()
        target = line[line.index("--on") + 1] if "--on" in line[:-1] else ""
        return list(tuner_names(runner_of(self._workspace().target(target)))[1:])

    def _stored(self, kind: str, model_id: str) -> Iterable[str]:
        """Yield names that the store of runs knows."""
        workspace = self._workspace()
        models = [record.model_id for record in workspace.models()] if kind in ("model", "run") else []
        if kind == "run":
            return [*models, *(folder.run_id for folder in workspace.store.folders()[:_RUNS])]
        if kind == "endpoint":
            return [name for e in workspace.registry.endpoints() for name in (e.name, e.model_id)]
        if kind == "metric" and model_id:
            return [name for r in workspace.registry.model(model_id).revisions for name in r.metrics]
        if kind == "revision" and model_id:
            return [r.revision[:8] for r in reversed(workspace.registry.model(model_id).revisions)]
        return models

    def _parameters(self, model_id: str, cell: str = "") -> list[str]:
        """Return the hyperparameters of the cell, else of the model's last script."""
        from kaptain_magics.errors import KaptainError
        from kaptain_magics.model.tuning import last_script
        from kaptain_magics.script import capture, names_to_set

        try:
            if cell.strip():
                return names_to_set(capture(cell, sent=tuple(self._session.variables)))
            return names_to_set(last_script(self._workspace(), model_id).script)
        except KaptainError:
            return []


def _positionals(command: Command, words: list[str]) -> list[str]:
    """Return the words that stand for themselves: no options, no values of options, no ``name=value``."""
    positionals, skip = [], False
    for word in words:
        option = command.option(word.partition("=")[0])
        if skip:
            skip = False
        elif option is not None:
            skip = bool(option.metavar or option.choices) and "=" not in word
        elif "=" not in word:
            positionals.append(word)
    return positionals


def _files(prefix: str) -> Iterator[str]:
    head, slash, tail = prefix.rpartition("/")
    for path in sorted(Path(f"{head}{slash}" or ".").expanduser().iterdir()):
        if path.name.startswith(tail) and (tail or not path.name.startswith(".")):
            yield f"{head}{slash}{path.name}".replace(" ", "\\ ") + ("/" if path.is_dir() else "")


def _top_level_names(cell: str) -> list[str]:
    """Return the names that a cell assigns at top level, as far as it parses."""
    names = re.findall(r"^([A-Za-z_]\w*)\s*(?::[^=\n]*)?=(?!=)", cell, re.MULTILINE)
    try:
        tree = ast.parse(cell)
    except (SyntaxError, ValueError):
        return names
    targets = (t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets)
    return names + [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
