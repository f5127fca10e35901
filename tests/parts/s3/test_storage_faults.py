"""The store under faults: servers that die, fall silent or refuse; disks that are full."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kaptain_magics.errors import CredentialsError, StorageError
from kaptain_magics.runtime.location import Location
from kaptain_magics.storage import ObjectStore, open_store
from tests.disks import small_disk
from tests.seaweed import READER_KEY, READER_SECRET, SeaweedFS, require_seaweed

PARTS = 12
SIZE = PARTS * (8 << 20) - 5  # bytes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SeaweedFS]:
    """A server of the test's own, to be killed."""
    require_seaweed()
    with SeaweedFS(tmp_path / "weed") as running:
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.bin"
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20) + os.urandom(SIZE % (1 << 20)))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def uploaded_parts(store: ObjectStore) -> int:
    """Parts of interrupted uploads that the server has."""
    multipart = store._transfer.multipart  # type: ignore[attr-defined]
    places = [
        (Location("kaptain", u.object_name), u.upload_id) for u in multipart.unfinished(Location("kaptain", "models"))
    ]
    return sum(len(list(multipart.parts(place, upload_id))) for place, upload_id in places)


class PartsSent:
    """Counts the parts that the server has taken; those beyond ``held_from`` wait until they are let go."""

    def __init__(self, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, held_from: int = PARTS) -> None:
        multipart = store._transfer.multipart  # type: ignore[attr-defined]
        self.count = 0
        self.go = threading.Event()
        send = multipart.send

        def counted(target: Location, upload_id: str, number: int, data: bytes) -> str:
            if number > held_from:
                assert self.go.wait(120)
            tag = str(send(target, upload_id, number, data))
            self.count += 1
            return tag

        monkeypatch.setattr(multipart, "send", counted)


