"""``config.properties`` of TorchServe, as the contract writes it for a person to change."""

from __future__ import annotations

import json
from pathlib import Path

from kaptain_magics.files import write_whole

_PROPERTIES = {
    "inference_address": "http://0.0.0.0:8085",
    "management_address": "http://0.0.0.0:8081",
    "number_of_netty_threads": "4",
    "service_envelope": "kfserving",
    "install_py_dep_per_model": "true",
    "job_queue_size": "10",
    "model_store": "/mnt/models/model-store",
}
_WORKERS = {"minWorkers": 1, "maxWorkers": 5, "batchSize": 1, "maxBatchDelay": 5000, "responseTimeout": 120}


class TorchServingArtifactBuilder:
    """Writes what TorchServe is configured with. Our own server, which serves PyTorch models here, does not read it."""

    @staticmethod
    def write_config_properties(model_name: str, mar_file: str, folder: str) -> str:
        """Write the default ``config.properties`` of a model.

        Args:
            model_name: The model's name in the server.
            mar_file: The file name of its archive.
            folder: Where the file goes.

        Returns:
            The file's path.

        Raises:
            StateError: It cannot be written.
        """
        version = {"defaultVersion": True, "marName": mar_file, **_WORKERS}
        snapshot = {"name": "startup.cfg", "modelCount": 1, "models": {model_name: {"1.0": version}}}
        properties = {**_PROPERTIES, "model_snapshot": json.dumps(snapshot)}
        path = Path(folder) / "config.properties"
        write_whole(path, "".join(f"{name}={value}\n" for name, value in properties.items()).encode())
        return str(path)
