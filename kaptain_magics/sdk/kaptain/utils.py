"""What lists and removes the objects on the cluster that runs have left."""

from kaptain_magics.model.contract.cluster_utils import (
    clean,
    clean_all,
    delete_experiment,
    delete_experiments,
    delete_inference_service,
    delete_inference_services,
    delete_job,
    delete_jobs,
    delete_resource,
    diagnose,
    list_all_resources,
    list_experiments,
    list_inference_services,
    list_jobs,
)

__all__ = [
    "clean",
    "clean_all",
    "delete_experiment",
    "delete_experiments",
    "delete_inference_service",
    "delete_inference_services",
    "delete_job",
    "delete_jobs",
    "delete_resource",
    "diagnose",
    "list_all_resources",
    "list_experiments",
    "list_inference_services",
    "list_jobs",
]
