// Puts the page together.

function start() {
  const byId = id => document.getElementById(id);
  const {palettes, timelines} = JSON.parse(byId('data').textContent);
  const chart = new Chart(byId('chart'), timelines.map(json => new Timeline(json)), palettes);
  const details = byId('details'), tooltip = byId('tooltip'), query = byId('query'), matches = byId('matches');
  let match = -1;  // of chart.found

  function choose(place) {
    chart.choose(place);
    fillDetails(details, chart, go);
  }

  function go(place) {
    chart.reveal(place);
    choose(place);
  }

  function hover(place, x, y) {
    chart.hover(place);
    tooltip.hidden = place === null;
    if (place === null) return;
    fillTooltip(tooltip, place);
    const {clientWidth, clientHeight} = chart.canvas;
    tooltip.style.left = `${Math.max(0, Math.min(x + 14, clientWidth - tooltip.offsetWidth - 4))}px`;
    tooltip.style.top = `${Math.max(0, y + 18 + tooltip.offsetHeight > clientHeight ? y - tooltip.offsetHeight - 10 : y + 18)}px`;
  }

  function find() {
    const found = chart.shown.map(panel => [panel, findBars(panel.timeline, query.value)]);
    const isQuery = found.some(([, bars]) => bars !== null);
    chart.found = found.flatMap(([panel, bars]) => (bars ?? []).map(bar => ({panel, bar})));
    match = -1;
    choose(null);
    matches.textContent = query.value.trim() === '' ? '' : !isQuery ? 'expected like 2F5' : chart.found.length === 0 ? 'none' : `${chart.found.length} found`;
  }

  function next(step) {
    if (chart.found.length === 0) return;
    match = match < 0 && step < 0 ? chart.found.length - 1 : (match + step + chart.found.length) % chart.found.length;
    go(chart.found[match]);
    matches.textContent = `${match + 1} of ${chart.found.length}`;
  }

  function clear() {
    query.value = '';
    chart.withCritical = false;
    byId('critical').setAttribute('aria-pressed', 'false');
    find();
  }

  const choices = timelines.length > 1 ? [...chart.panels.map(panel => [panel]), chart.panels] : [chart.panels];
  function show(index) {
    if (index >= choices.length) return;
    [...byId('shown').children].forEach((button, i) => button.setAttribute('aria-pressed', String(i === index)));
    chart.show(choices[index]);
    fillLegend(byId('legend'), chart);
    chart.canvas.setAttribute('aria-label', chart.shown.map(({timeline}) => `${timeline.name}: ${timeline.description}`).join('; '));
    find();
  }

  function toggle(id, property) {
    byId(id).addEventListener('click', () => {
      chart[property] = !chart[property];
      byId(id).setAttribute('aria-pressed', String(chart[property]));
      chart.layOut();
      chart.mark();
    });
  }

  if (timelines.length > 1) {
    byId('shown').hidden = false;
    [...timelines.map(one => one.name), 'Both'].forEach((name, i) => {
      const button = element('button', name);
      button.addEventListener('click', () => show(i));
      byId('shown').append(button);
    });
  }
  toggle('critical', 'withCritical');
  toggle('memory', 'withMemory');
  byId('zoom-in').addEventListener('click', () => chart.view.zoom(0.7));
  byId('zoom-out').addEventListener('click', () => chart.view.zoom(1.4));
  byId('fit').addEventListener('click', () => chart.view.fit());
  byId('idle').hidden = timelines.every(one => one.idle.length === 0);
  byId('idle').addEventListener('click', () => byId('idle-times').showModal());
  fillIdleTimes(byId('idle-times').firstElementChild, chart.panels.map(panel => panel.timeline));
  byId('help').addEventListener('click', () => byId('keys').showModal());
  query.addEventListener('input', find);
  byId('find').addEventListener('submit', event => {
    event.preventDefault();
    next(1);
  });
  new Input(chart, {choose, go, hover, clear, next, show, search: () => query.select()});
  show(choices.length - 1);
  globalThis.counterflow = {chart};  // for the console, and for tests
}

start();
