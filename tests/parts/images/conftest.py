"""Registries of the tests' own: real ones, started as processes, with the kind of login that a test needs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import pytest
import urllib3

from kaptain_magics.images.progress import Progress, silent
from kaptain_magics.images.registry.docker_logins import Logins
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import DOCKER_MANIFEST, Registries, Registry
from tests.certificates import self_signed
from tests.engine import LockedRegistry

T = TypeVar("T")
USER, PASSWORD = "kaptain", "s3cret-Passw0rd"


class Server:
    """A registry process that can be away and come back on the same port."""

    def __init__(self, folder: Path, port: int = 0, scheme: str = "http", extra: str = "", tls: str = "") -> None:
        self.port = port or free_port()
        self.address, self.scheme = f"localhost:{self.port}", scheme
        self._config = folder / "config.yml"
        self._config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
            f"http:\n  addr: 127.0.0.1:{self.port}\n{tls}\n{extra}\n"
        )
        self._log = folder / "log.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(["docker-registry", "serve", str(self._config)], stdout=log, stderr=log)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts registries that end with the test."""
    from tests.conftest import absent

    if shutil.which("docker-registry") is None:
        absent("docker", "the program docker-registry (Debian's package of that name) is not installed")
    made: list[Server] = []

    def start(started: bool = True, **options: Any) -> Server:
        folder = tmp_path / f"registry-{len(made)}"
        folder.mkdir()
        server = Server(folder, **options)
        made.append(server)
        if started:
            server.start()
        return server

    yield start
    for server in made:
        server.stop()


@pytest.fixture
def docker_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes Docker's ``config.json`` and returns its folder."""

    def write(**content: Any) -> Path:
        folder = tmp_path / "docker-config"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(content))
        return folder

    return write


def auth(username: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def access(folder: Path, **options: Any) -> Access:
    return Access(Logins(folder), **options)


class TinyImage(NamedTuple):
    """An image of one small layer, pushed with nothing but a plain HTTP client."""

    name: str
    digest: str


def push_tiny(server: Server, repository: str = "base/tiny") -> TinyImage:
    """Put a base image into an open registry, independent of the code under test."""
    import gzip
    import io
    import tarfile

    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name in ("usr/bin/python3.11", "usr/lib/python3/dist-packages/numpy-1.24.2.dist-info/METADATA"):
            tar.addfile(tarfile.TarInfo(name))
    plain = sink.getvalue()
    layer = gzip.compress(plain, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin", "PYTHONPATH=/opt"], "Labels": {"maker": "tests"}, "Cmd": ["python"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]},
            "history": [{"created_by": "tests"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": _digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": _digest(layer),
                }
            ],
        }
    ).encode()
    base = f"http://{server.address}/v2/{repository}"
    with urllib3.PoolManager() as pool:
        for blob in (layer, config):
            place = pool.request("POST", f"{base}/blobs/uploads/").headers["Location"]
            assert pool.request("PUT", f"{place}&digest={_digest(blob)}", body=blob).status == 201
        put = pool.request("PUT", f"{base}/manifests/1", body=manifest, headers={"Content-Type": DOCKER_MANIFEST})
        assert put.status == 201
    return TinyImage(f"{server.address}/{repository}:1", _digest(manifest))


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Cutter:
    """A TCP proxy that cuts the first connections after so many bytes of the client."""

    def __init__(self, target: int, after: int, times: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._target, self._after, self.left = target, after, times
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if counted and self.left > 0 and passed > self._after:
                    self.left -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        for one in self._sockets:
            one.close()


def registries(folder: Path, **options: Any) -> Registries:
    return Registries(access(folder, **options))


def reference(server: Server, repository: str = "team/model", tag: str = "1") -> Reference:
    return Reference.parse(f"{server.address}/{repository}:{tag}")


def run(work: Callable[[Progress], T]) -> tuple[T, list[str]]:
    """Return the result of some work, and its lines of progress."""
    lines: list[str] = []
    result = work(lines.append)
    return result, [line for line in lines if line]


def skipped(name: str) -> str:
    return (
        f"Skipping image build for the model - the image '{name}' with the same contents has already been published "
        "to the registry."
    )


@pytest.fixture
def pushed(
    docker_host: str, docker_base_image: str, registry: LockedRegistry, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Settings that reach the engine and the registry; the base image is in both."""
    import docker

    base = f"{registry.address}/{docker_base_image}"
    client = docker.DockerClient(base_url=docker_host)
    client.images.get(docker_base_image).tag(base)
    settings = {"docker_host": docker_host, "docker_config": str(registry.config)}
    image = Reference.parse(base)
    if Registries(Access.of(settings)).of(image).digest_of(image) is None:
        auth = {"username": "kaptain", "password": registry.password}
        client.api.push(base, auth_config=auth)
    yield {**settings, "base": base}
    for one in client.images.list():
        for name in (*one.tags, *(one.attrs.get("RepoDigests") or ())):  # by name: others may be built on it
            if re.search(r"kaptain-test/(engine|none|own|kept|bad)[-:]", name):
                with suppress(docker.errors.ImageNotFound):
                    client.images.remove(name, force=True)
    client.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that no store knows, and its key."""
    return self_signed(tmp_path, "localhost")


def at(data: bytes, start: int) -> IO[bytes]:
    file = io.BytesIO(data)
    file.seek(start)
    return file


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def upload(registry: Registry, image: Reference, data: bytes) -> str:
    digest = digest_of(data)
    registry.upload(image, digest, len(data), partial(at, data), silent)
    return digest
