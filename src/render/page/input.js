// Wheel, drag, pinch and keys on the chart.

const DRAG = 4;  // pixels before a press is a drag

class Input {
  constructor(chart, actions) {
    this.chart = chart;
    this.actions = actions;  // what keys and presses lead to: see main.js
    this.pointers = new Map();
    const {canvas} = chart;
    canvas.addEventListener('wheel', event => this.wheel(event), {passive: false});
    canvas.addEventListener('pointerdown', event => this.press(event));
    canvas.addEventListener('pointermove', event => this.move(event));
    canvas.addEventListener('pointerup', event => this.release(event, true));
    canvas.addEventListener('pointercancel', event => this.release(event, false));
    canvas.addEventListener('pointerleave', () => this.actions.hover(null));
    canvas.addEventListener('dblclick', event => this.zoomAt(event.offsetX, 0.4));
    addEventListener('keydown', event => this.key(event));
  }

  get timePerPixel() {
    const panel = this.chart.shown[0];
    return this.chart.view.span / (panel.right - panel.left);
  }

  zoomAt(x, factor) { this.chart.view.zoom(factor, this.chart.shown[0].time(x, this.chart.view)); }

  /// Across pans, up and down zooms, with Shift it pans; a pinch on a touchpad comes as a wheel with Ctrl.
  wheel(event) {
    event.preventDefault();
    const scale = [1, 16, 400][event.deltaMode];
    const across = (event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX) * scale;
    const down = event.shiftKey ? 0 : event.deltaY * scale;
    if (Math.abs(across) > Math.abs(down)) {
      this.actions.hover(null);
      this.chart.view.pan(across * this.timePerPixel);
    } else {
      this.zoomAt(event.offsetX, Math.exp(down * (event.ctrlKey ? 0.01 : 0.002)));
    }
  }

  press(event) {
    if (event.button !== 0) return;
    this.chart.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, {x: event.offsetX, y: event.offsetY});
    this.travelled = this.pointers.size > 1 ? DRAG : 0;
    this.actions.hover(null);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      if (event.pointerType !== 'touch') this.actions.hover(this.chart.at(event.offsetX, event.offsetY), event.offsetX, event.offsetY);
      return;
    }
    const now = {x: event.offsetX, y: event.offsetY};
    this.travelled += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    if (this.pointers.size === 2) this.pinch(event.pointerId, before, now);
    if (this.pointers.size === 1 && this.travelled >= DRAG) {
      this.chart.canvas.classList.add('dragged');
      this.chart.view.pan((before.x - now.x) * this.timePerPixel);
      this.chart.view.scrollBy(before.y - now.y);
    }
    this.pointers.set(event.pointerId, now);
  }

  /// Keeps the times under both fingers under them.
  pinch(id, before, now) {
    const [, other] = [...this.pointers].find(([one]) => one !== id);
    const was = Math.max(8, Math.abs(before.x - other.x)), is = Math.max(8, Math.abs(now.x - other.x));
    this.zoomAt((before.x + other.x) / 2, was / is);
    this.chart.view.pan((before.x - now.x) / 2 * this.timePerPixel);
    this.chart.view.scrollBy((before.y - now.y) / 2);
  }

  release(event, isPress) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.chart.canvas.classList.remove('dragged');
    if (isPress && this.pointers.size === 0 && this.travelled < DRAG)
      this.actions.choose(this.chart.at(event.offsetX, event.offsetY));
  }

  key(event) {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === 'Escape') {
      this.actions.clear();
      if (typing) this.chart.canvas.focus();
      return;
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]') !== null) return;
    // Enter presses the button that has the focus.
    if (event.target instanceof HTMLButtonElement && (event.key === 'Enter' || event.key === ' ')) return;
    const {view} = this.chart;
    const press = id => () => document.getElementById(id).click();
    const choose = () => {
      const next = this.chart.neighbour(event.key);
      if (next !== null) this.actions.go(next);
    };
    const run = {
      'w': () => view.zoom(0.8), '+': () => view.zoom(0.8), '=': () => view.zoom(0.8),
      's': () => view.zoom(1.25), '-': () => view.zoom(1.25),
      'a': () => view.pan(-0.15 * view.span), 'd': () => view.pan(0.15 * view.span),
      '0': press('fit'), 'Home': () => view.show(0, view.span), 'End': () => view.show(view.end - view.span, view.end),
      'PageUp': () => view.scrollBy(-200), 'PageDown': () => view.scrollBy(200),
      'ArrowLeft': choose, 'ArrowRight': choose, 'ArrowUp': choose, 'ArrowDown': choose, 'Enter': choose,
      'c': press('critical'), 'm': press('memory'), '?': press('help'), 'i': press('idle'),
      '/': () => this.actions.search(), 'n': () => this.actions.next(event.shiftKey ? -1 : 1),
      '1': () => this.actions.show(0), '2': () => this.actions.show(1), '3': () => this.actions.show(2),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (run === undefined) return;
    event.preventDefault();
    this.actions.hover(null);  // what was under the pointer may move away
    run();
  }
}
