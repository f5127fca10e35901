"""Objects in an S3 server: parts in parallel, an interrupted upload goes on where it ended."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from kaptain_magics.runtime.directory import Entry, atomic_write, translate_os_errors
from kaptain_magics.runtime.job_errors import DamagedError, DeniedError, MissingError, TransferError
from kaptain_magics.runtime.location import Location
from kaptain_magics.runtime.multipart import Multipart
from kaptain_magics.runtime.s3_client import PARALLEL, NoBucketError, NoUploadError, S3Client

T = TypeVar("T")
PART = 8 << 20  # bytes of a part, and of the largest file that is sent as one
_MOST_PARTS = 10_000  # S3 takes no more in one upload
_WAITING = 2  # parts in memory beyond those in flight


def part_size(size: int) -> int:
    """Return the bytes of each part of an object of ``size`` bytes: always the same, so that parts can be resumed."""
    return max(PART, -(-size // _MOST_PARTS))


class S3Transfer:
    """Moves files to and from an S3 server; see ``transfer.Transfer``.

    Args:
        env: The settings of ``S3Client``.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.client = S3Client(env)
        self.multipart = Multipart(self.client.minio)

    def __repr__(self) -> str:
        return f"S3Transfer({self.client.endpoint!r})"

    def entries(self, folder: Location) -> dict[str, Entry]:
        """Return every object below a folder by its relative path; nothing when the folder is not there."""
        prefix = f"{folder.key}/" if folder.key else ""

        def listed() -> list[Any]:
            return list(self.client.minio.list_objects(folder.bucket, prefix, recursive=True))

        try:
            objects = self.client.call(listed)
        except NoBucketError:
            return {}
        listed_entries = (_entry(item, item.object_name.removeprefix(prefix)) for item in objects)
        return {entry.path: entry for entry in listed_entries if entry.path and not entry.path.endswith("/")}

    def entry(self, target: Location) -> Entry | None:
        """Return the object itself, or ``None``."""
        if not target.key:
            return None
        try:
            status = self.client.call(lambda: self.client.minio.stat_object(target.bucket, target.key))
        except MissingError:
            return None
        except DeniedError:  # an answer to HEAD has no text; this one says why
            self.entries(target)
            raise
        return _entry(status, target.key.rpartition("/")[2])

    def send(self, source: Path, target: Location, existing: Entry | None = None) -> str:
        """Store a file and return its sha256; ``existing`` is the object that is there already."""
        with translate_os_errors(source):
            if source.stat().st_size <= PART:
                return self._send_whole(source, target, existing, threading.Event())
            return self._send_parts(source, target, existing)

    def send_all(self, files: Mapping[str, Path], folder: Location, existing: Mapping[str, Entry]) -> dict[str, str]:
        """Store files below a folder, small ones in parallel; returns their sha256 by name."""
        small = [name for name, source in files.items() if source.stat().st_size <= PART]
        jobs = (partial(self._send_whole, files[name], folder / name, existing.get(name)) for name in small)
        with closing(self.in_order(jobs)) as digests:
            sent = dict(zip(small, digests, strict=True))
        large = [name for name in files if name not in sent]
        return sent | {name: self.send(files[name], folder / name, existing.get(name)) for name in large}

    def fetch(self, source: Location, target: Path, entry: Entry) -> str:
        """Bring the object ``entry`` to a file and return its sha256."""
        starts = range(0, entry.size, PART) or range(1)
        jobs = (partial(self._get, source, entry, start) for start in starts)
        digest = hashlib.sha256()
        with closing(self.in_order(jobs)) as blocks, atomic_write(target) as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
        return digest.hexdigest()

    def fetch_all(self, names: Mapping[str, Path], folder: Location, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Bring objects of a folder to files, small ones in parallel; returns their sha256 by name."""
        small = [name for name in names if entries[name].size <= PART]
        jobs = (partial(self._fetch_whole, folder / name, names[name], entries[name]) for name in small)
        with closing(self.in_order(jobs)) as digests:
            fetched = dict(zip(small, digests, strict=True))
        large = [name for name in names if name not in fetched]
        return fetched | {name: self.fetch(folder / name, names[name], entries[name]) for name in large}

    def read(self, source: Location) -> bytes:
        """Return an object's bytes."""
        return self.client.call(partial(self._read, source, {}))

    def write(self, target: Location, data: bytes) -> None:
        """Store bytes as an object."""
        self._put(target, data, threading.Event())

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PARALLEL, thread_name_prefix="kaptain-s3")

    def in_order(self, jobs: Iterable[Callable[[threading.Event], T]]) -> Generator[T, None, None]:
        """Run jobs in parallel and yield their results in order; jobs are taken as there is room for them."""
        stopped = threading.Event()
        running: deque[Future[T]] = deque()
        try:
            for job in jobs:
                running.append(self._pool.submit(job, stopped))
                if len(running) >= PARALLEL + _WAITING:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            stopped.set()
            for future in running:
                future.cancel()

    def _read(self, source: Location, headers: dict[str, str], start: int = 0, length: int = 0) -> bytes:
        response = self.client.minio.get_object(source.bucket, source.key, start, length, headers)
        try:
            return bytes(response.read())
        finally:
            response.release_conn()

    def _get(self, source: Location, entry: Entry, start: int, stopped: threading.Event) -> bytes:
        length = min(PART, entry.size - start)
        headers = {"If-Match": f'"{entry.etag}"'} if entry.etag else {}
        data = self.client.call(partial(self._read, source, headers, start, length), stopped)
        if len(data) != length:
            raise DamagedError(f"{source} changed while it was read", "try again")
        return data

    def _fetch_whole(self, source: Location, target: Path, entry: Entry, stopped: threading.Event) -> str:
        data = self._get(source, entry, 0, stopped)
        with atomic_write(target) as file:
            file.write(data)
        return hashlib.sha256(data).hexdigest()

    def _put(self, target: Location, data: bytes, stopped: threading.Event) -> None:
        def put() -> None:
            self.client.minio.put_object(target.bucket, target.key, io.BytesIO(data), len(data), part_size=PART)

        self.client.call_with_bucket(target.bucket, put, stopped)

    def _send_whole(self, source: Path, target: Location, existing: Entry | None, stopped: threading.Event) -> str:
        with translate_os_errors(source):
            data = source.read_bytes()
        if existing is None or existing.size != len(data) or existing.etag != _md5(data):
            self._put(target, data, stopped)
        return hashlib.sha256(data).hexdigest()

    def _send_parts(self, source: Path, target: Location, existing: Entry | None) -> str:
        size = source.stat().st_size
        if existing is not None and existing.size == size:
            tags, digest = _tags(source, size)
            if existing.etag == _joined(tags):
                return digest
        try:
            return _Upload(self, source, target, size).run()
        except NoUploadError:  # the server forgot it, or another client aborted it
            return _Upload(self, source, target, size).run()


