// Bars, activations and labels are painted into an array of pixels: what that takes depends on the size of the
// chart and the number of bars in sight alone, and no element is made for a bar.

const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/// A colour 0xRRGGBB as a pixel.
function pixelOf(rgb) {
  const r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
  return (LITTLE_ENDIAN ? 255 << 24 | b << 16 | g << 8 | r : r << 24 | g << 16 | b << 8 | 255) >>> 0;
}

function channelsOf(rgb) { return [rgb >> 16 & 255, rgb >> 8 & 255, rgb & 255]; }

/// `part` of `rgb`, the rest `other`.
function mix(rgb, other, part) {
  const one = channelsOf(rgb), two = channelsOf(other);
  return one.reduce((sum, value, i) => sum << 8 | Math.round(value * part + two[i] * (1 - part)), 0);
}

/// The digits and letters of labels, as how much of each pixel they cover.
class Glyphs {
  constructor(size) {
    this.size = size;
    this.shapes = new Map();
    const canvas = new OffscreenCanvas(2 * size, 2 * size);
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.font = `${size}px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif`;
    context.textBaseline = 'alphabetic';
    this.height = Math.ceil(size * 0.74);  // of digits and capitals
    for (const glyph of '0123456789FBIW+') {
      context.clearRect(0, 0, 2 * size, 2 * size);
      context.fillText(glyph, 1, this.height + 1);
      const width = Math.max(1, Math.round(context.measureText(glyph).width));
      const {data} = context.getImageData(1, 1, width + 1, this.height + 1);
      const cover = new Uint8Array((width + 1) * (this.height + 1));
      for (let i = 0; i < cover.length; ++i) cover[i] = data[4 * i + 3];
      this.shapes.set(glyph, {width, cover});
    }
  }

  widthOf(text) {
    let width = 0;
    for (const glyph of text) width += this.shapes.get(glyph).width;
    return width;
  }
}

class Raster {
  resize(width, height) {
    if (this.image?.width === width && this.image?.height === height) return;
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.upper = new Uint32Array(width);  // a row of bars: their upper half, 0 where nothing is painted
    this.lower = new Uint32Array(width);
    this.covered = Array.from({length: 7}, () => new Float32Array(width));  // share; upper r g b; lower r g b
  }

  clear(pixel) { this.pixels.fill(pixel); }

  fill(x, y, width, height, pixel) {
    const left = Math.max(0, x), right = Math.min(this.width, x + width);
    if (left >= right) return;
    for (let row = Math.max(0, y); row < Math.min(this.height, y + height); ++row)
      this.pixels.fill(pixel, row * this.width + left, row * this.width + right);
  }

  /// The border of a rectangle, kept to the columns of the row.
  outline(x, y, width, height, thickness, pixel) {
    const left = Math.max(this.left, x), right = Math.min(this.right, x + width);
    this.fill(left, y, right - left, thickness, pixel);
    this.fill(left, y + height - thickness, right - left, thickness, pixel);
    if (x >= this.left) this.fill(x, y, thickness, height, pixel);
    if (x + width <= this.right) this.fill(x + width - thickness, y, thickness, height, pixel);
  }

  /// Begins a row of bars between columns `left` and `right`.
  beginRow(left, right) {
    this.left = left;
    this.right = right;
    this.upper.fill(0, left, right);
    this.lower.fill(0, left, right);
    for (const channel of this.covered) channel.fill(0, left, right);
  }

