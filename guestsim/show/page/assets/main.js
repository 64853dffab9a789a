// Everything put together.

class Page {
  constructor(trace) {
    this.trace = trace;
    this.view = new View(trace);
    this.filter = new Filter(trace);
    this.look = {
      trace, palette: new Palette(), match: null, selected: null, marked: null, neighbours: new Set(),
      violations: trace.eventsOf("violation"), font: `11px ${getComputedStyle(document.body).fontFamily}`,
    };
    this.detail = document.getElementById("detail");
    this.theme = new Theme(() => { this.look.palette.refresh(); this.draw(); });
    this.timeline = new Timeline(this.view, this.look);
    this.overview = new Overview(document.getElementById("overview"), this.view, this.look);
    this.header = new Header(trace, this.filter, { violation: () => this.nextViolation() });
    this.lists = new Lists(trace, this.filter);
    this.#listen();
    this.#axis();
    this.#splitter();
    this.header.show();
    this.resize();
    this.#restore();
    this.ready = true;
    this.draw();
  }

  // Draw soon, once.
  draw() {
    if (this.pending || !this.ready) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.timeline.draw();
      this.overview.draw();
      // Browsers refuse an address that changes all the time.
      clearTimeout(this.remembering);
      this.remembering = setTimeout(() => this.#remember(), 200);
    });
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    const gutter = document.getElementById("labels").offsetWidth;
    const lanes = document.getElementById("lanes");
    this.timeline.resize(Math.max(lanes.clientWidth - gutter, 50), lanes.clientHeight, ratio);
    const strip = document.querySelector(".overview");
    this.overview.resize(Math.max(strip.clientWidth - gutter, 50), 45, ratio);
    this.lists.table.draw();
    this.draw();
  }

  // --- what is selected

  select(request, { reveal = true } = {}) {
    const { trace, look } = this;
    look.selected = request;
    look.marked = null;
    look.neighbours = new Set(request === null ? [] : trace.neighbours(request));
    if (request === null) this.detail.replaceChildren();
    else showDetail(this.detail, trace, request, this.filter.found.length > 1);
    this.detail.scrollTop = 0;
    this.lists.tables.requests.select(request);
    if (request !== null) this.lists.mark(trace.requests.taken[request]);
    this.resize();
    if (request !== null && reveal) this.view.reveal(...trace.bounds(request));
    this.draw();
  }

  mark(event) {
    this.look.marked = event;
    this.view.reveal(event);
    this.lists.mark(event);
    this.draw();
  }

  zoom(request) {
    this.select(request, { reveal: false });
    this.view.show(...this.trace.bounds(request));
  }

  next(by) {
    const table = this.lists.tables.requests;
    table.current = this.look.selected;
    const found = table.next(by);
    if (found !== null) this.select(found);
  }

  nextViolation() {
    const { violations, marked } = this.look;
    if (!violations.length) return;
    const event = violations.find(each => marked !== null && each > marked) ?? violations[0];
    const owner = this.trace.ownerOf(event);
    if (owner !== NONE) this.select(owner);
    this.lists.open("violations");
    this.mark(event);
  }

  // --- wiring

  #listen() {
    const { view, filter, timeline, lists } = this;
    view.addEventListener("change", () => this.draw());
    view.addEventListener("axis", () => this.#axis());
    filter.addEventListener("change", () => { this.look.match = filter.match; this.draw(); });
    timeline.addEventListener("pick", event => this.#picked(event.detail));
    timeline.addEventListener("zoom", event => {
      if (event.detail && event.detail.request !== NONE) this.zoom(event.detail.request);
    });
    lists.addEventListener("request", event => this.select(event.detail));
    lists.addEventListener("zoom", event => this.zoom(event.detail));
    lists.addEventListener("event", event => this.mark(event.detail));
    this.detail.addEventListener("click", event => this.#detailClick(event));
    document.addEventListener("keydown", event => this.#key(event));
    document.getElementById("help-button").addEventListener("click", () => document.getElementById("help").showModal());
    for (const each of document.querySelectorAll("#axis button")) each.addEventListener("click", () => view.setAxis(each.dataset.axis));
    addEventListener("resize", () => this.resize());
    addEventListener("hashchange", () => this.#restore());
  }

  #picked(found) {
    if (!found) return this.select(null);
    const owner = found.request !== NONE ? found.request : this.trace.ownerOf(found.event);
    if (owner !== NONE) this.select(owner, { reveal: false });
    if (found.request === NONE) this.mark(found.event);
    return undefined;
  }

  #detailClick(event) {
    const target = event.target.closest("button");
    if (!target) return;
    const { event: number, request, action } = target.dataset;
    if (number !== undefined) this.mark(Number(number));
    else if (request !== undefined) this.select(Number(request));
    else if (action === "close") this.select(null);
    else if (action) this.next(action === "next" ? 1 : -1);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, select")) {
      if (event.key === "Escape") event.target.blur();
      if (event.key === "Enter" && event.target.id === "text" && this.filter.found.length) this.select(this.filter.found[0]);
      return;
    }
    const actions = {
      n: () => this.next(1), p: () => this.next(-1), v: () => this.nextViolation(), t: () => this.theme.toggle(),
      a: () => this.view.setAxis(this.view.axis === "time" || this.trace.timeless ? "event" : "time"),
      "/": () => document.getElementById("text").focus(),
      "?": () => document.getElementById("help").showModal(),
      Escape: () => this.select(null),
    };
    if (event.key === "Enter" && !event.target.matches("button") && this.look.selected !== null) actions.Enter = () => this.zoom(this.look.selected);
    if (event.key in actions) {
      event.preventDefault();
      actions[event.key]();
    } else if (!event.target.closest("#splitter, [role=tablist]")) {
      this.timeline.key(event);
    }
  }

  #axis() {
    for (const each of document.querySelectorAll("#axis button")) {
      each.setAttribute("aria-checked", each.dataset.axis === this.view.axis);
      each.disabled = this.trace.timeless && each.dataset.axis === "time";
      if (each.disabled) each.title = "The clock stood still: it was a virtual one";
    }
    this.draw();
  }

  // The bar between timeline and list.
  #splitter() {
    const bar = document.getElementById("splitter");
    const timeline = document.getElementById("timeline");
    const to = height => {
      const room = bar.parentElement.clientHeight;
      timeline.style.height = `${Math.min(Math.max(height, 110), room - 90)}px`;
      this.resize();
    };
    bar.addEventListener("pointerdown", event => bar.setPointerCapture(event.pointerId));
    bar.addEventListener("pointermove", event => {
      if (bar.hasPointerCapture(event.pointerId)) to(event.clientY - timeline.getBoundingClientRect().top);
    });
    bar.addEventListener("keydown", event => {
      const by = { ArrowUp: -24, ArrowDown: 24 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      to(timeline.offsetHeight + by);
    });
  }

  // --- the address: what is looked at can be sent to somebody

  #remember() {
    const { look, view, theme } = this;
    const state = new URLSearchParams();
    if (look.selected !== null) state.set("request", this.trace.requests.number[look.selected]);
    if (look.marked !== null) state.set("event", this.trace.number(look.marked));
    if (view.axis !== (this.trace.timeless ? "event" : "time")) state.set("axis", view.axis);
    if (!view.whole) state.set("from", Math.round(view.from)), state.set("to", Math.round(view.to));
    if (theme.chosen) state.set("theme", theme.chosen);
    const hash = state.toString() ? `#${state}` : " ";
    this.hash = hash.trim();
    if (hash.trim() !== location.hash) history.replaceState(null, "", hash);
  }

  #restore() {
    if (this.hash !== undefined && location.hash === this.hash) return;
    const state = new URLSearchParams(location.hash.slice(1));
    const number = name => (/^\d+$/.test(state.get(name) || "") ? Number(state.get(name)) : null);
    if (["light", "dark"].includes(state.get("theme"))) this.theme.choose(state.get("theme"));
    if (["time", "event"].includes(state.get("axis"))) this.view.setAxis(state.get("axis"));
    const from = Number(state.get("from") ?? NaN), to = Number(state.get("to") ?? NaN);
    const bounded = to > from;
    if (bounded) this.view.set(from, to);
    const request = number("request") === null ? null : this.trace.named(number("request"));
    if (request !== null) this.select(request, { reveal: !bounded });
    const event = number("event");
    if (event !== null && event >= this.trace.facts.first && event < this.trace.facts.first + this.trace.count) {
      this.mark(event - this.trace.facts.first);
    }
  }
}

loadTrace().then(trace => {
  window.page = new Page(trace);
  document.getElementById("loading").remove();
  document.documentElement.dataset.ready = "";
}, error => {
  document.getElementById("loading").textContent = `The trace in this page cannot be unpacked: ${error.message}`;
  throw error;
});
