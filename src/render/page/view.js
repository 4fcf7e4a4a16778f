// Which times and ranks are in sight. All panels share them.

class View {
  /// `end` is the last time there is, `shortest` the shortest bar.
  constructor(end, shortest) {
    this.end = Math.max(end, 1e-9);
    this.leastSpan = Math.max(this.end * 1e-9, Math.min(shortest, this.end) / 4);
    this.scroll = 0;      // of the ranks, in CSS pixels
    this.mostScroll = 0;  // as the panels say
    this.changed = () => {};
    this.fit();
  }

  get span() { return this.to - this.from; }

  /// Shows from a time to a time, kept to the timeline.
  show(from, to) {
    this.animation = null;
    const least = -0.02 * this.end, most = 1.02 * this.end;
    const span = Math.min(Math.max(to - from, this.leastSpan), most - least);
    const middle = (from + to) / 2;
    this.from = Math.min(Math.max(middle - span / 2, least), most - span);
    this.to = this.from + span;
    this.changed();
  }

  fit() {
    this.from = -0.01 * this.end;
    this.to = 1.01 * this.end;
    this.changed();
  }

  /// Zooms by a factor; the time `at` stays where it is.
  zoom(factor, at = (this.from + this.to) / 2) {
    const span = Math.max(this.span * factor, this.leastSpan);
    const part = (at - this.from) / this.span;
    this.show(at - span * part, at + span * (1 - part));
  }

  pan(time) { this.show(this.from + time, this.to + time); }

  scrollBy(pixels) {
    this.scroll = Math.min(Math.max(this.scroll + pixels, 0), this.mostScroll);
    this.changed();
  }

  /// Goes to a time, keeping the span unless the bar there would be too narrow to see.
  reveal(begin, end) {
    const wanted = Math.max(end - begin, this.shortestUseful ?? 0) * 150;
    const span = Math.min(this.span, Math.max(wanted, this.leastSpan));
    if (span === this.span && begin >= this.from && end <= this.to) return;
    const middle = (begin + end) / 2;
    this.show(middle - span / 2, middle + span / 2);
  }
}
