"""The suites that every target and every algorithm must pass, for authors of one; needs pytest.

``job_target.JobTargetSuite`` says what a target does with a job, ``serving_target.ServingTargetSuite`` what it does
with an endpoint. Both run against the real thing: a test module gives a fixture that opens the target, and a subclass
of the suite. ``algorithm.AlgorithmSuite`` says what a search algorithm does: a subclass names it. Ours do it in
``tests/local/conformance`` and ``tests/unit/tuning``.
"""

import pytest

pytest.register_assert_rewrite(
    f"{__name__}.job_target", f"{__name__}.job_rig", f"{__name__}.serving_target", f"{__name__}.algorithm"
)
