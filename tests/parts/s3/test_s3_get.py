"""One object by the standard library alone, from a real S3 server."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.names import new_hex
from kaptain_magics.runtime.job_errors import DeniedError, MissingError, TransferError
from kaptain_magics.runtime.reach import check_store
from kaptain_magics.runtime.s3_client import authorities_of
from kaptain_magics.runtime.s3_get import get
from kaptain_magics.storage import open_store
from tests.certificates import self_signed
from tests.seaweed import SeaweedFS
from tests.tls import TlsProxy

pytestmark = pytest.mark.s3


def test_an_object_comes_whole(seaweed: SeaweedFS, tmp_path: Path) -> None:
    bucket, data = f"s3://get-{new_hex(8)}", os.urandom(3_000_001)
    uri = f"{bucket}/a folder/ünlike (1)+&.tar.gz"
    open_store(bucket, seaweed.env).write(uri, data)
    assert get(uri, tmp_path / "there", seaweed.env) == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "there").read_bytes() == data
    with pytest.raises(MissingError):
        get(f"{bucket}/other", tmp_path / "other", seaweed.env)
    with pytest.raises(DeniedError, match="SignatureDoesNotMatch"):
        get(uri, tmp_path / "other", {**seaweed.env, "AWS_SECRET_ACCESS_KEY": "wrong"})


def test_a_private_authority(seaweed: SeaweedFS, tmp_path: Path) -> None:
    bucket = f"s3://get-{new_hex(8)}"
    open_store(bucket, seaweed.env).write(f"{bucket}/x", b"x")
    certificate = self_signed(tmp_path, "127.0.0.1")
    with TlsProxy("127.0.0.1", urlsplit(seaweed.endpoint).port or 0, certificate) as proxy:
        env = {**seaweed.env, "S3_ENDPOINT": proxy.endpoint}
        trusting = {**env, "AWS_CA_BUNDLE": str(certificate[0])}
        assert get(f"{bucket}/x", tmp_path / "x", trusting) == hashlib.sha256(b"x").hexdigest()
        check_store(f"{bucket}/models/1", trusting)
        for use in (lambda: get(f"{bucket}/x", tmp_path / "x", env), lambda: check_store(f"{bucket}/models/1", env)):
            with pytest.raises(TransferError, match="not trusted") as refused:
                use()
            assert "AWS_CA_BUNDLE" in refused.value.hint


def test_a_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    env, began = {"S3_ENDPOINT": "http://127.0.0.1:9"}, time.monotonic()
    with pytest.raises(TransferError, match="does not answer"):
        get("s3://bucket/x", tmp_path / "x", env, retry_seconds=1.0)
    assert 0.5 < time.monotonic() - began < 20


def test_what_a_store_is_asked_before_a_script_runs(seaweed: SeaweedFS) -> None:
    check_store(f"s3://not-there-{new_hex(8)}/models/1", seaweed.env)  # it is made when something is saved
    check_store("file:///tmp/models", {})
    with pytest.raises(DeniedError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
        check_store("s3://probe/models/1", {**seaweed.env, "AWS_SECRET_ACCESS_KEY": "wrong"})


def test_certificates_are_not_needed_without_encryption(tmp_path: Path) -> None:
    assert authorities_of({"S3_ENDPOINT": "http://127.0.0.1:9", "AWS_CA_BUNDLE": "/no/such.pem"}) is None
    with pytest.raises(TransferError, match="no certificate file"):
        authorities_of({"S3_ENDPOINT": "https://127.0.0.1:9", "AWS_CA_BUNDLE": "/no/such.pem"})
