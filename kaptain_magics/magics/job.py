"""The options that every job has, turned into what the model's plans take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kaptain_magics.magics.grammar import Arguments

if TYPE_CHECKING:
    from kaptain_magics.core.resources import Resources
    from kaptain_magics.core.specs import ImageSpec, Script
    from kaptain_magics.model import Workspace
    from kaptain_magics.model.planning import JobOptions


def job_options(arguments: Arguments, workspace: Workspace, script: Script) -> JobOptions:
    """Return the options that the line has; what it does not say is left to the model.

    Args:
        arguments: The line.
        workspace: Where it will run.
        script: The script, to check the variables that are to be taken from it.

    Raises:
        KaptainError: An option names something that is not there.
    """
    from kaptain_magics.core.frameworks import ModelFramework
    from kaptain_magics.core.specs import Capture
    from kaptain_magics.script import check_variables, expand, read_requirements

    options: JobOptions = {}
    if "args" in arguments.options:
        options["args"] = arguments.get("args")
    if "files" in arguments.options:
        options["files"] = [str(expand(path)) for path in arguments.get("files")]
    if "timeout" in arguments.options:
        options["timeout"] = arguments.get("timeout")
    if "workers" in arguments.options:
        options["workers"] = arguments.get("workers")
    if "requirements" in arguments.options:
        options["requirements"] = read_requirements(arguments.get("requirements"))
    if "env" in arguments.options:
        options["env"] = dict(arguments.get("env"))
    if "framework" in arguments.options:
        options["framework"] = ModelFramework.of(arguments.get("framework"))
    resources = read_resources(arguments)
    if resources is not None:
        options["resources"] = resources
    image = read_image(arguments, workspace)
    if image is not None:
        options["image"] = image
    if arguments.given("model", "metric", "send", "fetch"):
        model, metrics = arguments.get("model", ""), dict(arguments.get("metric", ()))
        fetch = arguments.get("fetch", ())
        check_variables(script, [model] if model else [], "--model")
        check_variables(script, metrics.values(), "--metric")
        check_variables(script, fetch, "--fetch")
        options["capture"] = Capture(model=model, metrics=metrics, fetch=fetch, send=arguments.get("send", ()))
    return options


def read_resources(arguments: Arguments) -> Resources | None:
    """Return the resources that the line names, if any."""
    from kaptain_magics.core.resources import Resources

    given = arguments.given("cpu", "memory", "gpus")
    return Resources.simple(**given) if given else None


def read_image(arguments: Arguments, workspace: Workspace) -> ImageSpec | None:
    """Return the image that the line names, if any."""
    from kaptain_magics.core.specs import ImageSpec

    if not arguments.given("base_image", "image_name"):
        return None
    base = arguments.get("base_image") or workspace.settings.base_image
    return ImageSpec(base_image=base, image_name=arguments.get("image_name", ""))
