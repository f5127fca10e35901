"""A client of an S3 server from the environment's settings: bounded retries, errors in one sentence."""

from __future__ import annotations

import ipaddress
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kaptain_magics.runtime.job_errors import DamagedError, DeniedError, MissingError, TransferError
from kaptain_magics.runtime.text_values import is_true

T = TypeVar("T")
PARALLEL = 4  # requests at a time
_FIRST = 4.0  # seconds to try a server that has not answered yet
_LATER = 30.0  # seconds to try one that has answered before and now restarts
_DENIED = {
    "AccessDenied": "",
    "AllAccessDisabled": "",
    "AccountProblem": "",
    "ExpiredToken": "renew AWS_SESSION_TOKEN and the keys that belong to it",
    "InvalidToken": "renew AWS_SESSION_TOKEN and the keys that belong to it",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "AuthorizationHeaderMalformed": "check AWS_REGION",
    "RequestTimeTooSkewed": "set this machine's clock",
}
_FULL = {"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_BUSY = {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "OperationAborted"}


class NoBucketError(MissingError):
    """The bucket does not exist."""


class NoUploadError(MissingError):
    """The multipart upload does not exist any more."""


class _UnavailableError(TransferError):
    """The server does not answer, or cannot now: worth another try."""


class S3Client:
    """A connection to one S3 server.

    Args:
        env: ``S3_ENDPOINT``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_SESSION_TOKEN``, ``AWS_REGION``,
            ``S3_FORCE_PATH_STYLE``, ``S3_SIGNATURE_VERSION``, ``S3_USE_HTTPS``, ``AWS_CA_BUNDLE``; and
            ``KAPTAIN_STORAGE_PATIENCE``, the seconds to wait for a server that is away (30 where it has answered
            before, a few where it has not).

    Raises:
        TransferError: A setting cannot be used.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.endpoint = endpoint_of(env)
        self._anonymous = not env.get("AWS_ACCESS_KEY_ID")
        self._retry_seconds = _retry_seconds(env)
        self._first_retry_seconds = (
            self._retry_seconds if env.get("KAPTAIN_STORAGE_PATIENCE") else min(_FIRST, self._retry_seconds)
        )
        self._answered = False
        if env.get("S3_SIGNATURE_VERSION", "").lower() not in ("", "s3v4", "v4", "4"):
            raise TransferError(f"S3_SIGNATURE_VERSION {env['S3_SIGNATURE_VERSION']!r} is not supported", "use s3v4")
        if not self._anonymous and not env.get("AWS_SECRET_ACCESS_KEY"):
            raise DeniedError("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", "set both")
        self.minio = self._connect(env)

    def __repr__(self) -> str:
        return f"S3Client({self.endpoint!r})"

    def _connect(self, env: Mapping[str, str]) -> Any:
        import certifi
        import urllib3
        from minio import Minio

        authorities = authorities_of(env) or certifi.where()
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=3, read=60),
            maxsize=PARALLEL + 1,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=authorities,
        )
        scheme, _, host = self.endpoint.partition("://")
        aws = host.endswith("amazonaws.com")
        try:
            client = Minio(
                host,
                env.get("AWS_ACCESS_KEY_ID") or None,
                env.get("AWS_SECRET_ACCESS_KEY") or None,
                env.get("AWS_SESSION_TOKEN") or None,
                secure=scheme == "https",
                region=env.get("AWS_REGION") or (None if aws else "us-east-1"),
                http_client=pool,
            )
        except ValueError as error:
            raise TransferError(f"S3_ENDPOINT {self.endpoint!r} cannot be used: {error}", "write host:port") from None
        if is_true(env.get("S3_FORCE_PATH_STYLE", "")):
            client.disable_virtual_style_endpoint()
        return client

    def call(self, action: Callable[[], T], stopped: threading.Event | None = None) -> T:
        """Return what ``action`` returns, tried again while the server is away or busy.

        Args:
            action: One request; it may be made twice.
            stopped: Ends the waiting.

        Raises:
            TransferError: The server refused, or stayed away.
        """
        # A server that has answered before is probably restarting and gets `_retry_seconds`; one that never has is
        # probably misnamed and gets `_first_retry_seconds`. Delays double and are drawn at random, so that parallel
        # parts do not come at once.
        stopped = stopped or threading.Event()
        started = time.monotonic()
        delay = 0.05
        while True:
            try:
                result = action()
            except TransferError:
                raise
            except Exception as error:
                failure = self._explain(error)
                waited = time.monotonic() - started
                retry_seconds = self._retry_seconds if self._answered else self._first_retry_seconds
                if not isinstance(failure, _UnavailableError) or waited + delay > retry_seconds or stopped.is_set():
                    raise failure from None
            else:
                self._answered = True
                return result
            stopped.wait(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, 2.0)

    def call_with_bucket(self, bucket: str, action: Callable[[], T], stopped: threading.Event | None = None) -> T:
        """Return what ``call`` returns; the bucket is made when it is missing."""
        try:
            return self.call(action, stopped)
        except NoBucketError:
            self.make_bucket(bucket)
            return self.call(action, stopped)

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket; nothing happens when it is there."""
        from minio.error import S3Error

        def make() -> None:
            try:
                self.minio.make_bucket(bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

        try:
            self.call(make)
        except DeniedError as error:
            message = f"there is no bucket {bucket!r} at {self.endpoint} and these credentials may not create it"
            raise DeniedError(message, "create the bucket, or name another with KAPTAIN_STORAGE_URI") from error

    def _explain(self, error: Exception) -> Exception:
        """Return the error to raise: one of ours, or the same when it is none of the server's."""
        from minio.error import InvalidResponseError, S3Error, ServerError
        from urllib3.exceptions import HTTPError, SSLError

        if isinstance(error, S3Error):
            return self._explain_answer(error)
        if isinstance(error, SSLError):
            hint = "name its authority's certificate file with AWS_CA_BUNDLE, or write http:// in S3_ENDPOINT"
            return TransferError(f"S3 at {self.endpoint} is not trusted: {_reason(error)}", hint)
        if isinstance(error, HTTPError):
            hint = "start the server, or correct S3_ENDPOINT"
            return _UnavailableError(f"S3 at {self.endpoint} does not answer: {_reason(error)}", hint)
        if isinstance(error, InvalidResponseError | ServerError):
            status = error.status_code if isinstance(error, ServerError) else getattr(error, "_code", 0)
            if status >= 500:
                return _UnavailableError(f"S3 at {self.endpoint} fails with status {status}", "see the server's log")
            return TransferError(f"{self.endpoint} is not an S3 server (status {status})", "correct S3_ENDPOINT")
        if isinstance(error, ValueError):  # minio's checks of names
            return TransferError(f"S3 does not accept the name: {error}", "use another name")
        return error

    def _explain_answer(self, error: Any) -> TransferError:
        code = str(error.code)
        bucket, key = (vars(error).get(name) or vars(error).get(f"_{name}") for name in ("bucket_name", "object_name"))
        uri = f"s3://{bucket or ''}" + (f"/{key}" if key else "")
        if code == "NoSuchBucket":
            return NoBucketError(f"there is no bucket {bucket!r} at {self.endpoint}", "check the URI")
        if code == "NoSuchUpload":
            return NoUploadError(f"the upload to {uri} was aborted by another process", "save the model again")
        if code in ("NoSuchKey", "ResourceNotFound", "NoSuchVersion"):
            return MissingError(f"nothing is stored at {uri}", "check the URI, or train the model first")
        if code == "PreconditionFailed":
            return DamagedError(f"{uri} changed while it was read", "try again")
        if code in _DENIED:
            hint = _DENIED[code] or f"these credentials have no permission for {uri}"
            if self._anonymous:
                hint = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return DeniedError(f"S3 at {self.endpoint} refuses access: {code}", hint)
        if code in _FULL or error.response.status == 507:
            return TransferError(f"S3 at {self.endpoint} has no space left: {code}", "free space, or raise its quota")
        text = f"S3 at {self.endpoint} answers {code}: {error.message or 'no reason given'}"
        busy = code in _BUSY or (error.response.status >= 500 and error.response.status != 501)
        return (_UnavailableError if busy else TransferError)(text, "see the server's log")


def endpoint_of(env: Mapping[str, str]) -> str:
    """Return the server's address with its scheme: AWS where ``S3_ENDPOINT`` is not set.

    Without a scheme, ``S3_USE_HTTPS`` decides; else a public name without a port means https, and anything
    else (an address, a port, a name inside a cluster) http.

    Raises:
        TransferError: It is not an address, or holds a password.
    """
    text = (env.get("S3_ENDPOINT") or "https://s3.amazonaws.com").strip()
    scheme, separator, host = text.rpartition("://")
    host = host.rstrip("/")
    if "@" in host:
        raise TransferError(
            "S3_ENDPOINT holds credentials", "put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if not host or "/" in host or " " in host or (separator and scheme.lower() not in ("http", "https")):
        raise TransferError(f"S3_ENDPOINT {text!r} is not a valid address", "write http://host:port or https://host")
    if not separator:
        stated = env.get("S3_USE_HTTPS", "")
        secure = is_true(stated) if stated else _public(host)
        scheme = "https" if secure else "http"
    return f"{scheme.lower()}://{host}"


def authorities_of(env: Mapping[str, str]) -> str | None:
    """Return the file with the certificates of the authorities to trust; ``None`` for the usual ones.

    Raises:
        TransferError: A file is named that is not there, and the server's address is ``https``.
    """
    named = env.get("AWS_CA_BUNDLE") or env.get("SSL_CERT_FILE")
    if not named or endpoint_of(env).startswith("http://"):
        return None
    if not Path(named).is_file():
        raise TransferError(f"there is no certificate file {named}", "correct AWS_CA_BUNDLE or SSL_CERT_FILE")
    return named


def _public(host: str) -> bool:
    name, _, port = host.partition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        inside = name.count(".") < 2 or name.endswith((".local", ".svc", ".internal"))
        return port == "443" or name.endswith("amazonaws.com") or not (port or inside)
    return False


def _retry_seconds(env: Mapping[str, str]) -> float:
    text = env.get("KAPTAIN_STORAGE_PATIENCE") or str(_LATER)
    try:
        return float(text)
    except ValueError:
        message = f"invalid KAPTAIN_STORAGE_PATIENCE {text!r}"
        raise TransferError(message, "write a number of seconds") from None


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words."""
    while inner := getattr(error, "reason", None) or error.__cause__:
        if not isinstance(inner, BaseException):
            break
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).rpartition(": ")[2] or type(error).__name__
    return text.partition("] ")[2] or text
