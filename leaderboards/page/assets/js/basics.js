// What every part of the page uses: the data, small pieces of DOM, numbers as text, and the view,
// which is what the address behind "#" says and what can be sent to somebody else.
const board = JSON.parse(document.getElementById("data").textContent);
const browser = window.STDRC_SAMPLES || { slots: [], spread: [], per: 1 };
const entries = board.entries, columns = board.columns;
const main = document.getElementById("main");

function h(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}
const field = (label, control) => h("label", { class: "field" }, label, control);
function select(options, value, change, id) {
  const node = h("select", { id, onchange: () => change(node.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return node;
}
function section(id, title, lede) {
  const node = h("section", { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title), lede ? h("p", { class: "lede" }, lede) : null);
  main.append(node);
  // The address belongs to the view, so that a link to a section must not replace it.
  document.getElementById("sections").append(h("a", { href: `#${id}`, onclick: (e) => {
    e.preventDefault();
    node.scrollIntoView();
  } }, title));
  return node;
}

// ---------------------------------------------------------------- numbers as text
const missing = (v) => v === null || v === undefined;
const swept = Object.keys(board.axes).filter((axis) => board.axes[axis].length > 1);
const sign = (c) => columns[c].sign || 1;
const arrow = (c) => ["↓", "", "↑"][columns[c].sign + 1];
const columnName = (c) => `${columns[c].label} ${arrow(c)}`.trim();
const shortName = (c) => `${columns[c].short} ${arrow(c)}`.trim();
const mean = (i, c) => columns[c].mean[i];
function fixed(value, c) {
  if (missing(value)) return "–";
  const text = value.toFixed(columns[c].decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
}
function ends(low, high, c) {
  return missing(low) || missing(high) ? "" : `[${fixed(low, c)}, ${fixed(high, c)}]`;
}
const byFamily = (kind) => columns.map((_, c) => c).filter((c) => columns[c].family === kind);

// ---------------------------------------------------------------- the tip
const tip = document.getElementById("tip");
function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${y - box.height - 12 < 8 ? y + 24 : y - box.height - 12}px`;
}
const hideTip = () => { tip.hidden = true; };
/** Attributes that show a text beside the pointer, and beside what has the keyboard's focus. */
const explained = (text) => ({
  onmousemove: (e) => showTip(text(), e.clientX, e.clientY), onmouseleave: hideTip,
  onfocus: (e) => { const box = e.currentTarget.getBoundingClientRect(); showTip(text(), box.left, box.top); },
  onblur: hideTip,
});

// ---------------------------------------------------------------- the view
const known = new Map(columns.map((column, c) => [column.key, c]));
const rowOf = new Map(entries.map((entry, i) => [entry.key, i]));
const view = {
  sort: "place", down: false, text: "", source: "", axes: {}, columns: [...board.main], ends: innerWidth >= 640,  // on a phone they push all but one column out of sight
 
  weights: null, x: Number(board.pair[1]), y: Number(board.pair[0]), colour: board.colour || "",
  chosen: [...board.chosen], order: "gap", by: -1, sample: "",
};
const defaults = JSON.parse(JSON.stringify(view));

function toHash() {
  const out = new URLSearchParams();
  const put = (name, value, usual) => { if (value !== usual) out.set(name, value); };
  const list = (items) => items.join(" ");
  put("sort", (view.down ? "-" : "") + view.sort, defaults.sort);
  put("q", view.text, "");
  put("run", view.source, "");
  for (const [axis, value] of Object.entries(view.axes)) put(`axis.${axis}`, value, "");
  put("columns", list(view.columns.map((c) => columns[c].key)), list(defaults.columns.map((c) => columns[c].key)));
  put("intervals", view.ends ? "yes" : "no", defaults.ends ? "yes" : "no");
  if (view.weights) out.set("weights", Object.entries(view.weights).map(([c, w]) => `${columns[c].key}:${w}`).join(" "));
  for (const name of ["x", "y"]) if (columns.length) put(name, columns[view[name]].key, columns[defaults[name]].key);
  put("colour", view.colour, defaults.colour);
  put("entries", list(view.chosen.map((i) => entries[i].key)), list(defaults.chosen.map((i) => entries[i].key)));
  put("order", view.order, defaults.order);
  if (view.by >= 0) put("by", columns[view.by].key, defaults.by >= 0 ? columns[defaults.by].key : "");
  put("sample", view.sample, "");
  return out.toString();
}
function fromHash() {
  Object.assign(view, JSON.parse(JSON.stringify(defaults)));
  if (!location.hash.includes("=")) return;
  const told = new URLSearchParams(location.hash.slice(1));
  const text = (name) => told.get(name) ?? "";
  const indices = (name, map) => text(name).split(" ").filter((key) => map.has(key)).map((key) => map.get(key));
  if (told.has("sort")) {
    view.down = text("sort").startsWith("-");
    view.sort = text("sort").replace(/^-/, "");
  }
  view.text = text("q");
  view.source = text("run");
  for (const axis of swept) if (told.has(`axis.${axis}`)) view.axes[axis] = text(`axis.${axis}`);
  if (told.has("columns")) view.columns = indices("columns", known);
  if (told.has("intervals")) view.ends = text("intervals") !== "no";
  if (told.has("weights")) {
    view.weights = {};
    for (const pair of text("weights").split(" ")) {
      const at = pair.lastIndexOf(":"), c = known.get(pair.slice(0, at)), w = Number(pair.slice(at + 1));
      if (c !== undefined && w >= 0) view.weights[c] = w;
    }
  }
  for (const name of ["x", "y", "by"]) if (known.has(text(name))) view[name] = known.get(text(name));
  if (told.has("colour")) view.colour = swept.includes(text("colour")) ? text("colour") : "";
  if (told.has("entries")) view.chosen = indices("entries", rowOf);
  if (told.has("order")) view.order = text("order");
  view.sample = text("sample");
}
const redraws = [];
/** Draw what depends on the view, and put the view into the address. */
function changed(...only) {
  for (const [name, draw] of redraws) if (!only.length || only.includes(name)) draw();
  const hash = toHash();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname.split("/").pop() || ".");
}
const link = document.getElementById("permalink");
link.addEventListener("click", async () => {
  let told = "Link copied";
  try { await navigator.clipboard.writeText(location.href); } catch (_) { told = "The link is in the address bar"; }
  link.textContent = told;
  setTimeout(() => { link.textContent = "Copy link"; }, 2500);
});

// ---------------------------------------------------------------- theme
const theme = document.getElementById("theme");
const themes = { auto: "Auto", light: "Light", dark: "Dark" };
let current = "auto";
try { current = localStorage.getItem("stdrc-theme") || "auto"; } catch (_) { current = "auto"; }
function applyTheme() {
  if (current === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = current;
  theme.textContent = themes[current];
  theme.setAttribute("aria-label", `Colour theme: ${themes[current]}`);
}
theme.addEventListener("click", () => {
  const names = Object.keys(themes);
  current = names[(names.indexOf(current) + 1) % names.length];
  try { localStorage.setItem("stdrc-theme", current); } catch (_) { /* private mode keeps none */ }
  applyTheme();
});
applyTheme();
document.getElementById("facts").textContent = board.facts;
