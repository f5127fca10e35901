"""Files into and out of containers: copied, so that it works wherever the engine is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from kaptain_magics.core.events import ArtifactSaved
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.errors import IntegrityError, TargetError
from kaptain_magics.files import disk_error, private_folder
from kaptain_magics.images.build_context import FOLDER, RUNTIME, Entry, runtime_entries, script_entries
from kaptain_magics.images.engine import Engine
from kaptain_magics.images.tar_files import folder_info, write_tar
from kaptain_magics.runtime.manifest import MANIFEST
from kaptain_magics.targets.docker.container_settings import AUTHORITIES, FETCHED, SENT
from kaptain_magics.targets.reading import place_fetched

if TYPE_CHECKING:
    from docker.models.containers import Container

_IN_MEMORY = 16 << 20  # bytes of an archive that are kept in memory


def job_archive(job: JobSpec, built: bool, env: Mapping[str, str] | None = None, authorities: bytes = b"") -> IO[bytes]:
    """Return the archive that is unpacked at ``/`` of a job's container before it starts.

    Args:
        job: The job.
        built: Whether its image holds the script, the files and the runtime already.
        env: Environment variables that are not among the container's settings.
        authorities: Certificates that the job is to trust its object store by.
    """
    program = {
        **job.layout,
        "script": f"{FOLDER}/{job.script_path}",
        "argv": list(job.argv),
        "assignments": job.assignments,
        "model": job.capture.model,
        "metrics": job.capture.metrics,
        "find_model": job.capture.find_model,
        "find_metrics": job.capture.find_metrics,
        "fetch": list(job.capture.fetch),
        "fetched": FETCHED,
        "sent": SENT if job.capture.send else "",
        "env": dict(env or {}),
    }
    entries = [Entry(f"{RUNTIME}/program.json", json.dumps(program).encode())]
    if authorities:
        entries.append(Entry(PurePosixPath(AUTHORITIES).relative_to(FOLDER).as_posix(), authorities))
    if not built:
        entries += [*script_entries(job.script_path, job.script.source, job.placed), *runtime_entries(RUNTIME)]
    if job.capture.send:
        folder = Path(job.folder)
        run = folder.parent.parent if job.trial is not None else folder
        entries.append(Entry(PurePosixPath(SENT).relative_to(FOLDER).as_posix(), run / "sent.pkl"))
    local = local_folder(job.upload_uri)
    return archive(entries, FOLDER, [local.as_posix()] if local is not None else [])


def archive(entries: Iterable[Entry], prefix: str, open_folders: Iterable[str] = ()) -> IO[bytes]:
    """Return an archive of entries below ``prefix``, and of further empty folders that any user may write to."""
    further = []
    for path in open_folders:  # the folders above are left as the image has them, only /root is opened
        further += [folder_info("root", 0o711)] if path.startswith("/root/") else []
        further.append(folder_info(path.strip("/"), 0o777))
    file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 - the caller closes it
    try:
        write_tar(file, entries, prefix.strip("/"), further=further)
        file.seek(0)
    except OSError as error:
        file.close()
        raise disk_error(error, Path(error.filename or tempfile.gettempdir())) from error
    return file


def local_folder(uri: str) -> Path | None:
    """Return the folder of a ``file://`` URI, ``None`` for other stores."""
    from kaptain_magics.runtime.location import Location

    if not uri or "://" not in uri:
        return None
    location = Location.parse(uri)
    return None if location.bucket else location.path


def copy_artifact_out(engine: Engine, container: Container, saved: ArtifactSaved) -> None:
    """Copy a model that the job saved to a ``file://`` folder from its container to this machine, whole or not at all.

    Raises:
        IntegrityError: What arrived is not what the job saved.
        TargetError: The engine does not answer, or the disk is full.
    """
    target = local_folder(saved.uri)
    if target is None or (target / MANIFEST).exists():
        return
    private_folder(target.parent)
    staging = Path(tempfile.mkdtemp(prefix=".kaptain-part-", dir=target.parent))
    try:
        copy_out(engine, container, str(target), staging)
        arrived = staging / target.name
        for name, digest in saved.files.items():
            with open(arrived / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise IntegrityError(
                        f"{name} of {saved.uri} changed on its way out of the container", "run it again"
                    )
        shutil.rmtree(target, ignore_errors=True)
        os.replace(arrived, target)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def copy_fetched_out(engine: Engine, container: Container, digest: str, folder: Path) -> None:
    """Copy the file with the variables to bring back from a container into the job's folder, whole or not at all.

    Only this one file is taken, whatever the container says: the notebook unpickles it.

    Args:
        engine: The engine.
        container: The job's container.
        digest: sha256 (hex) that the job reported for it.
        folder: The job's folder.

    Raises:
        IntegrityError: What arrived is not what the job wrote.
        TargetError: The engine does not answer, or the disk is full.
    """
    staging = Path(tempfile.mkdtemp(prefix=".kaptain-part-", dir=folder))
    try:
        copy_out(engine, container, FETCHED, staging)
        place_fetched(staging / PurePosixPath(FETCHED).name, digest, folder)
    except OSError as error:
        raise disk_error(error, folder) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def copy_out(engine: Engine, container: Container, path: str, folder: Path) -> None:
    """Copy a file or folder of a container into a folder of this machine.

    Raises:
        TargetError: It is not in the container.
    """
    from docker import errors

    with tempfile.TemporaryFile() as file:
        with engine.translate_errors():
            try:
                pieces, _ = container.get_archive(path, chunk_size=1 << 20)
            except errors.NotFound:
                raise TargetError(f"the container has no {path}") from None
            for piece in pieces:
                file.write(piece)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file) as tar:
                tar.extractall(folder, filter="data")  # no links out of it, no devices, no names above it
        except tarfile.TarError as error:
            raise TargetError(f"{path} of the container cannot be copied: {error}", "save plain files only") from error


def copy_in(engine: Engine, container: Container, archive: IO[bytes]) -> None:
    """Unpack an archive at ``/`` of a container.

    Raises:
        TargetError: The engine does not answer, or its disk is full.
    """
    with engine.translate_errors(), archive:
        container.put_archive("/", archive)
