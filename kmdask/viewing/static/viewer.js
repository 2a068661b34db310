// The page: two plots that share their ranges, side by side or one over the other.

import { only, strip } from "./palette.js";
import { places } from "./place.js";
import { plot, ranges, tiles } from "./tiles.js";

const view = JSON.parse(document.getElementById("view").textContent);
const [stage, divider, ghost, news] = ["stage", "divider", "ghost", "news"].map((id) =>
  document.getElementById(id),
);
const halves = ["original", "compressed"].map((id) => document.getElementById(id));
const panes = halves.map((half) => half.querySelector(".pane"));
const MODES = ["side", "swipe", "alone"];
const NEAREST = 1 / 64; // Pixels of the image in one of the screen, at the nearest.
const POLL = 1000; // Milliseconds.

const shared = ranges();
const place = places(view);
const pyramid = (folder, ending) => ({
  ...view,
  url: (level, column, row) => `${folder}/${level}/${column}_${row}.${ending}?${view.version}`,
});
const compressed = tiles(pyramid("compressed", "png"));
const plots = [plot(shared), plot(shared)];
let originals = null;
let alone = null; // The palette entry that is shown alone.
let looked = { x: view.width / 2, y: view.height / 2, scale: 1 };

// What is looked at: the pixel in the middle, and how many pixels are in one of the screen.

function size() {
  const { width, height } = panes[1].getBoundingClientRect();
  // Bokeh's canvas has whole pixels.
  return { width: Math.max(Math.floor(width), 1), height: Math.max(Math.floor(height), 1) };
}

function whole() {
  const { width, height } = size();
  const scale = Math.max(view.width / width, view.height / height) * 1.04;
  return { x: view.width / 2, y: view.height / 2, scale };
}

function look(wanted) {
  const { width, height } = size();
  const clip = (value, low, high) => Math.min(Math.max(value, low), high);
  const x = clip(wanted.x, 0, view.width);
  const y = clip(wanted.y, 0, view.height);
  const scale = clip(wanted.scale, NEAREST, Math.max(2 * whole().scale, 1));
  looked = { x, y, scale };
  const [dx, dy] = [(width / 2) * scale, (height / 2) * scale];
  shared.x_range.setv({ start: x - dx, end: x + dx });
  shared.y_range.setv({ start: -y - dy, end: -y + dy });
  told();
}

function zoom(factor) {
  look({ ...looked, scale: looked.scale / factor });
}

/** Follow what Bokeh's tools have done. */
let following = false;
function follow() {
  if (following) return;
  following = true;
  requestAnimationFrame(() => {
    following = false;
    const { x_range: x, y_range: y } = shared;
    const now = {
      x: (x.start + x.end) / 2,
      y: -(y.start + y.end) / 2,
      scale: (x.end - x.start) / size().width,
    };
    const moved = Math.abs(now.x - looked.x) + Math.abs(now.y - looked.y) > looked.scale * 1e-6;
    if (moved || Math.abs(now.scale / looked.scale - 1) > 1e-9) look(now);
  });
}

let telling = 0;
function told() {
  const bar = place.bar(looked);
  document.querySelector("#scale i").style.width = `${bar.pixels}px`;
  document.querySelector("#scale span").textContent = bar.called;
  const magnified = looked.scale * devicePixelRatio < 0.999;
  for (const renderer of [originals, compressed]) {
    const smoothing = !magnified && !(renderer === compressed && alone !== null);
    if (renderer && renderer.smoothing !== smoothing) renderer.smoothing = smoothing;
  }
  clearTimeout(telling);
  telling = setTimeout(() => {
    const { x, y, scale } = looked;
    const numbers = [x.toFixed(2), y.toFixed(2), Number(scale.toPrecision(8))];
    history.replaceState(null, "", `#${numbers.join(",")},${stage.dataset.mode}`);
  }, 200);
}

/** Go where the address of the page says, or show all of the image. */
function goTo(hash) {
  const [x, y, scale, mode] = hash.slice(1).split(",");
  if (MODES.includes(mode)) arrange(mode);
  const wanted = { x: Number(x), y: Number(y), scale: Number(scale) };
  look(Object.values(wanted).every(Number.isFinite) && wanted.scale > 0 ? wanted : whole());
}

// How it is laid out.

function arrange(mode) {
  stage.dataset.mode = originals ? mode : "alone";
  for (const button of document.querySelectorAll("#modes button")) {
    button.ariaPressed = button.dataset.mode === stage.dataset.mode;
    button.disabled = !originals && button.dataset.mode !== "alone";
  }
  ghost.hidden = true;
  told();
}

function swipe(share) {
  stage.style.setProperty("--swipe", `${100 * Math.min(Math.max(share, 0.02), 0.98)}%`);
}

function addOriginal() {
  originals = tiles(pyramid("original", "jpg"));
  plots[0].renderers = [originals];
  news.hidden = true;
  arrange("side");
}

