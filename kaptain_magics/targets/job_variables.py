"""The environment variables that every job finds, wherever it runs."""

from __future__ import annotations

from kaptain_magics.core.specs import JobSpec


def job_variables(job: JobSpec) -> dict[str, str]:
    """Return what a job finds in its environment about itself: neither credentials nor the variables that it was given.

    A target adds ``KAPTAIN_CHANNEL`` (see ``runtime.channel``), and ``thread_limits`` where a person's own numbers do
    not count.
    """
    trial = {} if job.trial is None else {"KAPTAIN_TRIAL": str(job.trial)}
    return {
        "TRAINED_MODEL_UPLOAD_PATH": job.upload_uri,
        "MODEL_LIFECYCLE_PHASE": job.phase,
        "GPUS": str(job.resources.gpu_limit),
        "KAPTAIN_FRAMEWORK": job.framework.value,
        "KAPTAIN_RUN_ID": job.run_id,
        **trial,
    }
