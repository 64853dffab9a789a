// The timeline: ruler, labels and lanes, moved and zoomed with pointer, wheel and keys.

const SUBUNITS = [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]];

class Timeline extends EventTarget {
  constructor(view, look) {
    super();
    this.view = view;
    this.look = look;
    this.lanes = lanesOf(look.trace);
    this.canvas = document.getElementById("canvas");
    this.ruler = document.getElementById("ruler");
    this.tooltip = document.getElementById("tooltip");
    this.#pointer();
    this.canvas.addEventListener("keydown", event => this.key(event));
  }

  #place(height) {
    const labels = document.getElementById("labels");
    labels.replaceChildren();
    fitLanes(this.lanes, height);
    let top = 0;
    for (const lane of this.lanes) {
      lane.top = top;
      const box = element("div", {}, [element("b", {}, lane.title), element("span", {}, lane.sub)]);
      box.style.top = `${top}px`;
      box.style.height = `${lane.height}px`;
      (lane.rows || []).forEach((row, number) => {
        const name = element("span", { class: "right" }, row.name);
        Object.assign(name.style, { position: "absolute", right: "8px", top: `${number * 19 + 6}px` });
        box.append(name);
      });
      box.title = [lane.title, lane.sub].filter(Boolean).join(" – ");
      labels.append(box);
      top += lane.height;
    }
    this.height = top;
    labels.style.height = `${top}px`;
  }

  resize(width, height, ratio) {
    this.#place(height);
    this.view.width = width;
    this.ratio = ratio;
    this.ruler.width = width * ratio;
    this.ruler.height = 33 * ratio;
    this.canvas.width = width * ratio;
    this.canvas.height = this.height * ratio;
    this.canvas.style.height = `${this.height}px`;
  }

  draw() {
    this.look.view = this.view;
    const marks = this.#marks();
    this.#drawRuler(marks);
    const context = this.#context(this.canvas, this.height);
    context.fillStyle = this.look.palette.get("--grid");
    for (const { x } of marks) context.fillRect(Math.round(x), 0, 1, this.height);
    this.#drawSelection(context);
    for (const lane of this.lanes) {
      context.fillStyle = this.look.palette.get("--line-soft");
      context.fillRect(0, lane.top + lane.height - 1, this.view.width, 1);
      drawLane(context, lane, lane.top, this.view, this.look);
    }
  }

  #context(canvas, height) {
    const context = canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.view.width, height);
    context.textBaseline = "middle";
    return context;
  }

  #drawSelection(context) {
    const { selected, marked, palette, trace } = this.look;
    if (selected !== null) {
      const [first, last] = trace.bounds(selected);
      const left = this.view.x(first);
      context.fillStyle = palette.get("--accent-soft");
      context.fillRect(left, 0, Math.max(this.view.x(last) - left, 1), this.height);
    }
    if (marked !== null) {
      context.fillStyle = palette.get("--accent");
      context.fillRect(this.view.x(marked) - .5, 0, 1, this.height);
    }
  }

  // Where the ruler's marks are, and what stands there.
  #marks() {
    const { view } = this;
    const step = Math.max(niceStep((view.to - view.from) / view.width * 104), 1);
    const marks = [];
    const first = Math.ceil(Math.max(view.from, view.start) / step);
    for (let n = first; n * step <= Math.min(view.to, view.end); n++) marks.push({ value: n * step, x: view.place(n * step) });
    marks.step = step;
    return marks;
  }

  #drawRuler(marks) {
    const { view, look } = this;
    const { trace, palette } = look;
    const context = this.#context(this.ruler, 33);
    const text = view.axis === "time" ? this.#timeText(marks) : mark => count(trace.facts.first + mark.value);
    const digits = this.#digits();
    const label = document.getElementById("ruler-label");
    const names = view.axis === "time" ? [this.base ? `${this.base} +` : "Time", "Event"] : ["Event", trace.timeless ? "" : "Time"];
    label.replaceChildren(element("div", {}, names[0]), element("div", { class: "muted" }, names[1]));
    for (const mark of marks) {
      context.fillStyle = palette.get("--line");
      context.fillRect(Math.round(mark.x), 0, 1, 33);
      if (view.width - mark.x < 56) continue;
      context.font = look.font;
      context.fillStyle = palette.get("--text");
      context.fillText(text(mark), mark.x + 5, 10);
      if (trace.timeless) continue;
      const event = Math.min(view.eventAt(mark.value), trace.count - 1);
      context.fillStyle = palette.get("--muted");
      context.fillText(view.axis === "time" ? count(trace.number(event)) : `${(trace.times[event] / 1e9).toFixed(digits)} s`, mark.x + 5, 25);
    }
  }

  // Decimals of a second that tell the times of neighbouring marks apart.
  #digits() {
    const [first, last] = this.view.events;
    const { times } = this.look.trace;
    const span = Math.max(times[Math.max(last, first)] - times[first], 1) / 1e9;
    return Math.min(Math.max(Math.ceil(2 - Math.log10(span)), 0), 9);
  }

  // Marks in the unit of their distance; what is the same in all of them stands beside the ruler.
  #timeText(marks) {
    const [unit, name] = SUBUNITS.findLast(([size]) => size <= marks.step * 1.0001) || SUBUNITS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(marks.step / unit) - 1e-9));
    const whole = unit * 1000;
    const start = unit >= 1e9 || !marks.length ? 0 : Math.floor(marks[0].value / whole) * whole;
    const outside = marks.length && marks[marks.length - 1].value - start >= whole * 10;
    const from = outside ? 0 : start;
    this.base = from ? this.#exact(from) : "";
    return mark => `${from ? "+" : ""}${((mark.value - from) / unit).toFixed(digits)} ${name}`;
  }

  #exact(ns) {
    return `${(ns / 1e9).toFixed(9).replace(/0+$/, "").replace(/\.$/, "")} s`;
  }

  // --- pointer and keys

  laneAt(y) {
    return this.lanes.find(lane => y >= lane.top && y < lane.top + lane.height) || null;
  }

  hit(x, y) {
    const lane = this.laneAt(y);
    const found = lane && hitLane(lane, x, y - lane.top, this.view);
    if (!found) return null;
    if (found.event !== undefined) return { event: found.event, request: NONE };
    return { lane, span: found.span, request: lane.spans.request[found.span], event: lane.spans.begin[found.span] };
  }

  #pointer() {
    const { canvas, view } = this;
    let from = null, moved = false;
    canvas.addEventListener("pointerdown", event => {
      from = event.offsetX;
      moved = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => {
      if (from === null) return this.#hover(event);
      if (!moved && Math.abs(event.offsetX - from) < 4) return undefined;
      moved = true;
      this.tooltip.hidden = true;
      view.pan(from - event.offsetX);
      from = event.offsetX;
      return undefined;
    });
    canvas.addEventListener("pointerup", event => {
      if (from !== null && !moved) this.#clicked(event);
      from = null;
    });
    canvas.addEventListener("pointercancel", () => { from = null; });
    canvas.addEventListener("pointerleave", () => { this.tooltip.hidden = true; });
    canvas.addEventListener("dblclick", event => this.#clicked(event, "zoom"));
    for (const target of [canvas, this.ruler]) target.addEventListener("wheel", event => this.#wheel(event), { passive: false });
  }

  #wheel(event) {
    event.preventDefault();
    this.tooltip.hidden = true;
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.view.pan(sideways);
    else this.view.zoom(1.0018 ** event.deltaY, event.offsetX);
  }

  #clicked(event, what = "pick") {
    const found = this.hit(event.offsetX, event.offsetY);
    this.dispatchEvent(new CustomEvent(what, { detail: found }));
  }

  #hover(event) {
    const found = this.hit(event.offsetX, event.offsetY);
    this.canvas.style.cursor = found ? "pointer" : "crosshair";
    this.tooltip.hidden = !found;
    if (!found) return;
    this.tooltip.replaceChildren(...tipOf(found, this.look.trace));
    const { width, height } = this.tooltip.getBoundingClientRect();
    this.tooltip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    this.tooltip.style.top = `${Math.min(event.clientY + 16, innerHeight - height - 8)}px`;
  }

  // Whether a key was for the timeline.
  key(event) {
    const { view } = this;
    const step = view.width * (event.shiftKey ? .6 : .12);
    const moves = {
      ArrowLeft: () => view.pan(-step), ArrowRight: () => view.pan(step),
      "+": () => view.zoom(.7), "=": () => view.zoom(.7), "-": () => view.zoom(1 / .7), "0": () => view.fit(),
    };
    const move = event.ctrlKey || event.metaKey || event.altKey ? null : moves[event.key];
    if (!move) return false;
    event.preventDefault();
    event.stopPropagation();
    move();
    return true;
  }
}

// A word or two about what is under the pointer.
function tipOf(found, trace) {
  if (found.span === undefined) {
    const event = found.event;
    return [
      element("div", {}, [element("b", {}, trace.kindOf(event)), ` ${trace.eventText(event).slice(0, 240)}`]),
      element("p", {}, `event ${count(trace.number(event))} at ${moment(trace.times[event])}, ${trace.facts.sources[trace.events.source[event]]}`),
    ];
  }
  const { spans, title } = found.lane;
  const from = spans.begin[found.span], to = spans.end[found.span];
  const operation = trace.facts.operations[spans.operation[found.span]];
  const item = spans.items[found.span];
  const length = found.lane.length ? found.lane.length(item) : 0;
  const where = length ? ` ${bytes(length)} at ${hex(found.lane.offset(item))}` : "";
  const lasted = spans.open(item) ? "not over" : trace.timeless ? plural(to - from, "event") : duration(trace.times[to] - trace.times[from]);
  const of = found.request === NONE ? "" : `, request ${trace.name(found.request)}`;
  return [
    element("div", {}, [element("b", {}, operation), where]),
    element("p", {}, `${title}: ${lasted}${of}; events ${count(trace.number(from))} to ${count(trace.number(to))}`),
  ];
}
