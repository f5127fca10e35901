"""Files of this machine that the model server's options name: they go beside the model when it is deployed.

These are the contract's ``model_file`` (the class of a ``state_dict``), ``handler``, ``serialized_file`` (the weights)
and ``extra_files`` (separated by commas), and ``signature`` where it is a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.runtime.manifest import MANIFEST

if TYPE_CHECKING:
    from kaptain_magics.storage import ObjectStore

_SINGLE = ("model_file", "handler", "serialized_file", "signature")
_SEVERAL = "extra_files"


def find_serving_files(
    config: Mapping[str, str], path_of: Callable[[str], Path], modules: Iterable[str] = ()
) -> dict[str, str]:
    """Return the options with whole paths in place of the names of files that are here.

    Args:
        config: The model server's options. What names no file here stays as it is: it may be the name of a built-in
            handler, or of a file that was saved with the model.
        path_of: Where a file of that name would be.
        modules: The model's own extra files; those of Python go along with a ``model_file``.
    """
    serving_config = dict(config)
    for option in _SINGLE:
        name = serving_config.get(option, "")
        if name and not name.lstrip().startswith("{") and path_of(name).is_file():
            serving_config[option] = str(path_of(name))
    names = [name.strip() for name in serving_config.get(_SEVERAL, "").split(",") if name.strip()]
    if "model_file" in serving_config:
        names = names or [name for name in modules if name.endswith(".py")]
    if names:
        serving_config[_SEVERAL] = ",".join(str(path_of(name)) for name in names)
    return serving_config


def place_serving_files(store: ObjectStore, spec: EndpointSpec) -> EndpointSpec:
    """Store the files beside the deployed copy of the model.

    Args:
        store: The object store.
        spec: The endpoint; ``artifact_uri`` is its own copy of the model.

    Returns:
        The endpoint with the files' digests, and their names in place of the paths.

    Raises:
        StorageError: A file cannot be stored.
    """
    files = dict(_files(spec.serving_config))
    if not files:
        return spec
    digests: dict[str, str] = {}
    for name, path in files.items():
        digests |= {name: next(iter(store.put(path, f"{spec.artifact_uri}/{name}").files.values()))}
    manifest = store.manifest(spec.artifact_uri)
    sizes = sum(path.stat().st_size for name, path in files.items() if name not in manifest.files)
    whole = manifest._replace(files={**manifest.files, **digests}, size=manifest.size + sizes)
    store.write(f"{spec.artifact_uri}/{MANIFEST}", whole.encode())
    config = {option: _name(option, value) for option, value in spec.serving_config.items() if option != _SEVERAL}
    checksums = {**(spec.files or manifest.files), **digests}
    return msgspec.structs.replace(spec, serving_config=config, files=checksums)


def _files(config: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield every file that the options name by a whole path, and its path in the model's folder."""
    named = [config.get(option, "") for option in _SINGLE] + config.get(_SEVERAL, "").split(",")
    for path in (Path(text) for text in named if Path(text).is_absolute()):
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts)
            yield from ((file.relative_to(path.parent).as_posix(), file) for file in inside)
        else:
            yield path.name, path


def _name(option: str, value: str) -> str:
    return Path(value).name if option in _SINGLE and Path(value).is_absolute() else value
