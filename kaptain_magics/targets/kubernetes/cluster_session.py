"""What jobs, studies and endpoints have in common: the cluster, access, secrets, creating and removing objects."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kaptain_magics.core.events import Event, Noted
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.images.progress import Progress
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.kubernetes.api.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.api.discovery import Discovery
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.labels import Part, Tags
from kaptain_magics.targets.kubernetes.manifests.pod import USER, Setup, variable_files
from kaptain_magics.targets.kubernetes.manifests.secret_manifests import binary_secret, pull_secret, secret
from kaptain_magics.targets.kubernetes.pods.job_images import Images
from kaptain_magics.targets.kubernetes.pods.package_bundles import LISTED, Packages
from kaptain_magics.targets.kubernetes.pods.package_pruning import PackagePruner
from kaptain_magics.targets.kubernetes.pods.payload import AUTHORITIES, Payload

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore

PENDING_TIMEOUT = 300.0  # seconds that something may keep a pod from starting


class Secrets(NamedTuple):
    """The secrets of a job or study; created first, removed at the end.

    Attributes:
        payload: Script and files, and the values of variables.
        storage: Access to the object store, where the work uses one.
        registry: The login of the image's registry, where there is one.
    """

    payload: Manifest
    storage: Manifest | None = None
    registry: Manifest | None = None

    @property
    def manifests(self) -> list[Manifest]:
        """All of them, the payload last."""
        return [*filter(None, (self.storage, self.registry)), self.payload]

    @property
    def announced(self) -> tuple[str, ...]:
        """Names of those whose creation and removal are said: all but the payload."""
        return tuple(_name(secret) for secret in (self.storage, self.registry) if secret)


class Objects(NamedTuple):
    """What makes up a piece of work on the cluster.

    Attributes:
        secrets: Its secrets.
        others: Services and the like, removed with the workload.
        workload: The job or experiment itself.
        payload: What its pods get.
    """

    secrets: Secrets
    others: list[Manifest]
    workload: Manifest
    payload: Payload

    @property
    def manifests(self) -> list[Manifest]:
        """All manifests in the order in which they are created."""
        return [*self.secrets.manifests, *self.others, self.workload]


class ClusterSession:
    """What jobs, studies and endpoints have in common: the cluster, the owner, secrets, creating and removing.

    Args:
        config: Settings, and access to the object store.
    """

    def __init__(self, config: TargetConfig) -> None:
        self.config = config
        self.owner = labels.owner_name(config.home, config.settings.get("owner", ""))

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The cluster, connected when it is first needed."""
        return Cluster.connect(self.config.settings)

    @functools.cached_property
    def discovery(self) -> Discovery:
        """Which kinds and fields the server knows; asked once."""
        return Discovery(self.cluster)

    @property
    def pending_timeout(self) -> float:
        """Seconds that something may keep a pod from starting before it is given up."""
        return float(self.config.settings.get("pending_timeout") or PENDING_TIMEOUT)

    def port_forward(self, service: str = "", pods: str = "") -> str:
        """Return the command that opens an endpoint at port 8080; empty where addresses work as they are.

        Args:
            service: The endpoint's service ...
            pods: ... or the label selector of its pods, where no service leads to them.
        """
        if self.cluster.inside:
            return ""
        words = ["kubectl", "-n", self.cluster.namespace]
        for name in ("kubeconfig", "context"):
            if self.config.settings.get(name):
                words += [f"--{name}", self.config.settings[name]]
        kubectl = shlex.join(words)
        if service:
            return f"{kubectl} port-forward svc/{service} 8080:80"
        return f'{kubectl} port-forward "$({kubectl} get pods -l {pods} -o name | head -1)" 8080:8080'

    @functools.cached_property
    def images(self) -> Images:
        """Names, builds and unlocks the images of jobs."""
        return Images(self.config.cache, self.config.settings)

    @functools.cached_property
    def storage(self) -> tuple[Mapping[str, str], bytes]:
        """Access to the object store as pods use it, and the certificates of its private authority.

        Raises:
            CredentialsError: Certificates are named that are not there.
        """
        from kaptain_magics.storage.credentials import portable_access

        return portable_access(self.config.storage_env)

    @functools.cached_property
    def packages(self) -> Packages:
        """What pods need beside their images."""
        return Packages(self.config.cache, self.config.settings, self.store)

    @functools.cached_property
    def pruner(self) -> PackagePruner:
        """What finds packages that nothing uses."""
        return PackagePruner(self.cluster, self.owner, self.store)

    def ready(self, job: JobSpec) -> bool:
        """Whether nothing that takes long has to be made before the job is created."""
        return self.images.ready(job) and self.packages.ready(self.images.of(job), job.upload_uri, job.model_id)

    def prepare(self, job: JobSpec, progress: Progress) -> None:
        """Make what pods of a job need: its image, and packages for it.

        Args:
            job: The job.
            progress: Gets lines for the reader, empty ones while work goes on.

        Raises:
            KaptainError: It cannot be made.
        """
        if not self.images.ready(job):
            self.images.publish(job, progress)
        if not job.image.image_name:  # a built image has them
            self.packages.prepare(self.images.of(job), job.upload_uri, job.model_id, progress)

    @property
    def pull_secrets(self) -> tuple[str, ...]:
        """Names of the pull secrets that the settings name."""
        named = self.config.settings.get("image_pull_secrets", "").split(",")
        return tuple(filter(None, map(str.strip, named)))

    def setup(self, job: JobSpec, secrets: Secrets | None = None) -> Setup:
        """Return what a job's manifests need besides the spec.

        Args:
            job: The job.
            secrets: Its secrets; ``None`` where the manifests are not to be created.
        """
        user = self.config.settings.get("run_as_user", str(USER))
        storage, registry = (secrets.storage, secrets.registry) if secrets else (None, None)
        own = (_name(registry),) if registry else ()
        return Setup(
            owner=self.owner,
            namespace=self.cluster.namespace,
            image=self.images.of(job),
            pull_secrets=(*own, *self.pull_secrets, *job.cluster.image_pull_secrets),
            payload=_name(secrets.payload) if secrets else "",
            storage=_name(storage) if storage else "",
            service_account=job.cluster.service_account or self.config.settings.get("service_account", ""),
            user=int(user) if user.isdigit() else None,
            variables=(*job.env, *job.env_names),
            group=0 if job.image.image_name else int(user) if user.isdigit() else 0,
            ignore_disruption=self.discovery.ignores_disruption,
        )

    def secrets(self, job: JobSpec, payload: Payload, tags: Tags) -> Secrets:
        """Return the secrets of a job or study; the payload gets the files that this session adds.

        Args:
            job: The job, or the template of all trials.
            payload: What goes to the pods.
            tags: What the secrets are made for.

        Raises:
            TargetError: The model's place cannot be reached from pods.
        """
        self._refuse_folders(job)
        image = self.images.of(job)
        payload.files[LISTED] = self.packages.listed(image, job.upload_uri, job.model_id)
        storage_env, authorities = self.storage if job.upload_uri.startswith("s3://") else ({}, b"")
        if authorities:
            payload.files[AUTHORITIES] = authorities
        storage = registry = None
        if storage_env:
            storage = secret(self._metadata(job, tags, Part.STORAGE), storage_env)
        if login := self.images.credentials(image):
            registry = pull_secret(self._metadata(job, tags, Part.REGISTRY), login)
        files = payload.files | variable_files(self.config.variables(job))
        return Secrets(binary_secret(self._metadata(job, tags, Part.PAYLOAD), files), storage, registry)

    def _metadata(self, job: JobSpec, tags: Tags, part: Part) -> Manifest:
        """Return the metadata of a secret; its name has the contract's form, such as ``train-d3adabf95994484a``."""
        infix = {Part.PAYLOAD: "script-", Part.STORAGE: "", Part.REGISTRY: "registry-"}[part]
        return tags.for_part(part).metadata(self.cluster.namespace, f"{job.phase}-{infix}{new_hex(16)}")

    def _refuse_folders(self, job: JobSpec) -> None:
        if job.upload_uri.startswith("file://"):
            raise TargetError(
                "pods cannot save a model into a directory of this machine",
                "set an S3 store that the cluster reaches: %config KaptainMagics.storage_uri = 's3://bucket/prefix'",
            )

    def create(self, objects: Objects) -> Manifest:
        """Create everything, or nothing; the secrets then belong to the workload.

        Raises:
            TargetError: The server refused a part.
        """
        created: list[Manifest] = []
        try:
            if objects.payload.work_uri:
                self.store(objects.payload.work_uri).write(objects.payload.work_uri, objects.payload.work)
            for manifest in (*objects.secrets.manifests, *objects.others):
                self.cluster.create(manifest)
                created.append(manifest)
            workload = self.cluster.create(objects.workload)
        except BaseException:
            for manifest in created:
                with suppress(KaptainError):
                    self.cluster.delete(manifest["kind"], manifest["metadata"]["name"])
            self.forget_objects(objects.payload.work_uri)
            raise
        owner = {
            "apiVersion": workload["apiVersion"],
            "kind": workload["kind"],
            "name": workload["metadata"]["name"],
            "uid": workload["metadata"]["uid"],
        }
        for manifest in created:
            change = {"metadata": {"ownerReferences": [owner]}}
            with suppress(ApiError):  # without it they are still found by their labels
                self.cluster.patch(manifest["kind"], manifest["metadata"]["name"], change)
        return workload

    def store(self, uri: str) -> ObjectStore:
        """Return the object store of a URI, with the access of this machine."""
        from kaptain_magics.storage import open_store

        return open_store(uri, dict(self.config.storage_env))

    def forget_objects(self, *uris: str) -> None:
        """Remove passing objects of a job from the object store; one that cannot be removed is left."""
        for uri in filter(None, uris):
            with suppress(KaptainError):
                self.store(uri).delete(uri)

    def delete_secrets(self, names: Iterable[str]) -> Iterator[Event]:
        """Remove secrets; yields a line for each that was there."""
        for name in names:
            with suppress(KaptainError):
                if self.cluster.delete("Secret", name):
                    yield Noted(text=f"Deleting secret {name} in namespace {self.cluster.namespace}.")


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])
