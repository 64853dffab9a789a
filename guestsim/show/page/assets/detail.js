// Everything about one request, beside the timeline.

const STATIONS = [
  ["kicked", "notification", "The driver notified the queue"],
  ["taken", "taken", "The device took the buffer from the ring"],
  ["begin", "submitted", "The device submitted a block request"],
  ["sent", "to the disk", "The backend dispatched it to the node"],
  ["back", "from the disk", "The node was done"],
  ["end", "completed", "The device was told"],
  ["used", "given back", "The device put the buffer into the used ring"],
  ["notified", "driver notified", "The device notified the driver"],
  ["interrupt", "interrupt", "The interrupt was sent"],
];

function showDetail(panel, trace, request, selectable) {
  const detail = trace.detail(request);
  const { requests } = trace;
  const length = requests.length[request];
  const place = length ? ` ${bytes(length)} at ${hex(requests.offset[request])}` : "";
  const state = stateOf(trace, request);
  const kind = state === "OK" ? "" : state.startsWith("no") ? "muted" : "bad";
  const nav = element("nav", {}, [
    button("‹", "Previous request (p)", "previous"), button("›", "Next request (n)", "next"),
    button("×", "Close (Esc)", "close"),
  ]);
  if (!selectable) nav.firstChild.disabled = nav.children[1].disabled = true;
  const header = element("header", {}, [
    element("h2", {}, [`${trace.operation(request)}${place}`, element("span", { class: `badge ${kind}` }, state)]),
    element("p", {}, `Request ${trace.name(request)}: ${trace.device(request)}, queue ${requests.queue[request]}, head ${requests.head[request]}${sessionText(trace, request)}`),
    nav,
  ]);
  panel.replaceChildren(
    header, ...violationBoxes(detail), stationBox(trace, request), ...wayBoxes(trace, request), ...neighbourBoxes(trace, request),
    chainBox(trace, request, detail), bytesBox(trace, detail), eventBox(trace, detail),
  );
}

function button(text, title, action) {
  const made = element("button", { type: "button", title, "aria-label": title }, text);
  made.dataset.action = action;
  return made;
}

function sessionText(trace, request) {
  const sessions = Math.max(...new Set(trace.requests.session));
  return sessions > 1 ? `, driver ${trace.requests.session[request]} of ${sessions}` : "";
}

function box(title, more, children) {
  return element("section", {}, [element("h3", {}, [title, more ? element("em", {}, ` – ${more}`) : ""]), ...children]);
}

function violationBoxes(detail) {
  const found = detail.violations || [];
  if (!found.length) return [];
  return [box(plural(found.length, "violation"), "", found.map(([clause, , summary, data]) => element("div", { class: "violation" }, [
    element("b", {}, clause), ` ${summary}`, ...(data ? [hexDump(data.slice(0, 256))] : []),
  ])))];
}

// The request's stations with the time between them; of several parts the first and the last count.
function stationBox(trace, request) {
  const moments = stationMoments(trace, request);
  const value = event => (trace.timeless ? event : trace.times[event]);
  const [first] = moments;
  const whole = Math.max(value(moments[moments.length - 1].event) - value(first.event), 1);
  const table = element("table", { class: "station" }, [cells("th", ["station", "event", trace.timeless ? "" : "since", "step", ""], ["", "right", "right", "right"])]);
  moments.forEach(({ event, name, title }, number) => {
    const before = number ? moments[number - 1].event : event;
    const step = value(event) - value(before);
    const gap = element("div", { class: "gap" }, number && step ? [bar((value(before) - value(first.event)) / whole, step / whole)] : []);
    const row = cells("td", [
      name, link("event", event, count(trace.number(event))),
      trace.timeless ? "" : duration(value(event) - value(first.event)),
      number ? (trace.timeless ? plural(step, "event") : duration(step)) : "", gap,
    ], ["", "right", "right muted", "right"]);
    row.title = title;
    table.append(row);
  });
  const latency = trace.timeless ? plural(trace.span(request) || 0, "event") : duration(trace.latency(request));
  const start = trace.timeless ? `from event ${count(trace.number(first.event))}` : `from ${moment(trace.times[first.event])}`;
  const more = Number.isNaN(trace.span(request)) ? "never given back" : `${latency} in the device, ${start}`;
  return box("Stations", more, [table]);
}

