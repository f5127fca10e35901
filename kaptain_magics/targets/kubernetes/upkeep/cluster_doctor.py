"""Looks whether a cluster can be used: server, permissions, quota, image and its registry, storage, operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kaptain_magics.core.resources import quantity
from kaptain_magics.errors import ConfigError, CredentialsError, KaptainError
from kaptain_magics.images.registry.reference import Reference
from kaptain_magics.images.registry.registry_access import Access
from kaptain_magics.images.registry.registry_client import Registries
from kaptain_magics.targets.base import Check
from kaptain_magics.targets.kubernetes.api.kinds import KINDS
from kaptain_magics.targets.kubernetes.cluster_session import ClusterSession

Needs = Mapping[str, tuple[str, ...]]  # verbs by kind

_JOBS: Needs = {
    "Job": ("create", "get", "list", "watch", "patch", "delete"),
    "Secret": ("create", "get", "list", "patch", "delete"),
    "Pod": ("get", "list", "watch"),
    "Pod/log": ("get",),
}
_STUDIES: Needs = {
    "Experiment": ("create", "get", "list", "watch", "delete"),
    "Trial": ("list", "watch"),
}
_REASONS: Needs = {"Event": ("list", "watch"), "ResourceQuota": ("list",), "LimitRange": ("list",)}
_SERVING: Needs = {
    "Deployment": ("create", "get", "list", "watch", "patch", "delete"),
    "Service": ("create", "get", "list", "patch", "delete"),
    "ServiceAccount": ("create", "get", "list", "patch", "delete"),
    "HorizontalPodAutoscaler": ("create", "list", "patch", "delete"),
    "Pod/portforward": ("create", "get"),
}
_REGISTRY = 2.0  # seconds that a registry may take
_LOCAL = ("127.", "localhost", "[::1]")


class Doctor:
    """Makes the checks.

    Args:
        session: The cluster, and what all work on it shares.
    """

    def __init__(self, session: ClusterSession) -> None:
        self._session = session

    def check(self) -> list[Check]:
        """Return one finding for everything that jobs, studies and endpoints need."""
        try:
            cluster = self._session.cluster
            version = self._session.discovery.version
        except KaptainError as error:
            return [Check("cluster", False, error.message, error.hint)]
        checks = [Check("cluster", True, f"Kubernetes {version} at {cluster.host}, namespace {cluster.namespace}")]
        for look in (self._permissions, self._quota, self._image, self._storage, self._operators):
            try:
                checks += look()
            except KaptainError as error:
                checks.append(Check(look.__name__.strip("_"), False, error.message, error.hint))
        return checks

    def _permissions(self) -> Iterator[Check]:
        for purpose, needs in self._needs():
            missing = []
            for name, verbs in needs.items():
                denied = [verb for verb in verbs if not self._session.cluster.allowed(verb, *name.split("/"))]
                if denied:
                    kind, _, part = name.partition("/")
                    missing.append(f"{', '.join(denied)} {KINDS[kind].plural}" + (f"/{part}" if part else ""))
            if missing:
                yield Check(
                    f"permissions for {purpose}",
                    False,
                    f"this user may not {'; '.join(missing)}",
                    f"ask the cluster's administrator for a role in namespace {self._session.cluster.namespace}",
                )
            else:
                yield Check(f"permissions for {purpose}", True, "all that are required")

    def _needs(self) -> Iterator[tuple[str, Needs]]:
        """Yield what each purpose needs, as far as the cluster has the kinds."""
        has = self._session.discovery.has
        yield "jobs", _JOBS
        if has("Experiment"):
            yield "studies", _STUDIES
        for kind in ("PyTorchJob", "TFJob", "TrainJob"):
            if has(kind):
                yield f"{kind}s", {kind: _JOBS["Job"]}
        yield "endpoints", self._serving_needs()
        yield "reasons", _REASONS

    def _serving_needs(self) -> Needs:
        if not self._session.discovery.has("InferenceService"):
            return _SERVING
        kept = {name: _SERVING[name] for name in ("ServiceAccount", "Pod/portforward")}
        return {"InferenceService": ("create", "get", "list", "watch", "update", "delete"), **kept}

    def _quota(self) -> Iterator[Check]:
        if not self._session.cluster.allowed("list", "ResourceQuota"):
            return
        for quota in self._session.cluster.list("ResourceQuota"):
            name, status = quota["metadata"]["name"], quota.get("status", {})
            hard, used = status.get("hard") or quota["spec"].get("hard", {}), status.get("used", {})
            text = ", ".join(f"{used.get(what, '0')} of {limit} {what}" for what, limit in hard.items())
            needs = [word for word in ("cpu", "memory") if any(what.endswith(word) for what in hard)]
            defaults = {
                word
                for limits in self._session.cluster.list("LimitRange")
                for one in limits["spec"].get("limits", ())
                for word in one.get("default", {})
            }
            missing = [word for word in needs if word not in defaults]
            hint = f"always name {' and '.join('--' + word for word in missing)}" if missing else ""
            full = [what for what, limit in hard.items() if _at_limit(used.get(what, "0"), limit)]
            if full:
                hint = f"wait until other work has ended, or remove it: %kaptain clean; {hint}".removesuffix("; ")
            yield Check(f"quota {name}", not full, f"{'exhausted' if full else 'used'}: {text}", hint)

    def _image(self) -> Iterator[Check]:
        name = self._session.config.settings.get("base_image", "")
        if not name:
            hint = "name one that has Python and your framework: %config KaptainMagics.base_image = 'python:3.12'"
            yield Check("base image", False, "not set", hint)
            return
        login = "with credentials" if self._session.images.credentials(name) else "without credentials"
        reference = Reference.parse(name)
        try:
            registry = Registries(Access.of(self._session.config.settings)).of(reference)
            answer = "it is there" if registry.digest_of(reference, _REGISTRY) else "it is not there"
        except CredentialsError as error:
            yield Check("base image", False, f"{name}, {login}: {error.message}", error.hint)
            return
        except KaptainError as error:
            answer = f"its registry cannot be asked from here ({error.message})"
        nodes = "" if answer == "it is there" else "; only nodes that have the image can run it"
        yield Check("base image", True, f"{name} from {reference.registry}, {login}: {answer}{nodes}")

    def _storage(self) -> Iterator[Check]:
        endpoint = self._session.config.storage_env.get("S3_ENDPOINT", "")
        host = endpoint.rpartition("://")[2]
        if not self._session.config.storage_env:
            hint = "set an S3 store: %config KaptainMagics.storage_uri = 's3://bucket/prefix'"
            yield Check(
                "storage for pods", False, "models go to a directory of this machine, which pods do not see", hint
            )
        elif host.startswith(_LOCAL):
            hint = "name it by an address that the cluster's nodes reach"
            yield Check(
                "storage for pods", False, f"pods cannot reach {endpoint}: it is a local address of this machine", hint
            )
        else:
            yield Check("storage for pods", True, endpoint or "AWS")

    def _operators(self) -> Iterator[Check]:
        discovery = self._session.discovery
        for kind, name, without in (
            ("Experiment", "Katib", "studies run as Jobs from here"),
            ("InferenceService", "KServe", "endpoints are Deployments"),
            ("PyTorchJob", "PyTorchJob", ""),
            ("TFJob", "TFJob", ""),
            ("TrainJob", "TrainJob", ""),
        ):
            installed = discovery.has(kind)
            if installed or without:
                group = KINDS[kind].api_version
                yield Check(name, True, f"installed ({group})" if installed else f"not installed: {without}")


def _at_limit(used: str, limit: str) -> bool:
    try:
        return used == limit or quantity(used, "used") >= quantity(limit, "limit")
    except ConfigError:  # a unit that is not known here
        return False
