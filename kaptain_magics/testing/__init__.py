"""The suites that every target, framework and algorithm must pass, for authors of one; needs pytest.

``job_target.JobTargetSuite`` says what a target does with a job, ``serving_target.ServingTargetSuite`` what it does
with an endpoint. Both run against the real thing: a test module gives a fixture that opens the target, and a subclass
of the suite. ``algorithm.AlgorithmSuite`` says what a search algorithm does, ``framework.FrameworkSuite`` what a
framework's saver and loader do: a subclass names it. Ours do it in ``tests/local/conformance``, ``tests/parts`` and
``tests/unit/tuning``.
"""

import pytest

for _name in ("job_target", "job_rig", "serving_target", "serving_rig", "algorithm", "framework"):
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
