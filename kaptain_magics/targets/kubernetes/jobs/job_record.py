"""What a process needs to follow a job that another has created: kept with the job, and in the run's ``job.json``."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kaptain_magics.targets.base import JobRef
from kaptain_magics.targets.kubernetes.api.kinds import Manifest
from kaptain_magics.targets.kubernetes.manifests import labels

RECORD = "kaptain-magics/record"  # annotation of a job
_TEXTS = "kaptain-magics/ref"  # the same as it was while all fields were texts
_FIELD = "record"  # of the texts of a ``JobRef``: the record as JSON, as it was before references had structs


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job on the cluster. A field that is added gets a default: records outlive versions.

    Attributes:
        kind: Its kind; empty while something has to be made before it can be created.
        container: The container whose output and exit code count.
        namespace: Its namespace.
        run: The run, as a label's value.
        folder: The job's folder on the machine that follows it.
        secrets: Its secrets whose removal is said.
        payload: Its secret with script and files.
        metrics: Metrics looked for in its output; none looks for all.
        settings: Numbers that its script was given by name.
        work_uri: Where its files are in the object store, if they are.
        fetched_uri: Where its pod puts the variables to bring back, if any.
        upload_uri: The only place where it may save a model.
        timeout: Seconds that it may take.
        ttl_seconds: Seconds that it stays on the cluster after its end.
        trial: Whether it is a trial of a study.
        force_cleanup: Whether it is removed at its end.
    """

    kind: str = ""
    container: str = ""
    namespace: str = ""
    run: str = ""
    folder: str = ""
    secrets: tuple[str, ...] = ()
    payload: str = ""
    metrics: tuple[str, ...] = ()
    settings: dict[str, float] = {}
    work_uri: str = ""
    fetched_uri: str = ""
    upload_uri: str = ""
    timeout: float | None = None
    ttl_seconds: int | None = None
    trial: bool = False
    force_cleanup: bool = False

    def annotate(self, workload: Manifest) -> None:
        """Keep the record with a job that is to be created."""
        workload["metadata"]["annotations"][RECORD] = msgspec.json.encode(self).decode()

    @classmethod
    def of_workload(cls, workload: Manifest) -> JobRecord | None:
        """Return the record of a job on the cluster; ``None`` for one that we have not created."""
        metadata = workload["metadata"]
        noted = metadata.get("annotations", {})
        if RECORD in noted:
            record = msgspec.json.decode(noted[RECORD], type=cls)
        elif _TEXTS in noted:
            record = _of_texts(msgspec.json.decode(noted[_TEXTS], type=dict[str, str]))
        else:
            return None
        return msgspec.structs.replace(record, namespace=metadata["namespace"], run=metadata["labels"][labels.RUN])

    def ref(self, name: str) -> JobRef:
        """Return the reference of the job of that name."""
        return JobRef.of("kubernetes", name, self)

    @classmethod
    def of_ref(cls, ref: JobRef) -> JobRecord:
        """Return the record in a reference, as this version or an older one has written it."""
        if _FIELD in ref.data:
            return msgspec.json.decode(ref.data[_FIELD], type=cls)
        return _of_texts(ref.data) if ref.data else ref.read(cls)


def _of_texts(data: Mapping[str, str]) -> JobRecord:
    """Read a record as it was while all fields were texts."""
    return JobRecord(
        kind=data.get("kind", ""),
        container=data.get("container", ""),
        namespace=data.get("namespace", ""),
        run=data.get("run", ""),
        folder=data.get("folder", ""),
        secrets=tuple(filter(None, data.get("secrets", "").split(","))),
        payload=data.get("payload", ""),
        metrics=tuple(filter(None, data.get("metrics", "").split("\n"))),
        settings=msgspec.json.decode(data.get("settings", "{}")),
        work_uri=data.get("work", ""),
        fetched_uri=data.get("fetched", ""),
        upload_uri=data.get("upload", ""),
        timeout=float(data["timeout"]) if "timeout" in data else None,
        ttl_seconds=int(data["ttl"]) if "ttl" in data else None,
        trial="trial" in data,
        force_cleanup="force" in data,
    )
