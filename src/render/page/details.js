// What is said of an action: in the tooltip under the pointer, and below the chart of the chosen one.

function element(tag, text = '', className = '') {
  const one = document.createElement(tag);
  one.textContent = text;
  if (className !== '') one.className = className;
  return one;
}

function describePass(timeline, {kind, stage, microBatch}) {
  const direction = timeline.directions.length > 1 ? `, direction ${describeDirection(timeline, microBatch)}` : '';
  const what = ['forward', 'backward', 'input gradient', 'weight gradient'][kind];
  return `${what}, stage ${stage}, micro-batch ${microBatch}${direction}`;
}

function describeDirection(timeline, microBatch) {
  const direction = timeline.directionOf(microBatch);
  const ranks = timeline.directions[direction].rankOfStage;
  return `${direction} (rank ${ranks[0]} to ${ranks[ranks.length - 1]})`;
}

function describeTimes(timeline, bar) {
  const [begin, end] = [timeline.begin[bar], timeline.end[bar]];
  return `rank ${timeline.rankOf(bar)}, ${timeline.formatTime(begin)} to ${timeline.formatTime(end)} (${timeline.formatTime(end - begin)})`;
}

function describeWait(timeline, {bar, ready, sent, how}) {
  const name = timeline.nameOf(bar);
  if (how === 'rank') return `${name} before it on the rank, until ${timeline.formatTime(ready)}`;
  if (how === 'own') return `${name} of the same rank, until ${timeline.formatTime(ready)}`;
  const way = sent !== undefined && ready > sent ? `, sent ${timeline.formatTime(sent)}, there ${timeline.formatTime(ready)}` : `, there ${timeline.formatTime(ready)}`;
  return `${name} from rank ${timeline.rankOf(bar)}${way}`;
}

function describeWaiter(timeline, {bar, how}) {
  const where = how === 'message' ? ` on rank ${timeline.rankOf(bar)}` : how === 'rank' ? ', next on the rank' : '';
  return `${timeline.nameOf(bar)}${where}, from ${timeline.formatTime(timeline.begin[bar])}`;
}

const IDLE_PARTS = [['waiting', 'waiting for a peer'], ['transfer', 'transfer'], ['launchGap', 'launch gap'], ['imbalance', 'imbalance']];

/// A table for each timeline of a real run: the idle time of each rank, and what it was.
function fillIdleTimes(place, timelines) {
  for (const timeline of timelines.filter(one => one.idle.length > 0)) {
    const table = element('table'), head = element('tr');
    for (const name of ['rank', 'busy', 'idle', ...IDLE_PARTS.map(([, text]) => text)]) head.append(element('th', name));
    table.append(element('caption', timeline.name), head);
    timeline.idle.forEach((parts, rank) => {
      const row = element('tr'), {busy, idle} = timeline.ranks[rank];
      row.append(element('td', String(rank)));
      for (const time of [busy, idle, ...IDLE_PARTS.map(([key]) => parts[key])]) row.append(element('td', timeline.formatTime(time)));
      table.append(row);
    });
    place.append(table);
  }
  place.append(element('p', 'Imbalance is waiting beyond that of stages that all take the same.', 'quiet'));
}

/// Lines about a place of the chart, for the tooltip.
function fillTooltip(tooltip, {panel, rank, bar, time}) {
  const {timeline} = panel;
  tooltip.replaceChildren();
  if (bar < 0) {
    const {idle, spanIdle, busy, peak, peakBytes} = timeline.ranks[rank];
    const bytes = peakBytes > 0 ? ` (${formatBytes(peakBytes)})` : '';
    tooltip.append(element('b', `rank ${rank} idle at ${timeline.formatTime(time)}`),
                   element('div', `busy ${timeline.formatTime(busy)}, idle ${timeline.formatTime(idle)}, of it ${timeline.formatTime(spanIdle)} between its first action and its last`),
                   element('div', `at most ${peak} activations${bytes}`));
    if (timeline.idle.length > 0)
      tooltip.append(element('div', IDLE_PARTS.map(([key, text]) => `${text} ${timeline.formatTime(timeline.idle[rank][key])}`).join(', ')));
    return;
  }
  tooltip.append(element('b', timeline.nameOf(bar)));
  for (const pass of timeline.passes(bar)) tooltip.append(element('div', describePass(timeline, pass)));
  tooltip.append(element('div', describeTimes(timeline, bar)));
  const waits = waitsFor(timeline, bar), waiters = waitedBy(timeline, bar);
  if (waits.length > 0) tooltip.append(element('div', 'waited for', 'quiet'));
  for (const one of waits) tooltip.append(element('div', describeWait(timeline, one)));
  if (waiters.length > 0) tooltip.append(element('div', 'waiting for it', 'quiet'));
  for (const one of waiters) tooltip.append(element('div', describeWaiter(timeline, one)));
}

