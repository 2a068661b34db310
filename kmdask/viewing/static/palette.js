// The palette under the image: as wide as an entry is common; what is pointed at is told and shown.

/** Fill the strip; `shown` is called with the entry to show alone, or null for all. */
export function strip(view, shown) {
  const [bar, entry] = ["strip", "entry"].map((id) => document.getElementById(id));
  const palette = view.palette;
  if (!palette) {
    entry.textContent =
      `${view.facts.colours} colours: entries are shown and highlighted up to 256.`;
    bar.remove();
    return;
  }
  const hint = "Point at a colour to see where it is; click to keep it.";
  const swatches = palette.colors.map((color, index) => {
    const swatch = document.createElement("span");
    swatch.role = "option";
    swatch.dataset.index = index;
    swatch.ariaLabel = `entry ${index}, ${color}`;
    swatch.style.background = color;
    swatch.style.flexGrow = Math.max(palette.shares[index], 1e-4);
    return swatch;
  });
  bar.append(...swatches);
  let kept = null;

  const show = (index) => {
    swatches.forEach((swatch, each) => {
      swatch.classList.toggle("on", each === index);
      swatch.ariaSelected = each === kept;
    });
    bar.classList.toggle("some", index !== null);
    entry.replaceChildren(...(index === null ? [hint] : told(palette, index)));
    shown(index);
  };
  const indexOf = (event) => event.target.dataset?.index && Number(event.target.dataset.index);
  bar.addEventListener("pointerover", (event) => {
    const index = indexOf(event);
    if (index !== undefined) show(index);
  });
  bar.addEventListener("pointerleave", () => show(kept));
  bar.addEventListener("click", (event) => {
    const index = indexOf(event);
    kept = index === kept ? null : (index ?? kept);
    show(kept);
  });
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") kept = null;
    else if (step) kept = Math.min(Math.max((kept ?? -step) + step, 0), swatches.length - 1);
    else return;
    event.stopPropagation();
    show(kept);
  });
  show(null);
}

function told(palette, index) {
  const swatch = document.createElement("b");
  swatch.style.background = palette.colors[index];
  const values = palette.values[index].map(
    (value, band) => `${palette.bands[band]} ${value.toLocaleString("en", { maximumSignificantDigits: 6 })}`,
  );
  const same = palette.colors.filter((color) => color === palette.colors[index]).length - 1;
  const share = palette.shares[index];
  const parts = [
    `entry ${index}`,
    palette.colors[index],
    `${(100 * share).toPrecision(3)} % of ${palette.of}`,
    values.join("  "),
    same ? `looks the same as ${same} other${same > 1 ? "s" : ""}` : "",
  ];
  return [swatch, ...parts.filter(Boolean).map((part) => {
    const text = document.createElement("span");
    text.textContent = part;
    return text;
  })];
}

/** Set the filter that keeps one colour, as "#rrggbb"; return the CSS that applies it. */
export function only(color) {
  const light = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  document.querySelectorAll("#only feComponentTransfer > *").forEach((channel, band) => {
    const table = Array.from({ length: 256 }, (_, value) => (value === light[band] ? 1 : 0));
    channel.setAttribute("tableValues", table.join(" "));
  });
  // Dark pixels are seen among light ones, and light ones among dark ones.
  const grey = `.07 .14 .04 0 ${luma(light) < 90 ? 0.66 : 0.06}`;
  document.getElementById("fade").setAttribute("values", `${grey} ${grey} ${grey} 0 0 0 1 0`);
  return "url(#only)";
}

function luma([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}
