"""What endpoints have in common, with and without KServe: access to the model's store, names, how they are created."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from kaptain_magics.core.events import Event, Noted
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import KaptainError, ServingError, TargetError
from kaptain_magics.images.progress import Progress
from kaptain_magics.targets.background import in_background
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.manifests import labels, pod
from kaptain_magics.targets.kubernetes.manifests import secret_manifests as secrets
from kaptain_magics.targets.kubernetes.manifests.labels import Part, Tags, part_of
from kaptain_magics.targets.kubernetes.manifests.pod import USER, Setup
from kaptain_magics.targets.kubernetes.manifests.server_manifests import server_options
from kaptain_magics.targets.kubernetes.pods import payload
from kaptain_magics.targets.kubernetes.pods.package_bundles import LISTED, folder_of

DEPLOYED = "kaptain-magics/deployed"  # annotation of what was ready once: no leftover of a killed run
_SHARED = (
    "Secret",
    "ServiceAccount",
    "Service",
    "ConfigMap",
)  # kinds that are read and patched, as the contract's log lists them

_SILENT = ("Service", "ConfigMap")


def deployed_already(name: str) -> ServingError:
    """Return the error for an endpoint that may not be replaced."""
    return ServingError(f"{name} is deployed already", "add --replace to replace it")


def no_canary_yet(name: str) -> ServingError:
    """Return the error for a canary without a revision beside it."""
    return ServingError(f"{name} has no deployed revision to put a canary beside", "deploy without --canary first")


class EndpointParts:
    """Makes and removes what endpoints need besides their servers.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session

    def metadata(self, endpoint: EndpointSpec, name: str, part: Part | None = None) -> Manifest:
        """Return the metadata of an object of the endpoint; a secret says which part it is."""
        tags = Tags.of_endpoint(self._session.owner, endpoint)
        return (tags.for_part(part) if part else tags).metadata(self._session.cluster.namespace, name)

    def common(self, endpoint: EndpointSpec, annotations: dict[str, str] | None = None) -> list[Manifest]:
        """Return the secrets and the service account.

        Args:
            endpoint: The endpoint.
            annotations: Annotations of the storage secret.

        Raises:
            TargetError: The model lies where pods cannot get it.
        """
        if not endpoint.artifact_uri.startswith("s3://"):
            raise TargetError(
                "pods cannot get a model from a directory of this machine",
                "set an S3 store that the cluster reaches: %config KaptainMagics.storage_uri = 's3://bucket/prefix'",
            )
        metadata = self.metadata(endpoint, f"{endpoint.name}-secret", Part.STORAGE)
        storage = secrets.secret(metadata, self._session.storage[0])
        storage["metadata"]["annotations"] |= annotations or {}
        manifests = [storage]
        config = self._credentials(self._image(endpoint))
        if config:
            metadata = self.metadata(endpoint, f"{endpoint.name}-registry", Part.REGISTRY)
            manifests.append(secrets.pull_secret(metadata, config))
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": self.metadata(endpoint, f"{endpoint.name}-service-account"),
            "secrets": [{"name": f"{endpoint.name}-secret"}],
        }
        if config:
            account["imagePullSecrets"] = [{"name": f"{endpoint.name}-registry"}]
        return [*manifests, account]

    def _image(self, endpoint: EndpointSpec) -> str:
        """Return the image of our own server, empty where none is named."""
        return (
            endpoint.image.base_image
            or self._session.config.settings.get("base_image", "")
            or endpoint.image.image_name
        )

    def _credentials(self, image: str) -> str:
        return self._session.images.credentials(image) if image else ""

    def setup(self, endpoint: EndpointSpec, needs_image: bool = True) -> Setup:
        """Return what the endpoint's manifests need.

        Args:
            endpoint: The endpoint.
            needs_image: Whether our own server runs it.
        """
        image = self._image(endpoint)
        if needs_image and not image:
            image = self._session.images.base(endpoint.image)
        own = (f"{endpoint.name}-registry",) if self._credentials(image) else ()
        user = self._session.config.settings.get("run_as_user", str(USER))
        return Setup(
            owner=self._session.owner,
            namespace=self._session.cluster.namespace,
            image=image,
            payload=server_name(endpoint),
            storage=f"{endpoint.name}-secret",
            pull_secrets=(*own, *self._session.pull_secrets, *endpoint.cluster.image_pull_secrets),
            service_account=endpoint.cluster.service_account,
            variables=(*endpoint.env, *endpoint.env_names),
            user=int(user) if user.isdigit() else None,
        )

    def server_payload(self, endpoint: EndpointSpec, setup: Setup, folder: str) -> Manifest:
        """Return the secret with our server, its options and requirements.

        Args:
            endpoint: The endpoint.
            setup: Its surroundings.
            folder: Where the model is in the container.
        """
        files = {
            "serve.py": payload.inside("serve.py"),
            "start.py": payload.inside("start.py"),
            "lib.tar.gz": payload.runtime_archive(serving=True),
            "options.json": server_options(endpoint, folder).encode(),
            LISTED: self._session.packages.listed(setup.image, endpoint.artifact_uri, endpoint.model_id, serving=True),
        }
        if self._session.storage[1]:
            files[payload.AUTHORITIES] = self._session.storage[1]
        if endpoint.requirements:
            files["requirements.txt"] = "".join(f"{line}\n" for line in endpoint.requirements).encode()
        metadata = self.metadata(endpoint, setup.payload, Part.PAYLOAD)
        return secrets.binary_secret(metadata, files | self._variables(endpoint))

    def variables_payload(self, endpoint: EndpointSpec, setup: Setup) -> Manifest:
        """Return the secret with the variables of an endpoint that another's server serves."""
        return secrets.binary_secret(self.metadata(endpoint, setup.payload, Part.PAYLOAD), self._variables(endpoint))

    def _variables(self, endpoint: EndpointSpec) -> dict[str, bytes]:
        return pod.variable_files(self._session.config.variables(endpoint))

    def prepare(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Make what our own server needs beside its image.

        Raises:
            TargetError: No image is named.
        """
        image = self._image(endpoint) or self._session.images.base(endpoint.image)
        packages, uri, model_id = self._session.packages, endpoint.artifact_uri, endpoint.model_id

        def make(progress: Progress) -> None:
            packages.prepare(image, uri, model_id, progress, serving=True)
            used = packages.bundles(image, uri, model_id, serving=True)
            self._session.pruner.record(folder_of(uri, model_id), server_name(endpoint), used)

        yield from in_background(make)

    def create(self, objects: list[Manifest]) -> Iterator[Event]:
        """Create the objects, patch those that are shared with the revision before; after a failure nothing new stays.

        Raises:
            TargetError: The server refused a part.
        """
        cluster, new = self._session.cluster, []
        try:
            for manifest in objects:
                kind, name = manifest["kind"], manifest["metadata"]["name"]
                shared = kind in _SHARED and not _of_one_deployment(manifest)
                if shared and kind not in _SILENT:
                    yield Noted(text=f"Reading {_called(kind)} {name} in namespace {cluster.namespace}.")
                if shared and cluster.get(kind, name) is not None:
                    if kind not in _SILENT:
                        yield Noted(text=f"Patching {_called(kind)} {name} in namespace {cluster.namespace}.")
                    cluster.patch(kind, name, manifest)
                    continue
                if shared and kind not in _SILENT:
                    yield Noted(text=f"Creating {_called(kind)} {name} in namespace {cluster.namespace}.")
                cluster.create(manifest)
                new.append((kind, name))
        except BaseException:
            for kind, name in new:
                with suppress(KaptainError):
                    cluster.delete(kind, name)
            raise

    def mark_deployed(self, kind: str, name: str, deployed: bool = True) -> None:
        """Note that an endpoint's revision has been ready, so that it is no leftover, or that it is replaced."""
        with suppress(ApiError):
            noted = {DEPLOYED: "true" if deployed else None}
            self._session.cluster.patch(kind, name, {"metadata": {"annotations": noted}})

    def remove_common(self, name: str) -> None:
        """Remove what all revisions of an endpoint share."""
        chosen = labels.selector({labels.ENDPOINT: name})
        with suppress(ApiError):  # who may not touch these has none
            self._session.cluster.delete("ConfigMap", f"{name}-authorities")
        for kind in ("Service", "ServiceAccount", "Secret"):
            for resource in self._session.cluster.list(kind, chosen):
                self._session.cluster.delete(kind, resource["metadata"]["name"])


def _of_one_deployment(manifest: Manifest) -> bool:
    """Whether an object is of this deployment of the endpoint alone: the server with its options."""
    return manifest["kind"] == "Secret" and part_of(manifest) is Part.PAYLOAD


def server_name(endpoint: EndpointSpec) -> str:
    """Return the name of what only this deployment of the endpoint has."""
    return f"{endpoint.name}-server-{labels.short(endpoint.run_id)}"


def address(base: str, name: str, protocol: str) -> str:
    """Return the URL that requests go to."""
    return f"{base}/v1/models/{name}:predict" if protocol == "v1" else f"{base}/v2/models/{name}/infer"


def _called(kind: str) -> str:
    return "service account" if kind == "ServiceAccount" else kind.lower()
