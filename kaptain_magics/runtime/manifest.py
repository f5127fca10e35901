"""The manifest: written last into a saved folder, so a folder without one is incomplete."""

from __future__ import annotations

import json
import time
from typing import NamedTuple

from kaptain_magics.runtime.job_errors import DamagedError, TransferError
from kaptain_magics.runtime.location import relative_key

MANIFEST = "kaptain-manifest.json"


class Manifest(NamedTuple):
    """What a saved folder holds.

    Attributes:
        files: sha256 (hex) of every file, by path relative to the folder; the manifest itself is not among them.
        size: Bytes of all files.
        framework: The framework that the model was saved for, empty when unknown.
        format: The file format, such as ``joblib``, empty when unknown.
        created: Seconds since 1970; 0 takes the time of writing.
    """

    files: dict[str, str]
    size: int
    framework: str = ""
    format: str = ""
    created: float = 0.0

    def encode(self) -> bytes:
        """Return the content of the manifest's file: JSON with sorted keys."""
        fields = self._replace(created=self.created or time.time())._asdict()
        return (json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes, folder: str) -> Manifest:
        """Read the manifest of ``folder``.

        Raises:
            DamagedError: It is not a manifest, or names files outside its folder.
        """
        try:
            fields = json.loads(data)
            files = {str(path): str(digest) for path, digest in fields["files"].items()}
            texts = [*files, *files.values(), str(fields.get("framework", "")), str(fields.get("format", ""))]
            "".join(texts).encode()  # half characters cannot be shown, nor be names of files
            if any(relative_key(path) != path for path in files):
                raise ValueError
            return cls(
                files,
                int(fields["size"]),
                str(fields.get("framework", "")),
                str(fields.get("format", "")),
                float(fields.get("created", 0)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, TransferError):
            raise DamagedError(f"the manifest in {folder} cannot be read", "save the model again") from None
