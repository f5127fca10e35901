"""The contract's way with PyTorch: weights that the trainer exports, served with their class's file and a handler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.model import Model, Workspace
from tests.parts.frameworks.test_frameworks import need

NET = """
import torch
from blocks import Twice


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 3, bias=False)
        self.twice = Twice()

    def forward(self, x):
        return self.twice(self.layer(x))
"""
BLOCKS = """
class Twice:
    def __call__(self, x):
        return 2 * x
"""
TRAINER = """
import torch
from kaptain.platform.model_export_util import ModelExportUtil
from net import Net

net = Net()
with torch.no_grad():
    net.layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]))
torch.save(net.state_dict(), "model.pt")
ModelExportUtil().upload_model("model.pt")
"""


@pytest.mark.frameworks
@pytest.mark.parametrize("handler", ["", "image_classifier", "names.py"])
def test_weights_with_their_class(handler: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("pytorch")
    monkeypatch.chdir(tmp_path)
    for name, text in {"net.py": NET, "blocks.py": BLOCKS, "trainer.py": TRAINER}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "names.py").write_text(
        "class Names:\n    def postprocess(self, scores):\n        return ['abc'[i] for i in scores.argmax(1)]\n"
    )
    model = Model(
        id="dev/net",
        framework=ModelFramework.PYTORCH,
        main_file="trainer.py",
        extra_files=["net.py", "blocks.py"],
        serving_config={"model_file": "net.py", "protocol_version": "v2"} | ({"handler": handler} if handler else {}),
        workspace=Workspace(),
    )
    assert model.train(hyperparameters={})
    assert model.deploy()
    try:
        endpoint = model.workspace.endpoint("dev/net")
        rows = np.array([[3.0, 1.0], [0.0, 2.0]])
        expected = {"": [[6, 2, 4], [0, 4, 2]], "image_classifier": [0, 1], "names.py": ["a", "b"]}[handler]
        assert endpoint.predict(rows).tolist() == expected
    finally:
        model.undeploy()
