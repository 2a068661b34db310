// How Bokeh finds and draws the tiles of a Deep Zoom pyramid.
//
// Column c of the full image is at x = c, and row r at y = -r. Levels have the numbers they have in
// the pyramid: the last one is the full image. Tiles at the edges are as small as they are, and no
// tile is asked for that is not there.

const { Plot, Range1d, LinearScale, Toolbar, PanTool, WheelZoomTool, TileRenderer, WMTSTileSource } =
  Bokeh;

const SHARP = 1.02; // A level may be stretched by that much before the next finer one is taken.

class DeepZoomSource extends WMTSTileSource {
  static __name__ = "DeepZoomSource";

  /** Say what the pyramid is like: width, height, tile, level (the last one), and urls of tiles. */
  of(pyramid) {
    this.pyramid = pyramid;
    const across = Math.max(pyramid.width, pyramid.height) / pyramid.tile;
    this.first = Math.max(0, pyramid.level - Math.max(0, Math.ceil(Math.log2(across))));
    return this;
  }

  side(z) {
    return 2 ** (this.pyramid.level - z); // of a pixel of a level, in pixels of the image
  }

  get_level_by_extent([left, , right], height, width) {
    const side = ((right - left) / width / devicePixelRatio) * SHARP;
    const above = Math.floor(Math.log2(side));
    return Math.min(Math.max(this.pyramid.level - above, this.first), this.pyramid.level);
  }

  grid(z) {
    const across = this.pyramid.tile * this.side(z);
    return [Math.ceil(this.pyramid.width / across), Math.ceil(this.pyramid.height / across)];
  }

  is_valid_tile(x, y, z) {
    if (z < this.first || z > this.pyramid.level || x < 0 || y < 0) return false;
    const [columns, rows] = this.grid(z);
    return x < columns && y < rows;
  }

  get_tile_meter_bounds(x, y, z) {
    const { tile, width, height } = this.pyramid;
    const side = this.side(z);
    const right = Math.min((x + 1) * tile, Math.ceil(width / side)) * side;
    const bottom = Math.min((y + 1) * tile, Math.ceil(height / side)) * side;
    return [x * tile * side, -bottom, right, -y * tile * side];
  }

  get_tiles_by_extent([left, bottom, right, top], z) {
    const across = this.pyramid.tile * this.side(z);
    const [columns, rows] = this.grid(z);
    const clip = (value, count) => Math.min(Math.max(Math.floor(value / across), 0), count - 1);
    const tiles = [];
    if (right <= 0 || bottom >= 0) return tiles;
    for (let y = clip(-top, rows); y <= clip(-bottom, rows); y++) {
      for (let x = clip(left, columns); x <= clip(right, columns); x++) {
        tiles.push([x, y, z, this.get_tile_meter_bounds(x, y, z)]);
      }
    }
    const far = ([, , , [x0, y0, x1, y1]]) =>
      Math.hypot((x0 + x1 - left - right) / 2, (y0 + y1 - bottom - top) / 2);
    return tiles.sort((a, b) => far(a) - far(b));
  }

  children_by_tile_xyz(x, y, z) {
    const under = [];
    for (const [dx, dy] of [[0, 0], [1, 0], [0, 1], [1, 1]]) {
      const child = [2 * x + dx, 2 * y + dy, z + 1];
      if (this.is_valid_tile(...child)) under.push([...child, this.get_tile_meter_bounds(...child)]);
    }
    return under;
  }

  get_closest_parent_by_tile_xyz(x, y, z) {
    while (z > this.first) {
      [x, y, z] = [x >> 1, y >> 1, z - 1];
      if (this.tiles.get(this.tile_xyz_to_key(x, y, z))?.loaded) break;
    }
    return [x, y, z];
  }

  tile_xyz_to_quadkey(x, y, z) {
    return this.tile_xyz_to_key(x, y, z);
  }

  get_image_url(x, y, z) {
    return this.pyramid.url(z, x, y);
  }

  // The page alone says what is looked at, also when its size changes.
  snap_to_zoom_level(extent) {
    return extent;
  }

  rescale(extent) {
    return extent;
  }
}

/** Draws tiles from one whole pixel of the screen to another, so that no seams show. */
class SharpView extends TileRenderer.prototype.default_view {
  get coordinates() {
    const given = super.coordinates;
    // Bokeh draws everything half a pixel further right and down.
    const whole = (s) => Math.round(s * devicePixelRatio) / devicePixelRatio - 0.5;
    return {
      map_to_screen(xs, ys) {
        const [sxs, sys] = given.map_to_screen(xs, ys);
        return [Array.from(sxs, whole), Array.from(sys, whole)];
      },
    };
  }

  set coordinates(given) {
    super.coordinates = given;
  }

  get attribution() {
    return null;
  }
}

class SharpTiles extends TileRenderer {
  static __name__ = "SharpTiles";
  static {
    this.prototype.default_view = SharpView;
  }
}

/** Make what draws a pyramid. */
export function tiles(pyramid) {
  return new SharpTiles({ tile_source: new DeepZoomSource({ url: "" }).of(pyramid) });
}

/** Make two ranges that plots can share. */
export function ranges() {
  return { x_range: new Range1d({ start: 0, end: 1 }), y_range: new Range1d({ start: -1, end: 0 }) };
}

/** Make a plot without anything around it. */
export function plot(shared) {
  const wheel = new WheelZoomTool({ speed: 1 / 400 });
  return new Plot({
    ...shared,
    x_scale: new LinearScale(),
    y_scale: new LinearScale(),
    sizing_mode: "stretch_both",
    toolbar: new Toolbar({ tools: [new PanTool(), wheel], active_scroll: wheel, logo: null }),
    toolbar_location: null,
    min_border: 0,
    outline_line_color: null,
    outline_line_width: 0,
    background_fill_color: null,
    border_fill_color: null,
  });
}
