"""Entry of a job's container: lays out script, files and runtime, then runs the script.

``start.py install`` is the entry of the init container that installs the requirements which the image lacks. Beside
this file lie ``program.json`` (what to run), ``lib.tar.gz`` (the runtime), ``work.tar.gz`` (script and files, unless
the program names them in the object store), ``requirements.txt`` and ``packages.json`` (what the runtime itself needs,
and where the object store has it for which Python).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).absolute().parent
ROOT = Path(os.environ.get("KAPTAIN_ROOT", "/home/kaptain"))  # an empty volume of the pod
LIB, WORK, SITE, PACKAGES = ROOT / "lib", ROOT / "work", ROOT / "site", ROOT / "packages"
TERMINATION = Path(os.environ.get("KAPTAIN_TERMINATION_LOG", "/dev/termination-log"))  # kept with the pod's state
_LONGEST_TERMINATION = 3000  # characters; the kubelet keeps 4096 bytes
_COLLECTOR = b"metricscollector"


def main(arguments: list[str]) -> int:
    """Install, or run the program; returns the exit code."""
    if arguments == ["install"]:
        return install(HERE / "requirements.txt")
    os.dup2(1, 2)  # one stream keeps the order of lines
    trust()
    enter_environment(__file__, arguments)
    program = json.loads((HERE / "program.json").read_text("utf-8"))
    built = program.get("built", "")
    if not built:
        unpack(HERE / "lib.tar.gz", ROOT)
    use(*([f"{built}/.kaptain", f"{built}/.packages"] if built else [str(LIB)]))
    if not complete(__file__, arguments):
        return 1
    from kaptain_magics.runtime.reach import store_is_ready

    if not store_is_ready():
        return 1
    WORK.mkdir(parents=True, exist_ok=True)
    if not fetch_work(program.get("work_uri", ""), program.get("work_sha256", "")):
        return fail("the script's files in the object store are not what was sent", "run it again")
    if built:
        link(Path(built), WORK)
    os.chdir(WORK)
    os.environ.update(worker_environment(os.environ))
    insert_parameters(program, os.environ.get("KAPTAIN_TRIAL_PARAMETERS", ""))
    from kaptain_magics.runtime import launch

    sys.excepthook = noting(sys.excepthook)
    status = launch.run(program)
    if status == 0 and program.get("fetched_uri"):
        _send(Path(program["fetched"]), program["fetched_uri"])
    if os.environ.get("KAPTAIN_COLLECTOR"):
        sys.stdout.flush()
        wait_for_collector()
    return status


def fail(error: str, hint: str) -> int:
    """Say in the log and in the container's termination message why the work cannot be done; returns the exit code."""
    sys.stderr.write(f"kaptain: {error}; {hint}\n")
    note_end(json.dumps({"error": error, "hint": hint}))
    return 1


def noting(hook: Any) -> Any:
    """Return an exception hook that also leaves the end of the traceback as the container's termination message."""

    def note(kind: Any, error: Any, trace: Any) -> None:
        with contextlib.suppress(Exception):  # an exception's own text may raise
            note_end("".join(traceback.format_exception_only(kind, error)))
        hook(kind, error, trace)

    return note


def note_end(text: str) -> None:
    """Write the container's termination message, which outlives its log."""
    with contextlib.suppress(OSError):
        if TERMINATION.exists():  # the kubelet has made it
            TERMINATION.write_text(text[:_LONGEST_TERMINATION], "utf-8", "replace")


def install(requirements: Path) -> int:
    """Make an environment on top of the image's that has what the image lacks."""
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(SITE)], check=True)
    if sys.prefix != sys.base_prefix:  # the image's Python is an environment itself: its packages count too
        for folder in SITE.glob("lib/python*/site-packages"):
            (folder / "image.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    command = [str(SITE / "bin" / "python"), "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check"]
    return subprocess.run([*command, "-r", str(requirements)], check=False).returncode


def enter_environment(file: str, arguments: list[str]) -> None:
    """Begin again with the environment that was installed, where there is one."""
    python = SITE / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != SITE.resolve():
        os.execv(python, [str(python), "-u", file, *arguments])


def trust() -> None:
    """Trust the object store's own authority, whose certificates lie beside this file."""
    if (HERE / "ca.pem").exists():
        os.environ.setdefault("AWS_CA_BUNDLE", str(HERE / "ca.pem"))


def use(*folders: str) -> None:
    """Put folders first on the path of this process and of those that it starts."""
    new = [folder for folder in folders if folder not in sys.path]
    sys.path[:0] = new
    earlier = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder not in ("", *new)]
    os.environ["PYTHONPATH"] = os.pathsep.join([*new, *earlier])
    importlib.invalidate_caches()


