"""The contract's functions for the cluster of the settings in force: they log what they find and what they remove."""

from __future__ import annotations

from kaptain_magics.core.states import EndpointState
from kaptain_magics.errors import KaptainError, TargetError
from kaptain_magics.model.context import Context
from kaptain_magics.model.contract.console import logger
from kaptain_magics.targets.base import ClusterInventory, EndpointStatus, ServingTarget, Target

_KINDS = ("TFJob", "PyTorchJob", "TrainJob", "Job")


_CLUSTER = "kubernetes"  # what the contract means by "the cluster", where the target of the settings is none


def _cluster() -> Target:
    target = Context().target()
    return target if isinstance(target, ClusterInventory) else Context().target(_CLUSTER)


def _inventory() -> ClusterInventory:
    target = _cluster()
    assert isinstance(target, ClusterInventory)
    return target


def _serving() -> ServingTarget:
    return Context().serving(_cluster().name)


def _endpoint_line(endpoint: EndpointStatus) -> str:
    shares = ", ".join(f"{percent} % to {revision[:8]}" for revision, percent in endpoint.traffic.items())
    parts = [endpoint.name, endpoint.state, f"model {endpoint.model_id}" if endpoint.model_id else "", shares]
    return "  ".join(part for part in parts if part)


def _log(lines: list[str]) -> None:
    for line in lines or ["nothing found"]:
        logger().info("%s", line)


def diagnose() -> None:
    """Log all workloads, Secrets, Pods and ServiceAccounts of the namespace."""
    _log(_inventory().list_resources())


def list_all_resources() -> None:
    """Log everything in the namespace that Kaptain created."""
    _log(_inventory().list_resources())


def list_jobs() -> None:
    """Log the training jobs, of every kind of job that the cluster has."""
    _log(_inventory().list_resources(*_KINDS))


def list_experiments() -> None:
    """Log the Katib Experiments; one is a study."""
    _log(_inventory().list_resources("Experiment"))


def list_inference_services() -> None:
    """Log the endpoints, whether KServe serves them or plain Deployments."""
    _log([_endpoint_line(endpoint) for endpoint in _serving().endpoints()])


def delete_resource(kind: str, name: str) -> None:
    """Remove one object.

    Args:
        kind: Its kind, such as ``Secret``.
        name: Its name.
    """
    _log(_inventory().delete_resource(kind, name))


def delete_job(name: str, kind: str | None = None) -> None:
    """Remove a training job.

    Args:
        name: Its name.
        kind: ``tfjob``, ``pytorchjob`` or ``job``; found out when not given.
    """
    kinds = {k.lower(): k for k in _KINDS}
    if kind is not None and kind.lower() not in kinds:
        raise TargetError(f"unknown kind of job {kind!r}", "one of " + ", ".join(kinds))
    if kind is not None:
        delete_resource(kinds[kind.lower()], name)
        return
    inventory = _inventory()
    for each in _KINDS:
        try:
            _log(inventory.delete_resource(each, name))
            return
        except KaptainError:
            continue
    raise TargetError(f"there is no job {name!r}", "kaptain.utils.list_jobs() lists them")


def delete_experiment(name: str) -> None:
    """Remove a Katib Experiment with its trials."""
    delete_resource("Experiment", name)


def delete_inference_service(name: str) -> None:
    """Remove an endpoint with all that belongs to it.

    Raises:
        NotFoundError: There is none of that name.
    """
    serving = _serving()
    line = _endpoint_line(serving.endpoint(name))
    serving.undeploy(name)
    _log([line])


def delete_jobs(force: bool = False) -> None:
    """Remove the completed training jobs, with ``force`` the running ones too."""
    _log(_inventory().delete_all(_KINDS, force))


def delete_experiments(force: bool = False) -> None:
    """Remove the completed Experiments, with ``force`` the running ones too."""
    _log(_inventory().delete_all(("Experiment",), force))


def delete_inference_services(force: bool = False) -> None:
    """Remove the endpoints that are not ready, with ``force`` all."""
    serving = _serving()
    gone = [one for one in serving.endpoints() if force or one.state is not EndpointState.READY]
    for endpoint in gone:
        serving.undeploy(endpoint.name)
    _log([_endpoint_line(endpoint) for endpoint in gone])


def clean(force: bool = False) -> None:
    """Log what killed runs have left: Secrets, ServiceAccounts, jobs without a follower. With ``force`` remove it."""
    _log(_inventory().clean(force))


def clean_all(force: bool = False) -> None:
    """Remove completed workloads and log what is stale; with ``force`` remove everything."""
    inventory = _inventory()
    _log(inventory.delete_all((*_KINDS, "Experiment"), force))
    delete_inference_services(force)
    _log(inventory.clean(force))
