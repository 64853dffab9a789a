// Which requests match what was asked for, and what they have in common.

class Filter extends EventTarget {
  constructor(trace) {
    super();
    this.trace = trace;
    this.wanted = { text: "", device: "", queue: "", status: "", operations: new Set() };
    this.texts = new Map();
    this.apply();
  }

  set(changes) {
    Object.assign(this.wanted, changes);
    this.apply();
    this.dispatchEvent(new Event("change"));
  }

  get active() {
    const { text, device, queue, status, operations } = this.wanted;
    return Boolean(text || device || queue || status || operations.size);
  }

  apply() {
    const found = [];
    for (let request = 0; request < this.trace.requestCount; request++) if (this.#matches(request)) found.push(request);
    this.found = Uint32Array.from(found);
    this.match = null;
    if (this.active) {
      this.match = new Uint8Array(this.trace.requestCount);
      for (const request of found) this.match[request] = 1;
    }
  }

  #matches(request) {
    const { trace, wanted } = this;
    if (wanted.operations.size && !wanted.operations.has(trace.operation(request))) return false;
    if (wanted.device && trace.device(request) !== wanted.device) return false;
    if (wanted.queue && String(trace.requests.queue[request]) !== wanted.queue) return false;
    if (wanted.status && stateOf(trace, request) !== wanted.status) return false;
    return !wanted.text || this.#text(request).includes(wanted.text.toLowerCase());
  }

  // What can be searched for: numbers in decimal and hexadecimal, addresses, fields, violations.
  #text(request) {
    let text = this.texts.get(request);
    if (text === undefined) {
      const { trace } = this;
      const detail = trace.detail(request);
      const offset = trace.requests.offset[request];
      const words = [
        trace.name(request), trace.operation(request), stateOf(trace, request), trace.device(request),
        `queue ${trace.requests.queue[request]}`, `head ${trace.requests.head[request]}`, `offset ${offset}`, hex(offset),
        `sector ${Math.floor(offset / 512)}`, bytes(trace.requests.length[request]),
        trace.requests.flags[request] & MERGED ? "merged" : "", trace.requests.flags[request] & INDIRECT ? "indirect" : "",
        ...detail.pieces.map(piece => piece[0]),
        ...detail.sections.flatMap(section => (section.fields || []).map(field => `${field[0]} ${field[3]} ${field[4]}`)),
        ...(detail.violations || []).flatMap(violation => ["violation", ...violation.slice(0, 3)]),
      ];
      text = words.join("\n").toLowerCase();
      this.texts.set(request, text);
    }
    return text;
  }

  // Events whose kind, source or text has what is searched for.
  events() {
    const { trace } = this;
    const text = this.wanted.text.toLowerCase();
    if (!text) return null;
    this.lines ||= trace.decoder.decode(trace.eventTexts.data).toLowerCase();
    // With nothing but single-byte characters, the text's places are those of its bytes.
    const plain = this.lines.length === trace.eventTexts.data.length;
    const names = trace.facts.kinds.map(kind => kind.includes(text));
    const sources = trace.facts.sources.map(source => source.toLowerCase().includes(text));
    const ends = trace.eventTexts.ends;
    const found = [];
    let at = plain ? this.lines.indexOf(text) : -1;
    for (let event = 0; event < trace.count; event++) {
      const start = event ? ends[event - 1] : 0;
      while (at !== -1 && at < start) at = this.lines.indexOf(text, start);
      const inside = plain ? at !== -1 && at + text.length <= ends[event] : trace.eventText(event).toLowerCase().includes(text);
      if (inside || names[trace.events.kind[event]] || sources[trace.events.source[event]]) found.push(event);
    }
    return Uint32Array.from(found);
  }
}

// A request's status in a word; where it has none, why.
function stateOf(trace, request) {
  const status = trace.status(request);
  if (trace.requests.used[request] === NONE) return "not given back";
  return status || "no status";
}

function statistics(trace, requests) {
  const { requests: table } = trace;
  const values = [];
  const perOperation = new Map();
  let read = 0, written = 0;
  for (const request of requests) {
    const value = trace.timeless ? trace.span(request) : trace.latency(request);
    if (Number.isFinite(value)) values.push(value);
    const operation = trace.operation(request);
    perOperation.set(operation, (perOperation.get(operation) || 0) + 1);
    if (operation === "READ") read += table.length[request];
    if (operation === "WRITE") written += table.length[request];
  }
  values.sort((a, b) => a - b);
  return { values, perOperation, read, written };
}
