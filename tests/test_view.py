"""The page about a bundle: its files, its server, and what a real browser shows of it."""

import functools
import html
import http.server
import io
import json
import math
import os
import shutil
import signal
import socket
import struct
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import forked
import numpy as np
import pytest
from affine import Affine
from browsing import browsing
from bundles import contents
from click.testing import CliRunner
from PIL import Image
from pyproj import CRS, Geod, Transformer

import kmdask
from kmdask.cli import main
from kmdask.cli_view import ended_as_by_ctrl_c
from kmdask.georef import Georef
from kmdask.viewing.ground import STEPS, coordinates
from kmdask.viewing.page import GROUND, describe, page_files
from kmdask.viewing.server import Server, Site, host_names

HEIGHT, WIDTH = 701, 1301
LAST = 11
"""The level of the full image: 2 ** 11 is the first power of two that is no less than 1301."""

START = "() => Bokeh.documents[0].roots()[0].x_range.start"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("view")


@pytest.fixture(scope="module")
def source(folder, scene, write_raster):
    place = {"crs": "EPSG:32629", "transform": Affine(10.0, 0.0, 5e5, 0.0, -10.0, 6e6)}
    return write_raster(folder / "scene.tif", scene(HEIGHT, WIDTH), tiled=True, **place)


@pytest.fixture(scope="module")
def bundle(compress, folder, source):
    return compress(source, 9, folder / "scene.kmdask")


@pytest.fixture(scope="module")
def browser():
    with browsing() as started:
        yield started


class Screen:
    """A page in the browser, and what is to be seen in it."""

    def __init__(self, browser, url):
        self.page = browser.new_page(viewport={"width": 900, "height": 640})
        self.said, self.asked = [], []
        self.page.on("console", lambda told: self.said.append((told.type, told.text)))
        self.page.on("pageerror", lambda error: self.said.append(("error", str(error))))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]")
        veil = ".label, #zooming, #scale, #place, #news, #ghost, #divider { opacity: 0 !important }"
        self.page.add_style_tag(content=veil)

    def boxes(self):
        """Left, top, width and height of the two sides, as the window shows them."""
        return self.page.evaluate(
            "() => ['original', 'compressed'].map(id => {"
            "  const { x, y, width, height } = document.getElementById(id).getBoundingClientRect();"
            "  return [x, y, width, height] })"
        )

    def go(self, left, top, scale, mode):
        """Have this pixel of the image in the upper left corner."""
        self.page.evaluate("mode => location.hash = '0,0,1,' + mode", mode)
        _, _, width, height = self.boxes()[1]
        middle = left + scale * width / 2, top + scale * height / 2
        self.page.evaluate(
            "hash => location.hash = hash", f"{middle[0]},{middle[1]},{scale},{mode}"
        )

    def sides(self):
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        pixels = np.asarray(shot).astype(int)
        for box in self.boxes():
            x, y, width, height = map(round, box)
            yield pixels[y : y + height, x : x + width]

    def until(self, agreed):
        """Wait until the two sides are as they should be; return them."""
        for _ in range(50):
            sides = tuple(self.sides())
            if agreed(*sides):
                return sides
            self.page.wait_for_timeout(100)
        pytest.fail("the sides do not look as they should")

    def levels(self, folder="compressed"):
        return {int(urlsplit(url).path.split("/")[2]) for url in self.asked if f"/{folder}/" in url}


def mosaic(folder, level, ending):
    """All tiles of a level, put together by Pillow."""
    paths = {
        tuple(map(int, path.stem.split("_"))): path
        for path in (Path(folder) / str(level)).glob(f"*.{ending}")
    }
    rows = 1 + max(row for _, row in paths)
    columns = 1 + max(column for column, _ in paths)
    return np.vstack(
        [
            np.hstack(
                [
                    np.asarray(Image.open(paths[column, row]).convert("RGB")).astype(int)
                    for column in range(columns)
                ]
            )
            for row in range(rows)
        ]
    )


