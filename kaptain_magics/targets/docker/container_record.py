"""What a process needs to follow a job's container that another has started; kept in the run's ``job.json``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kaptain_magics.core.specs import JobSpec
from kaptain_magics.targets.base import JobRef


class ContainerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job in a container. A field that is added gets a default: records outlive versions.

    Attributes:
        folder: The job's folder on the machine that follows it.
        metrics: Metrics looked for in its output; none looks for all.
        settings: Numbers that its script was given by name.
        upload_uri: The only place where it may save a model.
        fetches: Whether variables are brought back from it.
        timeout: Seconds that it may take.
    """

    folder: str
    metrics: tuple[str, ...] = ()
    settings: dict[str, float] = {}
    upload_uri: str = ""
    fetches: bool = False
    timeout: float | None = None

    @classmethod
    def of_job(cls, job: JobSpec) -> ContainerRecord:
        """Return the record of a job."""
        return cls(
            folder=job.folder,
            metrics=job.metric_names,
            settings=job.settings,
            upload_uri=job.upload_uri,
            fetches=bool(job.capture.fetch),
            timeout=job.timeout,
        )

    @classmethod
    def of_ref(cls, ref: JobRef) -> ContainerRecord:
        """Return the record in a reference, as this version or an older one has written it."""
        return _of_texts(ref.data) if ref.data else ref.read(cls)

    @property
    def path(self) -> Path:
        """The job's folder on this machine, not the one in the container."""
        return Path(self.folder)


def _of_texts(data: dict[str, str]) -> ContainerRecord:
    """Read a record as it was while all fields were texts."""
    return ContainerRecord(
        folder=data["folder"],
        metrics=tuple(filter(None, data.get("metrics", "").split("\n"))),
        settings=msgspec.json.decode(data.get("settings", "{}")),
        upload_uri=data.get("upload", ""),
        fetches="fetch" in data,
        timeout=float(data["timeout"]) if "timeout" in data else None,
    )
