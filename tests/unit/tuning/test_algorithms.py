"""The table of algorithms: names, settings and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.algorithm_settings import whole
from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Double, Integer
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import AlgorithmError, ConfigError, DomainError, KaptainError, ObjectiveError, TargetError
from kaptain_magics.targets.base import TargetConfig, open_target
from kaptain_magics.targets.kubernetes.manifests.experiment import SEEDED
from kaptain_magics.targets.kubernetes.studies.katib_checks import takes_seed
from kaptain_magics.targets.kubernetes.studies.katib_studies import KatibRunner
from kaptain_magics.targets.study_runners import StudyRunner, choose_runner, runner_of
from kaptain_magics.tuning.algorithms import ALGORITHMS, make_search, make_stopper
from kaptain_magics.tuning.checks import check_study, combinations, fit_grid, remarks

KATIB = KatibRunner(None, None)  # its checks need no cluster


def by_katib(spec: StudySpec) -> StudySpec:
    return msgspec.structs.replace(spec, tuner="katib")


def test_names_are_understood_as_people_write_them() -> None:
    assert Algorithm.of("Multivariate_TPE ") is Algorithm.MULTIVARIATE_TPE
    assert Algorithm.RANDOM.value == "random"
    with pytest.raises(AlgorithmError, match="did you mean 'random'"):
        Algorithm.of("randon")
    with pytest.raises(AlgorithmError, match="one of random, grid"):
        Algorithm.of("x")


def test_only_katib_has_some(studies) -> None:
    for name in ("pbt", "enas", "darts"):
        spec = studies.spec(algorithm=name, domains={"x": Double(0, 1)})
        with pytest.raises(AlgorithmError, match=f"only Katib has {name}"):
            check_study(spec)
        check_study(by_katib(spec), KATIB)


BAD = [
    ({"algorithm_settings": {"random_stat": "1"}}, AlgorithmError, "did you mean 'random_state'"),
    ({"algorithm_settings": {"random_state": "-1"}}, AlgorithmError, "is not a whole number from 0"),
    ({"algorithm_settings": {"random_state": "one"}}, AlgorithmError, "is not a whole number from 0"),
    ({"algorithm": "tpe", "algorithm_settings": {"n_ei_candidates": "0"}}, AlgorithmError, "whole number from 1"),
    ({"algorithm": "cmaes", "algorithm_settings": {"sigma": "nan"}}, AlgorithmError, "is not a number above 0"),
    ({"algorithm": "cmaes", "algorithm_settings": {"restart_strategy": "ipop"}}, AlgorithmError, "others need Katib"),
    ({"algorithm": "bayesianoptimization", "algorithm_settings": {"base_estimator": "RF"}}, AlgorithmError, "Katib"),
    (
        {"algorithm": "cmaes", "domains": {"x": Double(0, 1), "y": Categorical(["a", "b"])}},
        AlgorithmError,
        "cmaes needs at least two numeric hyperparameters, found x",
    ),
    (
        {"algorithm": "tpe", "algorithm_settings": {"gamma": "0.2"}},
        AlgorithmError,
        "one of random_state, n_startup_trials",
    ),
    ({"domains": {"x": 0.5}}, DomainError, "x=0.5 is not a domain"),
    ({"seed": 1, "algorithm_settings": {"random_state": "2"}}, AlgorithmError, "--seed 1 and random_state=2 disagree"),
    ({"algorithm": "grid"}, DomainError, "give it a step"),
    ({"algorithm": "grid", "domains": {"n": Integer(1, 9, log=True)}}, DomainError, "cannot enumerate n"),
    ({"algorithm": "hyperband"}, AlgorithmError, "needs r_l"),
    ({"algorithm": "hyperband", "algorithm_settings": {"resource_name": "epoch"}}, AlgorithmError, "'epochs'"),
    ({"algorithm": "hyperband", "algorithm_settings": {"resource_name": "kind"}}, DomainError, "does not contain"),
    (
        {"algorithm": "hyperband", "algorithm_settings": {"resource_name": "epochs", "r_l": "99"}},
        DomainError,
        "does not contain r_l = 99",
    ),
    (
        {"algorithm": "hyperband", "algorithm_settings": {"r_l": "9"}, "early_stopping": "medianstop"},
        AlgorithmError,
        "by itself",
    ),
    ({"early_stopping": "medianstopp"}, AlgorithmError, "did you mean 'medianstop'"),
    ({"early_stopping_settings": {"start_step": "4"}}, AlgorithmError, "without a rule"),
    ({"early_stopping": "medianstop", "early_stopping_settings": {"start_step": "0"}}, AlgorithmError, "from 1"),
    ({"early_stopping": "medianstop", "early_stopping_settings": {"start_steps": "3"}}, AlgorithmError, "'start_step'"),
    ({"domains": {}}, DomainError, "nothing to search"),
    ({"objectives": ()}, ObjectiveError, "needs objectives"),
    ({"objectives": ("a", "a")}, ObjectiveError, "named once"),
    ({"goal": float("nan")}, ObjectiveError, "not a finite number"),
    ({"trials": 0}, ConfigError, "--trials 1"),
    ({"failed_trials": -1}, ConfigError, "--failed-trials 1"),
    ({"timeout": 0.0}, ConfigError, "greater than 0, not 0.0"),
]


@pytest.mark.parametrize(("changes", "error", "text"), BAD, ids=lambda v: str(v)[:60])
def test_what_cannot_work_is_refused_in_one_line(studies, changes, error: type[KaptainError], text: str) -> None:
    domains: dict[str, AnyDomain] = {"gamma": Double(0, 1), "epochs": Integer(1, 27), "kind": Categorical(["a", "b"])}
    with pytest.raises(error, match=text) as raised:
        check_study(studies.spec(**{"domains": domains, **changes}))
    assert raised.value.hint
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(("algorithm", "module"), [("sobol", "scipy"), ("cmaes", "cmaes")])
def test_a_missing_library_is_named_with_its_pip_line(studies, monkeypatch, algorithm: str, module: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else find(name, *a))
    with pytest.raises(AlgorithmError, match=f"needs {module}.*\npip install {module}"):
        check_study(studies.spec(algorithm=algorithm, domains={"x": Double(0, 1), "y": Double(0, 1)}))


@pytest.mark.interpreter
def test_checking_a_study_imports_no_library() -> None:
    code = (
        "import sys\nfrom kaptain_magics.tuning import algorithms\nprint([a for a in algorithms.ALGORITHMS])\n"
        "heavy = {'optuna', 'numpy', 'scipy', 'cmaes', 'torch'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_seed_of_the_line_wins_over_the_setting(studies) -> None:
    domains = {"x": Double(0, 1)}
    setting = {"random_state": "5"}
    by_setting = make_search(studies.spec(domains=domains, seed=None, algorithm_settings=setting)).ask(0)
    assert by_setting == make_search(studies.spec(domains=domains, seed=5)).ask(0)
    assert by_setting != make_search(studies.spec(domains=domains, seed=6, algorithm_settings=setting)).ask(0)
    unseeded = studies.spec(domains=domains, seed=None)
    assert make_search(unseeded).ask(0) != make_search(unseeded).ask(0)


def test_settings_reach_the_sampler(studies) -> None:
    domains = {"x": Double(0, 1)}
    spec = studies.spec(
        domains=domains, algorithm="tpe", algorithm_settings={"n_startup_trials": "3", "n_EI_candidates": "7"}
    )
    search = make_search(spec)
    search.ask(0)
    sampler = search._study.sampler
    assert (sampler._n_startup_trials, sampler._n_ei_candidates, sampler._multivariate) == (3, 7, False)
    stopper = make_stopper(
        studies.spec(domains=domains, early_stopping="medianstop", early_stopping_settings={"start_step": "6"})
    )
    assert stopper._study.pruner._n_warmup_steps == 6


@pytest.mark.parametrize("direction", list(Direction))
def test_a_stopping_rule_goes_the_objectives_way(studies, direction: Direction) -> None:
    spec = studies.spec(domains={"x": Double(0, 1)}, early_stopping="medianstop", direction=direction)
    assert make_stopper(spec)._study.direction.name.lower() == direction


@pytest.mark.parametrize("domain", [Integer(1, 27), Discrete(["1", "9", "27"]), Double(1, 27)])
def test_hyperband_gives_every_trial_the_whole_resource(studies, domain: AnyDomain) -> None:
    spec = studies.spec(
        algorithm="hyperband",
        algorithm_settings={"resource_name": "epochs", "eta": "3"},
        domains={"epochs": domain, "x": Double(0, 1)},
    )
    check_study(spec)
    search = make_search(spec)
    asked = [search.ask(n) for n in range(20)]
    assert {type(a["epochs"])(a["epochs"]) for a in asked} == {asked[0]["epochs"]}
    assert float(asked[0]["epochs"]) == 27
    assert domain.contains(asked[0]["epochs"])
    assert len({a["x"] for a in asked}) == 20
    assert make_stopper(spec)._study.pruner._max_resource == 27


def test_every_row_can_be_made(studies) -> None:
    for algorithm in ALGORITHMS:
        settings = {"r_l": "9"} if algorithm is Algorithm.HYPERBAND else {}
        domains = {"x": Integer(0, 3), "y": Integer(0, 3)}
        spec = studies.spec(algorithm=algorithm.value, algorithm_settings=settings, domains=domains)
        check_study(spec)
        assert make_search(spec).ask(0) is not None
        assert (make_stopper(spec) is not None) is (algorithm is Algorithm.HYPERBAND)


NUMBERS: dict[str, AnyDomain] = {"x": Double(0.1, 1), "n": Integer(1, 27)}
HYPERBAND = {"r_l": "9", "resource_name": "n"}
KATIB_REFUSES = [
    ({"algorithm": "tpe", "algorithm_settings": {"n_startup_trials": "3"}}, "no setting 'n_startup_trials'.*n_EI_cand"),
    ({"algorithm": "tpe", "algorithm_settings": {"gamma": "2"}}, "is not a number between 0 and 1"),
    ({"algorithm": "sobol", "algorithm_settings": {"random_state": "3"}}, "no setting 'random_state'"),
    ({"algorithm": "bayesianoptimization", "algorithm_settings": {"acq_func": "UCB"}}, "one of gp_hedge"),
    ({"algorithm": "bayesianoptimization", "domains": {"x": Double(0, 1)}}, "searches on a logarithmic scale, but x"),
    ({"algorithm": "cmaes", "domains": {"x": Double(0, 1), "d": Discrete([1, 2])}}, "two Double or Integer"),
    ({"algorithm": "grid", "domains": {"x": Double(0, 1)}}, "cannot enumerate x"),
    ({"algorithm": "hyperband", "algorithm_settings": {"r_l": "9"}}, "needs resource_name"),
    ({"algorithm": "hyperband", "algorithm_settings": {"resource_name": "n"}}, "needs r_l"),
    ({"algorithm": "hyperband", "algorithm_settings": {**HYPERBAND, "resource_name": "m"}}, "'m' is not searched"),
    ({"algorithm": "hyperband", "algorithm_settings": HYPERBAND, "parallel": 8}, "9 trials at a time.*not 8"),
    ({"early_stopping": "medianstop", "early_stopping_settings": {"start_steps": "3"}}, "'start_step'"),
]


@pytest.mark.parametrize(("changes", "text"), KATIB_REFUSES, ids=lambda v: str(v)[:60])
def test_what_katib_would_refuse_is_refused_before_it_starts(studies, changes, text: str) -> None:
    with pytest.raises(KaptainError, match=f"(?s){text}") as raised:
        check_study(by_katib(studies.spec(**{"domains": NUMBERS, **changes})), KATIB)
    assert raised.value.hint


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "tpe", "algorithm_settings": {"gamma": "0.2", "n_EI_candidates": "3", "random_state": "1"}},
        {"algorithm": "cmaes", "algorithm_settings": {"restart_strategy": "bipop", "sigma": "0.1"}},
        {"algorithm": "bayesianoptimization", "algorithm_settings": {"base_estimator": "RF", "acq_func": "gp_hedge"}},
        {"algorithm": "hyperband", "algorithm_settings": HYPERBAND, "parallel": 9},
        {"algorithm": "multivariate-tpe", "early_stopping": "medianstop"},
        {"algorithm": "sobol"},
    ],
    ids=str,
)
def test_what_katib_takes(studies, changes) -> None:
    check_study(by_katib(studies.spec(**{"domains": NUMBERS, **changes})), KATIB)


def test_before_the_cluster_is_known_what_one_of_the_two_takes_is_let_through(studies) -> None:
    for settings in ({"gamma": "0.2"}, {"n_startup_trials": "3"}):
        check_study(studies.spec(algorithm="tpe", domains=NUMBERS, algorithm_settings=settings), KATIB)
    with pytest.raises(AlgorithmError, match="no setting 'x'"):
        check_study(studies.spec(algorithm="tpe", domains=NUMBERS, algorithm_settings={"x": "1"}), KATIB)


def test_the_tuner_is_one_of_the_target(studies, tmp_path: Path) -> None:
    config = TargetConfig(home=tmp_path, cache=tmp_path)
    assert runner_of(open_target("local", config)) is None
    assert runner_of(open_target("kubernetes", config)).name == "katib"
    spec = studies.spec(domains=NUMBERS, tuner="katib")
    with pytest.raises(ConfigError, match="no tuner 'katib' on this target") as raised:
        check_study(spec)
    assert raised.value.hint == "one of auto, jobs"
    with pytest.raises(ConfigError, match="no tuner 'kaitb'") as raised:
        check_study(msgspec.structs.replace(spec, tuner="kaitb"), KATIB)
    assert raised.value.hint == "did you mean 'katib'?"


class OtherRunner:
    """The tuner of another distribution's target: it has one algorithm, and may not be there."""

    name, title = "vizier", "Vizier"

    def __init__(self, there: bool) -> None:
        self.there = there

    def settings(self, algorithm: str):
        return {"trust": whole("", 1)} if algorithm == "random" else None

    def check(self, study) -> None:
        if study.algorithm != "random":
            raise AlgorithmError(f"Vizier has no {study.algorithm}", "use --algorithm random")

    def remarks(self, study):
        return ["Vizier rounds."]

    def available(self, study) -> bool:
        return self.there and study.algorithm == "random"


