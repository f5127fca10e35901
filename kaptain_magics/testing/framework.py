"""What every framework does: a model is recognised, saved, loaded again in another process, and asked.

An instance is a subclass that names the framework and has a model::

    class TestCatBoost(FrameworkSuite):
        framework = "catboost"

        def model(self) -> Any:
            return CatBoostRegressor(iterations=2).fit(ROWS, [1.0, 2.0, 3.0])

        rows = ROWS
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.runtime.savers import write_model
from kaptain_magics.runtime.savers.base import Description
from kaptain_magics.serving.loaders.load_model import load_model
from kaptain_magics.serving.signature import LoadedModel

# Loads a model where nothing of the test's is imported; answers with one output, as JSON.
_ELSEWHERE = """
import json, sys
from pathlib import Path
import numpy as np
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.serving.loaders.load_model import load_model
framework, folder, name, rows = sys.argv[1:]
model = load_model(ModelFramework.of(framework), Path(folder), {})
sent = model.signature.inputs[0].name if model.signature.inputs else "input-0"
print(json.dumps(model.predict({sent: np.array(json.loads(rows))}, [name], {})[name].tolist()))
"""


class FrameworkSuite:
    """The suite.

    Attributes:
        framework: Its name.
        rows: Rows that the model answers with numbers, of shape (rows, columns) or as the model takes them.
        output: The output whose numbers the model's own ``predict`` gives.
    """

    framework: ClassVar[str]
    rows: ClassVar[Any]
    output: ClassVar[str] = "predict"

    def model(self) -> Any:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder with the saved model."""
        folder = tmp_path / "saved"
        folder.mkdir()
        write_model(self.model(), folder)
        return folder

    def loaded(self, folder: Path) -> LoadedModel:
        return load_model(ModelFramework.of(self.framework), folder, {})

    def ask(self, model: LoadedModel, rows: Any) -> Any:
        name = model.signature.inputs[0].name if model.signature.inputs else "input-0"
        return model.predict({name: np.asarray(rows)}, [self.output], {})[self.output]

    def test_it_is_found_by_its_name(self) -> None:
        assert ModelFramework.of(self.framework) == self.framework
        assert self.framework in ModelFramework.names()

    def test_a_model_is_recognised_and_described(self, folder: Path) -> None:
        description = Description.read(folder)
        assert description is not None
        assert description.framework == self.framework
        assert (folder / description.model).exists()

    def test_a_loaded_model_answers_as_the_one_that_was_saved(self, folder: Path) -> None:
        np.testing.assert_allclose(self.ask(self.loaded(folder), self.rows), self.model().predict(self.rows))

    def test_another_process_loads_it(self, folder: Path) -> None:
        rows = json.dumps(np.asarray(self.rows).tolist())
        command = [sys.executable, "-c", _ELSEWHERE, self.framework, str(folder), self.output, rows]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), self.model().predict(self.rows))

    def test_its_signature_is_what_it_answers(self, folder: Path) -> None:
        model = self.loaded(folder)
        assert model.platform
        answered = self.ask(model, self.rows)
        for spec in model.signature.outputs:
            if spec.name == self.output:
                assert len(spec.shape) == answered.ndim
                assert all(size in (-1, actual) for size, actual in zip(spec.shape, answered.shape, strict=True))

    def test_rows_of_several_requests_are_answered_as_each_alone(self, folder: Path) -> None:
        model = self.loaded(folder)
        if not model.batchable:
            pytest.skip("its requests are not put together")
        alone = [self.ask(model, self.rows[place : place + 1]) for place in range(len(self.rows))]
        np.testing.assert_allclose(self.ask(model, self.rows), np.concatenate(alone))
