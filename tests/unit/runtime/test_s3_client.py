"""Settings of the S3 client, and what it makes of a server's answers."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import MaxRetryError, ProtocolError, SSLError

from kaptain_magics.runtime import s3
from kaptain_magics.runtime.job_errors import DamagedError, DeniedError, MissingError, TransferError
from kaptain_magics.runtime.s3_client import S3Client, endpoint_of

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret"}
LOCAL = {"S3_ENDPOINT": "127.0.0.1:9", "KAPTAIN_STORAGE_PATIENCE": "0.3", **KEYS}


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("", "https://s3.amazonaws.com"),
        ("http://127.0.0.1:8333/", "http://127.0.0.1:8333"),
        ("HTTPS://minio.example.org", "https://minio.example.org"),
        ("127.0.0.1:8333", "http://127.0.0.1:8333"),
        ("10.0.0.7", "http://10.0.0.7"),
        ("[::1]:9000", "http://[::1]:9000"),
        ("minio.kubeflow", "http://minio.kubeflow"),
        ("minio-service.kubeflow:9000", "http://minio-service.kubeflow:9000"),
        ("minio.kubeflow.svc.cluster.local", "http://minio.kubeflow.svc.cluster.local"),
        ("s3.eu-central-003.backblazeb2.com", "https://s3.eu-central-003.backblazeb2.com"),
        ("s3.eu-west-1.amazonaws.com", "https://s3.eu-west-1.amazonaws.com"),
        ("storage.example.org:443", "https://storage.example.org:443"),
        ("storage.example.org:9000", "http://storage.example.org:9000"),
    ],
)
def test_endpoints(text: str, endpoint: str) -> None:
    assert endpoint_of({"S3_ENDPOINT": text}) == endpoint
    S3Client({"S3_ENDPOINT": text})


def test_scheme_may_be_set_apart() -> None:
    assert endpoint_of({"S3_ENDPOINT": "127.0.0.1:9000", "S3_USE_HTTPS": "1"}) == "https://127.0.0.1:9000"
    assert endpoint_of({"S3_ENDPOINT": "s3.eu.example.org", "S3_USE_HTTPS": "0"}) == "http://s3.eu.example.org"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"S3_ENDPOINT": "ftp://host"}, "is not a valid address"),
        ({"S3_ENDPOINT": "http://host/path"}, "is not a valid address"),
        ({"S3_ENDPOINT": "http://"}, "is not a valid address"),
        ({"S3_ENDPOINT": "my host"}, "is not a valid address"),
        ({"S3_ENDPOINT": "http://host:port"}, "cannot be used"),
        ({"S3_ENDPOINT": "http://ada:very-secret@host"}, "holds credentials"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "without AWS_SECRET_ACCESS_KEY"),
        ({"S3_SIGNATURE_VERSION": "s3"}, "is not supported"),
        ({"AWS_CA_BUNDLE": "/no/such.pem"}, "no certificate file /no/such.pem"),
        ({"KAPTAIN_STORAGE_PATIENCE": "long"}, "'long'"),
    ],
)
def test_bad_settings(env: dict[str, str], words: str) -> None:
    with pytest.raises(TransferError) as error:
        S3Client(env)
    assert words in error.value.message
    assert error.value.hint
    assert "very-secret" not in str(error.value)


def test_settings_reach_the_client() -> None:
    client = S3Client({**LOCAL, "AWS_SESSION_TOKEN": "token", "AWS_REGION": "eu-west-1", "S3_FORCE_PATH_STYLE": "true"})
    held = client.minio._provider.retrieve()
    assert (held.access_key, held.secret_key, held.session_token) == ("AKIAEXAMPLE", "very-secret", "token")
    assert client.minio._base_url.region == "eu-west-1"
    assert S3Client(KEYS).minio._base_url.region == ""  # AWS: looked up for each bucket
    assert S3Client(LOCAL).minio._base_url.region == "us-east-1"
    for word in ("true", "on", "1"):
        assert S3Client({**KEYS, "S3_FORCE_PATH_STYLE": word}).minio._base_url.virtual_style_flag is False
    assert S3Client(KEYS).minio._base_url.virtual_style_flag is True


def test_no_secret_in_its_text() -> None:
    client = S3Client(LOCAL)
    transfer = s3.S3Transfer(LOCAL)
    for thing in (client, transfer, vars(client), vars(transfer)):
        assert "very-secret" not in repr(thing)
        assert "AKIAEXAMPLE" not in repr(thing)


def answer(code: str, status: int = 400, key: str | None = "m/x") -> S3Error:
    return S3Error(
        response=SimpleNamespace(status=status),  # type: ignore[arg-type]
        code=code,
        message="its text",
        resource="/bucket/m/x",
        request_id="1",
        host_id="2",
        bucket_name="bucket",
        object_name=key,
    )


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer("NoSuchKey", 404), MissingError, "nothing is stored at s3://bucket/m/x"),
        (answer("NoSuchBucket", 404), MissingError, "no bucket 'bucket' at http://127.0.0.1:9"),
        (answer("AccessDenied", 403), DeniedError, "AccessDenied"),
        (answer("ExpiredToken", 400), DeniedError, "AWS_SESSION_TOKEN"),
        (answer("RequestTimeTooSkewed", 403), DeniedError, "clock"),
        (answer("PreconditionFailed", 412), DamagedError, "changed while it was read"),
        (answer("InsufficientStorage", 507), TransferError, "no space left"),
        (answer("EntityTooLarge", 400), TransferError, "its text"),
        (answer("SlowDown", 503), TransferError, "answers SlowDown"),
        (answer("InternalError", 500), TransferError, "answers InternalError"),
        (ServerError("x", 502), TransferError, "fails with status 502"),
        (InvalidResponseError(504, "text/html", "<html>"), TransferError, "fails with status 504"),
        (InvalidResponseError(200, "text/html", "<html>"), TransferError, "is not an S3 server"),
        (
            ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer")),
            TransferError,
            "reset",
        ),
        (MaxRetryError(None, "/", TimeoutError("timed out")), TransferError, "timed out"),  # type: ignore[arg-type]
        (SSLError("certificate verify failed"), TransferError, "AWS_CA_BUNDLE"),
        (ValueError("object name is too long"), TransferError, "object name is too long"),
    ],
)
def test_answers(error: Exception, kind: type[TransferError], words: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(TransferError) as raised:
        S3Client(LOCAL).call(fail)
    assert isinstance(raised.value, kind)
    assert words in str(raised.value)
    assert raised.value.hint
    assert "very-secret" not in str(raised.value)


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        S3Client(LOCAL).call(lambda: 1 // 0)


def test_only_what_may_pass_is_tried_again() -> None:
    for error, least, most in ((answer("SlowDown", 503), 2, 20), (answer("AccessDenied", 403), 1, 1)):
        tries: list[int] = []

        def fail(error: Exception = error, tries: list[int] = tries) -> None:
            tries.append(1)
            raise error

        started = time.monotonic()
        with pytest.raises(TransferError):
            S3Client(LOCAL).call(fail)
        assert least <= len(tries) <= most
        assert time.monotonic() - started < 5


def test_it_succeeds_when_the_server_is_back() -> None:
    answers = iter([ServerError("x", 503), answer("InternalError", 500), "done"])

    def act() -> str:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return str(found)

    assert S3Client({**LOCAL, "KAPTAIN_STORAGE_PATIENCE": "10"}).call(act) == "done"


def test_a_stop_ends_the_waiting() -> None:
    stopped = threading.Event()

    def fail() -> None:
        stopped.set()
        raise ServerError("x", 503)

    started = time.monotonic()
    with pytest.raises(TransferError):
        S3Client({**LOCAL, "KAPTAIN_STORAGE_PATIENCE": "60"}).call(fail, stopped)
    assert time.monotonic() - started < 5


def test_part_size() -> None:
    assert s3.part_size(1) == s3.part_size(10 << 30) == s3.PART
    for size in (1 << 40, 5 << 40, (5 << 40) - 1):
        assert -(-size // s3.part_size(size)) <= 10_000
