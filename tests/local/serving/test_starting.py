"""How a server starts, and how it says that it cannot: one clear line, exit code 1, nothing left."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kaptain_magics.core.failures import Failure
from kaptain_magics.errors import ConfigError, IntegrityError, ObjectMissingError, ServingError
from kaptain_magics.serving import ask
from kaptain_magics.serving.loaders.base import find_file
from kaptain_magics.serving.loaders.load_model import read_signature
from kaptain_magics.serving.process.artifact import verify_artifact
from kaptain_magics.serving.process.launch_options import read_options
from tests.servers import ADDER, JSON, ModelServer, predictor, tensor

BODY = json.dumps({"inputs": [tensor("x", "FP64", [1, 2], [1, 2])]}).encode()


FAILING = """
from kaptain_magics.errors import ServingError
class Model:
    def __init__(self): {}
    def predict(self, inputs): return inputs
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fails(folder: Path, framework: str, *args: str, env: dict[str, str] | None = None) -> str:
    """Return the last line of a server that cannot start."""
    server = ModelServer(folder, framework, *args, env=env, wait=False)
    try:
        assert server.process.wait(60) == 1, server.log
    finally:
        server.kill()
    assert "Traceback" not in server.log or "cannot be loaded" in server.log
    return server.log


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "does not exist" in fails(tmp_path / "none", "python")


def test_an_unknown_framework(adder_folder: Path) -> None:
    assert "unknown framework 'sklaern' - did you mean 'sklearn'?" in fails(adder_folder, "sklaern")


def test_a_framework_that_cannot_be_served(adder_folder: Path) -> None:
    assert "mxnet models cannot be served" in fails(adder_folder, "mxnet")


def test_a_missing_library(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.joblib").write_bytes(b"")
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sklearn.py").write_text("raise ModuleNotFoundError('no', name='sklearn')\n")
    path = os.pathsep.join([str(tmp_path / "hide"), os.environ.get("PYTHONPATH", "")])
    log = fails(tmp_path / "m", "sklearn", env={"PYTHONPATH": path})
    assert "the model needs scikit-learn, which is not installed here" in log


def test_a_model_that_needs_a_missing_module(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pkl").write_bytes(b"cnot_there_at_all\nThing\n.")
    assert "model.pkl needs the module not_there_at_all" in fails(tmp_path / "m", "sklearn")


def test_a_predictor_that_leaves(tmp_path: Path) -> None:
    assert "cannot be loaded: SystemExit" in fails(predictor(tmp_path / "m", "raise SystemExit(0)"), "python")


def test_several_workers_that_cannot_load(tmp_path: Path) -> None:
    log = fails(predictor(tmp_path / "m", "raise OSError('gone')"), "python", "--workers", "2")
    assert "OSError: gone" in log


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("source", "error", "hint"),
    [
        ("raise OSError('a - b ERROR c\\nd')", "the model cannot be loaded: OSError: a - b ERROR c d", ""),
        ("raise ServingError('a - b', 'try - that')", "a - b", "try - that"),
        ("raise ServingError('\u00e9' * 9000)", "\u00e9" * 750, ""),
    ],
)
def test_a_failure_is_left_in_a_file(tmp_path: Path, source: str, error: str, hint: str, workers: str) -> None:
    note = tmp_path / "failure.json"
    note.write_text('{"error": "of an earlier start"}')
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"failure": str(note)}))
    fails(predictor(tmp_path / "m", FAILING.format(source)), "python", "--options", str(options), "--workers", workers)
    failure = Failure.read(note.read_bytes())
    assert failure is not None
    assert failure.error.startswith(error)
    assert "\n" not in failure.error
    assert failure.hint == hint
    assert note.stat().st_size < 4096


