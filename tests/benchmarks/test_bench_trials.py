"""How fast trials run: the tutorial's study, and the overhead of one trial, against what others do.

Ray Tune takes part where ``tests/peers.py`` finds it (``pip install 'ray[tune]' scikit-learn``).
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from kaptain_magics.core.domains import AnyDomain, Double, Value
from kaptain_magics.core.events import TrialChanged
from kaptain_magics.core.states import RunState
from kaptain_magics.model import Workspace
from kaptain_magics.model.requests import TrainingRequest, TuningRequest
from kaptain_magics.script import capture
from tests.peers import find_peer

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]
ROUNDS = 3
TRIALS = 12
DOMAINS: dict[str, AnyDomain] = {"--gamma": Double(0.0001, 0.001), "--c": Double(0.01, 1.00)}

LIMIT = """
import time
begun = time.perf_counter()
import json, os, sys
import optuna
from joblib import dump
from sklearn import datasets, metrics, svm
from sklearn.model_selection import train_test_split
imported = time.perf_counter()
optuna.logging.set_verbosity(optuna.logging.ERROR)

def objective(trial):
    gamma, c = trial.suggest_float("--gamma", 1e-4, 1e-3), trial.suggest_float("--c", 0.01, 1.0)
    digits = datasets.load_digits()
    data = digits.images.reshape((len(digits.images), -1))
    clf = svm.SVC(C=c, gamma=gamma)
    X_train, X_test, y_train, y_test = train_test_split(data, digits.target, test_size=0.5, shuffle=False)
    clf.fit(X_train, y_train)
    predicted = clf.predict(X_test)
    str(clf), metrics.classification_report(y_test, predicted), str(metrics.confusion_matrix(y_test, predicted))
    dump(clf, f"model-{trial.number}.joblib")
    return clf.score(X_test, y_test)

study = optuna.create_study(direction="maximize")
for parameters in json.loads(sys.argv[1]):
    study.enqueue_trial(parameters)
study.optimize(objective, n_trials=len(json.loads(sys.argv[1])), n_jobs=2)
print(json.dumps([imported - begun, time.perf_counter() - imported, study.best_value]))
"""

RAY = """
import json, os, sys, time
begun = time.perf_counter()
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
import ray
from ray import tune

def objective(config):
    from joblib import dump
    from sklearn import datasets, metrics, svm
    from sklearn.model_selection import train_test_split
    digits = datasets.load_digits()
    data = digits.images.reshape((len(digits.images), -1))
    clf = svm.SVC(C=config["--c"], gamma=config["--gamma"])
    X_train, X_test, y_train, y_test = train_test_split(data, digits.target, test_size=0.5, shuffle=False)
    clf.fit(X_train, y_train)
    predicted = clf.predict(X_test)
    str(clf), metrics.classification_report(y_test, predicted), str(metrics.confusion_matrix(y_test, predicted))
    dump(clf, "model.joblib")
    return {"accuracy": clf.score(X_test, y_test)}

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
space = {"point": tune.grid_search(json.loads(sys.argv[1]))}
tuner = tune.Tuner(
    lambda config: objective(config["point"]), param_space=space,
    tune_config=tune.TuneConfig(metric="accuracy", mode="max", reuse_actors=True),
    run_config=tune.RunConfig(verbose=0, storage_path=sys.argv[2]),
)
best = tuner.fit().get_best_result().metrics["accuracy"]
print(json.dumps([time.perf_counter() - begun, best]))
ray.shutdown()
"""

CHEAP = """
import time
x = 0.0
begun = time.perf_counter()
while time.perf_counter() - begun < 0.001:
    pass
print(f"accuracy={x}")
"""


@contextlib.contextmanager
def cold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no warm worker runs; those that are started end with the block."""
    with tempfile.TemporaryDirectory(prefix="kpt") as folder, monkeypatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        try:
            yield
        finally:
            end_workers(folder)


