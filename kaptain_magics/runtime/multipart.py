"""The six calls of S3's multipart uploads, which minio has but does not offer in public.

An upload that was interrupted goes on where it ended: for that its parts must be listed, sent one by one and completed
by hand. This is the only place that uses minio's private methods, which is why minio has an upper bound; the tests of
``tests/parts/s3/test_storage_faults.py`` and ``tests/parts/s3/test_stores.py`` make all of them on a real server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kaptain_magics.runtime.location import Location


class Multipart:
    """Multipart uploads of one S3 server.

    Args:
        minio: minio's client.
    """

    def __init__(self, minio: Any) -> None:
        self._minio = minio

    def create(self, target: Location) -> str:
        """Begin an upload and return its id."""
        return str(self._minio._create_multipart_upload(target.bucket, target.key, {}))

    def send(self, target: Location, upload_id: str, number: int, data: bytes) -> str:
        """Send a part, numbered from 1, and return its tag."""
        return str(self._minio._upload_part(target.bucket, target.key, data, None, upload_id, number))

    def complete(self, target: Location, upload_id: str, tags: Iterable[str]) -> None:
        """Make the object of its parts, whose tags are in their order."""
        from minio.datatypes import Part

        parts = [Part(number, tag) for number, tag in enumerate(tags, 1)]
        self._minio._complete_multipart_upload(target.bucket, target.key, upload_id, parts)

    def abort(self, target: Location, upload_id: str) -> None:
        """End an upload and remove its parts."""
        self._minio._abort_multipart_upload(target.bucket, target.key, upload_id)

    def unfinished(self, target: Location) -> list[Any]:
        """Return the uploads whose keys begin with the target's.

        Each has ``object_name``, ``upload_id`` and ``initiated_time``.
        """
        return list(self._minio._list_multipart_uploads(target.bucket, prefix=target.key).uploads)

    def parts(self, target: Location, upload_id: str) -> Iterator[Any]:
        """Yield the parts that are there; each has ``part_number``, ``size`` and ``etag``."""
        marker: str | None = None
        while True:
            page = self._minio._list_parts(target.bucket, target.key, upload_id, part_number_marker=marker)
            yield from page.parts
            if not page.is_truncated:
                return
            marker = str(page.next_part_number_marker)
