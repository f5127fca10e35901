"""Jobs on the cluster: written down as manifests, created, stopped, cleaned up after."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
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
from kaptain_magics.targets.kubernetes.api import explain
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession, Objects
from kaptain_magics.targets.kubernetes.jobs.job_follower import STOPPED, JobFollower
from kaptain_magics.targets.kubernetes.jobs.job_kinds import JOB_KINDS, main_container
from kaptain_magics.targets.kubernetes.jobs.job_record import JobRecord
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests import workloads as job_manifests
from kaptain_magics.targets.kubernetes.manifests.labels import Tags
from kaptain_magics.targets.kubernetes.manifests.pod import Setup
from kaptain_magics.targets.kubernetes.pods import payload
from kaptain_magics.targets.reading import place_fetched


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
        files = payload.for_job(job)
        secrets = self._session.secrets(job, files, Tags.of_job(self._session.owner, job))
        setup = self._session.setup(job, secrets)
        *others, workload = self.workload(job, setup)
        JobRecord(
            kind=workload["kind"],
            container=main_container(job, workload["kind"]),
            secrets=secrets.announced,
            payload=setup.payload,
            metrics=tuple(job.metric_names),
            settings=dict(job.settings),
            work_uri=files.work_uri,
            fetched_uri=files.fetched_uri,
            upload_uri=job.upload_uri,
            timeout=job.timeout,
            ttl_seconds=job.cluster.ttl_seconds_after_finished,
            trial=job.trial is not None,
            force_cleanup=job.cluster.force_cleanup,
        ).annotate(workload)
        return Objects(secrets, others, workload, files)

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
        before = self._find(job.name)
        if before is not None and before.run == labels.value(job.run_id):
            return _in_folder(before, job)
        if not self._session.ready(job):
            self.workload(job, self._session.setup(job))  # what the cluster cannot run is refused now
            self._waiting[job.name] = job
            return _in_folder(JobRecord(), job)
        self._session.prepare(job, silent)
        return self._create(job)

    def _create(self, job: JobSpec) -> JobRef:
        created = JobRecord.of_workload(self._session.create(self.objects(job)))
        return _in_folder(created or JobRecord(), job)

    def find(self, name: str) -> JobRef | None:
        """Find a job by its name, submitted by any process."""
        record = self._find(name)
        return None if record is None else record.ref(name)

    def _find(self, name: str) -> JobRecord | None:
        for kind in JOB_KINDS:
            if kind != "Job" and not self._session.discovery.has(kind):
                continue
            try:
                workload = self._session.cluster.get(kind, name)
            except ApiError as error:
                if kind == "Job" or error.code != 403:
                    raise
                continue  # what may not be read was not made by this user
            if workload is not None and (record := JobRecord.of_workload(workload)) is not None:
                return record
        return None

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events until its end; then what belonged to it is removed."""
        name, record = job.name, JobRecord.of_ref(job)
        waiting = self._waiting.pop(name, None)
        if waiting is not None:
            created = yield from self._build_and_create(waiting)
            if created is None:
                return
            record = JobRecord.of_ref(created)
        elif not record.kind:  # another process was to create it
            created_by_other = self._find(name)
            if created_by_other is None:
                reason = "the process that made the job's image or packages has ended before the job was created"
                yield StateChanged(state=RunState.FAILED, reason=reason, hint="run it again")
                return
            record = msgspec.structs.replace(created_by_other, folder=record.folder)

        def tidy(remove: bool, digest: str) -> Iterator[Event]:
            return _quiet_if_trial(record, self._tidy(name, record, remove, digest))

        pending_timeout = self._session.pending_timeout
        yield from JobFollower(self._session.cluster, name, record, after, pending_timeout, tidy).events()

    def _build_and_create(self, job: JobSpec) -> Generator[Event, None, JobRef | None]:
        """Make what the job's pods need and create the job; ``None`` where it has ended by that."""
        try:
            make = functools.partial(self._session.prepare, job)
            yield from in_background(make, lambda: job.name in self._stopped)
            return self._create(job)
        except CancelledError:
            yield StateChanged(state=RunState.STOPPED, reason="stopped before its job was created")
            return None
        except KaptainError as error:
            yield StateChanged(state=RunState.FAILED, reason=error.message, hint=error.hint)
            return None

    def _tidy(self, name: str, record: JobRecord, remove: bool, digest: str) -> Iterator[Event]:
        if digest and record.fetched_uri and record.folder:
            folder = Path(record.folder)
            received = folder / f".fetched-{new_hex(8)}.part"
            try:
                self._session.store(record.fetched_uri).get(record.fetched_uri, received)
                place_fetched(received, digest, folder)
            except KaptainError as error:
                yield Noted(text=error.message, warning=True, hint=error.hint)
            finally:
                received.unlink(missing_ok=True)
        self._session.forget_objects(record.work_uri, record.fetched_uri)
        yield from self._session.delete_secrets(record.secrets)
        with suppress(KaptainError):
            cluster = self._session.cluster
            if record.payload:
                cluster.delete("Secret", record.payload)
            if (remove or record.force_cleanup or record.trial) and cluster.delete(record.kind, name):
                yield Noted(text=f"Deleting {record.kind.lower()} {name} in namespace {record.namespace}.")

    def stop(self, job: JobRef) -> None:
        """Delete a job that has not ended, and its secrets; an ended one is left to its time to live."""
        self._stopped.add(job.name)
        given = JobRecord.of_ref(job)
        record = given if given.kind else self._find(job.name)
        if record is None:
            return
        cluster = self._session.cluster
        workload = cluster.get(record.kind, job.name)
        if workload is None or any(explain.condition(workload, end) for end in ("Complete", "Failed", "Succeeded")):
            return
        with suppress(ApiError):
            cluster.patch(record.kind, job.name, {"metadata": {"annotations": {STOPPED: "true"}}})
        cluster.delete(record.kind, job.name)
        for name in filter(None, (*record.secrets, record.payload)):
            cluster.delete("Secret", name)


def _quiet_if_trial(record: JobRecord, events: Iterator[Event]) -> Iterator[Event]:
    """Yield events, of a trial without the lines on what was made and removed: there are many trials."""
    for event in events:
        if not (isinstance(event, Noted) and not event.warning and record.trial):
            yield event


def _in_folder(record: JobRecord, job: JobSpec) -> JobRef:
    return msgspec.structs.replace(record, folder=job.folder).ref(job.name)
