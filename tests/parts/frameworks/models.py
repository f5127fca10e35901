"""Models of every framework, trained and saved as a job does; ``python models.py FRAMEWORK FOLDER``.

Each function trains one model, saves it with ``kaptain.save_model`` and returns a request and the answers that its own
library gives in this process. They are written beside the model's folder for the test that serves it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kaptain
import numpy as np


@dataclass(frozen=True)
class Case:
    """What a served model is to be asked and to answer.

    Attributes:
        signature: The metadata that the server gives, ``name:datatype[shape]``; ``?`` marks an output on request.
        inputs: The request's tensors.
        answers: The outputs that the library gives in process.
        config: ``serving_config`` of the deployment.
    """

    signature: str
    inputs: dict[str, Any]
    answers: dict[str, Any]
    config: dict[str, str] = field(default_factory=dict)


def flowers() -> tuple[Any, Any]:
    """Return 150 rows of 4 features and their class, 0 to 2."""
    from sklearn.datasets import load_iris

    features, classes = load_iris(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(features))
    return features[order], classes[order]


def flower_frame() -> tuple[Any, Any]:
    """Return the flowers with named features and classes."""
    import pandas as pd

    features, classes = flowers()
    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    return pd.DataFrame(features, columns=columns), np.array(["setosa", "versicolor", "virginica"])[classes]


def columns_of(frame: Any) -> dict[str, Any]:
    """Return a frame's columns as a request's tensors."""
    return {name: np.asarray(frame[name]) for name in frame.columns}


COLUMNS = " ".join(f"{name}:{{0}}[-1]" for name in ("sepal_length", "sepal_width", "petal_length", "petal_width"))


def sklearn_joblib() -> Case:
    """A pipeline over named columns, with labels that are texts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame, labels = flower_frame()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    kaptain.save_model(model)
    return Case(
        f"{COLUMNS.format('FP64')} -> predict:BYTES[-1] predict_proba:FP64[-1,3]? decision_function:FP64[-1,3]?"
        " predict_log_proba:FP64[-1,3]?",
        columns_of(frame[:5]),
        {"predict": model.predict(frame[:5]), "predict_proba": model.predict_proba(frame[:5])},
    )


def sklearn_skops() -> Case:
    """A forest in the format that holds no pickle."""
    from sklearn.ensemble import RandomForestRegressor

    features, classes = flowers()
    model = RandomForestRegressor(5, random_state=1).fit(features, classes)
    kaptain.save_model(model, format="skops")
    return Case("predict:FP64[-1,4] -> predict:FP64[-1]", {"x": features[:5]}, {"predict": model.predict(features[:5])})