def end_workers(folder: str) -> None:
    """End the warm workers whose sockets are below a folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any("zygote" in part for part in process.cmdline()) and process.environ().get("TMPDIR") == folder:
                process.kill()


def tutorial_script() -> str:
    """Return the tutorial's training script, without its sleep."""
    notebook = json.loads((Path(__file__).parents[2] / "notebooks" / "tutorial.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        first, _, source = "".join(cell["source"]).partition("\n")
        if first.startswith("%%writefile training.py"):
            return source.replace("time.sleep(10)", "pass")
    raise AssertionError("the tutorial has no training script")


def tune(workspace: Workspace, source: str, **options: object) -> tuple[float, list[TrialChanged]]:
    """Run a study; returns seconds from the call to its end, and its trials."""
    begun = time.perf_counter()
    study = (
        workspace.model("bench/study")
        .plan_tuning(TuningRequest(job=TrainingRequest(script=capture(source)), objectives=["accuracy"], **options))
        .start()
    )  # type: ignore[arg-type]
    assert study.wait(1200) is RunState.SUCCEEDED, study.reason
    return time.perf_counter() - begun, study.trials


def points() -> list[dict[str, Value]]:
    """Return the hyperparameters that every contender tries."""
    import random

    rng = random.Random(7)
    return [{"--gamma": rng.uniform(1e-4, 1e-3), "--c": rng.uniform(0.01, 1.0)} for _ in range(TRIALS)]


def limit(folder: Path) -> tuple[float, float, float]:
    """Run the study in one process of Optuna; returns seconds in all, seconds without the imports, best value."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", LIMIT, json.dumps(points())], cwd=folder, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begun, *json.loads(done.stdout.splitlines()[-1])[1:]


def fresh(folder: Path, source: str) -> float:
    """Run a new Python for every trial, two at a time; returns seconds."""
    (folder / "training.py").write_text(source)

    def trial(number: int) -> None:
        work = folder / f"fresh-{number}"
        work.mkdir(exist_ok=True)
        chosen = [text for name, value in points()[number].items() for text in (name, str(value))]
        env = {**os.environ, "TRAINED_MODEL_UPLOAD_PATH": (folder / f"uploaded-{number}").as_uri()}
        command = [sys.executable, str(folder / "training.py"), *chosen]
        subprocess.run(command, cwd=work, env=env, capture_output=True, check=True)

    begun = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(trial, range(TRIALS)))
    return time.perf_counter() - begun


def ray(folder: Path) -> float | None:
    """Run the study with Ray Tune, actors reused; returns seconds, or nothing where it is not installed."""
    python = find_peer("ray")
    if python is None:
        return None
    begun = time.perf_counter()
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "TMPDIR": "/tmp"}  # its sockets need a short path
    command = [str(python), "-c", RAY, json.dumps(points()), str(folder / "ray")]
    subprocess.run(command, cwd=folder, env=env, capture_output=True, check=True, timeout=300)
    return time.perf_counter() - begun


def test_the_tutorials_study(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tutorial_script()
    asked = {"domains": DOMAINS, "trials": TRIALS, "parallel": 2, "algorithm": "random"}
    times: dict[str, list[float]] = {}

    def took(name: str, seconds: float | None) -> None:
        if seconds is not None:
            times.setdefault(name, []).append(seconds)

    workspace = Workspace()
    for round_ in range(ROUNDS):
        folder = tmp_path / str(round_)
        folder.mkdir()
        whole, study, best = limit(folder)
        assert best > 0.9
        took("limit: Optuna in one process", whole)
        took("limit without its imports", study)
        with cold(monkeypatch):
            seconds, trials = tune(workspace, source, **asked)
            assert len(trials) == TRIALS
            took("kaptain_magics, cold", seconds)
            run = workspace.model("bench/study").plan_training(TrainingRequest(script=capture(source))).start()
            assert run.wait(120) is RunState.SUCCEEDED
            took("kaptain_magics, after a train", tune(workspace, source, **asked)[0])
        took("a new Python for every trial", fresh(folder, source))
        took("Ray Tune, actors reused", ray(folder))
    rows = {name: statistics.median(seconds) for name, seconds in times.items()}
    cold_limit, warm_limit = rows["limit: Optuna in one process"], rows["limit without its imports"]
    print(f"\nthe tutorial's study, {TRIALS} trials, 2 at a time; median of {ROUNDS}")
    print(f"{'':34}{'seconds':>9}{'of limit':>10}{'of limit without imports':>26}")
    for name, seconds in rows.items():
        print(f"{name:34}{seconds:9.2f}{seconds / cold_limit:10.2f}{seconds / warm_limit:26.2f}")
    slow = rows["a new Python for every trial"]
    print(
        f"a new Python takes {slow / rows['kaptain_magics, cold']:.1f} x as long as kaptain_magics cold, "
        f"{slow / rows['kaptain_magics, after a train']:.1f} x as long as warm"
    )


def overhead(trials: list[TrialChanged]) -> float:
    """Milliseconds of a trial beyond its objective's one, from the first trial's start to the last one's end."""
    return (max(t.ended for t in trials) - min(t.started for t in trials)) / len(trials) * 1000 - 1.0


def test_overhead_of_a_trial(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace()
    asked = {"domains": {"x": Double(0, 1)}, "parallel": 1, "algorithm": "random"}
    begun = time.perf_counter()
    script = tmp_path / "cheap.py"
    script.write_text(CHEAP)
    for _ in range(50):
        subprocess.run([sys.executable, str(script)], capture_output=True, check=True)
    python = (time.perf_counter() - begun) / 50 * 1000 - 1.0
    rows = []
    with cold(monkeypatch):
        tune(workspace, CHEAP, **asked, trials=10)  # the worker is warm now
        for count, rounds in ((100, ROUNDS), (1000, 1), (5000, 1)):
            runs = [tune(workspace, CHEAP, **asked, trials=count)[1] for _ in range(rounds)]
            assert [len(trials) for trials in runs] == [count] * rounds
            rows.append((count, statistics.median(overhead(trials) for trials in runs)))
    print("\noverhead of a warm trial with an objective of 1 ms, one at a time")
    print(f"{'trials':>8}{'ms each':>10}{'of 100 trials':>15}{'of a new Python':>17}")
    for count, each in rows:
        print(f"{count:8}{each:10.1f}{each / rows[0][1]:15.2f}{each / python:17.2f}")
