"""What a connection needs of the server that it belongs to."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from kaptain_magics.serving.http.answers import Answer
from kaptain_magics.serving.http.budget import Budget
from kaptain_magics.serving.http.http_requests import Request
from kaptain_magics.serving.protocol.limits import Limits

C = TypeVar("C")  # the connection


class Owner(Protocol[C]):
    """The server that connections belong to; ``http_server.HttpServer`` describes its attributes."""

    loop: asyncio.AbstractEventLoop
    limits: Limits
    budget: Budget
    access_log: bool
    idle: dict[C, None]
    date: bytes
    released: bool
    leaving: bool
    closing: bool

    @property
    def followed(self) -> bool:
        """Whether another server answers what comes on released connections."""

    def admit(self, connection: C) -> bool:
        """Count a new connection; false where there is no room for it."""

    def lost(self, connection: C) -> None:
        """Take an ended connection off the lists; called once for each."""

    async def answer(self, connection: C, request: Request) -> Answer:
        """Answer a request, or have the server answer it that has the connection's requests now."""

    def trim_soon(self) -> None:
        """Give the memory of a large request back to the system."""
