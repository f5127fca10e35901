"""A saved model as a folder that serves itself: its files, the server, a lock file, a README and a Dockerfile."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kaptain_magics.core.names import endpoint_name
from kaptain_magics.errors import StateError
from kaptain_magics.images.build_context import runtime_entries
from kaptain_magics.images.requirement_lines import is_local, name_of, normalised
from kaptain_magics.images.runtime_packages import locked_versions
from kaptain_magics.model.loading import local_folder
from kaptain_magics.model.revisions import check_servable, choose_revision, training_requirements
from kaptain_magics.runtime.fitted import FittedOn
from kaptain_magics.runtime.own_requirements import SERVING_PACKAGES
from kaptain_magics.runtime.savers.base import Description
from kaptain_magics.script.local_modules import imported_roots
from kaptain_magics.serving.client.snippets import curl, example
from kaptain_magics.serving.signature import TensorSpec
from kaptain_magics.state import Revision

if TYPE_CHECKING:
    from kaptain_magics.model.context import Context

_CODE = (".joblib", ".pkl", ".pickle", ".py", ".pt", ".pth")  # files whose loading imports what their script imported
_LIBRARIES = {  # modules that loaders need beside those that wrote the model
    "sklearn": ("sklearn", "joblib", "scipy"),
    "mlflow": ("mlflow", "pandas"),
    "onnx": ("onnxruntime",),
    "pytorch": ("torch",),
    "tensorflow": ("tensorflow", "keras"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
}
_SERVE = '''"""Serve the model of this folder; --help lists the options. A token, where one is due, is KAPTAIN_TOKEN."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "server"))

