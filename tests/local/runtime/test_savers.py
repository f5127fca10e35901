"""What can be saved and what is refused; the frameworks' own formats are tested in tests/parts/frameworks."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer

from kaptain_magics.runtime.datatypes import datatype_of
from kaptain_magics.runtime.job_errors import ExportError
from kaptain_magics.runtime.savers import write_model
from kaptain_magics.runtime.savers.base import Description, tensors
from kaptain_magics.runtime.savers.guess import framework_of

ROWS = np.arange(12.0).reshape(6, 2)


def of(module: str, *bases: type) -> Any:
    """Return an object of a class that says it comes from that module."""
    return type("Model", bases or (object,), {"__module__": module})()


@pytest.mark.parametrize(
    ("model", "framework"),
    [
        (LinearRegression(), "sklearn"),
        (of("xgboost.core"), "xgboost"),
        (of("xgboost.sklearn", LinearRegression), "xgboost"),
        (of("__main__", type(of("torch.nn.modules.module"))), "pytorch"),
        (of("lightgbm.basic"), "lightgbm"),
        (of("onnx.onnx_ml_pb2"), "onnx"),
        (of("keras.src.models.sequential"), "tensorflow"),
        (of("tensorflow.python.module.module"), "tensorflow"),
        (of("mlflow.pyfunc"), "mlflow"),
        (of("torchlike.nn"), ""),
        (len, ""),
        (of, "python"),
        (KMeans, "python"),
        (json, "python"),
        ("model.onnx", "onnx"),
        (Path("model.pt2"), "pytorch"),
        ("model.ubj", "xgboost"),
        ("predictor.py", "python"),
        ("model", ""),
        (None, ""),
    ],
)
def test_the_framework_is_reported_by_the_classes(model: Any, framework: str) -> None:
    known = set(sys.modules)
    assert framework_of(model) == framework
    assert set(sys.modules) == known


def test_a_folder_shows_its_framework(tmp_path: Path) -> None:
    (tmp_path / "saved" / "0001").mkdir(parents=True)
    (tmp_path / "saved" / "0001" / "saved_model.pb").touch()
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "MLmodel").touch()
    assert framework_of(tmp_path / "saved") == framework_of(tmp_path / "saved" / "0001") == "tensorflow"
    assert framework_of(tmp_path / "flow") == "mlflow"
    assert framework_of(tmp_path) == ""


def test_the_description_shows_what_the_model_knows(tmp_path: Path) -> None:
    import pandas as pd

    model = DummyClassifier(strategy="prior").fit(pd.DataFrame(ROWS, columns=["a", "b"]), ["x", "y"] * 3)
    write_model(model, tmp_path, name="first")
    description = json.loads((tmp_path / "kaptain-model.json").read_text())
    assert description["framework"] == "sklearn"
    assert (description["format"], description["model"], description["kind"]) == (
        "joblib",
        "model.joblib",
        "DummyClassifier",
    )
    assert (description["name"], description.pop("told_by")) == ("first", "model")
    assert (description["columns"], description["classes"]) == (["a", "b"], ["x", "y"])
    assert [tensor["name"] for tensor in description["inputs"]] == ["a", "b"]
    assert description["outputs"] == [
        {"name": "predict", "datatype": "BYTES", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2], "on_request": True},
    ]
    assert {"python", "sklearn", "joblib", "numpy"} <= description["versions"].keys()
    assert Description.read(tmp_path) == Description(**description)


def test_outputs_are_what_the_model_answers(tmp_path: Path) -> None:
    (tmp_path / "several").mkdir()
    description = write_model(KMeans(2, n_init=1).fit(ROWS), tmp_path)
    assert description.outputs == [{"name": "predict", "datatype": "INT32", "shape": [-1]}]
    description = write_model(LinearRegression().fit(ROWS, ROWS), tmp_path / "several")
    assert description.outputs == [{"name": "predict", "datatype": "FP64", "shape": [-1, 2]}]


def test_an_example_shows_the_datatypes(tmp_path: Path) -> None:
    description = write_model(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path, example=ROWS[:2].astype(np.float32))
    assert description.inputs == [{"name": "predict", "datatype": "FP32", "shape": [-1, 2]}]
    assert description.signature_source == "example"
    with pytest.raises(ExportError, match="does not take the example"):
        write_model(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path, example=ROWS[:2, :1])


def test_a_signature_is_kept(tmp_path: Path) -> None:
    side = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    text = json.dumps({"inputs": side, "outputs": side})
    description = write_model(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path, signature=text)
    assert (description.inputs, description.outputs, description.signature_source) == (side, side, "signature")


@pytest.mark.parametrize("signature", ["{", "[1]", '{"inputs": [{"name": "x"}]}', {"inputs": 3}])
def test_a_bad_signature_is_refused(signature: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="invalid signature"):
        write_model(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path, signature=signature)


class Holder:
    """An object with state and a ``predict``."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def predict(self, rows: Any) -> Any:
        return rows


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (3, {}, "builtins.int cannot be saved"),
        (None, {}, "NoneType cannot be saved"),
        ({"weights": 1}, {}, "supported: models of scikit-learn, XGBoost"),
        ("nowhere.joblib", {}, "no file or folder nowhere.joblib"),
        (sys.executable, {}, "cannot tell the framework of"),
        (sys.executable, {"framework": "mxnet"}, "mxnet models cannot be saved"),
        (LinearRegression(), {"format": "onnx"}, "no format 'onnx'\none of joblib, skops"),
        (LinearRegression(), {"extra_files": ["nowhere.csv"]}, "no file nowhere.csv"),
        (Holder(threading.Lock()), {}, "cannot be pickled"),
        (of("torchlike"), {}, "cannot be saved"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_a_sentence(
    model: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as caught:
        write_model(model, tmp_path, **options)
    assert message in str(caught.value)
    assert caught.value.hint


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    with pytest.raises(ExportError, match=r"needs skops.* not installed here\n.*pip install skops"):
        write_model(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path, format="skops")


def test_extra_files_lie_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "names.txt").write_text("a")
    (tmp_path / "model.joblib").write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    model = LinearRegression().fit(ROWS, ROWS[:, 0])
    write_model(model, folder, extra_files=[tmp_path / "data"])
    assert (folder / "data" / "names.txt").read_text() == "a"
    with pytest.raises(ExportError, match=r"model.joblib would replace"):
        write_model(model, folder, extra_files=[tmp_path / "model.joblib"])


def test_files_of_the_libraries_are_saved_by_their_path(tmp_path: Path) -> None:
    import joblib

    (tmp_path / "folder").mkdir()
    joblib.dump(LinearRegression().fit(ROWS, ROWS[:, 0]), tmp_path / "own.joblib")
    description = write_model(str(tmp_path / "own.joblib"), tmp_path / "folder")
    assert (description.framework, description.format, description.model) == ("sklearn", "joblib", "model.joblib")
    assert joblib.load(tmp_path / "folder" / "model.joblib").n_features_in_ == 2


def test_a_predictor_is_saved_as_its_file_or_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop.py").write_text(
        "class Shop:\n    def predict(self, inputs):\n        return 1\n\n"
        "def predict(inputs):\n    return 1\n\ndef make():\n    return lambda inputs: 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    shop = importlib.import_module("shop")
    for number, (model, entry) in enumerate([(shop, ""), (shop.Shop(), "Shop"), (shop.predict, "predict")]):
        (tmp_path / str(number)).mkdir()
        saved = write_model(model, tmp_path / str(number), example={"x": ROWS})
        assert (saved.framework, saved.format, saved.details.get("entry", "")) == ("python", "py", entry)
        assert saved.inputs == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    description = write_model(shop.make(), tmp_path)
    assert (description.framework, description.format, description.model) == ("python", "cloudpickle", "model.pkl")


def test_large_arrays_and_other_objects_with_predict_are_saved(tmp_path: Path) -> None:
    assert write_model(Holder(np.zeros((300, 300))), tmp_path).framework == "sklearn"


@pytest.mark.parametrize(("framework", "own"), [("xgboost", "sklearn"), ("python", "sklearn"), (None, "sklearn")])
def test_the_object_knows_better_than_the_imports(framework: str | None, own: str, tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, ROWS[:, 0])
    assert write_model(model, tmp_path, framework=framework).framework == own


def test_outside_a_job_a_model_is_saved_beside_the_script(tmp_path: Path) -> None:
    script = "import kaptain, sys\nfrom sklearn.dummy import DummyClassifier\n"
    script += "kaptain.log_metrics(accuracy=0.5, step=2)\n"
    script += "print(kaptain.save_model(DummyClassifier().fit([[0]], [1]), format=sys.argv[1]))\n"
    (tmp_path / "fit.py").write_text(script)
    environment = {k: v for k, v in os.environ.items() if k not in ("TRAINED_MODEL_UPLOAD_PATH", "KAPTAIN_CHANNEL")}

    def run(kind: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "fit.py", kind]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    saved = tmp_path / "models" / "fit"
    lines = run("joblib").stdout.splitlines()
    assert lines[0] == "accuracy=0.5 step=2"
    assert lines[1].startswith("kaptain: the model is saved in models/fit (")
    assert lines[2] == "kaptain: to serve it: %kaptain_deploy NAME --model-uri models/fit --trust"
    assert lines[3] == str(saved)
    (saved / "note.txt").touch()
    assert run("skops").returncode == 0
    names = {path.name for path in saved.iterdir()}
    assert names == {"model.skops", "kaptain-model.json", "kaptain-manifest.json"}
    assert [path.name for path in saved.parent.iterdir()] == ["fit"]
    (saved / "kaptain-manifest.json").unlink()
    refused = run("joblib")
    assert refused.returncode == 1
    assert "holds no saved model, so nothing is put into it" in refused.stderr


OWN_STEP = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from kaptain_magics.runtime.savers import save_model

BY, TABLE = 2, np.zeros(2_000_000)

class Ratio(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self
    def transform(self, X):
        return np.column_stack([X, X[:, 0] / X[:, 1]])

def half(rows):
    return rows / BY + TABLE[0]

quarter = FunctionTransformer(lambda rows: rows * [[0.25, 0.25, 2]])
save_model(make_pipeline(FunctionTransformer(np.asarray), Ratio(), FunctionTransformer(half), quarter))
"""
LOCAL_STEP = """
from pathlib import Path
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from steps.halves import half
import lone
import kaptain
pipeline = make_pipeline(FunctionTransformer(half), FunctionTransformer(lone.same))
kaptain.save_model(pipeline, extra_files=["lone.py"])
"""
FORKED = """
import os
import sklearn.linear_model
import kaptain

child = os.fork()
if not child:
    model = sklearn.linear_model.LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    kaptain.save_model(model)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run a script as a job that saves into ``saved``."""
    target = (tmp_path / "saved").as_uri()
    environment = os.environ | {"TRAINED_MODEL_UPLOAD_PATH": target, "KAPTAIN_CHANNEL": f"file:{tmp_path}/channel"}

    def start(script: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "script.py").write_text(script)
        command = [sys.executable, "script.py"]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
        )

    return start


def test_code_of_the_script_itself_is_saved_by_value(run: Callable[[str], Any], tmp_path: Path) -> None:
    done = run(OWN_STEP)
    assert done.returncode == 0, done.stderr
    description = Description.read(tmp_path / "saved")
    assert description is not None
    assert (description.format, description.model) == ("cloudpickle", "model.pkl")
    assert description.details["by_value"] == {
        "code": ["a lambda in line 19", "class Ratio", "function half"],
        "variables": {"BY": 0, "TABLE": pytest.approx(16_000_000, rel=0.01)},
    }
    assert {"cloudpickle", "numpy", "python", "sklearn"} <= description.versions.keys()
    notes = [json.loads(line) for line in (tmp_path / "channel").read_text().splitlines()]
    said = [note["text"] for note in notes if note["kind"] == "note"]
    assert "less safe than a module of its own" in said[0]
    assert said[1] == "the variable TABLE, which the saved code uses, is 16 MB of the model"
    load = "import pickle; print(pickle.load(open('saved/model.pkl', 'rb')).transform([[2.0, 8.0]]).tolist())"
    loaded = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert loaded.stdout == "[[0.25, 1.0, 0.25]]\n", loaded.stderr


def test_what_cannot_be_served_is_kept(run: Callable[[str], Any], tmp_path: Path) -> None:
    done = run("from kaptain import save_model\nsave_model({'columns': ['a'], 'add': lambda row: row + 1})")
    assert done.returncode == 0, done.stderr
    description = Description.read(tmp_path / "saved")
    assert description is not None
    assert (description.format, description.model) == ("unservable", "model.pkl")
    load = "import pickle; print(pickle.load(open('saved/model.pkl', 'rb'))['add'](1))"
    loaded = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert loaded.stdout == "2\n", loaded.stderr


def test_modules_beside_the_script_are_saved(run: Callable[[str], Any], tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps" / "__init__.py").touch()
    (tmp_path / "steps" / "halves.py").write_text("def half(rows):\n    return rows / 2\n")
    (tmp_path / "lone.py").write_text("def same(rows):\n    return rows\n")
    done = run(LOCAL_STEP)
    assert done.returncode == 0, done.stderr
    saved = {path.relative_to(tmp_path / "saved").as_posix() for path in (tmp_path / "saved").rglob("*.py")}
    assert saved == {"steps/__init__.py", "steps/halves.py", "lone.py"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_job_saves_without_a_word(run: Callable[[str], Any], tmp_path: Path) -> None:
    done = run(FORKED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (fact,) = (json.loads(line) for line in (tmp_path / "channel").read_text().splitlines())
    assert (fact["kind"], fact["framework"], fact["format"]) == ("artifact", "sklearn", "joblib")
    assert set(fact["files"]) == {"model.joblib", "kaptain-model.json"}


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        (np.dtype("float64"), "FP64"),
        (np.dtype(">i4"), "INT32"),
        (np.dtype("U5"), "BYTES"),
        (np.dtype(object), "BYTES"),
        (np.dtype(bool), "BOOL"),
        ("torch.float32", "FP32"),
        ("torch.bfloat16", "FP32"),
        ("torch.uint8", "UINT8"),
        ("string", "BYTES"),
    ],
)
def test_datatypes(dtype: object, datatype: str) -> None:
    assert datatype_of(dtype) == datatype


def test_examples_of_every_form_are_described() -> None:
    import pandas as pd

    frame = pd.DataFrame({"n": [1, 2], "t": ["a", "b"]})
    assert tensors(frame, "x") == [
        {"name": "n", "datatype": "INT64", "shape": [-1]},
        {"name": "t", "datatype": "BYTES", "shape": [-1]},
    ]
    assert tensors([[1.0, 2.0]], "x") == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    assert [tensor["name"] for tensor in tensors((ROWS, ROWS), "x")] == ["x_0", "x_1"]
    assert tensors({"a": ROWS}, "x") == [{"name": "a", "datatype": "FP64", "shape": [-1, 2]}]


def test_the_versions_of_all_packages_in_a_pickle_are_written_down(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    write_model(FunctionTransformer(pd.to_numeric), tmp_path, framework="sklearn")
    description = Description.read(tmp_path)
    assert description is not None
    assert description.versions["pandas"] == pd.__version__
