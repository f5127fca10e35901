"""The card of a run in a real JupyterLab: live, attached, after a reload, and in a notebook that is opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts.browser.lab import Lab

pytestmark = pytest.mark.browser

PRELUDE = """
import os, threading, time, msgspec
from pathlib import Path
from kaptain_magics import views
from kaptain_magics.core.events import *
from kaptain_magics.core.states import *
from tests.unit.views import stories
home = Path(os.environ["KAPTAIN_HOME"])

def go(state, **more):
    return StateChanged(state=RunState(state), **more)

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.05)

def story(run, *events):  # an event, or the name of a file to wait for
    def tell():
        for event in events:
            wait_for(event) if isinstance(event, str) else run.tell(event)
    threading.Thread(target=tell).start()
    return run

def trials(first, last):
    best = -1.0
    for number in range(last):
        begun, ended, best = stories.trial_events(number, best=best)
        now = time.time()
        if number >= first:
            yield msgspec.structs.replace(begun, time=now, started=now)
            yield msgspec.structs.replace(ended, time=now + 1, started=now, ended=now + 1)
"""


def signal(lab: Lab, name: str) -> None:
    """Let the story in the kernel go on."""
    (lab.folder / name).touch()


def look(lab: Lab, pictures: Path | None, name: str) -> None:
    if pictures is not None:
        lab.page.locator(".kpt").last.screenshot(path=pictures / f"{name}.png")


def outputs(notebook: Any, cell: int = 1) -> list[dict[str, str]]:
    return [output["data"] for output in notebook.cells[cell].outputs if "data" in output]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_training_run_is_live_and_ends_as_a_static_card(lab: Lab, pictures: Path | None, theme: str) -> None:
    name = f"train-{theme.split()[1].lower()}"
    lab.write(
        f"{name}.ipynb",
        PRELUDE,
        f"""
epochs = [e for i in range(60) for e in (
    MetricReported(name="loss", value=2.0 / (i + 1), step=i), LogWritten(text=f"epoch {{i}} <b>\\n"))]
run = stories.training(home)
views.follow(story(run, go("running"), *epochs, "{name}-1", Noted(text="almost"), "{name}-2", go("succeeded")))
""",
    )
    page = lab.open(f"{name}.ipynb", theme)
    lab.run_all()
    card = page.locator(".kpt-live")
    card.get_by_text("epoch 59 <b>").wait_for()
    assert card.locator(".kpt-chip").inner_text() == "●\nrunning"
    assert card.locator(".kpt-tile img").count() == 1
    before = card.locator(".kpt-time").inner_text()
    page.wait_for_function("before => document.querySelector('.kpt-time').textContent !== before", arg=before)
    look(lab, pictures, f"{name}-live")
    signal(lab, f"{name}-1")
    card.get_by_text("kaptain-log[INFO]: almost").wait_for()
    signal(lab, f"{name}-2")
    lab.idle()
    page.locator(".kpt:not(.kpt-live) .kpt-head .kpt-succeeded").wait_for()
    assert page.locator(".kpt-live").count() == 0
    look(lab, pictures, f"{name}-end")
    (data,) = outputs(lab.save(f"{name}.ipynb"))
    assert set(data) == {"text/plain", "text/html"}


def test_figures_come_while_the_run_goes_on_and_stay(lab: Lab, pictures: Path | None) -> None:
    lab.write(
        "figures.ipynb",
        PRELUDE,
        """
from kaptain_magics.runtime.mime import figure_png
import matplotlib.figure, pandas as pd
def figure(key, points, **more):
    drawn = matplotlib.figure.Figure(figsize=(4, 2))
    drawn.add_subplot().plot(points)
    data = figure_png(drawn)
    return Displayed(key=key, mime="image/png", text="<Figure>", data=data, size=len(data), **more)
table = pd.DataFrame({"name": ["<b>", "x"], "score": [0.5, 0.75]}).to_html() + "<script>document.title='ran'</script>"
table = Displayed(key="2", mime="text/html", text="a table", data=table.encode(), size=9)
chart = b'{"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "mark": "bar", "data": {"values": [{"a": 1}]}}'
chart = Displayed(key="3", mime="application/vnd.vegalite.v5+json", text="a chart", data=chart, size=99)
run = stories.training(home)
views.follow(story(run, go("running"), figure("1", [1, 2]), table, "figures-1", figure("1", [2, 1]), chart, "figures-2",
                   go("succeeded")))
