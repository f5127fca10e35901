"""Loading a folder: what is missing or damaged is reported in a sentence; Python predictors of every form."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.errors import FrameworkError, InferenceError, ServingError
from kaptain_magics.serving.loaders.described import is_batchable, thread_limit
from kaptain_magics.serving.loaders.load_model import load_model
from kaptain_magics.serving.signature import Signature, TensorSpec

LIBRARIES = {
    ModelFramework.SKLEARN: ("sklearn", "scikit-learn"),
    ModelFramework.XGBOOST: ("xgboost", "xgboost"),
    ModelFramework.LIGHTGBM: ("lightgbm", "lightgbm"),
    ModelFramework.ONNX: ("onnxruntime", "onnxruntime"),
    ModelFramework.PYTORCH: ("torch", "torch"),
    ModelFramework.TENSORFLOW: ("keras", "keras"),
    ModelFramework.MLFLOW: ("mlflow", "mlflow-skinny"),
}


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # a loader sets it for its process, which is this one here
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)
    known = set(sys.modules)
    yield
    for name in {"beside", "model", "served_model"} & (set(sys.modules) - known):
        del sys.modules[name]


@pytest.mark.parametrize("framework", LIBRARIES)
def test_a_missing_library_is_named(framework: ModelFramework, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, distribution = LIBRARIES[framework]
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "model.keras").touch()
    with pytest.raises(FrameworkError) as caught:
        load_model(framework, tmp_path, {})
    assert caught.value.message == f"the model needs {distribution}, which is not installed here"
    assert f"pip install {distribution}" in caught.value.hint


def test_a_framework_without_a_loader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match="mxnet models cannot be served"):
        load_model(ModelFramework.MXNET, tmp_path, {})


def write(folder: Path, source: str, **description: Any) -> None:
    (folder / "model.py").write_text(source)
    if description:
        told = {"framework": "python", "format": "py", "model": "model.py", **description}
        (folder / "kaptain-model.json").write_text(json.dumps(told))


CLASS = "class Sum:\n    def predict(self, inputs):\n        return inputs['x'].sum(axis=1)\n"


@pytest.mark.parametrize(
    ("source", "description"),
    [
        ("def predict(inputs):\n    return inputs['x'].sum(axis=1)\n", {}),
        ("def predict(inputs):\n    return {'predict': list(inputs['x'].sum(axis=1))}\n", {}),
        (CLASS, {}),
        (CLASS + "class Other(Sum):\n    pass\n", {"details": {"entry": "Sum"}}),
        ("def ask(inputs):\n    return inputs['x'].sum(axis=1)\n", {"details": {"entry": "ask"}}),
        ("from beside import total\ndef predict(inputs):\n    return total(inputs['x'])\n", {}),
    ],
)
def test_predictors_of_every_form(source: str, description: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, source, **description)
    (tmp_path / "beside.py").write_text("def total(x):\n    return x.sum(axis=1)\n")
    model = load_model(ModelFramework.PYTHON, tmp_path, {})
    found = model.predict({"x": np.ones((2, 3))}, (), {})
    assert {name: list(value) for name, value in found.items()} == {"predict": [3.0, 3.0]}
    assert not list(tmp_path.rglob("__pycache__"))


def test_texts_and_outputs_on_request(tmp_path: Path) -> None:
    source = "def predict(inputs):\n    return {'a': [t.upper() for t in inputs['t']], 'b': [1]}\n"
    write(tmp_path, source + "def predict_proba(inputs):\n    return [[0.5, 0.5]]\n")
    model = load_model(ModelFramework.PYTHON, tmp_path, {})
    texts = {"t": np.array([b"x"], dtype=object)}
    assert {name: value.tolist() for name, value in model.predict(texts, (), {}).items()} == {"a": ["X"], "b": [1]}
    assert model.predict(texts, ["predict_proba"], {})["predict_proba"].tolist() == [[0.5, 0.5]]
    assert list(model.predict(texts, ["b"], {})) == ["b"]
    with pytest.raises(InferenceError, match=r"no output 'c': it has a, b"):
        model.predict(texts, ["c"], {})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n", "must define predict"),
        (CLASS + CLASS.replace("Sum", "Other"), "it has Sum, Other"),
        ("import no_such_module\n", "needs the module no_such_module"),
        ("raise ValueError('no')\n", "fails on import: ValueError: no"),
        ("def predict(:\n", "fails on import: SyntaxError"),
    ],
)
def test_a_bad_predictor_is_refused_in_a_sentence(source: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, source)
    with pytest.raises(ServingError) as caught:
        load_model(ModelFramework.PYTHON, tmp_path, {})
    assert said in caught.value.message


def test_a_broken_description_is_refused(tmp_path: Path) -> None:
    write(tmp_path, CLASS)
    (tmp_path / "kaptain-model.json").write_text("{")
    with pytest.raises(ServingError, match=r"invalid kaptain-model.json"):
        load_model(ModelFramework.PYTHON, tmp_path, {})


def test_the_callers_signature_is_the_models(tmp_path: Path) -> None:
    side = [{"name": "total", "datatype": "FP64", "shape": [-1]}]
    write(tmp_path, CLASS, told_by="signature", inputs=[side[0] | {"name": "x", "shape": [-1, 3]}], outputs=side)
    model = load_model(ModelFramework.PYTHON, tmp_path, {})
    assert model.signature.outputs == (TensorSpec("total", "FP64", (-1,)),)
    assert list(model.predict({"x": np.ones((2, 3))}, (), {})) == ["total"]


def test_another_version_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, CLASS, versions={"numpy": "0.9.1", "python": "2.7", "absent": "1.0"})
    load_model(ModelFramework.PYTHON, tmp_path, {})
    assert [r.getMessage() for r in caplog.records] == [
        f"the model was saved with numpy 0.9.1, here is {np.__version__}: its answers may differ"
    ]


def test_what_may_be_batched() -> None:
    rows, fixed = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (1, 2))
    assert is_batchable(Signature((rows,), (rows,)))
    assert not is_batchable(Signature((rows,), (fixed,)))
    assert not is_batchable(Signature())


def test_threads_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_limit() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert thread_limit() >= 1