from kaptain_magics.serving.__main__ import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["--options", str(HERE / "options.json"), "--folder", str(HERE / "model"), *sys.argv[1:]]))
'''
_DOCKERFILE = """FROM {base}
WORKDIR /model
COPY requirements.txt ./
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY . ./
USER 1000
EXPOSE 8080
ENTRYPOINT ["python", "serve.py", "--host", "0.0.0.0", "--port", "8080"]
"""


class Export(NamedTuple):
    """What was exported.

    Attributes:
        folder: The folder.
        revision: The revision in it.
        notes: What a reader should know: packages that could not be pinned, or are in another version than at saving.
    """

    folder: Path
    revision: Revision
    notes: tuple[str, ...] = ()


def export(context: Context, model_id: str, folder: Path, revision: str = "", replace: bool = False) -> Export:
    """Write a model into a folder that serves it wherever there is a Python of the same minor version.

    Args:
        context: Where the model is kept.
        model_id: The model.
        folder: The folder; it must not be there, or be empty.
        revision: A revision's id or its beginning; else the one that a deployment would take.
        replace: Whether what an earlier export wrote there is replaced.

    Raises:
        ModelError: There is no such revision, or it cannot be served.
        IntegrityError: A file of the model is not the one that was saved.
        StateError: Something else is in the folder already.
    """
    from kaptain_magics.serving.process.artifact import verify_artifact

    chosen = choose_revision(context, model_id, revision=revision).revision
    check_servable(context, model_id, chosen)
    _check_folder(folder, replace)
    source = verify_artifact(local_folder(context, chosen), chosen.files)
    description = Description.read(source) or Description("", "", "")
    lines, notes = _lock(context, chosen, description, source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        whole = Path(scratch) / "export"
        shutil.copytree(source, whole / "model")
        _write(whole, _files(model_id, chosen, source, lines))
        if folder.exists():
            shutil.rmtree(folder)
        whole.chmod(0o755)
        whole.rename(folder)
    return Export(folder, chosen, tuple(notes))


def _check_folder(folder: Path, replace: bool) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    ours = (folder / "options.json").is_file() and (folder / "serve.py").is_file()
    if ours and replace:
        return
    hint = "add --replace to write it again" if ours else "name another folder"
    raise StateError(f"{folder} is there already", hint)


def _files(model_id: str, revision: Revision, source: Path, lines: list[str]) -> dict[str, str]:
    description = Description.read(source) or Description("", "", "")
    name, python = endpoint_name(model_id), description.versions.get("python", platform.python_version())
    series = ".".join(python.split(".")[:2])
    options = {
        "model_name": name,
        "framework": revision.framework or "sklearn",
        "version": revision.revision,
        "files": revision.files,
    }
    return {
        "serve.py": _SERVE,
        "options.json": json.dumps(options, indent=2) + "\n",
        "requirements.txt": "".join(f"{line}\n" for line in lines),
        "Dockerfile": _DOCKERFILE.format(base=f"python:{series}-slim"),
        "README.md": _readme(model_id, name, series, revision, source),
    }


def _readme(model_id: str, name: str, series: str, revision: Revision, source: Path) -> str:
    fitted = None
    with contextlib.suppress(ValueError):
        fitted = FittedOn.read(source)
    url = f"http://127.0.0.1:8080/v2/models/{name}/infer"
    described = Description.read(source) or Description("", "", "")
    inputs = [TensorSpec(t["name"], t["datatype"], tuple(t["shape"])) for t in described.inputs]
    metrics = ", ".join(f"{key} {value.latest:.5g}" for key, value in revision.metrics.items())
    kind = described.kind or revision.framework
    return f"""# {model_id}

{revision.stage.capitalize()} revision {revision.revision}, {kind}. Metrics: {metrics or "none"}.
The server supports the Open Inference Protocol V2 and V1, and compares every file of `model/` with its sha256
(`options.json`) before it loads it. Model files can run code when they are loaded.

It needs Python {series} and the packages of `requirements.txt`, which has every package with its version:

```bash
python{series} -m venv .venv
.venv/bin/pip install -r requirements.txt
.venv/bin/python serve.py --port 8080
```

Ask it:

```bash
{curl(url, example(url, fitted, inputs), None)}
```

It listens on 127.0.0.1. With `--host 0.0.0.0` it needs a token, in the variable `KAPTAIN_TOKEN`; clients then send
`Authorization: Bearer TOKEN`. In a container:

```bash
docker build -t {name} .
docker run --rm -p 127.0.0.1:8080:8080 -e KAPTAIN_TOKEN {name}
```
"""


def _lock(context: Context, revision: Revision, described: Description, source: Path) -> tuple[list[str], list[str]]:
    """Return every package that the server and the model need, with its version, and what is to be said of them."""
    owners = importlib.metadata.packages_distributions()
    modules = [name for name in described.versions if name != "python"]
    modules += _LIBRARIES.get(revision.framework, ())
    with contextlib.suppress(ValueError):
        fitted = FittedOn.read(source)
        modules += ["pandas"] if fitted is not None and fitted.kind == "frame" else []  # the server builds frames again
    if any(path.suffix in _CODE for path in source.rglob("*")):  # it may import what its script imported
        modules += [name.partition(".")[0] for name in _imports(context, revision)]
    for path in source.rglob("*.py"):  # the model's own modules
        with contextlib.suppress(SyntaxError, ValueError):
            modules += imported_roots(ast.parse(path.read_bytes()))
    named = list(training_requirements(context, revision))
    libraries = [owners[name][0] for name in modules if name in owners]
    named = [line for line in named if name_of(line) and not is_local(line)]
    installed = [line for line in named if _is_installed(line)]
    locked = locked_versions([*SERVING_PACKAGES, *libraries, *installed])
    notes = []
    for module, saved in described.versions.items():
        name = normalised(owners[module][0]) if module in owners else ""
        if name in locked and locked[name] != saved:
            notes.append(f"{name} is {locked[name]} here, and the model was saved with {saved}: {saved} is locked")
            locked[name] = saved
    missing = [line for line in named if line not in installed]
    notes += [f"{line} is not installed here: it is in requirements.txt as it was named" for line in missing]
    lines = [f"{name}=={version}" for name, version in sorted(locked.items())]
    return [*lines, *missing], notes


def _imports(context: Context, revision: Revision) -> tuple[str, ...]:
    """Return what the script that made a revision imports, where its run is still there."""
    with contextlib.suppress(StateError):
        record = context.folder(revision.run_id).record
        job = record.job or (record.study.job if record.study is not None else None)
        return job.script.imports if job is not None else ()
    return ()


def _is_installed(line: str) -> bool:
    try:
        importlib.metadata.version(name_of(line))
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the export's own files and the server, all of them readable by others: the folder is handed on."""
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    for entry in runtime_entries("server", serving=True):
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(entry.source, Path)
        shutil.copyfile(entry.source, target)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
