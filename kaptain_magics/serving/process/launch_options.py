"""A server's options: a JSON file, the command line, or both (the command line wins)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from kaptain_magics.errors import ConfigError
from kaptain_magics.serving.protocol.limits import Limits


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a server. The token is not among them: it comes from ``KAPTAIN_TOKEN``.

    Attributes:
        model_name: The model's name in the protocol.
        folder: Folder that holds the saved model.
        framework: Decides the loader.
        version: The version's name in the protocol; a revision.
        files: sha256 (hex) of every file; where empty, those of the folder's manifest count.
        serving_config: Options of the loader.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        grpc_port: Port of the gRPC service; ``None`` for none, 0 takes a free one.
        workers: Server processes.
        insecure: Listen beyond this machine without a token.
        access_log: Log every request.
        drain_seconds: Seconds in which requests in flight are answered before the server ends.
        limits: Bounds.
        private: Path of a Unix socket on which the same service answers; empty for none.
        control: Path of the Unix socket that takes commands; empty for none.
        handover: Path of another server's control socket from which the listening socket is taken.
        hold: Do not accept on the public socket before the command ``accept``.
        patience: Seconds after which a held server without a command ends.
        state: File that is locked while the server lives, with its process id and port; empty for none.
        failure: File that gets the reason (``core.failures``) where the server ends by itself; empty for none.
        env: Environment variables that the server begins with (secrets!).
    """

    model_name: str
    folder: str
    framework: str
    version: str = "1"
    files: dict[str, str] = {}
    serving_config: dict[str, str] = {}
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    workers: int = 1
    insecure: bool = False
    access_log: bool = False
    drain_seconds: float = 30.0
    limits: Limits = Limits()
    private: str = ""
    control: str = ""
    handover: str = ""
    hold: bool = False
    patience: float = 600.0
    state: str = ""
    failure: str = ""
    env: dict[str, str] = {}

    def __post_init__(self) -> None:
        if not self.model_name or "/" in self.model_name:
            raise ConfigError(
                f"model name {self.model_name!r} cannot be part of a URL", "use letters, digits and dashes"
            )
        if not 0 <= self.port < 65536 or not 0 <= (self.grpc_port or 0) < 65536:
            raise ConfigError("a port is a number from 0 to 65535", "0 takes a free one")
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, not {self.workers}", "write 1, 2, 3 ...")
        if self.grpc_port is not None and self.workers > 1:
            raise ConfigError("the gRPC service has one process", "leave out --workers or --grpc-port")


def read_options(argv: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        ConfigError: An option is missing or unusable.
    """
    given = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    path = given.pop("options", None)
    limits = {name: given.pop(name) for name in ("body", "rows", "batch_rows", "read_seconds") if name in given}
    config = dict(pair.partition("=")[::2] for pair in given.pop("config", []))
    try:
        merged: dict[str, Any] = msgspec.json.decode(Path(path).read_bytes(), type=dict[str, Any]) if path else {}
        merged |= given
        merged["limits"] = merged.get("limits", {}) | limits
        merged["serving_config"] = merged.get("serving_config", {}) | config
        return msgspec.convert(merged, Options)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", "name a JSON file of options") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"invalid options: {error}", "--help lists them") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kaptain_magics.serving",
        description="Serve a saved model over the Open Inference Protocol V2. The token comes from KAPTAIN_TOKEN.",
    )
    add = parser.add_argument
    add("--options", metavar="FILE", help="JSON file with any of these options, under the same names")
    add("--model-name", metavar="NAME", help="the model's name in the protocol")
    add("--folder", metavar="PATH", help="folder that holds the saved model")
    add("--framework", metavar="NAME", help="sklearn, xgboost, lightgbm, onnx, pytorch, tensorflow, mlflow or python")
    add("--version", metavar="NAME", help="name of the model's version (1)")
    add("--config", metavar="NAME=VALUE", action="append", help="option of the loader, such as signature=...")
    add("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1); any other needs a token")
    add("--port", type=int, metavar="N", help="port to listen on (8080); 0 takes a free one")
    add("--grpc-port", type=int, metavar="N", help="port of the gRPC service (none)")
    add("--workers", type=int, metavar="N", help="server processes (1)")
    add("--insecure", action="store_true", default=None, help="listen beyond this machine without a token")
    add("--access-log", action="store_true", default=None, help="log every request")
    add("--drain-seconds", type=float, metavar="S", help="time for requests in flight when the server ends (30)")
    add("--max-body", dest="body", type=int, metavar="BYTES", help="largest body of a request")
    add("--max-rows", dest="rows", type=int, metavar="N", help="most rows of a request")
    add("--batch-rows", type=int, metavar="N", help="most rows of several requests in one call (64); 1 switches it off")
    add("--read-seconds", type=float, metavar="S", help="time in which a request must arrive (30)")
    return parser
