// The header: figures of what matches, the filters, and which way is light.

class Header {
  constructor(trace, filter, go) {
    this.trace = trace;
    this.filter = filter;
    this.go = go;
    this.violations = trace.eventsOf("violation");
    this.#about();
    this.#choices();
    this.#chips();
    const form = document.getElementById("filters");
    form.addEventListener("submit", event => event.preventDefault());
    form.addEventListener("reset", () => {
      filter.set({ text: "", device: "", queue: "", status: "", operations: new Set() });
      this.#chips();
    });
    filter.addEventListener("change", () => this.show());
  }

  #about() {
    const { facts } = this.trace;
    const devices = facts.devices.map(({ name, size, readOnly }) => `${name}${size === undefined ? "" : `: ${bytes(size)}`}${readOnly ? ", read-only" : ""}`);
    const range = facts.first || facts.cut ? [`events ${count(facts.first)} to ${count(facts.first + this.trace.count - 1)}`] : [];
    document.getElementById("about").textContent = [...devices, ...range, `recorded by ${facts.program}`].join(" · ");
  }

  #choices() {
    const { trace, filter } = this;
    const requests = Array.from({ length: trace.requestCount }, (_, request) => request);
    const choices = {
      device: ["All devices", new Set(requests.map(request => trace.device(request)))],
      queue: ["All queues", new Set(trace.requests.queue)],
      status: ["Any status", new Set(requests.map(request => stateOf(trace, request)))],
    };
    for (const [id, [all, values]] of Object.entries(choices)) {
      const select = document.getElementById(id);
      const sorted = [...values].sort((a, b) => (id === "queue" ? a - b : 0));
      select.replaceChildren(new Option(all, ""), ...sorted.map(value => new Option(id === "queue" ? `Queue ${value}` : value, value)));
      select.addEventListener("change", () => filter.set({ [id]: select.value }));
      select.hidden = values.size < 2;
    }
    const text = document.getElementById("text");
    let timer = 0;
    text.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => filter.set({ text: text.value.trim() }), 120);
    });
  }

  // The operations: how many of each, in their colours; pressed ones are those to be seen.
  #chips() {
    const { trace, filter } = this;
    const { perOperation } = statistics(trace, Array.from({ length: trace.requestCount }, (_, request) => request));
    const order = trace.facts.operations.filter(name => perOperation.has(name));
    document.getElementById("operations").replaceChildren(...order.map(name => {
      const chip = element("button", { type: "button", class: "chip", "aria-pressed": "false" }, [
        element("i"), SHORT[name] || name, element("small", {}, count(perOperation.get(name))),
      ]);
      chip.style.setProperty("--colour", `var(${colourName(name)})`);
      chip.addEventListener("click", () => {
        const operations = new Set(filter.wanted.operations);
        if (!operations.delete(name)) operations.add(name);
        chip.setAttribute("aria-pressed", operations.has(name));
        filter.set({ operations });
      });
      return chip;
    }));
  }

  show() {
    const { trace, filter } = this;
    const { values, read, written } = statistics(trace, filter.found);
    const unit = trace.timeless ? value => (Number.isNaN(value) ? "–" : `${count(value)} ev`) : duration;
    const shown = filter.active ? [`${count(filter.found.length)}`, ` of ${count(trace.requestCount)}`] : [count(trace.requestCount), ""];
    const tiles = [
      ["Events", count(trace.count), "", ""],
      ["Requests", shown[0], shown[1], ""],
      ["Duration", trace.timeless ? "–" : duration(trace.duration), "", "wide"],
      ["Read", bytes(read), "", "wide"],
      ["Written", bytes(written), "", "wide"],
      ["Latency p50", unit(percentile(values, .5)), "", ""],
      ["p90", unit(percentile(values, .9)), "", "wide"],
      ["p99", unit(percentile(values, .99)), "", ""],
      ["Longest", unit(percentile(values, 1)), "", "wide"],
    ];
    const boxes = tiles.map(([name, value, more, kind]) => element("div", { class: kind }, [
      element("dt", {}, name), element("dd", {}, [value, element("small", {}, more)]),
    ]));
    document.getElementById("stats").replaceChildren(...boxes, this.#violationTile());
    document.getElementById("matches").textContent = filter.active ? `${plural(filter.found.length, "request")} match` : "";
    document.getElementById("clear").hidden = !filter.active;
  }

  #violationTile() {
    const number = this.violations.length;
    const tile = element("button", { type: "button", id: "violations", class: number ? "bad" : "" }, count(number));
    tile.disabled = !number;
    tile.addEventListener("click", () => this.go.violation());
    return element("div", {}, [element("dt", {}, "Violations"), element("dd", {}, tile)]);
  }
}

// The theme: as the system has it, until somebody chooses.
class Theme {
  constructor(changed) {
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.chosen = null;
    this.changed = changed;
    this.system.addEventListener("change", () => this.apply());
    document.getElementById("theme").addEventListener("click", () => this.toggle());
    this.apply();
  }

  get name() {
    return this.chosen || (this.system.matches ? "dark" : "light");
  }

  choose(name) {
    this.chosen = name;
    this.apply();
  }

  toggle() {
    this.choose(this.name === "dark" ? "light" : "dark");
  }

  apply() {
    document.documentElement.dataset.theme = this.name;
    this.changed();
  }
}
