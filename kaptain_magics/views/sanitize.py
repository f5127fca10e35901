"""HTML that a script shows, made safe to stand inside a card: balanced, without scripts, handlers and foreign loads.

A notebook shows its own cells' HTML as it is. Here it stands among ours, and may come out of a container, so only
elements and attributes are kept that are harmless: those of tables of pandas and of diagrams of scikit-learn.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser

_VOID = frozenset({"br", "hr", "img", "input", "col", "wbr"})
_ELEMENTS = frozenset(re.findall(r"\w+", """
    a abbr b blockquote br caption center code col colgroup dd del details dfn div dl dt em figcaption figure font
    h1 h2 h3 h4 h5 h6 hr i img input ins kbd label li mark ol p pre q s samp section small span strike strong sub
    summary sup table tbody td tfoot th thead tr tt u ul var wbr
"""))  # fmt: skip
_DROPPED_WITH_CONTENT = frozenset(
    {"script", "iframe", "object", "embed", "template", "noscript", "svg", "math", "title"}
)
_ATTRIBUTES = frozenset(re.findall(r"[\w-]+", """
    align alt aria-hidden aria-label bgcolor border cellpadding cellspacing checked class color colspan dir disabled
    for height hidden href id open role rowspan scope span src start style title type valign width
"""))  # fmt: skip
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_LOADS_OR_ESCAPES = re.compile(r"@import|@namespace|\\|</|<!", re.IGNORECASE)  # then nothing of a sheet is kept
_UNSAFE_DECLARATION = re.compile(
    r"[^;{}]*(?:url\s*\((?!\s*[\"']?data:image/)|expression\s*\(|position\s*:\s*(?:fixed|sticky))[^;{}]*", re.IGNORECASE
)


def sanitized(html: str) -> str:
    """Return HTML with what may stand in a card."""
    cleaner = _Cleaner()
    cleaner.feed(html)
    cleaner.close()
    return cleaner.result()


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._open: list[str] = []
        self._dropping: list[str] = []
        self._style: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping or tag in _DROPPED_WITH_CONTENT:
            if tag in _DROPPED_WITH_CONTENT:
                self._dropping.append(tag)
            return
        if tag == "style":
            self._style = []
            return
        if tag not in _ELEMENTS or (tag == "input" and ("type", "checkbox") not in attrs):
            return
        values = ((name, _safe_style(value or "") if name == "style" else value or "") for name, value in attrs)
        kept = "".join(f' {name}="{escape(value)}"' for name, value in values if _is_safe(tag, name, value))
        self._parts.append(f"<{tag}{kept}>")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _DROPPED_WITH_CONTENT:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            if tag == self._dropping[-1]:
                self._dropping.pop()
        elif tag == "style" and self._style is not None:
            sheet, self._style = _safe_style("".join(self._style)), None
            if sheet:
                self._parts.append(f"<style>{sheet}</style>")
        elif tag in self._open:
            while self._open:
                last = self._open.pop()
                self._parts.append(f"</{last}>")
                if last == tag:
                    break

    def handle_data(self, data: str) -> None:
        if self._style is not None:
            self._style.append(data)
        elif not self._dropping:
            self._parts.append(escape(data, quote=False))

    def result(self) -> str:
        return "".join(self._parts) + "".join(f"</{tag}>" for tag in reversed(self._open))


def _safe_style(text: str) -> str:
    """Return a style without what loads something, covers the page or leaves the sheet; empty where that is unclear."""
    plain = _COMMENT.sub("", text)
    if _LOADS_OR_ESCAPES.search(_QUOTED.sub("", plain)) or "</" in plain:
        return ""
    return _UNSAFE_DECLARATION.sub("", plain)


def _is_safe(tag: str, name: str, value: str) -> bool:
    if name not in _ATTRIBUTES:
        return False
    if name == "href":
        return tag == "a" and re.match(r"(?:https?:|#)", value.strip(), re.IGNORECASE) is not None
    if name == "src":
        return tag == "img" and re.match(r"data:image/(?:png|jpeg|gif|webp);base64,", value.strip()) is not None
    return True
