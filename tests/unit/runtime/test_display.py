"""What a script shows on its way out: its form, its pieces, its limits."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kaptain_magics.core.events import Displayed
from kaptain_magics.runtime import display as displays
from kaptain_magics.runtime.mime import form_of, form_of_bundle
from kaptain_magics.state.content import keep_content
from kaptain_magics.targets.output import OutputReader
from kaptain_magics.targets.reading import ChannelReader

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a reader of the channel takes out of it."""
    path = tmp_path / "channel.jsonl"
    monkeypatch.setenv("KAPTAIN_CHANNEL", f"file:{path}")
    monkeypatch.setattr(displays, "_sender", [])
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")  # figures that other tests of this process left open would be shown at the end
    return lambda: list(ChannelReader().feed(path.read_bytes() if path.exists() else b""))


class Rich:
    def __init__(self, **methods: Any) -> None:
        for name, value in methods.items():
            setattr(self, f"_repr_{name}_", lambda value=value: value)

    def __repr__(self) -> str:
        return "rich"


def test_the_richest_form_that_a_card_can_show_is_taken() -> None:
    assert form_of(Rich(html="<b>x</b>", png=PIXEL))[:2] == ("image/png", PIXEL)
    assert form_of(Rich(html="<b>x</b>")) == ("text/html", b"<b>x</b>", "rich")
    assert form_of(Rich(markdown="# x")) == ("text/plain", b"", "# x")
    assert form_of(Rich(mimebundle={"text/html": "<i>", "text/plain": "long"})) == ("text/html", b"<i>", "rich")
    assert form_of(Rich(mimebundle=({"image/svg+xml": "<svg/>"}, {}))).data == b"<svg/>"
    assert form_of(Rich) == ("text/plain", b"", repr(Rich))
    assert form_of(0.5) == ("text/plain", b"", "0.5")
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/html": "x"}
    assert form_of(Rich(mimebundle=widget)) == ("text/plain", b"", "rich")
    chart = {"application/vnd.vegalite.v5+json": {"mark": "bar"}, "text/html": "<script>"}
    assert form_of_bundle(chart)[:2] == ("application/vnd.vegalite.v5+json", b'{"mark": "bar"}')


def test_long_texts_are_cut_and_broken_methods_do_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    text = form_of(list(range(10**6))).text
    assert text.startswith("list of 1000000: [0, 1, 2")
    assert len(text) < 4100

    class Broken:
        def _repr_html_(self) -> str:
            raise RuntimeError("no table today")

        def __repr__(self) -> str:
            return "broken"

    assert form_of(Broken()) == ("text/plain", b"", "broken")
    assert "no table today" in capfd.readouterr().err


