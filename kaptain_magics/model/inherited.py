"""What a study takes over from the run whose script it searches, said in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kaptain_magics.core.domains import Value
from kaptain_magics.core.events import Noted
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.specs import Capture, ImageSpec, JobSpec
from kaptain_magics.model.planning import JobOptions


def inherited(asked: JobOptions, full: JobOptions, before: JobSpec, values: Mapping[str, Value]) -> list[Noted]:
    """Return the line that says what was taken over; none where nothing but the script was.

    Args:
        asked: The options of the study alone.
        full: The same, filled up with those of the run before.
        before: That run's job.
        values: Its hyperparameters that the study keeps as they are.
    """
    said: list[str] = []
    if not asked.get("args") and before.args:
        said.append(f'--args "{" ".join(before.args)}"')
    if (asked.get("resources") or Resources()) == Resources():
        said += _resources(before.resources)
    if not asked.get("files") and before.files:
        said.append(f"--files {','.join(Path(file).name for file in before.files)}")
    if not asked.get("requirements") and before.requirements:
        said.append(f"--requirements (lines: {len(before.requirements)})")
    if not asked.get("env"):
        said += [f"--env {name}" for name in (*before.env, *before.env_names)]
    if (asked.get("capture") or Capture()) == Capture():
        said += _capture(before.capture)
    image, own = full.get("image") or ImageSpec(), asked.get("image") or ImageSpec()
    said += [f"--base-image {image.base_image}"] if image.base_image != own.base_image else []
    said += [f"--image-name {image.image_name}"] if image.image_name != own.image_name else []
    said += [f"{name}={value}" for name, value in values.items()]
    if not said:
        return []
    return [Noted(text=f"taken over from the last {before.phase} run, {before.name}: {', '.join(said)}")]


def _resources(found: Resources) -> list[str]:
    said = {"cpu": found.cpu_limit or found.cpu_request, "memory": found.memory_limit or found.memory_request}
    return [f"--{name} {value}" for name, value in {**said, "gpus": found.gpu_limit}.items() if value]


def _capture(found: Capture) -> list[str]:
    said = [f"--model {found.model}"] if found.model else []
    said += [f"--metric {name}={variable}" for name, variable in found.metrics.items()]
    return said + ([f"--send {','.join(found.send)}"] if found.send else [])
