// The lists below the timeline: requests, events, violations; one at a time.

class Lists extends EventTarget {
  constructor(trace, filter) {
    super();
    this.trace = trace;
    this.filter = filter;
    this.tables = { requests: this.#requests(), events: this.#events() };
    const violations = trace.eventsOf("violation");
    if (violations.length) this.tables.violations = this.#violations();
    this.violations = violations;
    this.tables.requests.addEventListener("pick", event => this.#tell("request", event.detail));
    this.tables.requests.addEventListener("zoom", event => this.#tell("zoom", event.detail));
    for (const name of ["events", "violations"]) {
      if (this.tables[name]) this.tables[name].addEventListener("pick", event => this.#tell("event", event.detail));
    }
    filter.addEventListener("change", () => this.#again());
    this.open("requests");
  }

  #tell(kind, row) {
    this.dispatchEvent(new CustomEvent(kind, { detail: row }));
  }

  #requests() {
    const { trace } = this;
    const { requests } = trace;
    const devices = new Set(requests.device).size;
    const longest = Math.max(percentile(statistics(trace, Array.from({ length: trace.requestCount }, (_, request) => request)).values, .99), 1);
    const took = request => (trace.timeless ? trace.span(request) : trace.latency(request));
    return new VirtualTable("Requests", [
      { name: "no.", width: "56px", class: "right muted", text: request => trace.name(request), value: request => request },
      { name: trace.timeless ? "event" : "taken at", width: "92px", class: "right", text: request => (trace.timeless ? count(trace.number(requests.taken[request])) : moment(trace.times[requests.taken[request]])), value: request => requests.taken[request] },
      { name: "operation", width: "100px", class: "op-cell", node: request => swatch(trace.operation(request)), value: request => trace.operation(request) },
      { name: "offset", width: "92px", class: "right mono", text: request => (requests.length[request] ? hex(requests.offset[request]) : ""), value: request => requests.offset[request] },
      { name: "length", width: "70px", class: "right", text: request => (requests.length[request] ? bytes(requests.length[request]) : ""), value: request => requests.length[request], down: true },
      { name: "latency", width: "70px", class: "right", text: request => (Number.isNaN(took(request)) ? "–" : trace.timeless ? `${count(took(request))} ev` : duration(took(request))), value: took, down: true },
      { name: "status", width: "84px", node: request => element("span", { class: trace.failed(request) ? "bad" : "muted" }, stateOf(trace, request)), value: request => stateOf(trace, request) },
      { name: "queue", width: devices > 1 ? "80px" : "40px", class: devices > 1 ? "muted" : "right muted", text: request => (devices > 1 ? `${trace.device(request)} ${requests.queue[request]}` : String(requests.queue[request])), value: request => requests.device[request] * 65536 + requests.queue[request] },
      { name: "head", width: "36px", class: "right muted", text: request => String(requests.head[request]), value: request => requests.head[request] },
      { name: "", width: "minmax(36px, 180px)", node: request => barOf(took(request) / longest) },
      { name: "", width: "minmax(52px, 1fr)", node: request => noteOf(trace, request) },
    ]);
  }

  #eventColumns() {
    const { trace } = this;
    const at = { name: "at", width: "92px", class: "right", text: event => moment(trace.times[event]) };
    return [
      { name: "no.", width: "68px", class: "right muted", text: event => count(trace.number(event)), value: event => event },
      ...(trace.timeless ? [] : [at]),
      { name: "source", width: "100px", class: "muted", text: event => trace.facts.sources[trace.events.source[event]] },
      { name: "kind", width: "100px", text: event => trace.kindOf(event) },
      { name: "", width: "minmax(0, 1fr)", class: "mono", text: event => trace.eventText(event) },
    ];
  }

  #events() {
    return new VirtualTable("Events", this.#eventColumns());
  }

  #violations() {
    const columns = this.#eventColumns();
    const text = { ...columns.pop(), class: "" };
    return new VirtualTable("Violations", [...columns.slice(0, -2), text]);
  }

  open(name) {
    this.opened = name;
    document.getElementById("list").replaceChildren(this.tables[name].grid);
    this.#again();
  }

  // Other rows, with the one that is selected in sight.
  #again() {
    this.refresh();
    if (this.table.current !== null) this.table.select(this.table.current);
  }

  // The event that is looked at, in whichever list there is.
  mark(event) {
    for (const name of ["events", "violations"]) {
      if (this.tables[name]) this.tables[name].select(event);
    }
  }

  get table() {
    return this.tables[this.opened];
  }

  refresh() {
    const { trace } = this;
    const tabs = document.getElementById("tabs");
    const found = this.opened === "events" ? this.filter.events() : null;
    this.every ||= Uint32Array.from({ length: trace.count }, (_, event) => event);
    const rows = { requests: this.filter.found, events: found || this.every, violations: this.violations };
    this.table.show(rows[this.opened], trace.requestCount || this.opened !== "requests" ? "Nothing matches." : "There is no request in this trace.");
    const counts = { requests: this.filter.found.length, events: found ? found.length : trace.count, violations: this.violations.length };
    tabs.replaceChildren(...Object.keys(this.tables).map(name => {
      const title = name[0].toUpperCase() + name.slice(1);
      const tab = element("button", { type: "button", role: "tab", "aria-selected": name === this.opened, tabindex: name === this.opened ? 0 : -1 }, [`${title} `, element("small", { class: "muted" }, count(counts[name]))]);
      tab.dataset.tab = name;
      tab.addEventListener("click", () => this.open(name));
      tab.addEventListener("keydown", event => this.#key(event, name));
      return tab;
    }));
  }

  #key(event, name) {
    const names = Object.keys(this.tables);
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    const next = names[(names.indexOf(name) + by + names.length) % names.length];
    this.open(next);
    document.querySelector(`#tabs [data-tab="${next}"]`).focus();
  }
}

// A share of what all but the longest took.
function barOf(share) {
  const made = element("i", { class: "took" });
  made.style.width = Number.isNaN(share) ? "0" : `${Math.min(share, 1) * 100}%`;
  return made;
}

function noteOf(trace, request) {
  const flags = trace.requests.flags[request];
  const box = element("span", { class: "muted" });
  if (flags & VIOLATED) box.append(element("span", { class: "bad" }, "◆ violation "));
  if (flags & MERGED) box.append("merged ");
  if (trace.partsOf.of(request).length > 1) box.append(`${trace.partsOf.of(request).length} parts`);
  return box;
}
