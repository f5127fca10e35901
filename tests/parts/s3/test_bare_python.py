"""What the runtime needs travels through a real S3 server into a Python that has nothing, without a package index."""

from __future__ import annotations

import json
import os
import subprocess
import time
import venv
from pathlib import Path

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.images.progress import silent
from kaptain_magics.images.runtime_packages import this_platform
from kaptain_magics.storage import open_store
from kaptain_magics.targets.kubernetes.pods import package_bundles, payload
from kaptain_magics.targets.kubernetes.pods.package_bundles import LISTED, Packages, folder_of
from tests.seaweed import SeaweedFS

SOURCE = """
import importlib.metadata, sys
from pathlib import Path
from kaptain.platform.model_export_util import ModelExportUtil
Path("model.bin").write_bytes(b"weights")
ModelExportUtil().upload_model("model.bin")
print(importlib.metadata.version("minio"))
"""
AWAY = {"docker_host": "tcp://127.0.0.1:9", "image_platform": "linux/amd64"}
IMAGE = "127.0.0.1:9/nobody/bare:1"


@pytest.mark.s3
def test_a_python_without_anything_saves_a_model(
    seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert this_platform() is not None, "packages of this environment fit images of Linux with glibc only"
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # neither here
    bucket = f"s3://packages-{new_hex(8)}"
    job = JobSpec(
        name="mnist-job-1",
        run_id="run",
        model_id="dev/mnist",
        script=Script(name="training.py", source=SOURCE),
        framework=ModelFramework.SKLEARN,
        upload_uri=f"{bucket}/models/dev/mnist/trained/1",
    )
    packages = Packages(tmp_path / "cache", AWAY, lambda uri: open_store(uri, seaweed.env))
    assert json.loads(packages.listed(IMAGE, job.upload_uri, job.model_id))["bundles"] == {}
    open_store(bucket, seaweed.env).write(f"{bucket}/first", b"makes the bucket")
    packages.prepare(IMAGE, job.upload_uri, job.model_id, silent)
    assert packages.ready(IMAGE, job.upload_uri, job.model_id)
    folder, store = folder_of(job.upload_uri, job.model_id), open_store(bucket, seaweed.env)
    before = store.list(folder)
    again = Packages(tmp_path / "cache", AWAY, lambda uri: open_store(uri, seaweed.env))
    again.prepare(IMAGE, job.upload_uri, job.model_id, silent)
    assert store.list(folder) == before
    monkeypatch.setattr(package_bundles, "_REFRESH", -1.0)  # each use makes it young, by which it stays
    time.sleep(1.1)  # S3 has times in whole seconds
    Packages(tmp_path / "cache", AWAY, lambda uri: open_store(uri, seaweed.env)).prepare(
        IMAGE, job.upload_uri, job.model_id, silent
    )
    assert [entry.path for entry in store.list(folder)] == [entry.path for entry in before]
    assert all(new.modified > old.modified for new, old in zip(store.list(folder), before, strict=True))
    made = payload.for_job(job)
    made.files[LISTED] = packages.listed(IMAGE, job.upload_uri, job.model_id)

    inside, root = tmp_path / "opt", tmp_path / "root"
    inside.mkdir()
    root.mkdir()
    for name, content in made.files.items():
        (inside / name).write_bytes(content)
    program = (inside / "program.json").read_text().replace("/home/kaptain", str(root))
    (inside / "program.json").write_text(program)
    venv.create(tmp_path / "bare", symlinks=True)
    ran = subprocess.run(
        [str(tmp_path / "bare/bin/python"), "-u", str(inside / "start.py")],
        env={
            **seaweed.env,
            "PATH": os.environ["PATH"],
            "PIP_NO_INDEX": "1",
            "KAPTAIN_ROOT": str(root),
            "KAPTAIN_CHANNEL": "stdout",
            "TRAINED_MODEL_UPLOAD_PATH": job.upload_uri,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    from importlib.metadata import version

    said = [line for line in ran.stdout.splitlines() if not line.startswith("::kaptain::")]
    assert said[-1] == version("minio")
    assert open_store(bucket, seaweed.env).read(f"{job.upload_uri}/model.bin") == b"weights"
