"""Events drawn: live in notebooks, as HTML and text everywhere else. Views follow runs and change nothing.

``follow`` shows a run until its end, ``watch`` returns at once, ``show_result`` shows it as it is, the others show
lists and texts.
"""

from kaptain_magics.views.base import Followable, Mode
from kaptain_magics.views.files import show_file, show_files
from kaptain_magics.views.live import follow, mode_here, show_result, watch
from kaptain_magics.views.tables import (
    compare_runs,
    show_checks,
    show_endpoints,
    show_models,
    show_revisions,
    show_runs,
    show_text,
    show_trials,
)

__all__ = [
    "Followable",
    "Mode",
    "compare_runs",
    "follow",
    "mode_here",
    "show_checks",
    "show_endpoints",
    "show_file",
    "show_files",
    "show_models",
    "show_result",
    "show_revisions",
    "show_runs",
    "show_text",
    "show_trials",
    "watch",
]
