"""Asks a server or router over its control socket and prints the answer; sent to its container with each call.

Its arguments are ``SOCKET COMMAND SECONDS [KEY]``: it sends the line ``COMMAND`` and, where a key is named, asks again
for so many seconds until it is true in the answer. The exit code is 3 where no such answer came. The standard library
only: it runs for every look at an endpoint, and must start as fast as Python does.
"""

import json
import socket
import sys
import time

_TIMEOUT = 15.0  # seconds for one answer; the server needs as long as its event loop is busy
_PAUSE = 0.02  # seconds between two questions to a server that is starting


def main(path: str, line: str, seconds: str, key: str = "") -> int:
    """Ask until there is an answer that will do; returns the exit code."""
    until = time.monotonic() + float(seconds)
    while True:
        answer = ask(path, line)
        if answer and (not key or json.loads(answer).get(key)):
            print(answer)  # noqa: T201 - it is what this program is for
            return 0
        if time.monotonic() > until:
            return 3
        time.sleep(_PAUSE)


def ask(path: str, line: str) -> str:
    """Return the answer to a command; empty where there is none."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(path)
            connection.sendall(line.encode() + b"\n")
            while not answer.endswith(b"\n") and (more := connection.recv(65536)):
                answer += more
    except OSError:
        pass
    return answer.decode()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