/// The chosen action below the chart; each action named there can be gone to.
function fillDetails(details, chart, go) {
  details.replaceChildren();
  if (chart.chosen === null) return;
  const {panel, bar} = chart.chosen;
  const {timeline} = panel;
  const link = (text, to) => {
    const button = element('button', text);
    button.addEventListener('click', () => go({panel, bar: to}));
    return button;
  };
  details.append(element('b', timeline.nameOf(bar)),
                 ` ${timeline.passes(bar).map(pass => describePass(timeline, pass)).join('; ')}; ${describeTimes(timeline, bar)} `);
  const waits = waitsFor(timeline, bar), waiters = waitedBy(timeline, bar);
  if (waits.length > 0) details.append(element('span', 'waited for ', 'quiet'));
  for (const one of waits) details.append(link(describeWait(timeline, one), one.bar), ' ');
  if (waiters.length > 0) details.append(element('span', 'waiting for it ', 'quiet'));
  for (const one of waiters) details.append(link(describeWaiter(timeline, one), one.bar), ' ');
  details.append(element('span', `chain of ${chart.chain.length} actions`, 'quiet'));
}

/// A small picture beside a name.
function legendItem(name, rectangles) {
  const item = element('span');
  const shapes = rectangles.map(([x, y, width, height, fill]) => `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}"/>`);
  item.innerHTML = `<svg width="20" height="12" aria-hidden="true">${shapes.join('')}</svg>`;
  item.append(name);
  return item;
}

function fillLegend(legend, chart) {
  legend.replaceChildren();
  const seen = new Set();
  let pairs = false;
  for (const {timeline} of chart.shown) {
    for (let bar = 0; bar < timeline.numBars; ++bar) {
      for (const pass of timeline.passes(bar)) seen.add(pass.kind);
      pairs ||= timeline.isPair(bar);
    }
  }
  const shades = Math.max(...chart.shown.map(panel => panel.timeline.shades));
  const palette = chart.palettes[shades - 1];
  const hex = (kind, shade) => `#${palette[kind][shade].rgb.toString(16).padStart(6, '0')}`;
  ['F forward', 'B backward', 'I input gradient', 'W weight gradient'].forEach((name, kind) => {
    if (!seen.has(kind)) return;
    legend.append(legendItem(name, palette[kind].map((_, shade) => [20 * shade / shades, 0, 20 / shades, 12, hex(kind, shade)])));
  });
  if (pairs) legend.append(legendItem('overlapped pair', [[0, 0, 20, 6, hex(FORWARD, 0)], [0, 6, 20, 6, hex(BACKWARD, 0)]]));
  legend.append(legendItem('idle', [[0, 0, 20, 12, 'var(--idle)']]), legendItem('activations held', [[0, 4, 20, 8, 'var(--memory)'], [0, 4, 20, 1, 'var(--peak)']]));
  const known = new Set();
  for (const {timeline} of chart.shown) {
    const colours = chart.palettes[timeline.shades - 1][FORWARD].map(one => `#${one.rgb.toString(16).padStart(6, '0')}`);
    const add = (name, shade) => {
      if (!known.has(name)) legend.append(legendItem(name, [[0, 0, 20, 12, colours[shade]]]));
      known.add(name);
    };
    timeline.directionNames.forEach(add);
    if (timeline.directionNames.length > 0 || timeline.shades < 2) continue;
    add('first stage of each rank', 0);
    add('last stage of each rank', timeline.shades - 1);
  }
}
