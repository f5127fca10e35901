"""What only one kind of store does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kaptain_magics.errors import CredentialsError, StorageError
from kaptain_magics.runtime.directory import PART
from kaptain_magics.runtime.location import Location
from kaptain_magics.storage import open_store
from tests.seaweed import READER_KEY, READER_SECRET, WRITER_KEY, WRITER_SECRET, SeaweedFS


def test_a_path_is_a_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "models"), {})
    store.write(str(tmp_path / "models/a"), b"1")
    assert store.read((tmp_path / "models/a").as_uri()) == b"1"
    assert repr(store) == f"DirectoryStore('{(tmp_path / 'models').as_uri()}')"


@pytest.mark.parametrize("uri", ["gs://bucket/x", "models", "s3://Bad_Bucket/x", "file://host/x"])
def test_bad_uris(uri: str) -> None:
    with pytest.raises(StorageError) as error:
        open_store(uri, {})
    assert error.value.hint


def test_unfinished_files_are_no_objects(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f"{PART}1234").write_text("half")
    store = open_store(tmp_path.as_uri(), {})
    assert store.list(f"{tmp_path.as_uri()}/m") == []
    assert not store.exists(f"{tmp_path.as_uri()}/m")
    store.delete(f"{tmp_path.as_uri()}/m")
    assert list(tmp_path.iterdir()) == []


def test_delete_does_not_follow_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("kept")
    base = tmp_path / "base"
    (base / "m").mkdir(parents=True)
    (base / "m" / "link").symlink_to(outside)
    (base / "way-out").symlink_to(outside)
    store = open_store(base.as_uri(), {})
    with pytest.raises(StorageError, match=r"leaves .* through a link"):
        store.delete(f"{base.as_uri()}/way-out/deep")
    store.delete(f"{base.as_uri()}/way-out")
    store.delete(f"{base.as_uri()}/m")
    assert (outside / "deep" / "file").read_text() == "kept"
    assert list(base.iterdir()) == []


def test_a_store_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = open_store((tmp_path / "link").as_uri(), {})
    store.write(f"{(tmp_path / 'link').as_uri()}/a", b"1")
    store.delete(f"{(tmp_path / 'link').as_uri()}/a")
    assert list((tmp_path / "real").iterdir()) == []


def test_what_is_stored_is_the_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("x")
    before = os.umask(0)
    try:
        open_store(tmp_path.as_uri(), {}).put(tmp_path / "source", f"{tmp_path.as_uri()}/m/model")
    finally:
        os.umask(before)
    assert (tmp_path / "m" / "model").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o700


@pytest.mark.s3
class TestS3:
    def test_bucket_is_made_for_every_kind_of_writing(self, seaweed: SeaweedFS, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "big").write_bytes(bytes(9 << 20))
        (tmp_path / "m" / "small").write_bytes(b"1")
        store = open_store("s3://made-1", seaweed.env)
        store.put(tmp_path / "m", "s3://made-1/m")
        store.put(tmp_path / "m" / "big", "s3://made-2/big")
        store.write("s3://made-3/x", b"")
        store.copy("s3://made-1/m", "s3://made-4/m")
        assert [store.exists(f"s3://made-{n}/{k}") for n, k in ((1, "m"), (2, "big"), (3, "x"), (4, "m"))] == [True] * 4

    def test_bucket_is_missing_and_may_not_be_made(self, seaweed: SeaweedFS, tmp_path: Path) -> None:
        env = {**seaweed.env, "AWS_ACCESS_KEY_ID": WRITER_KEY, "AWS_SECRET_ACCESS_KEY": WRITER_SECRET}
        store = open_store("s3://unmade/models", env)
        with pytest.raises(CredentialsError, match=r"no bucket 'unmade' .* may not create it") as error:
            store.write("s3://unmade/models/a", b"")
        assert "create the bucket" in error.value.hint

    def test_reader_may_not_write(self, seaweed: SeaweedFS) -> None:
        env = {**seaweed.env, "AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET}
        open_store("s3://shared/models", seaweed.env).write("s3://shared/models/a", b"1")
        store = open_store("s3://shared/models", env)
        assert store.read("s3://shared/models/a") == b"1"
        for use in (
            lambda: store.write("s3://shared/models/b", b""),
            lambda: store.delete("s3://shared/models/a"),
            lambda: store.copy("s3://shared/models/a", "s3://shared/models/b"),
        ):
            with pytest.raises(CredentialsError, match="AccessDenied"):
                use()
        assert [entry.path for entry in store.list("s3://shared/models")] == ["a"]

    def test_the_bucket_itself_is_never_deleted(self, seaweed: SeaweedFS, tmp_path: Path) -> None:
        store = open_store("s3://made-5", seaweed.env)
        store.write("s3://made-5/a", b"")
        (tmp_path / "m").mkdir()
        (tmp_path / "m/file").write_text("")
        for use in (lambda: store.delete("s3://made-5"), lambda: store.put(tmp_path / "m", "s3://made-5")):
            with pytest.raises(StorageError):
                use()
        assert store.exists("s3://made-5/a")

    def test_large_object_is_sent_once(
        self, seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "big"
        path.write_bytes(os.urandom(9 << 20))
        store = open_store("s3://made-6", seaweed.env)
        first = store.put(path, "s3://made-6/big")
        monkeypatch.setattr(store._transfer.multipart, "send", None)  # type: ignore[attr-defined]
        assert store.put(path, "s3://made-6/big") == first

    def test_changed_in_the_middle(self, seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that grows shorter while it is sent is not stored."""
        path = tmp_path / "big"
        path.write_bytes(bytes(30 << 20))
        store = open_store("s3://made-7", seaweed.env)
        store.write("s3://made-7/x", b"")
        multipart = store._transfer.multipart  # type: ignore[attr-defined]
        send = multipart.send

        def shorten(*args: object) -> str:
            os.truncate(path, 10 << 20)
            return str(send(*args))

        monkeypatch.setattr(multipart, "send", shorten)
        os.truncate(path, 90 << 20)
        with pytest.raises(StorageError, match="changed while it was stored"):
            store.put(path, "s3://made-7/big")
        assert not store.exists("s3://made-7/big")

    @pytest.mark.parametrize("lost", ["upload", "answer"])
    def test_an_upload_whose_end_is_lost(
        self, seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
    ) -> None:
        """Another client aborted it, and it starts again, or the server completed it and died before it answered."""
        from urllib3.exceptions import ProtocolError

        path, bucket = tmp_path / "big", f"s3://lost-{lost}"
        path.write_bytes(os.urandom(20 << 20))
        store = open_store(bucket, seaweed.env)
        store.write(f"{bucket}/x", b"")
        multipart = store._transfer.multipart  # type: ignore[attr-defined]
        complete, happened = multipart.complete, []

        def complete_with_a_loss(target: Location, upload_id: str, tags: list[str]) -> None:
            first = not happened
            happened.append(upload_id)
            if first and lost == "upload":
                multipart.abort(target, upload_id)
            complete(target, upload_id, tags)
            if first and lost == "answer":
                raise ProtocolError("Connection aborted.")

        monkeypatch.setattr(multipart, "complete", complete_with_a_loss)
        store.put(path, f"{bucket}/big")
        assert happened
        assert store.get(f"{bucket}/big", tmp_path / "back").size == 20 << 20
        assert (tmp_path / "back").read_bytes() == path.read_bytes()
