// One timeline drawn: a row a rank with its activations below it, idle and peak beside it, times above.

const GUTTER = 132;      // CSS pixels left of the bars
const AXIS = 24;         // above the rows
const TITLE = 22;        // above the axis, where it is one line
const BASE = 17;         // of the title's first line
const LINE = 17, MOST_LINES = 4;
const LEAST_ROW = 13, MOST_ROW = 54;

class Panel {
  constructor(timeline, palette, style) {
    this.timeline = timeline;
    this.palette = palette;  // [kind][shade]: {rgb, lightText}
    this.bright = palette.map(shades => shades.map(one => one.rgb));
    this.setStyle(style);
    this.marks = null;  // bars that stay bright while the others are dimmed
    this.glyphs = new Map();
    this.digits = String(Math.max(1, timeline.microBatches) - 1).length;
    this.measure = new OffscreenCanvas(1, 1).getContext('2d');
    this.longest = `${String(Math.max(1, timeline.stages) - 1).replace(/./g, '0')}W${'0'.repeat(this.digits)}`;
  }

  setStyle(style) {
    this.style = style;
    this.dimmed = this.palette.map(shades => shades.map(one => mix(one.rgb, style.page, 0.2)));
  }

  /// Where everything lies in a box of CSS pixels, `ratio` device pixels each. Returns how far the ranks scroll.
  layOut(box, ratio, withMemory) {
    this.box = box;
    this.ratio = ratio;
    this.head = AXIS + this.layOutTitle();
    const rows = Math.max(1, this.timeline.numRanks);
    const room = box.height - this.head - 6;
    this.pitch = Math.floor(Math.min(Math.max(room / rows, LEAST_ROW), MOST_ROW) * ratio) / ratio;
    const gap = this.pitch >= 18 ? 3 : 1;
    this.memoryHeight = withMemory ? Math.max(3, Math.round((this.pitch - gap) * 0.3)) : 0;
    this.barHeight = this.pitch - gap - this.memoryHeight;
    this.top = box.y + this.head;
    this.bottom = box.y + box.height;
    this.left = box.x + GUTTER;
    this.right = box.x + box.width;
    return Math.max(0, rows * this.pitch - room);
  }

  /// Puts the words of the name and the description into lines. Returns the title's height.
  layOutTitle() {
    const {timeline, measure} = this;
    this.title = [];
    let x = 12, y = BASE;
    for (const [text, font, isName] of [[timeline.name, '600 14px', true], [timeline.description, '12px', false]]) {
      measure.font = `${font} ${this.style.font}`;
      for (const word of text.split(' ')) {
        const {width} = measure.measureText(word);
        if (x > 12 && x + width > this.box.width) {
          if (y >= BASE + (MOST_LINES - 1) * LINE) return y - BASE + TITLE;
          x = 12;
          y += LINE;
        }
        this.title.push({word, x, y, font: measure.font, isName});
        x += width + measure.measureText(' ').width;
      }
      x += 8;
    }
    return y - BASE + TITLE;
  }

  x(time, view) { return this.left + (time - view.from) / view.span * (this.right - this.left); }
  time(x, view) { return view.from + (x - this.left) / (this.right - this.left) * view.span; }
  y(rank, view) { return this.top + rank * this.pitch - view.scroll; }
  rank(y, view) { return Math.floor((y - this.top + view.scroll) / this.pitch); }

  /// The bar at a point; -1 where there is none.
  barAt(x, y, view) {
    const rank = this.rank(y, view);
    if (x < this.left || y < this.top || y >= this.bottom || rank < 0 || rank >= this.timeline.numRanks) return -1;
    return this.timeline.barAt(rank, this.time(x, view));
  }

  /// The rectangle of a bar.
  boxOf(bar, view) {
    const rank = this.timeline.rankOf(bar);
    const x = this.x(this.timeline.begin[bar], view);
    return {x, y: this.y(rank, view), width: this.x(this.timeline.end[bar], view) - x, height: this.barHeight};
  }

  visibleRanks(view) {
    const first = Math.max(0, this.rank(this.top, view));
    return [first, Math.min(this.timeline.numRanks, this.rank(this.bottom, view) + 1)];
  }

