"""A backend of matplotlib: ``plt.show()`` shows the open figures in the run's view and closes them.

``module://kaptain_magics.runtime.figures``; it draws with Agg, as the backend of notebooks does.
"""

from __future__ import annotations

from typing import Any

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kaptain_magics.runtime.display import display, show_figures


class FigureManager(FigureManagerBase):
    """A figure that can be shown."""

    def show(self) -> None:
        """Show the figure; it is not shown again at the script's end."""
        import matplotlib.pyplot

        display(self.canvas.figure)
        matplotlib.pyplot.close(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003 - matplotlib's signature
        """Show all open figures and close them."""
        show_figures()


class FigureCanvas(FigureCanvasAgg):
    """The canvas that the backend must name: Agg draws, without a display."""

    manager_class = FigureManager


def show(*_: Any, **__: Any) -> None:
    """Show all open figures and close them: what ``plt.show()`` calls."""
    show_figures()
