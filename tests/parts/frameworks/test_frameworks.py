"""Every framework in and out: saved by a job, served by a real server process, and asked; the answers are its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import absent
from tests.waiting import until

MODELS = Path(__file__).with_name("models.py")
NEEDS = {
    "sklearn": ("sklearn", "skops", "pandas"),
    "xgboost": ("xgboost", "sklearn", "pandas"),
    "lightgbm": ("lightgbm", "sklearn", "pandas"),
    "onnx": ("onnx", "onnxruntime", "skl2onnx"),
    "pytorch": ("torch", "PIL"),
    "tensorflow": ("tensorflow", "keras"),
    "mlflow": ("mlflow", "sklearn", "pandas"),
    "python": (),
}
BEYOND = ("xgboost", "lightgbm", "onnx", "pytorch", "tensorflow")
CASES = re.findall(r"^def ((?:%s)_\w+)\(\) -> Case:" % "|".join(NEEDS), MODELS.read_text("utf-8"), re.MULTILINE)  # noqa: UP031


def need(framework: str) -> None:
    for module in NEEDS[framework]:
        if importlib.util.find_spec(module) is None:
            absent("frameworks", f"{module} is not installed; see tests/parts/frameworks/frameworks-requirements.txt")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Save all models of a framework once, as one job, and return the folder above theirs."""
    done: dict[str, Path] = {}

    def save(framework: str) -> Path:
        if framework not in done:
            need(framework)
            done[framework] = tmp_path_factory.mktemp(framework)
            command = [sys.executable, str(MODELS), framework, str(done[framework])]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
        return done[framework]

    return save


class Client:
    def __init__(self, port: int) -> None:
        self.model = f"http://127.0.0.1:{port}/v2/models/model"

    def get(self, path: str = "") -> Any:
        with urllib.request.urlopen(self.model + path, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def ready(self) -> bool:
        try:
            self.get("/ready")
        except urllib.error.URLError:  # not listening yet, or 503
            return False
        return True

    def infer(self, inputs: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
        status, answer = self.ask(inputs, outputs)
        assert status == 200, answer
        return {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer["outputs"]}

    def ask(self, inputs: dict[str, Any], outputs: list[str]) -> tuple[int, Any]:
        tensors = [_tensor(name, np.asarray(value)) for name, value in inputs.items()]
        body = json.dumps({"inputs": tensors, "outputs": [{"name": name} for name in outputs]}).encode()
        request = urllib.request.Request(self.model + "/infer", body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return 200, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def _tensor(name: str, array: Any) -> dict[str, Any]:
    datatype = {"f": "FP64", "i": "INT64"}.get(array.dtype.kind, "BYTES")
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Client]]:
    """Start a server process on a saved folder and wait until the model is ready."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, framework: str, config: dict[str, str]) -> Client:
        log = tmp_path / "server.log"
        command = [sys.executable, "-m", "kaptain_magics.serving", "--folder", str(folder), "--framework", framework]
        command += ["--model-name", "model", "--port", "0"]
        command += [word for name, value in config.items() for word in ("--config", f"{name}={value}")]
        with open(log, "wb") as file:
            process = subprocess.Popen(command, stderr=file, stdout=file, env=os.environ | {"OMP_NUM_THREADS": "2"})
        running.append(process)

        def find(pattern: str) -> re.Match[str] | None:
            assert process.poll() is None, log.read_text()
            return re.search(pattern, log.read_text())

        listening = until(lambda: find(r"listening on \S+:(\d+)"), 120, "listening")
        assert listening is not None
        client = Client(int(listening[1]))
        until(lambda: find("") and client.ready(), 120, "ready")
        return client

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (tmp_path / "server.log").read_text()


def _parameters() -> list[Any]:
    marks = {name: [pytest.mark.frameworks] if name in BEYOND else [] for name in NEEDS}
    return [pytest.param(case, marks=marks[case.partition("_")[0]], id=case) for case in CASES]


@pytest.mark.parametrize("case", _parameters())
def test_a_saved_model_is_served(case: str, saved: Callable[[str], Path], serve: Callable[..., Client]) -> None:
    framework = case.partition("_")[0]
    root = saved(framework)
    told = json.loads((root / f"{case}.json").read_text())
    description = json.loads((root / case / "kaptain-model.json").read_text())
    manifest = json.loads((root / case / "kaptain-manifest.json").read_text())
    assert description["framework"] == manifest["framework"] == framework
    assert description["format"] == manifest["format"]
    assert description["versions"]["python"].startswith("3.")
    before = sorted(path for path in (root / case).rglob("*"))

    client = serve(root / case, framework, told["config"])
    inputs, _, outputs = told["signature"].partition("->")
    metadata = client.get()
    assert _short(metadata["inputs"]) == inputs.split()
    assert _short(metadata["outputs"]) == outputs.split()

    answers = told["answers"]
    found = client.infer(told["inputs"], list(answers))
    assert list(found) == list(answers)
    for name, expected in answers.items():
        _agree(name, found[name], np.array(expected))
    plain = client.infer(told["inputs"], [])
    assert set(plain) == {name for name in answers if f"{name}:" not in outputs or not _on_request(name, outputs)}
    single = client.infer({name: value[:1] for name, value in told["inputs"].items()}, [])
    for name, array in single.items():
        _agree(name, array, np.array(answers[name])[:1])
    status, answer = client.ask(told["inputs"], ["no such output"])
    assert (status, bool(answer["error"])) == (400, True)
    if metadata["inputs"]:
        status, answer = client.ask({name: np.ones((2, 7, 7)) for name in told["inputs"]}, [])
        assert (status, bool(answer["error"])) == (400, True)
    assert sorted(path for path in (root / case).rglob("*")) == before, "serving wrote into the model's folder"


def _agree(name: str, found: Any, expected: Any) -> None:
    assert found.shape == expected.shape, name
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    else:
        assert found.tolist() == expected.tolist(), name


def _short(tensors: list[dict[str, Any]]) -> list[str]:
    return [
        f"{t['name'].replace(' ', '_')}:{t['datatype']}[{','.join(map(str, t['shape']))}]"
        + "?" * bool(t.get("parameters", {}).get("on_request"))
        for t in tensors
    ]


def _on_request(name: str, outputs: str) -> bool:
    return any(word.startswith(f"{name}:") and word.endswith("?") for word in outputs.split())
