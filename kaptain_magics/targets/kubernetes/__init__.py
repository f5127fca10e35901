"""The Kubernetes target: Jobs, Katib and KServe where they are there, plain objects where they are not."""

from kaptain_magics.targets.kubernetes.target import KubernetesTarget

__all__ = ["KubernetesTarget"]
