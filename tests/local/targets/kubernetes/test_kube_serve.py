"""The entry of a server's container, run as a process: it installs the requirements and serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import KaptainError
from kaptain_magics.serving.client.predict import infer
from kaptain_magics.targets.kubernetes.manifests.server_manifests import server_options
from kaptain_magics.targets.kubernetes.pods import payload

MODEL = """
import kaptain_probe
def predict(inputs):
    (rows,) = inputs.values()
    return rows.sum(axis=1) + kaptain_probe.MARK
"""


def wheel(folder: Path) -> None:
    """Make a library that no environment has."""
    about = "kaptain_probe-1.0.dist-info"
    with zipfile.ZipFile(folder / "kaptain_probe-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("kaptain_probe.py", "MARK = 1000\n")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: kaptain-probe\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def test_requirements_are_installed_before_the_server_starts(tmp_path: Path) -> None:
    inside, root, model = (tmp_path / name for name in ("opt", "root", "model"))
    for folder in (inside, root, model):
        folder.mkdir()
    wheel(tmp_path)
    (model / "model.py").write_text(MODEL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = EndpointSpec(
        name="dev-probe",
        run_id="r",
        model_id="dev/probe",
        revision="1",
        artifact_uri="s3://kaptain/x",
        framework=ModelFramework.PYTHON,
    )
    options = json.loads(server_options(endpoint, str(model))) | {"host": "127.0.0.1", "port": port}
    (inside / "options.json").write_text(json.dumps(options))
    (inside / "requirements.txt").write_text("kaptain-probe\n")
    (inside / "lib.tar.gz").write_bytes(payload.runtime_archive(serving=True))
    for name in ("serve.py", "start.py"):
        (inside / name).write_bytes(payload.inside(name))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"KAPTAIN_ROOT": str(root), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with (tmp_path / "log.txt").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-u", str(inside / "serve.py")], env=env, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while True:
                assert server.poll() is None, (tmp_path / "log.txt").read_text()
                assert time.monotonic() < until, (tmp_path / "log.txt").read_text()
                try:
                    found = infer(f"http://127.0.0.1:{port}/v2/models/dev-probe/infer", {}, {"x": np.ones((1, 2))})
                except KaptainError:
                    time.sleep(0.1)
                else:
                    break
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)
    assert found["predict"].tolist() == [1002.0]
