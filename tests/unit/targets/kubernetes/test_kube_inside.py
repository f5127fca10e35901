"""What runs in pods: the entry puts a trial's values in place and waits for Katib's collector."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.domains import Categorical, Double, Integer
from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Binding, Capture, Script
from kaptain_magics.core.specs import ImageSpec, JobSpec, StudySpec
from kaptain_magics.errors import TargetError
from kaptain_magics.images.build_context import Entry
from kaptain_magics.script import bindings, capture
from kaptain_magics.targets.kubernetes.api.exit_reason import exit_reason
from kaptain_magics.targets.kubernetes.inside import start
from kaptain_magics.targets.kubernetes.pods import payload


def job(source: str = "print(1)", **changes: Any) -> JobSpec:
    given = {
        "name": "mnist-job-1",
        "run_id": "run",
        "model_id": "dev/mnist",
        "script": Script(name="training.py", source=source),
        "framework": ModelFramework.SKLEARN,
        "upload_uri": "s3://kaptain/models/dev/mnist/trained/1",
    }
    return JobSpec(**{**given, **changes})


def lay_out(made: payload.Payload, folder: Path) -> Path:
    inside = folder / "opt"
    inside.mkdir(parents=True)
    for name, content in made.files.items():
        (inside / name).write_bytes(content)
    return inside


def run(made: payload.Payload, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the entry as a pod does, with a root of the test's own."""
    inside, root = lay_out(made, folder), folder / "root"
    root.mkdir()
    program = (inside / "program.json").read_text().replace("/home/kaptain", str(root))
    (inside / "program.json").write_text(program)
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRAINED_MODEL_UPLOAD_PATH")}
    return subprocess.run(
        [sys.executable, "-u", str(inside / "start.py")],
        env={**clean, "KAPTAIN_ROOT": str(root), "KAPTAIN_CHANNEL": "stdout", **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.interpreter
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('no such digit')", ("the script raised ValueError: no such digit", "")),
        ("import sys; sys.excepthook = print; raise ValueError('x' * 9000)", ("the script ended with exit code 1", "")),
        ("print('fine')", ("the script ended with exit code 1", "")),
    ],
)
def test_a_failures_reason_stays_in_the_pods_state(tmp_path: Path, source: str, reason: tuple[str, str]) -> None:
    note = tmp_path / "termination-log"
    note.touch()
    run(payload.for_job(job(source)), tmp_path / "pod", KAPTAIN_TERMINATION_LOG=str(note))
    assert exit_reason({"exitCode": 1, "message": note.read_text()}, "") == reason


def test_our_own_failure_is_noted_with_its_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "termination-log"
    monkeypatch.setattr(start, "TERMINATION", note)
    assert start.fail("the store is away", "look at it") == 1
    assert not note.exists()  # of a container without such a file
    note.touch()
    start.fail("the store is away", "look at it")
    assert exit_reason({"exitCode": 1, "message": note.read_text()}, "") == ("the store is away", "look at it")