def sklearn_own_module() -> Case:
    """A pipeline with a step of a module beside the script."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.tree import DecisionTreeClassifier

    Path("steps.py").write_text("def ratio(rows):\n    return rows[:, :2] / rows[:, 2:]\n")
    sys.path.insert(0, str(Path.cwd()))
    from steps import ratio  # type: ignore[import-not-found]

    features, classes = flowers()
    model = make_pipeline(FunctionTransformer(ratio), DecisionTreeClassifier(random_state=1)).fit(features, classes)
    kaptain.save_model(model, example=features[:2].astype(np.float32))
    return Case(
        "predict:FP32[-1,4] -> predict:INT64[-1] predict_proba:FP64[-1,3]?",
        {"x": features[:5]},
        {"predict": model.predict(features[:5]), "predict_proba": model.predict_proba(features[:5])},
    )


def xgboost_classifier() -> Case:
    """Three classes, by the scikit-learn API."""
    from xgboost import XGBClassifier

    features, classes = flowers()
    model = XGBClassifier(n_estimators=8).fit(features, classes)
    kaptain.save_model(model)
    return Case(
        "predict:FP32[-1,4] -> predict:INT64[-1] predict_proba:FP32[-1,3]?",
        {"x": features[:5]},
        {"predict": model.predict(features[:5]), "predict_proba": model.predict_proba(features[:5])},
    )


def xgboost_early_stopped() -> Case:
    """A regressor over named columns that answers with its best trees only."""
    from xgboost import XGBRegressor

    frame, _ = flower_frame()
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    rng = np.random.default_rng(1)
    target = frame["petal_width"] + rng.normal(0, 0.8, len(frame))
    model = XGBRegressor(n_estimators=200, early_stopping_rounds=2, learning_rate=0.8)
    model.fit(frame[:100], target[:100], eval_set=[(frame[100:], target[100:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    kaptain.save_model(model, format="json")
    return Case(
        f"{COLUMNS.format('FP32')} -> predict:FP32[-1]", {"x": frame[:5]}, {"predict": model.predict(frame[:5])}
    )


def xgboost_booster() -> Case:
    """A booster of the native API answers as its own ``predict``; probabilities of both classes on request."""
    import xgboost

    features, classes = flowers()
    matrix = xgboost.DMatrix(features, classes == 2)
    booster = xgboost.train({"objective": "binary:logistic"}, matrix, 8)
    kaptain.save_model(booster)
    chances = booster.predict(xgboost.DMatrix(features[:5]))
    return Case(
        "predict:FP32[-1,4] -> predict:FP32[-1] predict_proba:FP32[-1,2]?",
        {"x": features[:5]},
        {"predict": chances, "predict_proba": np.stack([1 - chances, chances], axis=1)},
    )


def xgboost_softmax() -> Case:
    """A booster whose objective answers classes: its probabilities come from the margins."""
    import xgboost

    features, classes = flowers()
    options = {"num_class": 3, "seed": 1}
    booster = xgboost.train({"objective": "multi:softmax", **options}, xgboost.DMatrix(features, classes), 4)
    twin = xgboost.train({"objective": "multi:softprob", **options}, xgboost.DMatrix(features, classes), 4)
    booster.save_model("own.ubj")
    kaptain.save_model("own.ubj")
    rows = xgboost.DMatrix(features[:5])
    return Case(
        "predict:FP32[-1,4] -> predict:FP32[-1] predict_proba:FP32[-1,3]?",
        {"x": features[:5]},
        {"predict": booster.predict(rows), "predict_proba": twin.predict(rows)},
    )


def xgboost_categories() -> Case:
    """A column of texts beside a column of numbers."""
    import pandas as pd
    from xgboost import XGBRegressor

    frame = pd.DataFrame({"colour": ["red", "green", "blue"] * 20, "size": np.arange(60.0)})
    target = frame["size"] + np.where(frame["colour"] == "red", 30, 0)
    model = XGBRegressor(n_estimators=8, enable_categorical=True, tree_method="hist")
    model.fit(frame.astype({"colour": "category"}), target)
    kaptain.save_model(model)
    rows = frame.astype({"colour": "category"})[10:14]
    return Case(
        "colour:BYTES[-1] size:FP32[-1] -> predict:FP32[-1]",
        {"colour": np.asarray(frame["colour"][10:14]), "size": np.asarray(frame["size"][10:14])},
        {"predict": model.predict(rows)},
    )


def lightgbm_classifier() -> Case:
    """Labels that are texts, over named columns."""
    from lightgbm import LGBMClassifier

    frame, labels = flower_frame()
    model = LGBMClassifier(n_estimators=8, verbose=-1).fit(frame, labels)
    kaptain.save_model(model, example=frame[:2])  # LightGBM itself forgets the blanks in the names
    return Case(
        f"{COLUMNS.format('FP64')} -> predict:BYTES[-1] predict_proba:FP64[-1,3]?",
        columns_of(frame[:5]),
        {"predict": model.predict(frame[:5]), "predict_proba": model.predict_proba(frame[:5])},
    )


def lightgbm_booster() -> Case:
    """A booster of the native API with two classes."""
    import lightgbm

    features, classes = flowers()
    options = {"objective": "binary", "verbose": -1}
    booster = lightgbm.train(options, lightgbm.Dataset(features, classes == 1), 8)
    booster.save_model("own.txt")
    kaptain.save_model("own.txt")
    chances = booster.predict(features[:5])
    return Case(
        "predict:FP64[-1,4] -> predict:FP64[-1] predict_proba:FP64[-1,2]?",
        {"x": features[:5]},
        {"predict": chances, "predict_proba": np.stack([1 - chances, chances], axis=1)},
    )


def lightgbm_categories() -> Case:
    """A column of texts beside a column of numbers."""
    import pandas as pd
    from lightgbm import LGBMRegressor

    frame = pd.DataFrame({"colour": ["red", "green", "blue"] * 40, "size": np.arange(120.0)})
    target = frame["size"] + np.where(frame["colour"] == "red", 60, 0)
    frame["colour"] = frame["colour"].astype("category")
    model = LGBMRegressor(n_estimators=8, verbose=-1, min_child_samples=5).fit(frame, target)
    kaptain.save_model(model)
    return Case(
        "colour:BYTES[-1] size:FP64[-1] -> predict:FP64[-1]",
        {"colour": np.asarray(frame["colour"].astype(object)[10:14]), "size": np.asarray(frame["size"][10:14])},
        {"predict": model.predict(frame[10:14])},
    )


def onnx_converted() -> Case:
    """A converted classifier, whose probabilities are a sequence of maps."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    features, classes = flowers()
    model = LogisticRegression(max_iter=500).fit(features, classes)
    kaptain.save_model(to_onnx(model, features[:1].astype(np.float32)))
    return Case(
        "X:FP32[-1,4] -> output_label:INT64[-1] output_probability:FP32[-1,-1]",
        {"x": features[:5]},
        {"output_label": model.predict(features[:5]), "output_probability": model.predict_proba(features[:5])},
    )


