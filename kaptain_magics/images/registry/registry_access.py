"""How a registry is reached: whether encrypted, by whose certificate, with whose logins, and how patiently."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from kaptain_magics.errors import ImageError
from kaptain_magics.images.registry.docker_logins import Logins

if TYPE_CHECKING:
    import ssl


class Access(NamedTuple):
    """How registries are reached.

    Attributes:
        logins: The logins.
        plain_http: Registries (``host[:port]``) that may be spoken to without encryption; loopback always may.
        certificate: File with the certificate of a private authority, beside those of the system.
        private: The one registry that the certificate is for; empty for all.
        retry_seconds: Seconds for which an unreachable or busy registry is asked again.
    """

    logins: Logins
    plain_http: tuple[str, ...] = ()
    certificate: str = ""
    private: str = ""
    retry_seconds: float = 45.0

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Access:
        """Return the access that settings name.

        Args:
            settings: ``docker_config``, ``insecure_registries``, ``registry``, ``registry_certificate``.
        """
        return cls(
            Logins.under(settings),
            tuple(filter(None, re.split(r"[,\s]+", settings.get("insecure_registries", "")))),
            settings.get("registry_certificate", ""),
            re.sub(r"^https?://|/+$", "", settings.get("registry", "")),
        )

    def plain_allowed(self, registry: str) -> bool:
        """Whether a registry may be spoken to without encryption."""
        return registry in self.plain_http or _loopback(registry)

    def authority(self, registry: str) -> str:
        """Return the file with the certificate of a registry's private authority; empty where there is none."""
        if self.private not in ("", registry):
            return self.own_authority(registry)
        usual = Path.home() / ".tls" / "certificate.crt"
        named = self.certificate or self.own_authority(registry) or (str(usual) if usual.is_file() else "")
        return str(Path(named).expanduser()) if named else ""

    def own_authority(self, registry: str) -> str:
        """Return the certificate that is for exactly this registry, which says that it speaks HTTPS."""
        if self.certificate and self.private == registry:
            return self.certificate
        for folder in (Path("/etc/docker/certs.d"), self.logins.path.parent / "certs.d"):
            path = folder / registry / "ca.crt"
            if path.is_file():
                return str(path)
        return ""


def tls_context(authority: str) -> ssl.SSLContext:
    """Return what makes connections safe: the system's authorities, and one more where it is named."""
    import ssl

    context = ssl.create_default_context()
    if authority:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise ImageError(
                f"the certificate {authority} cannot be used: {error.strerror or 'it is not a certificate'}",
                "name a PEM file with KAPTAIN_REGISTRY_CERTIFICATE",
            ) from error
    return context


def _loopback(registry: str) -> bool:
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