function bar(start, share) {
  const made = element("i");
  made.style.left = `${start * 100}%`;
  made.style.width = `${share * 100}%`;
  return made;
}

function stationMoments(trace, request) {
  const { requests, parts, dispatches } = trace;
  const rows = [...trace.partsOf.of(request)];
  const runs = trace.dispatchesOf(request);
  const least = events => Math.min(...events, NONE);
  const most = events => (events.includes(NONE) || !events.length ? NONE : Math.max(...events));
  const at = {
    kicked: requests.kicked[request], taken: requests.taken[request],
    begin: least(rows.map(row => parts.begin[row])), sent: least(runs.map(run => dispatches.begin[run])),
    back: most(runs.map(run => dispatches.end[run])), end: most(rows.map(row => parts.end[row])),
    used: requests.used[request], notified: requests.notified[request], interrupt: requests.interrupt[request],
  };
  return STATIONS.filter(([key]) => at[key] !== NONE).map(([key, name, title]) => ({ event: at[key], name, title }));
}

function chainBox(trace, request, detail) {
  const table = element("table", { class: "tight" }, [cells("th", ["", "address", "bytes", "direction"], ["", "", "right"])]);
  detail.pieces.forEach(([address, length, writable], number) => {
    table.append(cells("td", [String(number), address, count(length), writable ? "device writes ←" : "device reads →"], ["muted", "mono", "right", "muted"]));
  });
  const how = detail.table ? `indirect table of ${detail.table[1]} at ${detail.table[0]}` : "direct descriptors";
  const more = detail.count > detail.pieces.length ? [element("p", { class: "note" }, `The first ${detail.pieces.length} of ${count(detail.count)} pieces.`)] : [];
  const written = `used length ${count(trace.requests.written[request])}`;
  const given = trace.requests.used[request] === NONE ? "" : `, ${written}`;
  return box("Chain", `${plural(detail.count, "piece")}, ${how}${given}`, [table, ...more]);
}

function bytesBox(trace, detail) {
  const sections = detail.sections.map(section => sectionBox(section, trace.facts.payload));
  return box("Bytes", "", sections.length ? sections : [element("p", { class: "note" }, "The buffer has none.")]);
}

function wayBoxes(trace, request) {
  const dispatches = trace.dispatchesOf(request);
  return dispatches.slice(0, 8).map((dispatch, number) => {
    const served = trace.servedOf.of(dispatch).length;
    const together = served > 1 ? `one request of the disk for ${served}` : "";
    const which = dispatches.length > 1 ? `${number + 1} of ${dispatches.length}` : "";
    const steps = trace.stepsOf.of(dispatch).length ? wayPicture(trace, dispatch) : [...wayPicture(trace, dispatch), element("p", { class: "note" }, "The nodes below were not recorded.")];
    return box("Way through the graph", [which, together].filter(Boolean).join(", "), steps);
  });
}

function neighbourBoxes(trace, request) {
  const found = trace.neighbours(request);
  if (!found.length) return [];
  const links = found.slice(0, 64).map(other => link("request", other, `${trace.name(other)} (${bytes(trace.requests.length[other])} at ${hex(trace.requests.offset[other])})`));
  return [box("Served together with", "", [element("div", { class: "links" }, links)])];
}

function eventBox(trace, detail) {
  const events = detail.events || [];
  const table = element("table", { class: "tight events" });
  for (const event of events.slice(0, 200)) {
    table.append(cells("td", [link("event", event, count(trace.number(event))), trace.kindOf(event), cut(trace.eventText(event), 120)], ["right", "", "muted"]));
  }
  const more = events.length > 200 ? [element("p", { class: "note" }, `The first 200 of ${count(events.length)}.`)] : [];
  return box("Events", count(events.length), [table, ...more]);
}
