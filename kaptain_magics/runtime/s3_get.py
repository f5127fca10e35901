"""One object from an S3 server with the standard library alone, for a pod whose image has no S3 client yet."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from kaptain_magics.runtime.job_errors import DeniedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.s3_client import authorities_of, endpoint_of

_EMPTY = hashlib.sha256(b"").hexdigest()
_CONNECT, _READ = 5.0, 60.0  # seconds for a connection, and for the next bytes of an answer
_RETRY_SECONDS = 30.0  # seconds for a server that is away
_PIECE = 1 << 20  # bytes that are written and hashed at a time


def get(uri: str, target: Path, env: Mapping[str, str], retry_seconds: float = _RETRY_SECONDS) -> str:
    """Bring an object to a file.

    Args:
        uri: ``s3://bucket/key``.
        target: The file to write.
        env: The settings of ``S3Client``.
        retry_seconds: Seconds for a server that does not answer.

    Returns:
        sha256 of what was brought.

    Raises:
        TransferError: The server refused, or stayed away.
    """
    source = Location.parse(uri)
    region = env.get("AWS_REGION") or "us-east-1"
    until = time.monotonic() + retry_seconds
    delay = 0.2
    while True:
        try:
            answer = _request(source, env, region, target)
        except ssl.SSLCertVerificationError as error:
            hint = "name its authority's certificate file with AWS_CA_BUNDLE, or write http:// in S3_ENDPOINT"
            raise TransferError(f"S3 at {endpoint_of(env)} is not trusted: {error.verify_message}", hint) from None
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() + delay > until:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                hint = "start the server, or correct S3_ENDPOINT"
                raise TransferError(f"S3 at {endpoint_of(env)} does not answer: {reason}", hint) from None
        else:
            if isinstance(answer, str):
                return answer
            status, other, text = answer
            if other and other != region:  # the bucket lives elsewhere
                region = other
                continue
            if status < 500 or time.monotonic() + delay > until:
                raise _refused(source, status, text)
        time.sleep(delay)
        delay = min(2 * delay, 2.0)


def _request(source: Location, env: Mapping[str, str], region: str, target: Path) -> str | tuple[int, str, str]:
    """Return the digest, or the status, the bucket's region and the text of another answer."""
    address = urlsplit(endpoint_of(env))
    host = address.netloc
    if host == "s3.amazonaws.com" and region != "us-east-1":
        host = f"s3.{region}.amazonaws.com"
    path = f"/{source.bucket}/{quote(source.key, safe='/~')}"
    if address.scheme == "https":
        context = ssl.create_default_context(cafile=authorities_of(env))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, timeout=_CONNECT, context=context)
    else:
        connection = http.client.HTTPConnection(host, timeout=_CONNECT)
    try:
        connection.connect()
        connection.sock.settimeout(_READ)
        connection.request("GET", path, headers=_signed(host, path, env, region))
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read(1 << 16).decode("utf-8", "replace")
            match = re.search(r"<Region>([\w-]+)</Region>", text)
            return answer.status, answer.headers.get("x-amz-bucket-region") or (match[1] if match else ""), text
        digest, size = hashlib.sha256(), 0
        with target.open("wb") as file:
            while piece := answer.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        expected = answer.headers.get("Content-Length")
        if expected is not None and int(expected) != size:
            raise http.client.IncompleteRead(b"", int(expected) - size)
        return digest.hexdigest()
    finally:
        connection.close()


def _signed(host: str, path: str, env: Mapping[str, str], region: str) -> dict[str, str]:
    """Return the headers of a GET with AWS's signature version 4; without keys the access is anonymous."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": now}
    if not env.get("AWS_ACCESS_KEY_ID"):
        return headers
    if env.get("AWS_SESSION_TOKEN"):
        headers["x-amz-security-token"] = env["AWS_SESSION_TOKEN"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = hashlib.sha256(f"GET\n{path}\n\n{lines}\n{names}\n{_EMPTY}".encode()).hexdigest()
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    key = f"AWS4{env.get('AWS_SECRET_ACCESS_KEY', '')}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{request}".encode(), "sha256").hex()
    credential = f"{env['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
    return headers


def _refused(source: Location, status: int, text: str) -> TransferError:
    match = re.search(r"<Code>(\w+)</Code>", text)
    code = match[1] if match else f"status {status}"
    if status == 404:
        return MissingError(f"nothing is stored at {source}", "run it again")
    if status in (401, 403):
        return DeniedError(f"S3 refuses {source}: {code}", "check the credentials of the object store")
    return TransferError(f"S3 answers {code} for {source}", "see the server's log")