def test_a_tuner_of_another_distribution_brings_its_own_checks(studies) -> None:
    there, away = OtherRunner(True), OtherRunner(False)
    spec = studies.spec(domains=NUMBERS, tuner="vizier", algorithm_settings={"trust": "0"})
    with pytest.raises(AlgorithmError, match="Vizier's random: trust '0' is not a whole number from 1"):
        check_study(spec, there)
    with pytest.raises(AlgorithmError, match="random has no setting 'trust'") as raised:
        check_study(msgspec.structs.replace(spec, tuner="jobs"), there)
    assert "another implementation" in raised.value.hint
    with pytest.raises(AlgorithmError, match="Vizier has no tpe"):
        check_study(studies.spec(domains=NUMBERS, tuner="vizier", algorithm="tpe"), there)
    good = studies.spec(domains=NUMBERS, tuner="vizier")
    assert [note.text for note in remarks(good, there)] == ["Vizier rounds."]
    assert choose_runner(there, good) is there
    with pytest.raises(TargetError, match="--tuner vizier, but Vizier is not there") as refused:
        choose_runner(away, good)
    assert "--tuner jobs" in refused.value.hint
    for tuner in ("", "auto"):
        free = msgspec.structs.replace(good, tuner=tuner)
        assert (choose_runner(there, free), choose_runner(away, free)) == (there, None)
    assert choose_runner(there, msgspec.structs.replace(good, tuner="jobs")) is None
    assert choose_runner(None, good) is None