def window(pixels, left, top, shape):
    """What a window that may go beyond an image shows of it."""
    height, width = shape
    shown = np.empty((height, width, 3), int)
    shown[:] = GROUND
    rows = slice(max(top, 0), min(top + height, len(pixels)))
    columns = slice(max(left, 0), min(left + width, pixels.shape[1]))
    shown[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = pixels[
        rows, columns
    ]
    return shown


def same(side, expected):
    return np.array_equal(side, expected)


def near(side, expected):
    """JPEGs are not decoded to the same bit everywhere."""
    return np.abs(side - expected).mean() < 1


@pytest.mark.cluster
def test_a_browser_shows_both_sides_pixel_by_pixel(bundle, client, browser):
    with kmdask.view(bundle, client=client) as shown:
        shown.wait()
        assert shown.original["state"] == "ready"
        screen = Screen(browser, f"{shown.url}#650,350,1,side")
        assert screen.page.get_attribute("#stage", "data-mode") == "side"
        tiles = {level: mosaic(bundle.path / "tiles_files", level, "png") for level in (9, 10, 11)}
        originals = shown._folder / "original"
        raw = {level: mosaic(originals, level, "jpg") for level in (9, 10, 11)}
        decoded = bundle.colormap.rgb[bundle.indices.compute()].astype(int)
        np.testing.assert_array_equal(tiles[LAST], decoded)

        def seen(left, top, level, magnify=1):
            def agreed(original, compressed):
                def expected(pixels):
                    size = [-(-length // magnify) for length in compressed.shape[:2]]
                    part = window(pixels, left, top, size)
                    for axis in (0, 1):
                        part = np.repeat(part, magnify, axis)
                    return part[: compressed.shape[0], : compressed.shape[1]]

                return same(compressed, expected(tiles[level])) and near(
                    original, expected(raw[level])
                )

            return agreed

        # Three zooms: the full image, two pixels to one at its last corner, each pixel four times.
        screen.go(300, 100, 1, "side")
        screen.until(seen(300, 100, LAST))
        assert screen.levels() == screen.levels("original") == {LAST}
        screen.go(500, 200, 2, "side")
        screen.until(seen(250, 100, LAST - 1))
        assert screen.levels() == screen.levels("original") == {LAST - 1, LAST}
        screen.go(640, 320, 0.25, "side")
        screen.until(seen(640, 320, LAST, magnify=4))
        screen.go(-200, -400, 4, "side")
        screen.until(seen(-50, -100, LAST - 2))
        assert screen.levels() == screen.levels("original") == {LAST - 2, LAST - 1, LAST}

        check_moving(screen, seen)
        assert_quiet(screen, shown.url)
        check_highlight(screen, bundle, tiles[LAST])
        check_swipe(screen, tiles[LAST], raw[LAST])
        assert_quiet(screen, shown.url)
    assert not originals.exists()


def check_moving(screen, seen):
    """Dragged on one side, both move; so they do when the wheel is turned."""
    screen.go(300, 100, 1, "side")
    screen.until(seen(300, 100, LAST))
    (x, y, _, _), (right, _, _, _) = screen.boxes()
    mouse = screen.page.mouse
    mouse.move(x + 250, y + 250)
    mouse.down()
    mouse.move(x + 200, y + 230)
    mouse.move(x + 150, y + 210)
    mouse.up()
    screen.until(seen(400, 140, LAST))
    mouse.move(right + 100, y + 100)
    mouse.wheel(0, -300)

    def in_step(original, compressed):
        # Moved by some pixels in any direction, they would be less alike.
        middle = original[20:-20, 20:-20]
        apart = {
            (dy, dx): np.abs(np.roll(compressed, (dy, dx), (0, 1))[20:-20, 20:-20] - middle).mean()
            for dy in (-4, 0, 4)
            for dx in (-4, 0, 4)
        }
        return min(apart, key=apart.get) == (0, 0)

    screen.until(lambda *sides: not seen(400, 140, LAST)(*sides) and in_step(*sides))
    assert screen.page.evaluate(START) > 400, "the wheel has not zoomed in"


def check_highlight(screen, bundle, pixels):
    """What is pointed at in the palette stays; all else is grey, light or dark as it is not."""
    screen.go(300, 100, 1, "side")
    entry = 0
    color = bundle.colormap.rgb[entry].astype(int)
    screen.page.hover(f"#strip span[data-index='{entry}']")

    def agreed(_original, compressed):
        expected = window(pixels, 300, 100, compressed.shape[:2])
        lit = (expected == color).all(axis=2)
        assert 0.02 < lit.mean() < 0.9
        others = compressed[~lit]
        grey = np.ptp(others, axis=1).max() == 0 and np.ptp(others) < 70
        return grey and (compressed[lit] == color).all() and abs(others - color.mean()).min() > 15

    screen.until(agreed)
    told = screen.page.inner_text("#entry")
    assert f"entry {entry}" in told
    assert bundle.colormap.hex[entry] in told
    screen.page.mouse.move(400, 300)
    screen.until(lambda _, side: same(side, window(pixels, 300, 100, side.shape[:2])))


def check_swipe(screen, pixels, raw):
    """What is right of the divider is compressed, what is left of it is not."""
    screen.page.click("button[data-mode=swipe]")
    screen.go(100, 50, 1, "swipe")
    _, top, width, height = screen.boxes()[1]
    screen.page.mouse.move(width / 2, top + height / 2)
    screen.page.mouse.down()
    screen.page.mouse.move(width / 4, top + height / 2)
    screen.page.mouse.up()

    def agreed(_original, side):
        cut = side.shape[1] // 4
        left, right = (window(part, 100, 50, side.shape[:2]) for part in (raw, pixels))
        return near(side[:, : cut - 20], left[:, : cut - 20]) and same(
            side[:, cut + 20 :], right[:, cut + 20 :]
        )

    screen.until(agreed)


def assert_quiet(screen, url):
    assert [told for told in screen.said if told[0] in {"error", "warning"}] == []
    here = urlsplit(url).netloc
    assert {urlsplit(asked).netloc for asked in screen.asked if not asked.startswith("data:")} <= {
        here
    }


@pytest.mark.cluster
def test_an_exported_page_is_served_by_any_server(bundle, client, folder, browser):
    out = folder / "page"
    kmdask.export_view(bundle, out, client=client)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=out)
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        screen = Screen(browser, f"{url}#0,0,1,side")
        asked = list(screen.asked)
        screen.go(WIDTH - 300, HEIGHT - 300, 1, "side")
        pixels = mosaic(out / "compressed", LAST, "png")
        raw = mosaic(out / "original", LAST, "jpg")

        def agreed(original, compressed):
            left, right = (
                window(part, WIDTH - 300, HEIGHT - 300, compressed.shape[:2])
                for part in (raw, pixels)
            )
            return same(compressed, right) and near(original, left)

        screen.until(agreed)
        assert_quiet(screen, url)
        assert not any("state.json" in each for each in asked + screen.asked)
        server.shutdown()
    with pytest.raises(kmdask.OutputExistsError, match="overwrite"):
        kmdask.export_view(bundle, out, original=False)
    kmdask.export_view(bundle, out, original=False, overwrite=True)
    assert not (out / "original").exists()


def test_long_palettes_are_not_listed(compress, folder, browser):
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    with kmdask.view(compress(pixels, 400, folder / "long.kmdask")) as shown:
        screen = Screen(browser, shown.url)
        assert "up to 256" in screen.page.inner_text("#entry")
        assert "No original" in screen.page.inner_text("#news")
        assert_quiet(screen, shown.url)


def ask(url, **headers):
    try:
        asked = urllib.request.Request(url, headers=headers)  # noqa: S310  a loopback address
        with urllib.request.urlopen(asked) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {}, b""


def test_the_server_hands_out_tiles_and_nothing_else(tmp_path):
    (tmp_path / "tiles" / "3").mkdir(parents=True)
    (tmp_path / "tiles" / "3" / "0_0.png").write_bytes(b"tile")
    (tmp_path / "secret.png").write_bytes(b"secret")
    server = Server(Site({"index.html": b"page"}, {"compressed": tmp_path / "tiles"}))
    try:
        status, headers, content = ask(f"{server.url}compressed/3/0_0.png?abc")
        assert (status, content) == (200, b"tile")
        assert headers["Content-Type"] == "image/png"
        assert "immutable" in headers["Cache-Control"]
        assert ask(server.url)[2] == b"page"
        assert json.loads(ask(f"{server.url}state.json")[2]) == {}
        for name in (
            "compressed/3/1_0.png",
            "compressed/../secret.png",
            "compressed/..%2fsecret.png",
            "compressed//secret.png",
            "original/3/0_0.png",
            "etc/passwd",
            "/etc/passwd",
        ):
            assert ask(server.url + name)[0] == 404
        assert ask(server.url, Host="example.org")[0] == 421
        assert host_names(80) == {"127.0.0.1", "localhost"}
        assert ask(server.url, Host=urlsplit(server.url).netloc)[0] == 200
        with pytest.raises(kmdask.OutputError, match="cannot be served on"):
            Server(Site({}, {}), port=urlsplit(server.url).port)
    finally:
        server.close()
    with pytest.raises(kmdask.ParameterError, match="65535"):
        Server(Site({}, {}), port=70000)


def test_browsers_that_go_and_browsers_that_stay(capfd):
    server = Server(Site({"index.html": b"page" * 1_000_000}, {}))
    place = urlsplit(server.url)
    wanted = f"GET / HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    gone, kept = (socket.create_connection((place.hostname, place.port), 5) for _ in range(2))
    gone.sendall(wanted)
    # Closed so that the server is told at once.
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    with kept:
        kept.sendall(wanted)
        assert kept.recv(15, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK"
        server.close()
        with suppress(ConnectionError):
            while kept.recv(1 << 20):
                pass
    assert capfd.readouterr().err == ""


def test_each_page_has_addresses_of_its_own(bundle):
    assert describe(bundle, None)["version"] != describe(bundle, None)["version"]


def test_names_are_text_wherever_they_stand(bundle):
    name = "<b>{{title}}{{view}}\"'&\\.kmdask"
    told = {**vars(bundle), "path": Path(name)}
    page = page_files(type(bundle)(**told), None)["index.html"].decode()
    said = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(said)["name"] == name
    assert html.unescape(page.partition("<title>")[2]).startswith(f"{name} ")
    assert "<b>" not in page


def test_a_source_that_has_changed_is_another_image(compress, folder, scene, write_raster):
    source = write_raster(folder / "changed.tif", scene(30, 40))
    image = compress(source, 2, folder / "changed.kmdask")
    write_raster(folder / "changed.tif", scene(30, 40), compress="deflate")
    with kmdask.view(image) as shown:
        assert shown.original["state"] == "none"
        assert "when it was compressed" in shown.original["reason"]


def test_an_export_replaces_an_export_alone_and_tells_no_path(
    bundle, compress, folder, scene, caplog
):
    there = folder / "site"
    there.mkdir()
    (there / "viewer.js").write_text("mine")
    with pytest.raises(kmdask.OutputExistsError, match="no exported view"):
        kmdask.export_view(bundle, there, original=False, overwrite=True)
    assert (there / "viewer.js").read_text() == "mine"
    image = compress(scene(20, 30), 2, folder / "array.kmdask")
    out = kmdask.export_view(image, folder / "told")
    assert "without the original" in caplog.text
    assert image.report.source not in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs signals")
def test_whatever_ends_the_command_lets_it_clear_up():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_as_by_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)  # ignored, as nohup asks
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, old)


def test_a_page_that_nobody_closes_is_cleared_up(bundle):
    shown = kmdask.view(bundle, original=False)
    assert shown._folder.is_dir()
    # As when Python ends.
    assert shown._clear.atexit
    shown._clear()
    assert not shown._folder.exists()
    shown.close()


def test_what_cannot_be_shown_is_told(bundle, compress, folder, source, scene, write_raster):
    bare = compress(source, 2, folder / "bare.kmdask", formats=("zarr",))
    with pytest.raises(kmdask.BundleError, match="no tiles"):
        kmdask.view(bare)
    other = write_raster(folder / "other.tif", scene(50, 60))
    with pytest.raises(kmdask.ParameterError, match=r"60 x 50.*1301 x 701"):
        kmdask.view(bundle, other)
    with pytest.raises(kmdask.SourceNotFoundError):
        kmdask.view(bundle, folder / "nowhere.tif")
    ended = CliRunner().invoke(main, ["view", str(bundle.path), "--original", "nowhere.tif"])
    assert ended.exit_code == 1
    assert "nowhere.tif" in ended.output


def test_an_array_of_another_size_is_found_out_later(bundle, client):
    with kmdask.view(bundle, np.zeros((9, 9, 3), np.uint8), client=client) as shown:
        with pytest.raises(kmdask.ParameterError, match="9 x 9"):
            shown.wait()
        state = json.loads(ask(f"{shown.url}state.json")[2])
        assert state["state"] == "failed"
        assert ask(shown.url)[0] == 200


def test_closing_gives_up_what_is_being_made(bundle, client):
    shown = kmdask.view(bundle, client=client)
    shown.close()
    assert not shown._folder.exists()
    assert shown.original["state"] in {"making", "ready"}


def test_the_command_exports(bundle, folder):
    out = folder / "exported"
    ended = CliRunner().invoke(
        main, ["view", str(bundle.path), "--no-original", "--export", str(out), "-q"]
    )
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in out.iterdir()} >= {"index.html", "viewer.js", "compressed"}
    assert b"https://" not in (out / "index.html").read_bytes()


