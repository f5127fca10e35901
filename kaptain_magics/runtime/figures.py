"""A backend of matplotlib: ``plt.show()`` shows the open figures in the run's view and closes them.

``module://kaptain_magics.runtime.figures``; it draws with Agg, as the backend of notebooks does.
"""

from __future__ import annotations

from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kaptain_magics.runtime.display import display


class FigureManager(FigureManagerBase):
    """A figure that can be shown."""

    def show(self) -> None:
        """Show the figure; it is not shown again at the script's end."""
        display(self.canvas.figure)
        Gcf.destroy(self)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003 - matplotlib's signature
        """Show all open figures and close them."""
        show()


class FigureCanvas(FigureCanvasAgg):  # type: ignore[misc]  # matplotlib is not typed for mypy here
    """Draws with Agg."""

    manager_class = FigureManager


def show(*_: Any, **__: Any) -> None:
    """Show all open figures in the order in which they were made, and close them."""
    for manager in Gcf.get_all_fig_managers():
        if manager.canvas.figure.get_axes() or manager.canvas.figure.texts or manager.canvas.figure.images:
            display(manager.canvas.figure)
    Gcf.destroy_all()


def forget(figure: Any) -> None:
    """Close a figure that is shown in another way."""
    for manager in Gcf.get_all_fig_managers():
        if manager.canvas.figure is figure:
            Gcf.destroy(manager)
