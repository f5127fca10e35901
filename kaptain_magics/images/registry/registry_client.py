"""A client of the registry HTTP API: manifests, labels, and blobs that are uploaded in pieces and resumed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from kaptain_magics.errors import ImageError
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_http import RegistryHttp

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_ALL = ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST))
_PIECE = 8 << 20  # bytes that are sent at a time, and lost at most when a connection drops
_TRIES = 6  # times that an upload is taken up again
_LARGEST_JSON = 8 << 20  # bytes of an image's configuration; those of today have some kilobytes


class Manifest(NamedTuple):
    """A manifest as a registry keeps it.

    Attributes:
        digest: Its digest.
        media_type: What kind it is.
        body: Its bytes.
    """

    digest: str
    media_type: str
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """Its content, read from JSON."""
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def is_index(self) -> bool:
        """Whether it lists the manifests of several platforms."""
        return self.media_type in (OCI_INDEX, DOCKER_LIST)


class Registry:
    """One registry.

    Args:
        name: ``host[:port]``.
        access: How registries are reached.
    """

    def __init__(self, name: str, access: Access) -> None:
        self.name = name
        self._http = RegistryHttp(name, access)

    # ---- reading -------------------------------------------------------------------------------------------------

    def digest_of(self, image: Reference, retry_seconds: float | None = None) -> str | None:
        """Return the digest that a tag names now, ``None`` where there is no such image."""
        path = f"/v2/{image.repository}/manifests/{image.version}"
        answer = self._http.request(
            "HEAD", path, scope=_pull(image), headers={"Accept": _ALL}, expect=(200, 404), retry_seconds=retry_seconds
        )
        if answer.status == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or self.manifest(image).digest

    def manifest(self, image: Reference) -> Manifest:
        """Return an image's manifest, or the index of its platforms.

        Raises:
            ImageError: There is no such image.
        """
        manifest = self._manifest(image)
        if manifest is None:
            raise ImageError(f"there is no image {image}", "check its name and tag")
        return manifest

    def _manifest(self, image: Reference) -> Manifest | None:
        path = f"/v2/{image.repository}/manifests/{image.version}"
        answer = self._http.request("GET", path, scope=_pull(image), headers={"Accept": _ALL}, expect=(200, 404))
        if answer.status == 404:
            return None
        body = answer.data
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if image.digest and image.digest != digest:
            raise ImageError(f"the registry {self.name} sent another manifest than {image}", "push the image again")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        return Manifest(digest, media_type or json.loads(body).get("mediaType", ""), body)

    def platform_manifest(self, image: Reference, platform: str = "linux/amd64") -> Manifest:
        """Return the manifest of an image for one platform.

        Args:
            image: The image.
            platform: ``os/architecture[/variant]``.

        Raises:
            ImageError: There is no such image, or none for the platform.
        """
        manifest = self.manifest(image)
        if not manifest.is_index:
            return manifest
        requested = platform.split("/")
        offered = []
        for entry in manifest.fields.get("manifests", ()):
            has = [entry.get("platform", {}).get(key, "") for key in ("os", "architecture", "variant")]
            offered.append("/".join(filter(None, has)))
            if has[: len(requested)] == requested:
                return self.manifest(image._replace(tag="", digest=entry["digest"]))
        raise ImageError(f"there is no {image} for {platform}", f"its platforms: {', '.join(offered)}")

    def config(self, image: Reference, manifest: Manifest) -> dict[str, Any]:
        """Return the configuration of an image (its labels, environment, entry point ...)."""
        digest = str(manifest.fields["config"]["digest"])
        answer = self._http.request("GET", f"/v2/{image.repository}/blobs/{digest}", scope=_pull(image))
        body = answer.data[:_LARGEST_JSON]
        if f"sha256:{hashlib.sha256(body).hexdigest()}" != digest:
            raise ImageError(f"the configuration of {image} is damaged in the registry", "push the image again")
        config: dict[str, Any] = json.loads(body)
        return config

    def digest_and_labels(self, image: Reference, platform: str = "linux/amd64") -> tuple[str, dict[str, str]] | None:
        """Return an image's digest and labels, ``None`` where it is not there."""
        manifest = self._manifest(image)
        if manifest is None:
            return None
        single = self.platform_manifest(image, platform) if manifest.is_index else manifest
        return manifest.digest, dict(self.config(image, single).get("config", {}).get("Labels") or {})

    def read_blob(self, image: Reference, digest: str) -> Iterator[bytes]:
        """Yield a blob piece by piece.

        Raises:
            ImageError: What came is not the blob of that digest, or the connection broke.
        """
        import urllib3

        path = f"/v2/{image.repository}/blobs/{digest}"
        answer = self._http.request("GET", path, scope=_pull(image), stream=True)
        sha = hashlib.sha256()
        try:
            for piece in answer.stream(_PIECE, decode_content=False):
                sha.update(piece)
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise ImageError(f"the connection to the registry {self.name} broke", "try again") from error
        finally:
            answer.release_conn()
        if f"sha256:{sha.hexdigest()}" != digest:
            raise ImageError(f"a layer of {image} is damaged in the registry {self.name}", "push the image again")

    # ---- writing -------------------------------------------------------------------------------------------------

    def has_blob(self, image: Reference, digest: str) -> bool:
        """Whether the image's repository has a blob."""
        path = f"/v2/{image.repository}/blobs/{digest}"
        return int(self._http.request("HEAD", path, scope=_push(image), expect=(200, 404)).status) == 200

    def mount(self, image: Reference, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the same registry; returns whether that could be done."""
        query = urlencode({"mount": digest, "from": source})
        scope = f"{_push(image)} repository:{source}:pull"
        answer = self._http.request(
            "POST", f"/v2/{image.repository}/blobs/uploads/?{query}", scope=scope, expect=(201, 202), body=b""
        )
        if answer.status == 202:  # the registry opened an upload instead
            self._http.request("DELETE", _location(answer), scope=_push(image), expect=(200, 202, 204, 404, 405))
        return int(answer.status) == 201

    def upload(
        self, image: Reference, digest: str, size: int, open_at: Callable[[int], IO[bytes]], progress: Progress
    ) -> None:
        """Put a blob into the image's repository, in pieces; goes on where a dropped connection left it.

        Args:
            image: The image.
            digest: The blob's digest.
            size: Its bytes.
            open_at: Returns the blob as a file that stands at a byte.
            progress: Called for every piece.

        Raises:
            ImageError: The registry does not take it.
        """
        for _ in range(_TRIES):
            opened = self._http.request(
                "POST", f"/v2/{image.repository}/blobs/uploads/", scope=_push(image), expect=(202,), body=b""
            )
            try:
                self._fill(image, _location(opened), digest, size, open_at, progress)
                return
            except _UploadLostError:
                if self.has_blob(image, digest):  # its last answer was lost, not the blob
                    return
        raise ImageError(f"the registry {self.name} lost an upload {_TRIES} times", "try again later")

    def _fill(
        self,
        image: Reference,
        upload_url: str,
        digest: str,
        size: int,
        open_at: Callable[[int], IO[bytes]],
        progress: Progress,
    ) -> None:
        last = b""
        if size > _PIECE:
            upload_url = self._pieces(image, upload_url, size, open_at, progress)
        else:
            last = open_at(0).read(size)
        answer = self._http.request(
            "PUT",
            f"{upload_url}{'&' if '?' in upload_url else '?'}{urlencode({'digest': digest})}",
            scope=_push(image),
            headers={"Content-Type": "application/octet-stream"},
            expect=(201, 204, 404),
            body=last,
        )
        if answer.status == 404:
            raise _UploadLostError
        progress("")

    def _pieces(
        self, image: Reference, upload_url: str, size: int, open_at: Callable[[int], IO[bytes]], progress: Progress
    ) -> str:
        start, tries = 0, 0
        while start < size:
            file = open_at(start)
            while start < size:
                piece = file.read(min(_PIECE, size - start))
                if not piece:
                    raise ImageError("a layer became shorter while it was uploaded", "run it again")
                headers = {
                    "Content-Type": "application/octet-stream",
                    "Content-Range": f"{start}-{start + len(piece) - 1}",
                }
                try:
                    answer = self._http.request(
                        "PATCH",
                        upload_url,
                        scope=_push(image),
                        headers=headers,
                        body=piece,
                        expect=(202,),
                        retry_seconds=0.0,
                    )
                except ImageError:
                    tries += 1
                    if tries > _TRIES:
                        raise
                    upload_url, start = self._resume(image, upload_url)
                    break
                upload_url, start = _location(answer), start + len(piece)
                progress("")
        return upload_url

    def _resume(self, image: Reference, upload_url: str) -> tuple[str, int]:
        """Ask how much of an upload has arrived."""
        answer = self._http.request("GET", upload_url, scope=_push(image), expect=(204, 404))
        if answer.status == 404:
            raise _UploadLostError
        arrived = re.search(r"-(\d+)$", answer.headers.get("Range", ""))
        last = int(arrived[1]) if arrived else 0
        return answer.headers.get("Location") or upload_url, last + 1 if last else 0

    def put_manifest(self, image: Reference, body: bytes, media_type: str) -> str:
        """Make an image of what was uploaded, the last step of a push; returns its digest."""
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self._http.request(
            "PUT",
            f"/v2/{image.repository}/manifests/{image.tag or digest}",
            scope=_push(image),
            headers={"Content-Type": media_type},
            body=body,
            expect=(200, 201),
        )
        return digest


class Registries:
    """The registries that one push or build talks to; connections and tokens are shared.

    Args:
        access: How they are reached.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._clients: dict[str, Registry] = {}

    def of(self, image: Reference) -> Registry:
        """Return the client of an image's registry, the same for every image there."""
        return self._clients.setdefault(image.registry, Registry(image.registry, self._access))

    def has_login(self, image: Reference) -> bool:
        """Whether there is a login for an image's registry."""
        return self._access.logins.of(image.registry) is not None


class _UploadLostError(Exception):
    """The registry does not know an upload any more."""


def _pull(image: Reference) -> str:
    return f"repository:{image.repository}:pull"


def _push(image: Reference) -> str:
    return f"repository:{image.repository}:pull,push"


def _location(answer: BaseHTTPResponse) -> str:
    headers: Mapping[str, str] = answer.headers
    return headers["Location"]
