"""Which model and which scores of a script are clear without being named."""

from __future__ import annotations

import ast
import traceback
from typing import Any

import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler

from kaptain_magics.runtime.found_models import find_model, names_in_loops
from kaptain_magics.runtime.found_results import ResultFinder
from kaptain_magics.runtime.found_scores import Scores

X, Y = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0], [4.0, 4.0], [5.0, 0.0]], [0, 1, 0, 1, 0, 1]
HEAD = """
from sklearn import metrics
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error as error
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
import numpy as np
class Net:
    def evaluate(self, X, y):
        return [0.25, 0.5]
net = Net()
clf, reg = LogisticRegression().fit(X, y), LinearRegression().fit(X, y)
grid = GridSearchCV(LogisticRegression(), {"C": [1]}, scoring="f1", cv=2).fit(X, y)
X_test, y_test, X_train, y_train, y_pred = X, y, X, y, clf.predict(X)
"""


def scores_of(source: str) -> tuple[dict[str, str], list[str]]:
    tree = ast.parse(HEAD + source)
    scores = Scores(tree)
    namespace: dict[str, Any] = {"X": X, "y": Y}
    scores.install(namespace)
    exec(compile(tree, "cell.py", "exec"), namespace)
    clear, unclear = scores.values()
    return {name: source for name, (_, source) in clear.items()}, unclear


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("score = clf.score(X_test, y_test)", {"accuracy": "score"}),
        ("print(clf.score(X, y))", {"accuracy": "clf.score(X, y)"}),
        ("print('R2', round(reg.score(X, y), 3))", {"r2": "reg.score(X, y)"}),
        ("score = grid.score(X, y)", {"f1": "score"}),
        ("test_acc = accuracy_score(y_test, y_pred)", {"test_acc": "test_acc"}),
        ("print(f'Accuracy: {accuracy_score(y, y_pred):.2f}')", {"accuracy": "accuracy_score(y, y_pred)"}),
        ("rmse = np.sqrt(error(y, reg.predict(X)))", {"rmse": "rmse"}),
        ("s = error(y, reg.predict(X))", {"mse": "s"}),
        ("a = metrics.f1_score(y, y_pred)", {"a": "a"}),
        ("scores = cross_val_score(clf, X, y, cv=2, scoring='f1')\nprint(scores.mean())", {"cv_f1": "scores.mean()"}),
        ("score = cross_val_score(clf, X, y, cv=2).mean()", {"cv_score": "score"}),
        (
            "print(clf.score(X_train, y_train))\nprint(clf.score(X_test, y_test))",
            {"train_accuracy": "clf.score(X_train, y_train)", "test_accuracy": "clf.score(X_test, y_test)"},
        ),
        ("if __name__ != '':\n    score = clf.score(X, y)", {"accuracy": "score"}),
        ("loss, acc = net.evaluate(X, y)", {"loss": "loss", "acc": "acc"}),
        ("loss, (acc, other) = net.evaluate(X, y), (1, 2)", {}),
        ("f1_score(y, y_pred, average=None)", {}),
        ("per_class = f1_score(y, y_pred, average=None)", {}),
        ("for fold in range(2):\n    score = clf.score(X, y)", {}),
        ("def evaluate():\n    return clf.score(X, y)\nevaluate()", {}),
        ("score = clf.score(X, y)\nprint(f'accuracy={score:.2f}')", {}),
        ("print(f'accuracy={clf.score(X, y)}')", {}),
        ("print(f'test accuracy={clf.score(X, y)}')", {"accuracy": "clf.score(X, y)"}),
        ("def accuracy(y, z):\n    return 0.5\nscore = accuracy(y, y_pred)", {}),
    ],
)
def test_scores(source: str, expected: dict[str, str], capsys: Any) -> None:
    assert scores_of(source) == (expected, [])


def test_scores_of_one_name_are_unclear(capsys: Any) -> None:
    assert scores_of("print(clf.score(X, y))\nprint(grid.best_estimator_.score(X, y))") == ({}, ["accuracy"])


