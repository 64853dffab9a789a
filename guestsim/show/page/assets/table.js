// A list of any length: only the rows in sight are in the document.

const ROW = 23;
const HEAD = 25;

class VirtualTable extends EventTarget {
  // A column: name, width (of a CSS grid), text(row) or node(row), class, and value(row) where it can be sorted by it.
  constructor(label, columns) {
    super();
    this.columns = columns;
    this.order = new Uint32Array(0);
    this.sorted = null;
    this.current = null;
    this.grid = element("div", { class: "grid", role: "grid", tabindex: "0", "aria-label": label });
    this.head = element("div", { class: "head", role: "row" });
    this.body = element("div", { role: "rowgroup" });
    this.grid.append(this.head, this.body);
    this.grid.style.setProperty("--columns", columns.map(column => column.width).join(" "));
    this.head.style.gridTemplateColumns = "var(--columns)";
    this.grid.addEventListener("scroll", () => this.draw());
    this.grid.addEventListener("keydown", event => this.#key(event));
    this.body.addEventListener("click", event => this.#click(event));
    this.body.addEventListener("dblclick", event => this.#click(event, "zoom"));
    this.#heads();
  }

  #heads() {
    this.head.replaceChildren(...this.columns.map(column => {
      const mark = this.sorted && this.sorted.column === column ? (this.sorted.down ? " ▾" : " ▴") : "";
      const cell = element("span", { role: "columnheader", class: `${column.class || ""} ${column.value ? "sortable" : ""}` }, column.name + mark);
      if (column.value) {
        cell.addEventListener("click", () => this.sortBy(column));
        cell.setAttribute("aria-sort", mark ? (this.sorted.down ? "descending" : "ascending") : "none");
      }
      return cell;
    }));
  }

  // The rows to show, by their numbers; what they are sorted by stays.
  show(rows, empty = "Nothing matches.") {
    this.rows = rows;
    this.empty = empty;
    this.#sort();
  }

  sortBy(column, down = this.sorted && this.sorted.column === column ? !this.sorted.down : Boolean(column.down)) {
    this.sorted = { column, down };
    this.#heads();
    this.#sort();
  }

  #sort() {
    this.order = this.rows.slice();
    if (this.sorted) {
      const values = new Map();
      for (const row of this.rows) values.set(row, this.sorted.column.value(row));
      const sign = this.sorted.down ? -1 : 1;
      // What has no value comes last, either way.
      this.order.sort((a, b) => compare(values.get(a), values.get(b), sign) || a - b);
    }
    this.body.style.height = `${this.order.length * ROW}px`;
    this.grid.setAttribute("aria-rowcount", this.order.length + 1);
    this.draw(true);
  }

  draw() {
    const first = Math.max(Math.floor(this.grid.scrollTop / ROW) - 4, 0);
    const last = Math.min(first + Math.ceil(this.grid.clientHeight / ROW) + 8, this.order.length);
    const rows = [];
    for (let at = first; at < last; at++) rows.push(this.#row(at));
    if (!this.order.length) rows.push(element("div", { class: "empty" }, this.empty));
    this.body.replaceChildren(...rows);
    this.body.style.position = "relative";
    if (this.current !== null) this.grid.setAttribute("aria-activedescendant", `row-${this.current}`);
  }

  #row(at) {
    const row = this.order[at];
    const box = element("div", { class: "row", role: "row", id: `row-${row}`, "aria-rowindex": at + 2, "aria-selected": row === this.current });
    box.dataset.row = row;
    box.style.top = `${at * ROW}px`;
    box.style.gridTemplateColumns = "var(--columns)";
    for (const column of this.columns) {
      box.append(element("span", { role: "gridcell", class: column.class || "" }, column.node ? column.node(row) : column.text(row)));
    }
    return box;
  }

  // Mark a row, and bring it into sight.
  select(row) {
    this.current = row;
    const at = row === null ? -1 : this.order.indexOf(row);
    if (at >= 0) this.#reveal(at);
    this.draw();
  }

  #reveal(at) {
    const { scrollTop, clientHeight } = this.grid;
    const top = at * ROW, bottom = top + ROW;
    const room = clientHeight - HEAD;
    if (top >= scrollTop && bottom <= scrollTop + room) return;
    const near = top > scrollTop - 2 * ROW && bottom < scrollTop + room + 2 * ROW;
    this.grid.scrollTop = !near ? top - room / 2 : top < scrollTop ? top : bottom - room;
  }

  // The row `by` rows after the current one; null where there is none.
  next(by) {
    if (!this.order.length) return null;
    const at = this.current === null ? -1 : this.order.indexOf(this.current);
    if (at < 0 && by < 0) return this.order[by === -1 ? this.order.length - 1 : 0];
    return this.order[Math.min(Math.max(at + by, 0), this.order.length - 1)];
  }

  #pick(row, what = "pick") {
    if (row === null) return;
    this.select(row);
    this.dispatchEvent(new CustomEvent(what, { detail: row }));
  }

  #click(event, what = "pick") {
    const box = event.target.closest(".row");
    if (box) this.#pick(Number(box.dataset.row), what);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(Math.floor(this.grid.clientHeight / ROW) - 2, 1);
    const all = this.order.length;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -all, End: all };
    if (event.key in steps) this.#pick(this.next(steps[event.key]));
    else if (event.key === "Enter" && this.current !== null) this.#pick(this.current, "zoom");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

function compare(a, b, sign) {
  const none = Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  if (none) return none;
  return a < b ? -sign : a > b ? sign : 0;
}