def onnx_several() -> Case:
    """A graph of two inputs and two outputs, with its weights in a file beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.eye(3, dtype=np.float32) * 2, "w")
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["doubled"]),
        helper.make_node("Add", ["doubled", "b"], ["sum"]),
        helper.make_node("ArgMax", ["sum"], ["best"], axis=1, keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two",
        [value("a", TensorProto.FLOAT, ["n", 3]), value("b", TensorProto.FLOAT, ["n", 3])],
        [value("sum", TensorProto.FLOAT, ["n", 3]), value("best", TensorProto.INT64, ["n"])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, "two.onnx", save_as_external_data=True, location="two.data", size_threshold=0)
    kaptain.save_model("two.onnx")
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[9, 0, 0], [0, 0, 9]], dtype=np.float32)
    return Case(
        "a:FP32[-1,3] b:FP32[-1,3] -> sum:FP32[-1,3] best:INT64[-1]",
        {"a": a, "b": b},
        {"sum": 2 * a + b, "best": (2 * a + b).argmax(axis=1)},
    )


def pytorch_export() -> Case:
    """A module of two inputs that answers a dict, exported with one row as its example."""
    import torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)
            self.drop = torch.nn.Dropout(0.9)

        def forward(self, x: Any, scale: Any) -> dict[str, Any]:
            logits = self.drop(self.layer(x)) * scale
            return {"logits": logits, "best": logits.argmax(1)}

    torch.manual_seed(3)
    model = Two()
    x, scale = torch.rand(5, 4), torch.rand(5, 1)
    kaptain.save_model(model, example=(x[:1], scale[:1]))
    assert (model.training, model.drop.training) == (True, True)
    with torch.inference_mode():
        answers = model.eval()(x, scale)
    return Case(
        "x:FP32[-1,4] scale:FP32[-1,1] -> logits:FP32[-1,3] best:INT64[-1]",
        {"x": x.double().numpy(), "scale": scale.numpy()},
        {name: value.numpy() for name, value in answers.items()},
    )


def pytorch_script() -> Case:
    """A module without an example."""
    import torch

    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    kaptain.save_model(model)
    x = torch.rand(5, 4)
    return Case(" -> ", {"x": x.double().numpy()}, {"output_0": model(x).detach().numpy()})


def pytorch_program() -> Case:
    """A program that its author exported, with inputs by name and a tuple as its answer."""
    import torch

    class Sums(torch.nn.Module):
        def forward(self, *, a: Any, b: Any) -> tuple[Any, Any]:
            return a + b, (a - b).sum(1)

    rows = torch.export.Dim("rows", min=1)
    example = {"a": torch.rand(4, 2), "b": torch.rand(4, 2)}
    kaptain.save_model(torch.export.export(Sums(), (), example, dynamic_shapes={"a": {0: rows}, "b": {0: rows}}))
    a, b = np.arange(6.0).reshape(3, 2), np.ones((3, 2))
    return Case(
        "a:FP32[-1,2] b:FP32[-1,2] -> output_0:FP32[-1,2] output_1:FP32[-1]",
        {"a": a, "b": b},
        {"output_0": a + b, "output_1": (a - b).sum(1)},
    )


NET = """
import torch


class Net(torch.nn.Module):
    def __init__(self, hidden=6):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 3))

    def forward(self, x):
        return self.layers(x)
"""
HANDLER = """
import torch


class Names:
    def initialize(self, context):
        self.model = torch.nn.Linear(4, 3)
        self.names = ["a", "b", "c"]

    def preprocess(self, data):
        return torch.stack([torch.as_tensor(row["data"]).float() for row in data])

    def inference(self, batch):
        return batch[:, :3]

    def postprocess(self, scores):
        return [self.names[i] for i in scores.argmax(1)]