""",
    )
    page = lab.open("figures.ipynb")
    lab.run_all()
    card = page.locator(".kpt-live")
    image = card.locator(".kpt-shown img")
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    card.locator(".kpt-html td", has_text="<b>").wait_for()
    before = image.get_attribute("src")
    look(lab, pictures, "figures-live")
    signal(lab, "figures-1")
    page.wait_for_function("src => document.querySelector('.kpt-live .kpt-shown img').src !== src", arg=before)
    assert image.count() == 1
    signal(lab, "figures-2")
    lab.idle()
    page.locator(".kpt:not(.kpt-live) .kpt-shown img").wait_for()
    page.locator(".vega-embed, .jp-RenderedVegaCommon5").first.wait_for()
    look(lab, pictures, "figures-end")
    assert page.title() != "ran"
    card, drawn = outputs(lab.save("figures.ipynb"))
    assert "data:image/png;base64," in card["text/html"]
    assert set(drawn) >= {"application/vnd.vegalite.v5+json", "text/plain"}  # JupyterLab adds a picture of it


def test_a_study_of_a_thousand_trials(lab: Lab, pictures: Path | None) -> None:
    received = []
    lab.write(
        "study.ipynb",
        PRELUDE,
        """
run = stories.study(home, 1000, goal=0.99)
views.follow(story(run, go("running"), *trials(0, 30), "study-1", *trials(30, 1000), "study-2", go("succeeded")))
""",
    )
    page = lab.page
    page.on("websocket", lambda ws: ws.on("framereceived", lambda data: received.append(len(data))))
    lab.open("study.ipynb")
    lab.run_all()
    card = page.locator(".kpt-live")
    card.get_by_text("30 of 1000 trials").wait_for()
    look(lab, pictures, "study-live")
    signal(lab, "study-1")
    card.get_by_text("1000 of 1000 trials").wait_for()
    assert card.locator(".kpt-trials tbody tr").count() == 100
    assert card.locator(".kpt-best td").first.inner_text() == "★ 588"
    assert sum(received) < 2_000_000

    # the keyboard sorts: by the first column, the other way, then the best first again
    first = card.locator(".kpt-trials tbody td").first
    head = card.locator("th button").first
    head.focus()
    for expected in ("0", "999", "★ 588"):
        page.keyboard.press("Enter")
        assert first.inner_text() == expected

    # the mouse shows a point of the chart
    spot = card.locator("circle").bounding_box()
    assert spot is not None
    page.mouse.move(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    card.get_by_text("trial 588 · accuracy 0.96908").wait_for()
    look(lab, pictures, "study-1000")
    signal(lab, "study-2")
    lab.idle()
    page.locator(".kpt:not(.kpt-live) .kpt-chart img").wait_for()
    notebook = lab.save("study.ipynb")
    assert len(json.dumps(notebook)) < 150_000


def test_an_endpoint_s_curl_line_is_copied(lab: Lab, pictures: Path | None) -> None:
    lab.write(
        "endpoint.ipynb",
        PRELUDE,
        """
ready = EndpointChanged(name="dev-mnist", state=EndpointState.READY, url=stories.URL, traffic={stories.REVISION: 100})
views.follow(story(stories.deployment(home), go("running"), ready, "endpoint-1", go("succeeded")))
""",
    )
    page = lab.open("endpoint.ipynb")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lab.run_all()
    page.locator(".kpt-live tr", has_text="Try it").locator("button").click()
    page.locator(".kpt-live").get_by_text("copied", exact=True).wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl -s http://127.0.0.1:41231/")
    look(lab, pictures, "endpoint-live")
    signal(lab, "endpoint-1")
    lab.idle()
    page.locator(".kpt:not(.kpt-live)").get_by_text("ready").first.wait_for()
    look(lab, pictures, "endpoint-end")


def test_a_detached_run_goes_on_in_its_cell_and_after_a_reload(lab: Lab) -> None:
    lab.write(
        "detached.ipynb",
        PRELUDE,
        """
