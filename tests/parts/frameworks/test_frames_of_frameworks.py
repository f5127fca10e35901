"""Frames in, frames out, with boosted trees: the endpoint answers what the model does in its own process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kaptain_magics.serving.client.predict import predict
from tests.conftest import absent
from tests.fitted import train
from tests.servers import ModelServer

pytestmark = pytest.mark.frameworks

SOURCES = {
    "xgboost-categories": """
import kaptain
from xgboost import XGBClassifier

used = frame.drop(columns=["name", "embarked", "boarded"])
rows = rows[used.columns]
target = (survived == "yes").astype(int)
model = XGBClassifier(n_estimators=12, max_depth=4, enable_categorical=True).fit(used, target)
kaptain.save_model(model)
answers(predict=model.predict(rows), predict_proba=model.predict_proba(rows))
""",
    "xgboost-booster": """
import kaptain
import xgboost

used = frame.drop(columns=["name", "embarked", "boarded"])
rows = rows[used.columns]
data = xgboost.DMatrix(used, survived == "yes", enable_categorical=True)
model = xgboost.train({"objective": "binary:logistic", "max_depth": 4}, data, 12)
kaptain.save_model(model)
answers(predict=model.predict(xgboost.DMatrix(rows, enable_categorical=True)))
""",
    "xgboost-softmax": """
import kaptain
import xgboost

used = frame[["age", "fare", "alone"]]
rows = rows[used.columns]
data = xgboost.DMatrix(used, frame["passenger class"] - 1)
model = xgboost.train({"objective": "multi:softmax", "num_class": 3}, data, 5)
kaptain.save_model(model)
answers(predict=model.predict(xgboost.DMatrix(rows)))
""",
    "xgboost-sparse": """
import kaptain
from scipy import sparse
from xgboost import XGBClassifier

data = sparse.random(240, 30, 0.2, "csr", random_state=1)
target = np.asarray(data[:, 0].todense()).ravel() > 0
model = XGBClassifier(n_estimators=5).fit(data, target)
kaptain.save_model(model)
rows = data[:100]
answers(predict=model.predict(rows), predict_proba=model.predict_proba(rows))
""",
    "lightgbm-categories": """
import kaptain
from lightgbm import LGBMClassifier

used = frame.drop(columns=["name", "embarked", "boarded"])
rows = rows[used.columns]
model = LGBMClassifier(n_estimators=12, min_child_samples=5, verbose=-1).fit(used, survived)
kaptain.save_model(model)
answers(predict=model.predict(rows), predict_proba=model.predict_proba(rows))
""",
    "lightgbm-numbers": """
import kaptain
from lightgbm import LGBMRegressor

used = frame[["passenger class", "fare", "alone"]]
rows = rows[used.columns]
model = LGBMRegressor(n_estimators=12, verbose=-1).fit(used, frame["age"].fillna(30))
kaptain.save_model(model)
answers(predict=model.predict(rows))
""",
    "lightgbm-booster": """
import kaptain
import lightgbm

used = frame.drop(columns=["name", "embarked", "boarded"])
rows = rows[used.columns]
model = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1}, lightgbm.Dataset(
    used.drop(columns="passenger class"), frame["passenger class"] - 1), 8)
rows = rows.drop(columns="passenger class")
kaptain.save_model(model)
answers(predict=model.predict(rows))
""",
    "catboost": """
import kaptain
from catboost import CatBoostClassifier

used = frame[["sex", "embarked", "age", "fare"]].assign(embarked=frame["embarked"].fillna("none"))
rows = used[:60]
model = CatBoostClassifier(iterations=10, cat_features=["sex", "embarked"], verbose=0, allow_writing_files=False)
model.fit(used, survived)
kaptain.save_model(model)
answers(predict=model.predict(rows), predict_proba=model.predict_proba(rows))
""",
}


@pytest.mark.parametrize("case", SOURCES)
def test_the_frame_that_the_model_was_fitted_on(case: str, tmp_path: Path) -> None:
    library = case.partition("-")[0]
    if importlib.util.find_spec(library) is None:
        absent("frameworks", f"{library} is not installed; see tests/parts/frameworks/frameworks-requirements.txt")
    folder, told, output = train(tmp_path, SOURCES[case])
    assert "not seen" not in output
    rows: Any = told["rows"]
    with ModelServer(folder, "sklearn" if library == "catboost" else library) as server:
        for data, place in ((rows, slice(None)), (rows[:4], slice(4))):
            found = predict(server.url, {}, data)
            if told["predict"].dtype.kind == "f":
                np.testing.assert_allclose(found, told["predict"][place], rtol=1e-6)
            else:
                assert found.tolist() == told["predict"][place].tolist()
            if "predict_proba" in told:
                found = predict(server.url, {}, data, proba=True)
                np.testing.assert_allclose(found, told["predict_proba"][place], rtol=1e-6)
        found = predict(f"http://127.0.0.1:{server.port}/v1/models/{server.name}:predict", {}, rows[:4])
        assert np.array_equal(found, predict(server.url, {}, rows[:4]))
