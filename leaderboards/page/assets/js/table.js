// The table: one line per entry, columns to choose, only the rows on the screen in the document.
const ROW = 36, WINDOWED = 300;
const spans = columns.map((column) => {
  const all = [column.mean, column.low, column.high].flat().filter((v) => !missing(v));
  let low = Infinity, high = -Infinity;
  for (const v of all) { low = Math.min(low, v); high = Math.max(high, v); }
  return { low, width: high - low || 1 };
});

/** A mean with its interval, on one line; the bar below shows where in the column it lies. */
function meanCell(value, low, high, mark, c, span) {
  if (missing(value)) return h("span", { class: "dim" }, "–");
  const place = (v) => `${(100 * (v - span.low)) / span.width}%`;
  const told = !missing(low) && !missing(high);
  const name = ["cell", mark & 1 && "best", mark & 2 && "second", mark & 4 && "tied"];
  return h("span", { class: name.filter(Boolean).join(" ") },
    h("span", { class: "mean" }, fixed(value, c)),
    told ? h("span", { class: "ends" }, ends(low, high, c)) : null,
    h("span", { class: "whisker", "aria-hidden": "true" },
      told ? h("i", { style: { left: place(low), width: `${(100 * (high - low)) / span.width}%` } }) : null,
      h("b", { style: { left: place(value) } })));
}
function cellTip(i, c) {
  const column = columns[c], value = column.mean[i];
  if (missing(value)) return `${entries[i].label}\nno ${column.label}`;
  const lines = [entries[i].label, `${columnName(c)}: ${fixed(value, c)}`];
  if (!missing(column.low[i])) lines.push(`${board.confidence} interval ${ends(column.low[i], column.high[i], c)}`);
  lines.push(`N ${missing(column.n[i]) ? "not stated" : column.n[i]}${column.failed[i] ? `, ${column.failed[i]} failed` : ""}`);
  if (column.mark[i] & 4 && !(column.mark[i] & 1)) lines.push("not told apart from the best");
  return lines.join("\n");
}
function placeTip(entry) {
  if (missing(entry.place)) return `${entry.label}\nunranked: ${entry.why || "nothing counts"}`;
  const lines = [entry.label, `place ${entry.place}; undecided comparisons leave ${entry.told} open`];
  if (!missing(entry.low)) lines.push(`${board.confidence} interval of the place: ${entry.low} to ${entry.high}`);
  if (!missing(entry.first)) lines.push(`first in ${(100 * entry.first).toFixed(0)} % of resamples`);
  return lines.join("\n");
}
function placeCell(entry) {
  const last = entries.length, at = (p) => `${(100 * (p - 1)) / Math.max(1, last - 1)}%`;
  return h("span", { class: "cell place" }, h("span", { class: "mean" }, entry.told || "–"),
    missing(entry.low) ? null : h("span", { class: "whisker", "aria-hidden": "true" },
      h("i", { style: { left: at(entry.low), width: `${(100 * (entry.high - entry.low)) / Math.max(1, last - 1)}%` } }),
      h("b", { style: { left: at(entry.place) } })));
}

// ---------------------------------------------------------------- columns
const metrics = columns.map((_, c) => c);
const inOrder = [...board.main, ...metrics.filter((c) => !board.main.includes(c))];  // what counts first
const several = (name) => entries.some((e) => e[name]);
const heads = [
  { id: "place", title: "#", fixed: true, lowFirst: true, value: (i) => entries[i].place, cell: (i) => placeCell(entries[i]), tip: (i) => placeTip(entries[i]),
    about: `The places that undecided comparisons leave open; the bar is the ${board.confidence} interval of the place. ${board.rule}` },
  { id: "name", title: board.nameHead, fixed: true, lowFirst: true, value: (i) => entries[i].label, about: "The entry's name; the box shows its videos below." },
  ...swept.map((axis) => ({ id: `axis.${axis}`, title: axis, axis, lowFirst: true, value: (i) => entries[i].axes?.[axis], about: `The setting ${axis} of the sweep.` })),
  { id: "score", title: "Your score", extra: () => view.weights, value: (i) => yourScore(i), text: (i) => missing(yourScore(i)) ? "–" : yourScore(i).toFixed(3),
    about: "The weighted mean of your sliders below, each column 0 at one fixed value and 1 at another." },
  ...inOrder.map((c) => [columns[c], c]).map(([column, c]) => ({
    id: column.key, title: column.short, way: arrow(c), column: c, value: (i) => mean(i, c), lowFirst: column.sign < 0, about: column.about,
    cell: (i) => meanCell(column.mean[i], column.low[i], column.high[i], column.mark[i], c, spans[c]), tip: (i) => cellTip(i, c),
  })),
  { id: "total", title: board.total, fixed: true, lowFirst: board.lowTotal, value: (i) => entries[i].total,
    text: (i) => missing(entries[i].total) ? "–" : board.lowTotal ? String(entries[i].total) : entries[i].total.toFixed(3), about: board.rule },
  several("first") && { id: "first", title: "P(first)", detail: true, value: (i) => entries[i].first, text: (i) => missing(entries[i].first) ? "–" : `${Math.round(100 * entries[i].first)} %`,
    about: "Share of the resamples of identities in which the entry is first." },
  { id: "n", title: "N", detail: true, value: (i) => entries[i].done, about: "Videos that were generated." },
  several("failed") && { id: "failed", title: "Failed", fixed: true, value: (i) => entries[i].failed, bad: true, about: "Videos that failed or are still to be generated." },
  several("faces") && { id: "faces", title: "Faces found", detail: true, value: (i) => entries[i].faces, text: (i) => missing(entries[i].faces) ? "–" : `${Math.round(100 * entries[i].faces)} %`,
    about: "Share of the frames in which a face was found." },
].filter(Boolean);
const headOf = new Map(heads.map((head) => [head.id, head]));
function shownHeads() {
  const details = view.columns.length > board.main.length + 2;
  return heads.filter((head) => head.column !== undefined ? view.columns.includes(head.column)
    : head.extra ? head.extra() : head.axis ? view.columns.includes(head.id) : head.detail ? details : true);
}

