"""The suites that every target must pass, for whoever brings one; needs pytest.

``job_target.JobTargetSuite`` says what a target does with a job, ``serving_target.ServingTargetSuite`` what it does
with an endpoint. Both run against the real thing: a test module gives a fixture that opens the target, and a subclass
of the suite. Our own targets do it in ``tests/conformance``.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}.job_target", f"{__name__}.serving_target")