class _Upload:
    """One multipart upload of a file, from its first missing part to its end."""

    def __init__(self, transfer: S3Transfer, source: Path, target: Location, size: int) -> None:
        self._transfer, self._source, self._target, self._size = transfer, source, target, size
        self._client, self._multipart = transfer.client, transfer.multipart
        self._digest = hashlib.sha256()
        self._upload_id, self._stored_parts = self._unfinished()

    def run(self) -> str:
        if not self._upload_id:
            create = partial(self._multipart.create, self._target)
            self._upload_id = self._client.call_with_bucket(self._target.bucket, create)
        with closing(self._transfer.in_order(self._parts())) as tags:
            sent = list(tags)
        self._complete(sent)
        return self._digest.hexdigest()

    def _parts(self) -> Iterator[Callable[[threading.Event], str]]:
        """Read the file once, hashing it, and yield what is to be done with each part."""
        left = self._size
        with translate_os_errors(self._source), open(self._source, "rb") as file:
            number = 1
            while data := file.read(part_size(self._size)):
                self._digest.update(data)
                left -= len(data)
                yield partial(self._send, number, data)
                number += 1
        if left:
            raise TransferError(f"{self._source} changed while it was stored", "store it again when it is complete")

    def _send(self, number: int, data: bytes, stopped: threading.Event) -> str:
        stored = self._stored_parts.get(number)
        if stored is not None and stored.size == len(data) and stored.etag == _md5(data):
            return str(stored.etag)
        return self._client.call(partial(self._multipart.send, self._target, self._upload_id, number, data), stopped)

    def _complete(self, tags: list[str]) -> None:
        try:
            self._client.call(partial(self._multipart.complete, self._target, self._upload_id, tags))
        except NoUploadError:  # perhaps it was completed and the answer was lost
            entry = self._transfer.entry(self._target)
            if entry is None or entry.size != self._size or entry.etag != _joined(tags):
                raise

    def _unfinished(self) -> tuple[str, dict[int, Any]]:
        """Return the newest interrupted upload to the same key and its parts by number."""
        try:
            listed = self._client.call(partial(self._multipart.unfinished, self._target))
            uploads = [upload for upload in listed if upload.object_name == self._target.key]
            if not uploads:
                return "", {}
            upload_id = max(uploads, key=lambda upload: upload.initiated_time).upload_id
            parts = self._client.call(lambda: list(self._multipart.parts(self._target, upload_id)))
            return upload_id, {part.part_number: part for part in parts}
        except (MissingError, DeniedError):
            return "", {}


def _entry(item: Any, path: str) -> Entry:
    modified = item.last_modified.timestamp() if item.last_modified else 0.0
    return Entry(path, item.size or 0, modified, (item.etag or "").strip('"'))


def _md5(data: bytes) -> str:
    """Return S3's tag of one part."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _joined(tags: list[str]) -> str:
    """Return S3's tag of an object made of parts with these tags; empty when the server has tags of its own kind."""
    try:
        joined = b"".join(bytes.fromhex(tag) for tag in tags)
    except ValueError:
        return ""
    return f"{_md5(joined)}-{len(tags)}"


def _tags(source: Path, size: int) -> tuple[list[str], str]:
    tags, digest = [], hashlib.sha256()
    with open(source, "rb") as file:
        while data := file.read(part_size(size)):
            tags.append(_md5(data))
            digest.update(data)
    return tags, digest.hexdigest()
