"""What must not be shown or written down: passwords in addresses, values of environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

MASK = "********"
PASSWORD_HINT = (
    "pip takes a login from ~/.netrc, the keyring or PIP_INDEX_URL (--env PIP_INDEX_URL passes it on); "
    "or write ${NAME} in the password's place, and --env NAME"
)
"""Where the password of a package index belongs, as a hint."""
_LOGIN = re.compile(r"([\w+.-]+)://([^/\s?#]+)@")
_QUERY = re.compile(r"(?<=[?&])([^=&;#\s]*(?:password|passwd|pwd|secret|token|api_?key)[^=&;#\s]*)=[^&;#\s]+", re.I)
_VARIABLE = re.compile(r"\$\{\w+\}")  # pip replaces it by a variable of its environment

_NAME = re.compile(
    r"(.*_)?(PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|TOKEN|PAT|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET|AUTH)_?KEY)", re.I
)


def masked(env: Iterable[str]) -> dict[str, str]:
    """Return environment variables as they may be shown: a name does not show whether its value is secret."""
    return dict.fromkeys(env, MASK)


def without_passwords(text: str) -> str:
    """Return a text without the logins and passwords in its addresses."""
    return _QUERY.sub(rf"\1={MASK}", _LOGIN.sub(r"\1://***@", text))


def holds_password(text: str) -> bool:
    """Whether a text has an address with a password or a token; one in a variable (``${NAME}``) does not count."""
    return any(_secrets(text))


def is_secret(name: str, value: str) -> bool:
    """Whether a variable is a secret by its name (``API_TOKEN``; not ``MAX_TOKENS``), or an address with a password."""
    return bool(value) and (_NAME.fullmatch(name) is not None or holds_password(value))


def without_login(address: str) -> str:
    """Return an address without its password, as it may be written down; of a database it still says as whom.

    An address without a password stays as it is.
    """
    if not holds_password(address):
        return address
    bare = re.sub(r"(?<=[?&])&+", "", _QUERY.sub("", address)).rstrip("?&")
    match = _LOGIN.search(bare)
    if match is None:
        return bare
    user = "" if match[1].lower().endswith(("http", "https")) else match[2].partition(":")[0]
    return bare[: match.start(2)] + (f"{user}@" if user else "") + bare[match.end() :]


def scrubbed(text: str, address: str) -> str:
    """Return a text that a library made of an address, without its password in any form."""
    for secret in sorted({form for plain in _secrets(address) for form in (plain, unquote(plain))}, key=len)[::-1]:
        if len(secret) > 2:
            text = text.replace(secret, MASK)
    return without_passwords(text)


def _secrets(text: str) -> Iterator[str]:
    for scheme, login in _LOGIN.findall(text):
        user, colon, password = login.partition(":")
        secret = password if colon else user * scheme.lower().endswith(("http", "https"))
        if secret and not _VARIABLE.fullmatch(secret):
            yield secret
    for match in _QUERY.finditer(text):
        secret = match[0].partition("=")[2]
        if not _VARIABLE.fullmatch(secret):
            yield secret
