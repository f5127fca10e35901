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
        """The study with its domains and objectives; ``None`` unless the run is a study."""

    @property
    def endpoint(self) -> EndpointSpec | None:
        """The endpoint with its revision; ``None`` unless the run is a deployment."""


class Followable(Protocol):
    """A run that can be shown while it runs and afterwards; ``model.Run`` is one."""

    @property
    def run_id(self) -> str:
        """Unique in its state folder; ``%kaptain attach``, ``stop`` and ``logs`` take it."""

    @property
    def name(self) -> str:
        """The name on the target: of the job, study or endpoint, such as ``mnist-train-0174088b``."""

    @property
    def model_id(self) -> str:
        """``project/name``, such as ``dev/mnist``; one card and one table row are headed by it."""

    @property
    def kind(self) -> RunKind:
        """Train, tune or deploy: decides which tables and buttons there are."""

    @property
    def target(self) -> str:
        """Where it runs: ``local``, ``docker``, ``kubernetes`` or a plug-in's name."""

    @property
    def record(self) -> RunRequest:
        """The study or endpoint that the run was started for, as far as the views draw it."""

    def path_of(self, file: str) -> Path:
        """Return where a file of the run, which an event names, is on this machine."""

    def follow(self, after: int = 0, tick: float | None = None) -> Iterator[AnyEvent | None]:
        """Yield the run's events until it has ended.

        Args:
            after: Number of the last event that the caller has; 0 for all of them.
            tick: Seconds without an event after which ``None`` is yielded, for the caller to draw or to stop; never
                when absent.
        """


class Mode(StrEnum):
    """How a run is drawn; ``KAPTAIN_VIEW`` names one, else the front end decides."""

    TEXT = "text"  # printed lines: terminals, and on request
    HTML = "html"  # a card that is replaced: notebooks whose front end may run no JavaScript
    WIDGET = "widget"  # a live card: notebooks in a browser
