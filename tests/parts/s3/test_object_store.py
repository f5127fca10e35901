"""What every object store does, on the real thing: a directory, and SeaweedFS."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kaptain_magics.errors import IntegrityError, ObjectMissingError, StorageError
from kaptain_magics.storage import MANIFEST, ObjectStore, open_store
from tests.seaweed import SeaweedFS

BIG = 20 << 20  # bytes: three parts in S3
NAMES = ["model.joblib", "sub/deep er/ü+%41&=#?.bin", "empty", "sub/.hidden", "weights.bin"]


@dataclass
class Place:
    store: ObjectStore
    base: str
    raw_write: Callable[[str, bytes], None]  # past the store, as another program would

    def __truediv__(self, name: str) -> str:
        return f"{self.base}/{name}"


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    base = tmp_path / "the store"

    def raw_write(name: str, data: bytes) -> None:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(data)

    return Place(open_store(base.as_uri(), {}), base.as_uri(), raw_write)


@pytest.fixture
def s3(seaweed: SeaweedFS) -> Place:
    from minio import Minio

    bucket = f"b-{uuid.uuid4().hex}"
    env = seaweed.env
    client = Minio(
        seaweed.endpoint.removeprefix("http://"),
        env["AWS_ACCESS_KEY_ID"],
        env["AWS_SECRET_ACCESS_KEY"],
        secure=False,
        region="us-east-1",
    )
    client.make_bucket(bucket)

    def raw_write(name: str, data: bytes) -> None:
        import io

        client.put_object(bucket, f"models/{name}", io.BytesIO(data), len(data))

    base = f"s3://{bucket}/models"
    return Place(open_store(base, env), base, raw_write)


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    found: Place = request.getfixturevalue(request.param)
    yield found
    found.store.delete(found.base)
    assert found.store.list(found.base) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else os.urandom(BIG + 17 if name == "weights.bin" else 1000))
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class TestObjectStore:
    def test_folder_travels_whole(self, place: Place, model: Path, tmp_path: Path) -> None:
        uri = place / "dev/mnist/trained/1"
        saved = place.store.put(model, uri, "sklearn", "joblib")
        assert saved.files == digests(model)
        assert saved.size == sum((model / name).stat().st_size for name in NAMES)
        assert saved.uri == uri
        got = place.store.get(uri, tmp_path / "back")
        assert got == saved
        assert digests(tmp_path / "back") == saved.files
        assert sorted(p.name for p in tmp_path.glob("*back*")) == ["back"]

    def test_manifest_shows_what_is_saved(self, place: Place, model: Path) -> None:
        saved = place.store.put(model, place / "m", "sklearn", "joblib")
        manifest = place.store.manifest(place / "m")
        written = json.loads(place.store.read(place / f"m/{MANIFEST}"))
        assert written == manifest._asdict()
        assert (manifest.files, manifest.size) == (saved.files, saved.size)
        assert (manifest.framework, manifest.format) == ("sklearn", "joblib")
        assert manifest.created > 1.7e9

    def test_a_folder_without_manifest_was_not_saved(self, place: Place) -> None:
        place.raw_write("half/model.joblib", b"x")
        with pytest.raises(ObjectMissingError):
            place.store.manifest(place / "half")

    def test_object_travels(self, place: Place, model: Path, tmp_path: Path) -> None:
        for name in NAMES:
            uri = place / "objects/one"
            saved = place.store.put(model / name, uri)
            assert saved.files == {"one": digests(model)[name]}
            assert saved.size == (model / name).stat().st_size
            assert place.store.get(uri, tmp_path / "new" / name).files == saved.files
            assert (tmp_path / "new" / name).read_bytes() == (model / name).read_bytes()

    def test_bytes_travel(self, place: Place) -> None:
        for data in (b"", b"one", os.urandom(100_000)):
            place.store.write(place / "a/b/model.json", data)
            assert place.store.read(place / "a/b/model.json") == data

    def test_list(self, place: Place) -> None:
        for name in ("m/b", "m/a/c", "m2/x", "m/a.txt"):
            place.store.write(place / name, b"123")
        found = place.store.list(place / "m")
        assert [(entry.path, entry.size) for entry in found] == [("a.txt", 3), ("a/c", 3), ("b", 3)]
        assert all(entry.modified > 1.7e9 for entry in found)
        assert [entry.path for entry in place.store.list(place / "m/a/")] == ["c"]
        assert place.store.list(place / "m/b") == []
        assert place.store.list(place / "nothing") == []

    def test_list_of_many(self, place: Place) -> None:
        names = [f"{number:04}" for number in range(1100)]  # more than a page of S3
        if place.base.startswith("s3://"):
            names = names[:40]  # pages are minio's; each object costs a request
        for name in names:
            place.store.write(place / f"many/{name}", b"")
        assert [entry.path for entry in place.store.list(place / "many")] == names

    def test_exists(self, place: Place) -> None:
        place.store.write(place / "m/a/c", b"")
        assert [place.store.exists(place / name) for name in ("m", "m/a", "m/a/c")] == [True] * 3
        assert [place.store.exists(place / name) for name in ("m/a/", "m/", "")] == [True] * 3
        assert [place.store.exists(place / name) for name in ("m/a/c/d", "m/b", "x", "m/a/cc", "mm")] == [False] * 5

    def test_put_takes_the_place_of_a_folder(self, place: Place, tmp_path: Path) -> None:
        for name, data in (("old/gone", "1"), ("old/kept", "2"), ("new/kept", "3"), ("new/more/x", "4")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(data)
        place.store.put(tmp_path / "old", place / "m")
        place.store.put(tmp_path / "new", place / "m")
        assert [entry.path for entry in place.store.list(place / "m")] == [MANIFEST, "kept", "more/x"]
        assert place.store.get(place / "m", tmp_path / "back").files == digests(tmp_path / "new")

    def test_put_again_is_the_same(self, place: Place, model: Path) -> None:
        assert place.store.put(model, place / "m") == place.store.put(model, place / "m")

    def test_copy_folder(self, place: Place, model: Path, tmp_path: Path) -> None:
        saved = place.store.put(model, place / "trials/t1", "sklearn", "joblib")
        place.raw_write("trials/t1/not-in-manifest", b"x")
        place.store.write(place / "tuned/1/old", b"x")
        place.store.copy(place / "trials/t1", place / "tuned/1")
        copied = place.store.get(place / "tuned/1", tmp_path / "back")
        assert copied == saved._replace(uri=place / "tuned/1")
        assert digests(tmp_path / "back") == saved.files
        assert {entry.path for entry in place.store.list(place / "tuned/1")} == {*NAMES, MANIFEST}
        assert place.store.exists(place / "trials/t1")

    def test_copy_object(self, place: Place) -> None:
        place.store.write(place / "a/one", b"data")
        place.store.copy(place / "a/one", place / "b/c/two")
        assert place.store.read(place / "b/c/two") == b"data"

    def test_copy_needs_a_source(self, place: Place) -> None:
        with pytest.raises(ObjectMissingError, match="nothing is stored") as error:
            place.store.copy(place / "nothing", place / "b")
        assert error.value.hint
        assert not place.store.exists(place / "b")

    def test_copy_into_itself(self, place: Place) -> None:
        place.store.write(place / "a/one", b"data")
        for target in ("a", "a/b", "a/one/x"):
            with pytest.raises(StorageError, match="one contains the other"):
                place.store.copy(place / "a", place / target)
        assert place.store.read(place / "a/one") == b"data"

    def test_delete_never_leaves_the_folder(self, place: Place) -> None:
        names = ["m/a/1", "m/a/2/3", "m/ab/1", "m/a.txt", "m/b"]
        for name in names:
            place.store.write(place / name, b"")
        place.store.delete(place / "m/a")
        assert [entry.path for entry in place.store.list(place / "m")] == ["a.txt", "ab/1", "b"]
        place.store.delete(place / "m/a.txt")
        place.store.delete(place / "m/ab/")
        assert [entry.path for entry in place.store.list(place / "m")] == ["b"]
        place.store.delete(place / "m/never-there")

    def test_delete_stays_below_the_base(self, place: Place, request: pytest.FixtureRequest) -> None:
        place.store.write(place / "m/a", b"kept")
        inner = open_store(place / "m/inner", request.getfixturevalue("seaweed").env if "s3" in place.base else {})
        above = place.base.rpartition("/")[0]
        for uri in (place / "m/a", place / "m", place.base, above, place / "m/inner/../a"):
            with pytest.raises(StorageError):
                inner.delete(uri)
        assert place.store.read(place / "m/a") == b"kept"
        assert inner.read(place / "m/a") == b"kept"

    @pytest.mark.parametrize("name", ["nothing", "m", "m/a/b"])
    def test_missing(self, place: Place, name: str, tmp_path: Path) -> None:
        place.store.write(place / "m/a", b"")
        with pytest.raises(ObjectMissingError) as error:
            place.store.read(place / name)
        assert error.value.hint
        if name != "m":
            with pytest.raises(ObjectMissingError):
                place.store.get(place / name, tmp_path / "back")
            assert list(tmp_path.glob("*back*")) == []

    def test_missing_source(self, place: Place, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="no file"):
            place.store.put(tmp_path / "nothing", place / "m")
        assert not place.store.exists(place / "m")

    def test_changed_file_is_refused(self, place: Place, model: Path, tmp_path: Path) -> None:
        place.store.put(model, place / "m")
        data = bytearray((model / "weights.bin").read_bytes())
        data[BIG // 2] ^= 1
        place.raw_write("m/weights.bin", bytes(data))
        with pytest.raises(IntegrityError, match=r"weights\.bin is not what was saved"):
            place.store.get(place / "m", tmp_path / "back")
        assert list(tmp_path.glob("*back*")) == []
        (tmp_path / "back").mkdir()
        with pytest.raises(IntegrityError):
            place.store.get(place / "m", tmp_path / "back")
        assert not (tmp_path / "back" / "weights.bin").exists()

    def test_lost_file_is_noticed(self, place: Place, model: Path, tmp_path: Path) -> None:
        place.store.put(model, place / "m")
        place.store.delete(place / "m/model.joblib")
        with pytest.raises(IntegrityError, match=r"model\.joblib is missing"):
            place.store.get(place / "m", tmp_path / "back")
        with pytest.raises(IntegrityError, match=r"model\.joblib is missing"):
            place.store.copy(place / "m", place / "n")
        assert not place.store.exists(place / "n")

    @pytest.mark.parametrize(
        "text",
        [
            *(b"", b"{", b"[]", b'{"files": {"../../etc/x": "00"}, "size": 1}', b'{"files": {"/x": ""}, "size": 1}'),
            *(b'{"files": {"model": ""}, "size": 1e400}', b'{"files": {}, "size": 1, "created": ' + b"9" * 400 + b"}"),
            *(b"[" * 100_000, b'{"files":' + b'{"a":' * 100_000, b'{"files": {}, "size": ' + b"9" * 5000 + b"}"),
            *(b'{"files": {"a\\u0000b": ""}, "size": 1}', b'{"files": {"\\ud800": ""}, "size": 1}'),
        ],
        ids=range(12),
    )
    def test_bad_manifest_is_refused(self, place: Place, text: bytes, tmp_path: Path) -> None:
        place.raw_write("m/model", b"x")
        place.raw_write(f"m/{MANIFEST}", text)
        with pytest.raises(IntegrityError, match="manifest"):
            place.store.get(place / "m", tmp_path / "back")
        assert list(tmp_path.iterdir()) in ([], [tmp_path / "the store"])

    def test_without_manifest_everything_comes(self, place: Place, tmp_path: Path) -> None:
        place.raw_write("given/a", b"1")
        place.raw_write("given/b/c", b"2")
        got = place.store.get(place / "given", tmp_path / "back")
        assert digests(tmp_path / "back") == got.files
        assert set(got.files) == {"a", "b/c"}

    def test_many_writers_one_reader(self, place: Place) -> None:
        """A reader sees one writer's object whole, never a mixture or a part."""
        contents = [bytes([number]) * 50_000 for number in range(4)]
        place.store.write(place / "one", contents[0])
        done = threading.Event()
        seen: list[bytes] = []

        def read() -> None:
            while not done.is_set():
                seen.append(place.store.read(place / "one"))

        def write(data: bytes) -> None:
            for _ in range(10):
                place.store.write(place / "one", data)

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(data,)) for data in contents]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert seen
        assert all(data in contents for data in seen)

    @pytest.mark.parametrize("name", ["a/../b", "..", "/../a"])
    def test_dots_are_refused(self, place: Place, name: str) -> None:
        with pytest.raises(StorageError, match="not a plain path"):
            place.store.write(place / name, b"")

    def test_the_other_kind_of_uri(self, place: Place) -> None:
        other = "file:///tmp/x" if place.base.startswith("s3") else "s3://bucket/x"
        with pytest.raises(StorageError, match="is not in the store") as error:
            place.store.read(other)
        assert "KAPTAIN_STORAGE_URI" in error.value.hint