async function awaitOriginal() {
  const answer = await fetch("state.json").catch(() => null);
  const state = answer?.ok ? await answer.json() : { state: "failed", reason: "" };
  if (state.state === "ready") {
    addOriginal();
    return;
  }
  if (state.state === "making") {
    const share = state.share === undefined ? "…" : ` ${Math.round(100 * state.share)} %`;
    say(`Making tiles of the original${share}`);
    setTimeout(awaitOriginal, POLL);
    return;
  }
  say(state.reason ? `No original: ${state.reason}` : "", 10_000);
}

function say(text, until) {
  news.textContent = text;
  news.hidden = !text;
  if (until) setTimeout(() => (news.hidden = true), until);
}

// What the user does.

function listen() {
  shared.x_range.change.connect(follow);
  shared.y_range.change.connect(follow);
  new ResizeObserver(() => look(looked)).observe(panes[1]);
  addEventListener("hashchange", () => goTo(location.hash));
  document.getElementById("modes").addEventListener("click", ({ target }) => {
    if (target.dataset.mode) arrange(target.dataset.mode);
  });
  const zooms = {
    in: () => zoom(2),
    out: () => zoom(0.5),
    one: () => look({ ...looked, scale: 1 / devicePixelRatio }),
    home: () => look(whole()),
  };
  document.getElementById("zooming").addEventListener("click", ({ target }) => {
    zooms[target.dataset.zoom]?.();
  });
  const pan = (dx, dy) => () =>
    look({ ...looked, x: looked.x + 80 * dx * looked.scale, y: looked.y + 80 * dy * looked.scale });
  const keys = {
    "+": zooms.in, "=": zooms.in, "-": zooms.out, 0: zooms.home, 1: zooms.one,
    ArrowLeft: pan(-1, 0), ArrowRight: pan(1, 0), ArrowUp: pan(0, -1), ArrowDown: pan(0, 1),
    s: () => arrange("side"), w: () => arrange("swipe"), c: () => arrange("alone"),
  };
  addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) keys[event.key]?.();
  });
  divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener("pointermove", (event) => {
    const { left, width } = stage.getBoundingClientRect();
    if (divider.hasPointerCapture(event.pointerId)) swipe((event.clientX - left) / width);
  });
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (!step) return;
    event.stopPropagation();
    swipe(parseFloat(getComputedStyle(stage).getPropertyValue("--swipe")) / 100 + step);
  });
  stage.addEventListener("pointermove", point);
  stage.addEventListener("pointerleave", () => {
    ghost.hidden = true;
    document.getElementById("place").textContent = view.georef?.crs ?? "";
  });
}

/** Say where the pointer is, and show the same place on the other side. */
function point(event) {
  const boxes = panes.map((pane) => pane.getBoundingClientRect());
  const side = stage.dataset.mode === "side";
  const over = side && event.clientX < boxes[1].left + 1 ? 0 : 1;
  const [x, y] = [event.clientX - boxes[over].left, event.clientY - boxes[over].top];
  const column = shared.x_range.start + x * looked.scale;
  const row = -shared.y_range.end + y * looked.scale;
  const inside = column >= 0 && row >= 0 && column < view.width && row < view.height;
  document.getElementById("place").textContent = inside ? place.said(column, row) : "";
  ghost.hidden = !side || !inside;
  const other = boxes[1 - over];
  const corner = stage.getBoundingClientRect();
  ghost.style.translate = `${other.left - corner.left + x}px ${other.top - corner.top + y}px`;
}

function describe() {
  document.querySelector("h1").textContent = view.name;
  const pixels = (view.width * view.height) / 1e6;
  const number = (value) => value.toLocaleString("en");
  const mega = pixels >= 1000 ? `${(pixels / 1000).toFixed(2)} gigapixels` : `${pixels.toFixed(pixels < 10 ? 2 : 0)} megapixels`;
  document.querySelector(".title p").textContent =
    `${number(view.width)} × ${number(view.height)} · ${mega} · ${view.kind}`;
  document.getElementById("facts").append(
    ...Object.entries(view.facts).map(([name, value]) => {
      const fact = document.createElement("div");
      fact.innerHTML = "<dd></dd><dt></dt>";
      fact.firstChild.textContent = value;
      fact.lastChild.textContent = name;
      return fact;
    }),
  );
  document.querySelector("#compressed .label").textContent = `${view.facts.colours} colours`;
  document.getElementById("place").textContent = view.georef?.crs ?? "";
}

async function start() {
  const asked = location.hash;
  describe();
  arrange("alone");
  const page = new Bokeh.Document();
  plots.forEach((each) => page.add_root(each));
  await Bokeh.embed.add_document_standalone(page, document.body, panes);
  // Only now: tiles are not to be asked for before it is known which.
  if (view.original?.state === "ready") addOriginal();
  else if (view.original?.state === "making") await awaitOriginal();
  goTo(asked);
  plots[1].renderers = [compressed];
  listen();
  strip(view, (index) => {
    alone = index;
    panes[1].style.filter = index === null ? "" : only(view.palette.colors[index]);
    told();
  });
  if (view.original?.reason) say(`No original: ${view.original.reason}`, 10_000);
  document.documentElement.dataset.ready = "yes";
}

start();