def test_a_server_that_can_start_has_no_failure(adder_folder: Path, tmp_path: Path) -> None:
    note, control = tmp_path / "failure.json", tmp_path / "control"
    note.write_text('{"error": "of an earlier start"}')
    (tmp_path / "options.json").write_text(json.dumps({"failure": str(note), "control": str(control)}))
    with ModelServer(adder_folder, "python", "--options", str(tmp_path / "options.json")):
        assert Failure.read(note.read_bytes()) is None
        asked = [sys.executable, "-I", ask.__file__, str(control), '{"do": "status"}', "0"]
        answer = subprocess.run([*asked, "ready"], capture_output=True, check=True)
        assert json.loads(answer.stdout)["ready"] is True
        assert subprocess.run([*asked, "accepted"], check=False, stdout=subprocess.DEVNULL).returncode == 3
    assert subprocess.run(asked, check=False).returncode == 3


def test_a_model_that_is_not_the_saved_one(tmp_path: Path) -> None:
    """Its file is never opened by a loader: the pickle would leave a file."""
    (tmp_path / "m").mkdir()
    told = tmp_path / "told"
    model = tmp_path / "m" / "model.pkl"
    model.write_bytes(b"cos\nsystem\n(S'touch " + str(told).encode() + b"'\ntR.")
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"files": {"model.pkl": "0" * 64}}))
    log = fails(tmp_path / "m", "sklearn", "--options", str(options))
    assert "model.pkl is not the file that was saved: its sha256 differs" in log
    assert not told.exists()
    options.write_text(json.dumps({"files": {"model.pkl": digest(model)}}))
    assert "holds a int, which cannot predict" in fails(tmp_path / "m", "sklearn", "--options", str(options))
    assert told.exists()


def test_verified_folders(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "sub" / "b").write_text("b")
    files = {"a": digest(folder / "a"), "sub/b": digest(folder / "sub" / "b").upper()}
    assert verify_artifact(folder, files) == folder
    assert verify_artifact(folder, {}) == folder
    (folder / "kaptain-manifest.json").write_text(json.dumps({"files": files, "size": 2, "framework": "python"}))
    assert verify_artifact(folder, {}) == folder
    assert verify_artifact(folder, files) == folder
    (folder / "more").write_text("")
    with pytest.raises(IntegrityError, match="more was not saved with the model"):
        verify_artifact(folder, {})
    (folder / "more").unlink()
    (folder / "a").write_text("A")
    with pytest.raises(IntegrityError, match="a is not the file that was saved"):
        verify_artifact(folder, {})
    (folder / "a").unlink()
    with pytest.raises(ObjectMissingError, match="a is missing"):
        verify_artifact(folder, {})
    (tmp_path / "out").write_text("o")
    with pytest.raises(IntegrityError, match="points outside"):
        verify_artifact(folder, {"../out": digest(tmp_path / "out")})
    (folder / "a").symlink_to(tmp_path / "out")
    with pytest.raises(IntegrityError, match="points outside"):
        verify_artifact(folder, {"a": digest(tmp_path / "out")})
    (folder / "kaptain-manifest.json").write_text("{")
    with pytest.raises(IntegrityError, match="cannot be read"):
        verify_artifact(folder, {})


def test_a_port_that_is_taken(adder_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in fails(adder_folder, "python", "--port", str(port))
        log = fails(adder_folder, "python", "--grpc-port", str(port))
        assert f"cannot listen on 127.0.0.1:{port} for gRPC" in log


def test_an_address_that_is_not_ours(adder_folder: Path) -> None:
    assert "cannot listen on 192.0.2.1" in fails(adder_folder, "python", "--host", "192.0.2.1", "--insecure")


def test_listening_beyond_this_machine_needs_a_token(adder_folder: Path) -> None:
    assert "listening on 0.0.0.0 needs a token" in fails(adder_folder, "python", "--host", "0.0.0.0")
    with ModelServer(adder_folder, "python", "--host", "0.0.0.0", "--insecure") as server:
        assert server.request("POST", "/v2/models/m/infer", BODY, JSON)[0] == 200


def test_a_token(adder_folder: Path) -> None:
    with ModelServer(adder_folder, "python", "--grpc-port", "0", env={"KAPTAIN_TOKEN": "geheim"}) as server:
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/m/ready"):
            assert server.get(path)[0] == 200
        for path in ("/v2", "/v2/models/m", "/metrics", "/openapi.json", "/v1/models/m", "/none"):
            assert server.get(path)[0] == 401
        for sent in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "geheim"},
            {"Authorization": "Basic geheim"},
        ):
            status, body, headers = server.request("POST", "/v2/models/m/infer", BODY, {**JSON, **sent})
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert list(json.loads(body)) == ["error"]
        allowed = {**JSON, "Authorization": "Bearer geheim"}
        assert server.request("POST", "/v2/models/m/infer", BODY, allowed)[0] == 200
        import tritonclient.grpc as triton
        from tritonclient.utils import InferenceServerException

        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert client.is_server_live()
            with pytest.raises(InferenceServerException, match="a bearer token is needed"):
                client.get_model_metadata("m")
            assert client.get_model_metadata("m", headers={"authorization": "Bearer geheim"}).name == "m"
        command = Path(f"/proc/{server.process.pid}/cmdline")
        if command.exists():
            assert b"geheim" not in command.read_bytes()
    assert "geheim" not in server.log