run = stories.study(home, 40)
views.watch(story(run, go("running"), *trials(0, 10), "detached-1", *trials(10, 20), "detached-2", go("succeeded")))
""",
        "print('free at once')",
    )
    page = lab.open("detached.ipynb")
    lab.run_all()
    page.get_by_text("free at once", exact=True).wait_for()
    card = page.locator(".kpt-live")
    card.get_by_text("10 of 40 trials").wait_for()
    lab.save("detached.ipynb")

    page.reload()
    page.wait_for_function("window.jupyterapp !== undefined")
    card.get_by_text("10 of 40 trials").wait_for()
    assert card.locator(".kpt-trials tbody tr").count() == 10
    signal(lab, "detached-1")
    card.get_by_text("20 of 40 trials").wait_for()
    signal(lab, "detached-2")
    card.locator(".kpt-chip", has_text="succeeded").wait_for()


def test_a_detached_run_ends_as_a_static_card_in_its_own_cell(lab: Lab) -> None:
    lab.write(
        "behind.ipynb",
        PRELUDE,
        """
run = stories.training(home)
views.watch(story(run, go("running"), LogWritten(text="working\\n"), "behind-1", go("succeeded")))
""",
        "print('another cell')\nwait_for('behind-2')",
    )
    page = lab.open("behind.ipynb")
    lab.run_all()
    page.locator(".kpt-live").get_by_text("working").wait_for()
    signal(lab, "behind-1")  # while the next cell runs
    page.locator(".kpt:not(.kpt-live) .kpt-head .kpt-succeeded").wait_for()
    signal(lab, "behind-2")
    lab.idle()
    notebook = lab.save("behind.ipynb")
    (data,) = outputs(notebook)
    assert set(data) == {"text/plain", "text/html"}
    assert [output.text for output in notebook.cells[2].outputs] == ["another cell\n"]


def test_a_notebook_that_nobody_trusts_still_shows_the_result(lab: Lab, pictures: Path | None) -> None:
    lab.write("source.ipynb", PRELUDE, "views.follow(stories.tuned(home, 60))")
    lab.open("source.ipynb")
    lab.run_all()
    lab.page.locator(".kpt-chart img").wait_for()
    lab.idle()
    saved = lab.save("source.ipynb")
    saved.cells[1].source += "  # changed by another person: its signature is no longer ours"
    (lab.folder / "foreign.ipynb").write_text(json.dumps(saved))

    page = lab.open("foreign.ipynb")
    output = page.locator(".jp-OutputArea-output", has_text="succeeded").first
    output.wait_for()
    assert page.locator(".kpt style").count() == 0  # not trusted: the style is taken out
    image = output.locator("img").first
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 600
    assert image.get_attribute("alt") == "accuracy over 60 trials, the best 0.96495"
    assert "★ 42" in output.inner_text()
    assert "exit code 1: ValueError: C <= 0" in output.inner_text()
    if pictures is not None:
        output.screenshot(path=pictures / "untrusted.png")


def test_a_flood_of_lines_leaves_the_page_alive(lab: Lab) -> None:
    lab.write(
        "flood.ipynb",
        PRELUDE,
        """
run = stories.training(home).tell(go("running"))
blocks = ["".join(f"line {b * 1000 + i} of the flood\\n" for i in range(1000)) for b in range(300)]
def flood():
    for block in blocks:
        run.tell(LogWritten(text=block))
        time.sleep(0.01)
    wait_for("flood-1")
    run.tell(go("succeeded"))
threading.Thread(target=flood).start()
views.follow(run)
""",
    )
    received: list[int] = []
    page = lab.page
    page.on("websocket", lambda ws: ws.on("framereceived", lambda data: received.append(len(data))))
    lab.open("flood.ipynb")
    lab.run_all()
    card = page.locator(".kpt-live")
    card.get_by_text("line 299999 of the flood").wait_for()
    assert card.locator("pre").evaluate("pre => pre.textContent.split('\\n').length") <= 201
    page.wait_for_function(  # and its end is in sight
        "(pre => pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30)(document.querySelector('.kpt-live pre'))"
    )
    assert sum(received) < 3_000_000
    signal(lab, "flood-1")
    lab.idle()