  /// A bar from x0 to x1 in fractions of a column. One that is wide enough has sharp edges and a gap before the
  /// next; narrower ones share their columns, each by what it covers.
  bar(x0, x1, upperRgb, lowerRgb, gapPixel, gap) {
    if (x1 - x0 >= 2.5) {
      const begin = Math.max(this.left, Math.round(x0));
      const end = Math.min(this.right, Math.round(x1));
      const edge = Math.round(x1) - (x1 - x0 >= 4 * gap + 1 ? gap : 0);
      if (begin >= end) return;
      this.upper.fill(pixelOf(upperRgb), begin, Math.min(edge, end));
      this.lower.fill(pixelOf(lowerRgb), begin, Math.min(edge, end));
      if (edge < end) {
        this.upper.fill(gapPixel, Math.max(edge, begin), end);
        this.lower.fill(gapPixel, Math.max(edge, begin), end);
      }
      return;
    }
    const [share, r0, g0, b0, r1, g1, b1] = this.covered;
    for (let x = Math.max(this.left, Math.floor(x0)); x < Math.min(this.right, x1); ++x) {
      const part = Math.min(x + 1, x1) - Math.max(x, x0);
      share[x] += part;
      r0[x] += part * (upperRgb >> 16 & 255); g0[x] += part * (upperRgb >> 8 & 255); b0[x] += part * (upperRgb & 255);
      r1[x] += part * (lowerRgb >> 16 & 255); g1[x] += part * (lowerRgb >> 8 & 255); b1[x] += part * (lowerRgb & 255);
    }
  }

  /// Ends the row: `idleRgb` shows where no bar is, from `begin` to `end`; the row lies at y.
  endRow(y, height, idleRgb, begin, end) {
    const [share, r0, g0, b0, r1, g1, b1] = this.covered;
    const [idleR, idleG, idleB] = channelsOf(idleRgb);
    const idle = pixelOf(idleRgb);
    const first = Math.max(this.left, begin), last = Math.min(this.right, end);
    for (let x = first; x < last; ++x) {
      if (this.upper[x] !== 0) continue;
      if (share[x] === 0) {
        this.upper[x] = this.lower[x] = idle;
        continue;
      }
      const all = Math.max(1, share[x]), rest = Math.max(0, 1 - share[x]);
      this.upper[x] = pixelOf((r0[x] / all + rest * idleR) << 16 | (g0[x] / all + rest * idleG) << 8 | (b0[x] / all + rest * idleB));
      this.lower[x] = pixelOf((r1[x] / all + rest * idleR) << 16 | (g1[x] / all + rest * idleG) << 8 | (b1[x] / all + rest * idleB));
    }
    if (first >= last) return;
    const upper = this.upper.subarray(first, last), lower = this.lower.subarray(first, last);
    for (let row = 0; row < height; ++row) {
      if (y + row < 0 || y + row >= this.height) continue;
      this.pixels.set(2 * row < height ? upper : lower, (y + row) * this.width + first);
    }
  }

  /// A column that rises from its foot; a darker pixel on top.
  column(x, foot, height, pixel, topPixel) {
    let at = (foot - 1) * this.width + x;
    for (let row = foot - 1; row >= foot - height; --row, at -= this.width) {
      if (row < 0 || row >= this.height) continue;
      this.pixels[at] = row === foot - height ? topPixel : pixel;
    }
  }

  /// A label with its middle at x and its digits' middle at y, clipped to the columns of the row.
  text(text, x, y, glyphs, white) {
    let left = Math.round(x - glyphs.widthOf(text) / 2);
    const top = Math.round(y - glyphs.height / 2);
    const ink = white ? 255 : 0;
    for (const glyph of text) {
      const {width, cover} = glyphs.shapes.get(glyph);
      for (let row = 0; row <= glyphs.height; ++row) {
        if (top + row < 0 || top + row >= this.height) continue;
        for (let column = 0; column <= width; ++column) {
          const part = cover[row * (width + 1) + column];
          const at = left + column;
          if (part === 0 || at < this.left || at >= this.right) continue;
          this.blend((top + row) * this.width + at, ink, part);
        }
      }
      left += width;
    }
  }

  blend(index, ink, part) {
    const data = this.image.data;
    for (let channel = 4 * index; channel < 4 * index + 3; ++channel)
      data[channel] += (ink - data[channel]) * part / 255;
  }
}