// ---------------------------------------------------------------- rows
const tableSection = section("table", "Table", null);
const headRow = h("tr"), body = h("tbody");
const table = h("table", { id: "leaderboard" }, h("thead", {}, headRow), body);
const scroller = h("div", { class: "scroller tall", tabindex: "0", role: "region", "aria-label": "Leaderboard table" }, table);
const count = h("span", { class: "count", role: "status" });
let order = [];

const nameOf = (i) => board.names.length ? board.names[i] + (entries[i].label.endsWith(" *") ? " *" : "") : entries[i].label;
function row(i, shown) {
  const entry = entries[i];
  return h("tr", { "data-entry": entry.key }, shown.map((head) => {
    if (head.id === "name") {
      const box = browser.slots.length ? h("input", { type: "checkbox", checked: view.chosen.includes(i),
        "aria-label": `Show videos of ${entry.label}`, onchange: () => choose(i, box.checked) }) : null;
      return h("td", { class: "name" }, h("label", { title: entry.label }, box, h("span", {}, nameOf(i))));
    }
    const value = head.value(i);
    const text = head.cell ? head.cell(i) : head.text ? head.text(i) : missing(value) ? "–" : String(value);
    const kind = [head.bad && value && "bad", head.axis && "left", head.id === "place" && "at"].filter(Boolean).join(" ");
    return h("td", { class: kind || null, ...(head.tip ? explained(() => head.tip(i)) : {}) }, text);
  }));
}
function drawRows() {
  const shown = shownHeads();
  if (!order.length) {
    body.replaceChildren(h("tr", {}, h("td", { class: "left dim", colspan: shown.length }, "No entry fits the filter; clear it to see all.")));
    return;
  }
  if (order.length <= WINDOWED) {
    body.replaceChildren(...order.map((i) => row(i, shown)));
    return;
  }
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 20);
  const last = Math.min(order.length, first + Math.ceil(scroller.clientHeight / ROW) + 60);
  const gap = (n) => n ? h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: shown.length, style: { height: `${n * ROW}px` } })) : null;
  body.replaceChildren(...[gap(first), ...order.slice(first, last).map((i) => row(i, shown)), gap(order.length - last)].filter(Boolean));
}
let waiting = false;
scroller.addEventListener("scroll", () => {
  if (order.length <= WINDOWED || waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawRows(); });
});

// ---------------------------------------------------------------- head, order, filter
function passes(entry) {
  const text = `${entry.label} ${entry.source || ""} ${Object.entries(entry.axes || {}).flat().join(" ")}`.toLowerCase();
  return view.text.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
    (!view.source || entry.source === view.source) &&
    Object.entries(view.axes).every(([axis, value]) => !value || entry.axes?.[axis] === value);
}
function headNode(head) {
  const kind = [head.id === "name" && "name", head.id === "place" && "at", head.axis && "left", head.column !== undefined && "metric"];
  head.mark = h("span", { class: "sorted", "aria-hidden": "true" });
  return h("th", { scope: "col", "data-column": head.id, class: kind.filter(Boolean).join(" ") || null },
    h("button", { type: "button", ...explained(() => head.about), "aria-description": head.about, onclick: () => {
      if (view.sort === head.id) view.down = !view.down;
      else { view.sort = head.id; view.down = !head.lowFirst; }
      changed("table");
    } }, head.title, head.way ? h("span", { class: "way" }, ` ${head.way}`) : null, head.mark));
}
function drawTable() {
  const shown = shownHeads();
  const by = headOf.get(view.sort) || headOf.get("place");
  // Nodes stay while the columns do, so that the one with the keyboard's focus keeps it.
  if (shown.map((head) => head.id).join() !== headRow.dataset.shown) {
    headRow.dataset.shown = shown.map((head) => head.id).join();
    headRow.replaceChildren(...shown.map((head) => head.node ??= headNode(head)));
  }
  for (const head of shown) {
    const on = head === by;
    head.node.setAttribute("aria-sort", on ? (view.down ? "descending" : "ascending") : "none");
    head.mark.textContent = on ? (view.down ? "▾" : "▴") : "";
  }
  order = entries.map((_, i) => i).filter((i) => passes(entries[i]));
  order.sort((a, b) => {
    const x = by.value(a), y = by.value(b);
    if (missing(x) || missing(y)) return missing(x) - missing(y) || a - b;
    const way = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
    return (view.down ? -way : way) || a - b;
  });
  count.textContent = order.length === entries.length ? `${order.length} entries` : `${order.length} of ${entries.length} entries`;
  scroller.classList.toggle("no-ends", !view.ends);
  drawRows();
  fit();
}
/** Less space between columns where the table is a little too wide for the window. */
function fit() {
  scroller.classList.remove("tight");
  scroller.classList.toggle("tight", scroller.scrollWidth > scroller.clientWidth);
}
addEventListener("resize", fit);

