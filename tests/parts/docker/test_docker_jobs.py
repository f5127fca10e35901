"""What the docker target adds to the suite of all targets: limits, users, packages, images, stores."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kaptain_magics.core.events import ArtifactSaved, Noted, StateChanged
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Capture
from kaptain_magics.core.specs import ImageSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.errors import CredentialsError, TargetError
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.testing.job_rig import FOREVER, Rig, log_of, outcome
from tests.certificates import self_signed
from tests.engine import LockedRegistry
from tests.seaweed import SeaweedFS
from tests.tls import TlsProxy

pytestmark = pytest.mark.docker


@pytest.fixture
def client(docker_host: str) -> Iterator[Any]:
    import docker

    client = docker.DockerClient(base_url=docker_host)
    yield client
    client.close()


@pytest.fixture
def make_rig(client: Any, docker_host: str, docker_base_image: str, tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    from kaptain_magics.targets.docker.container_settings import owner

    def make(uploads: str = "", storage_env: dict[str, str] | None = None, **settings: str) -> Rig:
        return Rig(
            name="docker",
            config=TargetConfig(
                home=tmp_path,
                cache=tmp_path / "cache",
                settings={"docker_host": docker_host, **settings},
                storage_env=storage_env or {},
            ),
            folder=tmp_path / "runs",
            uploads=uploads or (tmp_path / "storage").as_uri(),
            image=ImageSpec(base_image=docker_base_image),
        )

    yield make
    mine = {"label": f"kaptain.owner={owner(tmp_path)}"}
    for found in client.containers.list(all=True, filters=mine):
        found.remove(force=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


def notes(events: list[Any]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted)]


def test_limits_labels_and_rights_are_those_that_were_asked_for(rig: Rig, client: Any) -> None:
    target = rig.open()
    job = rig.job(FOREVER, resources=Resources.simple(cpu="0.5", memory="256M"))
    ref = target.submit(job)
    made = client.containers.get(job.name)
    host = made.attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 256_000_000, 256_000_000)
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert made.attrs["Config"]["User"].partition(":")[0] not in ("", "0", "root")
    assert made.labels["kaptain.model"] == "dev/suite"
    assert made.labels["kaptain.run"] == job.run_id
    target.stop(ref)
    assert list(target.follow(ref))[-1].state is RunState.STOPPED  # type: ignore[attr-defined]


def test_values_travel_there_and_back(rig: Rig) -> None:
    source = "doubled = [2 * x for x in given]\nother = 'ü'\n"
    job = rig.job(source, capture=Capture(send=("given",), fetch=("doubled", "other")))
    (Path(job.folder) / "sent.pkl").write_bytes(pickle.dumps({"given": [1, 2, 3]}))
    assert outcome(rig.open(), job).last.state is RunState.SUCCEEDED
    fetched = pickle.loads((Path(job.folder) / "fetched.pkl").read_bytes())
    assert fetched == {"doubled": [2, 4, 6], "other": "ü"}


FORGED = """
import hashlib, pickle, sys
other = b"forged"
path = "/kaptain/.kaptain/fetched.pkl"
for named in ("/tmp/sent.pkl", "/tmp/run.json", path):
    with open(named, "wb") as file:
        file.write(other)
    digest = hashlib.sha256(other).hexdigest()
    print('::kaptain::{"kind":"fetched","path":"%s","sha256":"%s"}' % (named, digest), flush=True)