def test_options_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_text(json.dumps({"model_name": "a", "folder": "/f", "framework": "onnx", "limits": {"rows": 5}}))
    options = read_options(
        ["--options", str(path), "--model-name", "b", "--max-body", "10", "--config", "signature={}=1"]
    )
    assert (options.model_name, options.framework, options.port) == ("b", "onnx", 8080)
    assert (options.limits.rows, options.limits.body, options.limits.batch_rows) == (5, 10, 64)
    assert options.serving_config == {"signature": "{}=1"}


GIVEN = ["--model-name", "m", "--folder", "/f", "--framework", "python"]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--options", "/nowhere"],
        [*GIVEN, "--model-name", "a/b"],
        [*GIVEN, "--port", "70000"],
        [*GIVEN, "--workers", "0"],
        [*GIVEN, "--workers", "2", "--grpc-port", "0"],
    ],
)
def test_options_that_are_unusable(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        read_options(argv)


def test_help_and_typos() -> None:
    command = [sys.executable, "-m", "kaptain_magics.serving"]
    ended = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert "--model-name" in ended.stdout
    ended = subprocess.run([*command, "--modle"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_declared_signatures_that_are_unusable(tmp_path: Path) -> None:
    assert read_signature(tmp_path, {}) is None
    (tmp_path / "s.json").write_text('{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}')
    signature = read_signature(tmp_path, {"signature": "s.json"})
    assert signature is not None
    assert signature.inputs[0].shape == (-1, 4)
    for bad in (
        "none.json",
        "{",
        '{"inputs": [{"name": "x"}]}',
        '{"inputs": [{"name":"x","datatype":"F","shape":[1]}]}',
    ):
        with pytest.raises(ServingError):
            read_signature(tmp_path, {"signature": bad})


def test_nothing_is_written_into_the_models_folder(tmp_path: Path) -> None:
    folder = predictor(tmp_path / "m", "import helper\n" + ADDER)
    (folder / "helper.py").write_text("")
    files = {path.name: digest(path) for path in folder.iterdir()}
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"files": files}))
    for _ in range(2):
        with ModelServer(folder, "python", "--options", str(options)) as server:
            assert server.request("POST", "/v2/models/m/infer", BODY, JSON)[0] == 200
    assert {path.name for path in folder.iterdir()} == {"model.py", "helper.py"}


def test_the_one_model_file_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"holds no model file \(model.joblib, \*.pkl\)"):
        find_file(tmp_path, ["model.joblib", "*.pkl"])
    (tmp_path / "a.pkl").touch()
    assert find_file(tmp_path, ["model.joblib", "*.pkl"]) == tmp_path / "a.pkl"
    (tmp_path / "b.pkl").touch()
    with pytest.raises(ServingError, match=r"holds several models: a.pkl, b.pkl"):
        find_file(tmp_path, ["model.joblib", "*.pkl"])
    (tmp_path / "model.joblib").touch()
    assert find_file(tmp_path, ["model.joblib", "*.pkl"]) == tmp_path / "model.joblib"