def complete(file: str, arguments: list[str]) -> bool:
    """Bring what the runtime needs and the image lacks; returns whether all of it is there.

    It comes from the object store, where the notebook has put it for the image's Python; else pip has to find it.

    Args:
        file: This program.
        arguments: Its arguments, to begin again with in an environment that pip has made.
    """
    listed = HERE / "packages.json"
    needs = json.loads(listed.read_text("utf-8")) if listed.exists() else {"wanted": {}, "bundles": {}, "optional": []}
    if PACKAGES.exists():
        use(str(PACKAGES))
    lacked: list[str] = []
    why: list[str] = []
    offers: set[str] = set()
    for name, lines in needs["wanted"].items():
        missing = [line for line in lines if not _has(line)]
        if missing:
            why.append(
                _unpack_bundle(needs["bundles"].get(name, {}).get(platform_name()), {_name(line) for line in missing})
            )
            still = [line for line in missing if _name(line) not in needs["optional"] and not _has(line)]
            offers.update(needs["bundles"].get(name, {}) if still else ())
            lacked += still
    if not lacked:
        return True
    names = ", ".join(map(_name, lacked))
    sys.stdout.write(f"kaptain: installing {names}, which the image lacks\n")
    if (ROOT / "installed").exists() or install_lines(lacked):
        offered = ", ".join(sorted(offers)) or "no Python"
        reason = next(filter(None, why), f"its Python is {platform_name()} (the object store has them for {offered})")
        fail(f"the image lacks {names}: {reason}", "use a base image that has them")
        return False
    (ROOT / "installed").touch()
    enter_environment(file, arguments)
    return True


def platform_name() -> str:
    """Return what a wheel has to fit here, such as ``cp311-x86_64-glibc``."""
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    libc = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
    return f"cp{sys.version_info[0]}{sys.version_info[1]}{free}-{platform.machine()}-{libc}"


def _name(line: str) -> str:
    return re.split(r"[<>=!~ ]", line, maxsplit=1)[0]


def _has(line: str) -> bool:
    """Whether a requirement such as ``minio>=7.2`` is satisfied."""
    try:
        version = importlib.metadata.version(_name(line))
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(_name(line)) is not None
    return _numbers(version) >= _numbers(line.partition(">=")[2])


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _unpack_bundle(bundle: Any, missing: set[str]) -> str:
    """Unpack of a bundle in the object store what is missing, and what that needs and the image has not.

    Returns:
        Why that cannot be; empty where it was done, or there is no bundle.
    """
    if not bundle:
        return ""
    from kaptain_magics.runtime.job_errors import TransferError
    from kaptain_magics.runtime.s3_get import get

    uri, digest = bundle
    archive = ROOT / "bundle.tar.gz"
    try:
        if get(uri, archive, os.environ) != digest:
            return f"{uri} does not match its sha256"
    except TransferError as error:
        return f"they cannot be downloaded: {error.message}"
    with tarfile.open(archive) as opened:
        index = json.load(opened.extractfile("packages/index.json"))  # type: ignore[arg-type]
        taken = {name for name in index if name in missing or not _has(name)}
        for member in opened:
            top, _, path = member.name.removeprefix("packages/").partition("/")
            if top in taken and path and member.isfile():
                target = PACKAGES / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.extractfile(member).read())  # type: ignore[union-attr]
    archive.unlink()
    use(str(PACKAGES))
    return ""


def install_lines(lines: list[str]) -> int:
    """Install requirements; returns pip's exit code."""
    listed = ROOT / "requirements.txt"
    listed.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return install(listed)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as opened:
        opened.extractall(folder, **safe)


def link(image: Path, work: Path) -> None:
    """Show what lies in a built image's folder in a folder that can be written to."""
    for path in image.iterdir():
        if not path.name.startswith(".") and not (work / path.name).exists():
            (work / path.name).symlink_to(path)