def test_tiles_that_cannot_be_read(bundle, tmp_path, monkeypatch):
    def refuse(*_):
        raise TimeoutError("no answer")

    monkeypatch.setattr("kmdask.storage.read_files", refuse)
    with pytest.raises(kmdask.BundleError, match=r"tiles of .* cannot be read: no answer; check"):
        kmdask.export_view(bundle, tmp_path / "page", original=False)
    assert not (tmp_path / "page").exists()


def test_tiles_that_are_not_there(bundle, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "copy.kmdask")
    (copy / "tiles_files" / "11" / "1_0.png").unlink()

    def export():
        arguments = ["view", str(copy), "--no-original", "--export", str(tmp_path / "page"), "-q"]
        return CliRunner().invoke(main, arguments)

    done = export()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: '{copy}' is damaged: a tile cannot be read: ")
    assert f"'{copy}/tiles_files/11/1_0.png'; bring it back" in done.stderr
    shutil.rmtree(copy / "tiles_files")
    assert "no tiles to look at: there is no tiles_files/0/0_0.png in it" in export().stderr
    with pytest.raises(kmdask.BundleError, match="no tiles to look at"):
        kmdask.view(copy, original=False)
    assert {path.name for path in tmp_path.iterdir()} == {"copy.kmdask"}


