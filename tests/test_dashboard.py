"""What a user sees in the dashboard while a run goes, in a real browser without a window."""

from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from browsing import browsing

import kmdask

pytestmark = pytest.mark.cluster

PATIENCE = 60_000
"""Milliseconds that a page may take; it is there within two seconds."""

# Bokeh draws on a canvas, so the names are not in the page's text but in what it draws from.
DRAWN = """names => {
    const drawn = new Set(Bokeh.documents.flatMap(shown => [...shown._all_models.values()])
        .filter(model => model.type === "ColumnDataSource")
        .flatMap(source => Array.from(source.data["name"] ?? [])));
    return names.every(name => drawn.has(name));
}"""
TAGS = """names => {
    const tags = Bokeh.documents.flatMap(shown => [...shown._all_models.values()])
        .filter(model => model.type === "MultiChoice")
        .flatMap(choice => choice.options.flat());
    return names.every(name => tags.includes(name));
}"""

SHOWN = {
    "count": ["read", "count"],
    "fit": ["seed", "lloyd"],
    "write": ["encode", "halve", "write-zarr", "write-tiles", "write-preview"],
}


@pytest.fixture
def browser():
    with browsing() as started:
        yield started


class Onlooker:
    """A progress that has the dashboard open, and at the end of each stage waits for its names."""

    def __init__(self, browser):
        self.context = browser.new_context()
        self.asked, self.stages, self.seen = [], [], False

    def open(self, link):
        page = self.context.new_page()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.goto(link, timeout=PATIENCE)
        return page

    def connected(self, dashboard):
        self.status = self.open(dashboard)
        self.status.wait_for_function(DRAWN, arg=[], timeout=PATIENCE)
        self.dashboard = dashboard

    @contextmanager
    def stage(self, name):
        self.current = name
        yield
        self.status.wait_for_function(DRAWN, arg=SHOWN.get(name, []), timeout=PATIENCE)
        self.stages.append(name)

    def advance(self, done, total):
        # The tasks of a stage are known to the scheduler until the stage goes on.
        if self.current == "write" and done == total:
            progress = self.open(self.dashboard.replace("status", "individual-progress"))
            progress.wait_for_function(DRAWN, arg=SHOWN["write"], timeout=PATIENCE)
            times = self.dashboard.replace("status", "individual-fine-performance-metrics")
            tags = ["kmdask", "out.kmdask", "count", "fit", "write"]
            self.open(times).wait_for_function(TAGS, arg=tags, timeout=PATIENCE)
            self.seen = True

    def note(self, text):
        pass


def test_the_dashboard_shows_the_stages(tmp_path, scene, write_raster, browser):
    source = write_raster(tmp_path / "scene.tif", scene(1100, 2300), tiled=True)
    onlooker = Onlooker(browser)
    # Its own cluster, whose dashboard listens on the loopback address.
    kmdask.compress(source, 9, tmp_path / "out.kmdask", progress=onlooker)
    assert onlooker.stages == ["open", "count", "fit", "write"]
    assert onlooker.seen
    assert {urlsplit(url).hostname for url in onlooker.asked} == {"127.0.0.1"}
    assert any(url.startswith("ws:") for url in onlooker.asked), "no page was alive"
