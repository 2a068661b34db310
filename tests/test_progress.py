"""What is shown of a run: bars, lines, and bars in notebooks."""

import io
import re
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

import kmdask
from kmdask.progress import Silent, Terminal, chosen


class Clock:
    """A clock that stands still until it is set."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told(clock, monkeypatch):
    """``told(quiet=0)``: where nobody sees a bar; the progress, and what it has printed."""

    def make(quiet=0.0):
        monkeypatch.setattr("kmdask.progress.QUIET_SECONDS", quiet)
        file = io.StringIO()
        console = Console(file=file, soft_wrap=True, get_time=clock, force_terminal=False)
        return Terminal(console), file

    return make


def lines(file):
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_lines(told, clock):
    progress, file = told()
    with progress.stage("count"):
        progress.advance(0, 100_000_000)
        for clock.now, done in enumerate([40_000_000, 60_000_000, 99_999_999, 100_000_000], 1):
            progress.advance(done, 100_000_000)
    *during, last = lines(file)
    assert during == [
        "count      ...",
        "count        0 %",
        "count       40 %",
        "count       60 %  20 Mpx/s  2 s left",
        "count       99 %  30 Mpx/s  1 s left",
        "count      100 %  20 Mpx/s  0 s left",
    ]
    assert re.fullmatch(r"count      \d+\.\d s", last)


def test_a_long_time_left_and_a_slow_rate(told, clock):
    progress, file = told()
    with progress.stage("write"):
        for clock.now, done in [(0, 0), (1, 500), (2, 50_500)]:
            progress.advance(done, 400_000_000)
    assert lines(file)[-2] == "write        0 %  0.05 Mpx/s  2:13:19 left"


def test_another_pass_begins_again(told, clock):
    progress, file = told()
    with progress.stage("refine"):
        for clock.now, done in enumerate([0, 30, 100]):
            progress.advance(done * 1_000_000, 100_000_000)
        progress.advance(0, 100_000_000)
        progress.note("pass 2")
        clock.now = 103
        progress.advance(50_000_000, 100_000_000)
        clock.now = 104
        progress.advance(60_000_000, 100_000_000)
    # With the speed of this pass, not of both.
    assert lines(file)[-4:-1] == [
        "refine       0 %  pass 2",
        "refine      50 %  pass 2",
        "refine      60 %  10 Mpx/s  4 s left  pass 2",
    ]


def test_what_has_no_pixels_says_what_it_does(told):
    progress, file = told()
    with progress.stage("fit"):
        progress.note("seed: 3 of 32 tasks")
        progress.note("lloyd-step 7: 1 of 8 tasks")
    assert lines(file)[1:-1] == [
        "fit        seed: 3 of 32 tasks",
        "fit        lloyd-step 7: 1 of 8 tasks",
    ]


def test_not_a_line_for_each_task(told):
    progress, file = told(quiet=3600)
    with progress.stage("count"):
        for done in range(1000):
            progress.advance(done, 1000)
            progress.note("much")
    assert len(lines(file)) == 3


def test_the_first_note_of_a_stage_is_printed_at_once(told):
    progress, file = told(quiet=3600)
    for stage in ("count", "write"):
        with progress.stage(stage):
            progress.advance(0, 100)
            for text in ("", "compiling", "", "pass 2"):
                progress.note(text)
    assert [line for line in lines(file) if "%" in line] == [
        "count        0 %  compiling",
        "write        0 %  compiling",
    ]


def test_a_bar(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    console = Console(file=file, width=150, get_time=clock, force_terminal=True, color_system=None)
    progress = Terminal(console)
    with progress.stage("count"):
        for clock.now, done in [(0, 0), (1, 40_000_000), (2, 60_000_000)]:
            progress.advance(done, 100_000_000)
        progress.note("pass 2")
    drawn = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", file.getvalue())
    assert re.search(r"count +━+[╺╸]?━* +60% 20 Mpx/s 0:00:02 0:00:02 pass 2", drawn)
    assert re.search(r"count      \d+\.\d s$", drawn.strip())


@pytest.fixture
def notebook(monkeypatch):
    """Stand in for IPython and its widgets; the list of what a cell shows."""
    shown = []

    class Output:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def clear_output(self, *, wait):
            assert wait

        def close(self):
            shown.append("closed")

    modules = {name: ModuleType(name) for name in ("IPython", "IPython.display", "ipywidgets")}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    modules["IPython.display"].display = shown.append
    modules["ipywidgets"].Output = Output
    return shown


def texts(shown):
    return "".join(each._repr_mimebundle_([], [])["text/plain"] for each in shown if mime(each))


def mime(each):
    return hasattr(each, "_repr_mimebundle_")


def test_a_bar_in_a_notebook(notebook):
    progress = Terminal(Console(force_jupyter=True, width=150, highlight=False))
    with progress.stage("count"):
        progress.advance(60_000_000, 100_000_000)
        progress._bar.refresh()
    assert re.search(r"count +.*60%", texts(notebook))
    assert "closed" in notebook
    assert re.search(r"count      \d+\.\d s$", texts(notebook[-1:]).strip())


def test_lines_in_a_notebook_without_widgets(notebook, monkeypatch):
    monkeypatch.setattr("kmdask.progress.find_spec", lambda _: None)
    monkeypatch.setattr("kmdask.progress.QUIET_SECONDS", 0)
    progress = Terminal(Console(force_jupyter=True, width=150, highlight=False))
    with progress.stage("count"):
        progress.advance(60_000_000, 100_000_000)
    assert "count       60 %" in texts(notebook)
    assert "closed" not in notebook


def test_no_dashboard(told):
    progress, file = told()
    progress.connected(None)
    assert lines(file) == ["dashboard  none"]


def test_nothing_outside_of_a_stage(told):
    progress, file = told()
    progress.advance(1, 2)
    progress.note("late")
    assert lines(file) == []


def test_chosen():
    assert isinstance(chosen(True), Terminal)
    assert isinstance(chosen(False), Silent)
    assert isinstance(chosen(None), Silent)
    silent = Silent()
    assert chosen(silent) is silent


def test_shown_by_compress(tmp_path, capsys):
    kmdask.compress(np.eye(30, dtype=np.uint8), 2, tmp_path / "out.kmdask", progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for stage in ("open", "count", "fit", "write"):
        assert re.search(rf"^{stage} +\d+\.\d s$", shown.err, re.MULTILINE)


def test_pixels_of_decompressing(tmp_path, scene, write_raster):
    from kmdask.writing import decompress

    source = write_raster(tmp_path / "scene.tif", scene(60, 80))
    bundle = kmdask.compress(source, 3).path

    seen = []

    class Told(Silent):
        def advance(self, done, total):
            seen.append((done, total))

    for ending in ("tif", "zarr"):
        image = decompress.Decoded.open(bundle)
        decompress.decompress(image, tmp_path / f"colors.{ending}", progress=Told())
    assert seen == [(4800, 4800)] * 2
