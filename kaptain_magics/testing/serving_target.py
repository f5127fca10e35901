"""What every target does with an endpoint.

An instance is a module with a fixture ``serving_rig`` and a subclass::

    @pytest.fixture(scope="module")
    def serving_rig(tmp_path_factory) -> ServingRig: ...

    class TestMyTarget(ServingTargetSuite): ...
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from kaptain_magics.core.events import AnyEvent, EndpointChanged
from kaptain_magics.core.names import new_hex
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import EndpointSpec
from kaptain_magics.core.states import EndpointState, RunState
from kaptain_magics.errors import NotFoundError, ServingError
from kaptain_magics.serving.client.predict import predict
from kaptain_magics.targets.base import EndpointStatus, ServingTarget, Target
from kaptain_magics.testing.serving_rig import (
    MARKED,
    NAMED,
    SLOW,
    THREADS,
    ConstantRequests,
    ServingRig,
    ask,
    in_flight,
    last,
)
from kaptain_magics.testing.waiting import until


class ServingTargetSuite:
    """The suite; every instance needs the real thing."""

    @pytest.fixture
    def target(self, serving_rig: ServingRig) -> ServingTarget:
        return serving_rig.open()

    @pytest.fixture
    def name(self, target: ServingTarget) -> Iterator[str]:
        name = f"dev-m{new_hex(6)}"
        yield name
        with suppress(NotFoundError):
            target.undeploy(name)

    def shared(self, rig: ServingRig, traffic: dict[str, int], shares: dict[int, int]) -> bool:
        """Whether the revisions have the shares that were asked for, or come as near as the target can."""
        expected = {f"{number:032x}": percent for number, percent in shares.items()}
        near = all(abs(traffic.get(revision, 0) - percent) <= rig.points for revision, percent in expected.items())
        return near and set(traffic) == set(expected) and sum(traffic.values()) == 100

    def deploy(self, target: ServingTarget, spec: EndpointSpec) -> EndpointStatus:
        events = list(target.deploy(spec))
        assert last(events).state is RunState.SUCCEEDED, events
        return target.endpoint(spec.name)

    def test_a_server_has_its_variables_and_nothing_shows_them(
        self, serving_rig: ServingRig, target: ServingTarget, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DEMO_NAME", "the-passed-value")
        spec = serving_rig.spec(name, 3, NAMED, env={"GIVEN": "the-given-value!"}, env_names=("DEMO_NAME",))
        shown = target.render(spec) if isinstance(target, Target) else ""
        for value in ("the-passed-value", "the-given-value!"):
            assert value not in shown
            assert value not in repr(spec)
        assert ask(self.deploy(target, spec), [[1.0, 2.0]]) == [3]

    def test_it_is_a_serving_target(self, target: ServingTarget) -> None:
        assert isinstance(target, ServingTarget)

    def test_nothing_is_left_for_the_next_endpoint_of_its_name(
        self, serving_rig: ServingRig, target: ServingTarget, name: str
    ) -> None:
        first = self.deploy(target, serving_rig.spec(name, 1, host="0.0.0.0", env={"SHADE": "dark"}))
        assert not any(secret in repr(first) for secret in first.headers.values())
        assert ask(first, [[1, 2]]) == [1]
        target.undeploy(name)
        second = self.deploy(target, serving_rig.spec(name, 2))
        assert second.headers == {}
        assert ask(second, [[1, 2]]) == [2]

    def test_deploy_ask_undeploy(self, serving_rig: ServingRig, target: ServingTarget, name: str) -> None:
        spec = serving_rig.spec(name, 1)
        events = list(target.deploy(spec))
        assert last(events).state is RunState.SUCCEEDED
        for event in events:
            assert msgspec.json.decode(msgspec.json.encode(event), type=AnyEvent) == event
        ready = [e for e in events if isinstance(e, EndpointChanged)][-1]
        assert (ready.name, ready.state, ready.traffic) == (name, EndpointState.READY, {spec.revision: 100}), ready
        status = target.endpoint(name)
        assert (status.state, ready.url) == (EndpointState.READY, status.url if serving_rig.lasting else "")
        assert (status.model_id, status.framework, status.protocol) == (spec.model_id, "python", "v2")
        assert status.replicas >= 1
        assert status.traffic == {spec.revision: 100}
        assert ask(status, [[1, 2], [3, 4]]) == [1, 1]
        assert predict(status.url, status.headers, [[1, 2]]).tolist() == [1003.0]
        if serving_rig.counts:
            until(lambda: target.endpoint(name).requests.get(spec.revision) == 2, 30, "counted")
        assert name in [e.name for e in target.endpoints()]
        again = serving_rig.open()
        assert again.endpoint(name).url == status.url
        again.undeploy(name)
        with pytest.raises(NotFoundError):
            target.endpoint(name)
        with pytest.raises(NotFoundError):
            target.undeploy(name)
        assert name not in [e.name for e in target.endpoints()]
        with pytest.raises(ServingError):
            ask(status, [[1, 2]])

    def test_libraries_keep_to_the_cores_of_the_server(
        self, serving_rig: ServingRig, target: ServingTarget, name: str
    ) -> None:
        half = Resources.simple(cpu="500m", memory="500M")
        spec = serving_rig.spec(name, 1, THREADS, resources=half, env={"OMP_NUM_THREADS": "3"})
        status = self.deploy(target, spec)
        assert predict(status.url, status.headers, [[1, 2]]).tolist() == [3, 1, 1, 1]

    def test_it_is_not_replaced_unasked(self, serving_rig: ServingRig, target: ServingTarget, name: str) -> None:
        before = self.deploy(target, serving_rig.spec(name, 1))
        end = last(list(target.deploy(serving_rig.spec(name, 2))))
        assert end.state is RunState.FAILED
        assert "replace" in f"{end.reason} {end.hint}"
        assert target.endpoint(name).traffic == before.traffic
        assert ask(before, [[1, 2]]) == [1]

    def test_replace_without_a_lost_request(self, serving_rig: ServingRig, target: ServingTarget, name: str) -> None:
        status = self.deploy(target, serving_rig.spec(name, 1))
        with ConstantRequests(status) as asking:
            for number in (2, 3):
                after = self.deploy(target, serving_rig.spec(name, number, replace=True))
                assert after.url == status.url
                assert after.traffic == {f"{number:032x}": 100}
                asking.more()
        assert set(asking.answers) == {1, 2, 3}, (asking.answers, asking.lost[:3])
        if serving_rig.seamless:
            assert not asking.lost
        assert ask(status, [[1, 2]]) == [3]

    def test_a_canary_gets_its_share(self, serving_rig: ServingRig, target: ServingTarget, name: str) -> None:
        status = self.deploy(target, serving_rig.spec(name, 1))
        with ConstantRequests(status) as asking:
            after = self.deploy(target, serving_rig.spec(name, 2, canary_percent=30))
            assert after.url == status.url
            assert self.shared(serving_rig, after.traffic, {1: 70, 2: 30})
            before = target.endpoint(name).requests
            answers = Counter(ask(status, [[1.0, n]])[0] for n in range(100))
            assert 15 <= answers[2] <= 45, answers
            assert answers[1] + answers[2] == 100
            asking.more()
            target.set_traffic(name, 60)
            assert self.shared(serving_rig, target.endpoint(name).traffic, {1: 40, 2: 60})
            answers = Counter(ask(status, [[1.0, n]])[0] for n in range(100))
            assert 40 <= answers[2] <= 80, answers
            if serving_rig.counts:
                counts = target.endpoint(name).requests
                assert all(counts[revision] > before[revision] for revision in counts)
            target.set_traffic(name, 100)
            assert target.endpoint(name).traffic == {f"{2:032x}": 100}
            until(lambda: ask(status, [[1.0, 2.0]]) == [2], 60, "promoted")
            asking.more()
        if serving_rig.seamless:
            assert not asking.lost
        until(lambda: {ask(status, [[1.0, n]])[0] for n in range(20)} == {2}, 60, "the old revision's last answer")

    def test_a_canary_is_rolled_back_or_followed(
        self, serving_rig: ServingRig, target: ServingTarget, name: str
    ) -> None:
        status = self.deploy(target, serving_rig.spec(name, 1))
        with ConstantRequests(status) as asking:
            self.deploy(target, serving_rig.spec(name, 2, canary_percent=50))
            asking.more()
            target.set_traffic(name, 0)
            assert target.endpoint(name).traffic == {f"{1:032x}": 100}
            asking.more()
            self.deploy(target, serving_rig.spec(name, 3, canary_percent=10))
            self.deploy(target, serving_rig.spec(name, 4, canary_percent=20))
            assert self.shared(serving_rig, target.endpoint(name).traffic, {1: 80, 4: 20})
            asking.more()
            after = self.deploy(target, serving_rig.spec(name, 5, replace=True))
            assert after.traffic == {f"{5:032x}": 100}
            asking.more()
        if serving_rig.seamless:
            assert not asking.lost
        assert Counter(ask(status, [[1.0, n]])[0] for n in range(20)) == {5: 20}

    def test_a_canary_needs_something_beside_it(
        self, serving_rig: ServingRig, target: ServingTarget, name: str
    ) -> None:
        end = last(list(target.deploy(serving_rig.spec(name, 1, canary_percent=30))))
        assert end.state is RunState.FAILED
        assert end.reason
        with pytest.raises(NotFoundError):
            target.set_traffic(name, 50)
        self.deploy(target, serving_rig.spec(name, 1))
        for percent in (0, 50, 100):
            with pytest.raises(ServingError):
                target.set_traffic(name, percent)

    @pytest.mark.parametrize(
        ("source", "files", "reason"),
        [
            ("raise RuntimeError('no way')", None, "no way"),
            ("import not_there_at_all", None, "not_there_at_all"),
            (MARKED, {"model.py": "0" * 64}, "sha256"),
        ],
        ids=["raises", "missing module", "wrong digest"],
    )
    def test_a_model_that_cannot_be_loaded(
        self,
        serving_rig: ServingRig,
        target: ServingTarget,
        name: str,
        source: str,
        files: dict[str, str] | None,
        reason: str,
    ) -> None:
        more = {} if files is None else {"files": files}
        events = list(target.deploy(serving_rig.spec(name, 1, source, **more)))
        end = last(events)
        assert end.state is RunState.FAILED
        assert reason in end.reason
        assert "\n" not in end.reason
        status = self.deploy(target, serving_rig.spec(name, 2, replace=True))
        end = last(list(target.deploy(serving_rig.spec(name, 3, source, replace=True, **more))))
        assert (end.state, reason in end.reason) == (RunState.FAILED, True)
        assert ask(status, [[1, 2]]) == [2]
        assert target.endpoint(name).traffic == {f"{2:032x}": 100}

    def test_undeploying_answers_what_was_asked(
        self, serving_rig: ServingRig, target: ServingTarget, name: str
    ) -> None:
        status = self.deploy(target, serving_rig.spec(name, 1, SLOW))
        ask(status, [[1, 2]])
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(ask(status, [[1, 2]])))
        thread.start()
        if serving_rig.counts:
            until(lambda: in_flight(status) or answers, 30, "a request in flight")
        target.undeploy(name)
        thread.join(60)
        assert answers == [[0]]

    def test_names_that_are_not_there(self, target: ServingTarget) -> None:
        for call in (target.endpoint, target.undeploy):
            with pytest.raises(NotFoundError):
                call("not-there")

    def test_the_v1_protocol(self, serving_rig: ServingRig, target: ServingTarget, name: str) -> None:
        status = self.deploy(target, serving_rig.spec(name, 1, protocol="v1"))
        assert status.url.endswith(":predict")
        assert predict(status.url, status.headers, [[1, 2], [3, 4]]).tolist() == [1003.0, 1007.0]
