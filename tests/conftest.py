"""What all tests share: a state folder of their own, and parts that are real or absent with a reason.

A test that needs a part takes the part's fixture. Where the part is absent the test is skipped with the reason, unless
``KAPTAIN_TEST_REQUIRE`` names it (``docker,cluster,browser,s3,frameworks``, or ``all``): then it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

os.environ["KAPTAIN_PREWARM"] = "false"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; tests interrupt runs
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.seaweed",
    "tests.engine",
    "tests.parts.cluster.rig",
    "tests.shell",
    "tests.planted",
    "tests.studies",
    "tests.workers",
]


def absent(part: str, reason: str) -> None:
    """Skip the test because a part is absent, or fail it where the part is required."""
    required = os.environ.get("KAPTAIN_TEST_REQUIRE", "").split(",")
    if part in required or "all" in required:
        pytest.fail(f"{part} is required here but absent: {reason}")
    pytest.skip(f"{part}: {reason}")  # the only place where a missing part may skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, also for the processes that it starts."""
    folder = tmp_path / "kaptain-home"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith(("KAPTAIN_", "AWS_", "S3_", "MLFLOW_")) and "TEST" not in n]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KAPTAIN_PREWARM", "false")  # a test's processes are its own
    monkeypatch.setenv("KAPTAIN_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def docker_host() -> str:
    """Address of a real Docker engine."""
    import docker

    candidates = [os.environ.get("DOCKER_HOST", "")]
    written = Path.home() / ".cache/kaptain-cluster/run/conf/docker_host"
    if written.exists():
        candidates.append(written.read_text().strip())
    candidates.append("unix:///var/run/docker.sock")
    for address in filter(None, candidates):
        with contextlib.suppress(Exception):
            if address.startswith("unix://"):  # the client would leave the socket open where nobody listens
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(address.removeprefix("unix://"))
            with contextlib.closing(docker.DockerClient(base_url=address, timeout=10)) as client:
                client.ping()
            return address
    absent("docker", "no engine answers; start one or set DOCKER_HOST")
    raise AssertionError


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """Administrator's kubeconfig of a real cluster whose API server answers."""
    import kubernetes

    path = Path(os.environ.get("KAPTAIN_TEST_KUBECONFIG", Path.home() / ".cache/kaptain-cluster/run/kubeconfig"))
    if not path.exists():
        absent("cluster", f"there is no kubeconfig at {path}")
    try:
        client = kubernetes.config.new_client_from_config(str(path))
        kubernetes.client.VersionApi(client).get_code(_request_timeout=10)
        client.close()
    except Exception as error:
        absent("cluster", f"its API server does not answer: {type(error).__name__}")
    return path
