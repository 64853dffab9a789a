// A picture of a request's way through the graph: a box for each node that it came to, under the one that sent it there,
// and beside it when the node had it.

const BOX = 38, GAP = 9, INDENT = 18, WIDE = 420, TRACK = 104;
const MOST_STEPS = 48;

function wayPicture(trace, dispatch) {
  const steps = [...trace.stepsOf.of(dispatch)];
  const shown = ordered(trace, steps.slice(0, MOST_STEPS));
  const height = (shown.length + 1) * (BOX + GAP);
  const picture = svg("svg", { class: "way", viewBox: `0 0 ${WIDE} ${height}`, role: "img", "aria-label": wayText(trace, dispatch, shown) });
  picture.append(...boxOf(trace, { row: dispatch, table: trace.dispatches, root: true, depth: 0, at: 0, dispatch }));
  const places = new Map();
  shown.forEach(({ step, depth }, index) => {
    const at = (index + 1) * (BOX + GAP);
    const above = places.get(trace.steps.parent[step]) || { depth: 0, at: 0 };
    places.set(step, { depth, at });
    picture.append(arrow(above, depth, at));
    picture.append(...boxOf(trace, { row: step, table: trace.steps, depth, at, dispatch }));
  });
  const parts = [picture];
  if (steps.length > MOST_STEPS) parts.push(element("p", { class: "note" }, `The first ${MOST_STEPS} of ${count(steps.length)} steps.`));
  return parts;
}

// Steps each under the one above it, in the order in which they began.
function ordered(trace, steps) {
  const children = new Map();
  const known = new Set(steps);
  for (const step of steps) {
    const parent = known.has(trace.steps.parent[step]) ? trace.steps.parent[step] : NONE;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(step);
  }
  const found = [];
  const walk = (parent, depth) => {
    for (const step of children.get(parent) || []) {
      found.push({ step, depth });
      walk(step, depth + 1);
    }
  };
  walk(NONE, 1);
  return found;
}

function arrow(above, depth, at) {
  const x = Math.min(above.depth, 7) * INDENT + 9;
  const to = Math.min(depth, 7) * INDENT;
  return svg("path", { class: "edge", d: `M${x} ${above.at + BOX} V${at + BOX / 2} H${to} m-4 -3 l4 3 l-4 3` });
}

function boxOf(trace, { row, table, root, depth, at, dispatch }) {
  const x = Math.min(depth, 7) * INDENT;
  const right = WIDE - TRACK - 10;
  const error = table.error[row];
  const group = [svg("rect", { class: `box ${root ? "root" : ""} ${error ? "failed" : ""}`, x: x + .5, y: at + .5, width: right - x, height: BOX - 1, rx: 5 })];
  const [name, driver] = root ? ["Backend", `dispatch ${count(row)}`] : trace.facts.nodes[table.node[row]];
  const room = Math.floor((right - x - 16) / 6.6);
  const title = svg("text", { x: x + 9, y: at + 15 });
  title.append(svg("tspan", { "font-weight": 600 }, cut(name, room - Math.min(driver.length, 14))), svg("tspan", { class: "muted", dx: 7 }, cut(driver, 20)));
  group.push(title, svg("text", { class: "muted", x: x + 9, y: at + 30 }, cut(whatText(trace, table, row), room)));
  group.push(...trackOf(trace, table, row, at, dispatch));
  return group;
}

function whatText(trace, table, row) {
  const operation = trace.facts.operations[table.op[row]];
  const flags = ["FUA", "MAY_UNMAP", "NO_FALLBACK", "SERIALISING"].filter((_, bit) => table.flags[row] >> bit & 1);
  const range = table.length[row] ? ` ${bytes(table.length[row])} at ${hex(table.offset[row])}` : "";
  const error = table.error[row] ? ` → ${trace.facts.errors[table.error[row]]}` : "";
  return `${SHORT[operation] || operation}${range}${flags.length ? `, ${flags.join(" ")}` : ""}${error}`;
}

// When it began and ended, within the time of the whole dispatch.
function trackOf(trace, table, row, at, dispatch) {
  const value = event => (trace.timeless ? event : trace.times[event]);
  const last = trace.count - 1;
  const start = value(trace.dispatches.begin[dispatch]);
  const whole = Math.max(value(Math.min(trace.dispatches.end[dispatch], last)) - start, 1);
  const begin = value(table.begin[row]) - start;
  const end = value(Math.min(table.end[row], last)) - start;
  const left = WIDE - TRACK;
  const operation = trace.facts.operations[table.op[row]];
  const bar = svg("rect", { x: left + begin / whole * TRACK, y: at + 20, width: Math.max((end - begin) / whole * TRACK, 1.5), height: 8, rx: 2 });
  bar.style.fill = `var(${colourName(operation)})`;
  const took = table.end[row] === NONE ? "not over" : trace.timeless ? plural(end - begin, "event") : duration(end - begin);
  const from = trace.timeless || !begin ? "" : `+${duration(begin)}, `;
  return [
    svg("text", { class: "muted", x: left, y: at + 14 }, `${from}${took}`),
    svg("rect", { class: "track", x: left, y: at + 20, width: TRACK, height: 8, rx: 2 }), bar,
  ];
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, Math.max(most - 1, 1))}…` : text;
}

function wayText(trace, dispatch, shown) {
  const names = shown.map(({ step }) => trace.facts.nodes[trace.steps.node[step]][0]);
  return `Dispatch ${dispatch}: ${["backend", ...names].join(", then ")}`;
}
