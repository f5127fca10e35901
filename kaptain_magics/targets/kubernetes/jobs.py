"""Jobs on the cluster: written down as manifests, created, stopped, cleaned up after."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.targets.base import JobRef, Surroundings
from kaptain_magics.targets.kubernetes import labels, payload
from kaptain_magics.targets.kubernetes.client import ApiError, Cluster
from kaptain_magics.targets.kubernetes.discover import Discovery
from kaptain_magics.targets.kubernetes.follow import STOPPED, JobFollower
from kaptain_magics.targets.kubernetes.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import job as job_manifests
from kaptain_magics.targets.kubernetes.manifests import secrets
from kaptain_magics.targets.kubernetes.manifests.pod import USER, Setup, metadata, variable_files
from kaptain_magics.targets.kubernetes.payload import Payload
from kaptain_magics.targets.kubernetes.registry import Images
from kaptain_magics.targets.reading import place_fetched

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore

REF = "kaptain-magics/ref"  # annotation of a job: what another process needs to follow it
JOB_KINDS = ("Job", "PyTorchJob", "TFJob", "TrainJob")
PENDING_PATIENCE = 300.0  # seconds that something may keep a pod from starting


class Objects(NamedTuple):
    """What makes up a piece of work on the cluster.

    Attributes:
        secrets: Secrets; created first, removed at the end.
        others: Services and the like, removed with the workload.
        workload: The job or experiment itself.
        payload: What its pods get.
    """

    secrets: list[Manifest]
    others: list[Manifest]
    workload: Manifest
    payload: Payload

    @property
    def manifests(self) -> list[Manifest]:
        """All manifests in the order in which they are created."""
        return [*self.secrets, *self.others, self.workload]


class Workshop:
    """What jobs, studies and endpoints have in common: the cluster, the owner, secrets, creating and removing.

    Args:
        surroundings: Settings, and access to the object store.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self.around = surroundings
        self.owner = labels.owner_name(surroundings.home, surroundings.settings.get("owner", ""))

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The cluster, connected when it is first needed."""
        return Cluster.connect(self.around.settings)

    @functools.cached_property
    def discovery(self) -> Discovery:
        """What the cluster has."""
        return Discovery(self.cluster)

    @property
    def pending_patience(self) -> float:
        """Seconds that something may keep a pod from starting before it is given up."""
        return float(self.around.settings.get("pending_timeout") or PENDING_PATIENCE)

    @functools.cached_property
    def images(self) -> Images:
        """The images of jobs."""
        return Images(self.around.cache, self.around.settings)

    @property
    def pull_secrets(self) -> tuple[str, ...]:
        """Names of the pull secrets that the settings name."""
        named = self.around.settings.get("image_pull_secrets", "").split(",")
        return tuple(filter(None, map(str.strip, named)))

    def setup(self, job: JobSpec, **names: str) -> Setup:
        """Return what a job's manifests need besides the spec."""
        user = self.around.settings.get("run_as_user", str(USER))
        return Setup(
            owner=self.owner,
            namespace=self.cluster.namespace,
            image=self.images.of(job),
            pull_secrets=tuple(
                filter(None, (names.get("registry", ""), *self.pull_secrets, *job.cluster.image_pull_secrets))
            ),
            payload=names["payload"],
            storage=names.get("storage", ""),
            service_account=job.cluster.service_account or self.around.settings.get("service_account", ""),
            user=int(user) if user.isdigit() else None,
            variables=(*job.env, *job.env_names),
            group=0 if job.image.image_name else int(user) if user.isdigit() else 0,
            ignore_disruption=self.discovery.ignores_disruption,
        )

    def parts(self, job: JobSpec, made: Payload, run: str, **more: str) -> tuple[list[Manifest], Setup]:
        """Return the secrets of a job or study, and the setup that names them.

        Args:
            job: The job, or the template of all trials.
            made: What goes to the pods.
            run: ``train`` or ``tune``.
            **more: Labels of the secrets besides the usual ones.
        """
        more = more or {"job": job.name}
        self._refuse_folders(job)
        names = {"payload": f"{run}-script-{new_hex(16)}"}
        found: list[Manifest] = []

        def about(name: str) -> Manifest:
            setup = Setup(owner=self.owner, namespace=self.cluster.namespace, image="")
            return metadata(setup, name, job.model_id, job.run_id, **more)

        if job.upload_uri.startswith("s3://") and self.around.storage_env:
            names["storage"] = labels.new_secret_name(run)
            found.append(secrets.secret(about(names["storage"]), self.around.storage_env))
        config = self.images.credentials(self.images.of(job))
        if config:
            names["registry"] = labels.new_secret_name(f"{run}-registry")
            found.append(secrets.pull_secret(about(names["registry"]), config))
        files = made.files | variable_files(self.around.variables(job))
        found.append(secrets.binary_secret(about(names["payload"]), files))
        return found, self.setup(job, **names)

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
        made: list[Manifest] = []
        try:
            if objects.payload.work_uri:
                self.store(objects.payload.work_uri).write(objects.payload.work_uri, objects.payload.work)
            for manifest in (*objects.secrets, *objects.others):
                self.cluster.create(manifest)
                made.append(manifest)
            workload = self.cluster.create(objects.workload)
        except BaseException:
            for manifest in made:
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
        for manifest in made:
            change = {"metadata": {"ownerReferences": [owner]}}
            with suppress(ApiError):  # without it they are still found by their labels
                self.cluster.patch(manifest["kind"], manifest["metadata"]["name"], change)
        return workload

    def store(self, uri: str) -> ObjectStore:
        """Return the object store of a URI."""
        from kaptain_magics.storage import open_store

        return open_store(uri, dict(self.around.storage_env))

    def forget_objects(self, *uris: str) -> None:
        """Remove passing objects of a job from the object store; one that cannot be removed is left."""
        for uri in filter(None, uris):
            with suppress(KaptainError):
                self.store(uri).delete(uri)

    def delete_secrets(self, names: str) -> Iterator[Event]:
        """Remove secrets and say so."""
        for name in filter(None, names.split(",")):
            with suppress(KaptainError):
                if self.cluster.delete("Secret", name):
                    yield Noted(text=f"Deleting secret {name} in namespace {self.cluster.namespace}.")


