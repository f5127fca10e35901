"""The study loop over a real target: every way in which a study can go."""

from __future__ import annotations

import gc
import re
import threading
import tracemalloc
from pathlib import Path

import pytest

from kaptain_magics.core.domains import Discrete, Double, Integer
from kaptain_magics.core.events import (
    Event,
    LogWritten,
    MetricReported,
    MetricSummary,
    Noted,
    StateChanged,
    TrialChanged,
)
from kaptain_magics.core.states import Direction, RunState, TrialState
from kaptain_magics.errors import DomainError, StateError, TargetError
from kaptain_magics.targets.base import JobRef
from kaptain_magics.tuning import study as study_module
from kaptain_magics.tuning.study import run_study

X = {"--x": Double(0.0, 1.0)}
S, F, K, E = TrialState.SUCCEEDED, TrialState.FAILED, TrialState.KILLED, TrialState.EARLY_STOPPED


def x_of(job, parameters) -> float:
    return parameters["--x"]


def test_a_study_runs_its_trials_and_finds_the_best(studies, tmp_path: Path) -> None:
    def objective(job, parameters):
        job.save()
        return parameters["--x"]

    result = studies.run(objective, domains=X, trials=8)
    assert result.state is RunState.SUCCEEDED
    assert result.reason == "all trials are done: 8"
    assert result.counts == {S: 8}
    assert [t.number for t in studies.trials] == list(range(8))
    assert result.best == max(studies.trials, key=lambda t: t.parameters["--x"])
    assert result.best.best
    x = result.best.parameters["--x"]
    assert result.best.metrics == {"accuracy": MetricSummary(x, x, x)}
    assert 0 < result.best.started <= result.best.ended
    for number, job in enumerate(studies.target.submitted):
        assert re.fullmatch(r"m-tune-0174088b-[a-z0-9]{8}", job.name)
        assert (job.phase, job.trial, job.parallel, job.metric_names) == ("tune", number, 1, ("accuracy",))
        assert job.folder == str(tmp_path / "trials" / str(number))
        assert job.upload_uri == f"file:///store/dev/m/trials/m-tune-0174088b/{job.name}"
        assert job.parameters == studies.trials[number].parameters
    assert result.best.artifact_uri == studies.target.submitted[result.best.number].upload_uri


def test_a_trial_has_two_events_and_says_when_it_is_the_best_so_far(studies) -> None:
    studies.run(x_of, domains=X, trials=20)
    assert [(e.number, e.state) for e in studies.events] == [(n, s) for n in range(20) for s in (TrialState.RUNNING, S)]
    best = float("-inf")
    for trial in studies.trials:
        assert trial.best is (trial.parameters["--x"] > best)
        best = max(best, trial.parameters["--x"])


def test_a_seeded_study_repeats(studies) -> None:
    def points(**changes):
        studies.events.clear()
        studies.run(x_of, domains=X, trials=15, algorithm="tpe", **changes)
        return [t.parameters for t in studies.trials]

    assert points() == points() != points(seed=2)


@pytest.mark.parametrize("parallel", [1, 3])
def test_so_many_trials_at_a_time(studies, parallel: int) -> None:
    together = threading.Barrier(parallel, timeout=60)
    studies.run(lambda job, p: float(together.wait()), domains=X, trials=6, parallel=parallel)
    assert studies.target.most_running == parallel
    assert studies.states() == [S] * 6


def test_fixed_parameters_go_along(studies) -> None:
    job = studies.spec(domains=X).job
    fixed = type(job)(**{f: getattr(job, f) for f in job.__struct_fields__} | {"parameters": {"--steps": 10}})
    studies.run(lambda job, p: p["--steps"] + p["--x"], domains=X, trials=2, job=fixed)
    assert [set(j.parameters) for j in studies.target.submitted] == [{"--steps", "--x"}] * 2
    assert [set(t.parameters) for t in studies.trials] == [{"--x"}] * 2


def test_values_come_back_as_they_were_given(studies) -> None:
    studies.run(lambda job, p: 1.0, domains={"--k": Discrete(["5", "10"]), "--n": Integer(3, 3)}, trials=6)
    assert {t.parameters["--k"] for t in studies.trials} == {"5", "10"}
    assert {t.parameters["--n"] for t in studies.trials} == {3}


