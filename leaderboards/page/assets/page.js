"use strict";
(() => {
  const board = JSON.parse(document.getElementById("data").textContent);
  const browser = window.STDRC_SAMPLES || { slots: [], media: [], scores: [] };
  const SVG = "http://www.w3.org/2000/svg";
  const main = document.getElementById("main");
  const chosen = new Set(board.chosen);

  // ---------------------------------------------------------------- small pieces
  function h(tag, attributes = {}, ...children) {
    const node = tag.startsWith("svg:")
      ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((c) => c !== null && c !== undefined));
    return node;
  }
  const field = (label, control) => h("label", { class: "field" }, label, control);
  function select(options, value, change) {
    const node = h("select", { onchange: () => change(node.value) },
      options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
    return node;
  }
  const axisNames = Object.keys(board.axes);
  const swept = axisNames.filter((axis) => board.axes[axis].length > 1);
  function fixed(value, c) {
    return value === null || value === undefined ? "–" : value.toFixed(board.columns[c].decimals);
  }
  const columnName = (c) => `${board.columns[c].label} ${arrow(c)}`.trim();
  function arrow(c) {
    const up = board.columns[c].higher_is_better;
    return up === null ? "" : up ? "↑" : "↓";
  }
  const sign = (c) => (board.columns[c].higher_is_better === false ? -1 : 1);
  const entryName = (entry) => entry.label + (entry.mismatch ? " *" : "");
  function half(cell) {
    return cell.low === null || cell.high === null ? null : (cell.high - cell.low) / 2;
  }
  function section(id, title, lede) {
    const node = h("section", { id, "aria-labelledby": `${id}-title` },
      h("h2", { id: `${id}-title` }, title), lede ? h("p", { class: "lede" }, lede) : null);
    main.append(node);
    document.getElementById("sections").append(h("a", { href: `#${id}` }, title));
    return node;
  }
  const tip = document.getElementById("tip");
  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${Math.max(8, y - box.height - 12)}px`;
  }
  const hideTip = () => { tip.hidden = true; };

  // ---------------------------------------------------------------- facts and theme
  document.getElementById("facts").textContent = board.facts;
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const themeNames = { auto: "Auto", light: "Light", dark: "Dark" };
  let current = "auto";
  try { current = localStorage.getItem("stdrc-theme") || "auto"; } catch (_) { current = "auto"; }
  function applyTheme() {
    if (current === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = current;
    theme.textContent = themeNames[current];
    theme.setAttribute("aria-label", `Colour theme: ${themeNames[current]}`);
  }
  theme.addEventListener("click", () => {
    current = themes[(themes.indexOf(current) + 1) % themes.length];
    try { localStorage.setItem("stdrc-theme", current); } catch (_) { /* private mode keeps none */ }
    applyTheme();
  });
  applyTheme();

  // ---------------------------------------------------------------- the table
  const anyFailed = board.entries.some((e) => e.failed || e.pending);
  const anyFaces = board.entries.some((e) => e.face_rate !== null);
  const spans = board.columns.map((_, c) => {
    const ends = board.entries.flatMap((e) => [e.cells[c].low, e.cells[c].high, e.cells[c].mean])
      .filter((v) => v !== null);
    const low = Math.min(...ends), high = Math.max(...ends);
    return { low, width: high - low || 1 };
  });

  function meanCell(cell, c, span) {
    if (cell.mean === null) return h("span", { class: "dim" }, "–");
    const width = half(cell);
    const place = (v) => `${(100 * (v - span.low)) / span.width}%`;
    const name = ["cell", cell.best && "best", cell.second && "second", cell.tied && "tied"];
    return h("span", { class: name.filter(Boolean).join(" ") },
      h("span", { class: "mean" }, fixed(cell.mean, c)),
      h("span", { class: "pm" }, width === null ? "" : `±${width.toFixed(board.columns[c].decimals)}`),
      h("span", { class: "whisker", "aria-hidden": "true" },
        width === null ? null : h("i", { style: {
          left: place(cell.low), width: `${(100 * (cell.high - cell.low)) / span.width}%` } }),
        h("b", { style: { left: place(cell.mean) } })));
  }
  function cellTip(entry, cell, c) {
    if (cell.mean === null) return `${entry.label}\nno ${board.columns[c].label}`;
    const lines = [`${entryName(entry)}`, `${columnName(c)}: ${fixed(cell.mean, c)}`];
    if (cell.low !== null) {
      lines.push(`${100 * board.confidence} % interval ${fixed(cell.low, c)} to ${fixed(cell.high, c)}`);
    }
    lines.push(`N ${cell.n ?? "not stated"}${cell.failed ? `, ${cell.failed} failed` : ""}${
      cell.rank ? `, rank ${cell.rank}` : ""}`);
    if (cell.tied && !cell.best) lines.push("not told apart from the best");
    return lines.join("\n");
  }

  const tableSection = section("table", "Table", null);
  const state = { sort: "rank", down: false, text: "", axes: {} };
  const rows = new Map();
  const heads = [
    { id: "rank", title: "#", value: (e) => e.rank, lowFirst: true },
    { id: "name", title: "Entry", value: (e) => e.label, lowFirst: true },
    ...board.columns.map((column, c) => ({
      id: `c${c}`, title: column.label, way: arrow(c), small: column.backend, column: c,
      value: (e) => e.cells[c].mean, lowFirst: column.higher_is_better === false,
    })),
    { id: "sum", title: board.total, value: (e) => e.total, lowFirst: board.total === "Rank sum" },
    { id: "n", title: "N", value: (e) => e.done },
    anyFailed && { id: "failed", title: "Failed", value: (e) => e.failed + e.pending },
    anyFaces && { id: "faces", title: "Faces found", value: (e) => e.face_rate },
  ].filter(Boolean);
  const headRow = h("tr");
  const body = h("tbody");
  for (const head of heads) {
    const mark = h("span", { class: "sorted", "aria-hidden": "true" });
    const button = h("button", { type: "button", onclick: () => sortBy(head) },
      head.title, head.way ? h("span", { class: "way" }, ` ${head.way}`) : null, mark);
    head.mark = mark;
    head.node = h("th", { scope: "col", class: head.id === "name" ? "name" : null, "data-column": head.id },
      button, head.small ? h("small", {}, head.small) : null);
    headRow.append(head.node);
  }
  function sortBy(head) {
    if (state.sort === head.id) state.down = !state.down;
    else { state.sort = head.id; state.down = !head.lowFirst; }
    drawTable();
  }
  board.entries.forEach((entry, i) => {
    const box = h("input", { type: "checkbox", checked: chosen.has(i),
      "aria-label": `Show videos of ${entry.label}`, onchange: () => choose(i, box.checked) });
    const cells = heads.map((head) => {
      if (head.id === "name") {
        const told = swept.every((a) => entry.axes[a] === undefined || entry.label.includes(entry.axes[a]));
        const detail = told ? "" : swept.filter((a) => entry.axes[a] !== undefined)
          .map((a) => `${a} ${entry.axes[a]}`).join(", ");
        return h("td", { class: "name" }, h("label", {}, browser.slots.length ? box : null,
          h("span", {}, entryName(entry), detail ? h("small", {}, detail) : null)));
      }
      if (head.column !== undefined) {
        const cell = entry.cells[head.column];
        return h("td", {
          onmousemove: (e) => showTip(cellTip(entry, cell, head.column), e.clientX, e.clientY),
          onmouseleave: hideTip }, meanCell(cell, head.column, spans[head.column]));
      }
      const value = head.value(entry);
      const text = value === null ? "–" : head.id === "faces" ? `${Math.round(100 * value)} %` : String(value);
      return h("td", { class: head.id === "failed" && value ? "bad" : head.id === "rank" ? "dim" : null }, text);
    });
    rows.set(i, { node: h("tr", { "data-entry": entry.key }, cells), box });
  });
  function passes(entry) {
    const text = `${entry.label} ${entry.source} ${Object.entries(entry.axes).flat().join(" ")}`.toLowerCase();
    return state.text.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
      Object.entries(state.axes).every(([axis, value]) => !value || entry.axes[axis] === value);
  }
  const count = h("span", { class: "count", role: "status" });
  function drawTable() {
    const head = heads.find((one) => one.id === state.sort);
    const order = board.entries.map((_, i) => i).filter((i) => passes(board.entries[i]));
    order.sort((a, b) => {
      const x = head.value(board.entries[a]), y = head.value(board.entries[b]);
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const way = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
      return (state.down ? -way : way) || a - b;
    });
    body.replaceChildren(...order.map((i) => rows.get(i).node));
    for (const one of heads) {
      const on = one.id === state.sort;
      one.node.setAttribute("aria-sort", on ? (state.down ? "descending" : "ascending") : "none");
      one.mark.textContent = on ? (state.down ? "▾" : "▴") : "";
    }
    count.textContent = order.length === board.entries.length
      ? `${order.length} entries` : `${order.length} of ${board.entries.length} entries`;
    if (!order.length) {
      body.replaceChildren(h("tr", {}, h("td", { class: "left dim", colspan: heads.length },
        "No entry fits the filter; clear it to see all.")));
    }
  }
  const scroller = h("div", { class: "scroller tall", tabindex: "0", role: "region", "aria-label": "Leaderboard table" },
    h("table", { id: "leaderboard" }, h("thead", {}, headRow), body));
  const whiskers = h("input", { type: "checkbox", checked: true,
    onchange: () => scroller.classList.toggle("no-whiskers", !whiskers.checked) });
  tableSection.append(
    h("div", { class: "controls" },
      field("Filter", h("input", { type: "search", id: "filter", placeholder: "Name or setting",
        oninput: (e) => { state.text = e.target.value; drawTable(); } })),
      swept.filter((axis) => board.axes[axis].length < 40).map((axis) => field(axis, select(
        [["", "all"], ...board.axes[axis].map((v) => [v, v])], "",
        (value) => { state.axes[axis] = value; drawTable(); }))),
      h("label", { class: "check" }, whiskers, "Intervals"), count),
    scroller,
    h("p", { class: "key" }, h("span", {}, h("b", {}, "Bold"), " best"), h("span", {}, h("u", {}, "underlined"), " second"),
      h("span", {}, h("span", { class: "dot" }), "not told apart from the best (paired test, Holm)"),
      h("span", {}, board.interval_words),
      board.primary_label ? h("span", {}, `Tie group: entries that cannot be told apart on ${board.primary_label}`) : null),
    board.notes.length ? h("ul", { class: "notes" }, board.notes.map((note) => h("li", {}, note))) : null);
  drawTable();

  // ---------------------------------------------------------------- the plot
  const shapes = [
    (x, y, r) => `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
    (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    (x, y, r) => `M${x},${y - 1.25 * r}l${1.2 * r},${2.1 * r}h${-2.4 * r}z`,
    (x, y, r) => `M${x},${y - 1.35 * r}l${1.35 * r},${1.35 * r}l${-1.35 * r},${1.35 * r}l${-1.35 * r},${-1.35 * r}z`,
    (x, y, r) => `M${x},${y + 1.25 * r}l${1.2 * r},${-2.1 * r}h${-2.4 * r}z`,
    (x, y, r) => `M${x - r},${y - r}l${2 * r},${2 * r}M${x + r},${y - r}l${-2 * r},${2 * r}`,
    (x, y, r) => `M${x - r * 1.2},${y}h${2.4 * r}M${x},${y - r * 1.2}v${2.4 * r}`,
  ];
  function ticks(low, high, about = 5) {
    const raw = (high - low) / about;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= raw);
    const out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) out.push(v);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (String(step / unit).includes(".") ? 1 : 0));
    return out.map((v) => [v, v.toFixed(Math.min(digits, 6))]);
  }
  const plotState = { x: board.pair[1], y: board.pair[0], colour: board.colour_axis };
  let redrawPlot = () => {};
  if (board.columns.length > 1) {
    const node = section("plot", "Trade-off",
      "Each point is an entry; bars are its intervals. Filled points are on the front: no other entry is at least as good on both and better on one. Up and to the right is better.");
    const canvas = h("div", { class: "plot" });
    const legend = h("div", { class: "legend" });
    const options = board.columns.map((_, c) => [String(c), columnName(c)]);
    node.append(h("div", { class: "controls" },
      field("Up", select(options, String(plotState.y), (v) => { plotState.y = +v; redrawPlot(); })),
      field("Across", select(options, String(plotState.x), (v) => { plotState.x = +v; redrawPlot(); })),
      swept.length ? field("Colour", select([["", "none"], ...swept.map((a) => [a, a])], plotState.colour || "",
        (v) => { plotState.colour = v; redrawPlot(); })) : null),
    h("figure", {}, canvas, legend));
    redrawPlot = () => {
      const { x, y, colour } = plotState;
      const compact = canvas.clientWidth && canvas.clientWidth < 560;
      const W = compact ? 420 : 900, H = compact ? 380 : 470, L = 62, R = 14, T = 14, B = 50;
      const points = board.entries.map((entry, i) => ({ entry, i, a: entry.cells[x], b: entry.cells[y] }))
        .filter((p) => p.a.mean !== null && p.b.mean !== null);
      const root = h("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "group",
        "aria-label": `${columnName(y)} against ${columnName(x)}, ${points.length} entries` });
      canvas.replaceChildren(root);
      if (!points.length) return;
      const range = (cells) => {
        const ends = cells.flatMap((cell) => [cell.low ?? cell.mean, cell.high ?? cell.mean]);
        const low = Math.min(...ends), high = Math.max(...ends), pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
        return [low - pad, high + pad];
      };
      const [x0, x1] = range(points.map((p) => p.a)), [y0, y1] = range(points.map((p) => p.b));
      // A column where lower is better runs the other way, so that up and right is better.
      const px = (v) => L + (W - L - R) * (sign(x) > 0 ? (v - x0) / (x1 - x0) : (x1 - v) / (x1 - x0));
      const py = (v) => T + (H - T - B) * (sign(y) > 0 ? (y1 - v) / (y1 - y0) : (v - y0) / (y1 - y0));
      for (const [v, text] of ticks(x0, x1, compact ? 4 : 7)) {
        root.append(h("svg:line", { class: "grid", x1: px(v), x2: px(v), y1: T, y2: H - B }),
          h("svg:text", { x: px(v), y: H - B + 18, "text-anchor": "middle" }, text));
      }
      for (const [v, text] of ticks(y0, y1, 6)) {
        root.append(h("svg:line", { class: "grid", x1: L, x2: W - R, y1: py(v), y2: py(v) }),
          h("svg:text", { x: L - 9, y: py(v) + 4, "text-anchor": "end" }, text));
      }
      root.append(h("svg:text", { class: "axis-title", x: (L + W - R) / 2, y: H - 8, "text-anchor": "middle" }, columnName(x)),
        h("svg:text", { class: "axis-title", transform: `translate(14 ${(T + H - B) / 2}) rotate(-90)`, "text-anchor": "middle" }, columnName(y)));
      const front = points.filter((p) => !points.some((q) => {
        const dx = sign(x) * (q.a.mean - p.a.mean), dy = sign(y) * (q.b.mean - p.b.mean);
        return dx >= 0 && dy >= 0 && (dx > 0 || dy > 0);
      }));
      const line = [...front].sort((p, q) => px(p.a.mean) - px(q.a.mean));
      if (line.length > 1) {
        root.append(h("svg:path", { class: "front", d: `M${line.map((p) => `${px(p.a.mean)},${py(p.b.mean)}`).join("L")}` }));
      }
      const levels = colour ? board.axes[colour] : [];
      const kind = (entry) => Math.max(0, levels.indexOf(entry.axes[colour])) % 7;
      for (const p of [...points].sort((a, b) => front.includes(a) - front.includes(b))) {
        const k = kind(p.entry), ink = `var(--c${k})`, cx = px(p.a.mean), cy = py(p.b.mean);
        const text = [entryName(p.entry), `${columnName(y)} ${fixed(p.b.mean, y)}`, `${columnName(x)} ${fixed(p.a.mean, x)}`].join("\n");
        const bars = [];
        if (p.a.low !== null) bars.push(h("svg:line", { class: "bar", x1: px(p.a.low), x2: px(p.a.high), y1: cy, y2: cy, stroke: ink }));
        if (p.b.low !== null) bars.push(h("svg:line", { class: "bar", x1: cx, x2: cx, y1: py(p.b.low), y2: py(p.b.high), stroke: ink }));
        const pick = () => { choose(p.i, !chosen.has(p.i)); };
        root.append(h("svg:g", { tabindex: "0", role: "img", "aria-label": text.replaceAll("\n", ", "),
          onmousemove: (e) => showTip(text, e.clientX, e.clientY), onmouseleave: hideTip,
          onfocus: (e) => { const box = e.currentTarget.getBoundingClientRect(); showTip(text, box.right, box.top); },
          onblur: hideTip, onclick: pick, onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pick(); } } },
        ...bars,
        h("svg:circle", { class: "ring", cx, cy, r: 10 }),
        h("svg:path", { class: `point ${front.includes(p) ? "" : "off"}`, d: shapes[k](cx, cy, 5), stroke: ink,
          fill: front.includes(p) ? ink : null })));
        if (points.length <= 10) {
          const right = cx < W * 0.75;
          root.append(h("svg:text", { x: cx + (right ? 10 : -10), y: cy - 8, "text-anchor": right ? "start" : "end", "aria-hidden": "true" }, p.entry.label));
        }
      }
      legend.replaceChildren(...levels.slice(0, 40).map((value, k) => h("span", {},
        h("svg:svg", { viewBox: "0 0 14 14", "aria-hidden": "true" },
          h("svg:path", { d: shapes[k % 7](7, 7, 4.2), fill: `var(--c${k % 7})`, stroke: `var(--c${k % 7})`, "stroke-width": 1.6 })),
        `${colour} ${value}`)));
    };
    redrawPlot();
    let narrow = innerWidth < 640;
    addEventListener("resize", () => {
      if ((innerWidth < 640) !== narrow) { narrow = innerWidth < 640; redrawPlot(); }
    });
  }

  // ---------------------------------------------------------------- guidance
  if (board.guidance.length) {
    const node = section("guidance", "Guidance",
      "Means over the two guidance weights. The outlined cell is the best of its map; deeper colour is better.");
    let panel = 0;
    let first = board.pair[0], second = board.pair[1];
    const holder = h("div", { class: "heats" });
    const options = board.columns.map((_, c) => [String(c), columnName(c)]);
    node.append(h("div", { class: "controls" },
      board.guidance.length > 1 ? field("At", select(board.guidance.map((g, k) => [String(k), g.point]), "0",
        (v) => { panel = +v; draw(); })) : null,
      field("First map", select(options, String(first), (v) => { first = +v; draw(); })),
      field("Second map", select(options, String(second), (v) => { second = +v; draw(); }))), holder);
    const draw = () => holder.replaceChildren(...[...new Set([first, second])].map((c) => heat(board.guidance[panel], c)));
    function heat(grid, c) {
      const value = (t, r) => {
        const row = grid.rows[`${t}|${r}`];
        return row === undefined ? null : board.entries[row].cells[c].mean;
      };
      const all = grid.text.flatMap((t) => grid.reference.map((r) => value(t, r))).filter((v) => v !== null);
      const low = Math.min(...all), high = Math.max(...all);
      const best = sign(c) > 0 ? high : low;
      return h("table", { class: "heat" }, h("caption", {}, columnName(c)),
        h("thead", {}, h("tr", {}, h("th", { class: "corner" }, "reference ↓ text →"),
          grid.text.map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, [...grid.reference].reverse().map((r) => h("tr", {}, h("th", { scope: "row" }, r),
          grid.text.map((t) => {
            const v = value(t, r);
            if (v === null) return h("td", { class: "none" }, "–");
            let p = high > low ? (100 * (v - low)) / (high - low) : 50;
            if (sign(c) < 0) p = 100 - p;
            const entry = board.entries[grid.rows[`${t}|${r}`]];
            return h("td", { class: `${p > 65 ? "hot" : p > 45 ? "mid" : ""} ${v === best ? "peak" : ""}`, style: { "--p": p.toFixed(1) },
              onmousemove: (e) => showTip(cellTip(entry, entry.cells[c], c), e.clientX, e.clientY), onmouseleave: hideTip }, fixed(v, c));
          })))));
    }
    draw();
  }

  // ---------------------------------------------------------------- ablations
  if (board.ablations.length) {
    const node = section("ablations", "Ablations", "One axis varied, the others held at the point that is named. Ranks and ties are within each table.");
    const list = h("div", { class: "ablations" });
    for (const table of board.ablations) {
      const local = board.columns.map((_, c) => {
        const ends = table.rows.flatMap((row) => [row.cells[c].low, row.cells[c].high, row.cells[c].mean]).filter((v) => v !== null);
        const low = Math.min(...ends);
        return { low, width: Math.max(...ends) - low || 1 };
      });
      list.append(h("div", {}, h("h3", {}, table.caption),
        h("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": table.caption },
          h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "name", scope: "col" }, table.axis),
            board.columns.map((_, c) => h("th", { scope: "col" }, columnName(c))), h("th", { scope: "col" }, "N"))),
          h("tbody", {}, table.rows.map((row) => h("tr", {}, h("td", { class: "name" }, row.value + (row.mismatch ? " *" : "")),
            row.cells.map((cell, c) => h("td", {}, meanCell(cell, c, local[c]))), h("td", {}, String(row.done)))))))));
    }
    node.append(list);
  }

  // ---------------------------------------------------------------- samples
  let drawSample = () => {};
  if (browser.slots.length) {
    const node = section("samples", "Samples", "The reference, the prompt, and the chosen entries' videos side by side. Choose entries here or by their boxes in the table.");
    let at = 0;
    const about = h("div", { class: "about" });
    const videos = h("div", { class: "videos", id: "videos" });
    const chips = h("div", { class: "chips", role: "group", "aria-label": "Entries to show" });
    const summary = h("summary");
    const picker = select(browser.slots.map((slot, k) => [String(k), slot.title]), "0", (v) => { at = +v; drawSample(); });
    picker.id = "sample";
    const step = (by) => { at = (at + by + browser.slots.length) % browser.slots.length; picker.value = String(at); drawSample(); };
    const play = h("button", { type: "button", class: "primary", id: "play", onclick: () => {
      const all = [...videos.querySelectorAll("video")];
      const start = all.some((v) => v.paused);
      for (const video of all) {
        if (start) { video.currentTime = 0; video.play().catch(() => {}); } else video.pause();
      }
      play.textContent = start ? "Pause all" : "Play all";
    } }, "Play all");
    const loop = h("input", { type: "checkbox", checked: true,
      onchange: () => videos.querySelectorAll("video").forEach((v) => { v.loop = loop.checked; }) });
    node.append(h("div", { class: "controls" }, field("Sample", picker),
      h("span", { class: "pager" }, h("button", { type: "button", "aria-label": "Previous sample", onclick: () => step(-1) }, "←"),
        h("button", { type: "button", id: "next", "aria-label": "Next sample", onclick: () => step(1) }, "→")),
      play, h("label", { class: "check" }, loop, "Loop")),
    h("details", { class: "chooser" }, summary, chips),
    h("div", { class: "browser" }, about, videos));
    board.entries.forEach((entry, i) => chips.append(h("button", { type: "button", "aria-pressed": String(chosen.has(i)),
      "data-chip": entry.key, onclick: () => choose(i, !chosen.has(i)) }, entryName(entry))));
    function card(i, slot) {
      const entry = board.entries[i], media = browser.media[at][i], scores = browser.scores[at][i];
      let shown;
      if (media && media.path) {
        // Native controls cover a small video, so they come with the pointer or the keyboard's focus.
        const reveal = () => { video.controls = true; };
        const conceal = () => { if (document.activeElement !== video) video.controls = false; };
        const video = h("video", { src: media.path, muted: true, playsinline: true, preload: "auto", tabindex: "0",
          loop: loop.checked, onpointerenter: reveal, onfocus: reveal, onpointerleave: conceal,
          onblur: () => { video.controls = false; }, "aria-label": `${entry.label}, ${slot.title}`,
          onloadedmetadata: () => video.style.setProperty("--ratio", `${video.videoWidth} / ${video.videoHeight}`),
          onerror: () => video.replaceWith(h("div", { class: "blank" }, "This video cannot be played.")) });
        video.muted = true;
        shown = video;
      } else {
        shown = h("div", { class: "blank" }, media ? media.reason : "no video of this sample");
      }
      return h("article", { class: "card", "data-card": entry.key }, shown,
        h("header", {}, h("h3", {}, entryName(entry)),
          h("button", { type: "button", "aria-label": `Hide ${entry.label}`, onclick: () => choose(i, false) }, "hide")),
        h("dl", {}, board.columns.flatMap((column, c) => column.level === "sample"
          ? [h("dt", {}, columnName(c)), h("dd", {}, fixed(scores ? scores[c] : null, c))] : [])));
    }
    drawSample = () => {
      const slot = browser.slots[at];
      about.replaceChildren(
        h("div", { class: `refs ${slot.refs.length > 1 ? "many" : ""}` }, slot.refs.length
          ? slot.refs.map((path) => path ? h("img", { src: path, alt: `Reference of ${slot.identity}` })
            : h("div", { class: "blank" }, "The reference image was not found."))
          : h("div", { class: "blank" }, "no reference")),
        h("dl", {}, h("div", {}, h("dt", {}, "Identity"), h("dd", {}, slot.identity)),
          h("div", {}, h("dt", {}, "Prompt"), h("dd", { id: "prompt" }, slot.prompt || "–"))));
      const shown = [...chosen].sort((a, b) => a - b);
      videos.replaceChildren(...shown.map((i) => card(i, slot)));
      if (!shown.length) videos.append(h("p", { class: "dim" }, "Choose entries above to see their videos."));
      play.textContent = "Play all";
      summary.textContent = `Entries shown: ${shown.length} of ${board.entries.length}`;
      board.entries.forEach((_, i) => chips.children[i].setAttribute("aria-pressed", String(chosen.has(i))));
    };
    drawSample();
  }
  function choose(i, on) {
    if (on) chosen.add(i); else chosen.delete(i);
    rows.get(i).box.checked = on;
    drawSample();
  }

  // ---------------------------------------------------------------- failures
  if (board.failures.length) {
    const node = section("failures", "Failures", "What could not be made or measured, and why. A failed video counts in no mean.");
    const shown = board.failures.slice(0, 500);
    node.append(h("div", { class: "scroller tall", tabindex: "0", role: "region", "aria-label": "Failures" },
      h("table", { class: "long" }, h("thead", {}, h("tr", {}, ["Entry", "Sample", "What", "Why"].map((t) => h("th", { scope: "col", class: "left" }, t)))),
        h("tbody", {}, shown.map((f) => h("tr", {}, [f.entry, f.sample, f.what, f.reason].map((t) => h("td", { class: "left" }, t))))))));
    if (board.failures.length > shown.length) {
      node.append(h("p", { class: "lede" }, `${board.failures.length - shown.length} more are in leaderboard.json's store.`));
    }
  }

  // ---------------------------------------------------------------- where we are
  const links = [...document.querySelectorAll("nav a")];
  const observer = new IntersectionObserver((seen) => {
    for (const one of seen) {
      if (!one.isIntersecting) continue;
      for (const link of links) {
        if (link.hash === `#${one.target.id}`) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("section").forEach((one) => observer.observe(one));
  const footer = document.getElementById("footer");
  footer.append("The same numbers: ");
  board.files.forEach((name, k) => footer.append(k ? ", " : "", h("a", { href: name }, name)));
  footer.append(".");
})();