@pytest.mark.interpreter
def test_a_script_runs_with_files_and_runtime(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2")
    source = """
import sys, os
import kaptain
from pathlib import Path
print(sys.argv[1:], Path("rows.csv").read_text(), Path(kaptain.__file__).parts[-3])
print("to stderr", file=sys.stderr)
kaptain.log_metrics(accuracy=0.5)
"""
    made = payload.for_job(job(source, parameters={"gamma": 0.1}, files=(str(tmp_path / "rows.csv"),)))
    done = run(made, tmp_path / "pod")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("['--gamma', '0.1'] 1,2 lib\nto stderr\n::kaptain::")
    assert done.stdout.endswith("accuracy=0.5\n")
    assert done.stderr == ""


@pytest.mark.interpreter
def test_a_trials_values_come_from_its_environment(tmp_path: Path) -> None:
    source = "import sys\nrate = 0.5\nkind = 'x'\nprint(sys.argv[1:], rate, kind)\n"
    template = job(source, bindings={"rate": Binding.ASSIGNMENT, "kind": Binding.ASSIGNMENT}, args=("--data", "a b"))
    study = StudySpec(
        name="s",
        run_id="run",
        model_id="dev/mnist",
        job=template,
        domains={"--gamma": Double(0, 1), "rate": Double(0, 1), "kind": Categorical((1, "a=b"))},
        objectives=("accuracy",),
    )
    done = run(payload.for_study(study), tmp_path, KAPTAIN_TRIAL_PARAMETERS="--gamma=0.25\nrate=1e-3\nkind=1")
    assert done.stdout == "['--gamma', '0.25', '--data', 'a b'] 0.001 1\n", done.stderr


def test_a_trials_values_are_spelled_as_a_jobs() -> None:
    script = capture("""
import argparse
p = argparse.ArgumentParser()
p.add_argument("--no-x", action="store_false", dest="x")
p.add_argument("--warm", type=bool)
p.add_argument("--layers", nargs="+")
q = p.add_subparsers().add_parser("train")
q.add_argument("--lr", type=float)
p.parse_args()
""")
    domains = {
        "x": Integer(0, 1),
        "warm": Categorical(("true", "false")),
        "layers": Categorical(("1 2", "None")),
        "lr": Double(-1, 1),
    }
    template = msgspec.structs.replace(
        job(""), script=script, parameters={}, bindings=bindings(script, domains), args=("train",)
    )
    study = StudySpec(
        name="s", run_id="run", model_id="dev/mnist", job=template, domains=domains, objectives=("accuracy",)
    )
    for values in (
        {"x": "0", "warm": "false", "layers": "1 2", "lr": "-0.5"},
        {"x": "1", "warm": "true", "layers": "None", "lr": "0.5"},
    ):
        program = json.loads(payload.for_study(study).files["program.json"])
        start.insert_parameters(program, "\n".join(f"{name}={text}" for name, text in values.items()))
        assert tuple(program["argv"]) == msgspec.structs.replace(template, parameters=values).argv


def test_words_by_their_place_come_first_and_in_order() -> None:
    script = capture("import sys\nlr, epochs = float(sys.argv[1]), int(sys.argv[2])\n")
    domains = {"epochs": Integer(1, 9), "lr": Double(0, 1)}
    template = msgspec.structs.replace(job(""), script=script, parameters={}, bindings=bindings(script, domains))
    study = StudySpec(name="s", run_id="run", model_id="m", job=template, domains=domains, objectives=("accuracy",))
    program = json.loads(payload.for_study(study).files["program.json"])
    start.insert_parameters(program, "epochs=3\nlr=0.5")
    assert program["argv"][:2] == ["0.5", "3"]
    fixed = msgspec.structs.replace(
        study,
        domains={"epochs": domains["epochs"]},
        job=msgspec.structs.replace(template, parameters={"lr": 0.1}),
    )
    with pytest.raises(TargetError, match="Katib cannot search a word of the command line behind lr"):
        payload.for_study(fixed)


@pytest.mark.interpreter
def test_a_missing_module_and_an_exit_code(tmp_path: Path) -> None:
    done = run(payload.for_job(job("import sys\nsys.exit(7)")), tmp_path)
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("binding", "text", "argv", "assignments"),
    [
        ("option", "0.1", ["--x", "0.1"], {}),
        ("switch", "true", ["--x"], {}),
        ("switch", "False", [], {}),
        ("count", "2", ["--x", "--x"], {}),
        ("option", "-1e-5", ["--x=-1e-5"], {}),
        ("position", "-0.5", ["-0.5"], {}),
        ("override", "-0.5", ["x=-0.5"], {}),
        ("assignment", "3", [], {"x": 3}),
        ("assignment", "3.5", [], {"x": 3.5}),
        ("assignment", "three", [], {"x": "three"}),
    ],
)
def test_every_way_to_take_a_value(binding: str, text: str, argv: list[str], assignments: dict[str, Any]) -> None:
    program: dict[str, Any] = {"argv": ["--rest"], "search": {"bindings": {"x": binding}, "values": {}}}
    start.insert_parameters(program, f"x={text}")
    assert program["argv"] == [*argv, "--rest"]
    assert program.get("assignments", {}) == assignments


