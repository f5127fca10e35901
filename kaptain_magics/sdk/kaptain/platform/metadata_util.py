"""Reports metrics from inside a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaptain_magics.runtime import channel


class MetadataUtil:
    """Reports metrics to whoever follows the job; there is no need to wait afterwards."""

    @staticmethod
    def record_metrics(metrics: Mapping[str, Any]) -> None:
        """Report metrics by name: numbers or numeric strings."""
        channel.record_metrics(metrics)
