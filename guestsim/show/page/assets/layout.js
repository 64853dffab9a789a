// Which lanes there are, and what lies in each: spans (from an event to an event) in rows, marks at events.

// Put spans, sorted by their begin, into the fewest rows in which none overlaps another.
function rowsOf(begin, end) {
  const rows = new Uint16Array(begin.length);
  const ends = [];
  for (let i = 0; i < begin.length; i++) {
    let row = 0;
    while (row < ends.length && ends[row] > begin[i]) row++;
    rows[i] = Math.min(row, 65535);
    ends[row] = end[i];
  }
  return [rows, ends.length];
}

const LEAST_ROOM = 27, MOST_ROOM = 60;
const MARGIN = 9;
const MOST_ROW = 15;

class Spans {
  // `items` are rows of the table from which begin, end and the rest come; `request` says to which request one belongs.
  constructor(trace, items, begin, end, request, operation) {
    this.items = items;
    this.begin = Uint32Array.from(items, item => begin[item]);
    this.end = Uint32Array.from(items, item => (end[item] === NONE ? trace.count - 1 : end[item]));
    this.open = item => end[item] === NONE;
    this.request = Uint32Array.from(items, request);
    this.operation = Uint8Array.from(items, operation);
    [this.rows, this.depth] = rowsOf(this.begin, this.end);
    // How far anything up to here reaches: what is visible begins after the last that does not reach the window.
    this.reach = new Uint32Array(items.length);
    let reach = 0;
    this.end.forEach((end, i) => { this.reach[i] = reach = Math.max(reach, end); });
  }

  // The height that suits it, where there is `room` for its rows.
  fit(room) {
    this.room = Math.min(Math.max(this.depth * MOST_ROW, LEAST_ROOM), Math.max(room, LEAST_ROOM));
    return this.room + MARGIN;
  }

  // The first that is visible, and the first behind what is; as few rows as are in sight share the room.
  visible(view) {
    const [first, last] = view.events;
    const from = lowerBound(this.reach, Math.max(first - 1, 0)), to = lowerBound(this.begin, last + 1);
    let deepest = 0;
    for (let i = from; i < to; i++) if (this.rows[i] > deepest && this.end[i] >= first) deepest = this.rows[i];
    this.rowHeight = Math.min(this.room / (deepest + 1), MOST_ROW);
    return [from, to];
  }

  top(i) {
    return 4.5 + this.rows[i] * this.rowHeight;
  }
}

function spanLane(trace, title, sub, items, table, request) {
  const spans = new Spans(trace, items, table.begin, table.end, request, item => table.op[item]);
  const deep = spans.depth > 1 ? `up to ${spans.depth} at once` : "";
  return {
    title, sub: [sub, deep].filter(Boolean).join(", "), spans, height: spans.fit(MOST_ROOM), kind: "spans",
    offset: item => table.offset[item], length: item => table.length[item],
  };
}

function markLane(title, rows, kind = "marks") {
  const there = rows.filter(row => row.events.length);
  return { title, sub: "", rows: there, height: Math.max(there.length * 19 + 8, 30), kind };
}

