"""Files that the server's options name are stored beside the deployed model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.errors import IntegrityError
from kaptain_magics.serving.process.artifact import verify_artifact
from kaptain_magics.storage import open_store
from kaptain_magics.supervisor.serving_files import find_serving_files, place_serving_files


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "data" / "__pycache__").mkdir(parents=True)
    for name in ("net.py", "blocks.py", "handler.py", "weights.pt", "data/names.json", "data/__pycache__/x.pyc"):
        (folder / name).write_text(name)
    return folder


def test_names_of_files_become_paths(work: Path) -> None:
    config = {"model_file": "net.py", "handler": "image_classifier", "protocol_version": "v2", "signature": "{}"}
    found = find_serving_files(config, work.joinpath, ["net.py", "blocks.py", "data"])
    assert found == config | {"model_file": f"{work}/net.py", "extra_files": f"{work}/net.py,{work}/blocks.py"}
    config = {"handler": "handler.py", "serialized_file": "absent.pt", "extra_files": "data, blocks.py"}
    assert find_serving_files(config, work.joinpath, ["net.py"]) == {
        "handler": f"{work}/handler.py",
        "serialized_file": "absent.pt",
        "extra_files": f"{work}/data,{work}/blocks.py",
    }


def test_they_are_stored_with_their_digests(work: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.pt").write_text("weights")
    store = open_store((tmp_path / "store").as_uri(), {})
    uri = (tmp_path / "store" / "deploy").as_uri()
    files = store.put(tmp_path / "model", uri, "pytorch", "pt").files
    config = {"model_file": "net.py", "handler": "handler.py", "extra_files": "data", "protocol_version": "v2"}
    spec = EndpointSpec(
        name="net",
        run_id="r",
        model_id="dev/net",
        revision="0" * 32,
        artifact_uri=uri,
        framework=ModelFramework.PYTORCH,
        files=files,
        serving_config=find_serving_files(config, work.joinpath),
    )
    placed = place_serving_files(store, spec)
    assert placed.serving_config == {"model_file": "net.py", "handler": "handler.py", "protocol_version": "v2"}
    assert set(placed.files) == {"model.pt", "net.py", "handler.py", "data/names.json"}
    assert placed.files["net.py"] == hashlib.sha256(b"net.py").hexdigest()
    manifest = store.manifest(uri)
    assert (manifest.files, manifest.framework) == (placed.files, "pytorch")
    assert manifest.size == sum(len(name) for name in ("weights", "net.py", "handler.py", "data/names.json"))
    folder = tmp_path / "store" / "deploy"
    assert verify_artifact(folder, placed.files) == folder
    (folder / "net.py").write_text("other")
    with pytest.raises(IntegrityError):
        verify_artifact(folder, placed.files)
    assert place_serving_files(store, placed) == placed
