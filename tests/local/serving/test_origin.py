"""What a browser sends for a page of another site is refused, through the router too; other requests are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import RunState
from kaptain_magics.serving.http.auth import Authorizer
from kaptain_magics.serving.protocol.protocol_errors import RequestError
from kaptain_magics.targets.base import TargetConfig
from kaptain_magics.targets.local import LocalTarget
from tests.servers import ADDER, ModelServer, predictor
from tests.waiting import until

JSON = {"Content-Type": "application/json"}
ASKED = [  # headers, status of a GET of the server's description
    ({"Host": "evil.example"}, 421),
    ({"Host": "evil.example:80"}, 421),
    ({"Host": "127.0.0.1.evil.example"}, 421),
    ({"Host": "0x7f000001.evil"}, 421),
    ({"Host": "[::1"}, 421),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link in a notebook
    ({"Sec-Fetch-Site": "same-origin"}, 200),
    ({"Sec-Fetch-Site": "none"}, 200),
    ({"Host": "127.0.0.1"}, 200),
    ({"Host": "localhost:8080"}, 200),
    ({"Host": "LOCALHOST."}, 200),
    ({"Host": "[::1]:8080"}, 200),
    ({"Host": "172.17.0.2:8080"}, 200),
    ({"Host": "host.docker.internal:8080"}, 200),
    ({"Host": "dev-mnist:8080"}, 200),  # a service's name in a container's network
    ({"Host": "dev-mnist", "Origin": "http://dev-mnist"}, 200),
    ({"Origin": "http://localhost:8888"}, 200),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return predictor(tmp_path_factory.mktemp("served") / "adder", ADDER)


@pytest.fixture(scope="module")
def server(folder: Path) -> object:
    with ModelServer(folder, "python") as made:
        yield made


@pytest.mark.parametrize(("headers", "status"), ASKED, ids=lambda value: str(value))
def test_where_requests_may_come_from(server: ModelServer, headers: dict[str, str], status: int) -> None:
    code, body, _ = server.request("GET", "/v2/models/m", headers=headers)
    assert (code, b"--token" in body) == (status, status == 421)


def test_a_page_cannot_ask_without_a_preflight(server: ModelServer) -> None:
    body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1, 2]}]}'
    path = "/v2/models/m/infer"
    blob = {"Origin": "http://localhost:8888", "Sec-Fetch-Site": "same-site"}  # a Blob is sent without a type
    assert server.request("POST", path, body, blob)[0] == 415
    assert server.request("POST", path, body, {**blob, "Content-Type": "text/plain"})[0] == 415
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.request("POST", path, body, {**blob, **form})[0] == 415
    assert server.request("POST", path, body, form)[0] == 200  # curl, which was given no type
    assert server.request("POST", path, body, {**blob, **JSON})[0] == 200
    assert server.request("POST", path, body)[0] == 200  # no browser
    assert server.request("POST", path, body, {**JSON, "Host": "evil.example"})[0] == 421


def test_with_a_token_or_beyond_this_machine_any_name_will_do() -> None:
    foreign = {b"host": b"mnist.team.example", b"origin": b"https://team.example"}
    Authorizer("secret", "127.0.0.1").admit("GET", foreign)
    Authorizer("secret", "0.0.0.0").admit("GET", foreign)
    Authorizer("", "0.0.0.0").admit("GET", foreign)  # inside a cluster, where `--insecure` allows it
    for host in ("127.0.0.1", "localhost", "::1"):
        with pytest.raises(RequestError):
            Authorizer("", host).admit("GET", foreign)


def test_the_canarys_router_passes_on_where_a_request_comes_from(home: Path, folder: Path) -> None:
    target = LocalTarget(TargetConfig(home=home, cache=home / "cache"))

    def deploy(revision: str, percent: int | None) -> None:
        spec = EndpointSpec(
            name="m", run_id="1", model_id="m", revision=revision, artifact_uri=folder.as_uri(),
            framework=ModelFramework.PYTHON, canary_percent=percent,
        )  # fmt: skip
        assert list(target.deploy(spec))[-1].state is RunState.SUCCEEDED  # type: ignore[union-attr]

    try:
        deploy("a" * 32, None)
        deploy("b" * 32, 50)
        port = int(target.endpoint("m").url.split(":")[2].partition("/")[0])
        asking = ModelServer.__new__(ModelServer)
        asking.port = port
        for host, status in (("evil.example", 421), ("localhost", 200), ("evil.example", 421), ("127.0.0.1", 200)):
            until(lambda: asking.request("GET", "/v2/models/m")[0] == 200)
            assert asking.request("GET", "/v2/models/m", headers={"Host": host})[0] == status
    finally:
        target.undeploy("m")
