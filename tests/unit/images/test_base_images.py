"""Which base images a Dockerfile names, and the platform that images are made for."""

from __future__ import annotations

import platform

from kaptain_magics.images.bases import image_platform, named_images
from kaptain_magics.images.engine import docker_platform

DOCKERFILE = """# syntax=docker/dockerfile:1
ARG REGISTRY=reg.example:5000 TAG="3.11"
arg UNSET
FROM --platform=$BUILDPLATFORM ${REGISTRY}/build:$TAG AS Builder
ARG TAG=inside
RUN --mount=type=bind,from=tools/lint:2,target=/l \\
    make
FROM builder as second
COPY --from=0 /a /b
COPY --chown=1:1 --from=busybox:1 /bin/sh /sh
COPY --from=builder /c /d
FROM ${UNSET:-python:3.12}
from scratch
"""


def test_every_image_that_a_dockerfile_needs_is_named() -> None:
    assert named_images(DOCKERFILE) == ["reg.example:5000/build:3.11", "tools/lint:2", "busybox:1", "python:3.12"]
    assert named_images("FROM scratch\nCOPY . /\n") == []
    assert named_images("") == []


def test_images_are_made_for_this_machine_unless_a_platform_is_named() -> None:
    assert image_platform({}) == image_platform({"image_platform": ""}) == docker_platform(platform.machine())
    assert image_platform({"image_platform": "linux/arm64"}) == "linux/arm64"
    assert [docker_platform(name) for name in ("x86_64", "AMD64", "aarch64", "arm64", "s390x")] == [
        "linux/amd64",
        "linux/amd64",
        "linux/arm64",
        "linux/arm64",
        "linux/s390x",
    ]