def test_workers_of_an_indexed_job_find_each_other() -> None:
    env = {"KAPTAIN_WORKERS": "3", "JOB_COMPLETION_INDEX": "2", "KAPTAIN_JOB_NAME": "j"}
    found = start.worker_environment(env)
    assert {k: found[k] for k in ("RANK", "WORLD_SIZE", "MASTER_ADDR")} == {
        "RANK": "2",
        "WORLD_SIZE": "3",
        "MASTER_ADDR": "j-0.j",
    }
    tensorflow = json.loads(found["TF_CONFIG"])
    assert tensorflow["cluster"] == {"chief": ["j-0.j:2222"], "worker": ["j-1.j:2222", "j-2.j:2222"]}
    assert tensorflow["task"] == {"type": "worker", "index": 1}
    assert start.worker_environment({**env, "RANK": "1"}) == {}
    torchrun = {"PET_NODE_RANK": "1", "PET_NNODES": "2", "PET_MASTER_ADDR": "a", "PET_MASTER_PORT": "1"}
    assert start.worker_environment(torchrun)["WORLD_SIZE"] == "2"
    assert start.worker_environment({}) == {}


def test_it_waits_until_the_collector_is_seen(tmp_path: Path) -> None:
    def appear() -> None:
        time.sleep(0.4)
        (tmp_path / "9").mkdir()
        (tmp_path / "9" / "cmdline").write_bytes(b"./file-metricscollector\0-t\0trial")

    thread = threading.Thread(target=appear)
    thread.start()
    before = time.monotonic()
    start.wait_for_collector(timeout=30.0, proc=tmp_path)
    assert 0.4 <= time.monotonic() - before < 20
    thread.join()
    before = time.monotonic()
    start.wait_for_collector(timeout=30.0, proc=tmp_path)
    assert time.monotonic() - before < 0.4


def names_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


def test_what_is_large_goes_to_the_store(tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(os.urandom(1_000_000))
    made = payload.for_job(job(files=(str(tmp_path / "big.bin"),)))
    assert made.work_uri == "s3://kaptain/models/dev/mnist/trained/1.work.tar.gz"
    assert "work.tar.gz" not in made.files
    assert sum(map(len, made.files.values())) < payload.LARGEST
    names = names_in(made.work)
    assert {"work/training.py", "work/big.bin"} <= set(names)
    with pytest.raises(TargetError, match="S3 store"):
        payload.for_job(job(files=(str(tmp_path / "big.bin"),), upload_uri=""))


def test_the_payload_is_the_same_for_the_same_job(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")
    one = payload.for_job(job(files=(str(tmp_path / "data"),)))
    os.utime(tmp_path / "data" / "a.txt", (1, 1))
    assert payload.for_job(job(files=(str(tmp_path / "data"),))) == one
    names = names_in(one.files["lib.tar.gz"])
    assert "lib/kaptain_magics/runtime/launch.py" in names
    assert "lib/kaptain/platform/metadata_util.py" in names
    assert not any("targets" in name or "model/" in name for name in names)


def test_sent_and_fetched_values(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "sent.pkl").write_bytes(b"pickle")
    made = payload.for_job(job(folder=str(folder), capture=Capture(send=("df",), fetch=("result",))))
    program = json.loads(made.files["program.json"])
    assert program["sent"].endswith("/.kaptain-sent.pkl")
    assert program["fetched_uri"] == made.fetched_uri == "s3://kaptain/models/dev/mnist/trained/1.fetched.pkl"


def test_files_that_were_changed_in_the_store_are_not_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.setattr(start, "ROOT", tmp_path / "root")
    packed = payload.archive([Entry("training.py", b"print(1)")], "work")
    digest = hashlib.sha256(packed).hexdigest()
    (tmp_path / "work.tar.gz").write_bytes(payload.archive([Entry("training.py", b"print('evil')")], "work"))
    uri = (tmp_path / "work.tar.gz").as_uri()
    assert not start.fetch_work(uri, digest)
    assert not (tmp_path / "root/work").exists()
    (tmp_path / "work.tar.gz").write_bytes(packed)
    assert start.fetch_work(uri, digest)
    assert (tmp_path / "root/work/training.py").read_text() == "print(1)"


def test_large_files_are_named_with_their_digest(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "big.bin").write_bytes(os.urandom(payload.LARGEST))
    made = payload.for_job(job(files=(str(tmp_path / "big.bin"),)))
    program = json.loads(made.files["program.json"])
    assert program["work_sha256"] == hashlib.sha256(made.work).hexdigest()


def test_a_built_image_needs_the_program_only() -> None:
    made = payload.for_job(job(image=ImageSpec(base_image="b", image_name="team/mnist:1")))
    assert set(made.files) == {"start.py", "program.json", "work.tar.gz"}
    assert json.loads(made.files["program.json"])["script"] == "/kaptain/training.py"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(Exception, match="no file or folder"):
        payload.for_job(job(files=("/not/there",)))
