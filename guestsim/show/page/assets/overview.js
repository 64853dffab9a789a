// The strip over everything: how dense the trace is, where violations are, and which part is visible.

class Overview {
  constructor(canvas, view, look) {
    this.canvas = canvas;
    this.view = view;
    this.look = look;
    this.whole = new View(look.trace);
    this.#listen();
  }

  resize(width, height, ratio) {
    this.height = height;
    this.whole.width = width;
    this.ratio = ratio;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
  }

  draw() {
    const { whole, look, height } = this;
    if (whole.axis !== this.view.axis) {
      whole.axis = this.view.axis;
      whole.fit();
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, whole.width, height);
    const [sums, greatest] = this.#density();
    context.fillStyle = look.palette.get("--density");
    sums.forEach((sum, bin) => {
      if (!sum) return;
      const tall = 3 + (height - 13) * Math.sqrt(sum / greatest);
      context.fillRect(bin * BIN, height - 3 - tall, BIN, tall);
    });
    context.fillStyle = look.palette.get("--bad");
    for (const event of look.violations) mark(context, "diamond", whole.x(event), 0);
    if (look.selected !== null) {
      context.fillStyle = look.palette.get("--text");
      context.fillRect(whole.x(look.trace.requests.taken[look.selected]) - .75, 4, 1.5, height - 7);
    }
    this.#window(context);
  }

  // What is drawn, kept while the axis and the width are the same: how many events are where in time; along the events,
  // of which there are as many everywhere, how many requests are in flight.
  #density() {
    const key = `${this.whole.axis} ${this.whole.width}`;
    if (this.key !== key) {
      this.key = key;
      const { trace } = this.look;
      this.every ||= Uint32Array.from({ length: trace.count }, (_, event) => event);
      const timely = this.whole.axis === "time";
      this.bins = timely ? bins(this.whole, this.every) : this.#depth();
      const [title, what] = document.getElementById("overview-label").children;
      title.textContent = "Whole trace";
      what.textContent = timely ? "events" : `in flight, up to ${count(this.bins[1])}`;
    }
    return this.bins;
  }

  // The most requests that are in flight, for each bin.
  #depth() {
    const { requests, count: all } = this.look.trace;
    const changes = new Int32Array(all + 1);
    requests.taken.forEach((taken, request) => {
      changes[taken]++;
      if (requests.used[request] !== NONE) changes[requests.used[request]]--;
    });
    const deepest = new Float64Array(Math.ceil(this.whole.width / BIN) + 1);
    let depth = 0, greatest = 1;
    for (let event = 0; event < all; event++) {
      depth += changes[event];
      const bin = Math.floor(this.whole.x(event) / BIN);
      if (depth > deepest[bin]) deepest[bin] = depth;
      if (depth > greatest) greatest = depth;
    }
    return [deepest, greatest];
  }

  #window(context) {
    const { palette } = this.look;
    const left = this.whole.place(this.view.from), right = this.whole.place(this.view.to);
    const width = Math.max(right - left, 3);
    context.fillStyle = palette.get("--accent-soft");
    context.fillRect(left, 1, width, this.height - 2);
    context.strokeStyle = palette.get("--accent");
    context.lineWidth = 1.5;
    context.strokeRect(Math.max(left, 1), 1.5, Math.min(width, this.whole.width - Math.max(left, 1) - 1), this.height - 3);
  }

  #listen() {
    const { canvas } = this;
    let grip = null;
    canvas.addEventListener("pointerdown", event => {
      const left = this.whole.place(this.view.from), right = this.whole.place(this.view.to);
      const x = event.offsetX;
      const edge = Math.abs(x - left) < 6 ? "from" : Math.abs(x - right) < 6 ? "to" : null;
      if (!edge && (x < left || x > right)) this.#centre(x);
      grip = { edge, x };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => {
      if (!grip) return;
      const by = this.whole.at(event.offsetX) - this.whole.at(grip.x);
      const { from, to } = this.view;
      if (grip.edge === "from") this.view.set(Math.min(from + by, to - this.view.least), to);
      else if (grip.edge === "to") this.view.set(from, Math.max(to + by, from + this.view.least));
      else this.view.set(from + by, to + by);
      grip.x = event.offsetX;
    });
    canvas.addEventListener("pointerup", () => { grip = null; });
    canvas.addEventListener("pointercancel", () => { grip = null; });
    canvas.addEventListener("dblclick", () => this.view.fit());
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.view.zoom(1.0015 ** event.deltaY);
    }, { passive: false });
  }

  #centre(x) {
    const half = (this.view.to - this.view.from) / 2;
    this.view.set(this.whole.at(x) - half, this.whole.at(x) + half);
  }
}