def test_lines_of_a_traceback_stay_the_scripts() -> None:
    tree = ast.parse(HEAD + "\n\nscore = clf.score(X, [0])\n")
    scores = Scores(tree)
    namespace: dict[str, Any] = {"X": X, "y": Y}
    scores.install(namespace)
    with pytest.raises(ValueError, match="inconsistent") as caught:
        exec(compile(tree, "cell.py", "exec"), namespace)
    lines = [frame.lineno for frame in traceback.extract_tb(caught.value.__traceback__) if frame.filename == "cell.py"]
    assert lines == [16]


def fitted() -> dict[str, Any]:
    scaler = StandardScaler().fit(X)
    return {
        "clf": LogisticRegression().fit(X, Y),
        "reg": LinearRegression().fit(X, Y),
        "scaler": scaler,
        "pca": PCA(1).fit(X),
        "labels": LabelEncoder().fit(Y),
        "raw": LogisticRegression(),
        "pipe": make_pipeline(scaler, LogisticRegression()).fit(X, Y),
        "grid": GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2).fit(X, Y),
    }


@pytest.mark.parametrize(
    ("names", "chosen", "said"),
    [
        ("clf", "clf", ""),
        ("clf raw", "clf", ""),
        ("pipe scaler", "pipe", ""),
        ("grid raw", "grid", ""),
        ("scaler", "scaler", ""),
        ("raw", "", ""),
        ("clf scaler", "clf", "`scaler` (StandardScaler) was fitted too and is not part of `clf`"),
        ("clf scaler pca", "clf", "`pca` (PCA) were fitted too"),
        (
            "clf labels",
            "clf",
            "if `labels` (LabelEncoder) made the classes of `clf`, the endpoint answers in those codes",
        ),
        ("clf reg", "", "several are fitted: `clf` (LogisticRegression), `reg` (LinearRegression)"),
        ("scaler pca", "", "several are fitted: `scaler` (StandardScaler), `pca` (PCA)"),
    ],
)
def test_models(names: str, chosen: str, said: str) -> None:
    variables = {name: fitted()[name] for name in names.split()} if "pipe" not in names else fitted()
    if "pipe" in names:
        variables = {name: variables[name] for name in names.split()}
    choice = find_model({"X": X, "np": ast, "cls": LogisticRegression, **variables}, set(), {})
    assert choice.name == chosen
    assert said in choice.text


def test_a_model_by_two_names_and_parts_of_a_model_count_once() -> None:
    models = fitted()
    assert find_model({"clf": models["clf"], "best": models["clf"]}, set(), {}).name == "clf"
    assert find_model({"grid": models["grid"], "best": models["grid"].best_estimator_}, set(), {}).name == "grid"


def test_models_of_a_comparison_are_several() -> None:
    models = {"a": LogisticRegression().fit(X, Y), "b": LinearRegression().fit(X, Y)}
    choice = find_model({"models": models, "clf": models["b"]}, set(), {})
    assert "several are fitted: `clf` (LinearRegression), `models['a']` (LogisticRegression)" in choice.text
    looped = names_in_loops(ast.parse("for clf in [1, 2]:\n    other = clf\nlast = clf\nfor i in range(3): pass"))
    assert looped == {"clf", "other", "i"}
    choice = find_model({"clf": models["b"]}, looped, {})
    assert choice.text == "no model was saved: `clf` (LinearRegression) is the last one of a loop"


def test_what_was_sent_is_not_the_scripts() -> None:
    clf = LogisticRegression().fit(X, Y)
    assert find_model({"clf": clf}, set(), {"clf": clf}).name == ""


def test_looking_for_results_fails_no_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAPTAIN_CHANNEL", raising=False)

    def broken(*_: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr("kaptain_magics.runtime.found_results.find_model", broken)
    monkeypatch.setattr("kaptain_magics.runtime.channel._sent", set())  # what earlier tests of this process have sent
    finder = ResultFinder(ast.parse("x = 1"), {"find_model": True, "find_metrics": True})
    namespace: dict[str, Any] = {}
    finder.begin(namespace)
    finder.end(namespace)
    assert "no model was saved: looking for one ended with OSError: no such device" in capsys.readouterr().err
