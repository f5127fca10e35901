"""The client against real registries: with a password, a token server, a private authority, and broken lines."""

from __future__ import annotations

import base64
import http.server
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from urllib3 import HTTPResponse, PoolManager

from kaptain_magics.errors import CredentialsError, ImageError
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_auth import RegistryAuth
from kaptain_magics.images.registry.registry_client import Registries
from tests.engine import LockedRegistry
from tests.parts.images.conftest import (
    PASSWORD,
    USER,
    Cutter,
    Server,
    access,
    auth,
    digest_of,
    free_port,
    push_tiny,
    reference,
    registries,
    upload,
)

Serve = Callable[..., Server]
Config = Callable[..., Path]


def test_blobs_and_manifests_come_back_as_they_were(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    tiny = push_tiny(server)
    known = Reference.parse(tiny.name)
    registry = registries(tmp_path).of(known)
    assert registry.digest_of(known) == tiny.digest
    assert registry.digest_and_labels(known) == (tiny.digest, {"maker": "tests"})
    assert registry.manifest(known).digest == tiny.digest
    image = reference(server)
    for size in (0, 1, 100_000, 20 << 20):
        data = os.urandom(size)
        digest = upload(registry, image, data)
        assert registry.has_blob(image, digest)
        assert b"".join(registry.read_blob(image, digest)) == data
    assert not registry.has_blob(image, digest_of(b"never sent"))
    assert registry.digest_of(image) is None
    assert registry.digest_and_labels(image) is None
    with pytest.raises(ImageError, match="there is no image"):
        registry.manifest(image)


def test_a_layer_is_mounted_from_another_repository(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    known = Reference.parse(push_tiny(server).name)
    registry = registries(tmp_path).of(known)
    layer = registry.manifest(known).fields["layers"][0]["digest"]
    assert registry.mount(reference(server), layer, known.repository)
    assert registry.has_blob(reference(server), layer)
    assert not registry.mount(reference(server), digest_of(b"never sent"), known.repository)


def test_an_upload_goes_on_where_the_line_broke(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    cutter = Cutter(server.port, after=20 << 20, times=3)
    image = Reference.parse(f"localhost:{cutter.port}/team/model:1")
    data = os.urandom(40 << 20)
    try:
        registry = registries(tmp_path).of(image)
        digest = upload(registry, image, data)
        assert registry.has_blob(image, digest)
        assert b"".join(registry.read_blob(image, digest)) == data
        assert cutter.left < 3
    finally:
        cutter.close()


def test_a_registry_that_is_away_for_a_while_is_waited_for(serve: Serve, tmp_path: Path) -> None:
    server = serve(started=False)
    image = reference(server)
    threading.Timer(2.0, server.start).start()
    registry = registries(tmp_path).of(image)
    assert registry.has_blob(image, upload(registry, image, b"layer"))


def test_a_registry_that_stays_away_is_reported_in_time(tmp_path: Path) -> None:
    image = Reference.parse(f"localhost:{free_port()}/a:1")
    started = time.monotonic()
    with pytest.raises(ImageError, match="cannot be reached"):
        registries(tmp_path, retry_seconds=1.0).of(image).digest_of(image)
    assert time.monotonic() - started < 20


def test_a_password_is_asked_for_and_checked(registry: LockedRegistry, docker_config: Config, tmp_path: Path) -> None:
    image = Reference.parse(f"{registry.address}/kaptain-test/unit:1")
    real = registries(registry.config).of(image)
    assert real.has_blob(image, upload(real, image, b"small"))
    with pytest.raises(CredentialsError, match="asks for a login") as raised:
        registries(tmp_path).of(image).digest_of(image)
    assert "docker login" in raised.value.hint
    wrong = docker_config(auths={registry.address: auth(USER, PASSWORD)})
    with pytest.raises(CredentialsError, match="does not let this login read kaptain-test/unit") as raised:
        registries(wrong).of(image).digest_of(image)
    assert PASSWORD not in str(raised.value)
    with pytest.raises(CredentialsError, match="does not let this login write"):
        upload(registries(wrong).of(image), image, b"other")


# ---- a token server -----------------------------------------------------------------------------------------------


class TokenServer:
    """A stand-in for a registry's token server, such as Docker Hub's; the registry that trusts it is real."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.asked: list[dict[str, str]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
                server.asked.append({"authorization": self.headers.get("Authorization", ""), **query})
                if self.headers.get("Authorization") != f"Basic {auth()['auth']}":
                    self.send_error(401)
                    return
                self._answer(query["scope"])

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                query = {k: v[0] for k, v in parse_qs(body).items()}
                server.asked.append(query)
                self._answer(query["scope"])

            def _answer(self, scope: str) -> None:
                body = json.dumps({"access_token": _token(certificate, scope)}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _token(certificate: tuple[Path, Path], scope: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    grants = []
    for part in scope.split():
        kind, name, actions = part.split(":")
        grants.append({"type": kind, "name": name, "actions": actions.split(",")})
    der = x509.load_pem_x509_certificate(certificate[0].read_bytes()).public_bytes(serialization.Encoding.DER)
    head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
    now = int(time.time())
    claims = {"iss": "tests", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1"}
    text = ".".join(_b64(json.dumps(part).encode()) for part in (head, {**claims, "access": grants}))
    key = serialization.load_pem_private_key(certificate[1].read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def token_server(certificate: tuple[Path, Path]) -> Iterator[TokenServer]:
    server = TokenServer(certificate)
    yield server
    server.close()


@pytest.fixture
def guarded(serve: Serve, certificate: tuple[Path, Path], token_server: TokenServer) -> Server:
    settings = f"realm: {token_server.url}, service: registry, issuer: tests, rootcertbundle: {certificate[0]}"
    return serve(extra=f"auth: {{token: {{{settings}}}}}")


def test_a_token_is_fetched_for_every_scope_once(
    guarded: Server, token_server: TokenServer, docker_config: Config
) -> None:
    image = reference(guarded)
    registry = registries(docker_config(auths={guarded.address: auth()})).of(image)
    for number in range(3):
        assert registry.has_blob(image, upload(registry, image, b"layer %d" % number))
    assert registry.digest_of(image) is None
    scopes = [asked["scope"] for asked in token_server.asked]
    assert scopes == ["repository:team/model:pull,push", "repository:team/model:pull"]


def test_an_identity_token_is_exchanged(guarded: Server, token_server: TokenServer, docker_config: Config) -> None:
    image = reference(guarded)
    config = docker_config(auths={guarded.address: {"identitytoken": "the-identity"}})
    assert registries(config).of(image).digest_of(image) is None
    assert token_server.asked[-1]["refresh_token"] == "the-identity"
    assert token_server.asked[-1]["grant_type"] == "refresh_token"


def test_a_refused_token_is_reported_without_the_password(guarded: Server, docker_config: Config) -> None:
    image = reference(guarded)
    with pytest.raises(CredentialsError, match="does not let this login") as raised:
        registries(docker_config(auths={guarded.address: auth("me", "hunter2")})).of(image).digest_of(image)
    assert "hunter2" not in str(raised.value)


def test_a_login_is_not_sent_to_an_unsafe_place() -> None:
    auth_client = RegistryAuth("registry.example.com", access(Path("/nowhere")))
    challenge = {"WWW-Authenticate": 'Bearer realm="http://thief.example.com/token"'}
    with pytest.raises(CredentialsError, match="does not use HTTPS"):
        auth_client.log_in(HTTPResponse(headers=challenge, status=401), "repository:a:pull", PoolManager())


def test_connections_are_shared(tmp_path: Path) -> None:
    one = Registries(access(tmp_path))
    image = Reference.parse("localhost:1/a")
    assert one.of(image) is one.of(image)


def test_a_blob_behind_a_redirect_is_read_without_the_login(docker_config: Config) -> None:
    """Registries of clouds keep blobs elsewhere; what guards the registry is nothing to them."""
    blob = b"layer" * 1000
    seen: list[str] = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(200)
            self.send_header("Content-Length", str(len(blob)))
            self.end_headers()
            self.wfile.write(blob)

        def log_message(self, *_: object) -> None:
            pass

    elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)

    class Guarded(Elsewhere):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") is None:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            else:
                self.send_response(307)
                self.send_header("Location", f"http://127.0.0.1:{elsewhere.server_port}/blob")
            self.send_header("Content-Length", "0")
            self.end_headers()

    guarded = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    for server in (elsewhere, guarded):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    image = Reference.parse(f"127.0.0.1:{guarded.server_port}/team/model:1")
    try:
        registry = registries(docker_config(auths={image.registry: auth()})).of(image)
        assert b"".join(registry.read_blob(image, digest_of(blob))) == blob
        with pytest.raises(ImageError, match="damaged"):
            list(registry.read_blob(image, digest_of(b"something else")))
    finally:
        for server in (elsewhere, guarded):
            server.shutdown()
            server.server_close()
    assert seen == ["", ""]


def test_a_busy_registry_is_asked_again(tmp_path: Path) -> None:
    asked: list[float] = []

    class Busy(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(time.monotonic())
            self.send_response((503, 429, 200)[min(len(asked), 3) - 1])
            if len(asked) == 2:
                self.send_header("Retry-After", "1")
            self.send_header("Docker-Content-Digest", digest_of(b""))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    image = Reference.parse(f"127.0.0.1:{server.server_port}/team/model:1")
    try:
        assert registries(tmp_path).of(image).digest_of(image) == digest_of(b"")
    finally:
        server.shutdown()
        server.server_close()
    assert len(asked) == 3
    assert asked[2] - asked[1] >= 1.0