function pairs(trace) {
  const found = new Map();
  const { device, queue } = trace.requests;
  for (let i = 0; i < trace.requestCount; i++) {
    const key = device[i] * 65536 + queue[i];
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  return [...found].sort((a, b) => a[0] - b[0]).map(each => each[1]);
}

// Requests that went to the disk, with their stations between.
function partLane(trace, name, items) {
  const lane = spanLane(trace, "Requests", name, items, trace.parts, item => trace.parts.life[item]);
  const end = Uint32Array.from(items, item => {
    const rows = trace.servedBy.of(item);
    return rows.length ? trace.dispatches.end[trace.served.dispatch[rows[rows.length - 1]]] : NONE;
  });
  const begin = Uint32Array.from(items, item => {
    const rows = trace.servedBy.of(item);
    return rows.length ? trace.dispatches.begin[trace.served.dispatch[rows[0]]] : NONE;
  });
  lane.inner = { begin, end };
  return lane;
}

function nodeLanes(trace) {
  const nodes = new Groups(trace.steps.node, trace.facts.nodes.length);
  return trace.facts.nodes.map(([name, driver], number) => {
    const request = step => {
      const dispatch = trace.steps.dispatch[step];
      return dispatch === NONE ? NONE : trace.dispatchRequest[dispatch];
    };
    return { ...spanLane(trace, `Node ${name}`, driver, nodes.of(number), trace.steps, request), shared: true };
  });
}

function dispatchLane(trace) {
  const items = trace.dispatches.begin.map((_, row) => row);
  return spanLane(trace, "Backend", "", items, trace.dispatches, item => trace.dispatchRequest[item]);
}

// Parts by the device that submitted them.
function partLanes(trace) {
  const found = new Map();
  trace.parts.begin.forEach((event, row) => {
    const source = trace.events.source[event];
    if (!found.has(source)) found.set(source, []);
    found.get(source).push(row);
  });
  return [...found].map(([source, rows]) => partLane(trace, found.size > 1 ? trace.facts.sources[source] : "", Uint32Array.from(rows)));
}

// Give the lanes heights so that they fill `height`, as far as that can be.
function fitLanes(lanes, height) {
  const deep = lanes.filter(lane => lane.spans);
  const rest = lanes.reduce((sum, lane) => sum + (lane.spans ? 0 : lane.height), 0);
  const room = Math.floor((height - rest) / Math.max(deep.length, 1)) - MARGIN;
  for (const lane of deep) lane.height = lane.spans.fit(Math.min(room, MOST_ROOM));
}

function lanesOf(trace) {
  const guest = markLane("Guest", [
    { name: "reads", events: trace.eventsOf("access-read"), colour: "--read" },
    { name: "writes", events: trace.eventsOf("access-write"), colour: "--write" },
    { name: "config", events: trace.eventsOf("config-read", "config-write"), colour: "--other" },
    { name: "kick", events: trace.eventsOf("kick"), colour: "--accent" },
  ]);
  const devices = new Set(trace.requests.device);
  const queues = pairs(trace).map(items => {
    const queue = trace.requests.queue[items[0]];
    const table = { ...trace.requests, begin: trace.requests.taken, end: trace.requests.used };
    return spanLane(trace, `Queue ${queue}`, devices.size > 1 ? trace.device(items[0]) : "", Uint32Array.from(items), table, item => item);
  });
  const nodes = nodeLanes(trace);
  const told = markLane("Interrupts", [
    { name: "notify", events: trace.eventsOf("notify"), colour: "--accent" },
    { name: "interrupt", events: trace.eventsOf("interrupt"), colour: "--text" },
  ]);
  const memory = { title: "Memory", sub: "read ▲ written ▼", height: 50, kind: "memory", reads: trace.eventsOf("dma-read"), writes: trace.eventsOf("dma-write") };
  const states = markLane("Device", [
    { name: "violations", events: trace.eventsOf("violation"), colour: "--bad", shape: "diamond" },
    { name: "resets", events: trace.eventsOf("reset", "machine-reset", "driver-left", "stop"), colour: "--text", shape: "bar" },
    { name: "set-up", events: trace.eventsOf("device", "features", "queue", "enable", "moved", "look", "again"), colour: "--discard", shape: "dot" },
    { name: "host", events: trace.eventsOf("memory", "size", "quiesce", "run-state"), colour: "--flush", shape: "dot" },
  ], "states");
  const below = nodes.length ? nodes : trace.dispatches.begin.length ? [dispatchLane(trace)] : [];
  const lanes = [guest, ...queues, ...partLanes(trace), ...below, told, memory, states];
  return lanes.filter(lane => lane.kind === "memory" ? lane.reads.length + lane.writes.length : lane.spans || lane.rows.length);
}
