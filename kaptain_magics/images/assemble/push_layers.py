"""Images without an engine: our layers on top of the base image's, straight into the registry."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any, cast

from kaptain_magics.errors import ImageError
from kaptain_magics.images.assemble.layers import Layer
from kaptain_magics.images.progress import Progress
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_client import OCI_MANIFEST, Manifest, Registries

_EPOCH = "1970-01-01T00:00:00Z"  # the same content gives the same digest at any time
_IN_MEMORY = 64 << 20  # bytes of a base image's layer that are kept in memory on its way
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def push_image(
    registries: Registries,
    target: Reference,
    base: Reference,
    base_manifest: Manifest,
    layers: Sequence[Layer],
    settings: Mapping[str, Any],
    progress: Progress,
) -> str:
    """Make an image of a base image and further layers; its name appears last, when everything else is there.

    Args:
        registries: The registries.
        target: The image's name.
        base: The base image's name.
        base_manifest: Its manifest for the platform.
        layers: What comes on top, in order.
        settings: ``Labels``, ``Env``, ``WorkingDir``, ``Entrypoint`` as in an image's configuration; labels and
            environment are added to the base image's.
        progress: Gets lines for the reader, empty ones while bytes travel.

    Returns:
        The digest of the image's manifest.

    Raises:
        CredentialsError: The registry does not let us.
        ImageError: It cannot be reached, or refuses.
    """
    registry, source = registries.of(target), registries.of(base)
    config = _config(source.config(base, base_manifest), layers, settings)
    below = base_manifest.fields
    for entry in below["layers"]:
        _copy_layer(registries, target, base, entry, progress)
    for layer in layers:
        if not registry.has_blob(target, layer.digest):
            registry.upload(target, layer.digest, layer.size, partial(_at, layer.file), progress)
    body = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if not registry.has_blob(target, digest):
        registry.upload(target, digest, len(body), partial(_at, io.BytesIO(body)), progress)
    oci = base_manifest.media_type == OCI_MANIFEST
    kind = _OCI_LAYER if oci else _DOCKER_LAYER
    added = [{"mediaType": kind, "size": layer.size, "digest": layer.digest} for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": base_manifest.media_type,
        "config": {"mediaType": below["config"]["mediaType"], "size": len(body), "digest": digest},
        "layers": [*below["layers"], *added],
    }
    return registry.put_manifest(target, json.dumps(manifest, indent=2).encode(), base_manifest.media_type)


def _copy_layer(
    registries: Registries, target: Reference, base: Reference, layer: Mapping[str, Any], progress: Progress
) -> None:
    """Bring a layer of the base image into the target's repository, without moving bytes where that can be done."""
    if layer.get("urls"):
        return  # lies elsewhere by its licence; the manifest says where
    registry, digest = registries.of(target), str(layer["digest"])
    if registry.has_blob(target, digest):
        return
    if base.registry == target.registry and registry.mount(target, digest, base.repository):
        progress("")
        return
    progress(f"Copying a layer of {base} ({int(layer['size']) / 1e6:.0f} MB).")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        for piece in registries.of(base).read_blob(base, digest):
            try:
                file.write(piece)
            except OSError as error:
                raise ImageError(f"a layer cannot be written: {error.strerror}", "free disk space") from error
            progress("")
        registry.upload(target, digest, int(layer["size"]), partial(_at, cast("IO[bytes]", file)), progress)


def _config(base: dict[str, Any], layers: Sequence[Layer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base image's configuration with ours on top; nothing in it depends on a time or a machine."""
    inner = dict(base.get("config") or {})
    labels = {**(inner.get("Labels") or {}), **settings.get("Labels", {})}
    env = dict(line.partition("=")[::2] for line in inner.get("Env") or ())
    for name, value in settings.get("Env", {}).items():
        env[name] = f"{value}:{env[name]}" if name == "PYTHONPATH" and env.get(name) else value
    inner |= {key: value for key, value in settings.items() if key not in ("Labels", "Env")}
    inner |= {"Labels": labels, "Env": [f"{name}={value}" for name, value in env.items()], "Cmd": None}
    history = [{"created": _EPOCH, "created_by": "kaptain_magics", "comment": layer.comment} for layer in layers]
    rootfs = base.get("rootfs", {})
    return {
        **{key: base[key] for key in ("architecture", "os", "variant", "os.version") if key in base},
        "created": _EPOCH,
        "config": inner,
        "history": [*(base.get("history") or ()), *history],
        "rootfs": {"type": "layers", "diff_ids": [*rootfs.get("diff_ids", ()), *(layer.diff_id for layer in layers)]},
    }


def _at(file: IO[bytes], start: int) -> IO[bytes]:
    file.seek(start)
    return file
