"""What is laid into a job's pods: the entry, the program, the runtime, the script with its files.

All of it travels in one Secret. What is too large for that goes to the object store, and the program names it.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kaptain_magics.core.domains import AnyDomain, Categorical, Discrete, Integer
from kaptain_magics.core.scripts import Binding
from kaptain_magics.core.specs import JobSpec, StudySpec
from kaptain_magics.errors import TargetError
from kaptain_magics.images.build_context import FOLDER, Entry, requirements_entry, runtime_entries, script_entries
from kaptain_magics.images.tar_files import write_tar
from kaptain_magics.targets.kubernetes.manifests.pod import ROOT, WORK

LARGEST = 700 * 1024  # bytes of script, files and runtime in a Secret; the API server takes 1 MiB in all
SENT = ".kaptain-sent.pkl"
WORK_ARCHIVE = "work.tar.gz"
AUTHORITIES = "ca.pem"  # certificates of the object store's own authority


class Payload(NamedTuple):
    """Files for the pods.

    Attributes:
        files: Content of the Secret by file name.
        work_uri: Where ``work`` is to be put in the object store; empty when it is in the Secret.
        work: The archive with script and files, where it is too large for the Secret.
        fetched_uri: Where the pod puts the variables to bring back; empty when none are.
    """

    files: dict[str, bytes]
    work_uri: str = ""
    work: bytes = b""
    fetched_uri: str = ""


def for_job(job: JobSpec) -> Payload:
    """Return the payload of a job.

    Raises:
        TargetError: Something of it cannot be read, or needs an object store that the job has not.
    """
    return _payload(job, {"argv": list(job.argv), "assignments": job.assignments})


def for_study(study: StudySpec) -> Payload:
    """Return the payload that all trials of a study share; each finds its values in its environment."""
    job = study.job
    names = sorted(study.domains, key=lambda name: job.position(name) or sys.maxsize)  # words by their place come first
    bindings = {name: job.bindings.get(name, Binding.OPTION).value for name in names}
    _check_places(study)
    values = {name: _values(domain) for name, domain in study.domains.items()}
    search = {
        "bindings": bindings,
        "values": {name: texts for name, texts in values.items() if texts},
        "words": {name: texts for name, domain in study.domains.items() if (texts := _words(job, name, domain))},
        "last": [name for name in study.domains if job.script.follows_args(name)],
    }
    program = {"argv": list(job.argv), "assignments": job.assignments, "search": search}
    return _payload(job, program)


def _check_places(study: StudySpec) -> None:
    """Refuse a searched word of the command line behind one that is the same for all trials."""
    job = study.job
    searched = [job.position(name) for name in study.domains if job.position(name)]
    fixed = {job.position(name): name for name in job.parameters if job.position(name)}
    if searched and fixed and min(fixed) < max(searched):
        first = fixed[min(fixed)]
        raise TargetError(
            f"Katib cannot search a word of the command line behind {first}, which is the same for all trials",
            f"search {first} too, as {first}=Discrete([...]), or set cluster_tuner = jobs",
        )


def _values(domain: AnyDomain) -> dict[str, Any]:
    """Return what the text of a choice means; empty where any number may come."""
    if isinstance(domain, Categorical | Discrete):
        return {str(value): value for value in domain.values}
    return {}


def _words(job: JobSpec, name: str, domain: AnyDomain) -> dict[str, list[str]]:
    """Return what the text of a choice puts on the command line; empty where any number may come."""
    binding = job.bindings.get(name, Binding.OPTION)
    if binding is Binding.ASSIGNMENT:
        return {}
    choices = list(_values(domain).values())
    if isinstance(domain, Integer) and binding in (Binding.SWITCH, Binding.NEGATED, Binding.TRUTH):
        choices = [domain.min, domain.max]  # of a flag: 0 and 1
    return {str(value): list(job.words(name, value)) for value in choices}


def _payload(job: JobSpec, program: dict[str, Any]) -> Payload:
    built = bool(job.image.image_name)
    folder = FOLDER if built else WORK
    program |= job.layout
    program |= {"script": f"{folder}/{job.script_path}", "model": job.capture.model, "metrics": job.capture.metrics}
    program |= {"find_model": job.capture.find_model, "find_metrics": job.capture.find_metrics}
    if built:
        program["built"] = FOLDER
    fetched_uri = ""
    if job.capture.fetch:
        fetched_uri = _sibling_uri(job, "fetched.pkl", "bring variables back")
        program |= {"fetch": list(job.capture.fetch), "fetched": f"{ROOT}/fetched.pkl", "fetched_uri": fetched_uri}
    work = [] if built else list(script_entries(job.script_path, job.script.source, job.placed))
    if job.capture.send:
        program["sent"] = f"{WORK}/{SENT}"
        work.append(Entry(SENT, _sent(job)))
    files = {"start.py": inside("start.py")}
    if not built:
        files["lib.tar.gz"] = runtime_archive()
        if job.requirements:
            files["requirements.txt"] = _content(requirements_entry(job.requirements))
    packed = archive(work, "work")
    work_uri = ""
    if sum(map(len, files.values())) + len(packed) + len(json.dumps(program)) > LARGEST:
        work_uri = _sibling_uri(job, WORK_ARCHIVE, f"carry {len(packed) / 1e6:.1f} MB of files")
        program |= {"work_uri": work_uri, "work_sha256": hashlib.sha256(packed).hexdigest()}
    else:
        files[WORK_ARCHIVE] = packed
    files["program.json"] = json.dumps(program).encode()
    return Payload(files, work_uri, packed if work_uri else b"", fetched_uri)


def passing_objects(job: JobSpec) -> list[str]:
    """Return the URIs beside the job's model where its payload may have put something, whatever its files are now."""
    base = job.upload_uri.rstrip("/")
    return [f"{base}.{WORK_ARCHIVE}"] if base.startswith("s3://") else []


def inside(name: str) -> bytes:
    """Return a file of ``inside/``, which runs in the pods."""
    return (Path(__file__).parents[1] / "inside" / name).read_bytes()


def _sibling_uri(job: JobSpec, name: str, purpose: str) -> str:
    """Return the URI of an object beside the job's model."""
    if not job.upload_uri.startswith("s3://"):
        raise TargetError(
            f"a job on Kubernetes needs an S3 store to {purpose}",
            "set one: %config KaptainMagics.storage_uri = 's3://bucket/prefix'",
        )
    return f"{job.upload_uri.rstrip('/')}.{name}"


def _sent(job: JobSpec) -> Path:
    folder = Path(job.folder)
    return (folder.parent.parent if job.trial is not None else folder) / "sent.pkl"


def _content(entry: Entry) -> bytes:
    return entry.source if isinstance(entry.source, bytes) else entry.source.read_bytes()


@functools.cache
def runtime_archive(serving: bool = False) -> bytes:
    """Return the archive of what a script imports in a job, or of what a server needs."""
    entries = runtime_entries("lib", serving)
    return archive((entry._replace(path=entry.path.removeprefix("lib/")) for entry in entries), "lib")


def archive(entries: Iterable[Entry], folder: str) -> bytes:
    """Return a compressed archive of entries below a folder; the same content gives the same bytes.

    Raises:
        TargetError: A file cannot be read.
    """
    raw = io.BytesIO()
    try:
        write_tar(raw, entries, folder)
    except OSError as error:
        raise TargetError(
            f"{error.filename} cannot be sent to the cluster: {error.strerror}", "check --files"
        ) from error
    return gzip.compress(raw.getvalue(), 6, mtime=0)
