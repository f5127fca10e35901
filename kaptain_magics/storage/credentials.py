"""Credentials of S3: from the environment, else from the files of the AWS tools."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from kaptain_magics.core.names import did_you_mean
from kaptain_magics.errors import CredentialsError

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_SETTINGS = {  # name in a job's environment: other names of the environment, names in a profile
    "AWS_REGION": (("AWS_DEFAULT_REGION",), ("region",)),
    "S3_ENDPOINT": (("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("s3_endpoint", "endpoint_url")),
    "S3_SIGNATURE_VERSION": ((), ("s3_signature_version",)),
    "S3_FORCE_PATH_STYLE": ((), ("s3_force_path_style",)),
    "S3_USE_HTTPS": ((), ()),
    "AWS_CA_BUNDLE": ((), ("ca_bundle",)),
    "KAPTAIN_STORAGE_PATIENCE": ((), ()),
}


class StorageEnv(dict[str, str]):
    """Environment variables that give access to a store; its text shows no secret."""

    def __repr__(self) -> str:
        return repr({name: "***" if name in KEYS else value for name, value in self.items()})


def storage_env(environ: Mapping[str, str]) -> StorageEnv:
    """Gather what gives access to S3, under the names that a job finds in its environment.

    Keys in the environment stand above files; ``AWS_PROFILE`` there names a profile in ``~/.aws/credentials`` and
    ``~/.aws/config`` (or ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE``). Settings are looked up one by one.

    Args:
        environ: The environment.

    Returns:
        The variables that have a value; without keys the access is anonymous.

    Raises:
        CredentialsError: A key lacks its other half, the profile does not exist, or a file cannot be read.
    """
    profile = _profile(environ)
    values = StorageEnv()
    source = environ if environ.get("AWS_ACCESS_KEY_ID") else {name.upper(): text for name, text in profile.items()}
    for name in KEYS:
        values[name] = source.get(name, "")
    for name, (others, keys) in _SETTINGS.items():
        choices = [*(environ.get(other, "") for other in (name, *others)), *(profile.get(key, "") for key in keys)]
        values[name] = next(filter(None, choices), "")
    if bool(values["AWS_ACCESS_KEY_ID"]) != bool(values["AWS_SECRET_ACCESS_KEY"]):
        present, absent = sorted(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), key=lambda name: not values[name])
        raise CredentialsError(f"{present} is set without {absent}", "set both, in the environment or in the profile")
    return StorageEnv({name: value for name, value in values.items() if value})


def portable_access(env: Mapping[str, str]) -> tuple[StorageEnv, bytes]:
    """Return access to a store as another machine can use it.

    Args:
        env: The access as this machine uses it.

    Returns:
        The variables without ``AWS_CA_BUNDLE``, a path of this machine; and the certificates in that file, which have
        to travel (none where the server's address is ``http``).

    Raises:
        CredentialsError: The file cannot be read.
    """
    from kaptain_magics.runtime.job_errors import TransferError
    from kaptain_magics.runtime.s3_client import endpoint_of

    path = env.get("AWS_CA_BUNDLE", "")
    portable = StorageEnv({name: value for name, value in env.items() if name != "AWS_CA_BUNDLE"})
    try:
        if not path or endpoint_of(env).startswith("http://"):
            return portable, b""
    except TransferError as error:
        raise CredentialsError(error.message, error.hint) from error
    try:
        certificates = Path(path).expanduser().read_bytes()
    except OSError as error:
        message = f"the certificates of AWS_CA_BUNDLE cannot be read: {path}: {error.strerror}"
        raise CredentialsError(message, "correct AWS_CA_BUNDLE, or ca_bundle in the AWS profile") from None
    if b"-----BEGIN CERTIFICATE-----" not in certificates:
        raise CredentialsError(f"{path} contains no PEM certificate", "correct AWS_CA_BUNDLE")
    return portable, certificates


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the profile, empty when none is named and there is no default one."""
    home = Path(environ.get("HOME") or Path.home())
    credentials = _read(environ.get("AWS_SHARED_CREDENTIALS_FILE"), home / ".aws" / "credentials")
    config = _read(environ.get("AWS_CONFIG_FILE"), home / ".aws" / "config")
    named = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or ""
    name = named or "default"
    sections = [config.get(name if name == "default" else f"profile {name}"), credentials.get(name)]
    if named and sections == [None, None]:
        profiles = sorted({*credentials, *(section.removeprefix("profile ") for section in config)})
        hint = did_you_mean(named, profiles) or ("one of " + ", ".join(profiles) if profiles else "run: aws configure")
        raise CredentialsError(f"there is no AWS profile {named!r}", hint)
    merged: dict[str, str] = {}
    for section in filter(None, sections):
        merged |= section
    return merged


def _read(named: str | None, usual: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a file; only one that was named must be there."""
    path = Path(named).expanduser() if named else usual
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(path.read_text("utf-8"))
    except FileNotFoundError:
        if not named:
            return {}
        raise CredentialsError(f"there is no credentials file {path}", "run: aws configure") from None
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}", "check its permissions") from None
    except (configparser.Error, UnicodeDecodeError):  # their texts quote the file
        message = f"{path} is not a valid file of the AWS tools"
        raise CredentialsError(message, "write [default] and lines such as region = us-east-1") from None
    return {name: dict(parser[name]) for name in parser.sections()}