  /// The pixels of all rows.
  paint(raster, view) {
    const [first, last] = this.visibleRanks(view);
    for (let rank = first; rank < last; ++rank) {
      this.paintBars(raster, rank, view);
      if (this.memoryHeight > 0) this.paintActivations(raster, rank, view);
    }
    // What scrolled above the rows, below the axis.
    raster.fill(Math.round(this.box.x * this.ratio), Math.round(this.box.y * this.ratio), raster.width,
                Math.round(this.head * this.ratio), pixelOf(this.style.page));
  }

  paintBars(raster, rank, view) {
    const {timeline, ratio} = this;
    const left = Math.round(this.left * ratio), right = Math.round(this.right * ratio);
    const scale = (this.right - this.left) * ratio / view.span;
    const column = time => (this.left * ratio) + (time - view.from) * scale;
    const gapPixel = pixelOf(this.style.page), gap = Math.max(1, Math.round(ratio));
    const {begin, end, kind, shade, kind2, shade2, stage2} = timeline;
    const first = timeline.firstAfter(rank, view.from), last = timeline.firstBar[rank + 1];
    const y = Math.round(this.y(rank, view) * ratio), height = Math.round(this.barHeight * ratio);
    let widest = 0;
    raster.beginRow(left, right);
    let bar = first;
    for (; bar < last && begin[bar] < view.to; ++bar) {
      const colours = this.marks === null || this.marks[bar] === 1 ? this.bright : this.dimmed;
      const upper = colours[kind[bar]][shade[bar]];
      const lower = stage2[bar] >= 0 ? colours[kind2[bar]][shade2[bar]] : upper;
      const x0 = column(begin[bar]), x1 = column(end[bar]);
      if (x1 - x0 > widest) widest = x1 - x0;
      raster.bar(x0, x1, upper, lower, gapPixel, gap);
    }
    raster.endRow(y, height, this.style.idle, Math.round(column(0)), Math.round(column(timeline.makespan)));
    if (widest >= 9 * ratio) this.paintLabels(raster, first, bar, column, y, height);
    if (widest >= 16 * ratio && this.marks === null && this.barHeight >= 12) this.outlinePairs(raster, first, bar, column, y, height);
  }

  /// A pair is one box, where boxes are wide enough to have an outline.
  outlinePairs(raster, first, last, column, y, height) {
    const {timeline, ratio} = this;
    const thickness = Math.max(1, Math.round(ratio)), pixel = pixelOf(this.style.ink);
    for (let bar = first; bar < last; ++bar) {
      if (!timeline.isPair(bar)) continue;
      const x0 = column(timeline.begin[bar]), x1 = column(timeline.end[bar]);
      if (x1 - x0 >= 16 * ratio) raster.outline(Math.round(x0), y, Math.round(x1) - Math.round(x0) - thickness, height, thickness, pixel);
    }
  }

  glyphsOf(size) {
    if (!this.glyphs.has(size)) this.glyphs.set(size, new Glyphs(size));
    return this.glyphs.get(size);
  }

  paintLabels(raster, first, last, column, y, height) {
    const size = Math.round(Math.min(11.5, this.barHeight - 1) * this.ratio);
    if (size < 7) return;
    const large = this.glyphsOf(size), small = this.glyphsOf(Math.max(7, Math.round(size * 0.8)));
    const stacked = height >= 2 * large.height + 3;
    for (let bar = first; bar < last; ++bar) {
      const x0 = column(this.timeline.begin[bar]), width = column(this.timeline.end[bar]) - x0;
      const glyphs = width < large.widthOf('0') * this.digits + 3 ? small : large;
      if (width < glyphs.widthOf('0') + 2) continue;
      const passes = this.timeline.passes(bar);
      const put = (pass, text, middle) => raster.text(text, x0 + width / 2, middle, glyphs, this.lightText(pass, bar));
      if (passes.length === 1) {
        const text = this.label(passes[0], width, glyphs);
        if (text !== '') put(passes[0], text, y + height / 2);
      } else if (stacked) {
        passes.forEach((pass, i) => {
          const text = this.label(pass, width, glyphs);
          if (text !== '') put(pass, text, y + height * (i + 0.5) / 2);
        });
      } else {
        const text = passes.map(pass => pass.microBatch).join('+');
        if (glyphs.widthOf(text) + 2 <= width) put(passes[0], text, y + height / 2);
      }
    }
  }

