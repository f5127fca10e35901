from __future__ import annotations

import pytest

from kaptain_magics.errors import ImageError
from kaptain_magics.images.recipe import Published
from kaptain_magics.images.registry.reference import Reference, with_tag

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("python", ("registry-1.docker.io", "library/python", "latest", "")),
        ("python:3.11", ("registry-1.docker.io", "library/python", "3.11", "")),
        (
            "mesosphere/kubeflow:mnist-sklearn-sdk",
            ("registry-1.docker.io", "mesosphere/kubeflow", "mnist-sklearn-sdk", ""),
        ),
        ("docker.io/library/python", ("registry-1.docker.io", "library/python", "latest", "")),
        ("127.0.0.1:5000/a/b:c", ("127.0.0.1:5000", "a/b", "c", "")),
        ("localhost/a", ("localhost", "a", "latest", "")),
        (f"registry.example.com/a@{DIGEST}", ("registry.example.com", "a", "", DIGEST)),
        (f"registry.example.com/a:1@{DIGEST}", ("registry.example.com", "a", "1", DIGEST)),
    ],
)
def test_names_are_read_as_docker_does(name: str, parts: tuple[str, ...]) -> None:
    assert tuple(Reference.parse(name)) == parts


@pytest.mark.parametrize(
    "name", ["", "UPPER/case", "a:b:c", "a/b:-x", "a b", "a@sha256:12", "a/../b", "host:5000/", "a//b"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="is not a valid image name"):
        Reference.parse(name)


def test_the_tag_defaults_to_id_framework_and_version() -> None:
    assert with_tag("team/mnist", "dev/mnist", "sklearn", "0.24.2") == "team/mnist:dev-mnist-sklearn-0.24.2"
    assert with_tag("host:5000/mnist", "dev/mnist") == "host:5000/mnist:dev-mnist"
    assert with_tag("team/mnist:2", "dev/mnist") == "team/mnist:2"
    assert with_tag(f"team/mnist@{DIGEST}", "dev/mnist") == f"team/mnist@{DIGEST}"
    Reference.parse(with_tag("a", "ü" * 300, "é"))


def test_a_pinned_name_means_one_image() -> None:
    assert Published("host:5000/a/b:1", DIGEST, "").pinned == f"host:5000/a/b@{DIGEST}"
    assert Published("a/b:1", "", "").pinned == "a/b:1"
