// Lanes drawn on a canvas: only what is visible, and of what falls onto the same pixels only what can be seen.

// The colours of the page's style, as the theme of the moment has them.
class Palette {
  constructor() {
    this.refresh();
  }

  refresh() {
    this.style = getComputedStyle(document.documentElement);
    this.known = new Map();
  }

  get(name) {
    if (!this.known.has(name)) this.known.set(name, this.style.getPropertyValue(name).trim());
    return this.known.get(name);
  }

  // Black or white, whichever can be read on a colour.
  ink(name) {
    const value = parseInt(this.get(name).slice(1), 16);
    const light = .299 * (value >> 16) + .587 * (value >> 8 & 255) + .114 * (value & 255);
    return light > 140 ? "#10151c" : "#ffffff";
  }
}

// `look` is what a drawing needs besides the view: trace, palette, filter, selection.
function drawLane(context, lane, top, view, look) {
  if (lane.kind === "spans") drawSpans(context, lane, top, view, look);
  else if (lane.kind === "memory") drawMemory(context, lane, top, view, look);
  else lane.rows.forEach((row, number) => drawMarks(context, lane, row, top + 4 + number * 19, view, look));
}

function drawSpans(context, lane, top, view, look) {
  const { spans } = lane;
  const [first, last] = spans.visible(view);
  const seen = new Float64Array(spans.depth);
  const selected = [];
  for (const matching of look.match ? [false, true] : [true]) {
    seen.fill(-Infinity);
    for (let i = first; i < last; i++) {
      const request = spans.request[i];
      if (look.match && (request !== NONE && look.match[request] === 1) !== matching) continue;
      const row = spans.rows[i];
      const right = Math.min(view.x(spans.end[i]), view.width + 4);
      const left = Math.max(view.x(spans.begin[i]), -4);
      const x1 = Math.max(right, left + 1);
      if (isSelected(lane, i, look)) selected.push(i);
      if (x1 <= seen[row]) continue;
      const x0 = Math.max(left, seen[row]);
      seen[row] = x1;
      context.globalAlpha = matching ? 1 : .15;
      drawSpan(context, lane, i, x0, x1, top + spans.top(i), view, look);
    }
  }
  context.globalAlpha = 1;
  for (const i of selected) outline(context, spans, i, top, view, look);
}

function isSelected(lane, i, look) {
  if (look.selected === null) return false;
  return lane.spans.request[i] === look.selected || look.neighbours.has(lane.spans.request[i]) && lane.shared;
}

function drawSpan(context, lane, i, x0, x1, y, view, look) {
  const { spans } = lane;
  const height = Math.max(spans.rowHeight - (spans.rowHeight > 5 ? 1.5 : spans.rowHeight > 2.5 ? .5 : 0), 1);
  const width = x1 - x0 > 3 ? x1 - x0 - .75 : x1 - x0;
  const operation = look.trace.facts.operations[spans.operation[i]];
  const colour = colourName(operation);
  const open = spans.open(spans.items[i]);
  const alpha = context.globalAlpha;
  context.fillStyle = look.palette.get(colour);
  if (lane.inner) {
    context.globalAlpha = alpha * .38;
    context.fillRect(x0, y, width, height);
    context.globalAlpha = alpha;
    drawInner(context, lane, i, y, height, view);
  } else {
    if (open) context.globalAlpha = alpha * .55;
    context.fillRect(x0, y, width, height);
    context.globalAlpha = alpha;
  }
  const request = spans.request[i];
  if (request !== NONE && look.trace.failed(request)) {
    context.fillStyle = look.palette.get("--bad");
    context.fillRect(x0, y + height - Math.min(3, height), Math.max(width, 2), Math.min(3, height));
  }
  if (width > 44 && height >= 12) label(context, lane, i, x0, y, width, height, operation, look);
}

// The time at the disk, within a request's.
function drawInner(context, lane, i, y, height, view) {
  const begin = lane.inner.begin[i];
  if (begin === NONE) return;
  const end = lane.inner.end[i] === NONE ? lane.spans.end[i] : lane.inner.end[i];
  const left = Math.max(view.x(begin), -4);
  const right = Math.min(view.x(end), view.width + 4);
  if (right > left - 1) context.fillRect(left, y, Math.max(right - left, 1), height);
}

function label(context, lane, i, x0, y, width, height, operation, look) {
  const { spans } = lane;
  const x = Math.max(x0, 0) + 4;
  const room = x0 + width - x - 4;
  const short = SHORT[operation] || operation;
  const length = lane.length ? lane.length(spans.items[i]) : 0;
  const long = length ? `${short} ${bytes(length)}` : short;
  context.font = look.font;
  const text = context.measureText(long).width <= room ? long : short;
  if (context.measureText(text).width > room) return;
  context.fillStyle = lane.inner && !inked(lane, i, x, look) ? look.palette.get("--text") : look.palette.ink(colourName(operation));
  context.fillText(text, x, y + height / 2 + .5);
}

// Whether a request's label lies on the full colour.
function inked(lane, i, x, look) {
  const begin = lane.inner.begin[i];
  return begin !== NONE && look.view.x(begin) <= x + 6;
}

function outline(context, spans, i, top, view, look) {
  const x0 = view.x(spans.begin[i]), x1 = Math.max(view.x(spans.end[i]), x0 + 1);
  if (x1 < 0 || x0 > view.width) return;
  const left = Math.max(x0, -4), right = Math.min(x1, view.width + 4);
  context.strokeStyle = look.palette.get("--text");
  context.lineWidth = 1.5;
  const height = Math.max(spans.rowHeight, 4);
  const y = top + spans.top(i) - (height - spans.rowHeight) / 2;
  context.strokeRect(left - 1, y - 1, Math.max(right - left, 1) + 1.5, height + .5);
}

