"""A study as an object: its trials and the best of them, under our names and under Optuna's."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import MetricSummary, TrialChanged
from kaptain_magics.core.pareto import BestTrials
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.errors import StateError
from kaptain_magics.model.runs import Run
from kaptain_magics.model.tables import require_pandas

if TYPE_CHECKING:
    import optuna
    import pandas

JOURNAL = "optuna.journal"
"""Name of the file in the run's folder that ``Study.journal`` writes."""


class Study(Run):
    """A search of hyperparameters: its trials, and the best of them so far."""

    @property
    def spec(self) -> StudySpec:
        """What was asked for: domains, objectives, limits and the job of a trial."""
        study = self.record.study
        assert study is not None
        return study

    @property
    def trials(self) -> list[TrialChanged]:
        """All trials by number, as they are now."""
        self._catch_up()
        return [self._trials[number] for number in sorted(self._trials)]

    def log(self, lines: int | None = None) -> str:
        """Return the logs of all trials, one after another.

        Args:
            lines: How many lines of their end; ``None`` for the whole.
        """
        parts = []
        for trial in self.trials:
            path = self.folder.path / "trials" / str(trial.number) / "log.txt"
            with contextlib.suppress(OSError):
                text = path.read_text("utf-8", "replace").rstrip("\n")
                parts.append(f"[{trial.name}] trial {trial.number} {trial.state}:\n{text}")
        text = "\n".join(parts)
        return text if lines is None else "\n".join(text.splitlines()[-lines:])

    @property
    def best(self) -> TrialChanged | None:
        """The best trial so far; of several objectives the one of the Pareto set that is best in the first."""
        return BestTrials.of(self.trials, self.spec.deciding).best

    @property
    def pareto(self) -> list[TrialChanged]:
        """The trials that no other one is better than in an objective without being worse in another, by number."""
        return BestTrials.of(self.trials, self.spec.deciding).trials

    @property
    def best_parameters(self) -> dict[str, Value]:
        """The hyperparameters of the best trial; empty when none succeeded."""
        return dict(self.best.parameters) if self.best is not None else {}

    @property
    def hyperparameters(self) -> dict[str, Value]:
        """The recommended hyperparameters: those of the best trial."""
        return self.best_parameters

    @property
    def metrics(self) -> dict[str, MetricSummary]:
        """The metrics of the best trial."""
        return dict(self.best.metrics) if self.best is not None else {}

    # ---- as Optuna has it ----------------------------------------------------------------------------------------

    def to_optuna(self) -> optuna.Study:
        """Return the study as one of Optuna, in memory and as it is now: for plots, importances and so on.

        Example:
            ``optuna.visualization.matplotlib.plot_param_importances(study.to_optuna())``
        """
        from kaptain_magics.tuning.optuna_study import to_optuna

        return to_optuna(self.spec, self.trials)

    def journal(self, path: str | Path | None = None) -> Path:
        """Write the study into a journal file of Optuna, or bring that up to date, and return its path.

        ``optuna-dashboard FILE`` shows it, and ``optuna.load_study(study_name=study.name,
        storage=JournalStorage(JournalFileBackend(FILE)))`` opens it.

        Args:
            path: The file; ``optuna.journal`` in the run's folder where it is not given.

        Raises:
            StateError: The file is something else.
        """
        from kaptain_magics.tuning.optuna_study import write_journal

        file = self.folder.path / JOURNAL if path is None else Path(path).expanduser().resolve()
        write_journal(self.spec, self.trials, file)
        return file

    @property
    def best_params(self) -> dict[str, Value]:
        """``best_parameters`` under the name that Optuna has."""
        return self.best_parameters

    @property
    def best_value(self) -> float | None:
        """The first objective of the best trial; ``None`` when none succeeded."""
        return self.best.latest(self.spec.objectives[0]) if self.best is not None else None

    @property
    def best_trial(self) -> optuna.trial.FrozenTrial | None:
        """The best trial as Optuna's; ``None`` when none succeeded."""
        from kaptain_magics.tuning.optuna_study import frozen_trial

        best = self.best
        if best is None:
            return None
        trial = frozen_trial(self.spec, best)
        trial.number = best.number
        return trial

    @property
    def best_trials(self) -> list[optuna.trial.FrozenTrial]:
        """The Pareto set as Optuna's trials; of one objective the best one."""
        numbers = {trial.number for trial in self.pareto}
        return [trial for trial in self.to_optuna().get_trials(deepcopy=False) if trial.number in numbers]

    def importances(self) -> dict[str, float]:
        """Return how much of the first objective each hyperparameter explains, the greatest first, by Optuna.

        Raises:
            StateError: Fewer than two trials succeeded.
        """
        from kaptain_magics.tuning.optuna_study import importances

        try:
            return importances(self.spec, self.trials)
        except (ValueError, RuntimeError) as error:
            raise StateError(
                f"the importances cannot be computed: {error}", "they need more succeeded trials"
            ) from error

    def trials_dataframe(self, *args: Any, **options: Any) -> pandas.DataFrame:
        """Return the trials as Optuna's ``Study.trials_dataframe`` has them; takes its arguments."""
        require_pandas()
        return self.to_optuna().trials_dataframe(*args, **options)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the trials as a table: number, state, metrics, hyperparameters, seconds, start, model, reason."""
        pandas = require_pandas()

        rows = [
            {
                "trial": trial.number,
                "state": str(trial.state),
                **{name: trial.latest(name) for name in self.spec.objectives},
                **{name: trial.parameters.get(name) for name in self.spec.domains},
                "seconds": trial.ended - trial.started if trial.ended and trial.started else None,
                "started": pandas.Timestamp(trial.started, unit="s", tz="UTC") if trial.started else pandas.NaT,
                "best": self.best is not None and trial.number == self.best.number,
                "model": trial.artifact_uri,
                "reason": trial.reason,
            }
            for trial in self.trials
        ]
        return pandas.DataFrame(rows).set_index("trial") if rows else pandas.DataFrame()
