"""What this package's own parts need beyond the standard library, wherever they run: one list for all targets."""

from __future__ import annotations

_BY_VALUE = "cloudpickle>=3.0"  # writes and reads models with code of the script; joblib brings a copy of it
STORAGE_PACKAGES = ("minio>=7.2", _BY_VALUE)  # the runtime of a job, for s3://
SERVING_PACKAGES = (_BY_VALUE, "msgspec>=0.19", "numpy", "orjson>=3.10", "httptools>=0.6.4", "uvloop>=0.21")
OWN_PACKAGES = tuple(dict.fromkeys((*STORAGE_PACKAGES, *SERVING_PACKAGES)))
OPTIONAL = ("uvloop",)  # by normalised name: does its work faster, and has no wheel for some platforms
