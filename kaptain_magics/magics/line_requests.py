"""Fills the requests of the model with what a line says: every option names the field that it fills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kaptain_magics.magics.grammar import Arguments
from kaptain_magics.magics.line_errors import usage_error

if TYPE_CHECKING:
    import msgspec

    from kaptain_magics.core.scripts import Capture, Script
    from kaptain_magics.model import Workspace


def read_fields(arguments: Arguments, request: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the fields of a request that the line names; the others are left to the model.

    Args:
        arguments: The line.
        request: The request's class; options of other fields are passed over.

    Raises:
        KaptainError: An option names something that is not there.
    """
    fields: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for option, value in arguments.named():
        name, _, part = (option.field or option.key).partition(".")
        if name not in request.__struct_fields__:
            continue
        value = option.convert(value)
        if part:
            parts.setdefault(name, {})[part] = value
        else:
            fields[name] = value
    structs = _structs()
    for name, values in parts.items():
        fields[name] = structs[name](**values) if name in structs else {**fields.get(name, {}), **values}
    return fields


def _structs() -> Mapping[str, Callable[..., Any]]:
    """Return what makes the values of fields of which options name parts, such as ``resources.cpu``."""
    from kaptain_magics.core.resources import Resources
    from kaptain_magics.core.scripts import Capture
    from kaptain_magics.core.specs import ClusterOptions, ImageSpec

    return {"resources": Resources.simple, "image": ImageSpec, "capture": Capture, "cluster": ClusterOptions}


def complete_capture(capture: Capture | None, arguments: Arguments) -> Capture:
    """Return what is taken from a script's variables: what the line does not name is found, where it is clear.

    Raises:
        UsageError: The line names a model and wants none.
    """
    from msgspec.structs import replace

    from kaptain_magics.core.scripts import Capture

    capture = capture or Capture()
    without = bool(arguments.get("no_model"))
    if without and capture.model:
        raise usage_error("--model and --no-model exclude each other", "write one of them")
    return replace(capture, find_model=not capture.model and not without, find_metrics=not capture.metrics)


def check_capture(script: Script, capture: Capture) -> None:
    """Look whether the script has the variables that are to be taken from it.

    Raises:
        ScriptError: It does not.
    """
    from kaptain_magics.script import check_variables

    check_variables(script, [capture.model] if capture.model else [], "--model")
    check_variables(script, capture.metrics.values(), "--metric")
    check_variables(script, capture.fetch, "--fetch")


def check_target(workspace: Workspace, arguments: Arguments) -> None:
    """Refuse options that the line's target would ignore.

    Raises:
        TargetError: The target lacks what one of them needs.
    """
    needed = {f"--{option.name}": option.needs for option, _ in arguments.named() if option.needs}
    if needed:
        from kaptain_magics.targets.features import Feature, check_features

        check_features(workspace.target(), {option: Feature(feature) for option, feature in needed.items()})


# ---- what an option's value becomes in a request ----------------------------------------------------------------


def paths(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return paths with ``~`` and variables filled in."""
    from kaptain_magics.script import expand

    return tuple(str(expand(name)) for name in names)


def path_or_uri(name: str) -> str:
    """Return a URI as it is, a path with ``~`` and variables filled in."""
    return name if "://" in name else paths((name,))[0]


def requirements(word: str) -> tuple[str, ...]:
    """Return the lines of a requirements file, or the packages of a list."""
    from kaptain_magics.script import read_requirements

    return tuple(read_requirements(word))


def framework(name: str) -> Any:
    """Return the framework of that name."""
    from kaptain_magics.core.frameworks import ModelFramework

    return ModelFramework.of(name)
