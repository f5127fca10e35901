from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kaptain_magics.errors import CredentialsError
from kaptain_magics.images.registry.docker_logins import Login, Logins
from tests.parts.images.conftest import auth

Config = Callable[..., Path]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")

    def write(name: str, body: str) -> None:
        path = folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\nread server\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


def test_logins_are_found_under_every_name_that_docker_uses(docker_config: Config) -> None:
    logins = Logins(
        docker_config(
            auths={
                "https://index.docker.io/v1/": auth("hub", "a"),
                "host:5000": auth("plain", "b:with:colons"),
                "https://other.example.com/v2/": {"username": "named", "password": "c"},
                "token.example.com": {"identitytoken": "d"},
                "empty.example.com": {},
            }
        )
    )
    assert logins.of("registry-1.docker.io") == Login("hub", "a")
    assert logins.of("host:5000") == Login("plain", "b:with:colons")
    assert logins.of("other.example.com") == Login("named", "c")
    assert logins.of("token.example.com") == Login(identity_token="d")
    assert logins.of("empty.example.com") is None
    assert logins.of("host:5001") is None


def test_no_configuration_is_no_login(tmp_path: Path) -> None:
    assert Logins(tmp_path / "nothing").of("host") is None


def test_helpers_are_asked(docker_config: Config, helper: Callable[[str, str], None]) -> None:
    helper("special", 'echo "{\\"Username\\": \\"of-$server\\", \\"Secret\\": \\"s\\"}"')
    helper("general", 'echo "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"identity\\"}"')
    logins = Logins(docker_config(credHelpers={"a.example.com": "special"}, credsStore="general"))
    assert logins.of("a.example.com") == Login("of-a.example.com", "s")
    assert logins.of("b.example.com") == Login(identity_token="identity")


def test_a_helper_without_the_login_leaves_the_file(docker_config: Config, helper: Callable[[str, str], None]) -> None:
    helper("none", 'echo "credentials not found in native keychain"; exit 1')
    logins = Logins(docker_config(credsStore="none", auths={"a.example.com": auth("x", "y")}))
    assert logins.of("a.example.com") == Login("x", "y")


def test_what_is_wrong_with_a_helper_is_reported(docker_config: Config, helper: Callable[[str, str], None]) -> None:
    with pytest.raises(CredentialsError, match="docker-credential-missing is not installed"):
        Logins(docker_config(credsStore="missing")).of("a")
    helper("broken", "echo no json; exit 0")
    with pytest.raises(CredentialsError, match="gave no login"):
        Logins(docker_config(credsStore="broken")).of("a")
    helper("failing", "echo locked; exit 2")
    with pytest.raises(CredentialsError, match="failed: locked"):
        Logins(docker_config(credsStore="failing")).of("a")


def test_a_broken_file_is_named_and_not_shown(docker_config: Config) -> None:
    folder = docker_config()
    (folder / "config.json").write_text('{"auths": {"a": {"auth": "c2VjcmV0')
    with pytest.raises(CredentialsError, match=r"config\.json") as raised:
        Logins(folder).of("a")
    assert "c2VjcmV0" not in str(raised.value)
    with pytest.raises(CredentialsError, match="cannot be read"):
        Logins(docker_config(auths={"a": {"auth": "%%%"}})).of("a")


def test_a_login_is_never_shown() -> None:
    assert "hunter2" not in f"{Login('me', 'hunter2')!r} {Login('me', 'hunter2')}"
