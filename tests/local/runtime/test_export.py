"""Export of a model from inside a job, through the SDK's own names."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.runtime.export import upload_folder, upload_model
from kaptain_magics.runtime.job_errors import ExportError, TransferError
from kaptain_magics.runtime.manifest import MANIFEST

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The working folder of a job; returns the facts that it sent."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TRAINED_MODEL_UPLOAD_PATH", f"file://{tmp_path}/store/dev/mnist/trained/1")
    monkeypatch.setenv("KAPTAIN_FRAMEWORK", "sklearn")
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{tmp_path}/channel")
    return lambda: [json.loads(line) for line in (tmp_path / "channel").read_text().splitlines()]


def stored(tmp_path: Path) -> dict[str, bytes]:
    base = tmp_path / "store/dev/mnist/trained/1"
    return {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}


def write(name: str, data: str = "x") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    return path


def test_a_file(job: Any, tmp_path: Path) -> None:
    write("out/model.joblib", "the model")
    uri = upload_model("out/model.joblib")
    digest = hashlib.sha256(b"the model").hexdigest()
    assert uri == os.environ["TRAINED_MODEL_UPLOAD_PATH"]
    files = stored(tmp_path)
    manifest = json.loads(files.pop(MANIFEST))
    assert files == {"model.joblib": b"the model"}
    assert manifest.pop("created") > 1.7e9
    assert manifest == {"files": {"model.joblib": digest}, "size": 9, "framework": "sklearn", "format": "joblib"}
    (fact,) = job()
    assert fact.pop("time") > 1.7e9
    assert fact == {"kind": "artifact", "uri": uri, **manifest}


def test_a_folder(job: Any, tmp_path: Path) -> None:
    write("net/a.bin")
    write("net/deep/b.bin")
    upload_model(Path("net"))
    assert set(stored(tmp_path)) == {"a.bin", "deep/b.bin", MANIFEST}


def test_saved_model_gets_its_version_folder(job: Any, tmp_path: Path) -> None:
    write("mnist/saved_model.pb")
    write("mnist/variables/variables.index")
    upload_model("mnist")
    assert set(stored(tmp_path)) == {"0001/saved_model.pb", "0001/variables/variables.index", MANIFEST}
    assert job()[0]["format"] == "saved_model"
    write("versioned/7/saved_model.pb")
    upload_model("versioned")
    assert "7/saved_model.pb" in stored(tmp_path)


def test_mlflow_folder(job: Any, tmp_path: Path) -> None:
    write("m/MLmodel")
    upload_model("m")
    assert job()[0]["format"] == "mlflow"


@pytest.mark.parametrize("extra", ["labels.txt", Path("labels.txt"), ["labels.txt", "vocabulary"], ("labels.txt",)])
def test_extra_files(job: Any, tmp_path: Path, extra: Any) -> None:
    write("model.pt")
    write("labels.txt")
    write("vocabulary/words/en.txt")
    upload_model("model.pt", extra_files=extra)
    more = {"vocabulary/words/en.txt"} if isinstance(extra, list) else set()
    assert set(stored(tmp_path)) == {"model.pt", "labels.txt", MANIFEST} | more


def test_calls_add_up(job: Any, tmp_path: Path) -> None:
    write("model.joblib", "first")
    upload_model("model.joblib")
    upload_model(write("scaler.joblib", "123"))
    upload_model(write("model.joblib", "second!"))
    files = stored(tmp_path)
    manifest = json.loads(files[MANIFEST])
    assert files["model.joblib"] == b"second!"
    assert manifest["size"] == 10
    assert manifest["files"] == {n: hashlib.sha256(files[n]).hexdigest() for n in ("model.joblib", "scaler.joblib")}
    assert [len(fact["files"]) for fact in job()] == [1, 2, 2]


def test_upload_folder_names_what_it_is(job: Any, tmp_path: Path) -> None:
    write("saved/model.ubj")
    assert upload_folder(Path("saved"), "xgboost", "ubj") == os.environ["TRAINED_MODEL_UPLOAD_PATH"]
    assert [job()[0][key] for key in ("framework", "format")] == ["xgboost", "ubj"]


def test_links_are_followed(job: Any, tmp_path: Path) -> None:
    write("elsewhere/weights/w.bin", "data")
    Path("net").mkdir()
    Path("net/weights").symlink_to(tmp_path / "work/elsewhere/weights")
    Path("net/w.bin").symlink_to(tmp_path / "work/elsewhere/weights/w.bin")
    upload_model("net")
    assert stored(tmp_path)["weights/w.bin"] == stored(tmp_path)["w.bin"] == b"data"


def test_refusals(job: Any, tmp_path: Path) -> None:
    Path("empty").mkdir()
    write("model.joblib")
    write(MANIFEST)
    write("loop/a")
    Path("loop/again").symlink_to(tmp_path / "work/loop")
    os.mkfifo("pipe")
    Path("odd").mkdir()
    os.mkfifo("odd/pipe")
    for call, words in (
        (lambda: upload_model("model.pkl"), "there is no model.pkl in"),
        (lambda: upload_model("model.joblib", ["labels.txt"]), "there is no labels.txt"),
        (lambda: upload_model("empty"), "the folder empty is empty"),
        (lambda: upload_folder(Path("empty")), "is empty"),
        (lambda: upload_model("model.joblib", MANIFEST), "written by the export itself"),
        (lambda: upload_model("loop"), "links to a folder that contains it"),
        (lambda: upload_model("odd"), "is not a regular file"),
    ):
        with pytest.raises((ExportError, TransferError), match=words) as error:
            call()
        assert error.value.hint
    assert stored(tmp_path) == {}
    assert not (tmp_path / "channel").exists()


def test_outside_a_job(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINED_MODEL_UPLOAD_PATH")
    write("model.joblib")
    write("labels.txt")
    folder = upload_model("model.joblib")
    assert Path(folder).parent == Path.cwd() / "models"
    assert upload_model("labels.txt") == folder
    assert {path.name for path in Path(folder).iterdir()} == {"model.joblib", "labels.txt", MANIFEST}


def test_the_sdk_in_a_bare_job(job: Any, tmp_path: Path) -> None:
    """Only ``kaptain`` and ``kaptain_magics.runtime`` are laid into an image."""
    lib = tmp_path / "lib"
    (lib / "kaptain_magics").mkdir(parents=True)
    (lib / "kaptain_magics/__init__.py").symlink_to(ROOT / "kaptain_magics/__init__.py")
    (lib / "kaptain_magics/runtime").symlink_to(ROOT / "kaptain_magics/runtime")
    (lib / "kaptain").mkdir()
    (lib / "kaptain/__init__.py").symlink_to(ROOT / "kaptain_magics/sdk/kaptain/__init__.py")
    (lib / "kaptain/platform").mkdir()
    for name in ("__init__.py", "model_export_util.py", "metadata_util.py"):
        (lib / "kaptain/platform" / name).symlink_to(ROOT / "kaptain_magics/sdk/kaptain/platform" / name)
    code = """
from kaptain.platform.model_export_util import ModelExportUtil
from kaptain.platform.metadata_util import MetadataUtil
import kaptain
open("model.joblib", "w").write("x")
print(ModelExportUtil().upload_model("model.joblib"))
MetadataUtil.record_metrics({"accuracy": 0.9})
kaptain.log_metrics(loss=0.1, step=1)
"""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(lib)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.strip() == os.environ["TRAINED_MODEL_UPLOAD_PATH"]
    assert [fact["kind"] for fact in job()] == ["artifact", "metric", "metric"]