@pytest.mark.s3
class TestDyingServer:
    def test_upload_goes_on_when_the_server_is_back(
        self, server: SeaweedFS, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = open_store("s3://kaptain/models", {**server.env, "KAPTAIN_STORAGE_PATIENCE": "120"})
        store.write("s3://kaptain/models/first", b"")
        sent = PartsSent(store, monkeypatch, held_from=5)
        saved: list[dict[str, str]] = []
        upload = threading.Thread(
            target=lambda: saved.append(store.put(weights.parent, "s3://kaptain/models/m").files), daemon=True
        )
        upload.start()
        wait_for(lambda: sent.count == 5)
        server.kill()
        sent.go.set()
        server.start()
        upload.join(120)
        assert saved == [{"weights.bin": sha256(weights)}]
        store.get("s3://kaptain/models/m", tmp_path / "back")
        assert sha256(tmp_path / "back" / "weights.bin") == sha256(weights)

    def test_second_put_sends_only_what_is_missing(
        self, server: SeaweedFS, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The process that uploads is killed too; another one goes on with its parts."""
        store = open_store("s3://kaptain/models", server.env)
        store.write("s3://kaptain/models/first", b"")
        code = f"""
            import time
            from kaptain_magics.storage import open_store
            from kaptain_magics.runtime.multipart import Multipart
            send = Multipart.send
            Multipart.send = lambda *args: send(*args) if args[3] <= 5 else time.sleep(600)
            open_store("s3://kaptain/models", {server.env!r}).put({str(weights)!r}, "s3://kaptain/models/w")
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[3])
        try:
            wait_for(lambda: uploaded_parts(store) == 5)
        finally:
            process.kill()
            process.wait(30)
        server.kill()
        server.start()
        assert uploaded_parts(store) == 5
        assert not store.exists("s3://kaptain/models/w")
        sent = PartsSent(store, monkeypatch)
        saved = store.put(weights, "s3://kaptain/models/w")
        assert saved.files == {"w": sha256(weights)}
        assert sent.count == PARTS - 5
        assert uploaded_parts(store) == 0
        assert store.get("s3://kaptain/models/w", tmp_path / "back").files == saved.files

    def test_killed_for_good(self, server: SeaweedFS, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = open_store("s3://kaptain/models", {**server.env, "KAPTAIN_STORAGE_PATIENCE": "2"})
        store.write("s3://kaptain/models/first", b"")
        sent = PartsSent(store, monkeypatch, held_from=3)
        errors: list[StorageError] = []

        def put() -> None:
            try:
                store.put(weights.parent, "s3://kaptain/models/m")
            except StorageError as error:
                errors.append(error)

        upload = threading.Thread(target=put, daemon=True)
        upload.start()
        wait_for(lambda: sent.count == 3)
        server.kill()
        sent.go.set()
        killed = time.monotonic()
        upload.join(60)
        assert time.monotonic() - killed < 30
        assert len(errors) == 1
        assert "does not answer: connection refused" in errors[0].message
        assert "start the server" in errors[0].hint
        server.start()
        assert store.list("s3://kaptain/models/m") == []
        assert uploaded_parts(store) == 3
        store.delete("s3://kaptain/models/m")
        assert uploaded_parts(store) == 0

    def test_silent_server(self, server: SeaweedFS) -> None:
        """A server that accepts connections and says nothing does not hang the caller for long."""
        from urllib3 import Timeout

        store = open_store("s3://kaptain/models", {**server.env, "KAPTAIN_STORAGE_PATIENCE": "1"})
        store.write("s3://kaptain/models/a", b"x")
        http = store._client.minio._http  # type: ignore[attr-defined]
        http.connection_pool_kw["timeout"] = Timeout(connect=1, read=1)  # seconds, instead of a minute
        http.clear()
        server.suspend()
        try:
            with pytest.raises(StorageError, match="does not answer"):
                store.read("s3://kaptain/models/a")
        finally:
            server.resume()
        assert store.read("s3://kaptain/models/a") == b"x"


def wait_for(condition: object, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.005)


@pytest.mark.s3
class TestRefusal:
    @pytest.mark.parametrize(
        ("changes", "word", "hint"),
        [
            ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            ({"AWS_ACCESS_KEY_ID": ""}, "AccessDenied", "no credentials were found"),
            (
                {"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET},
                "AccessDenied",
                "no permission",
            ),
        ],
    )
    def test_wrong_credentials(
        self, seaweed: SeaweedFS, changes: dict[str, str], word: str, hint: str, tmp_path: Path
    ) -> None:
        env = {**seaweed.env, **changes}
        store = open_store("s3://not-allowed/models", env)
        started = time.monotonic()
        uri = "s3://not-allowed/models/m"
        (tmp_path / "a").write_text("x")
        for use in (
            lambda: store.put(tmp_path, uri),
            lambda: store.get(uri, tmp_path / "back"),
            lambda: store.list(uri),
            lambda: store.exists(uri),
            lambda: store.read(uri),
            lambda: store.write(uri, b""),
            lambda: store.copy(uri, "s3://not-allowed/models/n"),
            lambda: store.delete(uri),
        ):
            with pytest.raises(CredentialsError) as error:
                use()
            assert word in error.value.message
            assert hint in error.value.hint
            for secret in filter(None, (env["AWS_SECRET_ACCESS_KEY"], env["AWS_ACCESS_KEY_ID"])):
                assert secret not in f"{error.value!r} {error.value} {store!r} {vars(store)}"
        assert time.monotonic() - started < 10

    def test_server_away(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("x")
        for endpoint in ("127.0.0.1:9", "http://kaptain-test.invalid"):
            store = open_store("s3://kaptain/models", {"S3_ENDPOINT": endpoint})
            started = time.monotonic()
            with pytest.raises(StorageError, match=f"{endpoint.removeprefix('http://')} does not answer") as error:
                store.put(tmp_path, "s3://kaptain/models/m")
            assert "S3_ENDPOINT" in error.value.hint
            assert time.monotonic() - started < 15

    def test_absent_bucket(self, seaweed: SeaweedFS, tmp_path: Path) -> None:
        store = open_store("s3://absent-bucket/models", seaweed.env)
        assert store.list("s3://absent-bucket/models") == []
        assert not store.exists("s3://absent-bucket/models/m")
        store.delete("s3://absent-bucket/models/m")
        with pytest.raises(StorageError, match="nothing is stored"):
            store.get("s3://absent-bucket/models/m", tmp_path / "x")
        store.write("s3://absent-bucket/models/m", b"made")
        assert store.read("s3://absent-bucket/models/m") == b"made"

    def test_no_s3_server(self, tmp_path: Path) -> None:
        import http.server

        class Plain(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(404)
                self.end_headers()
                self.wfile.write(b"<html>nothing here</html>")

            def log_message(self, *_: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Plain) as web:
            thread = threading.Thread(target=web.serve_forever)
            thread.start()
            try:
                store = open_store("s3://kaptain", {"S3_ENDPOINT": f"127.0.0.1:{web.server_port}"})
                with pytest.raises(StorageError, match="is not an S3 server") as error:
                    store.list("s3://kaptain/models")
                assert "S3_ENDPOINT" in error.value.hint
            finally:
                web.shutdown()
                thread.join()


class TestFullDisk:
    def test_limit_of_file_size(self, tmp_path: Path) -> None:
        """The same path as a full disk, where no file system can be mounted."""
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "small").write_bytes(b"x")
        (tmp_path / "model" / "weights").write_bytes(bytes(3 << 20))
        base = (tmp_path / "store").as_uri()
        code = f"""
            import resource
            from kaptain_magics.errors import StorageError
            from kaptain_magics.storage import open_store
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, {resource.RLIM_INFINITY}))
            store = open_store({base!r}, {{}})
            try:
                store.put({str(tmp_path / "model")!r}, {base + "/m"!r})
            except StorageError as error:
                print(error)
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60)
        assert "cannot write" in done.stdout
        assert "free disk space" in done.stdout
        assert done.stderr == ""
        assert [path.name for path in (tmp_path / "store" / "m").iterdir()] == ["small"]  # no manifest, no part

    def test_full_file_system(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "tiny", "2m") as mounted:
            store = open_store(mounted.as_uri(), {})
            (tmp_path / "weights").write_bytes(bytes(3 << 20))
            store.write(f"{mounted.as_uri()}/kept", b"kept")
            with pytest.raises(StorageError, match="No space left") as error:
                store.put(tmp_path / "weights", f"{mounted.as_uri()}/weights")
            assert "free disk space" in error.value.hint
            with pytest.raises(StorageError, match="No space left"):
                store.write(f"{mounted.as_uri()}/kept", bytes(3 << 20))
            assert store.read(f"{mounted.as_uri()}/kept") == b"kept"
            assert [path.name for path in mounted.iterdir()] == ["kept"]
            with pytest.raises(StorageError, match="No space left"):
                open_store(tmp_path.as_uri(), {}).get((tmp_path / "weights").as_uri(), mounted / "back")
            assert [path.name for path in mounted.iterdir()] == ["kept"]

    def test_read_only_folder(self, tmp_path: Path) -> None:
        sealed = tmp_path / "sealed"
        sealed.mkdir()
        (sealed / "file").write_text("")
        store = open_store((sealed / "file").as_uri(), {})
        with pytest.raises(StorageError, match="cannot use") as error:
            store.write(f"{(sealed / 'file').as_uri()}/below-a-file", b"")
        assert error.value.hint


class TestKilledWriter:
    def test_nothing_partial_after_kill(self, tmp_path: Path) -> None:
        """A process that is killed while it writes into a directory leaves no object that could be read."""
        source = tmp_path / "model" / "weights"
        source.parent.mkdir()
        with open(source, "wb") as file:
            file.truncate(400 << 20)  # sparse
        base = tmp_path / "store"
        code = f"""
            from kaptain_magics.storage import open_store
            open_store({base.as_uri()!r}, {{}}).put({str(source.parent)!r}, {base.as_uri() + "/m"!r})
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[3])
        try:
            wait_for(lambda: (base / "m").exists() and any((base / "m").iterdir()))
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        store = open_store(base.as_uri(), {})
        assert store.list(f"{base.as_uri()}/m") == []
        assert not store.exists(f"{base.as_uri()}/m")
        store.delete(base.as_uri())
        assert not base.exists()
