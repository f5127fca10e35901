"""How fast models are stored and fetched, against the bare copy and the bare client."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.runtime import channel
from kaptain_magics.storage import open_store
from tests.seaweed import SeaweedFS

pytestmark = pytest.mark.benchmark
SIZE = 100 << 20  # bytes
ROUNDS = 5


def best(action: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds of the fastest round."""
    times = []
    for _ in range(ROUNDS):
        before()
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def table(title: str, rows: list[tuple[str, float, float]]) -> None:
    print(f"\n{title}\n{'':34}{'ours':>10}{'bare':>10}{'ratio':>8}")
    for name, ours, bare in rows:
        print(f"{name:34}{ours * 1e3:8.1f}ms{bare * 1e3:8.1f}ms{ours / bare:8.2f}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "weights.bin"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    return path


def test_directory(model: Path, tmp_path: Path) -> None:
    uri = (tmp_path / "store").as_uri()
    store = open_store(uri, {})
    copied, back, small, twin = (tmp_path / name for name in ("copy", "back", "small", "twin"))
    small.mkdir()
    (small / "model.joblib").write_bytes(os.urandom(100_000))

    def digest() -> None:
        with open(model, "rb") as file:
            hashlib.file_digest(file, "sha256")

    def put(source: Path, name: str) -> float:
        return best(lambda: store.put(source, f"{uri}/{name}"), lambda: store.delete(f"{uri}/{name}"))

    copy = best(lambda: shutil.copyfile(model, copied), lambda: copied.unlink(missing_ok=True))
    copy_small = best(lambda: shutil.copytree(small, twin), lambda: shutil.rmtree(twin, ignore_errors=True))
    put_large = put(model.parent, "m")
    get_large = best(lambda: store.get(f"{uri}/m", back), lambda: shutil.rmtree(back, ignore_errors=True))
    rows = [
        ("put 100 MB / copyfile", put_large, copy),
        ("put 100 MB / copyfile and sha256", put_large, copy + best(digest)),
        ("get 100 MB, checked / copyfile", get_large, copy),
        ("put 100 kB / copytree", put(small, "s"), copy_small),
    ]
    table("directory against shutil", rows)


@pytest.mark.s3
def test_s3(model: Path, tmp_path: Path, seaweed: SeaweedFS) -> None:
    from minio import Minio

    store = open_store("s3://speed/models", seaweed.env)
    host, env = seaweed.endpoint.removeprefix("http://"), seaweed.env
    bare = Minio(host, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], secure=False, region="us-east-1")
    store.write("s3://speed/models/first", b"")
    back = tmp_path / "back"
    many = tmp_path / "many"
    many.mkdir()
    for number in range(100):
        (many / f"{number}").write_bytes(os.urandom(20_000))

    def put_many() -> None:
        for path in many.iterdir():
            bare.fput_object("speed", f"bare/{path.name}", str(path))

    def get_many() -> None:
        for path in many.iterdir():
            bare.fget_object("speed", f"bare/{path.name}", str(back / path.name))

    def fresh() -> None:
        shutil.rmtree(back, ignore_errors=True)

    def gone() -> None:
        store.delete("s3://speed/models/m")

    rows = [
        (
            "put 100 MB, with sha256",
            best(lambda: store.put(model.parent, "s3://speed/models/m"), gone),
            best(lambda: bare.fput_object("speed", "bare/weights.bin", str(model))),
        ),
        (
            "get 100 MB, checked",
            best(lambda: store.get("s3://speed/models/m", back), fresh),
            best(lambda: bare.fget_object("speed", "bare/weights.bin", str(back / "weights.bin")), fresh),
        ),
        ("put 100 files of 20 kB", best(lambda: store.put(many, "s3://speed/models/m"), gone), best(put_many)),
        ("get 100 files of 20 kB", best(lambda: store.get("s3://speed/models/m", back), fresh), best(get_many, fresh)),
        (
            "put 100 MB again, unchanged",
            best(lambda: store.put(model, "s3://speed/models/w")),
            best(lambda: bare.fput_object("speed", "bare/weights.bin", str(model))),
        ),
    ]
    table("SeaweedFS against minio's fput and fget", rows)


def test_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{tmp_path / 'channel'}")

    def ours() -> None:
        for step in range(10_000):
            channel.log_metrics(loss=0.5, step=step)

    def bare() -> None:
        with open(tmp_path / "bare", "a", buffering=1) as file:
            for step in range(10_000):
                print(f"loss=0.5 step={step}", file=file)

    table("10,000 metrics against printed lines", [("log_metrics", best(ours), best(bare))])