def test_every_tile_is_copied_and_an_output_that_cannot_be_written_is_named(bundle, folder):
    out = kmdask.export_view(bundle, folder / "copied", original=False)
    assert contents(out / "compressed") == contents(bundle.path / "tiles_files")
    with pytest.raises(kmdask.OutputError, match=r"cannot write '.*index.html/page'"):
        kmdask.export_view(bundle, out / "index.html" / "page", original=False)


def test_a_warning_of_the_command_line_is_a_sentence(compress, tmp_path, scene):
    image = compress(scene(20, 30), 2, tmp_path / "array.kmdask")
    command = [sys.executable, "-m", "kmdask", "view", image.path, "--export", tmp_path / "page"]
    told = forked.run(command).stderr
    assert f"Warning: {tmp_path / 'page'} is without the original: " in told
    assert "kmdask.viewing" not in told
    named = forked.run([*command, "--overwrite", "-v"]).stderr
    assert "WARNING kmdask.viewing.show: " in named


def test_the_original_is_shown_as_the_bundle_is(compress, client, folder, write_raster, holes):
    rng = np.random.default_rng(1)
    pixels = rng.integers(200, 3000, (300, 600, 5)).astype(np.uint16)
    pixels[~holes(300, 600)] = 0
    source = write_raster(folder / "deep.tif", pixels, nodata=0)
    image = compress(
        source, 4, folder / "deep.kmdask", display=(5, 1, 3), window=(10, 20, 570, 270)
    )
    with kmdask.view(image, client=client) as shown:
        shown.wait()
        drawn = mosaic(shown._folder / "original", 10, "jpg")
    part = pixels[20:290, 10:580]
    low, high = np.array(image.display.low), np.array(image.display.high)
    light = np.clip((part[:, :, [4, 0, 2]] - low) / (high - low), 0, 1) * 255
    expected = np.where((part == 0).all(axis=2, keepdims=True), GROUND, light)
    # JPEGs of noise are not exact.
    assert np.abs(drawn - expected).mean() < 9
    corner = np.abs(drawn[:40, :120] - np.array(GROUND))
    assert corner.max() < 6


