"use strict";
// The trace, as it is in the page: tables of typed arrays over one buffer. Moments are numbers of events.

const NONE = 0xffffffff;
const ARRAYS = { Uint8Array, Uint16Array, Uint32Array, Int32Array, Float64Array };
const VIOLATED = 1, MERGED = 2, INDIRECT = 4;

// Rows of a table by the number that they have in a column: those of `key` are items[starts[key]] to items[starts[key + 1] - 1].
class Groups {
  constructor(keys, count) {
    this.starts = new Uint32Array(count + 1);
    for (const key of keys) if (key < count) this.starts[key + 1]++;
    for (let i = 0; i < count; i++) this.starts[i + 1] += this.starts[i];
    const next = this.starts.slice();
    this.items = new Uint32Array(this.starts[count]);
    keys.forEach((key, row) => { if (key < count) this.items[next[key]++] = row; });
  }

  of(key) {
    return this.items.subarray(this.starts[key], this.starts[key + 1]);
  }
}

class Trace {
  constructor(facts, buffer, base) {
    this.facts = facts;
    for (const [name, columns] of Object.entries(facts.tables)) {
      this[name] = {};
      for (const [column, [kind, at, count]] of Object.entries(columns)) {
        this[name][column] = new ARRAYS[kind](buffer, base + at, count);
      }
    }
    this.count = this.events.kind.length;
    this.requestCount = this.requests.taken.length;
    this.kinds = new Map(facts.kinds.map((name, number) => [name, number]));
    this.times = this.#times();
    this.start = this.count ? this.times[0] : 0;
    this.duration = this.count ? this.times[this.count - 1] - this.start : 0;
    this.partsOf = new Groups(this.parts.life, this.requestCount);
    this.servedBy = new Groups(this.served.part, this.parts.begin.length);
    this.servedOf = new Groups(this.served.dispatch, this.dispatches.begin.length);
    this.stepsOf = new Groups(this.steps.dispatch, this.dispatches.begin.length);
    this.dispatchRequest = this.#dispatchRequests();
    this.decoder = new TextDecoder();
    this.details = new Map();
  }

  #times() {
    const { low, high } = this.events;
    const times = new Float64Array(this.count);
    let now = 0;
    for (let i = 0; i < this.count; i++) {
      now += low[i] + high[i] * 2 ** 32;
      times[i] = now;
    }
    return times;
  }

  // The first request that each dispatch serves.
  #dispatchRequests() {
    const found = new Uint32Array(this.dispatches.begin.length).fill(NONE);
    this.served.dispatch.forEach((dispatch, row) => {
      if (found[dispatch] === NONE) found[dispatch] = this.parts.life[this.served.part[row]];
    });
    return found;
  }

  // Whether the clock stood still: a trace of a scripted guest on a virtual clock.
  get timeless() {
    return this.duration === 0;
  }

  // The number of an event in the whole trace.
  number(event) {
    return this.facts.first + event;
  }

  // What a request is called: buffers are counted over the whole trace.
  name(request) {
    return `#${this.requests.number[request]}`;
  }

  // The request that is called so, or null.
  named(number) {
    const found = lowerBound(this.requests.number, number);
    return this.requests.number[found] === number ? found : null;
  }

  kindOf(event) {
    return this.facts.kinds[this.events.kind[event]];
  }

  // The events of some kinds, in order.
  eventsOf(...names) {
    const wanted = new Uint8Array(this.facts.kinds.length);
    for (const name of names) if (this.kinds.has(name)) wanted[this.kinds.get(name)] = 1;
    const found = [];
    const kind = this.events.kind;
    for (let i = 0; i < kind.length; i++) if (wanted[kind[i]]) found.push(i);
    return Uint32Array.from(found);
  }

  #line(texts, row) {
    return this.decoder.decode(texts.data.subarray(row ? texts.ends[row - 1] : 0, texts.ends[row]));
  }

  eventText(event) {
    return this.#line(this.eventTexts, event);
  }

  // What else there is to say of a request: pieces, sections, violations, events.
  detail(request) {
    let detail = this.details.get(request);
    if (!detail) {
      detail = JSON.parse(this.#line(this.requestDetails, request));
      this.details.set(request, detail);
    }
    return detail;
  }

  // The request to which an event belongs, or NONE.
  ownerOf(event) {
    if (!this.owners) {
      this.owners = new Uint32Array(this.count).fill(NONE);
      for (let request = 0; request < this.requestCount; request++) {
        for (const each of this.detail(request).events || []) {
          if (each >= 0 && this.owners[each] === NONE) this.owners[each] = request;
        }
      }
    }
    return this.owners[event];
  }

  device(request) {
    return this.facts.sources[this.requests.device[request]];
  }

  operation(request) {
    return this.facts.operations[this.requests.op[request]];
  }

  status(request) {
    const status = this.requests.status[request];
    return status < 0 ? "" : this.facts.statuses[status];
  }

  failed(request) {
    return this.facts.failures.includes(this.requests.status[request]);
  }

  // From when the device took it to when it gave it back, in ns; NaN where it never did.
  latency(request) {
    const used = this.requests.used[request];
    return used === NONE ? NaN : this.times[used] - this.times[this.requests.taken[request]];
  }

  // The same in events.
  span(request) {
    const used = this.requests.used[request];
    return used === NONE ? NaN : used - this.requests.taken[request];
  }

  // First and last event of a request's stations.
  bounds(request) {
    const { kicked, taken, used, notified, interrupt } = this.requests;
    const ends = [used, notified, interrupt].map(each => each[request]).filter(each => each !== NONE);
    const start = kicked[request] === NONE ? taken[request] : kicked[request];
    return [start, ends.length ? Math.max(...ends) : this.count - 1];
  }

  // Other requests that one request of the disk served together with this one.
  neighbours(request) {
    const found = new Set();
    for (const part of this.partsOf.of(request)) {
      for (const row of this.servedBy.of(part)) {
        for (const other of this.servedOf.of(this.served.dispatch[row])) {
          const life = this.parts.life[this.served.part[other]];
          if (life !== NONE && life !== request) found.add(life);
        }
      }
    }
    return [...found].sort((a, b) => a - b);
  }

  // What went to the disk for a request.
  dispatchesOf(request) {
    const found = new Set();
    for (const part of this.partsOf.of(request)) {
      for (const row of this.servedBy.of(part)) found.add(this.served.dispatch[row]);
    }
    return [...found].sort((a, b) => a - b);
  }
}

async function loadTrace() {
  const holder = document.getElementById("trace-data");
  const text = atob(holder.textContent);
  holder.remove();
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(unpacked).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return new Trace(facts, buffer, Math.ceil((4 + length) / 8) * 8);
}
