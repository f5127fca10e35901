"""The contract's providers take effect: their login and authority reach a registry of another machine's name."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.errors import ConfigError, ImageError
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries, Registry
from kaptain_magics.model.contract.config import (
    Config,
    DockerConfigurationProvider,
    DockerRegistryCertificateProvider,
)
from tests.certificates import self_signed

HOST = "registry.example"
LOGIN = "a2FwdGFpbjpodW50ZXIy"  # kaptain:hunter2


class Guarded:
    """A server at the door of a registry: it asks for a password and notes what it is shown."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                shown = self.headers.get("Authorization", "")
                seen.append(shown)
                self.send_response(200 if shown == f"Basic {LOGIN}" else 401)
                self.send_header("WWW-Authenticate", 'Basic realm="tests"')
                self.send_header("Docker-Content-Digest", "sha256:1")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # a client that does not trust the certificate hangs up

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"{HOST}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path, HOST)


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    """Starts guarded servers that go by the name of another machine, with nothing of this one's user in the way."""
    made: list[Guarded] = []
    real = socket.getaddrinfo

    def found(host: Any, *rest: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == HOST else host, *rest, **options)

    def start(certificate: tuple[Path, Path] | None = None) -> Guarded:
        made.append(Guarded(certificate))
        return made[-1]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    for name in ("HOME", "KAPTAIN_HOME", "KAPTAIN_CACHE", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    yield start
    for one in made:
        one.close()


def login(server: Guarded) -> str:
    return json.dumps({"auths": {server.address: {"auth": LOGIN}}})


def reach(config: Config, server: Guarded, **more: str) -> tuple[Registry, Reference]:
    access = Access.of({**config.workspace().settings.as_texts(), **more})._replace(retry_seconds=1.0)
    image = Reference.parse(f"{server.address}/team/model:1")
    return Registries(access).of(image), image


def test_login_and_authority_reach_the_registry(
    guard: Callable[..., Guarded], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    server = guard(certificate)
    config = Config(
        docker_config_provider=DockerConfigurationProvider(login(server)),
        docker_registry_url=server.address,
        docker_registry_certificate_provider=DockerRegistryCertificateProvider(certificate[0].read_text()),
    )
    registry, image = reach(config, server)
    assert registry.digest_of(image) == "sha256:1"
    assert server.seen == ["", f"Basic {LOGIN}"]
    config.docker_registry_certificate_provider = None
    registry, image = reach(config, server)
    with pytest.raises(ImageError, match="is not trusted"):
        registry.digest_of(image)


def test_what_is_given_as_text_is_kept_once_for_this_user_alone(
    guard: Callable[..., Guarded], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    server = guard(certificate)
    config = Config(DockerConfigurationProvider(login(server)), docker_registry_url=server.address)
    kept = Path(config.workspace().settings.docker_config)
    assert config.workspace().settings.docker_config == str(kept)
    assert kept.is_relative_to(tmp_path / "kaptain_cache")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    shown = f"{config!r} {config.workspace().settings!r} {kept}"
    assert LOGIN not in shown
    other = Config(DockerConfigurationProvider("{}"), docker_registry_url=server.address)
    assert other.workspace().settings.docker_config != str(kept)


def test_files_are_used_where_they_are(guard: Callable[..., Guarded], certificate: tuple[Path, Path]) -> None:
    server = guard(certificate)
    written = certificate[0].with_name("logins.json")
    written.write_text(login(server))
    config = Config(
        DockerConfigurationProvider.from_file(str(written)),
        docker_registry_url=server.address,
        docker_registry_certificate_provider=DockerRegistryCertificateProvider.from_file(str(certificate[0])),
    )
    settings = config.workspace().settings
    assert (settings.docker_config, settings.registry_certificate) == (str(written), str(certificate[0]))
    registry, image = reach(config, server)
    assert registry.digest_of(image) == "sha256:1"


def test_a_login_is_not_sent_in_clear_unless_the_registry_is_named_for_it(guard: Callable[..., Guarded]) -> None:
    server = guard()
    config = Config(DockerConfigurationProvider(login(server)), docker_registry_url=server.address)
    registry, image = reach(config, server)
    with pytest.raises(ImageError) as raised:
        registry.digest_of(image)
    assert f"KAPTAIN_INSECURE_REGISTRIES={server.address}" in raised.value.hint
    assert server.seen == []
    registry, image = reach(config, server, insecure_registries=server.address)
    assert registry.digest_of(image) == "sha256:1"


def test_settings_of_images_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from kaptain_magics.config import Settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAPTAIN_DOCKER_CONFIG", "docker")
    monkeypatch.setenv("KAPTAIN_REGISTRY_CERTIFICATE", "ca.crt")
    monkeypatch.setenv("KAPTAIN_INSECURE_REGISTRIES", "a:1,b:2")
    monkeypatch.setenv("KAPTAIN_IMAGE_BUILDER", "none")
    monkeypatch.setenv("KAPTAIN_IMAGE_PLATFORM", "linux/arm64")
    settings = Settings.load()
    assert (settings.docker_config, settings.registry_certificate) == (
        str(tmp_path / "docker"),
        str(tmp_path / "ca.crt"),
    )
    access = Access.of(settings.as_texts())
    assert access.logins.path == tmp_path / "docker" / "config.json"
    assert access.plain_http == ("a:1", "b:2")
    assert (settings.image_builder, settings.image_platform) == ("none", "linux/arm64")
    for name, value in (("image_builder", "kaniko"), ("image_platform", "arm 64")):
        with pytest.raises(ConfigError, match=name):
            Settings.load({name: value})
