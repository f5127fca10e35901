"""What the body of every magic needs of the notebook: its variables, its settings, a place for results, and waiting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kaptain_magics.errors import KaptainError
from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import Interrupted, suggest, usage_error

if TYPE_CHECKING:
    from kaptain_magics.model import Plan, Run

LAST = "_kaptain"
"""Variable of the notebook that holds the last run, whether it succeeded or not."""


class Session:
    """A notebook, as the magics use it.

    Args:
        shell: The notebook's shell.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._shown: tuple[object, int] = (None, -1)
        self._formatted: tuple[type, ...] = ()

    # ---- variables -----------------------------------------------------------------------------------------------

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that the person has made, by name."""
        hidden = self.shell.user_ns_hidden
        return {
            name: value
            for name, value in self.shell.user_ns.items()
            if not name.startswith("_") and name not in hidden and name not in ("In", "Out")
        }

    def values(self, names: Iterable[str], option: str) -> dict[str, Any]:
        """Return the values of variables that an option named.

        Raises:
            UsageError: There is no such variable.
        """
        values = {}
        for name in names:
            if name not in self.shell.user_ns:
                raise usage_error(f"{option} {name}: the notebook has no `{name}`", suggest(name, self.variables))
            values[name] = self.shell.user_ns[name]
        return values

    def items(self, names: Iterable[str], typed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the items of dicts that the line named, none of which may be given elsewhere too.

        Raises:
            UsageError: A name does not hold a dict of hyperparameters, or something is given twice.
        """
        items: dict[str, Any] = {}
        for name in names:
            value = self.shell.user_ns.get(name)
            if name not in self.shell.user_ns:
                hint = suggest(name, self.variables, "write name=value, or the name of a variable that holds a dict")
                raise usage_error(f"{name!r} is not expected here", hint)
            if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
                kind = type(value).__name__
                raise usage_error(f"`{name}` is of type {kind}, not a dict of hyperparameters", "write name=value")
            for key in value:
                if key in items or key in typed:
                    raise usage_error(f"{key} is given twice, once in `{name}`", "give it once")
            items |= value
        return items

    def store(self, name: str | None, value: object) -> None:
        """Keep a result under a name of the notebook, where one was given."""
        if name:
            self.shell.user_ns[name] = value

    def confirm(self, question: str) -> bool:
        """Ask the person, and return whether the answer is yes.

        Raises:
            UsageError: Standard input is closed, as in a batch job.
        """
        from IPython.core.error import StdinNotImplementedError

        try:
            return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
        except (EOFError, StdinNotImplementedError):
            hint = "add --yes, or look first with --dry-run"
            raise usage_error("there is no keyboard to ask for a yes", hint) from None

    # ---- runs ----------------------------------------------------------------------------------------------------

    def carry_out(self, plan: Plan[Any], arguments: Arguments, on_interrupt: str) -> Any:
        """Start a plan and show it, or only show what it would run.

        Returns:
            The run; ``None`` for a dry run.

        Raises:
            RunFailedError: The run failed.
            Interrupted: The reader interrupted.
        """
        if arguments.get("dry_run"):
            from kaptain_magics import views

            views.show_text(plan.render())
            return None
        run = plan.start()
        return self.show(run, arguments, on_interrupt)

    def show(self, run: Run, arguments: Arguments, on_interrupt: str) -> Run:
        """Show a run until its end, or live beside the notebook with ``--detach``; see ``carry_out``."""
        from kaptain_magics import views

        self.shell.user_ns[LAST] = run
        self.store(arguments.get("into"), run)
        if arguments.get("detach"):
            views.watch(run)
            return run
        stops = on_interrupt == "stop"
        try:
            views.follow(run, interrupted=run.stop if stops else None)
        except KeyboardInterrupt:  # the second one may come while the first one's clean-up is waited for
            raise Interrupted(_after_interrupt(run, stops)) from None
        run.raise_for_failure()
        return run

    def shown(self, result: object) -> Any:
        """Return a result that is on the screen already: as a cell's value it makes no second output."""
        self._shown = (result, self.shell.execution_count)
        formatter = self.shell.display_formatter.ipython_display_formatter
        if not self._formatted and getattr(self.shell, "kernel", None) is not None:
            from kaptain_magics.model import Deployment, Endpoint, Study, TrainingRun

            self._formatted = (Deployment, Endpoint, Study, TrainingRun)
            for cls in self._formatted:
                formatter.for_type(cls, self._display)
        return result

    def close(self) -> None:
        """Leave the display of results to IPython again."""
        for cls in self._formatted:
            self.shell.display_formatter.ipython_display_formatter.pop(cls, None)

    def _display(self, value: Any) -> None:
        from kaptain_magics import views
        from kaptain_magics.model import Endpoint

        result, count = self._shown
        if value is result and self.shell.execution_count == count:
            return
        if isinstance(value, Endpoint):
            views.show_endpoints([value.status()])
        else:
            views.show_result(value)


def _after_interrupt(run: Run, stops: bool) -> str:
    """Say what has become of the run."""
    try:
        state = run.state
    except KaptainError as error:
        return error.message
    if state.terminal:
        return f"{run.name} {state}"
    going = "is still being stopped" if stops else "is still running"
    return f"{run.name} {going}; %kaptain attach {run.run_id} shows it, %kaptain stop {run.run_id} ends it"
