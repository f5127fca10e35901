"""Studies that Katib runs: an Experiment is created, stopped, cleaned up after."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from kaptain_magics.core.algorithm_names import Algorithm
from kaptain_magics.core.algorithm_settings import Setting
from kaptain_magics.core.events import Event, Noted, StateChanged
from kaptain_magics.core.specs import StudySpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.images.progress import CancelledError, silent
from kaptain_magics.targets.background import in_background
from kaptain_magics.targets.kubernetes.api.client import ApiError
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession, Objects
from kaptain_magics.targets.kubernetes.jobs.cluster_jobs import KubernetesJobs
from kaptain_magics.targets.kubernetes.jobs.job_follower import STOPPED
from kaptain_magics.targets.kubernetes.jobs.job_kinds import JOB_KINDS, main_container
from kaptain_magics.targets.kubernetes.manifests import experiment as manifests
from kaptain_magics.targets.kubernetes.manifests import labels
from kaptain_magics.targets.kubernetes.manifests.labels import Part, Tags, part_of
from kaptain_magics.targets.kubernetes.pods import payload
from kaptain_magics.targets.kubernetes.studies.katib_checks import SETTINGS, check_katib, katib_remarks
from kaptain_magics.targets.kubernetes.studies.study_follower import StudyFollower
from kaptain_magics.targets.study_runners import StudyRef

_NAME = "kaptain-trial-name"  # stands for the trial's name until the manifest is whole


class KatibRunner:
    """Runs studies as Experiments.

    Args:
        session: The cluster, and what all work on it shares.
        jobs: Makes the trials' manifests.
    """

    name, title = "katib", "Katib"

    def __init__(self, session: ClusterSession, jobs: KubernetesJobs) -> None:
        self._session, self._jobs = session, jobs
        self._waiting: set[str] = set()  # studies whose image has to be built first
        self._stopped: set[str] = set()

    def settings(self, algorithm: str) -> Mapping[str, Setting] | None:
        """Return the settings of Katib's algorithm; ``None`` for those that are left to Katib, or are not its own."""
        return SETTINGS.get(Algorithm(algorithm))

    def check(self, study: StudySpec) -> None:
        """Refuse a study that Katib would refuse, or could only fail with."""
        check_katib(study)

    def remarks(self, study: StudySpec) -> Iterator[str]:
        """Yield a sentence for everything in a study that Katib ignores."""
        return katib_remarks(study)

    def available(self, study: StudySpec) -> bool:
        """Whether Katib is on the cluster and has the study's algorithm."""
        return Algorithm(study.algorithm).in_katib and self._session.discovery.has("Experiment")

    def objects(self, study: StudySpec) -> Objects:
        """Return everything that a study is made of."""
        files = payload.for_study(study)
        base = study.job.upload_uri.rsplit("/", 2)[0]
        further = {"KAPTAIN_TRIAL_PARAMETERS": manifests.trial_parameters(study), "KAPTAIN_COLLECTOR": "1"}
        job = msgspec.structs.replace(
            study.job,
            name=_NAME,
            run_id=study.run_id,
            model_id=study.model_id,
            phase="tune",
            upload_uri=f"{base}/trials/{study.name}/{_NAME}" if study.job.upload_uri else "",
        )
        secrets = self._session.secrets(job, files, Tags.of_study(self._session.owner, study))
        setup = msgspec.structs.replace(self._session.setup(job, secrets), further=further)
        *others, workload = self._jobs.workload(job, setup)
        if others:
            raise TargetError(
                "Katib cannot run trials of several workers as Indexed Jobs on this cluster",
                "tune with --workers 1, or have PyTorchJob and TFJob installed",
            )
        container = main_container(job, workload["kind"])
        template = json.loads(json.dumps(workload).replace(_NAME, manifests.placeholder(manifests.TRIAL)))
        return Objects(secrets, [], manifests.experiment(study, setup, template, container), files)

    def start(self, study: StudySpec) -> StudyRef:
        """Create the Experiment, or leave that to ``follow`` where an image has to be built first.

        An Experiment that this run has created before is found again.
        """
        before = self._session.cluster.get("Experiment", study.name)
        if before is None or before["metadata"]["labels"].get(labels.RUN) != labels.value(study.run_id):
            if self._session.ready(study.job):
                self._session.prepare(study.job, silent)
                self._session.create(self.objects(study))
            else:
                self._waiting.add(study.name)
        return StudyRef.of("kubernetes", study.name, study)

    def follow(self, study: StudyRef, after: int = 0) -> Iterator[Event]:  # noqa: ARG002
        """Yield all of the study's trials, as they are facts, until its end; then what belonged to it is removed."""
        spec = study.read(StudySpec)
        if study.name in self._waiting:
            make = functools.partial(self._session.prepare, spec.job)
            try:
                yield from in_background(make, lambda: study.name in self._stopped)
            except CancelledError:
                yield StateChanged(state=RunState.STOPPED, reason="the study was stopped while its image was built")
                return
            self._waiting.discard(study.name)
            self._session.create(self.objects(spec))
        follower = StudyFollower(self._session, spec)
        end = yield from follower.events()
        yield from self._tidy(study, spec, running=follower.unfinished)
        yield end

    def _tidy(self, ref: StudyRef, spec: StudySpec, running: bool) -> Iterator[Event]:
        cluster = self._session.cluster
        chosen = labels.selector({labels.STUDY: ref.name})
        with suppress(KaptainError):
            if (running or spec.job.cluster.delete_experiment) and cluster.delete("Experiment", ref.name):
                yield Noted(text=f"Deleting experiment {ref.name} in namespace {cluster.namespace}.")
            for kind in JOB_KINDS:
                if self._session.discovery.has(kind):
                    for job in cluster.list(kind, chosen):
                        cluster.delete(kind, job["metadata"]["name"])
        secrets: list[Manifest] = []
        with suppress(KaptainError):
            secrets = cluster.list("Secret", chosen)
        payloads = [resource["metadata"]["name"] for resource in secrets if part_of(resource) is Part.PAYLOAD]
        others = [resource["metadata"]["name"] for resource in secrets if part_of(resource) is not Part.PAYLOAD]
        yield from self._session.delete_secrets(others)
        for name in payloads:
            with suppress(KaptainError):
                cluster.delete("Secret", name)
        self._session.forget_objects(*payload.passing_objects(spec.job))

    def stop(self, study: StudyRef) -> None:
        """Delete the Experiment, its trials and their jobs with it."""
        self._stopped.add(study.name)
        with suppress(ApiError):
            change = {"metadata": {"annotations": {STOPPED: "true"}}}
            self._session.cluster.patch("Experiment", study.name, change)
        self._session.cluster.delete("Experiment", study.name)
