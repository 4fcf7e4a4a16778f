// One timeline as the page holds it: a typed array for each property of a bar, bars numbered rank after rank.

function decode({type, data}) {
  const binary = atob(data);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; ++i) bytes[i] = binary.charCodeAt(i);
  return new {Uint8Array, Uint16Array, Int32Array, Float64Array}[type](bytes.buffer);
}

function decodeAll(table) {
  return Object.fromEntries(Object.entries(table).map(([name, array]) => [name, decode(array)]));
}

const LETTERS = ['F', 'B', 'I', 'W'];
const FORWARD = 0, BACKWARD = 1, INPUT = 2, WEIGHT = 3;

class Timeline {
  constructor(json) {
    Object.assign(this, json, decodeAll(json.bars));
    this.numRanks = json.ranks.length;
    this.numBars = this.begin.length;
    this.firstBar = decode(json.firstBar);
    this.critical = decode(json.critical);
    this.transfers = decodeAll(json.transfers);
    this.activations = decodeAll(json.activations);
    this.mostActivations = json.ranks.reduce((most, rank) => Math.max(most, rank.peak), 0);
    this.shortest = Infinity;
    for (let bar = 0; bar < this.numBars; ++bar) {
      const duration = this.end[bar] - this.begin[bar];
      if (duration > 0 && duration < this.shortest) this.shortest = duration;
    }
    this.indexPasses();
    this.indexTransfers();
  }

  isPair(bar) { return this.stage2.length > 0 && this.stage2[bar] >= 0; }

  /// The passes of a bar, the forward of a pair first.
  passes(bar) {
    const all = [{kind: this.kind[bar], stage: this.stage[bar], microBatch: this.microBatch[bar], shade: this.shade[bar]}];
    if (this.isPair(bar))
      all.push({kind: this.kind2[bar], stage: this.stage2[bar], microBatch: this.microBatch2[bar], shade: this.shade2[bar]});
    return all;
  }

  /// "2F5", "(2F6;1B0)OVERLAP_F_B": as in files.
  nameOf(bar) {
    const texts = this.passes(bar).map(({kind, stage, microBatch}) => stage + LETTERS[kind] + microBatch);
    return texts.length === 1 ? texts[0] : `(${texts.join(';')})OVERLAP_F_B`;
  }

  rankOf(bar) {
    let low = 0, high = this.numRanks;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.firstBar[middle] <= bar) low = middle; else high = middle;
    }
    return low;
  }

  /// The first bar of a rank that ends after a time, or the rank's bars' end.
  firstAfter(rank, time) {
    let low = this.firstBar[rank], high = this.firstBar[rank + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.end[middle] > time) high = middle; else low = middle + 1;
    }
    return low;
  }

  /// The bar of a rank at a time; -1 where the rank is idle.
  barAt(rank, time) {
    const bar = this.firstAfter(rank, time);
    return bar < this.firstBar[rank + 1] && this.begin[bar] <= time ? bar : -1;
  }

  directionOf(microBatch) {
    return this.directions.findIndex(one => microBatch < one.first + one.count);
  }

  // A stage's B and I of a micro-batch are one thing to those that wait for it: its gradient.
  passKey(kind, stage, microBatch) {
    const what = kind === FORWARD ? 0 : kind === WEIGHT ? 2 : 1;
    return (what * this.stages + stage) * this.microBatches + microBatch;
  }

  indexPasses() {
    const size = 3 * this.stages * this.microBatches;
    if (size <= 8 * this.numBars + 65536) {
      const bars = new Int32Array(size).fill(-1);
      this.passIndex = {get: key => bars[key], set: (key, bar) => { bars[key] = bar; }};
    } else {
      const bars = new Map();
      this.passIndex = {get: key => bars.get(key) ?? -1, set: (key, bar) => bars.set(key, bar)};
    }
    for (let bar = 0; bar < this.numBars; ++bar) {
      this.passIndex.set(this.passKey(this.kind[bar], this.stage[bar], this.microBatch[bar]), bar);
      if (this.isPair(bar))
        this.passIndex.set(this.passKey(this.kind2[bar], this.stage2[bar], this.microBatch2[bar]), bar);
    }
  }

  /// The bar that runs a pass; -1 where there is none.
  find(kind, stage, microBatch) {
    if (stage < 0 || stage >= this.stages || microBatch < 0 || microBatch >= this.microBatches) return -1;
    return this.passIndex.get(this.passKey(kind, stage, microBatch));
  }

  // Lists of the transfers that arrive at each bar: the first, and for each the next of the same bar.
  indexTransfers() {
    const {receiver} = this.transfers;
    this.firstArrival = new Int32Array(this.numBars).fill(-1);
    this.nextArrival = new Int32Array(receiver.length).fill(-1);
    for (let transfer = receiver.length - 1; transfer >= 0; --transfer) {
      this.nextArrival[transfer] = this.firstArrival[receiver[transfer]];
      this.firstArrival[receiver[transfer]] = transfer;
    }
  }

  /// The transfer of a message from one bar to another; -1 where they are on one rank.
  transferBetween(sender, receiver, isGradient) {
    const {transfers} = this;
    let transfer = this.firstArrival[receiver];
    while (transfer >= 0 && (transfers.sender[transfer] !== sender || transfers.isGradient[transfer] !== Number(isGradient)))
      transfer = this.nextArrival[transfer];
    return transfer;
  }

  /// "12.50 ms", or the plain number where the unit stands for nothing.
  formatTime(time) {
    if (this.unitNs === 0) return String(Math.round(time * 1000) / 1000);
    const ns = time * this.unitNs;
    for (const [size, unit] of [[1e9, 's'], [1e6, 'ms'], [1e3, 'us']])
      if (Math.abs(ns) >= size) return `${(ns / size).toPrecision(4)} ${unit}`;
    return `${Math.round(ns)} ns`;
  }
}

function formatBytes(bytes) {
  let unit = 0;
  while (bytes >= 1000 && unit < 4) { bytes /= 1024; ++unit; }
  return `${unit === 0 ? bytes : bytes.toFixed(bytes >= 100 ? 0 : 1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}
