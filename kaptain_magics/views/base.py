"""What the views are given.

A view follows events and draws them; it starts, stops and changes nothing. Any object with the members of
``Followable`` can be shown: the runs of ``model`` are, and so is a small class of a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from kaptain_magics.core.events import AnyEvent
from kaptain_magics.core.specs import EndpointSpec, StudySpec
from kaptain_magics.core.states import RunKind


class RunRequest(Protocol):
    """What a run was started for, as far as the views need it (``state.RunRecord``)."""

    @property
    def study(self) -> StudySpec | None:
        """The study, if the run is one."""

    @property
    def endpoint(self) -> EndpointSpec | None:
        """The endpoint, if the run deploys one."""


class Followable(Protocol):
    """A run as the views see it."""

    @property
    def run_id(self) -> str:
        """The run's id; ``%kaptain attach`` takes it."""

    @property
    def name(self) -> str:
        """The job's, study's or endpoint's name."""

    @property
    def model_id(self) -> str:
        """The model's id."""

    @property
    def kind(self) -> RunKind:
        """What the run does."""

    @property
    def target(self) -> str:
        """The target's name."""

    @property
    def record(self) -> RunRequest:
        """The study or endpoint that the run was started for, as far as the views draw it."""

    def path_of(self, file: str) -> Path:
        """Return where a file of the run, which an event names, is on this machine."""

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        """Yield the run's events until it has ended, and ``None`` when nothing came for ``tick`` seconds."""


class Mode(StrEnum):
    """How a run is drawn."""

    TEXT = "text"  # printed lines: terminals, and on request
    HTML = "html"  # a card that is replaced: notebooks whose front end may run no JavaScript
    WIDGET = "widget"  # a live card: notebooks in a browser
