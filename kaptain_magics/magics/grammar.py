"""The grammar of every line: a command's table is parsed, explained and completed from the same rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kaptain_magics.magics import readers
from kaptain_magics.magics.line_errors import suggest, usage_error

if TYPE_CHECKING:
    from kaptain_magics.magics.words import Word

_ASSIGNED = r"(?s)((?:-{0,2}|\+{1,2})[A-Za-z_][\w./-]*)=(.*)"  # + and / are Hydra's
_NAMES = r"[^\W\d-][^=\s({]*"  # names of metrics: no option, no name=value
_UNFILLED = r"\{([A-Za-z_]\w*)\}"
_HELP = ("--help", "-h", "?", "??")
_WIDTH = 26  # characters of the left column of a usage text


_JOINING = r"(and|or|in|not|is)|[=!<>].*"  # words that an expression goes on with
_LONGEST_CONDITION = 40  # words behind `if` that are tried as one expression, each time with one more


def _is_expression(text: str) -> bool:
    import ast

    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _same(value: Any) -> Any:
    return value


class Option(NamedTuple):
    """An option of a command.

    Attributes:
        name: Its name without dashes.
        help: What it does, in a few words.
        metavar: What its value is called; a flag has none.
        read: Reads the value's text, or raises ``ValueError`` with what to write.
        many: Whether it may stand several times; its values are then joined, and ``read`` returns tuples.
        choices: The only values that it takes.
        complete: What Tab offers for it; see ``completion``.
        bare: Whether its value may be left out; it then adds nothing to its values (of an option of ``many``).
        field: The field of the model's request that it fills, or a part of one, such as ``resources.cpu``; ``key``
            when not given. One that is no field of the request is read by the magic itself.
        convert: Turns the value into the field's.
        setting: The setting that it stands for in this line.
        names: Returns the values that it takes where other distributions can add some; asked only where they are shown.
        needs: What the target must have for it (``targets.features``); it is refused elsewhere.
    """

    name: str
    help: str
    metavar: str = ""
    read: Callable[[str], Any] = readers.text
    many: bool = False
    choices: tuple[str, ...] = ()
    complete: str = ""
    bare: bool = False
    field: str = ""
    convert: Callable[[Any], Any] = _same
    setting: str = ""
    names: Callable[[], Sequence[str]] | None = None
    needs: str = ""

    @property
    def key(self) -> str:
        """The name under which ``Arguments`` has it."""
        return self.name.replace("-", "_")

    @property
    def shown(self) -> str:
        """The option as a usage text shows it."""
        value = "|".join(self.names() if self.names is not None else self.choices) or self.metavar
        return f"--{self.name} {f'[{value}]' if self.bare else value}".rstrip()


class Positional(NamedTuple):
    """A word that a command takes by its place; ``needed`` unless it can be left out, perhaps one of ``choices``."""

    name: str
    help: str
    read: Callable[[str], Any] = readers.text
    complete: str = ""
    needed: bool = True
    choices: tuple[str, ...] = ()


class Command(NamedTuple):
    """Everything that is to know about a line.

    Attributes:
        name: How the line begins, such as ``%kaptain_tune``.
        summary: What it does, in one sentence.
        positionals: The words by their place.
        options: The options.
        values: What ``name=value`` is called here; empty where none are taken.
        rest: What the rest of the line behind the positionals is called, where it is taken as it stands; in square
            brackets where it can be left out.
        examples: Lines to learn from.
        habits: What to write instead of options that other tools have for the same, by their text behind one hyphen.
    """

    name: str
    summary: str
    positionals: tuple[Positional, ...] = ()
    options: tuple[Option, ...] = ()
    values: str = ""
    rest: str = ""
    examples: tuple[str, ...] = ()
    habits: Mapping[str, str] = {}

    def option(self, word: str) -> Option | None:
        """Return the option that a word such as ``--cpu`` names."""
        return next((o for o in self.options if f"--{o.name}" == word), None)

    def usage(self) -> str:
        """Return the text of ``--help``, ``?`` and the docstring."""
        names = [p.name if p.needed else f"[{p.name}]" for p in self.positionals]
        parts = [*names, *(["[options]"] if self.options else []), *([f"[{self.values} ...]"] if self.values else [])]
        lines = [" ".join([self.name, *parts, *([self.rest] if self.rest else [])]), "", self.summary]
        if self.positionals or self.values:
            lines.append("")
        lines += [_row(p.name, p.help) for p in self.positionals]
        if self.values:
            lines.append(_row(self.values, _VALUES[self.values]))
        if self.options:
            lines += ["", "Options:", *(_row(o.shown, o.help) for o in self.options)]
        if self.examples:
            lines += ["", "Examples:", *(f"  {line}" for line in self.examples)]
        return "\n".join(lines).rstrip() + "\n"


_VALUES = {
    "name=value": "hyperparameters of the script; a variable that holds a dict stands for its items",
    "name=Domain": "what to search: Double(lo, hi), Integer(lo, hi), Discrete([...]), Categorical([...]);\n"
    + " " * (_WIDTH + 2)
    + "conditional: gamma=Double(1e-4, 1) if kernel == 'rbf'",
}


def _row(left: str, right: str) -> str:
    gap = " " * (_WIDTH - len(left)) if len(left) < _WIDTH else "\n" + " " * (_WIDTH + 2)
    return f"  {left}{gap}{right}"


class Arguments(NamedTuple):
    """A parsed line.

    Attributes:
        positionals: The values by the positionals' names.
        options: The values of the options that the line has, by ``Option.key``.
        values: The texts of ``name=value``, by name.
        bare: Further words: variables that may hold a dict.
        rest: The rest of the line as it stands, where the command takes it.
        help: Whether the line asks for help.
        command: The command that it was parsed for.
    """

    positionals: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    values: Mapping[str, str] = {}
    bare: Sequence[str] = ()
    rest: str = ""
    help: bool = False
    command: Command = Command("", "")

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of an option, or the default where the line has none."""
        return self.options.get(key, default)

    def named(self) -> Iterator[tuple[Option, Any]]:
        """Yield the options that the line has, with their values, in the order of the command's table."""
        for option in self.command.options:
            if option.key in self.options:
                yield option, self.options[option.key]

    def settings(self) -> dict[str, Any]:
        """Return the settings of this line, by name."""
        return {option.setting: value for option, value in self.named() if option.setting}


