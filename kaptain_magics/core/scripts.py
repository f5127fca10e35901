"""Scripts: a training script as it was read, what it uses beside the notebook, and what is taken from it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Binding(StrEnum):
    """How a script takes a hyperparameter."""

    OPTION = "option"  # --name value
    WORDS = "words"  # --name word word
    TRUTH = "truth"  # --name true, or an empty word for false: argparse's type=bool
    SWITCH = "switch"  # --name, present or absent (or its opposite)
    NEGATED = "negated"  # only the opposite, present or absent
    COUNT = "count"  # --name as often as the number says
    ASSIGNMENT = "assignment"  # a plain value in the code, such as a top-level `name = ...`, replaced
    POSITION = "position"  # a word by its place: sys.argv[1]
    OVERRIDE = "override"  # name=value, as Hydra and OmegaConf read it


class Parameter(msgspec.Struct, frozen=True):
    """A hyperparameter that a script takes.

    Attributes:
        name: Its name: of a long option without dashes (``gamma``), of a short one with its dash (``-g``).
        binding: How the script takes it.
        default: The source text of its default, empty when unknown.
        line: Its line in the script, from 1.
        flag: The option that it stands for where the name is only its ``dest``, such as ``--learning-rate``.
        off: The option that says the opposite, such as ``--no-shuffle``.
        again: Line of a later assignment, which undoes what is put into the first before anything reads it; 0 for none.
        above: Whether it stands before a subcommand: an option of the parser that has the subcommands.
        later: Line of a later assignment or call that gives it another value after that; 0 for none.
        lines: Its lines where it stands several times and it is not clear which is meant.
        why: Why it would have no effect, where it has none for another reason than ``again``.
        position: Its place on the command line, from 1; 0 where it has none.
    """

    name: str
    binding: Binding
    default: str = ""
    line: int = 0
    flag: str = ""
    off: str = ""
    again: int = 0
    above: bool = False
    later: int = 0
    lines: tuple[int, ...] = ()
    why: str = ""
    position: int = 0


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A training script: source text and what is known of it without running it.

    Attributes:
        name: File name that it gets in the job's folder, such as ``training.py``.
        source: The text, unchanged.
        parameters: The hyperparameters that it takes.
        imports: The modules that it imports at top level, dotted, in order.
        open_options: Whether its options could not all be read (built in a loop, by another library): then any name
            is let through to its command line.
        overrides: Whether its command line is ``name=value`` words, as Hydra and OmegaConf read them.
        subcommands: Whether it has subcommands: the further arguments name one, whose options follow.
        folders: Where its relative paths and its own modules are looked for: the notebook's working folder, and before
            it the folder of its file. None where they are not known.
        cell: Whether it is a notebook's cell, whose last expression is shown.
        dropped: What was left out of the source because it is IPython's, a sentence for each.
    """

    name: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    imports: tuple[str, ...] = ()
    open_options: bool = False
    overrides: bool = False
    subcommands: bool = False
    folders: tuple[str, ...] = ()
    cell: bool = False
    dropped: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """Return the hyperparameter that the command line spells ``name`` (``gamma`` or ``--gamma``)."""
        return next((p for p in self.parameters if name in (p.name, f"--{p.name}") and not p.flag), None)

    def follows_args(self, name: str) -> bool:
        """Whether a hyperparameter stands behind the further arguments, which name its subcommand."""
        parameter = self.parameter(name)
        return self.subcommands and not (parameter is not None and parameter.above)


class Capture(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is taken from the script's own variables when it ends.

    Attributes:
        model: Variable that holds the model to save, empty for none.
        metrics: Metric name to variable (or dotted path) that holds its value.
        find_model: Whether the one fitted model among the variables is saved where the script saves none.
        find_metrics: Whether clear scores are reported where the script reports no metric.
        fetch: Variables to bring back to the notebook.
        send: Names of values of the notebook that the script finds as globals (pickled in the run's folder).
    """

    model: str = ""
    metrics: dict[str, str] = {}
    find_model: bool = False
    find_metrics: bool = False
    fetch: tuple[str, ...] = ()
    send: tuple[str, ...] = ()


class InputRole(StrEnum):
    """What a script does with something beside the notebook."""

    READ = "read"
    CHANGE = "change"  # reads it and writes to it: the job has a copy
    MODULE = "module"  # imports it
    FOLDER = "folder"  # writes files into it: the job has an empty one


class Input(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file or folder beside the notebook that a script uses.

    Attributes:
        path: Where the script finds it, below the job's working folder.
        source: Its absolute path on this machine.
        role: What the script does with it.
        size: Bytes, of a folder with everything in it.
        count: Files; 1 for a file.
        modified: When it was changed last, of a folder the newest file in it, in nanoseconds since 1970.
    """

    path: str
    source: str
    role: InputRole = InputRole.READ
    size: int = 0
    count: int = 1
    modified: int = 0
