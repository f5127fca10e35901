"""Jobs of scripts, without anything that runs them."""

from __future__ import annotations

from kaptain_magics.core.frameworks import ModelFramework
from kaptain_magics.core.scripts import Script
from kaptain_magics.core.specs import JobSpec
from kaptain_magics.script import bindings, typed


def job(script: Script, texts: dict[str, str], args: tuple[str, ...] = ()) -> JobSpec:
    """Return a job of a script with these values, as texts of a line."""
    values = typed(script, texts)
    return JobSpec(
        name="j",
        run_id="r",
        model_id="m",
        script=script,
        framework=ModelFramework.PYTHON,
        parameters=values,
        bindings=bindings(script, values),
        args=args,
    )