@pytest.mark.parametrize(
    ("runner", "changes", "said"),
    [
        (None, {"algorithm": "grid", "domains": {"n": Integer(1, 3)}}, ["grid is not random: its seed"]),
        (
            None,
            {"algorithm": "cmaes", "domains": {**NUMBERS, "kind": Categorical(["a", "b"])}},
            ["cmaes searches numbers only: kind is sampled at random"],
        ),
        (
            None,
            {"algorithm": "hyperband", "algorithm_settings": {"resource_name": "n"}},
            ["hyperband gives every trial n=27"],
        ),
        (None, {"algorithm": "tpe"}, []),
        (KATIB, {"algorithm": "tpe"}, []),
        (
            KATIB,
            {"algorithm": "sobol", "domains": {"x": Double(0.1, 1, log=True)}},
            ["Katib's sobol has no seed: --seed 1", "Katib's sobol samples uniformly and ignores log=True: x ="],
        ),
        (
            KATIB,
            {"algorithm": "cmaes", "domains": {**NUMBERS, "d": Discrete([1, 2])}},
            ["Katib's cmaes samples choices at random: d ="],
        ),
        (
            KATIB,
            {"algorithm": "bayesianoptimization", "domains": {**NUMBERS, "k": Integer(1, 9, log=True)}},
            ["searches on a logarithmic scale: x =", "samples integers uniformly and ignores log=True: k ="],
        ),
    ],
    ids=str,
)
def test_what_is_passed_over_is_reported(studies, runner: StudyRunner | None, changes, said: list[str]) -> None:
    spec = studies.spec(**{"domains": NUMBERS, **changes})
    check_study(spec if runner is None else by_katib(spec), runner)
    lines = [note.text for note in remarks(spec, runner)]
    assert len(lines) == len(said)
    assert all(text in line for text, line in zip(said, lines, strict=True))


def test_a_grid_has_no_more_trials_than_combinations(studies) -> None:
    domains = {"n": Integer(1, 5, step=2), "x": Double(0, 1, step=0.5), "kind": Categorical(["a", "b"])}
    assert combinations(domains) == 18
    assert combinations({"x": Double(0, 1)}) is None
    spec, notes = fit_grid(studies.spec(algorithm="grid", domains={"n": domains["n"]}, trials=16, parallel=4))
    assert (spec.trials, spec.parallel) == (3, 3)
    assert [note.text for note in notes] == ["The grid has 3 combinations: 3 trials instead of 16."]
    assert fit_grid(studies.spec(algorithm="grid", domains=domains, trials=6))[1] == []
    assert fit_grid(studies.spec(domains={"n": Integer(1, 3)}, trials=6))[1] == []


def test_the_manifest_gives_the_seed_to_those_that_take_one() -> None:
    assert set(SEEDED) == {a.value for a in Algorithm if takes_seed(a)}
