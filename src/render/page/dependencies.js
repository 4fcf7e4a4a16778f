// What a bar waited for, what waited for it, and the chain of bars that set its time.

/// What must be there before a bar can begin: {bar, ready, how}, `how` one of 'rank' (the bar before it on its
/// rank), 'message' (with the time it was sent) and 'own' (an earlier pass of the same rank).
function waitsFor(timeline, bar) {
  const found = [];
  const rank = timeline.rankOf(bar);
  if (bar > timeline.firstBar[rank]) found.push({bar: bar - 1, ready: timeline.end[bar - 1], how: 'rank'});
  for (const {kind, stage, microBatch} of timeline.passes(bar)) {
    const pass = neededPass(timeline, kind, stage, microBatch);
    const needed = timeline.find(...pass);
    if (needed < 0 || needed === bar) continue;
    const transfer = timeline.transferBetween(needed, bar, pass[0] !== FORWARD);
    if (transfer >= 0) {
      const {begin, end} = timeline.transfers;
      found.push({bar: needed, ready: end[transfer], sent: begin[transfer], how: 'message'});
    } else {
      found.push({bar: needed, ready: timeline.end[needed], how: timeline.rankOf(needed) === rank ? 'own' : 'message'});
    }
  }
  return withoutRepeats(found);
}

/// Two passes of a pair may wait for the same, or be waited for by the same.
function withoutRepeats(found) {
  return found.filter((one, i) => found.findIndex(other => other.bar === one.bar && other.ready === one.ready) === i);
}

/// The pass whose result a pass needs, as arguments of Timeline.find(); a stage of -1 where it needs none.
function neededPass(timeline, kind, stage, microBatch) {
  if (kind === FORWARD) return [FORWARD, stage - 1, microBatch];
  if (kind === WEIGHT) return [INPUT, stage, microBatch];
  return stage + 1 < timeline.stages ? [BACKWARD, stage + 1, microBatch] : [FORWARD, stage, microBatch];
}

/// What could not begin before a bar's end: {bar, how}.
function waitedBy(timeline, bar) {
  const found = [];
  const rank = timeline.rankOf(bar);
  for (const {kind, stage, microBatch} of timeline.passes(bar)) {
    const after = [];
    if (kind === FORWARD) after.push(stage + 1 < timeline.stages ? [FORWARD, stage + 1] : [BACKWARD, stage]);
    if (kind === BACKWARD || kind === INPUT) after.push([BACKWARD, stage - 1]);
    if (kind === INPUT) after.push([WEIGHT, stage]);
    for (const [laterKind, laterStage] of after) {
      const waiting = timeline.find(laterKind, laterStage, microBatch);
      if (waiting >= 0 && waiting !== bar)
        found.push({bar: waiting, how: timeline.rankOf(waiting) === rank ? 'own' : 'message'});
    }
  }
  if (bar + 1 < timeline.firstBar[rank + 1]) found.push({bar: bar + 1, how: 'rank'});
  return withoutRepeats(found);
}

/// The last thing that a bar waited for; undefined where it waited for nothing.
function lastWait(timeline, bar) {
  let last;
  for (const one of waitsFor(timeline, bar))
    if (last === undefined || one.ready > last.ready || (one.ready === last.ready && one.how === 'rank')) last = one;
  return last;
}

/// The chain that set a bar's time, from the first bar that waited for nothing, and then the bars that in turn
/// waited for it last. Bars from first to last.
function chainThrough(timeline, bar) {
  const chain = new Set([bar]);  // a recording may be wrong: no bar twice
  for (let one = lastWait(timeline, bar); one !== undefined && !chain.has(one.bar); one = lastWait(timeline, one.bar))
    chain.add(one.bar);
  const before = [...chain].reverse();
  for (let at = bar; at !== undefined;) {
    const next = waitedBy(timeline, at)
      .filter(one => !chain.has(one.bar) && lastWait(timeline, one.bar).bar === at)
      .sort((a, b) => timeline.begin[a.bar] - timeline.begin[b.bar])[0];
    at = next?.bar;
    if (at === undefined) break;
    chain.add(at);
    before.push(at);
  }
  return before;
}
