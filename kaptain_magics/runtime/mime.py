"""The form in which a value is shown, as a notebook would choose it: a picture, HTML, a chart's JSON, or text.

Uses the methods that libraries have for notebooks (``_repr_mimebundle_``, ``_repr_html_`` and the like) and needs
nothing of IPython: a job may not have it.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import traceback
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

PNG, SVG, HTML, TEXT = "image/png", "image/svg+xml", "text/html", "text/plain"
PLOTLY = "application/vnd.plotly.v1+json"
_PICTURES = (PNG, "image/jpeg", "image/gif", SVG)
_METHODS = {  # of objects without a bundle
    "_repr_png_": PNG,
    "_repr_jpeg_": "image/jpeg",
    "_repr_svg_": SVG,
    "_repr_html_": HTML,
    "_repr_markdown_": "text/markdown",
}
_WORDS = ("text/markdown", "text/latex")  # shown as the text that they are
_LONGEST_REPR = 1000  # items of a list, tuple, set or dict, as IPython shows them
_TEXT_AT_MOST = 4000  # characters of a text; the count of the others is written behind them


class Shown(NamedTuple):
    """A value's form.

    Attributes:
        mime: The type of ``data``; ``text/plain`` without any.
        data: The content, empty where the text is all there is.
        text: What a terminal shows.
    """

    mime: str
    data: bytes
    text: str


def form_of(value: Any) -> Shown:
    """Return how a value is shown; a value whose own methods fail is shown as text."""
    text = ""
    try:
        text = "plotly figure" if is_plotly(value) else _text(value)
        bundle = _bundle(value)
    except Exception:  # the value's own code may raise anything
        traceback.print_exc()
        bundle = {}
    return form_of_bundle({TEXT: text, **bundle})


def form_of_bundle(bundle: Mapping[str, Any]) -> Shown:
    """Return the best form in a bundle of content by MIME type."""
    text = _clipped(str(bundle.get(TEXT, "")))
    charts = [mime for mime in bundle if mime == PLOTLY or mime.startswith("application/vnd.vegalite.")]
    for mime in (*_PICTURES, *charts, HTML):
        content = bundle.get(mime)
        if content:
            return Shown(mime, _bytes(mime, content), text)
    words = next((str(bundle[mime]) for mime in _WORDS if bundle.get(mime)), "")
    return Shown(TEXT, b"", _clipped(words) or text)


def _bytes(mime: str, content: Any) -> bytes:
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    if not isinstance(content, str):
        return json.dumps(content, default=str).encode()
    if mime.startswith("image/") and mime != SVG:
        return base64.b64decode(content)
    return content.encode("utf-8", "replace")


def _bundle(value: Any) -> dict[str, Any]:
    kind = type(value)
    if isinstance(value, type):
        return {}
    if _is_a(kind, "matplotlib.figure", "Figure"):
        return {PNG: figure_png(value)}
    if is_plotly(value):
        return _plotly(value)
    if _is_a(kind, "altair.vegalite", "TopLevelMixin"):
        return _altair(value)
    maker = getattr(value, "_repr_mimebundle_", None)
    bundle = maker() if callable(maker) else None
    if bundle is None:
        bundle = {
            mime: getattr(value, name)() for name, mime in _METHODS.items() if callable(getattr(value, name, None))
        }
    bundle = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    bundle.pop(TEXT, None)  # ours is bounded
    if "application/vnd.jupyter.widget-view+json" in bundle:  # a widget needs a kernel
        return {}
    return {mime: content[0] if isinstance(content, tuple) else content for mime, content in bundle.items()}


def _is_a(kind: type, module: str, name: str) -> bool:
    """Whether a class is, or derives from, that of a library which is not imported for it."""
    return any(base.__name__ == name and base.__module__.startswith(module) for base in kind.__mro__)


def is_plotly(value: Any) -> bool:
    """Whether a value is a figure of plotly, whose own way to be displayed asks for a browser."""
    return _is_a(type(value), "plotly.basedatatypes", "BaseFigure")


def figure_png(figure: Any) -> bytes:
    """Return a matplotlib figure as a picture, cut to what is drawn as notebooks do."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", dpi=figure.dpi)
    return file.getvalue()


def _plotly(figure: Any) -> dict[str, Any]:
    """Return a plotly figure as a picture where kaleido can draw one, else as what front ends draw."""
    if _installed("kaleido"):
        try:
            return {PNG: figure.to_image("png")}
        except Exception as error:  # kaleido needs a browser
            sys.stderr.write(
                f"kaptain: plotly made no picture, the chart itself is kept: {str(error).splitlines()[0]}\n"
            )
    return {PLOTLY: json.loads(figure.to_json())}


def plotly_form(figure: Any) -> Shown:
    """Return the form of a plotly figure, or of a dict of one."""
    if isinstance(figure, dict):
        import plotly.graph_objects

        figure = plotly.graph_objects.Figure(figure)
    return form_of_bundle({TEXT: "plotly figure", **_plotly(figure)})


def _altair(chart: Any) -> dict[str, Any]:
    """Return an Altair chart as a picture where vl-convert can draw one, else as what front ends draw."""
    if _installed("vl_convert"):
        file = io.BytesIO()
        chart.save(file, format="png")
        return {PNG: file.getvalue()}
    specification = chart.to_dict()
    version = str(specification.get("$schema", "")).rpartition("/v")[2].partition(".")[0] or "5"
    return {f"application/vnd.vegalite.v{version}+json": specification}


def _installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def _text(value: Any) -> str:
    if type(value) in (list, tuple, set, frozenset, dict) and len(value) > _LONGEST_REPR:
        items = value.items() if isinstance(value, dict) else value
        return f"{type(value).__name__} of {len(value)}: {list(islice(items, _LONGEST_REPR))!r}"
    return repr(value)


def _clipped(text: str) -> str:
    return (
        text if len(text) <= _TEXT_AT_MOST else f"{text[:_TEXT_AT_MOST]}\n… {len(text) - _TEXT_AT_MOST} more characters"
    )
