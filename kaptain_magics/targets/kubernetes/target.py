"""``KubernetesTarget``: jobs, studies and endpoints on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

from kaptain_magics.core.events import Event
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.targets.base import Check, EndpointStatus, JobRef, Surroundings
from kaptain_magics.targets.kubernetes.jobs import KubernetesJobs, Workshop
from kaptain_magics.targets.kubernetes.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests.secrets import masked
from kaptain_magics.targets.kubernetes.plain import PlainServing


class KubernetesTarget:
    """Runs jobs and studies and serves models on a cluster.

    Args:
        surroundings: ``kubeconfig``, ``context``, ``namespace``, ``base_image``, ``service_account`` and access to
            the object store.
    """

    name = "kubernetes"

    def __init__(self, surroundings: Surroundings) -> None:
        self.workshop = Workshop(surroundings)
        self.jobs = KubernetesJobs(self.workshop)
        self.serving = PlainServing(self.workshop)

    def check(self) -> list[Check]:
        """Look whether the cluster can be used."""
        return []

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the manifests that would be created, as YAML; the values of secrets are masked."""
        import yaml

        shown = [masked(manifest) for manifest in self._manifests(spec)]
        text: str = yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True, width=120)
        return text

    def _manifests(self, spec: JobSpec | EndpointSpec | StudySpec) -> list[Manifest]:
        if isinstance(spec, EndpointSpec):
            return self.serving.objects(spec)
        if isinstance(spec, StudySpec):
            return []
        return self.jobs.objects(spec).manifests

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def submit(self, job: JobSpec) -> JobRef:
        """Create the job and return at once; a second call for the same job finds the first one's."""
        return self.jobs.submit(job)

    def find(self, name: str) -> JobRef | None:
        """Find a job by its name alone, whoever submitted it."""
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
        """Return all endpoints."""
        return self.serving.endpoints()

    def set_traffic(self, name: str, canary_percent: int) -> None:
        """Give the canary so many percent: 100 promotes it, 0 rolls it back."""
        self.serving.set_traffic(name, canary_percent)

    def undeploy(self, name: str) -> None:
        """Remove the endpoint and its canary."""
        self.serving.undeploy(name)
