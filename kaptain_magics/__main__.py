"""``python -m kaptain_magics``, and the command ``kaptain-magics``: what the magics do, without a notebook."""

from __future__ import annotations

import sys


def main() -> int:
    """Carry out this process's command line and return its exit code."""
    from kaptain_magics.magics.command_line import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