"""


def pytorch_weights() -> Case:
    """Weights alone, with the file of their class, as the contract's ``model_file``."""
    import torch

    Path("net.py").write_text(NET)
    sys.path.insert(0, str(Path.cwd()))
    from net import Net  # type: ignore[import-not-found]

    torch.manual_seed(3)
    model, x = Net(), torch.rand(5, 4)
    kaptain.save_model(model, format="state_dict", example=x[:2])
    return Case(
        "x:FP32[-1,4] -> output_0:FP32[-1,3]",
        {"x": x.double().numpy()},
        {"output_0": model(x).detach().numpy()},
        {"model_file": "net.py"},
    )


def pytorch_module() -> Case:
    """A module of the script that neither TorchScript nor torch.export understands: its code goes along."""
    import torch

    class Branching(torch.nn.Module):
        def __init__(self, hidden: int) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, hidden)
            self.acts = {"twice": lambda value: value * 2}
            self.register_buffer("shift", torch.full((1,), 0.5), persistent=False)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            return (self.acts["twice"](y) if float(y.sum()) > -1000 else y) + self.shift

    torch.manual_seed(3)
    model, x = Branching(3), torch.rand(5, 4)
    kaptain.save_model(model, example=x[:2])
    return Case(
        "x:FP32[-1,4] -> output_0:FP32[-1,3]", {"x": x.double().numpy()}, {"output_0": model(x).detach().numpy()}
    )


def pytorch_image_classifier() -> Case:
    """The contract's built-in handler: an image as base64, a class as the answer."""
    import base64
    import io

    import torch
    from PIL import Image

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    kaptain.save_model(model, example=torch.rand(2, 1, 8, 8))
    values = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    texts = []
    for value in values:
        file = io.BytesIO()
        Image.fromarray(value).save(file, "PNG")
        texts.append(base64.b64encode(file.getvalue()).decode())
    with torch.inference_mode():
        chances = model(torch.from_numpy(values[:, None] / np.float32(255))).softmax(1).numpy()
    return Case(
        " -> predict:INT64[-1] predict_proba:FP32[-1,-1]?",
        {"data": np.array(texts, dtype=object)},
        {"predict": chances.argmax(1), "predict_proba": chances},
        {"handler": "image_classifier"},
    )


def pytorch_handler() -> Case:
    """The contract's handler in a file."""
    import torch

    Path("handler.py").write_text(HANDLER)
    kaptain.save_model(torch.nn.Linear(4, 3), extra_files=["handler.py"])
    x = np.array([[0.0, 5, 1, 0], [7, 0, 0, 0]])
    return Case(" -> ", {"x": x}, {"predict": np.array(["b", "a"])}, {"handler": "handler.py"})


def tensorflow_saved_model() -> Case:
    """A functional Keras model of two inputs as a SavedModel."""
    import keras

    keras.utils.set_random_seed(3)
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([left, right])
    model = keras.Model([left, right], keras.layers.Dense(3, activation="softmax")(both))
    kaptain.save_model(model)
    x, y = np.random.default_rng(3).random((5, 4)), np.random.default_rng(4).random((5, 2))
    return Case(
        "left:FP32[-1,4] right:FP32[-1,2] -> output_0:FP32[-1,3]",
        {"left": x, "right": y},
        {"output_0": np.asarray(model([x, y]))},
    )


def tensorflow_keras() -> Case:
    """A sequential model in Keras's own format."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,), name="rows"), keras.layers.Dense(2, activation="relu")])
    model.save("own.keras")
    kaptain.save_model("own.keras")
    x = np.random.default_rng(3).random((5, 4))
    return Case("rows:FP32[-1,4] -> output_0:FP32[-1,2]", {"x": x}, {"output_0": np.asarray(model(x))})


def tensorflow_own_layer() -> Case:
    """A model with a layer of the script in Keras's own format, which names the class only: its code goes along."""
    import keras

    class Doubled(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2.0

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,), name="rows"), keras.layers.Dense(2), Doubled()])
    kaptain.save_model(model, format="keras")
    x = np.random.default_rng(3).random((5, 4))
    return Case("rows:FP32[-1,4] -> output_0:FP32[-1,2]", {"x": x}, {"output_0": np.asarray(model(x))})


