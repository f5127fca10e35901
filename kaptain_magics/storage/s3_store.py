"""The object store in an S3 server: what the transfer of jobs does not need is here (copying, deleting)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial

from kaptain_magics.runtime.job_errors import DeniedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.manifest import MANIFEST
from kaptain_magics.runtime.s3 import S3Transfer
from kaptain_magics.storage.base import BaseStore


class S3Store(BaseStore):
    """Objects are S3's; see ``ObjectStore``.

    Args:
        base: The folder below which it may delete.
        env: The settings of ``S3Client``.
    """

    _transfer: S3Transfer

    def __init__(self, base: Location, env: Mapping[str, str]) -> None:
        super().__init__(base, S3Transfer(env))
        self._client = self._transfer.client

    def __repr__(self) -> str:
        return f"S3Store({str(self.base)!r}, {self._client.endpoint!r})"

    def _copy(self, objects: Mapping[Location, Location]) -> None:
        for bucket in {target.bucket for target in objects.values()} - {source.bucket for source in objects}:
            if not self._client.call(partial(self._client.minio.bucket_exists, bucket)):
                self._client.make_bucket(bucket)  # servers differ in what they say to a copy into no bucket
        self._run(partial(self._copy_one, source, target) for source, target in objects.items())

    def _copy_one(self, source: Location, target: Location, stopped: threading.Event) -> None:
        from minio.commonconfig import CopySource

        copy_source = CopySource(source.bucket, source.key)
        self._client.call(partial(self._client.minio.copy_object, target.bucket, target.key, copy_source), stopped)

    def _remove(self, folder: Location, names: set[str]) -> None:
        from minio.deleteobjects import DeleteObject

        def remove() -> None:
            objects = [DeleteObject((folder / name).key) for name in sorted(names)]
            for error in self._client.minio.remove_objects(folder.bucket, objects):
                kind = DeniedError if error.code == "AccessDenied" else TransferError
                raise kind(
                    f"s3://{folder.bucket}/{error.name} cannot be deleted: {error.code}", "check the bucket's policy"
                )

        if names:
            self._client.call(remove)

    def _delete(self, target: Location) -> None:
        self._abort_uploads(target)
        names = set(self._transfer.entries(target))
        if MANIFEST in names:  # what is left after a crash must not look whole
            self._remove(target, {MANIFEST})
        self._remove(target, names - {MANIFEST})
        try:
            self._client.call(partial(self._client.minio.remove_object, target.bucket, target.key))
        except MissingError:
            return

    def _abort_uploads(self, target: Location) -> None:
        """End interrupted uploads at and below the target; servers that do not list them keep them."""
        multipart = self._transfer.multipart
        try:
            uploads = self._client.call(partial(multipart.unfinished, target))
        except (MissingError, DeniedError):
            return
        for upload in uploads:
            at = Location(target.bucket, upload.object_name)
            if target.holds(at):
                try:
                    self._client.call(partial(multipart.abort, at, upload.upload_id))
                except MissingError:
                    continue

    def _run(self, jobs: Iterable[Callable[[threading.Event], None]]) -> None:
        with closing(self._transfer.in_order(jobs)) as results:
            for _ in results:
                pass