class KubernetesJobs:
    """Runs jobs on a cluster.

    Args:
        workshop: The cluster and what is around.
    """

    name = "kubernetes"

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._waiting: dict[str, JobSpec] = {}  # jobs whose image has to be built first
        self._stopped: set[str] = set()

    def objects(self, job: JobSpec) -> Objects:
        """Return everything that a job is made of.

        Raises:
            TargetError: The cluster has no kind of job for so many workers, or something of the job is not usable.
        """
        made = payload.for_job(job)
        found, setup = self._shop.parts(job, made, job.phase)
        *others, workload = self.workload(job, setup)
        visible = [s["metadata"]["name"] for s in found if not s["metadata"]["name"].startswith(f"{job.phase}-script")]
        data = {
            "kind": workload["kind"],
            "container": main_container(job, workload["kind"]),
            "secrets": ",".join(visible),
            "payload": setup.payload,
            "metrics": "\n".join(job.metric_names),
            "settings": msgspec.json.encode(job.settings).decode() if job.settings else "",
            "work": made.work_uri,
            "fetched": made.fetched_uri,
            "upload": job.upload_uri,
            "timeout": f"{job.timeout:g}" if job.timeout is not None else "",
            "ttl": ""
            if job.cluster.ttl_seconds_after_finished is None
            else str(job.cluster.ttl_seconds_after_finished),
            "trial": "1" if job.trial is not None else "",
            "force": "1" if job.cluster.force_cleanup else "",
        }
        kept = {name: text for name, text in data.items() if text}
        workload["metadata"]["annotations"][REF] = msgspec.json.encode(kept).decode()
        return Objects(found, others, workload, made)

    def workload(self, job: JobSpec, setup: Setup) -> list[Manifest]:
        """Return the job in the kind that the cluster has for it, last, and what it needs besides.

        Raises:
            TargetError: There is none.
        """
        discovery = self._shop.discovery
        if job.workers <= 1:
            return [job_manifests.batch_job(job, setup)]
        if job.framework is ModelFramework.PYTORCH and discovery.has("PyTorchJob"):
            return [job_manifests.pytorch_job(job, setup)]
        if job.framework is ModelFramework.TENSORFLOW and discovery.has("TFJob"):
            return [job_manifests.tf_job(job, setup)]
        if discovery.has("TrainJob"):
            return [self._train_job(job, setup)]
        several = job_manifests.indexed_job(job, setup)
        if discovery.keeps(several[-1], "spec", "completionMode"):
            return several
        raise TargetError(
            f"this cluster ({discovery.version}) cannot run a job of {job.workers} workers: "
            "it has no PyTorchJob, TFJob or TrainJob, and its Jobs cannot be indexed",
            "run it with --workers 1, or have Kubeflow Trainer installed",
        )

    def _train_job(self, job: JobSpec, setup: Setup) -> Manifest:
        for style in job_manifests.PATCHES:
            manifest = job_manifests.train_job(job, setup, style)
            if self._shop.discovery.keeps(manifest, "spec", style):
                return manifest
        raise TargetError(
            "the TrainJob of this cluster cannot be given files", "have Kubeflow Trainer 2.1 or newer installed"
        )

    def submit(self, job: JobSpec) -> JobRef:
        """Create the job, or leave that to ``follow`` where its image has to be built first.

        A job that this run has created before (its supervisor died) is found again.
        """
        before = self.find(job.name)
        if before is not None and before.data.get("run") == labels.value(job.run_id):
            return _with_folder(before, job)
        if not self._shop.images.ready(job):
            self.workload(job, self._shop.setup(job, payload=""))  # what the cluster cannot run is refused now
            self._waiting[job.name] = job
            return _with_folder(JobRef(target=self.name, name=job.name, data={}), job)
        made = self._shop.create(self.objects(job))
        return _with_folder(self.ref_of(made), job)

    def find(self, name: str) -> JobRef | None:
        """Find a job by its name, whoever submitted it."""
        for kind in JOB_KINDS:
            if kind != "Job" and not self._shop.discovery.has(kind):
                continue
            try:
                found = self._shop.cluster.get(kind, name)
            except ApiError as error:
                if kind == "Job" or error.code != 403:
                    raise
                continue  # what may not be read was not made by this user
            if found is not None and REF in found["metadata"].get("annotations", {}):
                return self.ref_of(found)
        return None

    def ref_of(self, workload: Manifest) -> JobRef:
        """Return what is needed to follow a job that is on the cluster."""
        about = workload["metadata"]
        data = msgspec.json.decode(about["annotations"][REF], type=dict[str, str])
        data |= {"namespace": about["namespace"], "run": about["labels"][labels.RUN]}
        return JobRef(target=self.name, name=about["name"], data=data)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events until its end; then what belonged to it is removed."""
        waiting = self._waiting.pop(job.name, None)
        if waiting is not None:
            created = yield from self._build_and_create(waiting)
            if created is None:
                return
            job = created
        elif "kind" not in job.data:  # another process was to build its image
            found = self.find(job.name)
            if found is None:
                reason = "the process that built the job's image has ended before the job was created"
                yield StateChanged(state=RunState.FAILED, reason=reason, hint="run it again")
                return
            job = msgspec.structs.replace(found, data=found.data | job.data)

        def tidy(remove: bool, digest: str) -> Iterator[Event]:
            return _told(job, self._tidy(job, remove, digest))

        patience = self._shop.pending_patience
        yield from JobFollower(self._shop.cluster, job, after, patience, tidy).events()

    def _build_and_create(self, job: JobSpec) -> Generator[Event, None, JobRef | None]:
        """Build the job's image and create the job; ``None`` where it has ended by that."""
        try:
            for line in self._shop.images.publish(job):
                if job.name in self._stopped:
                    break
                if line:
                    yield Noted(text=line)
            if job.name in self._stopped:
                yield StateChanged(state=RunState.STOPPED, reason="stopped while its image was built")
                return None
            return _with_folder(self.ref_of(self._shop.create(self.objects(job))), job)
        except KaptainError as error:
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
            return None

    def _tidy(self, job: JobRef, remove: bool, digest: str) -> Iterator[Event]:
        data = job.data
        if digest and data.get("fetched") and data.get("folder"):
            folder = Path(data["folder"])
            came = folder / f".fetched-{new_hex(8)}.part"
            try:
                self._shop.store(data["fetched"]).get(data["fetched"], came)
                place_fetched(came, digest, folder)
            except KaptainError as error:
                yield Noted(text=error.message, warning=True, hint=error.hint)
            finally:
                came.unlink(missing_ok=True)
        self._shop.forget_objects(data.get("work", ""), data.get("fetched", ""))
        yield from self._shop.delete_secrets(data.get("secrets", ""))
        with suppress(KaptainError):
            if "payload" in data:
                self._shop.cluster.delete("Secret", data["payload"])
            if (remove or data.get("force") or "trial" in data) and self._shop.cluster.delete(data["kind"], job.name):
                yield Noted(text=f"Deleting {data['kind'].lower()} {job.name} in namespace {data['namespace']}.")

    def stop(self, job: JobRef) -> None:
        """Delete a job that has not ended."""
        from kaptain_magics.targets.kubernetes import explain

        self._stopped.add(job.name)
        if "kind" not in job.data:
            created = self.find(job.name)
            if created is None:
                return
            job = created
        kind, cluster = job.data["kind"], self._shop.cluster
        found = cluster.get(kind, job.name)
        if found is None or any(explain.condition(found, end) for end in ("Complete", "Failed", "Succeeded")):
            return
        with suppress(ApiError):
            cluster.patch(kind, job.name, {"metadata": {"annotations": {STOPPED: "true"}}})
        cluster.delete(kind, job.name)
        for name in (*job.data.get("secrets", "").split(","), job.data.get("payload", "")):
            if name:
                cluster.delete("Secret", name)


def _told(job: JobRef, events: Iterator[Event]) -> Iterator[Event]:
    """Yield events, of a trial without the lines on what was made and removed: there are many trials."""
    for event in events:
        if not (isinstance(event, Noted) and not event.warning and "trial" in job.data):
            yield event


def _with_folder(ref: JobRef, job: JobSpec) -> JobRef:
    return msgspec.structs.replace(ref, data=ref.data | {"folder": job.folder})


def main_container(job: JobSpec, kind: str) -> str:
    """Return the name of the container that runs the script in a kind of job."""
    names: Mapping[str, str] = {"PyTorchJob": "pytorch", "TFJob": "tensorflow", "TrainJob": "node"}
    return names.get(kind, job.framework.value)