def tensorflow_module() -> Case:
    """A module that is no Keras model, with a named output."""
    import tensorflow as tf

    class Scale(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(3.0)

        def __call__(self, x: Any) -> dict[str, Any]:
            return {"scaled": x * self.factor}

    kaptain.save_model(Scale(), example=np.ones((1, 2), np.float32))
    x = np.arange(6.0).reshape(3, 2)
    return Case("input_0:FP32[-1,2] -> scaled:FP32[-1,2]", {"x": x}, {"scaled": 3 * x})


def mlflow_sklearn() -> Case:
    """A model of scikit-learn in MLflow's directory, with a signature of columns and types that skops does not know."""
    from sklearn.neighbors import KNeighborsClassifier

    frame, labels = flower_frame()
    model = KNeighborsClassifier(3).fit(frame, labels)
    kaptain.save_model(model, framework="mlflow", example=frame[:3])
    return Case(
        f"{COLUMNS.format('FP64')} -> predict:BYTES[-1] predict_proba:FP64[-1,-1]?",
        columns_of(frame[:5]),
        {"predict": model.predict(frame[:5]), "predict_proba": model.predict_proba(frame[:5])},
    )


def mlflow_python() -> Case:
    """A model of MLflow's own kind, copied from the directory that MLflow saved."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    class Double(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input * (params or {"factor": 2})["factor"]

    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    signature = infer_signature(rows, rows, params={"factor": 2})
    mlflow.pyfunc.save_model("doubler", python_model=Double(), signature=signature, pip_requirements=[])
    kaptain.save_model("doubler")
    return Case("predict:FP32[-1,2] -> predict:FP32[-1,2]", {"x": rows}, {"predict": 2 * rows})


PREDICTOR = """
import json


class Prices:
    batchable = True

    def load(self, folder):
        self.prices = json.loads((folder / "prices.json").read_text())

    def predict(self, inputs):
        return {"price": [self.prices[name] * float(n) for name, n in zip(inputs["what"], inputs["n"])]}
"""


def python_class() -> Case:
    """A class that loads a file beside it, with a signature."""
    Path("shop.py").write_text(PREDICTOR)
    Path("prices.json").write_text('{"tea": 2.5, "milk": 1.0}')
    sys.path.insert(0, str(Path.cwd()))
    from shop import Prices  # type: ignore[import-not-found]

    signature = {
        "inputs": [
            {"name": "what", "datatype": "BYTES", "shape": [-1]},
            {"name": "n", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [{"name": "price", "datatype": "FP64", "shape": [-1]}],
    }
    kaptain.save_model(Prices(), extra_files=["prices.json"], signature=signature)
    return Case(
        "what:BYTES[-1] n:INT64[-1] -> price:FP64[-1]",
        {"what": np.array(["milk", "tea"], dtype=object), "n": np.array([3, 2])},
        {"price": np.array([3.0, 5.0])},
    )


def python_file() -> Case:
    """A file with a function."""
    Path("predictor.py").write_text("def predict(inputs):\n    return inputs['x'].sum(axis=1)\n")
    kaptain.save_model("predictor.py")
    return Case(" -> ", {"x": np.arange(6.0).reshape(2, 3)}, {"predict": np.array([3.0, 12.0])})


CASES: tuple[Callable[[], Case], ...] = (
    sklearn_joblib,
    sklearn_skops,
    sklearn_own_module,
    xgboost_classifier,
    xgboost_early_stopped,
    xgboost_booster,
    xgboost_softmax,
    xgboost_categories,
    lightgbm_classifier,
    lightgbm_booster,
    lightgbm_categories,
    onnx_converted,
    onnx_several,
    pytorch_export,
    pytorch_script,
    pytorch_program,
    pytorch_weights,
    pytorch_handler,
    pytorch_module,
    pytorch_image_classifier,
    tensorflow_saved_model,
    tensorflow_keras,
    tensorflow_own_layer,
    tensorflow_module,
    mlflow_sklearn,
    mlflow_python,
    python_class,
    python_file,
)


def main(framework: str, root: Path) -> None:
    """Train and save the models of a framework below ``root``; write what to ask them into ``<case>.json``."""
    os.environ["KAPTAIN_CHANNEL"] = f"file:{root / 'channel.jsonl'}"
    for case in CASES:
        if not case.__name__.startswith(framework):
            continue
        work = root / f"{case.__name__}-work"
        work.mkdir(parents=True)
        os.chdir(work)
        os.environ["TRAINED_MODEL_UPLOAD_PATH"] = (root / case.__name__).as_uri()
        made = case()
        told = {
            "signature": made.signature,
            "inputs": {name: np.asarray(value).tolist() for name, value in made.inputs.items()},
            "answers": {name: np.asarray(value).tolist() for name, value in made.answers.items()},
            "config": made.config,
        }
        (root / f"{case.__name__}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