def test_the_grid_ends_when_it_is_exhausted(studies) -> None:
    result = studies.run(x_of, domains={"--x": Integer(1, 4)}, algorithm="grid", trials=50, parallel=2)
    assert result.reason == "every combination was tried: 4"
    assert sorted(t.parameters["--x"] for t in studies.trials) == [1, 2, 3, 4]
    assert result.best.parameters == {"--x": 4}


def test_the_goal_ends_the_study_and_the_others(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial == 0:
            job.hang()
        return 0.9 if job.spec.trial < 3 else 0.99

    result = studies.run(objective, domains=X, trials=50, parallel=2, goal=0.99)
    assert (result.state, result.reason) == (RunState.SUCCEEDED, "accuracy reached the goal: 0.99")
    assert studies.states() == [K, S, S, S]
    assert studies.trials[0].reason == result.reason


@pytest.mark.parametrize(("direction", "best"), [(Direction.MINIMIZE, 0.0), (Direction.MAXIMIZE, 9.0)])
def test_the_best_by_direction_and_all_objectives(studies, direction: Direction, best: float) -> None:
    def objective(job, parameters):
        for value in (-5.0, 50.0, float(job.spec.trial)):
            job.report("loss", value)
        job.report("time", 2.0)
        job.report("unwanted", 2.0)

    result = studies.run(objective, domains=X, trials=10, objectives=("loss", "time"), direction=direction, goal=best)
    assert result.best.number == best
    assert result.best.metrics["loss"] == MetricSummary(-5.0, 50.0, best)
    assert set(result.best.metrics) == {"loss", "time"}


def test_failed_trials_end_the_study_with_the_last_reason(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial in (1, 3, 4):
            raise ValueError("abc"[job.spec.trial % 3])
        return 1.0

    result = studies.run(objective, domains=X, trials=50, failed_trials=3)
    assert result.state is RunState.FAILED
    assert result.reason == "3 trials failed, the last one: the script raised ValueError('b')"
    assert result.hint == "mend it"
    assert studies.states() == [S, F, S, F, F]
    assert studies.trials[1].reason == "the script raised ValueError('b')"
    assert result.best.number == 0


def test_first_trials_that_fail_alike_end_the_study(studies) -> None:
    def objective(job, parameters):
        raise ValueError(f"gamma {parameters['--x']} is too much")

    result = studies.run(objective, domains=X, trials=50)
    assert result.state is RunState.FAILED
    assert result.reason.startswith("the first 2 trials failed in the same way: the script raised ValueError('gamma 0.")
    assert studies.states() == [F, F]


def test_a_study_that_allows_more_failures_goes_on_after_equal_ones(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial < 3:
            raise ValueError("not there")
        return 1.0

    result = studies.run(objective, domains=X, trials=5, failed_trials=20)
    assert (result.state, studies.states()) == (RunState.SUCCEEDED, [F, F, F, S, S])


def test_first_trials_that_fail_differently_do_not(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial < 2:
            raise [ValueError("a"), KeyError("b")][job.spec.trial]
        return 1.0

    assert studies.run(objective, domains=X, trials=4).state is RunState.SUCCEEDED
    assert studies.states() == [F, F, S, S]


@pytest.mark.parametrize("allowed", [0, 1])
def test_one_failed_trial_can_be_too_many(studies, allowed: int) -> None:
    def objective(job, parameters):
        raise ValueError

    result = studies.run(objective, domains=X, failed_trials=allowed)
    assert result.reason == "1 trial failed, the last one: the script raised ValueError()"


def test_lost_trials_are_run_again_with_the_same_values_and_are_no_failures(studies) -> None:
    seen: dict[int, list[object]] = {}
    together = threading.Barrier(2, timeout=60)

    def objective(job, parameters):
        tries = seen.setdefault(job.spec.trial, [])
        tries.append(parameters["--x"])
        if job.spec.trial < 2 and len(tries) < 3:
            together.wait()  # one worker carries both
            job.report("accuracy", 5.0, step=len(tries))
            job.lose()
        return parameters["--x"]

    settings = {"min_trials_required": "1", "start_step": "1"}
    result = studies.run(
        objective, domains=X, trials=4, parallel=2, failed_trials=1, early_stopping="medianstop",
        early_stopping_settings=settings,
    )  # fmt: skip
    assert (result.state, result.counts) == (RunState.SUCCEEDED, {S: 4}), result.reason
    assert [len(seen[number]) for number in range(4)] == [3, 3, 1, 1]
    assert all(len(set(values)) == 1 for values in seen.values())
    assert max(t.metrics["accuracy"].max for t in studies.trials) < 5.0
    assert len({job.name for job in studies.target.submitted}) == 8
    (note,) = [e for e in studies.events if isinstance(e, Noted) and "the same values: the worker was killed" in e.text]
    assert note.warning


def test_a_trial_that_is_always_lost_fails(studies) -> None:
    result = studies.run(lambda job, parameters: job.lose(), domains=X, trials=4)
    assert result.state is RunState.FAILED
    assert (
        result.reason == "the first 2 trials failed in the same way: the worker was killed (the trial was run 3 times)"
    )
    assert result.hint == "lower it"
    assert studies.states() == [F, F]


def test_a_study_without_a_success_has_failed(studies) -> None:
    def objective(job, parameters):
        raise ValueError("ab"[job.spec.trial])

    result = studies.run(objective, domains=X, trials=2)
    assert (result.state, result.hint) == (RunState.FAILED, "mend it")
    assert result.reason == "no trial succeeded: the script raised ValueError('b')"


def test_an_objective_that_is_never_reported(studies) -> None:
    result = studies.run(lambda job, p: 1.0, domains=X, objectives=("accurracy",), trials=50)
    assert (
        result.reason == "the first 2 trials failed in the same way: metric `accurracy` never reported; seen: accuracy"
    )
    assert result.hint == "did you mean 'accuracy'?"
    assert studies.states() == [F, F]


def test_metrics_that_were_only_printed_are_seen_too(studies) -> None:
    def objective(job, parameters):
        (Path(job.spec.folder) / "log.txt").write_text("epoch 1: val-acc=0.5 loss = .25\nf(x=y)\n")

    result = studies.run(objective, domains=X, trials=2)
    assert result.reason.endswith("metric `accuracy` never reported; seen: val-acc, loss")
    assert "kaptain.log_metrics(accuracy=...)" in result.hint
    studies.folder /= "nan"
    (studies.folder / "trials/0").mkdir(parents=True)
    (studies.folder / "trials/0/log.txt").write_text("accuracy=NaN\n")
    diverged = studies.run(lambda job, p: None, domains=X, trials=1)
    assert diverged.reason.endswith("metric `accuracy` was printed, but not as a finite number")
    studies.folder /= "other"
    assert studies.run(lambda job, p: None, domains=X, trials=2).reason.endswith("never reported; seen: none")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_objective_that_is_no_number_fails_the_trial(studies, bad: float) -> None:
    def objective(job, parameters):
        if job.spec.trial == 0:
            job.report("accuracy", bad)  # corrected below
        return bad if job.spec.trial == 1 else 0.5

    result = studies.run(objective, domains=X, trials=4, algorithm="tpe")
    assert studies.states() == [S, F, S, S]
    assert studies.trials[1].reason == f"metric `accuracy` is {bad}"
    assert studies.trials[1].metrics == {}
    assert result.best.number == 0


def test_stopping_kills_what_runs_and_keeps_what_is_done(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial >= 2:
            if job.spec.trial == 3:
                studies.stopping.set()
            job.hang()
        return 0.5

    result = studies.run(objective, domains=X, trials=50, parallel=2)
    assert (result.state, result.reason) == (RunState.STOPPED, "the study was stopped")
    assert studies.states() == [S, S, K, K]
    assert result.best.number in (0, 1)
    assert studies.target.running == 0


def test_stopping_before_the_start_starts_nothing(studies) -> None:
    studies.stopping.set()
    assert studies.run(x_of, domains=X).state is RunState.STOPPED
    assert studies.events == []


@pytest.mark.parametrize("done", [0, 1])
def test_the_timeout_ends_with_what_there_is(studies, done: int) -> None:
    def objective(job, parameters):
        if job.spec.trial >= done:
            job.hang()
        return 0.5

    result = studies.run(objective, domains=X, timeout=0.3)
    assert studies.states() == [S] * done + [K]
    assert result.state is (RunState.SUCCEEDED if done else RunState.FAILED)
    assert result.reason == "timed out after 0.3 s" + ("" if done else " without a successful trial")


def test_a_trial_that_ends_well_while_it_is_stopped_counts(studies) -> None:
    def objective(job, parameters):
        studies.stopping.set()
        assert job.stop.wait(60)
        return 0.5

    result = studies.run(objective, domains=X)
    assert studies.states() == [S]
    assert (result.state, result.best.number) == (RunState.STOPPED, 0)


# ---- early stopping ------------------------------------------------------------------------------------------------


def climb(job, parameters, steps: int = 12):
    """Report ``x * step`` at every step and hang on for a moment of being stopped."""
    for step in range(steps):
        job.report("accuracy", parameters["--x"] * step, step)
        if job.stop.wait(0.01 if step > 4 else 0):
            job.hang()
    return


def test_the_median_rule_stops_the_worse_half(studies) -> None:
    settings = {"min_trials_required": "2", "start_step": "3"}
    result = studies.run(
        climb, domains=X, trials=10, algorithm="random", early_stopping="medianstop", early_stopping_settings=settings,
    )  # fmt: skip
    states = studies.states()
    assert states[:2] == [S, S]
    assert E in states
    stopped = next(t for t in studies.trials if t.state is E)
    match = re.fullmatch(r"stopped early at step (\d+)", stopped.reason)
    assert match
    assert 3 <= int(match[1]) < 11
    assert stopped.metrics["accuracy"].latest >= stopped.parameters["--x"] * int(match[1])
    assert result.state is RunState.SUCCEEDED
    assert result.best.state is S
    assert sum(result.counts.values()) == 10


def test_steps_are_counted_where_the_script_names_none_and_facts_may_come_twice(studies) -> None:
    def objective(job, parameters):
        for value in range(6):
            job.report("accuracy", float(value))
            job.report("accuracy", float(value), value)
            job.report("other", 1.0, value)
            job.report("accuracy", float("nan"), value)

    studies.run(objective, domains=X, trials=3, early_stopping="medianstop", algorithm="tpe")
    assert studies.states() == [F] * 2  # the last value is no number


def test_hyperband_stops_most_trials_early(studies) -> None:
    result = studies.run(
        climb, domains=X, trials=20, algorithm="hyperband", algorithm_settings={"r_l": "9", "eta": "3"}
    )
    assert result.counts[E] > 3
    assert result.counts[S] > 0
    assert result.best.parameters["--x"] > 0.5


def test_a_search_learns_from_early_stopped_trials(studies) -> None:
    studies.run(
        climb, domains=X, trials=14, algorithm="tpe", early_stopping="medianstop",
        early_stopping_settings={"min_trials_required": "1", "start_step": "1"},
    )  # fmt: skip
    assert E in studies.states()


# ---- going on ------------------------------------------------------------------------------------------------------


def test_a_study_goes_on_where_another_was_interrupted(studies) -> None:
    def objective(job, parameters):
        if job.spec.trial == 5:
            studies.stopping.set()
            job.hang()
        if job.spec.trial == 2:
            raise ValueError
        return parameters["--x"]

    first = studies.run(objective, domains=X, trials=10, algorithm="tpe")
    assert first.counts == {S: 4, F: 1, K: 1}
    earlier = tuple(e for e in studies.events if isinstance(e, TrialChanged))  # any order, repeated: as in the store
    finished = studies.trials
    studies.events.clear()
    studies.stopping.clear()
    result = studies.run(x_of, earlier=tuple(reversed(earlier[-1:])) + earlier, domains=X, trials=10, algorithm="tpe")
    assert result.state is RunState.SUCCEEDED
    assert result.counts == {S: 9, F: 1, K: 1}  # the killed one does not count: ten others
    assert [t.number for t in studies.trials] == list(range(11))
    assert [t.parameters for t in studies.trials[:6]] == [t.parameters for t in finished]
    assert [t.name for t in studies.trials[:5]] == [t.name for t in finished[:5]]
    assert len(studies.target.submitted) == 5
    assert len({t.parameters["--x"] for t in studies.trials}) == 11
    assert result.best.parameters["--x"] == max(t.parameters["--x"] for t in studies.trials if t.state is S)


def test_a_trial_of_a_killed_supervisor_counts_as_killed(studies) -> None:
    left = TrialChanged(number=3, name="t3", state=TrialState.RUNNING, parameters={"--x": 0.5}, started=1.0)
    result = studies.run(x_of, earlier=(left,), domains=X, trials=2)
    assert studies.trials[0].state is K
    assert studies.trials[0].reason == "the study was interrupted"
    assert [t.number for t in studies.trials] == [3, 4, 5]
    assert result.counts == {K: 1, S: 2}


def test_a_finished_study_has_nothing_to_go_on_with(studies) -> None:
    studies.run(x_of, domains=X, trials=3)
    earlier = tuple(studies.trials)
    studies.events.clear()
    result = studies.run(x_of, earlier=earlier, domains=X, trials=3)
    assert studies.target.submitted == []
    assert (result.state, result.best) == (RunState.SUCCEEDED, max(earlier, key=lambda t: t.parameters["--x"]))
    reached = studies.run(x_of, earlier=earlier, domains=X, trials=9, goal=0.01)
    assert studies.target.submitted == []
    assert reached.reason.startswith("accuracy reached the goal")


def test_earlier_failures_do_not_end_the_study_that_goes_on(studies) -> None:
    failed = tuple(
        TrialChanged(number=n, name=f"t{n}", state=F, parameters={"--x": 0.5}, reason="same") for n in range(4)
    )
    result = studies.run(x_of, earlier=failed, domains=X, trials=6)
    assert result.counts == {F: 4, S: 2}


# ---- targets that misbehave ----------------------------------------------------------------------------------------


class Refusing:
    """A target that refuses every job."""

    name = "refusing"

    def submit(self, job):
        raise TargetError("quota exceeded: must specify cpu,memory", "add --cpu and --memory")


class Scripted:
    """A target whose jobs yield given events."""

    name = "scripted"

    def __init__(self, *events: Event | BaseException) -> None:
        self.events = events
        self.stopped: list[str] = []

    def submit(self, job):
        return JobRef(target=self.name, name=job.name)

    def follow(self, job, after=0):
        for event in self.events:
            if isinstance(event, BaseException):
                raise event
            yield event

    def stop(self, job):
        self.stopped.append(job.name)


def run_on(studies, target, **changes):
    return run_study(
        studies.spec(**{"domains": X, **changes}), target, emit=studies.events.append, stopping=studies.stopping,
        folder=studies.folder, upload_base="file:///store/dev/m",
    )  # fmt: skip


RUNNING, DONE = StateChanged(state=RunState.RUNNING), StateChanged(state=RunState.SUCCEEDED)
GOOD = MetricReported(name="accuracy", value=0.5)


def test_a_target_that_refuses_says_why(studies) -> None:
    result = run_on(studies, Refusing())
    assert result.reason.endswith("quota exceeded: must specify cpu,memory")
    assert result.hint == "add --cpu and --memory"
    assert studies.states() == [F, F]


def test_a_target_that_loses_the_connection_fails_the_trial_and_stops_its_job(studies) -> None:
    target = Scripted(RUNNING, GOOD, TargetError("the API server is away"))
    result = run_on(studies, target, trials=1)
    assert result.reason == "no trial succeeded: the API server is away"
    assert target.stopped == [studies.trials[0].name]


def test_a_job_without_an_end_is_lost(studies) -> None:
    assert run_on(studies, Scripted(RUNNING, GOOD), trials=1).reason.endswith("target scripted lost the job")


def test_facts_that_come_twice_change_nothing(studies) -> None:
    run_on(studies, Scripted(RUNNING, RUNNING, GOOD, GOOD, RUNNING, DONE, DONE, GOOD), trials=1)
    assert [e.state for e in studies.events] == [TrialState.RUNNING, S]
    assert studies.trials[0].metrics["accuracy"] == MetricSummary(0.5, 0.5, 0.5)


def test_logs_of_a_remote_job_go_to_its_folder_and_notes_to_the_study_once(studies) -> None:
    note = Noted(text="pulling image")
    run_on(studies, Scripted(RUNNING, note, LogWritten(text="one\n"), LogWritten(text="twö\n"), GOOD, DONE), trials=3)
    assert (studies.folder / "trials/2/log.txt").read_text() == "one\ntwö\n"
    assert [e for e in studies.events if isinstance(e, Noted)] == [note]


def test_an_error_of_ours_stops_every_trial_and_is_not_hidden(studies) -> None:
    target = Scripted(RUNNING, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_on(studies, target)


def test_an_event_that_cannot_be_written_stops_every_trial(studies) -> None:
    class Full:
        count = 0

        def append(self, event: Event) -> None:
            self.count += 1
            if self.count == 2:
                raise StateError("the disk is full")

    studies.events = Full()
    with pytest.raises(StateError):
        studies.run(lambda job, p: job.hang(), domains=X, parallel=2)
    assert studies.target.running == 0


def test_a_target_that_never_ends_a_job_does_not_hold_the_study(studies, monkeypatch) -> None:
    monkeypatch.setattr(study_module, "_STOP_TIMEOUT", 0.2)

    class Deaf(Scripted):
        def follow(self, job, after=0):
            yield RUNNING
            threading.Event().wait()

    target = Deaf()
    result = run_on(studies, target, timeout=0.2)
    assert studies.states() == [K]
    assert result.state is RunState.FAILED
    assert target.stopped


def test_a_trial_that_waits_for_its_target_is_shown(studies) -> None:
    begun = threading.Event()

    class Slow(Scripted):
        def follow(self, job, after=0):
            assert begun.wait(60)
            yield from super().follow(job)

    thread = threading.Thread(
        target=lambda: (studies.until(lambda: bool(studies.events)), begun.set()), daemon=True
    )  # fmt: skip
    thread.start()
    run_on(studies, Slow(RUNNING, GOOD, DONE), trials=1)
    thread.join()
    assert [e.state for e in studies.events] == [TrialState.PENDING, TrialState.RUNNING, S]


def test_a_study_that_cannot_work_starts_nothing(studies) -> None:
    with pytest.raises(DomainError):
        studies.run(x_of, domains={})
    assert studies.target.submitted == []


def test_memory_does_not_grow_with_the_number_of_trials(studies) -> None:
    class Sink:
        count = 0

        def append(self, event: Event) -> None:
            self.count += 1
            if self.count in (400, 2400):
                gc.collect()
                ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/kaptain_magics/*")])
                sizes.append(sum(trace.size for trace in ours.traces))

    sizes: list[int] = []
    sink = Sink()
    target = Scripted(RUNNING, GOOD, DONE)
    tracemalloc.start()
    try:
        result = run_study(
            studies.spec(domains=X, trials=1500, parallel=2), target, emit=sink.append, stopping=studies.stopping,
            folder=studies.folder, upload_base="file:///store/dev/m",
        )  # fmt: skip
    finally:
        tracemalloc.stop()
    assert result.counts == {S: 1500}
    assert sink.count == 3000
    assert sizes[1] - sizes[0] < 50_000, sizes


# ---- what the trials say about the study -----------------------------------------------------------------------------


def warnings(studies) -> list[Noted]:
    return [event for event in studies.events if isinstance(event, Noted) and event.warning]


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": "medianstop"},
        {"algorithm": "hyperband", "algorithm_settings": {"resource_name": "n"}, "domains": {"n": Integer(1, 27)}},
    ],
    ids=["medianstop", "hyperband"],
)
def test_a_stopping_rule_without_steps_is_reported_after_the_first_trial(studies, options) -> None:
    studies.run(lambda job, p: 0.5, **{"domains": X, "trials": 3, **options})
    (warning,) = warnings(studies)
    assert "cannot stop trials early: trial 0 reported accuracy only once" in warning.text
    assert "step=epoch" in warning.hint
    ended = [e.number for e in studies.events if isinstance(e, TrialChanged) and e.state is S]
    assert studies.events.index(warning) < [i for i, e in enumerate(studies.events) if e in studies.trials][1]
    assert ended == [0, 1, 2]


def test_a_stopping_rule_with_steps_needs_no_warning(studies) -> None:
    studies.run(climb, domains=X, trials=3, early_stopping="medianstop")
    assert warnings(studies) == []
