// Pieces of the document: elements, links, bytes in hexadecimal, sections of a buffer.

// A new element; children are elements or text, which is never taken for markup.
function element(name, attributes = {}, children = []) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...(Array.isArray(children) ? children : [children]));
  return made;
}

function svg(name, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function cells(name, values, classes = []) {
  return element("tr", {}, values.map((value, at) => element(name, { class: classes[at] || "" }, value)));
}

// A button that goes to an event or a request.
function link(kind, number, text) {
  const made = element("button", { type: "button", class: "link" }, text);
  made.dataset[kind] = number;
  return made;
}

function swatch(operation) {
  const made = element("span", { class: "op" }, [element("i"), SHORT[operation] || operation]);
  made.style.setProperty("--colour", `var(${colourName(operation)})`);
  return made;
}

// 16 bytes a line: offset, hexadecimal, ASCII; runs of equal lines are told as such.
function hexDump(digits) {
  const box = element("div", { class: "hex" });
  const lines = [];
  for (let at = 0; at < digits.length; at += 32) lines.push(digits.slice(at, at + 32));
  let skipping = false;
  lines.forEach((line, number) => {
    const repeated = number && line === lines[number - 1] && number + 1 < lines.length;
    if (repeated && skipping) return;
    skipping = Boolean(repeated);
    if (repeated) {
      box.append(element("span", { class: "at" }, "*"), "\n");
      return;
    }
    const pairs = line.match(/../g) || [];
    const text = pairs.map(pair => printable(parseInt(pair, 16))).join("");
    const shown = `${pairs.slice(0, 8).join(" ").padEnd(23)}  ${pairs.slice(8).join(" ").padEnd(23)}`;
    box.append(
      element("span", { class: "at" }, (number * 16).toString(16).padStart(4, "0")), " ",
      element("span", { class: /^0+$/.test(line) ? "zero" : "" }, shown), " ", text, "\n",
    );
  });
  return box;
}

function printable(code) {
  return code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
}

// A part of a request: its fields, or its bytes.
function sectionBox(section, payload) {
  const shown = section.data.length / 2;
  const way = section.writable ? "device writes" : "device reads";
  const box = element("div", { class: "part" }, [
    element("p", {}, [
      element("span", {}, [element("b", {}, section.title), ...(section.layout && section.layout !== section.title ? [element("span", { class: "muted" }, ` ${section.layout}`)] : [])]),
      element("span", { class: "muted" }, `${way}, ${plural(section.length, "byte")}`),
    ]),
  ]);
  if (section.known === false) {
    box.append(element("p", { class: "note" }, "The device has not touched it."));
    return box;
  }
  if (section.fields) {
    box.append(fieldTable(section));
    return box;
  }
  box.append(hexDump(section.data));
  if (shown < section.length) {
    const note = `The first ${count(shown)} of ${count(section.length)} bytes; more with --payload BYTES (it was ${count(payload)}).`;
    box.append(element("p", { class: "note" }, note));
  }
  return box;
}

function fieldTable(section) {
  const table = element("table", { class: "tight" }, [cells("th", ["offset", "bytes", "field", "value"])]);
  for (const [name, offset, size, value, meaning] of section.fields) {
    const raw = section.data.slice(offset * 2, (offset + size) * 2).match(/../g) || [];
    const some = raw.length > 8 ? `${raw.slice(0, 8).join(" ")} …` : raw.join(" ");
    const said = element("span", {}, [element("span", { class: "mono" }, value), meaning ? `  ${meaning}` : ""]);
    table.append(cells("td", [String(offset), some, name, said], ["mono muted", "mono muted", "", "value"]));
  }
  return table;
}
