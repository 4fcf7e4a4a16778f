// The canvas: the panels in sight, what is chosen and what lies under the pointer.

class Chart {
  constructor(canvas, timelines, palettes) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.raster = new Raster();
    this.palettes = palettes;
    const style = readStyle();
    this.panels = timelines.map(timeline => new Panel(timeline, palettes[timeline.shades - 1], style));
    this.shown = this.panels;
    this.withMemory = true;
    this.withCritical = false;
    this.chosen = null;   // {panel, bar}
    this.hovered = null;  // the same
    this.found = [];      // of those, by time
    this.view = new View(Math.max(...timelines.map(one => one.makespan)), Math.min(...timelines.map(one => one.shortest)));
    this.view.changed = () => this.redraw();
    this.drawn = 0;  // frames
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.restyle());
    addEventListener('beforeprint', () => this.putOnPaper(true));
    addEventListener('afterprint', () => this.putOnPaper(false));
    this.resize();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(box.width * this.ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * this.ratio));
    this.raster.resize(this.canvas.width, this.canvas.height);
    this.layOut();
  }

  restyle() {
    for (const panel of this.panels) panel.setStyle(readStyle());
    this.redraw();
  }

  /// Paper is light. The canvas has to be drawn for it before it is printed: no frame comes in between.
  putOnPaper(paper) {
    document.documentElement.classList.toggle('on-paper', paper);
    this.restyle();
    this.draw();
  }

  layOut() {
    const {width, height} = this.canvas.getBoundingClientRect();
    const each = height / Math.max(1, this.shown.length);
    this.view.mostScroll = 0;
    this.shown.forEach((panel, i) => {
      const hidden = panel.layOut({x: 0, y: i * each, width: width - 12, height: each}, this.ratio, this.withMemory);
      this.view.mostScroll = Math.max(this.view.mostScroll, hidden);
    });
    this.view.scrollBy(0);
  }

  show(panels) {
    this.shown = panels;
    if (this.chosen !== null && !panels.includes(this.chosen.panel)) this.choose(null);
    this.hovered = null;
    this.layOut();
  }

  /// Draws in the next frame.
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const {context, raster, view, ratio} = this;
    raster.clear(pixelOf(this.panels[0]?.style.page ?? 0xffffff));
    // From the last to the first: each wipes what its ranks scrolled into the panel above.
    for (const panel of [...this.shown].reverse()) panel.paint(raster, view);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(raster.image, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const panel of this.shown) {
      panel.annotate(context, view);
      this.outline(panel);
    }
    ++this.drawn;
  }

  /// Lines on top of the bars of a panel, kept to its rows.
  outline(panel) {
    const {context} = this;
    context.save();
    context.beginPath();
    context.rect(panel.left, panel.top, panel.right - panel.left, panel.bottom - panel.top);
    context.clip();
    if (this.withCritical) this.joinUp(panel, panel.timeline.critical, panel.style.text);
    if (this.chosen?.panel === panel) {
      this.joinUp(panel, this.chain, panel.style.chosen);
      this.drawArrows(panel, this.chosen.bar);
      this.frame(panel, this.chosen.bar, panel.style.chosen, 2.5);
    }
    if (this.hovered?.panel === panel) this.frame(panel, this.hovered.bar, panel.style.text, 1.5);
    context.restore();
  }

  frame(panel, bar, colour, width) {
    const box = panel.boxOf(bar, this.view);
    this.context.strokeStyle = colour;
    this.context.lineWidth = width;
    this.context.strokeRect(box.x - 0.5, box.y - 0.5, Math.max(box.width, 2), box.height + 1);
  }

  /// A line along bars that follow one another, from rank to rank.
  joinUp(panel, bars, colour) {
    const {context, view} = this;
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    for (let i = 0; i < bars.length; ++i) {
      const box = panel.boxOf(bars[i], view);
      if (i === 0) context.moveTo(box.x, box.y + box.height); else context.lineTo(box.x, box.y + box.height);
      context.lineTo(box.x + box.width, box.y + box.height);
    }
    context.stroke();
  }

  /// From what the chosen bar waited for, and to what waited for it.
  drawArrows(panel, bar) {
    const {timeline} = panel;
    for (const one of waitsFor(timeline, bar)) if (one.how !== 'rank') this.arrow(panel, one.bar, bar);
    for (const one of waitedBy(timeline, bar)) if (one.how !== 'rank') this.arrow(panel, bar, one.bar);
  }

  arrow(panel, from, to) {
    const {context, view} = this;
    const one = panel.boxOf(from, view), two = panel.boxOf(to, view);
    const x0 = one.x + one.width, y0 = one.y + one.height / 2, x1 = two.x, y1 = two.y + two.height / 2;
    const bend = Math.abs(x1 - x0) / 2;
    context.strokeStyle = context.fillStyle = panel.style.chosen;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x0, y0);
    context.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
    context.stroke();
    context.beginPath();
    context.moveTo(x1, y1);
    context.lineTo(x1 - 6, y1 - 3.5);
    context.lineTo(x1 - 6, y1 + 3.5);
    context.fill();
  }

  /// What is at a point: {panel, bar}, bar -1 where a rank is idle, or null.
  at(x, y) {
    for (const panel of this.shown) {
      if (y < panel.top || y >= panel.bottom || x < panel.left || x >= panel.right) continue;
      const rank = panel.rank(y, this.view);
      if (rank >= 0 && rank < panel.timeline.numRanks)
        return {panel, rank, bar: panel.barAt(x, y, this.view), time: panel.time(x, this.view)};
    }
    return null;
  }

  hover(place) {
    const next = place !== null && place.bar >= 0 ? place : null;
    if (next?.bar === this.hovered?.bar && next?.panel === this.hovered?.panel) return;
    this.hovered = next;
    this.redraw();
  }

  choose(place) {
    this.chosen = place !== null && place.bar >= 0 ? {panel: place.panel, bar: place.bar} : null;
    this.chain = this.chosen === null ? [] : chainThrough(this.chosen.panel.timeline, this.chosen.bar);
    this.mark();
  }

  /// Which bars stay bright: the chosen chain, otherwise what was found, otherwise the critical path.
  mark() {
    for (const panel of this.panels) {
      let bars = null;
      if (this.chosen?.panel === panel) {
        const {timeline} = panel;
        bars = [...this.chain, ...[...waitsFor(timeline, this.chosen.bar), ...waitedBy(timeline, this.chosen.bar)].map(one => one.bar)];
      } else if (this.chosen === null && this.found.length > 0) {
        bars = this.found.filter(one => one.panel === panel).map(one => one.bar);
      } else if (this.chosen === null && this.withCritical) {
        bars = panel.timeline.critical;
      }
      panel.marks = null;
      if (bars === null) continue;
      panel.marks = new Uint8Array(panel.timeline.numBars);
      for (const bar of bars) panel.marks[bar] = 1;
    }
    this.redraw();
  }

  /// Brings a bar into sight.
  reveal({panel, bar}) {
    const {timeline} = panel;
    this.view.reveal(timeline.begin[bar], timeline.end[bar]);
    const y = panel.y(timeline.rankOf(bar), this.view);
    if (y < panel.top) this.view.scrollBy(y - panel.top);
    if (y + panel.pitch > panel.bottom) this.view.scrollBy(y + panel.pitch - panel.bottom);
  }

  /// The bar left, right, above or below the chosen one; the first in sight where none is chosen.
  neighbour(key) {
    const panel = this.chosen?.panel ?? this.shown[0];
    const {timeline} = panel;
    if (timeline.numBars === 0) return null;
    if (this.chosen === null) {
      const [first, last] = panel.visibleRanks(this.view);
      for (let rank = first; rank < last; ++rank) {
        const bar = timeline.firstAfter(rank, this.view.from);
        if (bar < timeline.firstBar[rank + 1]) return {panel, bar};
      }
      return null;
    }
    const {bar} = this.chosen;
    const rank = timeline.rankOf(bar);
    if (key === 'ArrowLeft') return bar > timeline.firstBar[rank] ? {panel, bar: bar - 1} : null;
    if (key === 'ArrowRight') return bar + 1 < timeline.firstBar[rank + 1] ? {panel, bar: bar + 1} : null;
    const other = key === 'ArrowUp' ? rank - 1 : rank + 1;
    if (other < 0 || other >= timeline.numRanks) return null;
    const there = Math.min(timeline.firstAfter(other, timeline.begin[bar]), timeline.firstBar[other + 1] - 1);
    return there >= timeline.firstBar[other] ? {panel, bar: there} : null;
  }
}

/// The page's colours, as numbers where pixels are painted.
function readStyle() {
  const style = getComputedStyle(document.documentElement);
  const read = name => style.getPropertyValue(`--${name}`).trim();
  const number = name => parseInt(read(name).slice(1), 16);
  return {
    page: number('page'), idle: number('idle'), memory: number('memory'), peak: number('peak'),
    ink: number('text'), text: read('text'), quiet: read('quiet'), line: read('line'), chosen: read('chosen'),
    dark: number('page') < 0x800000, font: getComputedStyle(document.body).fontFamily,
  };
}