// ---------------------------------------------------------------- what to show
const presets = [["Main", board.main], ...[...new Set(columns.map((column) => column.family).filter(Boolean))].map((family) => [family, byFamily(family)]),
  ["All", metrics], ["All with settings", [...swept.map((axis) => `axis.${axis}`), ...metrics]]].filter(([, c]) => c.length);
const pickers = h("div", { class: "pick" });
const presetRow = h("div", { class: "chips", role: "group", "aria-label": "Columns to show" });
for (const [name, chosen] of presets) {
  presetRow.append(h("button", { type: "button", "data-preset": name, onclick: () => { view.columns = [...chosen]; changed("table", "columns"); } }, name));
}
function drawPicker() {
  const same = (a, b) => a.length === b.length && a.every((c) => b.includes(c));
  presets.forEach(([, chosen], k) => presetRow.children[k].setAttribute("aria-pressed", String(same(chosen, view.columns))));
  for (const box of pickers.querySelectorAll("input")) box.checked = view.columns.includes(picked.get(box));
}
const picked = new Map();
function picking(id, name, about) {
  const box = h("input", { type: "checkbox", "data-pick": typeof id === "number" ? columns[id].key : id, onchange: () => {
    view.columns = box.checked ? [...view.columns, id] : view.columns.filter((c) => c !== id);
    changed("table", "columns");
  } });
  picked.set(box, id);
  return h("label", { class: "check" }, box, h("span", {}, name, h("small", {}, about)));
}
pickers.append(...swept.map((axis) => picking(`axis.${axis}`, axis, "a setting of the sweep")), ...inOrder.map((c) => picking(c, shortName(c), columns[c].about)));
const search = h("input", { type: "search", id: "filter", placeholder: "Name or setting", oninput: () => { view.text = search.value; changed("table"); } });
const runPick = board.sources.length ? select([["", "all"], ...board.sources.map((s) => [s, s])], "", (v) => { view.source = v; changed("table"); }, "run") : null;
const axisPicks = new Map(swept.filter((axis) => board.axes[axis].length < 40).map((axis) => [axis, select(
  [["", "all"], ...board.axes[axis].map((v) => [v, v])], "", (value) => { view.axes[axis] = value; changed("table"); })]));
const endsBox = h("input", { type: "checkbox", id: "intervals", onchange: () => { view.ends = endsBox.checked; changed("table"); } });
tableSection.append(
  h("div", { class: "controls" }, field("Filter", search), runPick ? field("Run", runPick) : null,
    [...axisPicks].map(([axis, pick]) => field(axis, pick)), h("label", { class: "check" }, endsBox, "Intervals"), count),
  presetRow, h("details", { class: "picker" }, h("summary", {}, "Choose columns"), pickers), scroller,
  h("p", { class: "key" },
    h("span", {}, h("b", {}, "Bold"), " best, told from the second"), h("span", {}, h("u", {}, "underlined"), " best or second"),
    h("span", {}, h("span", { class: "dot" }), "not told apart from the best"), columns.some((c) => c.low.some((v) => !missing(v)))
      ? h("span", {}, `[low, high]: ${board.confidence} interval`) : h("span", {}, "no intervals: the means came without samples")),
  h("p", { class: "lede rule" }, board.rule));
if (board.notes.length) tableSection.append(h("ul", { class: "notes" }, board.notes.map((note) => h("li", {}, note))));
redraws.push(["table", () => {
  if (document.activeElement !== search) search.value = view.text;
  if (runPick) runPick.value = view.source;
  for (const [axis, pick] of axisPicks) pick.value = view.axes[axis] || "";
  endsBox.checked = view.ends;
  drawPicker();
  drawTable();
}]);
