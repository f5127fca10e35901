"""Who may speak plain HTTP, and which authorities count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.errors import ImageError
from kaptain_magics.images.engine_build import _refused
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_http import RegistryHttp
from tests.parts.images.conftest import Server, push_tiny, reference, registries, upload

Serve = Callable[..., Server]
Config = Callable[..., Path]


def test_a_private_authority_counts_once_it_is_named(
    serve: Serve, certificate: tuple[Path, Path], docker_config: Config
) -> None:
    server = serve(scheme="https", tls=f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}")
    image = reference(server)
    with pytest.raises(ImageError, match=r"certificate of the registry localhost:\d+ is not trusted") as raised:
        registries(docker_config(), retry_seconds=1.0).of(image).digest_of(image)
    assert "KAPTAIN_REGISTRY_CERTIFICATE" in raised.value.hint
    named = registries(docker_config(), certificate=str(certificate[0])).of(image)
    assert named.has_blob(image, upload(named, image, b"layer"))
    beside = docker_config() / "certs.d" / server.address
    beside.mkdir(parents=True)
    (beside / "ca.crt").write_bytes(certificate[0].read_bytes())
    assert registries(docker_config()).of(image).digest_of(image) is None
    with pytest.raises(ImageError, match="cannot be used"):
        registries(docker_config(), certificate=str(certificate[1].parent / "none.crt")).of(image).digest_of(image)


def test_plain_http_is_for_this_machine_and_named_registries() -> None:
    settings = {
        "registry": "private.example:5000",
        "insecure_registries": "registry.local:5000, other:80",
        "docker_config": "/nowhere",
    }
    assert Access.of(settings).plain_http == ("registry.local:5000", "other:80")
    assert Access.of(settings).private == "private.example:5000"

    def scheme(name: str) -> str:
        return RegistryHttp(name, Access.of(settings))._scheme

    assert [scheme(n) for n in ("registry.local:5000", "127.0.0.1:5000", "localhost", "[::1]:5000")] == ["http"] * 4
    access = Access.of({"registry": "localhost:5000", "registry_certificate": "/ca.crt"})
    assert RegistryHttp("localhost:5000", access)._scheme == "https"
    assert RegistryHttp("localhost:5001", access)._scheme == "http"
    assert [scheme(n) for n in ("private.example:5000", "registry.local:5001", "10.0.0.1:5000")] == ["https"] * 3


def test_a_certificate_does_not_close_an_open_registry_of_this_machine(
    serve: Serve, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    image = Reference.parse(push_tiny(server).name)
    assert registries(tmp_path, certificate=str(certificate[0])).of(image).digest_of(image)
    usual = tmp_path / "home" / ".tls" / "certificate.crt"
    usual.parent.mkdir(parents=True)
    usual.write_bytes(certificate[0].read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert registries(tmp_path).of(image).digest_of(image)


def test_an_engine_that_lacks_the_certificate_is_reported_apart() -> None:
    said = "Get https://reg.example/v2/: tls: failed to verify certificate: x509: unknown authority"
    refused = _refused(said, Reference.parse("reg.example/team/model:1"))
    assert "does not trust the registry reg.example" in refused.message
    assert "KAPTAIN_IMAGE_BUILDER=none" in refused.hint


def test_a_certificate_counts_for_its_registry_alone(
    serve: Serve, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    server = serve(scheme="https", tls=f"  tls: {{certificate: {certificate[0]}, key: {certificate[1]}}}")
    image = reference(server)
    own = registries(tmp_path, certificate=str(certificate[0]), private=server.address).of(image)
    assert own.digest_of(image) is None
    with pytest.raises(ImageError, match="is not trusted"):
        registries(tmp_path, certificate=str(certificate[0]), private="other:5000").of(image).digest_of(image)
