// What of the trace is visible: a window on one of two axes, time in ns or numbers of events.

class View extends EventTarget {
  constructor(trace) {
    super();
    this.trace = trace;
    this.width = 1000;
    this.axis = trace.timeless ? "event" : "time";
    this.fit();
  }

  // The beginning of the whole axis, and its length.
  get start() {
    return this.axis === "time" ? this.trace.start : 0;
  }

  get length() {
    return this.axis === "time" ? Math.max(this.trace.duration, 1) : Math.max(this.trace.count - 1, 1);
  }

  get end() {
    return this.start + this.length;
  }

  get least() {
    return this.axis === "time" ? 200 : 4;
  }

  // An event's place on the axis.
  value(event) {
    return this.axis === "time" ? this.trace.times[event] : event;
  }

  x(event) {
    return (this.value(event) - this.from) / (this.to - this.from) * this.width;
  }

  place(value) {
    return (value - this.from) / (this.to - this.from) * this.width;
  }

  at(x) {
    return this.from + x / this.width * (this.to - this.from);
  }

  // The first event at `value` of the axis or behind it.
  eventAt(value) {
    if (this.axis === "event") return Math.min(Math.max(Math.ceil(value), 0), this.trace.count);
    return lowerBound(this.trace.times, value);
  }

  // First and last visible event.
  get events() {
    const last = this.axis === "event" ? Math.floor(this.to) : lowerBound(this.trace.times, this.to + 1) - 1;
    return [this.eventAt(this.from), Math.min(last, this.trace.count - 1)];
  }

  setAxis(axis) {
    if (axis === this.axis) return;
    const [first, last] = this.events;
    const whole = this.whole;
    this.axis = axis;
    if (whole || last < first) this.fit();
    else this.show(first, last, 0);
    this.dispatchEvent(new Event("axis"));
  }

  get whole() {
    return this.to - this.from >= this.length * 1.02;
  }

  fit() {
    const margin = this.length * .012;
    this.set(this.start - margin, this.end + margin);
  }

  // Let events `first` to `last` fill the window but for a share `margin` at each side.
  show(first, last, margin = .35) {
    const from = this.value(first);
    const to = this.value(last);
    const room = Math.max(to - from, this.least / 2) * margin + (margin ? 0 : this.least / 2);
    this.set(from - room, to + room);
  }

  // Bring an event into sight, without another zoom unless it has to be.
  reveal(first, last = first) {
    const width = this.to - this.from;
    const a = this.value(first), b = this.value(last);
    if (a >= this.from && b <= this.to) return;
    const middle = (a + b) / 2;
    const half = Math.max(width, (b - a) * 1.4) / 2;
    this.set(middle - half, middle + half);
  }

  zoom(factor, x = this.width / 2) {
    const pin = this.at(x);
    const width = Math.min(Math.max((this.to - this.from) * factor, this.least), this.length * 1.024);
    const share = x / this.width;
    this.set(pin - width * share, pin + width * (1 - share));
  }

  pan(pixels) {
    const by = pixels / this.width * (this.to - this.from);
    this.set(this.from + by, this.to + by);
  }

  // Keep some of the trace in sight.
  set(from, to) {
    const width = Math.max(to - from, this.least);
    const margin = Math.max(this.length * .012, width * .35);
    const least = this.start - margin, most = this.end + margin - width;
    this.from = most < least ? this.start - (width - this.length) / 2 : Math.min(Math.max(from, least), most);
    this.to = this.from + width;
    this.dispatchEvent(new Event("change"));
  }
}

// The first index of sorted `values` that is not below `value`.
function lowerBound(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
