"""The magics as IPython sees them: each reads its line and hands it to a module that is imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from traitlets import Bool, Float, Unicode

from kaptain_magics.config import Settings
from kaptain_magics.magics.completion import Completion
from kaptain_magics.magics.grammar import Arguments, Command, parse
from kaptain_magics.magics.line_errors import suggest, usage_error
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.magics.prewarm import Prewarm
from kaptain_magics.magics.session import Session
from kaptain_magics.magics.verbs import VERBS, overview_usage

if TYPE_CHECKING:
    from kaptain_magics.model import Workspace

_NO_FRAME = 10_000  # variables are those of the notebook alone, not of some caller's frame


_TRAITS = {str: Unicode, bool: Bool, float: Float}


def _setting_traits() -> dict[str, Any]:
    """Return a trait for every setting; ``None`` where ``%config`` does not set it."""
    texts = Settings.help()
    return {
        name: _TRAITS[kind](None, allow_none=True, help=texts[name]).tag(config=True)
        for name, kind in Settings.types().items()
    }


@magics_class
class KaptainMagics(Magics):  # type: ignore[misc]  # IPython has no types
    """Train, tune and deploy models. What is not set here is set by KAPTAIN_* variables, kaptain.toml or a default."""

    locals().update(_setting_traits())  # so that the class has them when traitlets looks at it

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.session = Session(shell)
        self.completion = Completion(self.session, self.workspace)
        self.idle_moments = Prewarm(shell, self._configured)

    def workspace(self, arguments: Arguments | None = None) -> Workspace:
        """Return the workspace under the settings of ``%config`` and of a line."""
        from kaptain_magics.model import Workspace

        values = self._configured()
        if arguments is not None:
            values |= arguments.settings()
        return Workspace(Settings.load(values))

    def _configured(self) -> dict[str, Any]:
        """Return what ``%config`` sets, by name; ``None`` where it says nothing."""
        return {name: getattr(self, name) for name in self.trait_names(config=True)}

    @line_cell_magic  # type: ignore[untyped-decorator]
    def kaptain_train(self, line: str, cell: str | None = None) -> Any:
        """Run the cell, or the script of ``--file``, as a training; returns its run. ``--help`` shows the options."""
        line, cell = self._joined(line, cell)
        arguments = self._read(TRAIN, line, cell)
        if arguments is None:
            return None
        from kaptain_magics.magics.train import train

        return self.session.shown(train(self.session, self.workspace(arguments), arguments, cell))

    @line_cell_magic  # type: ignore[untyped-decorator]
    def kaptain_tune(self, line: str, cell: str | None = None) -> Any:
        """Run trials of the script with values from the domains; returns the study. ``--help`` shows the options."""
        line, cell = self._joined(line, cell)
        arguments = self._read(TUNE, line, cell)
        if arguments is None:
            return None
        from kaptain_magics.magics.tune import tune

        return self.session.shown(tune(self.session, self.workspace(arguments), arguments, cell))

    @line_magic  # type: ignore[untyped-decorator]
    def kaptain_deploy(self, line: str) -> Any:
        """Serve a model's revision under an address; returns the endpoint. ``--help`` shows the options."""
        arguments = self._read(DEPLOY, line)
        if arguments is None:
            return None
        from kaptain_magics.magics.deploy import deploy

        return self.session.shown(deploy(self.session, self.workspace(arguments), arguments))

    @line_magic  # type: ignore[untyped-decorator]
    def kaptain(self, line: str) -> Any:
        """Show runs, models and endpoints, or carry a verb out, such as ``runs``; ``--help`` shows the verbs."""
        from kaptain_magics.magics import kaptain

        verb, rest = [*line.split(None, 1), "", ""][:2]
        if not verb or verb.startswith("#"):
            return kaptain.overview(self.workspace())
        if verb in ("--help", "-h", "?", "help"):
            return _show(overview_usage())
        if verb not in VERBS:
            raise usage_error(f"%kaptain has no verb {verb!r}", suggest(verb, VERBS, "one of " + ", ".join(VERBS)))
        arguments = parse(VERBS[verb], rest, list(self.session.variables))
        if arguments.help:
            return _show(VERBS[verb].usage())
        return kaptain.carry_out(verb, self.session, self.workspace(arguments), arguments)

    def _joined(self, line: str, cell: str | None) -> tuple[str, str | None]:
        """Join a line that ends in a backslash with the next ones of its cell, whose numbers stay as they are."""
        blank = ""
        while cell and line.rstrip().endswith("\\"):
            first, _, cell = cell.partition("\n")
            line = f"{line.rstrip()[:-1]} {self.shell.var_expand(first, _NO_FRAME)}"
            blank += "\n"
        return line, None if cell is None else blank + cell

    def _read(self, command: Command, line: str, cell: str | None = None) -> Arguments | None:
        """Parse a line; ``None`` where it asked for help, which is shown, or says nothing at all."""
        arguments = Arguments(help=True)
        if line.strip() or cell is not None:
            arguments = parse(command, line, list(self.session.variables))
        if not arguments.help:
            return arguments
        _show(command.usage())
        return None


# What IPython asks for `?` and Shift-Tab: made then, for it names what other distributions bring.
KaptainMagics.kaptain_train.getdoc = TRAIN.usage
KaptainMagics.kaptain_tune.getdoc = TUNE.usage
KaptainMagics.kaptain_deploy.getdoc = DEPLOY.usage
KaptainMagics.kaptain.getdoc = overview_usage


def _show(text: str) -> None:
    from kaptain_magics import views

    views.show_text(text)