const BIN = 2;

// Bins of two pixels: the sum of `weight` of the visible `events` in each.
function bins(view, events, weight) {
  const sums = new Float64Array(Math.ceil(view.width / BIN) + 1);
  const [from, to] = view.events;
  let greatest = 0;
  for (let i = lowerBound(events, from); i < events.length && events[i] <= to; i++) {
    const bin = Math.floor(view.x(events[i]) / BIN);
    if (bin < 0 || bin >= sums.length) continue;
    sums[bin] += weight ? weight[events[i]] : 1;
    if (sums[bin] > greatest) greatest = sums[bin];
  }
  return [sums, greatest];
}

function drawMarks(context, lane, row, top, view, look) {
  const [from, to] = view.events;
  const first = lowerBound(row.events, from), last = lowerBound(row.events, to + 1);
  context.fillStyle = look.palette.get(row.colour);
  if (last - first > view.width / 3) {
    const [sums, greatest] = bins(view, row.events);
    sums.forEach((sum, bin) => {
      if (!sum) return;
      const height = 4 + 10 * Math.log1p(sum) / Math.log1p(greatest);
      context.fillRect(bin * BIN, top + 16 - height, BIN, height);
    });
    return;
  }
  let free = -Infinity;
  for (let i = first; i < last; i++) {
    const x = view.x(row.events[i]);
    mark(context, row.shape, x, top);
    const next = i + 1 < last ? view.x(row.events[i + 1]) : view.width;
    const text = x >= free && next - x > 30 ? markText(row.events[i], look.trace) : "";
    context.font = look.font;
    if (text && context.measureText(text).width < next - x - 12) {
      context.fillStyle = look.palette.get("--muted");
      context.fillText(text, x + 7, top + 9.5);
      context.fillStyle = look.palette.get(row.colour);
      free = x + 10 + context.measureText(text).width;
    }
  }
}

function mark(context, shape, x, top) {
  context.beginPath();
  if (shape === "diamond") {
    context.moveTo(x, top + 1);
    context.lineTo(x + 6, top + 9);
    context.lineTo(x, top + 17);
    context.lineTo(x - 6, top + 9);
  } else if (shape === "dot") {
    context.arc(x, top + 9, 3.5, 0, 2 * Math.PI);
  } else {
    context.rect(x - .75, top + 2, 1.5, 14);
  }
  context.fill();
}

function markText(event, trace) {
  const kind = trace.kindOf(event);
  const queue = trace.events.queue[event];
  if (kind.startsWith("access") || kind.startsWith("config")) return trace.eventText(event).slice(0, 40);
  return queue >= 0 ? `${kind} ${queue}` : kind;
}

function drawMemory(context, lane, top, view, look) {
  const middle = top + lane.height / 2;
  const room = lane.height / 2 - 4;
  const [reads, most] = bins(view, lane.reads, look.trace.events.nbytes);
  const [writes, mostWritten] = bins(view, lane.writes, look.trace.events.nbytes);
  const greatest = Math.max(most, mostWritten, 1);
  // Where each event has room, a bar is as wide as that.
  const [first, last] = view.events;
  const width = Math.max(BIN, Math.min(view.axis === "event" ? view.width / Math.max(last - first, 1) * .7 : BIN, 12));
  for (const [sums, colour, sign] of [[reads, "--read", -1], [writes, "--write", 1]]) {
    context.fillStyle = look.palette.get(colour);
    sums.forEach((sum, bin) => {
      if (!sum) return;
      const height = Math.max(room * Math.log1p(sum) / Math.log1p(greatest), 1);
      context.fillRect((bin + .5) * BIN - width / 2, sign < 0 ? middle - height : middle, width, height);
    });
  }
  context.fillStyle = look.palette.get("--line");
  context.fillRect(0, middle - .5, view.width, 1);
}

// What lies at a point of a lane: a span's number, or an event; null where nothing does.
function hitLane(lane, x, y, view) {
  if (lane.kind === "spans") return hitSpan(lane, x, y, view);
  if (lane.kind === "memory") {
    const event = nearest(y < lane.height / 2 ? lane.reads : lane.writes, x, view);
    return event === null ? null : { event };
  }
  const row = lane.rows[Math.floor((y - 4) / 19)];
  const event = row ? nearest(row.events, x, view) : null;
  return event === null ? null : { event };
}

function hitSpan(lane, x, y, view) {
  const { spans } = lane;
  const [first, last] = spans.visible(view);
  let best = null, distance = 4;
  for (let i = first; i < last; i++) {
    const above = y - spans.top(i);
    if (above < -1 || above > spans.rowHeight + 1) continue;
    const x0 = view.x(spans.begin[i]), x1 = Math.max(view.x(spans.end[i]), x0 + 1);
    const away = x < x0 ? x0 - x : x > x1 ? x - x1 : 0;
    if (away < distance || away === 0) {
      best = i;
      distance = away;
      if (!away && above >= 0 && above <= spans.rowHeight) break;
    }
  }
  return best === null ? null : { span: best };
}

function nearest(events, x, view) {
  const index = lowerBound(events, view.eventAt(view.at(x)));
  let best = null, distance = 6;
  for (const i of [index - 1, index]) {
    if (i < 0 || i >= events.length) continue;
    const away = Math.abs(view.x(events[i]) - x);
    if (away < distance) [best, distance] = [events[i], away];
  }
  return best;
}
