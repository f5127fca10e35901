"""A person's lines on a cluster whose image has Python and scikit-learn only, and whose pods reach no package index."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.names import endpoint_name, new_hex
from kaptain_magics.model import Workspace
from kaptain_magics.targets.kubernetes.api.client import Cluster
from kaptain_magics.targets.kubernetes.manifests import labels
from tests.certificates import self_signed
from tests.latency import median_kept_alive
from tests.parts.cluster.rig import eventually, kubectl, ours
from tests.seaweed import SeaweedFS
from tests.shell import Notebook
from tests.tls import TlsProxy

pytestmark = [pytest.mark.cluster, pytest.mark.s3]
NAME = "2026/customer-churn-of-all-countries-at-the-end-of-the-year-by-region"
TRAIN = """%%kaptain_train {name} --model clf --metric accuracy=score --env PIP_NO_INDEX=1 {more} gamma=1
print("the script began")
from sklearn.dummy import DummyClassifier
gamma = 0.5
score = 1 / (1 + gamma)
clf = DummyClassifier(strategy="most_frequent").fit([[0, 0], [1, 1], [1, 0]], [3, 7, 7])
"""
BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [0.5, 0.5]}]}


@contextmanager
def opened(command: str) -> Iterator[str]:
    """Run the command that opens an endpoint, at any free port; yields the address."""
    words = ["bash", "-c", "exec " + command.replace(" 8080:", " :")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:\d+", said)
            assert match is not None, said
            yield f"http://{match[0]}"
        finally:
            process.terminate()


@pytest.mark.timeout(400)
def test_a_long_name_from_training_to_its_end(
    kernel_namespace: Cluster, notebook: Notebook, kubeconfig: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = notebook.run(TRAIN.format(name=NAME, more=""))
    assert "installing" not in run.log()
    study = notebook.run(f"%kaptain_tune {NAME} gamma=Double(0.1,1) --trials 2 --objective accuracy")
    assert [trial.state for trial in study.trials] == ["succeeded", "succeeded"]
    capsys.readouterr()
    endpoint = notebook.run(f"%kaptain_deploy {NAME} --env PIP_NO_INDEX=1")
    card = capsys.readouterr().out
    assert notebook.run(f"%kaptain predict {NAME} [[0, 0]]").tolist() == [7]

    # The card: nothing on it ends with a process of ours, and the line on it opens the endpoint.
    name = endpoint_name(NAME)
    assert re.findall(r"127\.0\.0\.1:(\d+)", card + repr(endpoint)) == ["8080"]
    (command,) = re.findall(r"open it here +(.*)", card)
    (place,) = re.findall(r"http://127.0.0.1:8080(\S+)", card)
    with opened(command) as address:
        request = urllib.request.Request(
            address + place, json.dumps(BODY).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["outputs"][0]["data"] == [7]
    inside = urlsplit(endpoint.status().cluster_url)
    assert inside.hostname == f"{name}.{kernel_namespace.namespace}.svc.cluster.local"
    found = kubectl(kubeconfig, "-n", kernel_namespace.namespace, "get", "deploy", "-o", "json")
    (deployment,) = json.loads(found)["items"]
    assert deployment["metadata"]["annotations"][labels.MODEL_ID] == NAME

    # Another user deletes it: here it can still be taken down, and nothing stays.
    kubectl(kubeconfig, "-n", kernel_namespace.namespace, "delete", "deploy,svc", "-l", labels.EVERYTHING)
    workspace = Workspace()
    place = workspace.registry.endpoint(NAME).spec.artifact_uri
    capsys.readouterr()
    notebook.run(f"%kaptain undeploy {NAME}")
    assert "already gone" in capsys.readouterr().out
    assert workspace.registry.endpoints() == []
    eventually(lambda: [thing for thing in ours(kernel_namespace) if not thing.startswith(("Job/", "Pod/"))] == [])
    assert workspace.objects().list(place)
    notebook.run("%kaptain clean --force")
    assert not workspace.objects().list(place)


@pytest.mark.timeout(400)
def test_a_built_image_needs_no_index_either(
    kernel_namespace: Cluster, notebook: Notebook, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(kubeconfig.parent / "docker-config"))
    image = f"127.0.0.1:5000/kaptain/bare-{new_hex(8)}:1"
    run = notebook.run(TRAIN.format(name="dev/built", more=f"--image-name {image}"))
    assert run.state == "succeeded", run.reason
    assert "installing" not in run.log()
    notebook.run("%kaptain_deploy dev/built --env PIP_NO_INDEX=1")
    assert notebook.run("%kaptain predict dev/built [[0, 0]]").tolist() == [7]


@pytest.mark.timeout(400)
def test_a_private_authority_travels(
    kernel_namespace: Cluster,
    notebook: Notebook,
    pod_storage: SeaweedFS,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    host, port = urlsplit(pod_storage.endpoint).hostname or "", urlsplit(pod_storage.endpoint).port or 0
    certificate = self_signed(tmp_path, host)
    with TlsProxy(host, port, certificate) as proxy:
        monkeypatch.setenv("S3_ENDPOINT", proxy.endpoint)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
        run = notebook.run(TRAIN.format(name="dev/private", more=""))
        assert run.artifact_uri
        notebook.run("%kaptain_deploy dev/private --env PIP_NO_INDEX=1")
        assert notebook.run("%kaptain predict dev/private [[0, 0]]").tolist() == [7]
        notebook.run("%kaptain undeploy dev/private")

        # Without it nothing is trained in vain.
        capsys.readouterr()
        monkeypatch.delenv("AWS_CA_BUNDLE")
        assert "is not trusted" in str(notebook.error(TRAIN.format(name="dev/private", more="")))
        assert "the script began" not in capsys.readouterr().out
        eventually(lambda: [thing for thing in ours(kernel_namespace) if thing.startswith("Secret/")] == [])


@pytest.mark.timeout(400)
def test_a_request_on_a_kept_connection_waits_for_nobody(kernel_namespace: Cluster, notebook: Notebook) -> None:
    notebook.run(TRAIN.format(name="dev/quick", more=""))
    endpoint = notebook.run("%kaptain_deploy dev/quick")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "door"},
        "spec": {
            "type": "NodePort",
            "selector": {labels.ENDPOINT: "dev-quick"},
            "ports": [{"port": 80, "targetPort": "http"}],
        },
    }
    port = kernel_namespace.create(service)["spec"]["ports"][0]["nodePort"]
    url = f"http://127.0.0.1:{port}{urlsplit(endpoint.status().cluster_url).path}"
    median = eventually(lambda: _median(url))
    print(f"median {1000 * median:.2f} ms")
    assert median < 0.02  # an answer in two pieces that waits for an acknowledgement takes 0.04 s


def _median(url: str) -> float:
    with suppress(OSError):  # the node does not know the port yet
        return median_kept_alive(url)
    return 0.0
