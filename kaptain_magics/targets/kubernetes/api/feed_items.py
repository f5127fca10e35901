"""What a feed delivers, and where its sources deliver it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kaptain_magics.targets.kubernetes.api.kinds import Manifest

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


class Change(NamedTuple):
    """An object has a new state.

    Attributes:
        source: Name of the watch.
        gone: Whether the object was deleted.
        resource: The object.
    """

    source: str
    gone: bool
    resource: Manifest


class Piece(NamedTuple):
    """A log has grown.

    Attributes:
        source: Name of the log.
        data: The next bytes; may be empty when the log has ended.
        ended: Whether that is all.
        unavailable: Why the rest of an ended log could not be had, in the node's words; empty where it is whole.
    """

    source: str
    data: bytes
    ended: bool = False
    unavailable: str = ""


class SourceFailure(NamedTuple):
    """A watch or log cannot go on.

    Attributes:
        source: Its name.
        error: Why.
        passing: Whether it is still tried again.
    """

    source: str
    error: Exception
    passing: bool


Item = Change | Piece | SourceFailure


class Sink(Protocol):
    """Where one source delivers, and by which its feed ends it."""

    source: str

    @property
    def closed(self) -> bool:
        """Whether the reader is gone."""

    def put(self, item: Item) -> None:
        """Deliver an item; waits while the reader is behind."""

    def wait(self, seconds: float) -> bool:
        """Wait, at most until the feed is closed; returns whether it is."""

    def holding(self, response: BaseHTTPResponse) -> AbstractContextManager[None]:
        """While a streamed answer is read, have it cut when the feed is closed."""
