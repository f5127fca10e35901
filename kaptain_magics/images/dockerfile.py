"""The Dockerfile of a training image, and what every such image sets, however it is made."""

from __future__ import annotations

import json

from kaptain_magics.images.build_context import FOLDER, PACKAGES, RUNTIME


def dockerfile(base: str, script: str, *, packages: bool, pip: bool) -> str:
    """Return the Dockerfile of a training image.

    Args:
        base: The base image.
        script: The script's file name.
        packages: Whether installed packages lie beside the context.
        pip: Whether pip has to install the requirements in the image.
    """
    lines = [f"FROM {base}", f"WORKDIR {FOLDER}"]
    lines += [f"ENV {name}={value}" for name, value in environment("${PYTHONPATH:+:$PYTHONPATH}").items()]
    if packages:
        lines.append(f"COPY packages/ {FOLDER}/{PACKAGES}/")
    if pip:
        lines += [
            f"COPY context/requirements.txt {FOLDER}/",
            "RUN python -m pip install --no-cache-dir -r requirements.txt",
        ]
    lines += [f"COPY context/ {FOLDER}/", f"ENTRYPOINT {json.dumps(entrypoint(script))}"]
    return "\n".join(lines) + "\n"


def entrypoint(script: str) -> list[str]:
    """Return the entry point of a training image."""
    return ["python", "-u", script]


def environment(rest: str = "") -> dict[str, str]:
    """Return the variables that a training image sets; ``rest`` ends the search path."""
    return {"PYTHONPATH": f"{FOLDER}/{RUNTIME}:{FOLDER}/{PACKAGES}{rest}", "PYTHONUNBUFFERED": "1"}