def fetch_work(uri: str, digest: str) -> bool:
    """Lay out the script and its files.

    Args:
        uri: Where the archive with them is in the object store; empty when it is beside this file.
        digest: sha256 (hex) of that archive: others may write to the store.

    Returns:
        Whether it is what was sent.
    """
    archive = HERE / "work.tar.gz"
    if uri:
        from kaptain_magics.runtime.transfer import connect, download

        archive = ROOT / "work.tar.gz"
        if list(download(connect(uri), uri, archive).files.values()) != [digest]:
            return False
    unpack(archive, ROOT)
    return True


def _send(path: Path, uri: str) -> None:
    from kaptain_magics.runtime.transfer import connect, upload_file

    upload_file(connect(uri), path, uri)


def insert_parameters(program: dict[str, Any], parameters: str) -> None:
    """Put a trial's hyperparameters into the program.

    Args:
        program: Its ``search`` says how the script takes each hyperparameter (``bindings``), what a value's
            text means (``values``, by name and text), what it is on the command line (``words``, likewise), and which
            follow the arguments (``last``).
        parameters: Lines of ``name=value``, as Katib fills them in; empty where nothing is searched.
    """
    search = program.get("search")
    if not search:
        return
    values = dict(line.split("=", 1) for line in parameters.splitlines() if "=" in line)
    first: list[str] = []
    last: list[str] = []
    for name, binding in search["bindings"].items():
        text = values.get(name, "")
        if binding == "assignment":
            value = search["values"].get(name, {}).get(text, _number(text))
            program.setdefault("assignments", {})[name] = value
            continue
        words = search.get("words", {}).get(name, {}).get(text)
        (last if name in search.get("last", ()) else first).extend(
            _words(name, binding, text) if words is None else words
        )
    program["argv"] = [*first, *program.get("argv", ()), *last]


def _words(name: str, binding: str, text: str) -> list[str]:
    """Return what a number puts on the command line."""
    flag = name if name.startswith("-") else f"--{name}"
    if binding == "count":
        return [flag] * int(text)
    if binding == "override":
        return [f"{name}={text}"]
    if binding == "position":
        return [text]
    if binding == "switch":
        from kaptain_magics.runtime.text_values import is_true

        return [flag] if is_true(text) else []
    if text.startswith("-"):  # not to be taken for an option
        return [f"{flag}{text}" if len(flag) == 2 else f"{flag}={text}"]
    return [flag, text]


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def worker_environment(env: Any) -> dict[str, str]:
    """Return what a script of several workers asks for, where no operator has set it.

    An Indexed Job gives a worker its number only; a TrainJob speaks to ``torchrun``.
    """
    count, index = env.get("KAPTAIN_WORKERS", ""), env.get("JOB_COMPLETION_INDEX", "")
    if count and index and "RANK" not in env and "TF_CONFIG" not in env:
        name = env["KAPTAIN_JOB_NAME"]
        rendezvous = {"RANK": index, "WORLD_SIZE": count, "MASTER_ADDR": f"{name}-0.{name}", "MASTER_PORT": "29500"}
        hosts = [f"{name}-{number}.{name}:2222" for number in range(int(count))]
        cluster = {"chief": hosts[:1], "worker": hosts[1:]}
        task = {"type": "worker" if int(index) else "chief", "index": max(0, int(index) - 1)}
        return rendezvous | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}
    torchrun = {"PET_NODE_RANK": "RANK", "PET_NNODES": "WORLD_SIZE"}
    torchrun |= {f"PET_{name}": name for name in ("MASTER_ADDR", "MASTER_PORT")}
    return {name: env[source] for source, name in torchrun.items() if source in env and name not in env}


def wait_for_collector(timeout: float = 30.0, proc: Path = Path("/proc")) -> None:
    """Wait until Katib's collector, a container beside this one, has seen this process.

    It finds the script by its process; a script that ends before the collector has started loses its metrics.
    """
    if os.getpid() == 1:  # the pod's containers do not see each other: there is no such collector
        return
    until = time.monotonic() + timeout
    while not _collects(proc) and time.monotonic() < until:
        time.sleep(0.1)
        if _collects(proc):
            time.sleep(1.0)  # it looks at the processes as the first thing it does


def _collects(proc: Path) -> bool:
    for path in proc.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if _COLLECTOR in path.read_bytes():
                return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
