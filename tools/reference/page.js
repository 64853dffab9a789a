"use strict";
const words = document.querySelector("#words");
const hits = document.querySelector("#hits");
const index = typeof INDEX === "undefined" ? [] : INDEX;
let chosen = 0;

function found() {
  const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!asked.length) return [];
  const ranked = [];
  for (const entry of index) {
    const name = entry[1].toLowerCase();
    const all = name + " " + entry[2].toLowerCase();
    if (!asked.every(word => all.includes(word))) continue;
    const rank = name === asked[0] ? 0 : name.startsWith(asked[0]) ? 1 : name.includes(asked[0]) ? 2 : 3;
    ranked.push([rank, entry]);
  }
  return ranked.sort((a, b) => a[0] - b[0]).slice(0, 20).map(pair => pair[1]);
}

function show() {
  hits.replaceChildren(...found().map(([file, name, what, anchor], number) => {
    const line = document.createElement("a");
    line.href = file + "#" + anchor;
    line.className = number === chosen ? "chosen" : "";
    const bold = document.createElement("b");
    bold.textContent = name;
    line.append(bold, " " + what);
    line.onclick = () => { words.value = ""; show(); };
    return line;
  }));
  hits.hidden = !hits.childElementCount;
}

words.oninput = () => { chosen = 0; show(); };
words.onkeydown = event => {
  const count = hits.childElementCount;
  if (event.key === "Escape") { words.value = ""; words.blur(); }
  else if (event.key === "ArrowDown" && count) chosen = (chosen + 1) % count;
  else if (event.key === "ArrowUp" && count) chosen = (chosen + count - 1) % count;
  else if (event.key === "Enter" && count) { hits.children[chosen].click(); return; }
  else return;
  event.preventDefault();
  show();
};
document.addEventListener("keydown", event => {
  if (event.key !== "/" || event.target === words || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  words.focus();
});
document.documentElement.dataset.ready = "";