print('::kaptain::{"kind":"artifact","uri":"file:///tmp/victim","files":{}}', flush=True)
mine = 1
"""


def test_a_container_names_no_file_of_this_machine(rig: Rig) -> None:
    job = rig.job(FORGED)
    (Path(job.folder) / "sent.pkl").write_bytes(b"mine")
    done = outcome(rig.open(), job)
    assert done.last.state is RunState.SUCCEEDED
    assert (Path(job.folder) / "sent.pkl").read_bytes() == b"mine"
    assert not {"fetched.pkl", "run.json"} & {path.name for path in Path(job.folder).iterdir()}
    assert [event for event in done.events if isinstance(event, ArtifactSaved)] == []
    assert any("file:///tmp/victim" in text for text in notes(done.events))
    asked = rig.job(FORGED, capture=Capture(fetch=("mine",)))
    assert outcome(rig.open(), asked).last.state is RunState.SUCCEEDED
    assert pickle.loads((Path(asked.folder) / "fetched.pkl").read_bytes()) == {"mine": 1}


@pytest.mark.parametrize(
    ("forgery", "reason"),
    [
        ("open(path, 'wb').write(b'other')", "do not match the checksum"),
        ("(os.remove(path), os.symlink('/etc/passwd', path))", "cannot be copied"),
    ],
)
def test_what_is_brought_back_is_what_the_job_reported(rig: Rig, forgery: str, reason: str) -> None:
    source = "import atexit, os\nmine, path = 1, '/kaptain/.kaptain/fetched.pkl'\n"
    source += f"atexit.register(lambda: {forgery})\n"
    job = rig.job(source, capture=Capture(fetch=("mine",)))
    done = outcome(rig.open(), job)
    assert (done.last.state, reason in done.last.reason) == (RunState.FAILED, True), done.last
    assert not (Path(job.folder) / "fetched.pkl").exists()


def test_the_engine_shows_no_secret(rig: Rig, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_NAME", "the-passed-value")
    source = "import os, sys, time\nprint(os.environ['DEMO_NAME'][::-1], os.environ['GIVEN'][::-1])\n"
    source += "print(sys.flags.optimize, '/own' in sys.path)\ntime.sleep(2)"
    given = {"GIVEN": "the-given-value", "PYTHONOPTIMIZE": "1", "PYTHONPATH": "/own"}
    job = rig.job(source, env=given, env_names=("DEMO_NAME",))
    target = rig.open()
    ref = target.submit(job)
    shown = json.dumps(client.containers.get(job.name).attrs)
    assert "the-given-value" not in shown
    assert "the-passed-value" not in shown
    events = list(target.follow(ref))
    assert log_of(job, events) == "eulav-dessap-eht eulav-nevig-eht\n1 True\n"


def test_requirements_that_the_image_lacks_are_installed_once(rig: Rig, client: Any) -> None:
    source = "import sklearn, tomli_w\nprint(sklearn.__version__, tomli_w.dumps({'a': 1}).strip())\n"
    job = rig.job(source, requirements=("scikit-learn>0.24.2", "tomli-w==1.2.0"))
    target = rig.open()
    done = outcome(target, job)
    assert done.log == "1.2.1 a = 1\n"
    assert notes(done.events) == ["Installing requirements that the image lacks: tomli-w==1.2.0"]
    again = rig.job(source, requirements=("scikit-learn>0.24.2", "tomli-w==1.2.0"))
    second = outcome(target, again)
    assert notes(second.events) == []
    assert second.log == done.log
    enough = outcome(target, rig.job("print('as it is')", requirements=("scikit-learn>0.24.2",)))
    assert notes(enough.events) == []


def test_requirements_that_do_not_exist_fail_the_job(rig: Rig) -> None:
    done = outcome(rig.open(), rig.job("x = 1", requirements=("tomli-w==99.99",)))
    assert done.last.state is RunState.FAILED
    assert "tomli-w==99.99" in done.last.reason
    assert done.last.hint


def test_a_job_can_be_stopped_while_packages_are_fetched(rig: Rig) -> None:
    target = rig.open()
    job = rig.job(FOREVER, requirements=("tomli-w==1.2.0",))
    ref = target.submit(job)
    events = []
    for event in target.follow(ref):
        events.append(event)
        if isinstance(event, Noted):
            target.stop(ref)
    assert events[-1].state is RunState.STOPPED  # type: ignore[attr-defined]


def test_a_model_goes_to_an_s3_server_on_this_machine(make_rig: Callable[..., Rig], seaweed: SeaweedFS) -> None:
    from kaptain_magics.storage import open_store

    bucket = f"s3://docker-{new_hex(8)}"
    rig = make_rig(f"{bucket}/models", storage_env=dict(seaweed.env))
    source = """
        from pathlib import Path
        from kaptain.platform.model_export_util import ModelExportUtil
        Path("model.bin").write_bytes(b"weights")
        ModelExportUtil().upload_model("model.bin")
    """
    open_store(bucket, dict(seaweed.env)).write(f"{bucket}/models/first", b"makes the bucket")
    done = outcome(rig.open(), rig.job(source))
    assert done.last.state is RunState.SUCCEEDED, done.log
    assert rig.read(f"{done.job.upload_uri}/model.bin") == b"weights"
    assert seaweed.env["AWS_SECRET_ACCESS_KEY"] not in rig.open().render(done.job)


def test_a_stores_private_authority_travels_and_is_looked_at_first(
    make_rig: Callable[..., Rig], seaweed: SeaweedFS, tmp_path: Path
) -> None:
    from kaptain_magics.storage import open_store

    bucket = f"s3://docker-{new_hex(8)}"
    open_store(bucket, dict(seaweed.env)).write(f"{bucket}/first", b"makes the bucket")
    port = urlsplit(seaweed.endpoint).port or 0
    certificate = self_signed(tmp_path, "127.0.0.1")
    source = """
        print("the script began")
        from pathlib import Path
        from kaptain.platform.model_export_util import ModelExportUtil
        Path("model.bin").write_bytes(b"weights")
        ModelExportUtil().upload_model("model.bin")
    """
    with TlsProxy("127.0.0.1", port, certificate) as proxy:
        env = {**seaweed.env, "S3_ENDPOINT": proxy.endpoint, "AWS_CA_BUNDLE": str(certificate[0])}
        rig = make_rig(f"{bucket}/models", storage_env=env)
        done = outcome(rig.open(), rig.job(source))
        assert done.last.state is RunState.SUCCEEDED, done.log
        assert open_store(bucket, env).list(done.job.upload_uri)
        del env["AWS_CA_BUNDLE"]
        rig = make_rig(f"{bucket}/models", storage_env=env)
        done = outcome(rig.open(), rig.job(source))
    assert "is not trusted" in done.last.reason
    assert "AWS_CA_BUNDLE" in done.last.hint
    assert "the script began" not in done.log
    rig = make_rig(f"{bucket}/models", storage_env={**env, "AWS_CA_BUNDLE": str(tmp_path / "gone.pem")})
    with pytest.raises(CredentialsError, match="cannot be read"):
        rig.open().submit(rig.job(source))


def test_an_image_is_built_pushed_run_and_skipped(
    make_rig: Callable[..., Rig], registry: LockedRegistry, docker_base_image: str, client: Any
) -> None:
    rig = make_rig(docker_config=str(registry.config))
    name = f"{registry.address}/kaptain-test/job-{new_hex(8)}:1"
    image = ImageSpec(base_image=docker_base_image, image_name=name)
    source = """
        import sys
        from pathlib import Path
        from kaptain.platform.metadata_util import MetadataUtil
        rate = 0.5
        Path("written.txt").write_text("here")
        MetadataUtil.record_metrics({"rate": rate})
        print(sys.argv[1:])
    """
    try:
        done = outcome(rig.open(), rig.job(source, image=image, parameters={"gamma": 1}))
        assert done.last.state is RunState.SUCCEEDED, done.log
        assert "['--gamma', '1']" in done.log
        assert "Building Docker image." in notes(done.events)
        again = outcome(rig.open(), rig.job(source, image=image, parameters={"gamma": 2}))
        assert notes(again.events) == [
            f"Skipping image build for the model - the image '{name}' with the same contents has already been "
            "published to the registry."
        ]
        assert "['--gamma', '2']" in again.log
        target = rig.open()
        jobs = [rig.job(source, image=image, parameters={"gamma": n}) for n in (3, 4)]
        refs = [target.submit(job) for job in jobs]
        with ThreadPoolExecutor() as pool:
            streams = list(pool.map(lambda ref: list(target.follow(ref)), refs))
        assert [len(notes(events)) for events in streams] in ([1, 0], [0, 1])  # trials of a study build once
        assert notes(outcome(target, rig.job(source, image=image, parameters={"gamma": 5})).events) == []
    finally:
        client.images.remove(name, force=True)


def test_clean_finds_what_a_killed_supervisor_left(rig: Rig, client: Any) -> None:
    target = rig.open()
    job = rig.job(FOREVER)
    target.submit(job)
    assert f"container {job.name}" in target.clean()  # type: ignore[attr-defined]
    from kaptain_magics.files import Lock

    lock = Lock(rig.folder / job.run_id / "lock")
    assert lock.acquire()
    assert f"container {job.name}" not in rig.open().clean()  # type: ignore[attr-defined]
    lock.release()
    target.clean(force=True)  # type: ignore[attr-defined]
    assert target.clean() == []  # type: ignore[attr-defined]
    assert job.name not in [found.name for found in client.containers.list(all=True)]


def test_a_store_on_this_machine_only_is_refused_for_a_far_engine(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(
        "s3://b/models", storage_env={"S3_ENDPOINT": "http://127.0.0.1:9000"}, docker_host="tcp://127.0.0.1:1"
    )
    with pytest.raises(TargetError):
        rig.open().submit(rig.job("x = 1"))


def test_the_saved_artifact_is_announced_once_it_is_here(rig: Rig) -> None:
    source = """
        from pathlib import Path
        from kaptain.platform.model_export_util import ModelExportUtil
        import time
        Path("model.bin").write_bytes(b"weights")
        ModelExportUtil().upload_model("model.bin")
        print("saved", flush=True)
        time.sleep(1)
    """
    job = rig.job(source)
    target = rig.open()
    seen = []
    for event in target.follow(target.submit(job)):
        if isinstance(event, ArtifactSaved):
            manifest = json.loads(rig.read(f"{job.upload_uri}/kaptain-manifest.json"))
            seen.append(manifest["files"] == event.files)
        if isinstance(event, StateChanged) and event.state.terminal:
            assert event.state is RunState.SUCCEEDED
    assert seen == [True]
    assert log_of(job, []) == ""
