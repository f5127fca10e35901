"""The docker target: jobs and servers as containers of a Docker engine."""

from kaptain_magics.targets.docker.target import DockerTarget

__all__ = ["DockerTarget"]
