"""Logins of registries as Docker keeps them: ``config.json`` and its helpers."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaptain_magics.errors import CredentialsError
from kaptain_magics.images.registry.reference import DOCKER_HUB, DOCKER_HUB_LOGIN

_HELPER_TIMEOUT = 30.0  # seconds; a helper may ask a cloud


@dataclass(frozen=True, repr=False)
class Login:
    """A user name and its secret; neither is ever shown.

    Attributes:
        username: The user's name.
        secret: The password or access token.
        identity_token: A token that is exchanged for access tokens, instead of both.
    """

    username: str = ""
    secret: str = ""
    identity_token: str = ""

    @property
    def for_engine(self) -> dict[str, str]:
        """The login as a Docker engine takes it."""
        if self.identity_token:
            return {"identitytoken": self.identity_token}
        return {"username": self.username, "password": self.secret}

    def __repr__(self) -> str:
        return "Login(***)"


class Logins:
    """The logins in Docker's configuration.

    Args:
        path: The file ``config.json``, or its folder; ``None`` means ``DOCKER_CONFIG``, then ``~/.docker``.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = path or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        self.path = path if path.is_file() else path / "config.json"

    @classmethod
    def under(cls, settings: Mapping[str, str]) -> Logins:
        """Return the logins that the setting ``docker_config`` names."""
        named = settings.get("docker_config", "")
        return cls(Path(named) if named else None)

    def of(self, registry: str) -> Login | None:
        """Return the login of a registry, ``None`` where there is none.

        Raises:
            CredentialsError: The configuration or a helper cannot be used.
        """
        config = self._config()
        names = _names(registry)
        helpers = config.get("credHelpers") or {}
        for name in names:
            if name in helpers:
                return self._from_helper(str(helpers[name]), name)
        if config.get("credsStore"):
            for name in names:
                login = self._from_helper(str(config["credsStore"]), name)
                if login is not None:
                    return login
        by_host = {_host(key): value for key, value in (config.get("auths") or {}).items()}
        for name in names:
            entry = by_host.get(_host(name))
            if entry:
                return self._from_entry(entry, registry)
        return None

    def _config(self) -> Mapping[str, Any]:
        try:
            config = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CredentialsError(
                f"{self.path} cannot be read: {type(error).__name__}", "fix it, or run docker login again"
            ) from None
        return config if isinstance(config, dict) else {}

    def _from_entry(self, entry: Mapping[str, str], registry: str) -> Login | None:
        if entry.get("identitytoken"):
            return Login(identity_token=entry["identitytoken"])
        if entry.get("username") and entry.get("password"):
            return Login(entry["username"], entry["password"])
        if not entry.get("auth"):
            return None
        try:
            username, _, secret = base64.b64decode(entry["auth"], validate=True).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialsError(
                f"the login of {registry} in {self.path} cannot be read", "run docker login again"
            ) from None
        return Login(username, secret)

    def _from_helper(self, helper: str, server: str) -> Login | None:
        program = shutil.which(f"docker-credential-{helper}")
        if program is None:
            raise CredentialsError(
                f"{self.path} names the credential helper {helper}, and docker-credential-{helper} is not installed",
                f"install it, or remove it from {self.path} and run docker login",
            )
        try:
            done = subprocess.run(
                [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialsError(
                f"the credential helper {helper} does not answer: {type(error).__name__}", "try docker login"
            ) from None
        if done.returncode:
            output = done.stdout.decode("utf-8", "replace").strip()
            if "not found" in output.lower():
                return None
            raise CredentialsError(f"the credential helper {helper} failed: {output[:200]}", "try docker login")
        try:
            answer = json.loads(done.stdout)
            username, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise CredentialsError(f"the credential helper {helper} gave no login", "try docker login") from None
        if username == "<token>":
            return Login(identity_token=secret)
        return Login(username, secret) if secret else None


def _names(registry: str) -> list[str]:
    """Return the names under which Docker may keep the login of a registry."""
    if registry == DOCKER_HUB:
        return [DOCKER_HUB_LOGIN, "index.docker.io", "docker.io", DOCKER_HUB]
    return [registry, f"https://{registry}", f"http://{registry}"]


def _host(name: str) -> str:
    return name.partition("://")[2].partition("/")[0] if "://" in name else name.partition("/")[0]