def parse(command: Command, line: str, variables: Sequence[str] = ()) -> Arguments:
    """Parse a line.

    Args:
        command: The command.
        line: The line behind the command's name.
        variables: Names of the notebook's variables, for hints.

    Raises:
        UsageError: The line is wrong; one line says where and what to write instead.
    """
    from kaptain_magics.magics.words import split

    return _parse(command, line, split(line), variables)


def parse_words(command: Command, texts: Sequence[str]) -> Arguments:
    """Parse the words of a command line that a shell has split; see ``parse``."""
    from kaptain_magics.magics.words import Word

    words: list[Word] = []
    at = 0
    for text in texts:
        words.append(Word(text, at, at + len(text)))
        at += len(text) + 1
    return _parse(command, " ".join(texts), words, ())


def _parse(command: Command, line: str, words: list[Word], variables: Sequence[str]) -> Arguments:
    if any(word.text in _HELP for word in words):
        return Arguments(help=True, command=command)
    return _Parser(command, line, words, variables).parse()


class _Parser:
    def __init__(self, command: Command, line: str, words: list[Word], variables: Sequence[str]) -> None:
        self._command = command
        self._line = line
        self._words = words
        self._variables = variables
        self._next = 0
        self._positionals: dict[str, Any] = {}
        self._options: dict[str, Any] = {}
        self._values: dict[str, str] = {}
        self._bare: list[str] = []
        self._rest = ""
        self._waiting = list(command.positionals)

    def parse(self) -> Arguments:
        waiting = self._waiting
        while self._next < len(self._words):
            word = self._words[self._next]
            if self._command.rest and not waiting and not self._command.option(word.text.partition("=")[0]):
                self._rest = self._line[word.start :].strip()
                break
            self._next += 1
            if word.text.startswith("--") or re.match(r"-[A-Za-z]", word.text):
                self._take_option(word)
            elif self._command.values and re.fullmatch(_ASSIGNED, word.text):
                self._take_value(word)
            elif waiting:
                self._take_positional(waiting.pop(0), word)
            elif self._command.values and word.text.isidentifier():
                self._bare.append(word.text)
            elif self._command.values and word.text.startswith("{"):
                self._check_filled(word.text)
                raise usage_error(f"unexpected {word.text[:40]!r}", "name a variable that holds a dict, without braces")
            else:
                raise self._unexpected(word)
        needed = [p.name for p in waiting if p.needed]
        if needed or (self._command.rest and not self._rest and not self._command.rest.startswith("[")):
            name = needed[0] if needed else self._command.rest
            raise usage_error(f"{name} is missing", f"write {self._command.usage().splitlines()[0]}")
        return Arguments(
            self._positionals, self._options, self._values, tuple(self._bare), self._rest, command=self._command
        )

    def _take_positional(self, positional: Positional, word: Word) -> None:
        self._check_filled(word.text)
        if "=" in word.text and not self._command.values:
            raise self._unexpected(word)
        if positional.choices and word.text not in positional.choices:
            hint = suggest(word.text, positional.choices, f"write {' or '.join(positional.choices)}")
            raise usage_error(f"{positional.name} {word.text!r} is unknown", hint)
        try:
            self._positionals[positional.name] = positional.read(word.text)
        except ValueError as error:
            raise usage_error(f"{positional.name} {word.text!r}", str(error)) from None

    def _take_value(self, word: Word) -> None:
        match = re.fullmatch(_ASSIGNED, word.text)
        assert match is not None
        name, value = match[1], match[2]
        self._check_filled(value)
        if not value and self._line[word.start : word.end].endswith("="):
            raise usage_error(f"{name}= has no value", f"write {name}=VALUE, without spaces around '='")
        if name in self._values:
            raise usage_error(f"{name} is given twice", "give it once")
        if self._command.values == "name=Domain" and self._next < len(self._words):
            value += self._condition(name)
        self._values[name] = value

    def _condition(self, name: str) -> str:
        """Return the ``if`` that follows a domain, with its blanks and quotes; nothing where there is none."""
        words, first = self._words, self._next
        if words[first].text != "if":
            return ""
        last = 0
        for index in range(first + 1, min(len(words), first + _LONGEST_CONDITION)):
            following = words[index + 1].text if index + 1 < len(words) else ""
            if not re.fullmatch(_JOINING, following) and _is_expression(
                self._line[words[first + 1].start : words[index].end]
            ):
                last = index
                break
        if not last:
            hint = f"write {name}=Domain(...) if OTHER == 'value'"
            raise usage_error(f"the `if` behind {name} has no condition", hint)
        self._next = last + 1
        return " " + self._line[words[first].start : words[last].end]

    def _take_option(self, word: Word) -> None:
        name, equals, value = word.text.partition("=")
        option = self._command.option(name)
        if option is None:
            raise self._unknown(name, value)
        if not option.metavar and not option.choices:
            if equals:
                raise usage_error(f"{name} takes no value", f"write {name} alone")
            self._add(option, True)
            return
        if not equals:
            following = self._words[self._next] if self._next < len(self._words) else None
            if option.bare and (following is None or self._waiting or not re.fullmatch(_NAMES, following.text)):
                self._add(option, ())
                return
            if following is None or self._command.option(following.text.partition("=")[0]) is not None:
                raise usage_error(f"{name} needs a value", f"write {option.shown}")
            value = following.text
            self._next += 1
        if option.choices and value not in option.choices:
            hint = suggest(value, option.choices, f"write {' or '.join(option.choices)}")
            raise usage_error(f"{name} {value!r} is unknown", hint)
        try:
            self._add(option, option.read(value))
        except ValueError as error:
            secret = option.metavar == "NAME=VALUE" and "=" in value
            shown = f"{value.partition('=')[0]}=…" if secret else value
            raise usage_error(f"{name} {shown!r}", str(error)) from None

    def _add(self, option: Option, value: Any) -> None:
        if option.many:
            value = self._options.get(option.key, ()) + value
        elif option.key in self._options:
            raise usage_error(f"--{option.name} is given twice", "give it once")
        self._options[option.key] = value

    # ---- mistakes ------------------------------------------------------------------------------------------------

    def _check_filled(self, text: str) -> None:
        """IPython fills ``{name}`` in before the line comes here, unless a name is unknown."""
        for name in re.findall(_UNFILLED, text):
            hint = suggest(name, self._variables, "assign it in a cell before")
            if name in self._variables:
                hint = "something else in the line's braces could not be filled in"
            raise usage_error(f"{{{name}}} is not filled in", hint)

    def _unknown(self, name: str, value: str) -> Exception:
        names = [f"--{o.name}" for o in self._command.options]
        longer = [n for n in names if n.startswith(name)]
        if longer and len(name) > 2:
            return usage_error(f"unknown option {name}", f"options are not abbreviated: {' or '.join(longer)}")
        if (letter := name.removeprefix("-")) in self._command.habits:
            return usage_error(f"{self._command.name} has no option {name}", self._command.habits[letter])
        hint = suggest(name.lstrip("-"), [o.name for o in self._command.options]).replace("'", "'--", 1)
        if not hint and self._command.values == "name=value":
            hint = f"a hyperparameter is written {name.lstrip('-')}={value or 'VALUE'}"
        return usage_error(f"{self._command.name} has no option {name}", hint or "--help lists them")

    def _unexpected(self, word: Word) -> Exception:
        text = word.text
        if text.startswith("=") or text.endswith("="):
            return usage_error(f"{text!r} stands alone", "write name=value without spaces around '='")
        similar = suggest(text, [o.name for o in self._command.options]).replace("'", "'--", 1)
        otherwise = "write name=value, or the name of a variable that holds a dict" if self._command.values else ""
        hint = similar or otherwise or f"write {self._command.usage().splitlines()[0]}"
        return usage_error(f"{text!r} is not expected here", hint)