  lightText(pass, bar) {
    if (this.marks !== null && this.marks[bar] !== 1) return this.style.dark;
    return this.palette[pass.kind][pass.shade].lightText;
  }

  /// "2F5" where there is room for any such label, otherwise "5", or nothing.
  label({kind, stage, microBatch}, width, glyphs) {
    if (glyphs.widthOf(this.longest) + 4 * this.ratio <= width) return stage + LETTERS[kind] + microBatch;
    const short = String(microBatch);
    return glyphs.widthOf(short) + 2 <= width ? short : '';
  }

  paintActivations(raster, rank, view) {
    const {timeline, ratio} = this;
    const {time, count, first} = timeline.activations;
    const left = Math.round(this.left * ratio), right = Math.round(this.right * ratio);
    const foot = Math.round((this.y(rank, view) + this.barHeight + this.memoryHeight) * ratio);
    const height = Math.round(this.memoryHeight * ratio);
    const pixel = pixelOf(this.style.memory), topPixel = pixelOf(this.style.peak);
    const perColumn = view.span / (right - left);
    let low = first[rank], high = first[rank + 1];
    while (low < high) {  // the first sample after the left edge
      const middle = (low + high) >> 1;
      if (time[middle] > view.from) high = middle; else low = middle + 1;
    }
    let held = low > first[rank] ? count[low - 1] : 0;
    const last = first[rank + 1];
    for (let x = left; x < right; ++x) {
      let most = held;
      const until = view.from + (x + 1 - left) * perColumn;
      for (; low < last && time[low] < until; ++low) {
        held = count[low];
        if (held > most) most = held;
      }
      if (most > 0) raster.column(x, foot, Math.max(1, Math.round(most / timeline.mostActivations * height)), pixel, topPixel);
    }
  }

  /// What is not pixels: names, figures, times.
  annotate(context, view) {
    const {style} = this;
    context.textBaseline = 'alphabetic';
    context.textAlign = 'left';
    for (const {word, x, y, font, isName} of this.title) {
      context.fillStyle = isName ? style.text : style.quiet;
      context.font = font;
      context.fillText(word, this.box.x + x, this.box.y + y);
    }
    this.annotateTimes(context, view);
    this.annotateRanks(context, view);
  }

  annotateTimes(context, view) {
    const {style} = this;
    const step = this.tickStep(view);
    context.font = `11px ${style.font}`;
    context.textAlign = 'center';
    context.fillStyle = style.quiet;
    context.strokeStyle = style.line;
    context.lineWidth = 1;
    context.beginPath();
    for (let time = Math.ceil(Math.max(0, view.from) / step) * step; time <= Math.min(view.to, this.timeline.makespan); time += step) {
      const x = Math.round(this.x(time, view)) + 0.5;
      const label = this.timeline.formatTime(time), half = context.measureText(label).width / 2;
      context.fillText(label, Math.min(Math.max(x, this.left - 4 + half), this.right + 10 - half), this.top - 9);
      context.moveTo(x, this.top - 6);
      context.lineTo(x, this.top - 2);
    }
    context.stroke();
  }

  /// Ticks at 1, 2 or 5 times a power of ten, 80 pixels apart at least.
  tickStep(view) {
    const least = view.span * 80 / (this.right - this.left);
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map(factor => factor * power).find(step => step >= least);
  }

  annotateRanks(context, view) {
    const {timeline, style} = this;
    const [first, last] = this.visibleRanks(view);
    const columns = [['idle', 92], ['peak', 124]];
    context.textAlign = 'right';
    for (const [name, x] of columns) context.fillText(name, this.box.x + x, this.top - 9);
    const every = Math.ceil(13 / this.pitch);
    context.save();
    context.beginPath();
    context.rect(this.box.x, this.top, GUTTER, this.bottom - this.top);
    context.clip();
    for (let rank = first; rank < last; ++rank) {
      if (rank % every !== 0) continue;
      const y = this.y(rank, view) + this.barHeight / 2 + 4;
      const {idle, peak} = timeline.ranks[rank];
      context.fillStyle = style.text;
      context.fillText(String(rank), this.box.x + 30, y);
      context.fillStyle = style.quiet;
      context.fillText(timeline.formatTime(idle), this.box.x + columns[0][1], y);
      context.fillText(String(peak), this.box.x + columns[1][1], y);
    }
    context.restore();
  }
}
