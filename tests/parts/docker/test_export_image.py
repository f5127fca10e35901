"""The image of an exported model is built without network in the engine, and answers with the model."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request

import pytest

from kaptain_magics.core.names import new_hex
from tests.shell import Notebook

pytestmark = pytest.mark.docker

TRAIN = """%%kaptain_train dev/out --model clf
from sklearn.dummy import DummyClassifier
clf = DummyClassifier().fit([[0.0], [1.0], [2.0]], [1, 1, 1])
"""
BODY = {"inputs": [{"name": "predict", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}


def test_an_image_serves_its_model(
    notebook: Notebook, docker_host: str, docker_base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    monkeypatch.setenv("DOCKER_HOST", docker_host)
    monkeypatch.setenv("KAPTAIN_BASE_IMAGE", docker_base_image)
    image = f"kaptain-test/export:{new_hex()}"
    notebook.run(TRAIN)
    notebook.run(f"%kaptain export dev/out --image {image}")
    with contextlib.closing(docker.DockerClient(base_url=docker_host)) as client:
        container = client.containers.run(
            image, detach=True, environment={"KAPTAIN_TOKEN": "word"}, ports={"8080/tcp": ("127.0.0.1", None)}
        )
        try:
            until = time.monotonic() + 120
            while not container.ports.get("8080/tcp"):
                assert time.monotonic() < until, container.logs()
                container.reload()
            port = container.ports["8080/tcp"][0]["HostPort"]
            headers = {"Content-Type": "application/json", "Authorization": "Bearer word"}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v2/models/dev-out/infer", json.dumps(BODY).encode(), headers
            )
            while True:
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        assert json.load(answer)["outputs"][0]["data"] == [1]
                    break
                except (urllib.error.URLError, ConnectionError):
                    assert time.monotonic() < until, container.logs()
                    time.sleep(0.2)
        finally:
            container.remove(force=True)
            client.images.remove(image, force=True)
