"""Whether what a job needs at its end can be reached: looked at before the script runs, not after hours of training."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping

from kaptain_magics.runtime.job_errors import DeniedError, TransferError
from kaptain_magics.runtime.location import Location

_RETRY_SECONDS = 20.0  # seconds for a server that restarts
_MAY_NOT_LIST = ("AccessDenied", "AllAccessDisabled")  # of one who may still store


def check_store(uri: str, env: Mapping[str, str]) -> None:
    """Ask the store that a model is to be saved to whether it answers, is trusted and knows the credentials.

    Raises:
        TransferError: It does not.
    """
    from kaptain_magics.runtime.s3_client import NoBucketError, S3Client

    location = Location.parse(uri)
    if not location.bucket:
        return
    client = S3Client({**env, "KAPTAIN_STORAGE_PATIENCE": str(_RETRY_SECONDS)})
    try:
        client.call(lambda: next(iter(client.minio.list_objects(location.bucket, f"{location.key}/")), None))
    except NoBucketError:
        return  # it is made when something is saved
    except DeniedError as error:
        if not error.message.endswith(_MAY_NOT_LIST):
            raise


def store_is_ready() -> bool:
    """Whether this job's store can be used; says on standard error why not."""
    uri = os.environ.get("TRAINED_MODEL_UPLOAD_PATH", "")
    try:
        if uri:
            check_store(uri, os.environ)
    except TransferError as error:
        traceback.print_exception(type(error), error, None)
        return False
    return True
