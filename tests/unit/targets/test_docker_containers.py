"""From a job to its container: pure functions and the messages for an engine's refusals."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import EndpointSpec, ImageSpec, JobSpec
from kaptain_magics.errors import ConfigError, TargetError
from kaptain_magics.images.engine import Engine, explain_engine_error
from kaptain_magics.targets.base import TargetConfig, open_target
from kaptain_magics.targets.docker import container_settings as container
from kaptain_magics.targets.docker.container_files import job_archive

SECRETS = {
    "AWS_ACCESS_KEY_ID": "the-key",
    "AWS_SECRET_ACCESS_KEY": "the-secret",
    "S3_ENDPOINT": "http://s3.example.com",
}


@pytest.fixture
def job(tmp_path: Path) -> JobSpec:
    return JobSpec(
        name="mnist-job-17921389",
        run_id="20261122-130000-abcdef",
        model_id="dev/mnist",
        script=Script(name="training.py", source="print(1)"),
        framework=ModelFramework.SKLEARN,
        folder=str(tmp_path / "run"),
        parameters={"--gamma": 0.001},
        env={"PLAIN": "a b", "MY_API_KEY": "hidden"},
        env_names=("HF_TOKEN",),
        resources=Resources.simple(cpu="1.5", memory="1G", gpus=2),
        upload_uri="s3://kaptain/models/dev/mnist/trained/1",
        image=ImageSpec(base_image="python:3.11-slim"),
    )


def target(tmp_path: Path, **settings: str) -> object:
    return open_target(
        "docker", TargetConfig(home=tmp_path, cache=tmp_path / "cache", settings=settings, storage_env=SECRETS)
    )


def test_a_dry_run_shows_the_command_without_secrets(job: JobSpec, tmp_path: Path) -> None:
    shown = target(tmp_path, docker_host="unix:///nowhere").render(job)  # type: ignore[attr-defined]
    assert shown.startswith("docker run")
    for part in (
        "--cpus 1.5",
        "--memory 1000000000",
        "--gpus 2",
        "--env 'PLAIN=********'",
        "--env 'HF_TOKEN=********'",
        "python:3.11-slim",
        "--cap-drop ALL",
    ):
        assert part in shown
    for secret in ("the-key", "the-secret", "hidden", "a b"):
        assert secret not in shown
    assert "kaptain.model=dev/mnist" in shown


def test_a_dry_run_of_an_endpoint_shows_gate_and_server(tmp_path: Path) -> None:
    spec = EndpointSpec(
        name="dev-mnist",
        run_id="1",
        model_id="dev/mnist",
        revision="0a" * 16,
        artifact_uri="file:///models/1",
        framework=ModelFramework.SKLEARN,
        port=8081,
        resources=Resources.simple(memory="500M"),
    )
    shown = target(tmp_path).render(spec)  # type: ignore[attr-defined]
    assert "--publish 127.0.0.1:8081:8080/tcp" in shown
    assert "--memory 500000000" in shown
    assert "kaptain_magics.serving" in shown


@pytest.mark.parametrize(
    ("image_user", "chosen", "user"),
    [("1000", "", "1000"), ("jovyan", "", "jovyan"), ("jovyan", "root", "root"), ("", "5:6", "5:6")],
)
def test_the_images_own_user_is_kept_and_root_is_not(image_user: str, chosen: str, user: str) -> None:
    assert container.run_as(image_user, {"docker_user": chosen}) == user
    for root in ("", "root", "0", "0:0", "root:root"):
        assert container.run_as(root, {}).partition(":")[0] not in ("0", "root", "")


def test_the_archive_holds_the_program_and_files_that_group_0_may_write(job: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1")
    given = JobSpec(**{**{f: getattr(job, f) for f in job.__struct_fields__}, "files": (str(tmp_path / "data.csv"),)})
    with job_archive(given, built=False) as archive, tarfile.open(fileobj=io.BytesIO(archive.read())) as tar:
        members = {member.name: member for member in tar}
        program = json.loads(tar.extractfile("kaptain/.kaptain/program.json").read())  # type: ignore[union-attr]
    assert program["argv"] == ["--gamma", "0.001"]
    assert members["kaptain/training.py"].mode == 0o664
    assert members["kaptain"].mode == 0o775
    assert "kaptain/data.csv" in members
    with job_archive(given, built=True) as archive, tarfile.open(fileobj=io.BytesIO(archive.read())) as tar:
        assert "kaptain/training.py" not in tar.getnames()


def test_a_folder_below_root_is_opened_for_other_users(job: JobSpec) -> None:
    fields = {f: getattr(job, f) for f in job.__struct_fields__}
    given = JobSpec(**{**fields, "upload_uri": "file:///root/.kaptain/storage/models/x/1"})
    with job_archive(given, built=True) as archive, tarfile.open(fileobj=io.BytesIO(archive.read())) as tar:
        modes = {member.name: member.mode for member in tar}
    assert modes["root"] == 0o711
    assert modes["root/.kaptain/storage/models/x/1"] == 0o777
    assert "root/.kaptain" not in modes


def test_the_images_own_search_path_comes_last() -> None:
    ours = "/kaptain/.kaptain:/kaptain/.mounted:/kaptain/.packages"
    assert container.search_path() == ours
    assert container.search_path("/opt/lib:/kaptain/.packages") == f"{ours}:/opt/lib"


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("write /var/lib/docker/x: no space left on device", "the Docker engine's disk is full"),
        ('could not select device driver "" with capabilities: [[gpu]]', "this Docker engine gives no GPUs"),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs", "has only 2.00 CPUs"),
        ('exec: "python": executable file not found in $PATH: unknown', "the image has no `python`"),
        ("Bind for 127.0.0.1:80 failed: port is already allocated", "the port is in use"),
        ("something quite new", "the Docker engine refused: something quite new"),
    ],
)
def test_what_an_engine_says_becomes_one_sentence(said: str, meaning: str) -> None:
    error = explain_engine_error(said)
    assert meaning in error.message
    assert "\n" not in error.message


def test_an_engine_that_is_away_is_named(job: JobSpec, tmp_path: Path) -> None:
    away = target(tmp_path, docker_host="unix:///nowhere/docker.sock")
    with pytest.raises(TargetError, match=r"the Docker engine at unix:///nowhere/docker\.sock does not answer"):
        away.submit(job)  # type: ignore[attr-defined]
    checks = away.check()  # type: ignore[attr-defined]
    assert [check.ok for check in checks] == [False]
    assert checks[0].hint
    assert not Engine({"docker_host": "unix:///nowhere/docker.sock"}).answers()


def test_the_current_docker_context_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert Engine({}).address == "unix:///var/run/docker.sock"
    (tmp_path / "config.json").write_text('{"currentContext": "far"}')
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"far").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text('{"Endpoints": {"docker": {"Host": "ssh://me@far"}}}')
    assert Engine({}).address == "ssh://me@far"
    assert Engine({"docker_host": "tcp://other:2375"}).address == "tcp://other:2375"


def test_several_workers_are_refused(job: JobSpec, tmp_path: Path) -> None:
    fields = {f: getattr(job, f) for f in job.__struct_fields__}
    with pytest.raises(TargetError, match="one worker, not 3"):
        target(tmp_path, docker_host="unix:///nowhere").submit(JobSpec(**{**fields, "workers": 3}))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError):
        Resources.simple(cpu="many")
