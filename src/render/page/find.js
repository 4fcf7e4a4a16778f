// Finding actions by what is typed: 2F5 one action, F5 on every stage, 2B every micro-batch, 5 all of a
// micro-batch. A pair is found by either of its passes, and by the begin of its name, (2F6;1B0.

/// The bars that a query names, or null where it is no query.
function findBars(timeline, query) {
  const inTime = bars => bars.sort((a, b) => timeline.begin[a] - timeline.begin[b] || a - b);
  const name = query.trim().toUpperCase();
  if (name.startsWith('('))
    return inTime([...Array(timeline.numBars).keys()].filter(bar => timeline.nameOf(bar).startsWith(name)));
  const match = /^\s*(\d*)\s*([FBIW]?)\s*(\d*)\s*$/i.exec(query);
  if (match === null || query.trim() === '') return null;
  const [, before, letter, after] = match;
  const kind = LETTERS.indexOf(letter.toUpperCase());
  const stage = kind >= 0 && before !== '' ? Number(before) : -1;
  const number = kind >= 0 ? after : before;
  const microBatch = number === '' ? -1 : Number(number);
  const bars = [];
  for (let bar = 0; bar < timeline.numBars; ++bar) {
    if (timeline.passes(bar).some(pass => (kind < 0 || pass.kind === kind) && (stage < 0 || pass.stage === stage) &&
                                          (microBatch < 0 || pass.microBatch === microBatch)))
      bars.push(bar);
  }
  return inTime(bars);
}
