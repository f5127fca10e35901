"""Figures and tables of a script: in the card, in the widget, in a terminal; HTML is made safe."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kaptain_magics.core.events import Displayed
from kaptain_magics.views import displays, html, text
from kaptain_magics.views.fold import RunView, view_of
from kaptain_magics.views.sanitize import sanitized
from kaptain_magics.views.widget import CardDiff
from tests.unit.views.stories import Run, training


def picture(key: str = "1", data: bytes = b"\x89PNG", **more: object) -> Displayed:
    return Displayed(key=key, mime="image/png", text="<Figure>", data=data, size=len(data), **more)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return training(tmp_path)


def take(run: Run, *events: Displayed) -> RunView:
    view = view_of(run)
    for event in events:
        view.take(run.folder.append(event))
    return view


def test_a_card_has_the_picture_and_a_terminal_its_path(run: Run) -> None:
    view = take(run, picture())
    data = base64.b64encode(b"\x89PNG").decode()
    assert f'<img src="data:image/png;base64,{data}" alt="&lt;Figure&gt;"' in html.card(view, 0.0)
    assert f"<Figure>: {run.folder.path}/displays/1.png" in text.card(view, 0.0)
    assert not (run.folder.path / "displays/1.png").stat().st_mode & 0o077


def test_tables_texts_and_charts(run: Run) -> None:
    table = Displayed(key="1", mime="text/html", text="a\n1", data=b"<table><tr><td>1<script>x</script>", size=9)
    chart = Displayed(key="2", mime="application/vnd.vegalite.v5+json", text="chart", data=b'{"mark": "bar"}', size=15)
    view = take(run, table, chart, Displayed(key="3", mime="text/plain", text="<0.5>"))
    section = displays.section(view)
    assert "<table><tr><td>1</td></tr></table>" in section
    assert "2.vegalite.json</code>" in section
    assert "<pre>&lt;0.5&gt;</pre>" in section
    assert list(displays.bundles(view)) == [
        {"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/plain": "chart"}
    ]


def test_the_same_key_takes_the_place_and_clearing_removes(run: Run) -> None:
    view = take(run, picture("1"), picture("2"), picture("1", b"\x89PNG2"))
    assert list(view.displays) == ["1", "2"]
    assert displays.section(view).count("<img") == 2
    view.take(run.folder.append(picture("1", b"\x89PNG3", clears=True)))
    assert list(view.displays) == ["1"]
    assert base64.b64encode(b"\x89PNG3").decode() in displays.section(view)
    assert len(view.drawn) == 1


def test_what_is_gone_or_too_much_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    view = take(run, picture("1"), picture("2", b"x" * 100), picture("3", b"x" * 100))
    monkeypatch.setattr(displays, "_EMBEDDED", 150)
    (run.folder.path / "displays/1.png").unlink()
    section = displays.section(view)
    assert "displays/1.png is not there any more" in section
    assert section.count("<img") == 1
    assert "3.png</code> <small>100 B" in section


def test_a_widget_gets_each_once(run: Run) -> None:
    view, diff = take(run, picture("1")), CardDiff()
    first = diff.parts(view)
    (number,) = first["shown"]
    assert first[f"s{number}"].startswith("<img")
    view.take(run.folder.append(picture("2")))
    assert diff.parts(view)["shown"] == [number, number + 1]


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("<p style='color:red;background:url(http://x)'>a", '<p style="color:red;">a</p>'),
        ("<style>@import 'x';</style>b", "b"),
        ("<style>a{background:u\\rl(http://x)}</style>c", "c"),
        ('<style>i{background:url("data:image/svg+xml;base64,PA==")}</style>', None),
        ("<table><tr><td>x</div></table></section><script>1</script>t", "<table><tr><td>x</td></tr></table>t"),
        ("<svg onload=x><b>in</b></svg>u<img src=x onerror=1>", "u<img>"),
        ('<a href="javascript:1">l</a><a href="https://x">m</a>', '<a>l</a><a href="https://x">m</a>'),
        ('<div style="position: fixed; top: 0">z', '<div style="; top: 0">z</div>'),
        ("<noscript><img src=x></noscript>ok<", "ok&lt;"),
        ("<input type=checkbox checked><input type=text><button>x</button>", '<input type="checkbox" checked="">x'),
        ("<iframe srcdoc='<script>'></iframe><form action=x><b>y</b></form>", "<b>y</b>"),
    ],
)
def test_html_is_made_safe(given: str, safe: str | None) -> None:
    assert sanitized(given) == (given if safe is None else safe)


def test_a_page_that_its_scripts_draw_runs_in_a_frame_of_its_own() -> None:
    page = "<div id=x></div><script>document.getElementById('x').textContent = \"drawn\"</script>"
    frame = displays.html_part(page)
    assert frame.startswith('<iframe sandbox="allow-scripts" ')  # and not allow-same-origin
    assert "<script" not in frame
    assert "&lt;script&gt;" in frame
    assert "<iframe" not in displays.html_part(f"<table><tr><td>1</td></tr></table>{page}")


def test_a_styled_table_keeps_its_colours() -> None:
    pandas = pytest.importorskip("pandas")
    plain = sanitized(pandas.DataFrame({"a": ["<b>", "x"]}).to_html())
    assert '<table border="1" class="dataframe">' in plain
    assert "<td>&lt;b&gt;</td>" in plain
