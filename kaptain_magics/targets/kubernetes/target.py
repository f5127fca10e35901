"""``KubernetesTarget``: jobs, studies and endpoints on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

from kaptain_magics.core.events import Event
from kaptain_magics.core.specs import EndpointSpec, JobSpec, StudySpec
from kaptain_magics.targets.base import Check, JobRef, Surroundings
from kaptain_magics.targets.kubernetes.jobs import KubernetesJobs, Workshop
from kaptain_magics.targets.kubernetes.manifests.secrets import masked


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

    def check(self) -> list[Check]:
        return []

    def render(self, spec: JobSpec | EndpointSpec | StudySpec) -> str:
        """Return the manifests that would be created, as YAML; the values of secrets are masked."""
        import yaml

        objects = self.jobs.objects(spec)
        manifests = [masked(m) for m in (*objects.secrets, *objects.others, objects.workload)]
        return yaml.safe_dump_all(manifests, sort_keys=False, allow_unicode=True)

    def submit(self, job: JobSpec) -> JobRef:
        return self.jobs.submit(job)

    def find(self, name: str) -> JobRef | None:
        return self.jobs.find(name)

    def follow(self, job: JobRef, after: int = 0) -> Iterator[Event]:
        return self.jobs.follow(job, after)

    def stop(self, job: JobRef) -> None:
        self.jobs.stop(job)
