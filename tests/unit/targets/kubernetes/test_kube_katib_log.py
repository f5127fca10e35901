"""The log of Katib's collector holds the script's lines behind its own logger's header."""

from __future__ import annotations

from kaptain_magics.core.metric_lines import explain_missing
from kaptain_magics.targets.kubernetes.studies.study_follower import script_lines

LOG = """\
I1125 10:31:02.123456      14 main.go:396] Trial Name: m-tune-1-abc
I1125 10:31:03.000001      14 main.go:143] fit
I1125 10:31:04.000001      14 main.go:143] accuracy: 0.93
F1125 10:31:05.000001      14 main.go:421] Failed to wait for worker container: training container is failed
ValueError: no
"""


def test_the_scripts_lines_are_kept_and_the_collectors_are_not() -> None:
    log = script_lines(LOG)
    assert log == "fit\naccuracy: 0.93\nValueError: no\n"
    assert "this line looks like it: accuracy: 0.93" in explain_missing("accuracy", log)[0]
