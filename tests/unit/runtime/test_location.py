"""URIs of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.runtime.job_errors import TransferError
from kaptain_magics.runtime.location import Location


@pytest.mark.parametrize(
    ("text", "bucket", "key", "uri"),
    [
        ("s3://kaptain/models", "kaptain", "models", "s3://kaptain/models"),
        ("s3://kaptain/models//dev/", "kaptain", "models/dev", "s3://kaptain/models/dev"),
        ("s3://kaptain", "kaptain", "", "s3://kaptain"),
        ("s3://my.bucket-1/a b/ü%20", "my.bucket-1", "a b/ü%20", "s3://my.bucket-1/a b/ü%20"),
        ("file:///srv/models/", "", "/srv/models", "file:///srv/models"),
        ("file://localhost/srv", "", "/srv", "file:///srv"),
        ("file:///my%20models/%41", "", "/my models/A", "file:///my%20models/A"),
        ("file:///my models", "", "/my models", "file:///my%20models"),
        ("/srv/models", "", "/srv/models", "file:///srv/models"),
        ("file:///", "", "/", "file:///"),
    ],
)
def test_uris(text: str, bucket: str, key: str, uri: str) -> None:
    location = Location.parse(text)
    assert location == Location(bucket, key)
    assert str(location) == uri
    assert Location.parse(str(location)) == location


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert Location.parse("~/models").key == "/home/ada/models"


def test_path() -> None:
    for path in ("/a b/ü", "/100%/#1?"):
        assert Location.parse(Path(path).as_uri()).path == Path(path)
        assert Location.parse(str(Location.parse(Path(path)))).path == Path(path)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("models", "is not a URI", "file:///folder"),
        ("", "is not a URI", "s3://"),
        ("gs://bucket/x", "gs:// is not supported", "s3://"),
        ("file://models/x", "names the host 'models'", "file:///models/x"),
        ("s3://", "'' in 's3://'", "3 to 63"),
        ("s3:///models", "is not a valid bucket name", "3 to 63"),
        ("s3://Kaptain/x", "'Kaptain'", "lower-case"),
        ("s3://a..b/x", "'a..b'", "lower-case"),
        ("s3://user:secret@host/x", "is not a valid bucket name", "lower-case"),
        ("s3://kaptain/a/../b", "not a plain path", "'..'"),
        ("file:///a/../b", "not a plain path", "'..'"),
        ("file:///a/%2e%2e/b", "not a plain path", "'..'"),
        ("file:///a\0b", "not a plain path", ""),
    ],
)
def test_what_is_no_uri(text: str, words: str, hint: str) -> None:
    with pytest.raises(TransferError) as error:
        Location.parse(text)
    assert words in error.value.message
    assert hint in error.value.hint


def test_below() -> None:
    for base in ("s3://kaptain/models", "file:///srv/models"):
        location = Location.parse(base)
        assert str(location / "dev/mnist") == f"{base}/dev/mnist"
        assert location.holds(location / "dev")
        assert location.holds(location)
        assert not location.holds(Location.parse(f"{base}2/dev"))
        assert not (location / "dev").holds(location)
        for name in ("../x", "a/../../x", "."):
            with pytest.raises(TransferError):
                location / name
    assert Location.parse("s3://kaptain").holds(Location.parse("s3://kaptain/x"))
    assert not Location.parse("s3://kaptain").holds(Location.parse("s3://other/x"))
    assert str(Location.parse("s3://kaptain") / "x") == "s3://kaptain/x"
    assert Location.parse("file:///").holds(Location.parse("file:///x"))
