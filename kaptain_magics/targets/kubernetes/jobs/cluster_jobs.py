"""Jobs on the cluster: written down as manifests, created, stopped, cleaned up after."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.images.progress import CancelledError, silent
from kaptain_magics.targets.background import in_background
from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession, Objects
from kaptain_magics.targets.kubernetes.jobs.job_follower import STOPPED, JobFollower
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests import workloads as job_manifests
from kaptain_magics.targets.kubernetes.manifests.pod import Setup
from kaptain_magics.targets.kubernetes.pods import payload
from kaptain_magics.targets.reading import place_fetched

REF = "kaptain-magics/ref"  # annotation of a job: what another process needs to follow it
JOB_KINDS = ("Job", "PyTorchJob", "TFJob", "TrainJob")


class KubernetesJobs:
    """Runs jobs on a cluster.

    Args:
        session: The cluster, and what all work on it shares.
    """

    name = "kubernetes"

    def __init__(self, session: ClusterSession) -> None:
        self._session = session
        self._waiting: dict[str, JobSpec] = {}  # jobs that need something made first
        self._stopped: set[str] = set()

    def objects(self, job: JobSpec) -> Objects:
        """Return everything that a job is made of.

        Raises:
            TargetError: The cluster has no kind of job for so many workers, or something of the job is not usable.
        """
        made = payload.for_job(job)
        found, setup = self._session.parts(job, made, job.phase)
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
        discovery = self._session.discovery
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
            if self._session.discovery.keeps(manifest, "spec", style):
                return manifest
        raise TargetError(
            "the TrainJob of this cluster cannot be given files", "have Kubeflow Trainer 2.1 or newer installed"
        )

    def submit(self, job: JobSpec) -> JobRef:
        """Create the job, or leave that to ``follow`` where its image or packages have to be made first.

        A job that this run has created before (its supervisor died) is found again.
        """
        before = self.find(job.name)
        if before is not None and before.data.get("run") == labels.value(job.run_id):
            return _with_folder(before, job)
        if not self._session.ready(job):
            self.workload(job, self._session.setup(job, payload=""))  # what the cluster cannot run is refused now
            self._waiting[job.name] = job
            return _with_folder(JobRef(target=self.name, name=job.name, data={}), job)
        self._session.prepare(job, silent)
        made = self._session.create(self.objects(job))
        return _with_folder(self.ref_of(made), job)

    def find(self, name: str) -> JobRef | None:
        """Find a job by its name, whoever submitted it."""
        for kind in JOB_KINDS:
            if kind != "Job" and not self._session.discovery.has(kind):
                continue
            try:
                found = self._session.cluster.get(kind, name)
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
        elif "kind" not in job.data:  # another process was to create it
            found = self.find(job.name)
            if found is None:
                reason = "the process that made the job's image or packages has ended before the job was created"
                yield StateChanged(state=RunState.FAILED, reason=reason, hint="run it again")
                return
            job = msgspec.structs.replace(found, data=found.data | job.data)

        def tidy(remove: bool, digest: str) -> Iterator[Event]:
            return _told(job, self._tidy(job, remove, digest))

        patience = self._session.pending_patience
        yield from JobFollower(self._session.cluster, job, after, patience, tidy).events()

    def _build_and_create(self, job: JobSpec) -> Generator[Event, None, JobRef | None]:
        """Make what the job's pods need and create the job; ``None`` where it has ended by that."""
        try:
            make = functools.partial(self._session.prepare, job)
            yield from in_background(make, lambda: job.name in self._stopped)
            return _with_folder(self.ref_of(self._session.create(self.objects(job))), job)
        except CancelledError:
            yield StateChanged(state=RunState.STOPPED, reason="stopped before its job was created")
            return None
        except KaptainError as error:
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
            return None

    def _tidy(self, job: JobRef, remove: bool, digest: str) -> Iterator[Event]:
        data = job.data
        if digest and data.get("fetched") and data.get("folder"):
            folder = Path(data["folder"])
            came = folder / f".fetched-{new_hex(8)}.part"
            try:
                self._session.store(data["fetched"]).get(data["fetched"], came)
                place_fetched(came, digest, folder)
            except KaptainError as error:
                yield Noted(text=error.message, warning=True, hint=error.hint)
            finally:
                came.unlink(missing_ok=True)
        self._session.forget_objects(data.get("work", ""), data.get("fetched", ""))
        yield from self._session.delete_secrets(data.get("secrets", ""))
        with suppress(KaptainError):
            if "payload" in data:
                self._session.cluster.delete("Secret", data["payload"])
            if (remove or data.get("force") or "trial" in data) and self._session.cluster.delete(
                data["kind"], job.name
            ):
                yield Noted(text=f"Deleting {data['kind'].lower()} {job.name} in namespace {data['namespace']}.")

    def stop(self, job: JobRef) -> None:
        """Delete a job that has not ended."""
        from kaptain_magics.targets.kubernetes.api import explain

        self._stopped.add(job.name)
        if "kind" not in job.data:
            created = self.find(job.name)
            if created is None:
                return
            job = created
        kind, cluster = job.data["kind"], self._session.cluster
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
