"""``KubernetesTarget``: jobs, studies and endpoints on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from kaptain_magics.core.domains import Categorical, Discrete
from kaptain_magics.core.events import Event
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.targets.base import Check, EndpointStatus, JobRef, TargetConfig, without_values
from kaptain_magics.targets.features import Feature
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession
from kaptain_magics.targets.kubernetes.endpoints.cluster_serving import KubernetesServing
from kaptain_magics.targets.kubernetes.jobs.cluster_jobs import KubernetesJobs
from kaptain_magics.targets.kubernetes.manifests.secret_manifests import masked
from kaptain_magics.targets.kubernetes.studies.katib_studies import KatibRunner
from kaptain_magics.targets.kubernetes.upkeep.cluster_doctor import Doctor
from kaptain_magics.targets.kubernetes.upkeep.inventory import Inventory
from kaptain_magics.targets.study_runners import choose_runner


class KubernetesTarget:
    """Runs jobs and studies and serves models on a cluster.

    Args:
        config: ``kubeconfig``, ``context``, ``namespace``, ``base_image``, ``service_account`` and access to
            the object store.
    """

    name = "kubernetes"
    features = frozenset(Feature) - {Feature.ADDRESS}

    def __init__(self, config: TargetConfig) -> None:
        self.session = ClusterSession(config)
        self.jobs = KubernetesJobs(self.session)
        self.inventory = Inventory(self.session)
        self.study_runner = KatibRunner(self.session, self.jobs)
        self.serving = KubernetesServing(self.session)

    def check(self) -> list[Check]:
        """Look whether the cluster can be used: server, permissions, quota, image, storage, operators."""
        return Doctor(self.session).check()

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the manifests that would be created, as YAML; the values of secrets are masked."""
        import yaml

        shown = [masked(manifest) for manifest in self._manifests(without_values(spec))]
        text: str = yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True, width=120)
        job = spec.job if isinstance(spec, StudySpec) else spec if isinstance(spec, JobSpec) else None
        built = job is not None and bool(job.image.image_name)
        return f"# the image is built and then named by its digest\n{text}" if built else text

    def _manifests(self, spec: JobSpec | EndpointSpec | StudySpec) -> list[Manifest]:
        if isinstance(spec, EndpointSpec):
            return self.serving.objects(spec)
        if isinstance(spec, StudySpec):
            return self._study(spec)
        return self.jobs.objects(spec).manifests

    def _study(self, study: StudySpec) -> list[Manifest]:
        """Return the Experiment, or the job of the first trial where our own loop runs the study."""
        if choose_runner(self.study_runner, study) is not None:
            return self.study_runner.objects(study).manifests
        base = study.job.upload_uri.rsplit("/", 2)[0]
        name = f"{study.name}-00000000"
        uri = f"{base}/trials/{study.name}/{name}" if study.job.upload_uri else ""
        first = {
            key: domain.values[0] if isinstance(domain, Categorical | Discrete) else domain.min
            for key, domain in study.domains.items()
        }
        parameters = {**study.job.parameters, **first}
        job = msgspec.structs.replace(
            study.job, name=name, phase="tune", trial=0, parameters=parameters, upload_uri=uri
        )
        return self.jobs.objects(job).manifests

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def submit(self, job: JobSpec) -> JobRef:
        """Create the job and return at once; a second call for the same job finds the first one's."""
        return self.jobs.submit(job)

    def find(self, name: str) -> JobRef | None:
        """Find a job by its name alone, submitted by any process."""
        return self.jobs.find(name)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        """Yield the job's events until its end."""
        return self.jobs.follow(job, after)

    def stop(self, job: JobRef) -> None:
        """Delete a job that has not ended, with its secrets."""
        self.jobs.stop(job)

    # ---- endpoints -----------------------------------------------------------------------------------------------

    def deploy(self, endpoint: EndpointSpec) -> Iterator[Event]:
        """Deploy or replace an endpoint."""
        return self.serving.deploy(endpoint)

    def endpoint(self, name: str) -> EndpointStatus:
        """Return an endpoint as it is now."""
        return self.serving.endpoint(name)

    def endpoints(self) -> list[EndpointStatus]:
        """Return all endpoints of ours in the namespace, those of its other users too."""
        return self.serving.endpoints()

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary so many percent: 100 promotes it, 0 rolls it back."""
        self.serving.set_traffic(name, canary_percent)

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary."""
        self.serving.undeploy(name)

    # ---- housekeeping --------------------------------------------------------------------------------------------

    def list_resources(self, *kinds: str) -> list[str]:
        """Return a line for every object that was made by Kaptain, of these kinds or of all."""
        return self.inventory.list_resources(*kinds)

    def delete_resource(self, kind: str, name: str) -> list[str]:
        """Remove one object; returns a line for what was removed."""
        return self.inventory.delete_resource(kind, name)

    def delete_all(self, kinds: Sequence[str], force: bool = False) -> list[str]:
        """Remove the ended (not ready) objects of these kinds, with ``force`` all; returns a line for each."""
        return self.inventory.delete_all(kinds, force)

    def clean(self, force: bool = False) -> list[str]:
        """Find what runs of this state folder left behind and, with ``force``, remove it; returns a line for each."""
        return self.inventory.clean(force)