def test_a_table_of_pandas_is_html() -> None:
    pandas = pytest.importorskip("pandas")
    shown = form_of(pandas.DataFrame({"a": ["<b>"]}))
    assert shown.mime == "text/html"
    assert b"&lt;b&gt;" in shown.data
    assert shown.text == "     a\n0  <b>"


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 700_000])
def test_content_of_any_size_arrives_whole(events: Any, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    displays.display({"image/png": data, "text/plain": "a picture"}, raw=True)
    (event,) = events()
    assert (event.key, event.text, event.data, event.size) == ("1", "a picture", data, size)
    assert event.mime == ("image/png" if size else "text/plain")


def test_a_container_prints_it_in_short_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAPTAIN_CHANNEL", "stdout")
    monkeypatch.setattr(displays, "_sender", [])
    data = b"\x89PNG" * 10_000
    displays.display({"image/png": data, "text/plain": "x" * 4000}, raw=True)
    printed = capfd.readouterr().out.encode()
    assert max(map(len, printed.splitlines())) < 16 * 1024  # where container runtimes cut
    reader = OutputReader()
    found = [event for at in range(0, len(printed), 1000) for event in reader.feed(printed[at : at + 1000])]
    assert [type(event) for event in found] == [Displayed]
    assert found[0].data == data  # type: ignore[attr-defined]


def test_places_are_shown_again_and_outputs_cleared(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    displays.display(1, 2)
    handle = displays.display("first", display_id="loss")
    displays.update_display("second", display_id="loss")
    assert handle is not None
    handle.update("third")
    odd = displays.display("odd", display_id="no/such name")
    assert [event.key for event in events()][:5] == ["1", "2", "loss", "loss", "loss"]
    assert odd is not None
    assert events()[5].key.isalnum()
    clock = [100.0]
    monkeypatch.setattr(displays.time, "monotonic", lambda: clock[0])
    for epoch in range(50):  # a loop that draws its loss in place
        displays.clear_output(wait=True)
        displays.display(epoch)
        clock[0] += 0.1
    displays.finish()
    frames = [(event.key, event.clears, event.text) for event in events()[6:]]
    assert {frame[:2] for frame in frames} == {("1", True)}
    assert 3 <= len(frames) <= 7  # about one in a second
    assert frames[-1][2] == "49"


def test_what_is_too_large_is_said_once(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "_LIMITS", {"file": (1000, 2500)})
    monkeypatch.setattr(displays, "_LARGEST_HTML", 100)
    for size in (1001, 1000, 1000, 1000, 1000):
        displays.display({"image/png": bytes(size)}, raw=True)
    displays.display({"text/html": "x" * 101, "text/plain": "table"}, raw=True)
    found = events()
    notes = [event.text for event in found if not isinstance(event, Displayed)]
    assert [len(event.data) for event in found if isinstance(event, Displayed)] == [1000, 1000, 0]
    assert len(notes) == 3
    assert notes[0].startswith("a figure of 0.0 MiB is not shown: the limit is")
    assert notes[1].startswith("a figure is not shown, and none after it")
    assert notes[2].startswith("a table of")


def test_a_trial_may_show_less(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAPTAIN_TRIAL", "3")
    displays.display({"image/png": bytes(3 << 20)}, raw=True)
    assert [type(event).__name__ for event in events()] == ["Noted"]


def test_the_value_of_the_last_expression(events: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Artist:
        pass

    monkeypatch.setitem(sys.modules, "matplotlib.artist", types.SimpleNamespace(Artist=Artist))
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    for value in (None, [Artist()], [[Artist()], 1], Artist(), 0.97, []):
        displays.show_value(value)
    assert [event.text for event in events()] == ["0.97", "[]"]


def test_outside_a_job_the_text_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("KAPTAIN_CHANNEL", raising=False)
    displays.display(Rich(html="<b>"))
    assert capsys.readouterr().out == "rich\n"


# ---- the reader's side ---------------------------------------------------------------------------------------------


def piece(**changes: Any) -> bytes:
    data = b"12"
    fact = {"kind": "display", "key": "1", "mime": "image/png", "pieces": 1, "piece": 0, "crc": 1330857165}
    return json.dumps({**fact, "data": base64.b64encode(data).decode(), **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "../../x"},
        {"key": "a/b"},
        {"key": ""},
        {"crc": 5},
        {"data": "!"},
        {"piece": 1},
        {"kind": "file", "key": "../x"},
        {"kind": "file", "key": "/etc/x"},
        {"kind": "file", "key": "a/../../x"},
    ],
)
def test_lines_that_the_runtime_does_not_write_are_no_events(changes: dict[str, Any]) -> None:
    reader = ChannelReader()
    assert list(reader.feed(piece(**changes))) == []
    (event,) = reader.feed(piece())
    assert (event.key, event.data) == ("1", b"12")  # type: ignore[attr-defined]


def test_content_stays_within_the_runs_folder(tmp_path: Path) -> None:
    from kaptain_magics.core.events import FileWritten
    from kaptain_magics.errors import IntegrityError

    folder = tmp_path / "run"
    kept = keep_content(Displayed(key="7", mime="image/png", data=b"x", size=1), folder)
    assert (kept.file, kept.data) == ("displays/7.png", b"")
    assert (folder / kept.file).read_bytes() == b"x"
    unknown = keep_content(Displayed(key="8", mime="application/x-sh", data=b"x", size=1, text="t"), folder)
    assert (unknown.file, unknown.mime, unknown.size) == ("", "text/plain", 0)
    keep_content(FileWritten(path="a/b.csv", data=b"1"), folder)
    assert (folder / "work/a/b.csv").read_bytes() == b"1"
    (folder / "work/out").symlink_to(tmp_path)
    for path in ("../x", "/x", "out/x", ""):
        with pytest.raises(IntegrityError):
            keep_content(FileWritten(path=path, data=b"1"), folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


@pytest.mark.interpreter
def test_libraries_show_in_the_view_what_they_would_open_a_window_for(events: Any, tmp_path: Path) -> None:
    code = (
        "from kaptain_magics.runtime import hooks\nhooks.install()\n"
        "from PIL import Image\nImage.new('L', (2, 2)).show()\n"
        "import IPython.display as i\ni.display(i.HTML('<b>'))\n"
        "from kaptain_magics.runtime.display import finish\n"
        "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.gcf().show()\nplt.plot([2])\nfinish()\n"
        "assert plt.get_fignums() == []"
    )
    environment = {**os.environ, "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
    assert [event.mime for event in events()] == ["image/png", "text/html", "image/png", "image/png"]


def test_a_figure_of_plotly_is_one_wherever_it_is_shown(events: Any) -> None:
    go = pytest.importorskip("plotly.graph_objects")
    displays.display(go.Figure(go.Bar(x=[1], y=[2])))
    (event,) = events()
    assert event.mime in ("application/vnd.plotly.v1+json", "image/png")
