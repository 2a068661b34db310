// Where something is: the scale bar, and the coordinates under the cursor.

const BAR = 120; // Longest scale bar, in pixels of the screen.

/** Make what says lengths and places of an image. */
export function places(view) {
  const { georef, width, height } = view;
  return {
    /** Length of a column of the image in metres at a pixel, or null. */
    metres(column, row) {
      const lengths = georef?.metres;
      if (!lengths) return null;
      const steps = lengths.length - 1;
      const at = (value, size) => Math.min(Math.max((value / size) * steps, 0), steps - 1e-9);
      const [x, y] = [at(column, width), at(row, height)];
      const [i, j] = [Math.floor(x), Math.floor(y)];
      const across = (line) => line[i] + (x - i) * (line[i + 1] - line[i]);
      const [above, below] = [across(lengths[j]), across(lengths[j + 1])];
      return above + (y - j) * (below - above);
    },

    /** A round length no longer than the bar may be: pixels of the screen, and what to call it. */
    bar({ x, y, scale }) {
      const metre = this.metres(x, y);
      // Coordinates without an ellipsoid have units of their own, and no coordinates are pixels.
      const unit = metre ?? (georef && !georef.geographic ? step(georef) : 1);
      const longest = BAR * scale * unit;
      const power = 10 ** Math.floor(Math.log10(longest));
      // The logarithm may be rounded up.
      const round = ([5, 2, 1].find((digit) => digit * power <= longest) ?? 1) * power;
      const name = georef && !georef.geographic ? georef.unit || "units" : "px";
      const called = metre === null ? `${Number(round.toPrecision(1)).toLocaleString("en")} ${name}` : length(round);
      return { pixels: round / unit / scale, called };
    },

    /** What to say of the place of a pixel. */
    said(column, row) {
      const pixel = `column ${number(Math.floor(column))}, row ${number(Math.floor(row))}`;
      if (!georef) return pixel;
      const [a, b, c, d, e, f] = georef.transform;
      const [x, y] = [a * column + b * row + c, d * column + e * row + f];
      return `${georef.geographic ? degrees(x, y, georef) : metric(x, y, georef)}  ·  ${pixel}`;
    },
  };
}

function step({ transform: [a, , , d] }) {
  return Math.hypot(a, d);
}

function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function length(metres) {
  if (metres >= 1000) return `${number(metres / 1000)} km`;
  if (metres >= 1) return `${number(metres)} m`;
  return metres >= 0.01 ? `${number(metres * 100)} cm` : `${number(metres * 1000)} mm`;
}

function metric(x, y, { unit, decimals }) {
  return `x ${number(x, decimals)}  y ${number(y, decimals)}${unit ? ` ${unit}` : ""}`;
}

function degrees(x, y, { decimals }) {
  const [east, north] = [x >= 0 ? "E" : "W", y >= 0 ? "N" : "S"];
  const digits = Math.max(decimals, 2);
  return `${Math.abs(y).toFixed(digits)}° ${north}  ${Math.abs(x).toFixed(digits)}° ${east}`;
}
