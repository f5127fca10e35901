"""Export of a model from inside a job into an S3 server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaptain_magics.runtime.export import upload_model
from kaptain_magics.storage import open_store
from tests.seaweed import SeaweedFS


@pytest.mark.s3
def test_the_bucket_is_made_and_calls_add_up(
    seaweed: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        **seaweed.env,
        "S3_ENDPOINT": seaweed.endpoint.removeprefix("http://"),
        "TRAINED_MODEL_UPLOAD_PATH": "s3://export-test/models/dev/mnist/trained/1/",
        "KAPTAIN_FRAMEWORK": "sklearn",
        "KAPTAIN_CHANNEL": f"file:{tmp_path}/channel",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("model.joblib", "scaler.joblib"):
        Path(name).write_text(name)
        assert upload_model(name) == "s3://export-test/models/dev/mnist/trained/1"
    files = json.loads((tmp_path / "channel").read_text().splitlines()[1])["files"]
    assert set(files) == {"model.joblib", "scaler.joblib"}
    store = open_store("s3://export-test/models", seaweed.env)
    assert store.manifest("s3://export-test/models/dev/mnist/trained/1").files == files
