"""Reports metrics from inside a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kaptain_magics.runtime import channel


class MetadataUtil:
    """Reports metrics to the run that this job belongs to; there is no need to wait afterwards."""

    @staticmethod
    def record_metrics(metrics: Mapping[str, Any]) -> None:
        """Report metrics by name: numbers or numeric strings.

        Example:
            >>> MetadataUtil.record_metrics({"accuracy": 0.97})
        """
        channel.record_metrics(metrics)
