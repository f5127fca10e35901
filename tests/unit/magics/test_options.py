"""The table of options: the README shows it, and every row fills a field of what the model is asked."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoints
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.resources import Resources
from kaptain_magics.magics import line_requests
from kaptain_magics.magics.grammar import Arguments, Command, Option, parse
from kaptain_magics.magics.options import DEPLOY, TRAIN, TUNE
from kaptain_magics.model.requests import DeploymentRequest, TrainingRequest, TuningRequest

README = Path(__file__).parents[3] / "README.md"
MAGICS = {"train": TRAIN, "tune": TUNE, "deploy": DEPLOY}
REQUESTS = {"train": [TrainingRequest], "tune": [TuningRequest, TrainingRequest], "deploy": [DeploymentRequest]}
READ_BY_THE_MAGIC = {"no_model", "file", "objective", "minimize", "maximize", "resume", "detach", "dry_run", "into"}


def table() -> str:
    """Return the README's table: an option with the same words in several magics has one row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for magic, command in MAGICS.items():
        for option in command.options:
            rows.setdefault((option.shown.replace("|", r"\|"), option.help), []).append(magic)
    lines = [f"| `{shown}` | {', '.join(magics)} | {text} |" for (shown, text), magics in rows.items()]
    return "\n".join(["| option | of | what it does |", "|---|---|---|", *lines]) + "\n"


def test_the_readme_has_the_table_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # ours alone, whatever plug-ins are installed where the tests run
    monkeypatch.setattr("kaptain_magics.core.plugins.entry_points", lambda **_: EntryPoints())
    assert table() in README.read_text("utf-8"), f"the README's table of options is to be:\n{table()}"


@pytest.mark.parametrize(
    ("magic", "option"),
    [
        pytest.param(magic, option, id=f"{magic}-{option.name}")
        for magic, command in MAGICS.items()
        for option in command.options
    ],
)
def test_every_option_fills_a_field_or_is_a_setting(magic: str, option: Option) -> None:
    if option.setting or option.key in READ_BY_THE_MAGIC:
        return
    name, _, part = (option.field or option.key).partition(".")
    (request,) = [request for request in REQUESTS[magic] if name in request.__struct_fields__]
    if name == "resources":
        assert part in inspect.signature(Resources.simple).parameters
    elif part:
        value = getattr(request(), name)
        assert isinstance(value, dict) or part in value.__struct_fields__


@pytest.mark.parametrize(
    ("command", "request_type", "line", "expected"),
    [
        (TRAIN, TrainingRequest, "a --cpu 2 --gpus 1", {"resources": Resources.simple(cpu="2", gpus=1)}),
        (TRAIN, TrainingRequest, "a --env A=1 --env HOME", {"env": {"A": "1", "HOME": None}}),
        (TUNE, TuningRequest, "a --trials 3 --cpu 2", {"trials": 3}),
        (TUNE, TuningRequest, "a --algorithm-setting a=1", {"algorithm_settings": {"a": "1"}}),
        (DEPLOY, DeploymentRequest, "a --canary 30", {"canary_percent": 30}),
        (
            DEPLOY,
            DeploymentRequest,
            "a --serving handler=h.py --signature sig.json",
            {"serving_config": {"handler": "h.py", "signature": "sig.json"}},
        ),
        (DEPLOY, DeploymentRequest, "a", {}),
    ],
)
def test_what_a_line_names_is_in_the_request_and_nothing_else(
    command: Command, request_type: type[msgspec.Struct], line: str, expected: dict[str, object]
) -> None:
    fields = line_requests.read_fields(parse(command, line), request_type)
    assert fields == expected
    request_type(**fields)


def test_options_of_a_line_stand_above_the_settings() -> None:
    arguments: Arguments = parse(TRAIN, "a --on docker --namespace team --on-interrupt detach")
    assert arguments.settings() == {"target": "docker", "namespace": "team", "on_interrupt": "detach"}