def test_lengths_follow_the_ellipsoid():
    for georef in (
        Georef("EPSG:3857", (100.0, 0.0, -1e6, 0.0, -100.0, 8e6)),
        Georef("EPSG:4326", (0.01, 0.0, -9.0, 0.0, -0.01, 60.0)),
    ):
        wkt = CRS(georef.crs_wkt).to_wkt()
        told = coordinates(Georef(wkt, georef.transform), (800, 400))
        a, _, c, _, e, f = georef.transform
        to = Transformer.from_crs(georef.crs_wkt, "EPSG:4326", always_xy=True)
        for i in range(STEPS):
            row = 800 * i / (STEPS - 1)
            (x0, y0), (x1, y1) = (to.transform(c + a * x, f + e * row) for x in (0, 400))
            length = Geod(ellps="WGS84").inv(x0, y0, x1, y1)[2] / 400
            assert told["metres"][i][4] == pytest.approx(length, rel=1e-3)
    assert coordinates(Georef(), (1, 1)) is None
    for flat in ((0.0,) * 6, (1.0, 2.0, 0.0, 2.0, 4.0, 0.0), (math.nan,) * 6):
        assert coordinates(Georef(None, flat), (1, 1)) is None
    assert told["geographic"]
    assert told["crs"] == "WGS 84 (EPSG:4326)"


def test_the_page_knows_the_image(bundle):
    told = describe(bundle, None)
    assert (
        told["level"] == LAST == max(int(p.name) for p in (bundle.path / "tiles_files").iterdir())
    )
    assert told["palette"]["colors"] == bundle.colormap.hex
    assert told["palette"]["bands"] == ["R", "G", "B"]
    assert told["georef"]["unit"] == "m"
    assert told["georef"]["metres"][4][4] == pytest.approx(10, rel=1e-3)
